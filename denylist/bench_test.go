package denylist_test

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
)

var denials = flag.Int("denials", 20_000, "how many denials BenchmarkStart finds in the feeds; try a million")

// redisCPU returns the time that the server's thread has worked.
func redisCPU(b *testing.B, c redis.UniversalClient) time.Duration {
	b.Helper()
	var sum float64
	for line := range strings.Lines(c.Info(b.Context(), "cpu").Val()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user_main_thread" || name == "used_cpu_sys_main_thread" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += seconds
		}
	}
	return time.Duration(sum * float64(time.Second))
}

func measure(b *testing.B, f func(context.Context, *denylist.List) error) {
	s := redistest.Redis(b)
	l := denylist.New(s.Client, s.Prefix)
	if err := l.Add(b.Context(), denylist.Token, sid, jti, time.Now().Add(time.Hour)); err != nil {
		b.Fatal(err)
	}
	if err := f(b.Context(), l); err != nil {
		b.Fatal(err)
	}
	before := redisCPU(b, s.Client)
	for b.Loop() {
		if err := f(b.Context(), l); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((redisCPU(b, s.Client)-before).Microseconds())/float64(b.N), "redis-µs/op")
}

// An instance does this, and a follower BenchmarkPoll, five times a second: a
// round of all partitions on one server. If there are many instances, nearly
// all of them find young beats.
func BenchmarkBeat(b *testing.B) {
	var all []partition.ID
	for p := range partition.ID(partition.Count) {
		all = append(all, p)
	}
	measure(b, func(ctx context.Context, l *denylist.List) error { return l.BeatOnce(ctx, all...) })
}

func BenchmarkPoll(b *testing.B) {
	var poll func(context.Context) error
	measure(b, func(ctx context.Context, l *denylist.List) error {
		if poll == nil {
			poll = l.Poll()
		}
		return poll(ctx)
	})
}

// BenchmarkStart is how long a follower takes until every partition is current.
func BenchmarkStart(b *testing.B) {
	s := redistest.Redis(b)
	keys := partition.Keys{Prefix: s.Prefix}
	began := s.Now().Add(-30 * time.Minute).UnixMilli()
	for i := 0; i < *denials; {
		pipe := s.Client.Pipeline()
		for range min(10_000, *denials-i) {
			session := fmt.Sprintf("%s%08d", sid[:len(sid)-8], i)
			pipe.XAdd(b.Context(), &redis.XAddArgs{
				Stream: keys.Feed(partition.ID(i % partition.Count)), ID: fmt.Sprintf("%d-%d", began+int64(i)/10, i),
				Values: []string{"kind", "sid", "id", session, "exp", "1900000000"},
			})
			i++
		}
		if _, err := pipe.Exec(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	l := denylist.New(s.Client, s.Prefix)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go l.Beat(ctx, func(err error) { b.Error(err) })

	before := redisCPU(b, s.Client)
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		var mu sync.Mutex
		read, current := 0, map[int]bool{}
		l.Follow(ctx, func(string, string, time.Time) {
			mu.Lock()
			defer mu.Unlock()
			read++
		}, func(p int, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if current[p] = true; len(current) == partition.Count {
				cancel()
			}
		}, func(err error) { b.Error(err) })
		if read != *denials {
			b.Fatalf("read %d of %d", read, *denials)
		}
	}
	b.ReportMetric(float64((redisCPU(b, s.Client)-before).Milliseconds())/float64(b.N), "redis-ms/op")
}
