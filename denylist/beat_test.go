package denylist_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
)

func TestBeatIsTheTimeOfRedisAndDoesNotStay(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		h.server.Advance(-48 * time.Hour) // the clock of this process does not count
		stop := beat(t, h.List)
		for p := range partition.Count {
			key := h.keys.Beat(partition.ID(p))
			until(t, h.server, "a beat", func() bool { return h.client.Get(t.Context(), key).Val() != "" })
			ms, err := strconv.ParseInt(h.client.Get(t.Context(), key).Val(), 10, 64)
			if apart := h.server.Now().Sub(time.UnixMilli(ms)); err != nil || apart < 0 || apart > 5*time.Second {
				t.Errorf("the beat is %v apart, %v", apart, err)
			}
			if ttl := h.ttl(t, key); ttl <= 5*time.Second || ttl > 10*time.Second {
				t.Errorf("the beat stays for %v", ttl)
			}
		}
		stop()
		h.server.Advance(11 * time.Second)
		if n := h.client.Exists(t.Context(), h.keys.Beat(0)).Val(); n != 0 {
			t.Error("the beat stays")
		}
	}, "miniredis", "redis", "cluster")
}

func TestManyInstancesBeatNoMoreOftenThanTwo(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		began := time.Now()
		const asked = 100
		for range asked {
			time.Sleep(10 * time.Millisecond)
			if err := denylist.New(h.client, h.server.Prefix).BeatOnce(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		// Two may have their turns 150 to 200 ms apart.
		n, most := h.calls(t, "set"), int(time.Since(began)/(140*time.Millisecond))+1
		if n < 2 || n > most {
			t.Errorf("asked %d times in %v, %d were written", asked, time.Since(began), n)
		}
	}, "redis")
}

// calls is how often a real server ran a command, in scripts too.
func (h house) calls(t *testing.T, command string) (n int) {
	t.Helper()
	for line := range strings.Lines(h.client.Info(t.Context(), "commandstats").Val()) {
		if stats, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			calls, _, _ := strings.Cut(stats, ",")
			n, err := strconv.Atoi(calls)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// Of the beats of before, one that lies in the future is not waited for.
func TestRow38ClockThatWasSetBackIsBeatenBy(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		for range 2 {
			if err := h.BeatOnce(t.Context(), 7); err != nil {
				t.Fatal(err)
			}
			ms, err := h.client.Get(t.Context(), h.keys.Beat(7)).Int64()
			if apart := h.server.Now().Sub(time.UnixMilli(ms)); err != nil || apart.Abs() > 5*time.Second {
				t.Errorf("the beat is %v apart, %v", apart, err)
			}
			h.server.Advance(-time.Hour)
		}
	})
}

func TestRow36BeatsGoOnWhenRedisIsFull(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		h.server.SetFull(true)
		background(t, func(ctx context.Context) { h.Beat(ctx, func(err error) { t.Error(err) }) })
		w, _ := follow(t, h.List)
		w.untilCurrent(t, h.server)
		if ttl := h.ttl(t, h.keys.Beat(0)); ttl <= 0 || ttl > 10*time.Second {
			t.Errorf("the beat stays for %v", ttl)
		}
	}, "redis")
}

func TestTroubleIsReportedAndNotTooOften(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		var mu sync.Mutex
		reports := 0
		h.server.Kill()
		background(t, func(ctx context.Context) {
			h.Beat(ctx, func(error) {
				mu.Lock()
				defer mu.Unlock()
				reports++
			})
		})
		w, _ := follow(t, h.List)
		time.Sleep(1500 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		_, others := w.told()
		// Of reading there is also the trouble that no beat is new.
		if reports != partition.Count || len(others) < partition.Count || len(others) > 2*partition.Count {
			t.Errorf("%d reports of beats, %d of reading", reports, len(others))
		}
	}, "redis")
}

// They end within a second although commands are under way, and without
// complaint.
func TestFollowAndBeatEndWithTheirContext(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		var reports atomic.Int64
		stopBeat := background(t, func(ctx context.Context) { h.Beat(ctx, func(error) { reports.Add(1) }) })
		w, stop := follow(t, h.List)
		w.untilCurrent(t, h.server)
		h.server.Pause()
		time.Sleep(300 * time.Millisecond)
		_, before := w.told()
		reported := reports.Load()
		began := time.Now()
		var both sync.WaitGroup
		both.Go(stop)
		both.Go(stopBeat)
		both.Wait()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		if _, after := w.told(); len(after) > len(before) || reports.Load() > reported {
			t.Errorf("the end is reported as trouble, %d times by Beat, and %v", reports.Load()-reported, after[len(before):])
		}
	}, "miniredis", "redis")
}
