package denylist_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/verify"
)

var _ verify.Source = (*denylist.List)(nil)

// Verifiers count on a second. On a busy machine one of three may take longer.
func TestRow42DenialsArriveWithinASecond(t *testing.T) {
	together(t, func(t *testing.T, h house) {
		beat(t, h.List)
		w, _ := follow(t, h.List)
		w.untilCurrent(t, h.server)
		exp := h.server.Now().Add(5 * time.Minute).Truncate(time.Second)
		var took []time.Duration
		for i := range 3 {
			id, session, key := fmt.Sprint("token", i), fmt.Sprintf("%s%04d", sid[:len(sid)-4], i), fmt.Sprint("key", i)
			h.add(t, denylist.Token, id, exp)
			if err := h.Add(t.Context(), denylist.Session, session, session, exp); err != nil {
				t.Fatal(err)
			}
			if err := h.AddKey(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			took = append(took, until(t, h.server, "the denials", func() bool {
				return w.has(denylist.Token, id) && w.has(denylist.Session, session) && w.has(denylist.Key, key)
			}))
			of, ofAll := w.deniedUntil(denylist.Token, id), w.deniedUntil(denylist.Session, session)
			if want := exp.Add(grace); !of.Equal(want) || !ofAll.Equal(want) {
				t.Errorf("the token is denied until %v, the session until %v, want %v", of, ofAll, want)
			}
			if left := w.deniedUntil(denylist.Key, key).Sub(h.server.Now()); !near(left, 7*24*time.Hour+grace) {
				t.Errorf("the key is denied for %v", left)
			}
		}
		slices.Sort(took)
		if took[1] > time.Second {
			t.Errorf("took %v", took)
		}
		if histories, _ := w.told(); histories > 0 {
			t.Errorf("%d changes of history", histories)
		}
	}, "miniredis", "redis", "cluster")
}

// Each partition has another number of lines: a page has a thousand, of which
// the first is the last of the page before.
func TestStartReadsEverythingOfTheLastHour(t *testing.T) {
	counts := []int{0, 1, 2, 3, 4, 5, 6, 7, 999, 1000, 1001, 1998, 1999, 2000, 8, 4000}
	alongside(t, func(t *testing.T, h house) {
		now := h.server.Now()
		for p, n := range counts {
			pipe := h.client.Pipeline()
			for i := range n {
				age := horizon - time.Minute - time.Duration(i)*time.Second
				pipe.XAdd(t.Context(), line(h.keys.Feed(partition.ID(p)), now.Add(-age).UnixMilli(), fmt.Sprint(p, ".", i)))
				// A pipeline that takes longer than the client waits is sent again.
				if pipe.Len() < 200 && i < n-1 {
					continue
				}
				if _, err := pipe.Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		beat(t, h.List)
		var mu sync.Mutex
		read, known := map[string]int{}, map[int]int{} // by id; by partition, how much when it was current first
		background(t, func(ctx context.Context) {
			h.Follow(ctx, func(kind, id string, _ time.Time) {
				mu.Lock()
				defer mu.Unlock()
				read[id]++
			}, func(p int, _ time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				if _, before := known[p]; !before {
					known[p] = 0
					for i := range counts[p] {
						known[p] += read[fmt.Sprint(p, ".", i)]
					}
				}
			}, func(error) {})
		})
		until(t, h.server, "every partition is current", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(known) == partition.Count
		})
		for p, n := range counts {
			if known[p] != n {
				t.Errorf("of %d lines %d were reported before the partition was current", n, known[p])
			}
		}
		for id, n := range read {
			if n != 1 {
				t.Errorf("%s was reported %d times", id, n)
			}
		}
	}, "miniredis", "redis")
}

// What is called known has been reported, however many deny at the same time.
func TestCurrentIsNeverAnOverstatement(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		beat(t, h.List)
		var mu sync.Mutex
		reported, made := map[string]bool{}, map[string]time.Time{} // by jti; when it was denied
		claims, wrong := 0, 0
		background(t, func(ctx context.Context) {
			h.Follow(ctx, func(_, id string, _ time.Time) {
				mu.Lock()
				defer mu.Unlock()
				reported[id] = true
			}, func(p int, age time.Duration) {
				known := time.Now().Add(-age)
				if of, _ := partition.OfSID(sid); partition.ID(p) != of {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				claims++
				for id, at := range made {
					if at.Before(known) && !reported[id] {
						wrong++
					}
				}
			}, func(error) {})
		})
		var writers sync.WaitGroup
		var enough atomic.Bool
		exp := h.server.Now().Add(time.Hour)
		for i := range 4 {
			writers.Go(func() {
				for n := 0; !enough.Load(); n++ {
					id := fmt.Sprint(i, ".", n)
					if err := h.Add(t.Context(), denylist.Token, sid, id, exp); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					made[id] = time.Now()
					mu.Unlock()
				}
			})
		}
		until(t, h.server, "it is current", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return claims > 5
		})
		enough.Store(true)
		writers.Wait()
		mu.Lock()
		defer mu.Unlock()
		if wrong > 0 {
			t.Errorf("in %d reports %d of %d denials were missing", claims, wrong, len(made))
		}
	}, "redis")
}

// line is one of a feed, as the script writes it.
func line(feed string, ms int64, jti string) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: feed, ID: fmt.Sprintf("%d-0", ms), Values: []string{"kind", "jti", "id", jti, "exp", "4000000000"}}
}

// through gives a client of the server whose connections come from dial.
func through(t *testing.T, s *redistest.Server, dial func(network, addr string) (net.Conn, error)) redis.UniversalClient {
	network := "tcp"
	if strings.HasPrefix(s.Addrs()[0], "/") {
		network = "unix"
	}
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: s.Addrs(), IsClusterMode: s.Name == "cluster", DialerRetries: 1,
		Dialer:                func(_ context.Context, _, addr string) (net.Conn, error) { return dial(network, addr) },
		ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { client.Close() })
	return client
}

// A cutter cuts the connections of one client.
type cutter struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (c *cutter) dial(network, addr string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errors.New("cut")
	}
	conn, err := net.Dial(network, addr)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cutter) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func TestNothingIsMissedOrReadTwiceWhileTheConnectionIsCut(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		beat(t, h.List)
		var c cutter
		w, _ := follow(t, denylist.New(through(t, h.server, c.dial), h.server.Prefix))
		exp := h.server.Now().Add(time.Hour)
		h.add(t, denylist.Token, "before", exp)
		until(t, h.server, "the first denial", func() bool { return w.has(denylist.Token, "before") })
		w.untilCurrent(t, h.server)
		for _, id := range []string{"meanwhile", "again"} {
			c.set(true)
			cut := time.Now()
			h.add(t, denylist.Token, id, exp)
			pass(h.server, 700*time.Millisecond)
			if known := w.knownTo(); known.After(cut) {
				t.Errorf("it knows what happened %v after the cut", known.Sub(cut))
			}
			c.set(false)
			until(t, h.server, "it is current", func() bool { return w.knownTo().After(cut.Add(500 * time.Millisecond)) })
			if !w.has(denylist.Token, id) {
				t.Error("current, but a denial is missing")
			}
		}
		if w.read() != 3 {
			t.Errorf("%d lines were read of 3", w.read())
		}
		histories, others := w.told()
		if histories > 0 {
			t.Error("a history was reported that did not change")
		}
		if len(others) == 0 {
			t.Error("nobody was told of the trouble")
		}
	}, "miniredis", "redis")
}

func TestRow39HangingRedisIsNotCurrent(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		beat(t, h.List)
		w, _ := follow(t, h.List)
		h.add(t, denylist.Token, "before", h.server.Now().Add(time.Hour))
		until(t, h.server, "the denial", func() bool { return w.has(denylist.Token, "before") })
		w.untilCurrent(t, h.server)
		h.server.Pause()
		paused := time.Now()
		until(t, h.server, "trouble is reported", func() bool { _, others := w.told(); return len(others) >= partition.Count })
		if took := time.Since(paused); took > 5*time.Second {
			t.Errorf("that took %v", took)
		}
		if known := w.knownTo(); known.After(paused) {
			t.Errorf("it knows what happened %v after the server hung", known.Sub(paused))
		}
		h.server.Resume()
		w.untilCurrent(t, h.server)
		if w.read() != 1 {
			t.Errorf("%d lines were read of 1", w.read())
		}
	}, "redis")
}

func TestHangingNodeHoldsUpNoPartitionButItsOwn(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		beat(t, h.List)
		w, _ := follow(t, h.List)
		w.untilCurrent(t, h.server)
		cluster := h.client.(*redis.ClusterClient)
		hanging, err := cluster.MasterForKey(t.Context(), h.feedKey())
		if err != nil {
			t.Fatal(err)
		}
		var others []partition.ID
		for p := range partition.ID(partition.Count) {
			if node, err := cluster.MasterForKey(t.Context(), h.keys.Feed(p)); err != nil {
				t.Fatal(err)
			} else if node != hanging {
				others = append(others, p)
			}
		}
		const paused = 2500 * time.Millisecond
		if err := hanging.Do(t.Context(), "client", "pause", paused.Milliseconds(), "all").Err(); err != nil {
			t.Fatal(err)
		}
		began, stale := time.Now(), 0
		for time.Since(began) < paused-100*time.Millisecond {
			time.Sleep(10 * time.Millisecond)
			for _, p := range others {
				if time.Since(w.knownIn(p)) > time.Second {
					stale++
				}
			}
		}
		// A busy machine may be late now and then.
		if most := 240 * len(others) / 10; stale > most || len(others) == 0 {
			t.Errorf("%d times of %d another partition was out of date", stale, 10*most)
		}
		if of, _ := partition.OfSID(sid); w.knownIn(of).After(began) {
			t.Error("nothing hung")
		}
	}, "cluster")
}

// A Redis that answers but is written to no more.
func TestWithoutBeatsNothingIsCurrent(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		stop := beat(t, h.List)
		w, _ := follow(t, h.List)
		w.untilCurrent(t, h.server)
		h.add(t, denylist.Token, jti, h.server.Now().Add(time.Hour))
		stop()
		stopped := time.Now()
		until(t, h.server, "silence is reported", func() bool {
			_, others := w.told()
			return len(others) >= partition.Count
		})
		if known := w.knownTo(); known.After(stopped) {
			t.Errorf("it knows what happened %v after the last beat", known.Sub(stopped))
		}
		// What is denied arrives all the same, once.
		h.add(t, denylist.Token, "later", h.server.Now().Add(time.Hour))
		until(t, h.server, "the denial", func() bool { return w.has(denylist.Token, "later") })
		if w.read() != 2 {
			t.Errorf("%d lines were read of 2", w.read())
		}
		beat(t, h.List)
		w.untilCurrent(t, h.server)
	}, "redis")
}

// The clock was set back, and the service ended before it could beat by the new
// time. When the clock gets there again, the beat looks young.
func TestBeatThatTimeCatchesUpWithIsNoSignOfLife(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		h.setBeats(t, 0)
		before, _ := follow(t, h.List)
		pass(h.server, 500*time.Millisecond)
		h.setBeats(t, 10*time.Minute)
		pass(h.server, 500*time.Millisecond)
		h.server.Advance(10*time.Minute - 600*time.Millisecond)
		after, _ := follow(t, h.List)
		pass(h.server, 1200*time.Millisecond)
		if before.signsOfLife() != 0 || after.signsOfLife() != 0 {
			t.Errorf("%d and %d signs of life", before.signsOfLife(), after.signsOfLife())
		}
	}, "redis")
}

// setBeats writes a beat into each partition that is so far ahead of the clock.
func (h house) setBeats(t *testing.T, ahead time.Duration) {
	t.Helper()
	at := h.server.Now().Add(ahead).UnixMilli()
	for p := range partition.Count {
		if err := h.client.Set(t.Context(), h.keys.Beat(partition.ID(p)), at, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBeatFarAheadOfTheClockIsTrouble(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		w, _ := follow(t, h.List)
		until(t, h.server, "trouble is reported", func() bool {
			h.setBeats(t, time.Minute)
			_, others := w.told()
			return len(others) >= partition.Count
		})
		if w.signsOfLife() > 0 {
			t.Error("a beat of the future counts as a sign of life")
		}
		// A little is nothing to make a fuss of, and nothing to gain by.
		until(t, h.server, "it is current", func() bool {
			h.setBeats(t, 200*time.Millisecond)
			return w.age() < time.Second
		})
		if known := w.knownTo(); known.After(time.Now()) {
			t.Errorf("it knows the future, %v from now", time.Until(known))
		}
	}, "redis")
}

func TestRow38StepsOfTheClock(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		beat(t, h.List)
		w, _ := follow(t, h.List)
		w.untilCurrent(t, h.server)
		for i, step := range []time.Duration{time.Hour, -90 * time.Minute, -time.Second} {
			h.server.Advance(step)
			stepped := time.Now()
			id := fmt.Sprint("after step ", i)
			h.add(t, denylist.Token, id, h.server.Now().Add(time.Hour))
			until(t, h.server, id, func() bool { return w.has(denylist.Token, id) })
			until(t, h.server, "it is current", func() bool { return w.knownTo().After(stepped) })
		}
		if histories, _ := w.told(); histories != 0 || w.read() != 3 {
			t.Errorf("%d changes of history, %d lines of 3 read", histories, w.read())
		}
	}, "redis")
}

func TestOtherHistoryIsNoticedAndReadFromItsBeginning(t *testing.T) {
	// Each case has a partition of its own. Three lines were read: a, b, c. In
	// their place there are then others, at these milliseconds.
	type history []struct {
		jti string
		ms  int64
	}
	old := history{{"a", 0}, {"b", 10}, {"c", 20}}
	cases := []struct {
		name string
		now  history
	}{
		{"nothing", nil},
		{"an older state", history{{"a", 0}, {"b", 10}}},
		{"an older state and a new line", history{{"a", 0}, {"b", 10}, {"new", 15}}},
		{"a new line was slipped in, and one after", history{{"a", 0}, {"b", 10}, {"new", 15}, {"newer", 30}}},
		{"another line at the last one's id", history{{"a", 0}, {"b", 10}, {"new", 20}}},
		{"a line slipped in, another at the last one's id", history{{"a", 0}, {"b", 10}, {"new", 15}, {"newer", 20}}},
		{"all new and younger", history{{"new", 100}, {"newer", 200}}},
		{"all new and older", history{{"new", -200}, {"newer", -100}}},
		{"the last line removed by somebody", history{{"a", 0}, {"b", 10}, {"new", 30}}},
	}
	alongside(t, func(t *testing.T, h house) {
		first := h.server.Now().Add(-time.Minute).UnixMilli()
		write := func(p int, lines history) {
			t.Helper()
			feed := h.keys.Feed(partition.ID(p))
			_, err := h.client.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
				pipe.Del(t.Context(), feed)
				for _, l := range lines {
					pipe.XAdd(t.Context(), line(feed, first+l.ms, fmt.Sprint(p, l.jti)))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for p := range cases {
			write(p, old)
		}
		beat(t, h.List)
		w, _ := follow(t, h.List)
		w.untilCurrent(t, h.server)
		lines := len(cases) * len(old)
		if w.read() != lines {
			t.Fatalf("%d lines of %d read", w.read(), lines)
		}
		for p, c := range cases {
			write(p, c.now)
			lines += len(c.now)
		}
		until(t, h.server, "the changes are noticed", func() bool { n, _ := w.told(); return n == len(cases) })
		until(t, h.server, "everything is read again", func() bool { return w.read() >= lines })
		changed := time.Now()
		until(t, h.server, "it is current", func() bool { return w.knownTo().After(changed.Add(time.Second)) })
		for p, c := range cases {
			for _, l := range c.now {
				if !w.has("jti", fmt.Sprint(p, l.jti)) {
					t.Errorf("%s: %s is missing", c.name, l.jti)
				}
			}
		}
		if n, _ := w.told(); n != len(cases) || w.read() != lines {
			t.Errorf("%d changes of %d, %d lines of %d", n, len(cases), w.read(), lines)
		}
		write(1, history{{"again", 500}})
		until(t, h.server, "the next change is noticed", func() bool { n, _ := w.told(); return n == len(cases)+1 })
	}, "miniredis", "redis")
}

// After an hour without denials the feed expires; with denials all the time its
// beginning is trimmed. Neither is news.
func TestOrdinaryEndOfLinesIsNoTrouble(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		beat(t, h.List)
		w, _ := follow(t, h.List)
		arrives := func(id string) {
			t.Helper()
			h.add(t, denylist.Token, id, h.server.Now().Add(time.Hour))
			until(t, h.server, id, func() bool { return w.has(denylist.Token, id) })
		}
		arrives("old")
		h.server.Advance(horizon + time.Second)
		pass(h.server, 500*time.Millisecond)
		arrives("new")

		h.server.Advance(horizon - 500*time.Millisecond)
		trim := strconv.FormatInt(h.server.Now().UnixMilli(), 10)
		if err := h.client.XTrimMinID(t.Context(), h.feedKey(), trim).Err(); err != nil {
			t.Fatal(err)
		}
		arrives("newer")
		w.untilCurrent(t, h.server)
		if histories, _ := w.told(); histories > 0 || w.read() != 3 {
			t.Errorf("%d changes of history, %d lines of 3", histories, w.read())
		}
	}, "redis")
}

func TestLinesThatCannotBeUnderstood(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		for _, values := range [][]string{
			{"kind", "jti", "id", "no exp"},
			{"kind", "jti", "id", "empty exp", "exp", ""},
			{"kind", "jti", "id", "word", "exp", "tomorrow"},
			{"kind", "jti", "id", "negative", "exp", "-5"},
			{"kind", "jti", "id", "endless", "exp", "9223372036854775807"},
			{"kind", "jti", "id", "float", "exp", "1e18"},
			{"kind", "jti", "exp", "4000000000"},
			{"id", "no kind", "exp", "4000000000"},
			{"kind", "of a later version", "id", "later", "exp", "4000000000"},
			{"kind", "jti", "id", "good", "exp", "4000000000", "more", "of a later version"},
		} {
			if err := h.client.XAdd(t.Context(), &redis.XAddArgs{Stream: h.feedKey(), Values: values}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		beat(t, h.List)
		w, _ := follow(t, h.List)
		until(t, h.server, "the last line", func() bool { return w.has(denylist.Token, "good") })
		until(t, h.server, "trouble", func() bool {
			_, others := w.told()
			return slices.ContainsFunc(others, func(err error) bool {
				return strings.Contains(err.Error(), "cannot be understood: 8, ")
			})
		})
		// Whom it names is denied, for longer than any token lives.
		for _, id := range []string{"no exp", "empty exp", "word", "negative", "endless", "float"} {
			if left := time.Until(w.deniedUntil("jti", id)); left < 7*24*time.Hour || left > 8*24*time.Hour {
				t.Errorf("%q is denied for %v", id, left)
			}
		}
		if !w.has("of a later version", "later") {
			t.Error("a kind of a later version was not passed on")
		}
		if w.read() != 8 {
			t.Errorf("%d lines were read of 8", w.read())
		}
		w.untilCurrent(t, h.server)
	}, "miniredis", "redis")
}

func TestWhatIsNoFeedOrNoBeatIsTroubleOfItsPartitionAlone(t *testing.T) {
	const noFeed, noString, noNumber, good = 0, 1, 2, 3
	alongside(t, func(t *testing.T, h house) {
		h.client.Set(t.Context(), h.keys.Feed(noFeed), "x", 0)
		h.client.RPush(t.Context(), h.keys.Beat(noString), "x")
		w, _ := follow(t, h.List)
		until(t, h.server, "the others are current", func() bool {
			now := h.server.Now().UnixMilli()
			_, err := h.client.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
				pipe.Set(t.Context(), h.keys.Beat(noFeed), now, 0)
				pipe.Set(t.Context(), h.keys.Beat(noNumber), fmt.Sprint("x", now), 0)
				for p := partition.ID(good); p < partition.Count; p++ {
					pipe.Set(t.Context(), h.keys.Beat(p), now, 0)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			_, others := w.told()
			return len(others) >= good && w.signsIn(good) > 0
		})
		for p := range partition.ID(good) {
			if w.signsIn(p) > 0 {
				t.Errorf("partition %d is current", p)
			}
		}
		_, others := w.told()
		for p, err := range others {
			if len(others) > good || !slices.ContainsFunc(others, func(err error) bool {
				return strings.Contains(err.Error(), "partition "+partition.ID(p).Tag())
			}) {
				t.Errorf("trouble of partition %d: %v", p, err)
			}
		}
	}, "redis")
}

func TestRow41ShiftedRepliesAreNoSignOfLife(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		beat(t, h.List)
		client, lags := h.server.Lagging(t)
		w, _ := follow(t, denylist.New(client, h.server.Prefix))
		w.untilCurrent(t, h.server)
		lags.Store(true)
		shifted := time.Now()
		until(t, h.server, "trouble is reported", func() bool { _, others := w.told(); return len(others) >= partition.Count })
		pass(h.server, 500*time.Millisecond)
		if known := w.knownTo(); known.After(shifted.Add(100 * time.Millisecond)) { // polls that were under way
			t.Errorf("it knows what happened %v after replies shifted", known.Sub(shifted))
		}
		lags.Store(false)
		w.untilCurrent(t, h.server)
	}, "redis")
}

// Beats that a lagging instance writes would make every verifier unsure, or sure
// of what is long past.
func TestRow41InstanceWhoseRepliesShiftWritesNoBeats(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		client, lags := h.server.Lagging(t)
		beat(t, denylist.New(client, h.server.Prefix))
		w, _ := follow(t, h.List)
		w.untilCurrent(t, h.server)
		lags.Store(true)
		shifted := h.server.Now()
		pass(h.server, time.Second)
		for p := range partition.ID(partition.Count) {
			key := partition.Keys{Prefix: h.server.Prefix}.Beat(p)
			ms, err := h.client.Get(t.Context(), key).Int64()
			if err != nil || time.UnixMilli(ms).After(shifted.Add(100*time.Millisecond)) { // one that was under way
				t.Errorf("partition %d has the beat %v, %v after replies shifted (%v)", p, ms, time.UnixMilli(ms).Sub(shifted), err)
			}
		}
		lags.Store(false)
		w.untilCurrent(t, h.server)
	}, "redis")
}
