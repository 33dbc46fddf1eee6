package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// logBuffer is written by the watch while the test reads it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), what)
}

// An operator or a failover can change Redis under a service that runs.
func TestWatchNoticesWhatChangesAboutRedis(t *testing.T) {
	s := redistest.Redis(t)
	log := &logBuffer{}
	w := &watch{client: s.Client, logger: slog.New(slog.NewTextHandler(log, nil))}
	if err := w.inspect(t.Context()); err != nil {
		t.Fatal(err)
	}
	const every = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.run(ctx, every)
	}()
	defer func() {
		cancel()
		<-ended
	}()

	until := func(what string, holds func() bool) {
		t.Helper()
		for began := time.Now(); !holds(); time.Sleep(every) {
			if time.Since(began) > 10*time.Second {
				t.Fatalf("never: %s", what)
			}
		}
	}
	policy := func(name string) {
		t.Helper()
		if err := s.Client.ConfigSet(t.Context(), "maxmemory-policy", name).Err(); err != nil {
			t.Fatal(err)
		}
	}
	policy("allkeys-lru")
	until("not ready on a Redis that evicts", func() bool { return w.err() != nil })
	time.Sleep(10 * every)
	policy("noeviction")
	until("ready again", func() bool { return w.err() == nil })
	s.Advance(time.Minute)
	until("not ready beside a clock a minute ahead", func() bool { return w.err() != nil })
	s.Advance(-time.Minute)
	until("ready again", func() bool { return w.err() == nil })
	until("said so", func() bool { return log.count("keeps the promises again") == 2 })

	// Each once, however many inspections there were.
	if n := log.count("no longer keeps the promises"); n != 2 {
		t.Errorf("%d errors logged, want 2", n)
	}
	if n := log.count("subject=persistence"); n != 1 {
		t.Errorf("the missing persistence was warned of %d times", n)
	}
}
