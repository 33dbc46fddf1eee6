package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
)

// grace is how long a denial must outlive the last token it denies.
const grace = tokens.Leeway + time.Minute

func TestEndLeavesATombstoneThatTellsWhy(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		for _, why := range []refresh.Reason{
			refresh.Logout, refresh.Reused, refresh.Removed, refresh.Limited, refresh.Disabled, refresh.Password, refresh.Admin,
		} {
			d, other := h.login(t, "alice", mobile), h.login(t, "alice", mobile)
			d.advanceTo(t, 2)
			at := h.server.Now()
			must(t, h.End(t.Context(), d.sid, why))
			h.isEnded(t, d, why)
			ms, err := strconv.ParseInt(h.hash(t, d.sid)["end"], 10, 64)
			if since := time.UnixMilli(ms).Sub(at); err != nil || since < -time.Millisecond || since > time.Minute {
				t.Errorf("ended %v after it was (%v)", since, err)
			}
			other.refresh(t, 0, "")
			must(t, h.End(t.Context(), other.sid, why))
		}
	})
}

func TestEndAgainChangesNothing(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		must(t, h.End(t.Context(), d.sid, refresh.Logout))
		before := h.state(t, d)
		h.server.Advance(time.Minute)
		must(t, h.End(t.Context(), d.sid, refresh.Admin))
		n, err := h.EndAll(t.Context(), "alice", "", refresh.Disabled)
		if err != nil || n != 0 {
			t.Errorf("ended %d more, %v", n, err)
		}
		unchanged(t, before, h.state(t, d))
	})
}

func TestRow43DenialCoversEveryAccessToken(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		cases := map[string]func(d *device) time.Time{
			"just refreshed": func(d *device) time.Time { return d.refresh(t, 0, "k").AccessExpires },
			"refreshed a while ago": func(d *device) time.Time {
				g := d.refresh(t, 0, "k")
				h.server.Advance(access / 2)
				return g.AccessExpires
			},
			"repeated": func(d *device) time.Time {
				d.refresh(t, 0, "k")
				h.server.Advance(access / 2)
				return d.refresh(t, 0, "k").AccessExpires
			},
			// What the snapshot knows nothing of was granted just now.
			"rolled back": func(d *device) time.Time {
				h.server.Advance(time.Hour)
				g := d.refresh(t, 0, "k")
				h.restore(t, d, 0)
				return g.AccessExpires
			},
			// A repeat of the last grant would be longer now.
			"longer by new policy": func(d *device) time.Time {
				h.configure(mobile, func(p *refresh.Policy) { p.Access = time.Hour })
				defer h.configure(mobile, func(p *refresh.Policy) { p.Access = access })
				d.refresh(t, 0, "k")
				return d.refresh(t, 0, "k").AccessExpires
			},
			"shorter by new policy": func(d *device) time.Time {
				h.configure(mobile, func(p *refresh.Policy) { p.Access = time.Minute })
				defer h.configure(mobile, func(p *refresh.Policy) { p.Access = access })
				return d.refresh(t, 0, "k").AccessExpires
			},
			"clock went back": func(d *device) time.Time {
				g := d.refresh(t, 0, "k")
				h.server.Advance(-time.Hour)
				d.refresh(t, 1, "l")
				return g.AccessExpires
			},
		}
		for name, c := range cases {
			d := h.login(t, "alice", mobile)
			last := c(d)
			must(t, h.End(t.Context(), d.sid, refresh.Logout))
			gone := h.server.Now().Add(h.ttl(t, h.denyKey(d.sid, d.sid)))
			if gone.Before(last.Add(grace - time.Second)) {
				t.Errorf("%s: the denial ends at %v, the last token at %v", name, gone, last)
			}
			lines := h.feed(t, d.sid)
			if len(lines) != 1 || lines[0]["kind"] != "sid" {
				t.Fatalf("%s: the feed says %v", name, lines)
			}
			exp, err := strconv.ParseInt(fmt.Sprint(lines[0]["exp"]), 10, 64)
			if err != nil || time.Unix(exp, 0).Before(last.Add(grace)) {
				t.Errorf("%s: the feed says until %v (%v), the last token ends at %v", name, time.Unix(exp, 0), err, last)
			}
		}
	})
}

// A Redis that came back older than its clients may not know a session whose
// access tokens still live.
func TestEndOfALostSessionDeniesItsAccessTokens(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		for _, skew := range []time.Duration{0, 48 * time.Hour, -96 * time.Hour} { // of Redis's clock
			h.server.Advance(skew)
			d := h.login(t, "alice", mobile)
			lost(t, d)
			must(t, h.End(t.Context(), d.sid, refresh.Logout))
			if ttl := h.ttl(t, h.denyKey(d.sid, d.sid)); !near(ttl, tokens.MaxLifetime+grace) || len(h.feed(t, d.sid)) != 1 {
				t.Errorf("its access tokens are denied for %v", ttl)
			}
			if len(h.hash(t, d.sid)) != 0 {
				t.Error("something was created in its place")
			}
			if _, err := d.ask(t.Context(), 0, ""); !errors.Is(err, refresh.ErrExpired) {
				t.Errorf("its token: %v", err)
			}
		}
	})
}

func TestEndOfWhatIsNoSessionAsksNothing(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		asked := redistest.CommandCount(h.client)
		for _, sid := range []string{"", "x", "iy.", "iy.6-87sI8aT1qFBEDh2dhfg}", "zz.6-87sI8aT1qFBEDh2dhfgw"} {
			if err := h.End(t.Context(), sid, refresh.Logout); err != nil {
				t.Errorf("End of %q: %v", sid, err)
			}
			if _, err := h.Get(t.Context(), sid); !errors.Is(err, refresh.ErrExpired) {
				t.Errorf("Get of %q: %v", sid, err)
			}
		}
		if asked.Total() != 0 {
			t.Errorf("asked %v", asked.Names())
		}
	})
}

func TestEndAllSparesOneSessionAndOtherUsers(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		var mine []*device
		for range 7 {
			h.server.Advance(time.Second)
			mine = append(mine, h.login(t, "alice", mobile))
		}
		bob := h.login(t, "bob", mobile)
		current := mine[3]
		n, err := h.EndAll(t.Context(), "alice", current.sid, refresh.Removed)
		if err != nil || n != 6 {
			t.Errorf("ended %d, %v; want 6", n, err)
		}
		for _, d := range mine {
			if d != current {
				h.isEnded(t, d, refresh.Removed)
			}
		}
		current.refresh(t, 0, "")
		bob.refresh(t, 0, "")
		if index := h.index(t, "alice"); !slices.Equal(index, []string{current.sid}) {
			t.Errorf("index %v", index)
		}
		if n, err = h.EndAll(t.Context(), "alice", "", refresh.Admin); err != nil || n != 1 {
			t.Errorf("ended %d, %v; want 1", n, err)
		}
		h.isEnded(t, current, refresh.Admin)
		if n, err = h.EndAll(t.Context(), "nobody", "", refresh.Admin); err != nil || n != 0 {
			t.Errorf("ended %d of nobody's, %v", n, err)
		}
	})
}

// meddler lets something happen each time that the client has read an index.
type meddler struct {
	times int
	what  func()
}

func (*meddler) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *meddler) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && readsIndex(cmd) && m.times > 0 {
			m.times--
			m.what()
		}
		return err
	}
}

// readsIndex recognises the only script whose one key is an index.
func readsIndex(cmd redis.Cmder) bool {
	if !readsOnly(cmd) {
		return false
	}
	key, _ := cmd.Args()[3].(string)
	return strings.Contains(key, "}:user:")
}

func (*meddler) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Nothing has changed under it, so it does not start over.
func TestEndAllIsTwoRoundTrips(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		end := func(sessions int) {
			t.Helper()
			if n, err := h.EndAll(t.Context(), "alice", "", refresh.Admin); err != nil || n != sessions {
				t.Errorf("ended %d of %d: %v", n, sessions, err)
			}
		}
		h.login(t, "alice", mobile)
		end(1) // From now on the server knows the scripts.
		for range 2 {
			h.login(t, "alice", mobile)
		}
		asked := redistest.CommandCount(h.client)
		end(2)
		if asked.Total() != 2 {
			t.Errorf("%d round trips: %v", asked.Total(), asked.Names())
		}
	})
}

func TestEndAllEndsWhatCameWhileItReadTheIndex(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		client, _ := h.server.Flaky(t) // a second client, which loses nothing here
		hook := &meddler{}
		client.AddHook(hook)
		st := h.over(t, client, newSecret)
		var d, other, late *device
		for name, what := range map[string]func(){
			"one more": func() { late = h.login(t, "alice", mobile) },
			"as many, but another one": func() {
				must(t, h.End(t.Context(), other.sid, refresh.Logout))
				late = h.login(t, "alice", mobile)
			},
		} {
			d, other = h.login(t, "alice", mobile), h.login(t, "alice", mobile)
			*hook = meddler{1, what}
			if _, err := st.EndAll(t.Context(), "alice", "", refresh.Admin); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			h.isEnded(t, d, refresh.Admin)
			h.isEnded(t, late, refresh.Admin)
		}

		d = h.login(t, "alice", mobile)
		*hook = meddler{5, func() { h.login(t, "alice", mobile) }}
		if n, err := st.EndAll(t.Context(), "alice", d.sid, refresh.Admin); err != nil || n != 5 {
			t.Errorf("five came one by one: ended %d, %v", n, err)
		}
		*hook = meddler{1000, func() { h.login(t, "alice", mobile) }}
		if n, err := st.EndAll(t.Context(), "alice", "", refresh.Admin); err != nil || n < 6 {
			t.Errorf("they never cease to come: ended %d, %v", n, err)
		}
		h.isEnded(t, d, refresh.Admin)
	})
}

func TestRow24NoGrantFromARefreshThatBeganAfterTheEnd(t *testing.T) {
	races := map[string]int{"miniredis": 200, "redis": 10_000, "cluster": 1_000}
	eachWithCluster(t, func(t *testing.T, h *house) {
		const workers = 16
		n := races[h.server.Name]
		var refreshed, refused atomic.Int64
		began := time.Now()
		together(workers, func(worker int) {
			for i := worker; i < n; i += workers {
				race(t, h, fmt.Sprint("user", i), &refreshed, &refused)
			}
		})
		t.Logf("%d races in %v: %d refreshes won, %d came too late", n, time.Since(began), refreshed.Load(), refused.Load())
		if refused.Load() < int64(n) {
			t.Errorf("only %d refreshes were refused in %d races", refused.Load(), n)
		}
	})
}

// race refreshes a session over and over while it is being ended.
func race(t *testing.T, h *house, sub string, refreshed, refused *atomic.Int64) {
	g, err := h.Create(t.Context(), refresh.Login{Subject: sub, ClientID: strict})
	if err != nil {
		t.Error(err)
		return
	}
	sid := g.Session.SID
	var answered atomic.Bool
	var ender sync.WaitGroup
	ender.Go(func() {
		for range rand.N(4) { // sooner or later
			_, _ = h.Parse(g.Token)
		}
		err := error(nil)
		if len(sub)%2 == 0 {
			_, err = h.EndAll(t.Context(), sub, "", refresh.Logout)
		} else {
			err = h.End(t.Context(), sid, refresh.Logout)
		}
		if err != nil {
			t.Error(err)
		}
		answered.Store(true)
	})
	token := g.Token
	for {
		tooLate := answered.Load()
		next, err := h.Rotate(t.Context(), refresh.Presented{Token: token, Transport: refresh.Body})
		if err != nil {
			if !errors.Is(err, refresh.ErrEnded) {
				t.Errorf("refused with %v", err)
			}
			refused.Add(1)
			break
		}
		if tooLate {
			t.Errorf("a refresh of %s that began after the end was answered got generation %d", sid, next.Session.Generation)
			break
		}
		refreshed.Add(1)
		token = next.Token
	}
	ender.Wait()
	// One more, to have at least one in each race that surely began afterwards.
	if _, err := h.Rotate(t.Context(), refresh.Presented{Token: token, Transport: refresh.Body}); !errors.Is(err, refresh.ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
}

func TestRow44EndAllAndLoginsAtOnce(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		h.configure(mobile, func(p *refresh.Policy) { p.Sessions = 10_000 })
		type login struct {
			began, answered int64 // by one clock, which counts events
			grant           *refresh.Grant
		}
		type end struct{ began, answered int64 }
		var (
			clock  atomic.Int64
			mu     sync.Mutex
			logins []login
			ends   []end
			stop   atomic.Bool
		)
		together(3, func(i int) {
			if i == 0 {
				defer stop.Store(true)
				for len(ends) < 6 {
					began := clock.Add(1)
					_, err := h.EndAll(t.Context(), "alice", "", refresh.Password)
					answered := clock.Add(1)
					if err != nil {
						t.Error(err)
						return
					}
					ends = append(ends, end{began, answered})
					time.Sleep(2 * time.Millisecond)
				}
				return
			}
			for !stop.Load() {
				began := clock.Add(1)
				g, err := h.Create(t.Context(), refresh.Login{Subject: "alice", ClientID: mobile})
				if err != nil {
					t.Error(err)
					return
				}
				answered := clock.Add(1)
				mu.Lock()
				logins = append(logins, login{began, answered, g})
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
		last := ends[len(ends)-1]
		var old, young, between int
		for _, l := range logins {
			_, err := h.Get(t.Context(), l.grant.Session.SID)
			switch {
			case l.answered < last.began:
				old++
				if !errors.Is(err, refresh.ErrEnded) {
					t.Errorf("a session from before the end: %v", err)
				}
			case l.began > last.answered:
				young++
				if err != nil {
					t.Errorf("a session from after the end: %v", err)
				}
			default:
				between++
			}
		}
		t.Logf("%d logins before the last of %d ends, %d after, %d at the same time", old, len(ends), young, between)
		if old == 0 {
			t.Error("no login came first: nothing was tested")
		}
		if g, err := h.Create(t.Context(), refresh.Login{Subject: "alice", ClientID: mobile}); err != nil {
			t.Error(err)
		} else if _, err := h.Get(t.Context(), g.Session.SID); err != nil {
			t.Errorf("a login after the end: %v", err)
		}
		if p, _ := partition.OfSID(logins[0].grant.Session.SID); p != partition.Of("alice") {
			t.Error("the sessions lie elsewhere than the user")
		}
	})
}

// What asserts an end must neither make a session nor change how one has ended.
func TestEndAgainEndsOnlyWhatLives(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		lives, over, gone := h.login(t, "alice", mobile), h.login(t, "alice", mobile), h.login(t, "alice", mobile)
		must(t, h.End(t.Context(), over.sid, refresh.Reused))
		p, _ := partition.OfSID(gone.sid)
		must(t, h.client.Del(t.Context(), h.keys.Session(p, gone.sid)).Err())
		before := h.state(t, over)
		again := func(sid string, ends bool) {
			t.Helper()
			if ended, err := h.EndAgain(t.Context(), sid, refresh.Password); err != nil || ended != ends {
				t.Errorf("%s: %v, %v", sid, ended, err)
			}
		}
		again(gone.sid, false)
		again(over.sid, false)
		again("nonsense", false)
		unchanged(t, before, h.state(t, over))
		again(lives.sid, true)
		again(lives.sid, false)
		h.isEnded(t, lives, refresh.Password)
		if n := h.client.Exists(t.Context(), h.keys.Session(p, gone.sid)).Val(); n != 0 {
			t.Error("a session that is not there was made")
		}
	})
}
