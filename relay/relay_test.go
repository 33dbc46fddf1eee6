package relay_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/wire"
	"github.com/authapi/authapi/relay"
)

var (
	readers = flag.Int("readers", 50, "how many follow at once in the test of many readers")
	ids     = flag.Int("ids", 20_000, "how many are denied in the test of many ids")
)

// source reports what a test lets happen.
type source struct {
	denied  func(kind, id string, until time.Time)
	current func(partition int, age time.Duration)
	trouble func(error)
	started chan struct{}
}

func (s *source) Follow(ctx context.Context, denied func(kind, id string, until time.Time), current func(partition int, age time.Duration), trouble func(error)) {
	s.denied, s.current, s.trouble = denied, current, trouble
	close(s.started)
	<-ctx.Done()
}

func (s *source) alive(age time.Duration) {
	for p := range partition.Count {
		s.current(p, age)
	}
}

// run starts a relay that ends with the test.
func run(t testing.TB, o relay.Options) (*relay.Relay, *source) {
	t.Helper()
	s := &source{started: make(chan struct{})}
	r := relay.New(s, o)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	<-s.started
	return r, s
}

// stream is one reader's connection.
type stream struct {
	*wire.Reader
	response *http.Response
	close    func()
}

func open(t testing.TB, url, mark string) stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if mark != "" {
		req.Header.Set("Last-Event-ID", mark)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	end := func() { cancel(); res.Body.Close() }
	t.Cleanup(end)
	return stream{wire.NewReader(res.Body), res, end}
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// until reads frames until one satisfies.
func (s stream) until(t testing.TB, what string, ok func(*wire.Frame) bool) *wire.Frame {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		f, err := s.Next()
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		if ok(f) {
			return f
		}
	}
	t.Fatalf("no frame with %s", what)
	return nil
}

func denies(id string) func(*wire.Frame) bool {
	return func(f *wire.Frame) bool {
		return slices.ContainsFunc(f.Denied, func(d wire.Denial) bool { return d.ID == id })
	}
}

func known(f *wire.Frame) bool { return !slices.Contains(f.Ages[:], wire.Unknown) }

func TestReaderGetsWhatWasAndWhatComes(t *testing.T) {
	r, s := run(t, relay.Options{})
	url := serve(t, r)
	end := time.Now().Add(time.Hour)
	s.denied("sid", "before", end)
	a := open(t, url, "")
	if h := a.response.Header; a.response.StatusCode != http.StatusOK || h.Get("Content-Type") != "text/event-stream" ||
		h.Get("Cache-Control") != "no-store" || h.Get("X-Accel-Buffering") != "no" {
		t.Errorf("%d %v", a.response.StatusCode, h)
	}
	f := a.until(t, "what was denied before", denies("before"))
	if got := f.Denied[0]; got != (wire.Denial{Kind: "sid", ID: "before", Until: end.Unix()}) {
		t.Errorf("%+v", got)
	}
	if a.Mark() != "" {
		t.Errorf("a mark %q although nothing is known to be complete", a.Mark())
	}
	s.denied("jti", "after", end)
	a.until(t, "what is denied now", denies("after"))
	if f := a.until(t, "anything", func(*wire.Frame) bool { return true }); known(f) {
		t.Errorf("ages %v without a sign of life", f.Ages)
	}
	s.alive(100 * time.Millisecond)
	f = a.until(t, "ages", known)
	for _, age := range f.Ages {
		if age < 100 || age > 5000 {
			t.Errorf("ages %v", f.Ages)
		}
	}
	mark, ok := wire.ParseMark(a.Mark())
	if ago := time.Since(mark); !ok || ago < 100*time.Millisecond || ago > 5*time.Second {
		t.Errorf("mark %q is %v ago", a.Mark(), ago)
	}
	// A second reader, and a repetition, which is no news to anybody.
	b := open(t, url, "")
	b.until(t, "both", denies("before"))
	s.denied("sid", "before", end)
	s.denied("sid", "before", end.Add(-time.Minute))
	s.denied("sid", "last", end)
	for _, reader := range []stream{a, b} {
		reader.until(t, "the last", func(f *wire.Frame) bool {
			if denies("before")(f) {
				t.Errorf("repeated: %+v", f.Denied)
			}
			return denies("last")(f)
		})
	}
	if r.Readers() != 2 || r.Len() != 3 {
		t.Errorf("%d readers, %d ids", r.Readers(), r.Len())
	}
}

// recorder is a reader without a network, for tests whose time does not pass.
type recorder struct {
	*httptest.ResponseRecorder
	mu   sync.Mutex
	ends context.CancelFunc
	done chan struct{}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ResponseRecorder.Write(p)
}

func (r *recorder) Flush() {}

// frames returns those written so far, and the last mark.
func (r *recorder) frames(t *testing.T) (all []*wire.Frame, mark string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	reader := wire.NewReader(strings.NewReader(r.Body.String()))
	for {
		f, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return all, reader.Mark()
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
}

func record(r *relay.Relay, mark string) *recorder {
	ctx, cancel := context.WithCancel(context.Background())
	rec := &recorder{ResponseRecorder: httptest.NewRecorder(), ends: cancel, done: make(chan struct{})}
	req := httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx)
	req.Header.Set("Last-Event-ID", mark)
	go func() { defer close(rec.done); r.ServeHTTP(rec, req) }()
	synctest.Wait()
	return rec
}

func count(frames []*wire.Frame) int {
	n := 0
	for _, f := range frames {
		n += len(f.Denied)
	}
	return n
}

// Signs of life are passed on and never invented: when the source falls silent
// the relay goes on, and says how old it is.
func TestAgesGrowWhenTheSourceIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := run(t, relay.Options{})
		rec := record(r, "")
		s.alive(50 * time.Millisecond)
		began := time.Now()
		time.Sleep(10*time.Second + time.Millisecond)
		frames, mark := rec.frames(t)
		if n := len(frames); n < 45 || n > 55 {
			t.Errorf("%d frames in 10 s", n)
		}
		last := frames[len(frames)-1]
		for p, age := range last.Ages {
			if age < 10_050 || age > 10_052 {
				t.Errorf("partition %d is %d ms old", p, age)
			}
		}
		if at, _ := wire.ParseMark(mark); at.After(began) || at.Before(began.Add(-55*time.Millisecond)) {
			t.Errorf("mark %v, and nothing is known since %v", at, began.Add(-50*time.Millisecond))
		}
		if d := last.Clock - frames[1].Clock; d < 9600 || d > 10_000 {
			t.Errorf("the clock went %d ms between the first and the last of %d frames", d, len(frames))
		}
		// What is older, or no partition, takes nothing back.
		s.alive(0)
		s.alive(time.Hour)
		s.current(-1, 0)
		s.current(16, 0)
		s.current(3, -time.Hour)
		time.Sleep(200 * time.Millisecond)
		frames, _ = rec.frames(t)
		if ages := frames[len(frames)-1].Ages; slices.Max(ages[:]) > 202 || slices.Min(ages[:]) < 0 {
			t.Errorf("ages %v", ages)
		}
		rec.ends()
		<-rec.done
	})
}

func TestReaderComesBackWithItsMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := run(t, relay.Options{})
		end := time.Now().Add(time.Hour)
		for i := range 2500 {
			s.denied("sid", fmt.Sprint("old ", i), end)
		}
		time.Sleep(5 * time.Minute)
		for i := range 10 {
			s.denied("sid", fmt.Sprint("recent ", i), end)
		}
		time.Sleep(30 * time.Second)
		s.denied("sid", "new", end)
		s.alive(0)
		// The readers below begin and end between two frames, which come five times
		// a second.
		time.Sleep(time.Second + 50*time.Millisecond)
		now := time.Now()
		stamp := func(t time.Time) string { return fmt.Sprint(t.UnixMilli()) }
		for _, c := range []struct {
			name, mark string
			want       int
		}{
			{"no mark", "", 2511},
			{"a mark of now", stamp(now), 11},
			{"a mark after the recent", stamp(now.Add(-20 * time.Second)), 11},
			{"a mark of long ago", stamp(now.Add(-time.Hour)), 2511},
			{"a mark ahead, of another clock", stamp(now.Add(time.Second)), 2511},
			{"zero", "0", 2511},
			{"negative", "-5", 2511},
			{"not a number", "new", 2511},
			{"too large a number", "99999999999999999999", 2511},
		} {
			rec := record(r, c.mark)
			time.Sleep(time.Millisecond)
			frames, _ := rec.frames(t)
			if got := count(frames); got != c.want {
				t.Errorf("%s: %d denials, want %d", c.name, got, c.want)
			}
			for _, f := range frames {
				if known(f) || len(f.Denied) > wire.MaxDenials {
					t.Errorf("%s: ages %v with %d denials before all has been sent", c.name, f.Ages, len(f.Denied))
				}
			}
			rec.ends()
			<-rec.done
		}
		time.Sleep(time.Minute)
		rec := record(r, stamp(now.Add(40*time.Second)))
		if got := count(must(rec.frames(t))); got != 1 {
			t.Errorf("a mark more than a minute after the recent: %d denials, want 1", got)
		}
		rec.ends()
		<-rec.done
	})
}

func must(f []*wire.Frame, _ string) []*wire.Frame { return f }

func TestWhatHasExpiredIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := run(t, relay.Options{})
		rec := record(r, "")
		now := time.Now()
		s.denied("sid", "short", now.Add(5*time.Minute))
		s.denied("sid", "long", now.Add(5*time.Minute))
		s.denied("sid", "long", now.Add(10*time.Minute))
		time.Sleep(7 * time.Minute)
		s.denied("sid", "new", time.Now().Add(5*time.Minute))
		s.denied("sid", "short", time.Now().Add(5*time.Minute)) // denied anew
		time.Sleep(time.Second)
		if r.Len() != 3 {
			t.Errorf("%d ids", r.Len())
		}
		second := record(r, "")
		time.Sleep(time.Millisecond)
		if got := count(must(second.frames(t))); got != 3 {
			t.Errorf("a new reader gets %d denials", got)
		}
		if got := count(must(rec.frames(t))); got != 5 {
			t.Errorf("the first reader got %d denials", got)
		}
		time.Sleep(10 * time.Minute)
		if r.Len() != 0 {
			t.Errorf("%d ids are left", r.Len())
		}
		for _, rec := range []*recorder{rec, second} {
			rec.ends()
			<-rec.done
		}
	})
}

// The time-outs of the relay's streams, and its ends.
func TestStreamsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := run(t, relay.Options{Lifetime: 10 * time.Minute, MaxReaders: 3})
		began := time.Now()
		first, second, third := record(r, ""), record(r, ""), record(r, "")
		if fourth := record(r, ""); fourth.Code != http.StatusServiceUnavailable || fourth.Header().Get("Retry-After") == "" {
			t.Errorf("one too many: %d", fourth.Code)
		}
		third.ends()
		<-third.done
		if r.Readers() != 2 {
			t.Errorf("%d readers after one has gone", r.Readers())
		}
		<-first.done
		if lasted := time.Since(began); lasted < 9*time.Minute || lasted > 10*time.Minute {
			t.Errorf("a stream lasted %v", lasted)
		}
		<-second.done
		last := record(r, "")
		r.Drain()
		<-last.done
		if after := record(r, ""); after.Code != http.StatusServiceUnavailable {
			t.Errorf("after draining: %d", after.Code)
		}
		if r.Readers() != 0 {
			t.Errorf("%d readers are left", r.Readers())
		}
	})
}

func TestHeadHasNoStream(t *testing.T) {
	r, _ := run(t, relay.Options{})
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/", nil))
	if w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
}

func TestTroubleIsPassedOn(t *testing.T) {
	failed := make(chan error, 1)
	_, s := run(t, relay.Options{Trouble: func(err error) { failed <- err }})
	s.trouble(io.ErrNoProgress)
	if err := <-failed; !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// Nothing falls between what a reader catches up with and what comes after it,
// whenever it comes and however often it is cut off.
func TestNothingIsMissed(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r, s := run(t, relay.Options{})
	url := serve(t, r)
	const total = 6000
	end := time.Now().Add(time.Hour)
	var wg sync.WaitGroup
	for range 6 {
		cuts := rand.New(rand.NewPCG(random.Uint64(), 0))
		wg.Go(func() {
			got := map[string]bool{}
			for mark := ""; !got["last"]; {
				reader := open(t, url, mark)
				for left := 1 + cuts.IntN(12); left > 0 || cuts.IntN(4) == 0; left-- {
					f, err := reader.Next()
					if err != nil {
						break
					}
					for _, d := range f.Denied {
						got[d.ID] = true
					}
					if got["last"] {
						break
					}
				}
				mark = reader.Mark()
				reader.close()
			}
			if len(got) != total+1 {
				t.Errorf("a reader has %d of %d", len(got), total+1)
			}
		})
	}
	for i := range total {
		s.denied("jti", fmt.Sprint(i), end)
		if i%10 == 0 {
			s.alive(time.Duration(random.IntN(300)) * time.Millisecond)
			time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
		}
	}
	time.Sleep(50 * time.Millisecond)
	s.denied("jti", "last", end)
	wg.Wait()
}

// A reader that stops reading is cut off; nobody else notices.
func TestSlowReaderIsCutOff(t *testing.T) {
	r, s := run(t, relay.Options{})
	url := serve(t, r)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	quick := open(t, url, "")
	quick.until(t, "the first frame", func(*wire.Frame) bool { return true })
	for deadline := time.Now().Add(5 * time.Second); r.Readers() < 2 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}

	end := time.Now().Add(time.Hour)
	var worst time.Duration
	for i := 0; r.Readers() > 1; i++ {
		if i > 2000 {
			t.Fatal("the slow reader is still there")
		}
		for n := range 400 {
			s.denied("sid", fmt.Sprintf("%d/%d/%01000d", i, n, 0), end)
		}
		last := fmt.Sprint("last of ", i)
		s.denied("sid", last, end)
		began := time.Now()
		quick.until(t, last, denies(last))
		worst = max(worst, time.Since(began))
	}
	t.Logf("the quick reader waited %v at most", worst.Round(time.Millisecond))
	if worst > time.Second {
		t.Errorf("the quick reader waited %v", worst)
	}
}

// The server's time-outs are for requests, not for streams.
func TestServerTimeoutsDoNotEndStreams(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP", version), func(t *testing.T) { outliveTimeouts(t, version) })
	}
}

func outliveTimeouts(t *testing.T, version int) {
	r, s := run(t, relay.Options{})
	server := httptest.NewUnstartedServer(r)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 200*time.Millisecond, 300*time.Millisecond
	server.EnableHTTP2 = version == 2
	server.StartTLS()
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.ProtoMajor != version {
		t.Fatalf("HTTP/%d", response.ProtoMajor)
	}
	reader := stream{Reader: wire.NewReader(response.Body)}
	time.Sleep(time.Second)
	s.denied("sid", "late", time.Now().Add(time.Hour))
	reader.until(t, "a denial after the time-outs", denies("late"))
	r.Drain()
	for {
		if _, err := reader.Next(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream did not end well: %v", err)
			}
			return
		}
	}
}

// TestManyReaders prints what a reader takes and how long a denial takes to the
// slowest of them: go test ./relay -run ManyReaders -readers 2000 -v
func TestManyReaders(t *testing.T) {
	r, s := run(t, relay.Options{})
	url := serve(t, r)
	before, goroutines := memory(), runtime.NumGoroutine()
	type got struct {
		id string
		at time.Time
	}
	arrived := make(chan got, *readers*4)
	for range *readers {
		reader := open(t, url, "")
		go func() {
			for {
				f, err := reader.Next()
				if err != nil {
					return
				}
				for _, d := range f.Denied {
					arrived <- got{d.ID, time.Now()}
				}
			}
		}()
	}
	for r.Readers() < *readers {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Second)
	// Both ends of the connections are in this process.
	perReader := float64(memory()-before) / float64(*readers) / 1024
	perGoroutine := float64(runtime.NumGoroutine()-goroutines) / float64(*readers)
	var took []time.Duration
	for i := range 20 {
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		began := time.Now()
		s.denied("sid", fmt.Sprint(i), began.Add(time.Hour))
		for range *readers {
			select {
			case a := <-arrived:
				took = append(took, a.at.Sub(began))
			case <-time.After(10 * time.Second):
				t.Fatalf("denial %d has not arrived everywhere", i)
			}
		}
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("%d readers: %.0f KB and %.1f goroutines each, client included; a denial takes p50 %v, p99 %v, at most %v",
		*readers, perReader, perGoroutine, took[len(took)/2].Round(time.Millisecond), p99.Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if p99 > time.Second {
		t.Errorf("p99 %v", p99)
	}
}

// TestManyIDs prints what an id takes, and how long a new reader takes to get
// all of them: go test ./relay -run ManyIDs -ids 1000000 -v
func TestManyIDs(t *testing.T) {
	r, s := run(t, relay.Options{})
	url := serve(t, r)
	before := memory()
	end := time.Now().Add(time.Hour)
	for i := range *ids {
		s.denied("sid", fmt.Sprintf("uv.%022d", i), end)
	}
	s.denied("sid", "last", end)
	bytes := float64(memory()-before) / float64(*ids)
	began := time.Now()
	reader := open(t, url, "")
	n := 0
	reader.until(t, "the last", func(f *wire.Frame) bool { n += len(f.Denied); return denies("last")(f) })
	t.Logf("%d ids: %.0f bytes each; a new reader has them after %v", n, bytes, time.Since(began).Round(time.Millisecond))
	if n != *ids+1 {
		t.Errorf("%d of %d ids", n, *ids+1)
	}
}

func memory() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
