package relay

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/authapi/authapi/internal/wire"
)

// ServeHTTP sends the stream of Server-Sent Events until the client goes, the
// stream has lasted long enough, or the relay drains. With Last-Event-ID it
// begins a little before that mark, else with everything that is denied. A
// relay that is full or drains answers 503.
func (r *Relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if req.Method == http.MethodHead {
		header.Set("Content-Type", "text/event-stream")
		return
	}
	if !r.admit() {
		header.Set("Content-Type", "application/json")
		header.Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, `{"error":"temporarily_unavailable","error_description":"no further reader can be served here now, try again"}`)
		return
	}
	defer r.dismiss()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // nginx would collect frames

	control := http.NewResponseController(w)
	// The server's time-outs are for requests that end. Reading would take its
	// own for the client's going away.
	_ = control.SetReadDeadline(time.Time{})
	write := func(event []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(patience))
		if _, err := w.Write(event); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	reader := r.catchUp(req, write)
	if reader == nil {
		return
	}
	defer r.leave(reader)
	end := time.NewTimer(r.options.Lifetime - rand.N(r.options.Lifetime/10+1))
	defer end.Stop()
	for {
		select {
		case <-req.Context().Done():
			return
		case <-end.C:
			return
		case event, ok := <-reader.frames:
			if !ok || !write(event) {
				return
			}
		}
	}
}

func (r *Relay) admit() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining || r.serving >= r.options.MaxReaders {
		return false
	}
	r.serving++
	return true
}

func (r *Relay) dismiss() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving--
}

// catchUp writes the log, and registers the reader for what comes after it. A
// large log takes a slow reader a while; meanwhile nothing queues up for it. It
// returns nil if the stream has ended.
//
// The frames claim nothing about ages: those that come after them do. The first
// is sent at once, even if there is nothing in it, to start the reader's clock.
func (r *Relay) catchUp(req *http.Request, write func([]byte) bool) *reader {
	var from int64 // Unix ms
	if mark, ok := wire.ParseMark(req.Header.Get("Last-Event-ID")); ok && !mark.After(time.Now()) {
		from = mark.Add(-overlap).UnixMilli()
	}
	var news []entry
	last := uint64(0)
	for {
		f := wire.Frame{Clock: time.Since(r.began).Milliseconds()}
		var mark time.Time
		incomplete(&f, &mark)
		if !write(encode(&f, mark, news)) {
			return nil
		}
		news = news[:0]
		for len(news) == 0 {
			log, reader := r.after(last)
			if len(log) == 0 {
				return reader
			}
			for len(log) > 0 && len(news) < wire.MaxDenials {
				if log[0].learned >= from {
					news = append(news, log[0])
				}
				last, log = log[0].number, log[1:]
			}
		}
	}
}

// after returns what the readers have been sent of the log behind an entry. If
// that is nothing, it registers a reader: what comes then and what was returned
// before are together everything.
func (r *Relay) after(number uint64) ([]entry, *reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.log[:r.sent:r.sent]
	i, _ := slices.BinarySearchFunc(sent, number+1, func(e entry, n uint64) int { return cmp.Compare(e.number, n) })
	if i < len(sent) || r.draining {
		return sent[i:], nil
	}
	reader := &reader{make(chan []byte, queue)}
	r.readers[reader] = struct{}{}
	return nil, reader
}

func (r *Relay) leave(reader *reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(reader)
}
