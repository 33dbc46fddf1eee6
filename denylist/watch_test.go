package denylist_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
)

// alongside runs f on the backends named, together with other tests that spend
// their time waiting.
func alongside(t *testing.T, f func(t *testing.T, h house), backends ...string) {
	t.Helper()
	t.Parallel()
	together(t, f, backends...)
}

// together runs f on the backends named, at the same time.
func together(t *testing.T, f func(t *testing.T, h house), backends ...string) {
	t.Helper()
	for _, name := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := map[string]func(testing.TB) *redistest.Server{
				"miniredis": redistest.Miniredis, "redis": redistest.Redis, "cluster": redistest.Cluster,
			}[name](t)
			f(t, house{denylist.New(s.Client, s.Prefix), s, s.Client, partition.Keys{Prefix: s.Prefix}})
		})
	}
}

// watch is what a follower was told.
type watch struct {
	mu       sync.Mutex
	until    map[string]time.Time // by kind and id
	lines    int
	signs    [partition.Count]int       // how often a partition was current
	known    [partition.Count]time.Time // up to when everything is known
	youngest time.Duration              // the least age that was reported
	trouble  []error
}

// follow follows a list until the test ends, or the function is called.
func follow(t *testing.T, l *denylist.List) (*watch, context.CancelFunc) {
	t.Helper()
	w := &watch{until: map[string]time.Time{}, youngest: time.Hour}
	stop := background(t, func(ctx context.Context) { l.Follow(ctx, w.denied, w.current, w.report) })
	return w, stop
}

// beat writes beats until the test ends, or the function is called.
func beat(t *testing.T, l *denylist.List) context.CancelFunc {
	t.Helper()
	return background(t, func(ctx context.Context) { l.Beat(ctx, func(error) {}) })
}

func background(t *testing.T, f func(context.Context)) context.CancelFunc {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	stop := func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}

func (w *watch) denied(kind, id string, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until[kind+" "+id] = until
	w.lines++
}

func (w *watch) current(p int, age time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signs[p]++
	w.youngest = min(w.youngest, age)
	if known := time.Now().Add(-age); known.After(w.known[p]) {
		w.known[p] = known
	}
}

func (w *watch) report(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = append(w.trouble, err)
}

func (w *watch) has(kind denylist.Kind, id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, has := w.until[string(kind)+" "+id]
	return has
}

func (w *watch) read() (lines int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines
}

func (w *watch) deniedUntil(kind denylist.Kind, id string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.until[string(kind)+" "+id]
}

// knownTo is the moment up to which everything is known, in every partition.
func (w *watch) knownTo() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.MinFunc(w.known[:], time.Time.Compare)
}

// least is the least age that was reported.
func (w *watch) least() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.youngest
}

func (w *watch) knownIn(p partition.ID) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[p]
}

func (w *watch) age() time.Duration { return time.Since(w.knownTo()) }

func (w *watch) signsOfLife() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, signs := range w.signs {
		n += signs
	}
	return n
}

func (w *watch) signsIn(p partition.ID) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.signs[p]
}

// told returns the trouble, changes of history apart.
func (w *watch) told() (histories int, others []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, err := range w.trouble {
		if errors.Is(err, denylist.ErrHistory) {
			histories++
		} else {
			others = append(others, err)
		}
	}
	return histories, others
}

// soon is far more than anything takes, unless the machine is busy.
const soon = 20 * time.Second

// until waits. The clock of the embedded server runs meanwhile, as that of the
// others does.
func until(t *testing.T, s *redistest.Server, what string, is func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for last := began; !is(); {
		if time.Since(began) > soon {
			t.Fatalf("%s: not within %v", what, soon)
		}
		last = tick(s, last)
	}
	return time.Since(began)
}

// pass lets time pass.
func pass(s *redistest.Server, d time.Duration) {
	for last, end := time.Now(), time.Now().Add(d); time.Now().Before(end); {
		last = tick(s, last)
	}
}

func tick(s *redistest.Server, last time.Time) time.Time {
	time.Sleep(10 * time.Millisecond)
	now := time.Now()
	if !s.Real() {
		s.Advance(now.Sub(last))
	}
	return now
}

func (w *watch) untilCurrent(t *testing.T, s *redistest.Server) {
	t.Helper()
	until(t, s, "every partition is current", func() bool { return w.age() < time.Second })
}
