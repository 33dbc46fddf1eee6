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
	end := time.NewTimer(r.options.Lifetime - rand.N(r.options.Lifetime/10+1))
	defer end.Stop()
	// The first frame starts the reader's clock.
	ok := write(r.claimNothing(nil))
	for last := r.begin(req); ok; {
		var reader *reader
		if reader, last = r.catchUp(last, write); reader == nil {
			return
		}
		last, ok = r.follow(req, reader, end.C, last, write)
		r.leave(reader)
	}
}

// follow passes frames on until the stream has ended, or was too slow and has to
// catch up, which it reports.
func (r *Relay) follow(req *http.Request, reader *reader, end <-chan time.Time, last uint64, write func([]byte) bool) (uint64, bool) {
	for {
		select {
		case <-req.Context().Done():
			return last, false
		case <-end:
			return last, false
		case next, ok := <-reader.frames:
			if !ok {
				return last, true
			}
			if !write(next.event) {
				return last, false
			}
			last = next.last
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

// begin returns the number of the entry behind which a reader begins: a little
// before its mark, or at the beginning.
func (r *Relay) begin(req *http.Request) uint64 {
	mark, ok := wire.ParseMark(req.Header.Get("Last-Event-ID"))
	ago := time.Since(mark)
	if !ok || ago < 0 {
		return 0
	}
	from := time.Since(r.began) - ago - overlap
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := slices.BinarySearchFunc(r.log, from, func(e entry, from time.Duration) int { return cmp.Compare(e.learned, from) })
	if i == 0 {
		return 0
	}
	return r.log[i-1].number
}

// catchUp writes what the readers have been sent behind an entry, and registers
// the reader for what comes then. A large log takes a slow reader a while;
// meanwhile nothing queues up for it. It returns nil if the stream has ended.
//
// The frames claim nothing about ages: those that come after them do.
func (r *Relay) catchUp(last uint64, write func([]byte) bool) (*reader, uint64) {
	for {
		log, reader := r.after(last)
		if len(log) == 0 {
			return reader, last
		}
		log = log[:min(len(log), wire.MaxDenials)]
		last = log[len(log)-1].number
		if !write(r.claimNothing(log)) {
			return nil, last
		}
	}
}

// claimNothing makes an event of entries after which more follows.
func (r *Relay) claimNothing(log []entry) []byte {
	f := wire.Frame{Clock: time.Since(r.began).Milliseconds()}
	var mark time.Time
	incomplete(&f, &mark)
	return encode(&f, mark, log)
}

// after returns what the readers have been sent of the log behind an entry. If
// that is nothing, it registers a reader: what comes then and what was returned
// before are together everything. It returns neither when the relay drains.
func (r *Relay) after(number uint64) ([]entry, *reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.draining {
		return nil, nil
	}
	sent := r.log[:r.sent:r.sent]
	i, _ := slices.BinarySearchFunc(sent, number+1, func(e entry, n uint64) int { return cmp.Compare(e.number, n) })
	if i < len(sent) {
		return sent[i:], nil
	}
	reader := &reader{make(chan frame, queue)}
	r.readers[reader] = struct{}{}
	return nil, reader
}

func (r *Relay) leave(reader *reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(reader)
}
