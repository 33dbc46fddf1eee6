package moving_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// load is what a number of connections have measured.
type load struct {
	requests int // that were answered
	took     time.Duration
	each     []time.Duration
	unsure   int // 503: on a machine that has too much to do, the copy of the revocations gets too old
}

func (l *load) add(other load) {
	l.requests += other.requests
	l.took += other.took
	l.each = append(l.each, other.each...)
	l.unsure += other.unsure
}

func (l load) perSecond() float64 { return float64(l.requests) / l.took.Seconds() }

// quantile sorts.
func quantile(of []time.Duration, q float64) time.Duration {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return of[min(len(of)-1, int(q*float64(len(of))))]
}

// question is what one connection asks again and again.
type question struct {
	address string
	request []byte // as it goes over the wire
	answer  []byte // the body that must come back, with status 200
}

func ask(address, path, header string, answer string) question {
	return question{
		address: address,
		request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", path, address, header),
		answer:  []byte(answer),
	}
}

// hammer asks all questions at once, each on a connection of its own that stays
// open, the next time as soon as the answer is there.
func hammer(questions []question, lasting time.Duration) (load, error) {
	var mu sync.Mutex
	var all load
	var failed error
	var wg sync.WaitGroup
	began := time.Now()
	for _, q := range questions {
		wg.Go(func() {
			took, unsure, err := q.repeat(began.Add(lasting))
			mu.Lock()
			defer mu.Unlock()
			all.each = append(all.each, took...)
			all.unsure += unsure
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	all.requests, all.took = len(all.each), time.Since(began)
	return all, failed
}

func (q question) repeat(until time.Time) (took []time.Duration, unsure int, err error) {
	conn, err := net.Dial("tcp", q.address)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(until.Add(patience)); err != nil {
		return nil, 0, err
	}
	in := bufio.NewReader(conn)
	body := make([]byte, 4096)
	for now := time.Now(); now.Before(until); {
		if _, err := conn.Write(q.request); err != nil {
			return took, unsure, err
		}
		sure, err := q.check(in, body)
		if err != nil {
			return took, unsure, fmt.Errorf("%s, request %d: %w", q.address, len(took)+unsure+1, err)
		}
		answered := time.Now()
		if sure {
			took = append(took, answered.Sub(now))
		} else {
			unsure++
		}
		now = answered
	}
	return took, unsure, nil
}

// check reads one response, and reports whether it is the answer; 503 is none,
// and no error. Package http would cost more than what is measured.
func (q question) check(in *bufio.Reader, body []byte) (sure bool, err error) {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return false, err
	}
	sure = bytes.HasPrefix(status, []byte("HTTP/1.1 200 "))
	if !sure && !bytes.HasPrefix(status, []byte("HTTP/1.1 503 ")) {
		return false, fmt.Errorf("status %q", bytes.TrimSpace(status))
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return false, err
			}
		}
	}
	if length < 0 || length > len(body) {
		return false, fmt.Errorf("Content-Length %d", length)
	}
	if _, err := io.ReadFull(in, body[:length]); err != nil {
		return false, err
	}
	if sure && !bytes.Equal(body[:length], q.answer) {
		return false, fmt.Errorf("answered %.100q", body[:length])
	}
	return sure, nil
}
