package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

// tally is what a number of requests at once came to.
type tally struct {
	mu     sync.Mutex
	grants []*refresh.Grant
	errs   []error
}

func (c *tally) add(g *refresh.Grant, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errs = append(c.errs, err)
	} else {
		c.grants = append(c.grants, g)
	}
}

// onlyErrors fails the test if there is an error of another kind.
func (c *tally) onlyErrors(t *testing.T, want error) {
	t.Helper()
	for _, err := range c.errs {
		if !errors.Is(err, want) {
			t.Errorf("refused with %v, want %v", err, want)
		}
	}
}

func TestRow15ParallelRefreshesWithOneKeyHaveOneSuccessor(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", strict)
		var got tally
		together(200, func(int) { got.add(d.ask(t.Context(), 0, "one key")) })
		if len(got.errs) > 0 {
			t.Fatalf("%d of 200 refused, the first with %v", len(got.errs), got.errs[0])
		}
		originals := 0
		for _, g := range got.grants {
			sameGrant(t, g, got.grants[0])
			if !g.Repeated {
				originals++
			}
		}
		if g := h.hash(t, d.sid)["g"]; g != "1" || originals != 1 {
			t.Errorf("generation %s after %d rotations", g, originals)
		}
	})
}

func TestRow16ParallelRefreshesWithDifferentKeysEndTheSession(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		for name, c := range map[string]struct {
			client string
			key    func(i int) string
		}{
			"window 0":         {strict, func(i int) string { return fmt.Sprint("key ", i) }},
			"window 10s":       {mobile, func(i int) string { return fmt.Sprint("key ", i) }},
			"window 0, no key": {strict, func(int) string { return "" }},
		} {
			t.Run(name, func(t *testing.T) {
				d := h.login(t, "alice", c.client)
				other := h.login(t, "alice", c.client)
				var got tally
				together(50, func(i int) { got.add(d.ask(t.Context(), 0, c.key(i))) })
				if len(got.grants) != 1 {
					t.Fatalf("%d of 50 succeeded", len(got.grants))
				}
				got.onlyErrors(t, refresh.ErrReused)
				d.tokens = append(d.tokens, got.grants[0].Token)
				h.isEnded(t, d, refresh.Reused)
				other.refresh(t, 0, "") // the user's other device stays logged in
			})
		}
	})
}

func TestParallelRefreshesWithoutKeyShareTheWindow(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		var got tally
		together(50, func(int) { got.add(d.ask(t.Context(), 0, "")) })
		if len(got.grants) != 9 {
			t.Errorf("%d of 50 succeeded, want the rotation and 8 repeats", len(got.grants))
		}
		got.onlyErrors(t, refresh.ErrOften)
		for _, g := range got.grants {
			sameGrant(t, g, got.grants[0])
		}
		d.tokens = append(d.tokens, got.grants[0].Token)
		d.refresh(t, 1, "") // the session lives
	})
}

func TestTabsThatShareACookieStayLoggedIn(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", web)
		for round := range 3 {
			h.server.Advance(window)
			var got tally
			together(9, func(i int) { got.add(d.ask(t.Context(), round, fmt.Sprint("tab ", i))) })
			if len(got.errs) > 0 {
				t.Fatalf("refused: %v", got.errs)
			}
			for _, g := range got.grants {
				sameGrant(t, g, got.grants[0])
			}
			d.tokens = append(d.tokens, got.grants[0].Token)
			together(20, func(int) { // reloads with the new cookie
				if g, err := d.ask(t.Context(), round+1, ""); err != nil || g.Token != d.tokens[round+1] {
					t.Errorf("reload: %v, %v", g, err)
				}
			})
		}
		if g := h.hash(t, d.sid)["g"]; g != "3" {
			t.Errorf("generation %s after 3 windows", g)
		}
	})
}

func TestRow18RetryAfterALostResponseRepeatsTheGrant(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		h.server.Advance(time.Minute)
		lost := d.refresh(t, 0, "k")
		if lost.AccessExpires.Sub(lost.IssuedAt) != access || lost.Repeated {
			t.Errorf("original %+v", lost)
		}
		for _, later := range []time.Duration{0, time.Hour, 22 * time.Hour} {
			h.server.Advance(later)
			again := d.refresh(t, 0, "k")
			sameGrant(t, again, lost)
			if !again.Repeated || again.Now.Sub(lost.Now) < later {
				t.Errorf("%v later: repeated %v, now %v after %v", later, again.Repeated, again.Now, lost.Now)
			}
		}
		// The app was restarted, and so was the service.
		d.st = h.over(t, h.client, newSecret)
		sameGrant(t, d.refresh(t, 0, "k"), lost)

		next := d.refresh(t, 1, "l")
		if next.JTI == lost.JTI || next.Session.Generation != 2 || !next.AccessExpires.After(lost.AccessExpires) {
			t.Errorf("the successor's refresh gave %+v", next)
		}
	})
}

func TestRow19LostRepliesRotateOnce(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		client, flaky := h.server.Flaky(t)
		for name, key := range map[string]string{"key": "k", "no key": ""} {
			for _, kind := range []string{mobile, strict} {
				d := h.login(t, "alice", kind)
				d.st = h.over(t, client, newSecret)
				before := flaky.Lost()
				flaky.LoseReplies(2)
				g := d.refresh(t, 0, key)
				if n := flaky.Lost() - before; n != 2 {
					t.Fatalf("%s: %d replies were lost", name, n)
				}
				hash := h.hash(t, d.sid)
				if hash["g"] != "1" || g.Session.Generation != 1 || hash["n"] != "" {
					t.Errorf("%s: generation %s, granted %d, repeats %q", name, hash["g"], g.Session.Generation, hash["n"])
				}
				d.refresh(t, 1, key)
			}
		}
	})
}

func TestLostRepliesCreateAndEndOnce(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		client, flaky := h.server.Flaky(t)
		st := h.over(t, client, newSecret)
		h.configure(mobile, func(p *refresh.Policy) { p.Sessions = 1 }) // the re-run must not count itself
		flaky.LoseReplies(2)
		g, err := st.Create(t.Context(), refresh.Login{Subject: "alice", ClientID: mobile})
		must(t, err)
		if index := h.index(t, "alice"); len(index) != 1 || index[0] != g.Session.SID {
			t.Errorf("index %v, want only %s", index, g.Session.SID)
		}
		d := &device{h: h, st: h.Store, sid: g.Session.SID, sub: "alice", client: mobile, transport: refresh.Body, first: g, tokens: []string{g.Token}}
		d.refresh(t, 0, "")

		flaky.LoseReplies(2)
		must(t, st.End(t.Context(), d.sid, refresh.Logout))
		h.isEnded(t, d, refresh.Logout)
		if flaky.Lost() != 4 {
			t.Errorf("%d replies were lost", flaky.Lost())
		}
	})
}

// Nothing about replays is kept outside Redis, so nothing is forgotten when all
// instances restart.
func TestRow25ReplayIsNoticedAfterARestart(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", strict)
		d.advanceTo(t, 3)
		flushScripts(t, h.client)
		d.st = h.over(t, h.client, newSecret)
		if _, err := d.ask(t.Context(), 1, "thief"); !errors.Is(err, refresh.ErrReused) {
			t.Errorf("replay: %v", err)
		}
		h.isEnded(t, d, refresh.Reused)
	})
}

func flushScripts(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	if cluster, ok := c.(*redis.ClusterClient); ok {
		must(t, cluster.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() }))
		return
	}
	must(t, c.ScriptFlush(t.Context()).Err())
}

func TestRow33RefreshesSurviveScriptFlushes(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		var stop atomic.Bool
		var flusher sync.WaitGroup
		flusher.Go(func() {
			for !stop.Load() {
				flushScripts(t, h.client)
			}
		})
		devices := make([]*device, 4)
		for i := range devices {
			devices[i] = h.login(t, fmt.Sprint("user", i), strict)
		}
		together(len(devices), func(i int) {
			token := devices[i].tokens[0]
			for range 20 {
				g, err := h.Rotate(t.Context(), refresh.Presented{Token: token, Transport: refresh.Body})
				if err != nil {
					t.Error(err)
					return
				}
				token = g.Token
			}
		})
		stop.Store(true)
		flusher.Wait()
	})
}

func TestRefreshIsOneRoundTrip(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.refresh(t, 0, "") // teaches the server the script
		d.advanceTo(t, 2)
		asked := redistest.CommandCount(h.client)
		for what, ask := range map[string]func() error{
			"rotation": func() error { _, err := d.ask(t.Context(), 2, "k"); return err },
			"repeat":   func() error { _, err := d.ask(t.Context(), 2, "k"); return err },
			"refusal": func() error {
				_, err := h.Rotate(t.Context(), refresh.Presented{Token: d.tokens[0], Transport: refresh.Cookie})
				if errors.Is(err, refresh.ErrClient) {
					return nil
				}
				return err
			},
		} {
			before := asked.Total()
			if err := ask(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if n := asked.Total() - before; n != 1 {
				t.Errorf("a %s took %d commands: %v", what, n, asked.Names())
			}
		}
	})
}

// swapper gives two scripts that run at the same time each other's reply, as a
// connection pool does that has lost count.
type swapper struct {
	mu      sync.Mutex
	waiting *redis.Cmd
	swapped chan struct{}
	done    int
}

func (*swapper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *swapper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		script, ok := cmd.(*redis.Cmd)
		if !ok || err != nil {
			return err
		}
		s.mu.Lock()
		if s.waiting == nil {
			swapped := make(chan struct{})
			s.waiting, s.swapped = script, swapped
			s.mu.Unlock()
			<-swapped
			return nil
		}
		other := s.waiting.Val()
		s.waiting.SetVal(script.Val())
		script.SetVal(other)
		close(s.swapped)
		s.waiting = nil
		s.done++
		s.mu.Unlock()
		return nil
	}
}

func (*swapper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestRow41SwappedRepliesAreNoticed(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		client, _ := h.server.Flaky(t) // a second client, which loses nothing here
		st := h.over(t, client, newSecret)
		alice, bob, phone := h.login(t, "alice", mobile), h.login(t, "bob", mobile), h.login(t, "alice", mobile)
		stolen := h.login(t, "alice", mobile)
		alice.advanceTo(t, 2)
		for _, d := range []*device{alice, bob, phone} {
			d.st = st
		}
		// The second client must know that the server knows the scripts.
		phone.refresh(t, 0, "")
		_, err := st.Create(t.Context(), refresh.Login{Subject: "carol", ClientID: mobile})
		must(t, err)
		must(t, st.End(t.Context(), h.login(t, "carol", mobile).sid, refresh.Logout))
		swap := &swapper{}
		client.AddHook(swap)

		refreshing := func(d *device, generation int, key string) func() (*refresh.Grant, error) {
			return func() (*refresh.Grant, error) { return d.ask(t.Context(), generation, key) }
		}
		creating := func(sub string) func() (*refresh.Grant, error) {
			return func() (*refresh.Grant, error) {
				return st.Create(t.Context(), refresh.Login{Subject: sub, ClientID: mobile})
			}
		}
		listing := func(sub string) func() (*refresh.Grant, error) {
			return func() (*refresh.Grant, error) {
				_, err := st.List(t.Context(), sub)
				return nil, err
			}
		}
		for name, pair := range map[string][2]func() (*refresh.Grant, error){
			"two users":       {refreshing(alice, 2, "a"), refreshing(bob, 0, "b")},
			"one user":        {refreshing(alice, 2, "a"), refreshing(phone, 1, "c")},
			"one session":     {refreshing(alice, 2, "a"), refreshing(alice, 1, "key 1")},
			"refusal":         {refreshing(alice, 0, "key 0"), refreshing(bob, 0, "b")},
			"two logins":      {creating("dave"), creating("erin")},
			"login, refresh":  {creating("dave"), refreshing(bob, 0, "b")},
			"login, same sub": {creating("alice"), refreshing(alice, 2, "a")},
			"end, refresh": {func() (*refresh.Grant, error) {
				return nil, st.End(t.Context(), stolen.sid, refresh.Logout)
			}, refreshing(bob, 0, "b")},
			"two lists": {listing("alice"), listing("bob")},
		} {
			together(2, func(i int) {
				if g, err := pair[i](); !errors.Is(err, refresh.ErrReply) || isRefusal(err) || g != nil {
					t.Errorf("%s, request %d: got %+v, %v", name, i, g, err)
				}
			})
		}
		if swap.done != 9 {
			t.Errorf("%d pairs of replies were swapped", swap.done)
		}
		// Whoever was told of trouble tries again.
		must(t, h.End(t.Context(), stolen.sid, refresh.Logout))
		h.isEnded(t, stolen, refresh.Logout)
		// The rotations have been done, once, and a retry gets their grants.
		for d, key := range map[*device]string{alice: "a", bob: "b", phone: "c"} {
			d.st = h.Store
			if g := d.refresh(t, len(d.tokens)-1, key); !g.Repeated {
				t.Errorf("session of %s was not rotated", d.sub)
			}
		}
	})
}
