package denylist_test

import (
	"context"
	"errors"
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
	"github.com/authapi/authapi/tokens"
)

func TestMain(m *testing.M) {
	// Tests that wait do so together, however few the processors.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	redistest.Main(m)
}

const (
	sid   = "q6.AAAAAAAAAAAAAAAAAAAA-_"
	other = "5x.AAAAAAAAAAAAAAAAAAAA-_"
	jti   = "BBBBBBBBBBBBBBBBBBBBBB"

	grace   = tokens.Leeway + time.Minute
	horizon = tokens.MaxLifetime + grace // how long the feed must say what is denied
)

// house is a list on one backend, and what tests look at besides.
type house struct {
	*denylist.List
	server *redistest.Server
	client redis.UniversalClient
	keys   partition.Keys
}

func eachWithCluster(t *testing.T, f func(t *testing.T, h house)) {
	t.Helper()
	alongside(t, f, "miniredis", "redis", "cluster")
}

func (h house) add(t *testing.T, kind denylist.Kind, id string, exp time.Time) {
	t.Helper()
	if err := h.Add(t.Context(), kind, sid, id, exp); err != nil {
		t.Fatalf("deny %s: %v", id, err)
	}
}

// claims are those of a token, as far as the denylist looks at them.
func claims(sid, jti string) *tokens.Claims { return &tokens.Claims{SessionID: sid, ID: jti} }

func (h house) denied(t *testing.T, sid, jti string) bool {
	t.Helper()
	denied, err := h.Denied(t.Context(), claims(sid, jti))
	if err != nil {
		t.Errorf("asked for %s, %s: %v", sid, jti, err)
	}
	return denied
}

func (h house) entry(id string) string {
	p, _ := partition.OfSID(sid)
	return h.keys.Deny(p, id)
}

func (h house) feedKey() string {
	p, _ := partition.OfSID(sid)
	return h.keys.Feed(p)
}

func (h house) feed(t *testing.T) []redis.XMessage {
	t.Helper()
	lines, err := h.client.XRange(t.Context(), h.feedKey(), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func (h house) ttl(t *testing.T, key string) time.Duration {
	t.Helper()
	ttl, err := h.client.PTTL(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return ttl
}

func near(a, b time.Duration) bool { return (a - b).Abs() < 3*time.Second }

func TestRow46NothingDeniedIsNoError(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		if h.denied(t, sid, jti) || h.denied(t, other, jti) {
			t.Error("denied on an empty Redis")
		}
	})
}

func TestSessionsAndTokensAreDenied(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		exp := h.server.Now().Add(5 * time.Minute)
		h.add(t, denylist.Token, jti, exp)
		if !h.denied(t, sid, jti) {
			t.Error("a denied token passes")
		}
		if h.denied(t, sid, "another") || h.denied(t, other, jti) {
			t.Error("more is denied than the token")
		}
		h.add(t, denylist.Session, sid, exp)
		if !h.denied(t, sid, "another") || !h.denied(t, sid, jti) {
			t.Error("a token of a denied session passes")
		}
		if h.denied(t, other, jti) {
			t.Error("another session is denied")
		}
	})
}

func TestDeniedIsOneRoundTrip(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		asked := redistest.CommandCount(h.client)
		h.denied(t, sid, jti)
		if asked.Trips() != 1 || asked.Names()["exists"] != 1 {
			t.Errorf("asked %v in %d round trips", asked.Names(), asked.Trips())
		}
	})
}

func TestRow45NoEntryIsPersistent(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		now := h.server.Now().Truncate(time.Second)
		for i, c := range []struct {
			exp  time.Time
			want bool
		}{
			{time.Time{}, false},
			{time.Unix(0, 0), false},
			{time.Unix(-1, 0), false},
			{now.Add(-1000 * time.Hour), false},
			{now.Add(-grace - 2*time.Second), false},
			{now.Add(-grace), false},
			// What has expired is still accepted by verifiers for a moment.
			{now.Add(-grace + 10*time.Second), true},
			{now.Add(-time.Second), true},
			{now, true},
			{now.Add(time.Millisecond), true},
			{now.Add(999 * time.Millisecond), true},
			{now.Add(time.Hour), true},
			{now.AddDate(100, 0, 0), true},
		} {
			id := fmt.Sprint("jti", i)
			h.add(t, denylist.Token, id, c.exp)
			if got := h.denied(t, sid, id); got != c.want {
				t.Errorf("exp %v: denied %v, want %v", c.exp, got, c.want)
			}
			if ttl := h.ttl(t, h.entry(id)); ttl == -1 {
				t.Errorf("exp %v: the entry never expires", c.exp)
			}
			if ttl := h.ttl(t, h.feedKey()); ttl == -1 {
				t.Errorf("exp %v: the feed never expires", c.exp)
			}
		}
	})
}

// Less than a second is left of the entry: a TTL rounded down to 0 would make it
// eternal or an error.
func TestRow45SubSecondEntry(t *testing.T) {
	s := redistest.Miniredis(t) // its clock stands still
	l := denylist.New(s.Client, s.Prefix)
	p, _ := partition.OfSID(sid)
	s.Advance(time.Second - time.Duration(s.Now().Nanosecond())) // to a whole second
	now := s.Now()
	for ms, want := range map[time.Duration]time.Duration{1: time.Millisecond, 500: 500 * time.Millisecond, 999: 999 * time.Millisecond} {
		s.Advance(now.Add(time.Second - ms*time.Millisecond).Sub(s.Now()))
		id := fmt.Sprint("left", int(ms))
		if err := l.Add(t.Context(), denylist.Token, sid, id, now.Add(time.Second-grace)); err != nil {
			t.Errorf("%v ms left: %v", int(ms), err)
		}
		key := partition.Keys{Prefix: s.Prefix}.Deny(p, id)
		if ttl := s.Client.PTTL(t.Context(), key).Val(); ttl != want {
			t.Errorf("%d ms left: TTL %v", int(ms), ttl)
		}
		s.Advance(-s.Now().Sub(now))
	}
	if err := l.Add(t.Context(), denylist.Token, sid, "none left", now.Add(-grace)); err != nil {
		t.Errorf("nothing left: %v", err)
	}
	if n := s.Client.Exists(t.Context(), partition.Keys{Prefix: s.Prefix}.Deny(p, "none left")).Val(); n != 0 {
		t.Error("an entry was made for nothing")
	}
}

// The run before was cut off between the entry and the feed.
func TestHalfDoneDenialIsCompletedAndNotShortened(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		for _, left := range []time.Duration{time.Minute, 10 * time.Minute} {
			if err := h.client.Set(t.Context(), h.entry(sid), "0", left+grace).Err(); err != nil {
				t.Fatal(err)
			}
			before := len(h.feed(t))
			if !h.denied(t, sid, jti) {
				t.Error("not denied although the entry is there")
			}
			for range 2 {
				h.add(t, denylist.Session, sid, h.server.Now().Add(5*time.Minute))
			}
			if ttl := h.ttl(t, h.entry(sid)); !near(ttl, max(left, 5*time.Minute)+grace) {
				t.Errorf("TTL %v", ttl)
			}
			if n := len(h.feed(t)) - before; n != 1 {
				t.Errorf("%d lines", n)
			}
		}
	})
}

func TestEntriesOutliveTheLastTokenByTheGrace(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		exp := h.server.Now().Add(5 * time.Minute)
		h.add(t, denylist.Session, sid, exp)
		if ttl := h.ttl(t, h.entry(sid)); !near(ttl, 5*time.Minute+grace) {
			t.Errorf("TTL %v", ttl)
		}
		h.server.Advance(5*time.Minute + grace - 5*time.Second)
		if !h.denied(t, sid, jti) {
			t.Error("the entry vanished while verifiers may accept the token")
		}
		h.server.Advance(6 * time.Second)
		if h.denied(t, sid, jti) {
			t.Error("the entry stayed")
		}
	})
}

func TestDenialsAreNeverShortened(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		now := h.server.Now()
		for _, minutes := range []time.Duration{10, 5, 0, -1, -100} {
			h.add(t, denylist.Session, sid, now.Add(minutes*time.Minute))
			if ttl := h.ttl(t, h.entry(sid)); !near(ttl, 10*time.Minute+grace) {
				t.Errorf("after one until +%d min: TTL %v", minutes, ttl)
			}
		}
		h.add(t, denylist.Session, sid, now.Add(20*time.Minute))
		if ttl := h.ttl(t, h.entry(sid)); !near(ttl, 20*time.Minute+grace) {
			t.Errorf("not lengthened: TTL %v", ttl)
		}
	})
}

// The clock of Redis decides: the one of this process may be anywhere.
func TestSessionOfWhichOnlyTheIDIsKnownIsDenied(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		for _, skew := range []time.Duration{0, 48 * time.Hour, -96 * time.Hour} {
			h.server.Advance(skew)
			if err := h.client.Del(t.Context(), h.entry(sid), h.feedKey()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := h.AddSession(t.Context(), sid); err != nil {
				t.Fatal(err)
			}
			if ttl := h.ttl(t, h.entry(sid)); !near(ttl, tokens.MaxLifetime+grace) || ttl < tokens.MaxLifetime+grace-time.Second {
				t.Errorf("denied for %v", ttl)
			}
			if lines := h.feed(t); len(lines) != 1 || lines[0].Values["kind"] != "sid" || lines[0].Values["id"] != sid {
				t.Errorf("the feed says %v", lines)
			}
		}
	})
}

func TestFeedSaysWhatWasDenied(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		exp := h.server.Now().Add(5 * time.Minute)
		h.add(t, denylist.Token, jti, exp)
		h.add(t, denylist.Session, sid, exp.Add(time.Minute))
		h.add(t, denylist.Session, sid, h.server.Now().Add(-time.Hour)) // nothing is left to deny
		lines := h.feed(t)
		want := []map[string]any{
			{"kind": "jti", "id": jti, "exp": strconv.FormatInt(exp.Add(grace).Unix(), 10)},
			{"kind": "sid", "id": sid, "exp": strconv.FormatInt(exp.Add(time.Minute+grace).Unix(), 10)},
		}
		if len(lines) != len(want) {
			t.Fatalf("%d lines: %v", len(lines), lines)
		}
		for i, line := range lines {
			if fmt.Sprint(line.Values) != fmt.Sprint(want[i]) {
				t.Errorf("line %d: %v, want %v", i, line.Values, want[i])
			}
			ms, err := strconv.ParseInt(strings.Split(line.ID, "-")[0], 10, 64)
			if err != nil || !near(h.server.Now().Sub(time.UnixMilli(ms)), 0) {
				t.Errorf("line %d is of %s, %v", i, line.ID, err)
			}
		}
		if ttl := h.ttl(t, h.feedKey()); !near(ttl, horizon) {
			t.Errorf("the feed lives for %v", ttl)
		}
	})
}

func TestFeedIsTrimmedByTime(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		const old = 300
		for i := range old {
			h.add(t, denylist.Token, fmt.Sprint("old", i), h.server.Now().Add(time.Minute))
		}
		// The feed must still be there when the first lines are too old.
		h.server.Advance(horizon - time.Minute)
		h.add(t, denylist.Token, "young", h.server.Now().Add(time.Minute))
		if n := len(h.feed(t)); n != old+1 {
			t.Errorf("%d lines before the horizon, want %d", n, old+1)
		}
		h.server.Advance(2 * time.Minute)
		h.add(t, denylist.Token, "younger", h.server.Now().Add(time.Minute))
		lines := h.feed(t)
		// Real servers drop whole nodes of some hundred lines only.
		if len(lines) > old/2 || len(lines) < 2 {
			t.Errorf("%d lines after the horizon", len(lines))
		}
		for i, id := range []string{"young", "younger"} {
			if got := lines[len(lines)-2+i].Values["id"]; got != id {
				t.Errorf("line %d from the end is %v, want %s", 2-i, got, id)
			}
		}
		h.server.Advance(horizon + time.Second)
		if n := h.client.Exists(t.Context(), h.feedKey()).Val(); n != 0 {
			t.Error("a feed without news stays")
		}
	})
}

// A verifier that re-reads the whole feed must learn of every entry.
func TestFeedNamesEveryEntryUntilItVanishes(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		h.add(t, denylist.Token, jti, h.server.Now().Add(tokens.MaxLifetime))
		for range 6 {
			h.server.Advance(tokens.MaxLifetime / 6)
			h.add(t, denylist.Token, "another", h.server.Now().Add(time.Minute))
		}
		h.server.Advance(grace - 5*time.Second)
		h.add(t, denylist.Token, "another", h.server.Now().Add(time.Minute))
		if !h.denied(t, sid, jti) {
			t.Error("the entry has gone too early")
		}
		if lines := h.feed(t); len(lines) == 0 || lines[0].Values["id"] != jti {
			t.Errorf("the feed says %v", lines)
		}
	})
}

// With one old token anybody could fill the feed otherwise.
func TestDenyingAgainWritesNothing(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		exp := h.server.Now().Add(5 * time.Minute)
		for _, again := range []time.Duration{0, 0, -time.Minute, -4 * time.Minute} {
			h.add(t, denylist.Session, sid, exp.Add(again))
		}
		if n := len(h.feed(t)); n != 1 {
			t.Errorf("%d lines", n)
		}
		h.add(t, denylist.Session, sid, exp.Add(time.Minute))
		if n := len(h.feed(t)); n != 2 {
			t.Errorf("%d lines after a longer denial", n)
		}
	})
}

// Two who deny a session of which they know only the id may round differently.
func TestASecondLongerIsNoOtherDenial(t *testing.T) {
	s := redistest.Miniredis(t) // whose clock stands still
	h := house{denylist.New(s.Client, s.Prefix), s, s.Client, partition.Keys{Prefix: s.Prefix}}
	exp := s.Now().Add(time.Minute)
	for _, c := range []struct {
		longer time.Duration
		lines  int
	}{{0, 1}, {time.Second, 1}, {2 * time.Second, 2}} {
		h.add(t, denylist.Session, sid, exp.Add(c.longer))
		if n := len(h.feed(t)); n != c.lines {
			t.Errorf("%v longer: %d lines, want %d", c.longer, n, c.lines)
		}
	}
}

func TestWhatIsNoSessionIsRefusedWithoutRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		l := denylist.New(s.Client, s.Prefix)
		asked := redistest.CommandCount(s.Client)
		for _, bad := range []string{"", "x", "zz." + sid[3:], sid + "x", "q6.AAAAAAAAAAAAAAAAAAAA}:"} {
			if err := l.Add(t.Context(), denylist.Session, bad, bad, time.Now().Add(time.Hour)); !errors.Is(err, denylist.ErrID) {
				t.Errorf("Add %q: %v", bad, err)
			}
			if denied, err := l.Denied(t.Context(), claims(bad, jti)); !errors.Is(err, denylist.ErrID) || denied {
				t.Errorf("Denied %q: %v, %v", bad, denied, err)
			}
		}
		if asked.Total() != 0 {
			t.Errorf("asked %v", asked.Names())
		}
	})
}

func TestAddedTwiceByALostReply(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		client, flaky := h.server.Flaky(t)
		flaky.LoseReplies(2)
		exp := h.server.Now().Add(time.Minute)
		if err := denylist.New(client, h.server.Prefix).Add(t.Context(), denylist.Session, sid, sid, exp); err != nil {
			t.Fatal(err)
		}
		if !h.denied(t, sid, jti) || flaky.Lost() != 2 {
			t.Errorf("denied %v after %d lost replies", h.denied(t, sid, jti), flaky.Lost())
		}
		for _, line := range h.feed(t) {
			if line.Values["id"] != sid {
				t.Errorf("the feed says %v", line.Values)
			}
		}
	})
}

func TestParallelDenials(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		exp := h.server.Now().Add(time.Minute)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				if err := h.Add(t.Context(), denylist.Token, sid, fmt.Sprint(i), exp); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for i := range 50 {
			if !h.denied(t, sid, fmt.Sprint(i)) {
				t.Errorf("%d is not denied", i)
			}
		}
		if n := len(h.feed(t)); n != 50 {
			t.Errorf("%d lines", n)
		}
	})
}

func TestRow36DenialsWorkOnAFullRedis(t *testing.T) {
	onFull := func(t *testing.T, s *redistest.Server) {
		l := denylist.New(s.Client, s.Prefix)
		s.SetFull(true)
		for range 2 { // the script unknown, then known
			if err := l.Add(t.Context(), denylist.Session, sid, sid, s.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
		}
		if denied, err := l.Denied(t.Context(), claims(sid, jti)); err != nil || !denied {
			t.Errorf("denied %v, %v", denied, err)
		}
	}
	t.Run("redis", func(t *testing.T) { onFull(t, redistest.Redis(t)) })
	t.Run("cluster", func(t *testing.T) { onFull(t, redistest.Cluster(t)) })
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*redistest.Server){
		"dead": (*redistest.Server).Kill, "hanging": (*redistest.Server).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
				l := denylist.New(s.Client, s.Prefix)
				if err := l.Reachable(t.Context()); err != nil {
					t.Error(err)
				}
				harm(s)
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if err := l.Reachable(ctx); err == nil {
					t.Errorf("a %s Redis answers", name)
				}
			})
		})
	}
}

// An error must never look like an answer.
func TestRow46DeadOrHangingRedisIsAnError(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*redistest.Server){
		"dead": (*redistest.Server).Kill, "hanging": (*redistest.Server).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				l := denylist.New(s.Client, s.Prefix)
				if _, err := l.Denied(t.Context(), claims(sid, jti)); err != nil {
					t.Fatal(err)
				}
				harm(s)
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				began := time.Now()
				if denied, err := l.Denied(ctx, claims(sid, jti)); err == nil || errors.Is(err, denylist.ErrID) || denied {
					t.Errorf("Denied: %v, %v", denied, err)
				}
				if err := l.Add(ctx, denylist.Session, sid, sid, time.Now().Add(time.Minute)); err == nil || errors.Is(err, denylist.ErrID) {
					t.Errorf("Add: %v", err)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// Whoever was told that a token is denied will not try again.
func TestRow41AnothersReplyIsNoDenial(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		client, lags := h.server.Lagging(t)
		list, exp := denylist.New(client, h.server.Prefix), h.server.Now().Add(time.Minute)
		for range 2 {
			if err := list.Add(t.Context(), denylist.Token, sid, jti, exp); err != nil {
				t.Fatal(err)
			}
		}
		lags.Store(true)
		if err := list.Add(t.Context(), denylist.Token, sid, "another", exp); err == nil {
			t.Error("the reply of an earlier denial is taken for its own")
		}
	}, "miniredis", "redis")
}

// A token must not pass because another does, nor be refused because another is.
func TestRow41ShiftedReplyDeniesNoOtherToken(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		h.add(t, denylist.Token, jti, h.server.Now().Add(5*time.Minute))
		client, lags := h.server.Lagging(t)
		l := denylist.New(client, h.server.Prefix)
		for _, shifted := range []bool{false, true, false} {
			lags.Store(shifted)
			troubles := 0
			for i := range 20 {
				id, want := jti, true
				if i%2 == 1 {
					id, want = "another", false
				}
				denied, err := l.Denied(t.Context(), claims(sid, id))
				if err != nil {
					troubles++
				} else if denied != want {
					t.Errorf("token %s, replies shifted: %t: denied: %t", id, shifted, denied)
				}
			}
			if (troubles > 0) != shifted && !(troubles == 1 && !shifted) { // the reply that was still owed
				t.Errorf("replies shifted: %t, but %d of 20 questions failed", shifted, troubles)
			}
		}
	})
}
