package journal_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/journal"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/refresh"
)

func TestMain(m *testing.M) { redistest.Main(m) }

var secret = bytes.Repeat([]byte("journal."), 4)

// instance is what one instance of the service does about revocations.
type instance struct {
	*journal.Journal
	sessions *refresh.Store
	denied   *denylist.List
	ring     *keyring.Ring
	stop     func()

	mu      sync.Mutex
	current [partition.Count]time.Time
	errs    []error
}

// house is a Redis with instances.
type house struct {
	server *redistest.Server
	keys   partition.Keys
}

func (h *house) start(t *testing.T) *instance {
	t.Helper()
	i := &instance{Journal: journal.New()}
	client := h.server.Client
	var err error
	i.sessions, err = refresh.New(client, refresh.Options{
		Prefix: h.server.Prefix, Secrets: [][]byte{secret}, Ended: i.Ended,
		Policy: func(string) (refresh.Policy, bool) {
			return refresh.Policy{
				Transport: refresh.Body, Idle: 24 * time.Hour, Absolute: 48 * time.Hour, Access: 5 * time.Minute, Sessions: 3,
			}, true
		},
	})
	must(t, err)
	i.denied = denylist.New(client, h.server.Prefix, denylist.Tell(i.Denied))
	i.ring, err = keyring.Open(t.Context(), client, keyring.Options{Prefix: h.server.Prefix, Secrets: [][]byte{secret}})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	i.stop = func() { cancel(); running.Wait() }
	t.Cleanup(i.stop)
	running.Go(func() { i.denied.Beat(ctx, func(error) {}) })
	running.Go(func() {
		i.Source(i.denied, nil).Follow(ctx, func(string, string, time.Time) {}, func(p int, age time.Duration) {
			i.mu.Lock()
			defer i.mu.Unlock()
			i.current[p] = time.Now().Add(-age)
		}, func(error) {})
	})
	running.Go(func() {
		i.Run(ctx, journal.Stores{Sessions: i.sessions, Denylist: i.denied, Keys: i.ring}, func(_ journal.Totals, err error) {
			i.mu.Lock()
			defer i.mu.Unlock()
			if err != nil {
				i.errs = append(i.errs, err)
			}
		})
	})
	i.caughtUp(t, h.server)
	return i
}

// caughtUp waits until the instance knows everything that was denied by now.
func (i *instance) caughtUp(t *testing.T, s *redistest.Server) {
	t.Helper()
	now := time.Now()
	until(t, s, "the instance is up to date", func() bool {
		i.mu.Lock()
		defer i.mu.Unlock()
		return !slices.ContainsFunc(i.current[:], func(at time.Time) bool { return !at.After(now) })
	})
}

func each(t *testing.T, f func(t *testing.T, h *house)) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		f(t, &house{s, partition.Keys{Prefix: s.Prefix}})
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits. The clock of the embedded server stands still, and beats would
// stop with it.
func until(t *testing.T, s *redistest.Server, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("it never happened that %s", what)
		}
		pass(s)
	}
}

func pass(s *redistest.Server) {
	const step = 20 * time.Millisecond
	time.Sleep(step)
	if !s.Real() {
		s.Advance(step)
	}
}

type session struct{ sid, sub, token string }

func (h *house) login(t *testing.T, i *instance, sub string) session {
	t.Helper()
	g, err := i.sessions.Create(t.Context(), refresh.Login{Subject: sub, ClientID: "mobile"})
	must(t, err)
	return session{g.Session.SID, sub, g.Token}
}

// state is everything that Redis holds about users, feeds included, as text.
func (h *house) state(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	scan := func(ctx context.Context, c *redis.Client) error {
		keys := c.Scan(ctx, 0, h.keys.Prefix+":*", 1000).Iterator()
		for keys.Next(ctx) {
			key := keys.Val()
			switch c.Type(ctx, key).Val() {
			case "hash":
				state[key] = fmt.Sprint(c.HGetAll(ctx, key).Val())
			case "stream":
				state[key] = fmt.Sprint(c.XRange(ctx, key, "-", "+").Val())
			case "zset":
				state[key] = fmt.Sprint(c.ZRangeWithScores(ctx, key, 0, -1).Val())
			default:
				state[key] = c.Get(ctx, key).Val()
			}
			if strings.HasSuffix(key, "}:beat") {
				delete(state, key)
			}
		}
		return keys.Err()
	}
	h.onEach(t, scan)
	return state
}

func (h *house) onEach(t *testing.T, f func(context.Context, *redis.Client) error) {
	t.Helper()
	switch c := h.server.Client.(type) {
	case *redis.Client:
		must(t, f(t.Context(), c))
	case *redis.ClusterClient:
		var mu sync.Mutex
		must(t, c.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			return f(ctx, c)
		}))
	}
}

// before remembers the sessions as they are, and returns what brings a Redis back
// that knows of nothing since: neither of their ends nor of any denial. Sessions
// named as new are not there at all.
func (h *house) before(t *testing.T, sessions ...session) (rollBack func(missing ...session)) {
	t.Helper()
	c := h.server.Client
	old := map[string]map[string]string{}
	for _, s := range sessions {
		p, _ := partition.OfSID(s.sid)
		key := h.keys.Session(p, s.sid)
		old[key] = c.HGetAll(t.Context(), key).Val()
	}
	return func(missing ...session) {
		t.Helper()
		for key, fields := range old {
			must(t, c.Del(t.Context(), key).Err())
			must(t, c.HSet(t.Context(), key, fields).Err())
			must(t, c.Expire(t.Context(), key, time.Hour).Err())
		}
		for _, s := range missing {
			p, _ := partition.OfSID(s.sid)
			must(t, c.Del(t.Context(), h.keys.Session(p, s.sid)).Err())
		}
		h.onEach(t, func(ctx context.Context, c *redis.Client) error {
			for _, pattern := range []string{":deny:*", ":feed"} {
				keys := c.Scan(ctx, 0, h.keys.Prefix+":*}"+pattern, 1000).Iterator()
				for keys.Next(ctx) {
					if err := c.Del(ctx, keys.Val()).Err(); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
}

func (h *house) why(t *testing.T, s session) string {
	t.Helper()
	p, _ := partition.OfSID(s.sid)
	fields := h.server.Client.HGetAll(t.Context(), h.keys.Session(p, s.sid)).Val()
	if fields["end"] == "" || len(fields) != 2 {
		return ""
	}
	return fields["why"]
}

func (h *house) life(t *testing.T, p partition.ID, id string) time.Duration {
	t.Helper()
	return h.server.Client.PTTL(t.Context(), h.keys.Deny(p, id)).Val()
}

// One instance ends sessions and dies, with what it knew. The other has heard.
func TestRow34RevocationsAreAssertedByWhoHeardOfThem(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *house) {
		first, second := h.start(t), h.start(t)
		mine, hers, other := h.login(t, first, "alice"), h.login(t, first, "bob"), h.login(t, first, "bob")
		rollBack := h.before(t, mine, hers, other)
		newer := h.login(t, first, "carol")

		must(t, first.sessions.End(t.Context(), mine.sid, refresh.Reused))
		must(t, second.sessions.End(t.Context(), hers.sid, refresh.Password))
		must(t, first.sessions.End(t.Context(), newer.sid, refresh.Logout))
		p, _ := partition.OfSID(other.sid)
		must(t, first.denied.Add(t.Context(), denylist.Token, other.sid, "jti-1", h.server.Now().Add(5*time.Minute)))
		lived := h.life(t, p, "jti-1")
		first.caughtUp(t, h.server)
		second.caughtUp(t, h.server)
		first.stop()

		rollBack(newer)
		until(t, h.server, "the ends are asserted", func() bool {
			pn, _ := partition.OfSID(newer.sid)
			return h.why(t, mine) != "" && h.why(t, hers) != "" && h.life(t, p, "jti-1") > 0 && h.life(t, pn, newer.sid) > 0 &&
				second.Totals().Sessions > 1 // counted last
		})
		if why := h.why(t, hers); why != "password" {
			t.Errorf("a session that this instance ended itself ended for %q now", why)
		}
		if why := h.why(t, mine); why != "asserted" {
			t.Errorf("a session of which only the feed told ended for %q now", why)
		}
		if left := h.life(t, p, "jti-1"); left > lived || left < lived-20*time.Second {
			t.Errorf("the denial of a token lived for %v, and lives for %v", lived, left)
		}
		for _, s := range []session{mine, hers} {
			p, _ := partition.OfSID(s.sid)
			if life := h.life(t, p, s.sid); life < 5*time.Minute || life > 10*time.Minute {
				t.Errorf("the access tokens of an ended session are denied for %v", life)
			}
		}
		pn, _ := partition.OfSID(newer.sid)
		if n := h.server.Client.Exists(t.Context(), h.keys.Session(pn, newer.sid)).Val(); n != 0 {
			t.Error("a session that Redis never knew was made")
		}
		if _, err := second.sessions.Get(t.Context(), other.sid); err != nil {
			t.Errorf("a session that nobody ended: %v", err)
		}
		if got := second.Totals(); got.Sessions != 2 || got.Denials != 2 || got.Keys != 0 {
			t.Errorf("asserted %+v", got)
		}
	})
}

// Why a session ended is learned from Redis while it knows.
func TestReasonIsRemembered(t *testing.T) {
	t.Parallel()
	h := &house{server: redistest.Redis(t)}
	h.keys = partition.Keys{Prefix: h.server.Prefix}
	first, second := h.start(t), h.start(t)
	s := h.login(t, first, "alice")
	rollBack := h.before(t, s)
	must(t, first.sessions.End(t.Context(), s.sid, refresh.Reused))
	second.caughtUp(t, h.server)
	first.stop()
	// A pause gives reason to look, and nothing is missing.
	h.server.Pause()
	time.Sleep(1500 * time.Millisecond)
	h.server.Resume()
	second.caughtUp(t, h.server)
	rollBack()
	until(t, h.server, "the end is asserted", func() bool { return h.why(t, s) != "" })
	if why := h.why(t, s); why != "reused" {
		t.Errorf("ended for %q", why)
	}
}

// Several instances notice at once, and hear each other's assertions. Afterwards
// all is quiet, and a look at what stands changes nothing.
func TestNothingIsWrittenWhenNothingIsMissing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *house) {
		var all []*instance
		for range 3 {
			all = append(all, h.start(t))
		}
		var sessions []session
		for i := range 20 {
			sessions = append(sessions, h.login(t, all[0], fmt.Sprintf("user-%d", i)))
		}
		rollBack := h.before(t, sessions...)
		for i, s := range sessions {
			must(t, all[i%3].sessions.End(t.Context(), s.sid, refresh.Logout))
		}
		for _, i := range all {
			i.caughtUp(t, h.server)
		}
		rollBack()
		until(t, h.server, "the ends are asserted", func() bool {
			return !slices.ContainsFunc(sessions, func(s session) bool { return h.why(t, s) == "" })
		})
		for range 40 { // others may be about to do the same
			pass(h.server)
		}
		sum := 0
		for _, i := range all {
			sum += i.Totals().Sessions
		}
		if sum != len(sessions) {
			t.Errorf("%d assertions of %d sessions", sum, len(sessions))
		}

		settled := h.state(t)
		if h.server.Real() {
			// Everybody has reason to look again.
			h.server.Pause()
			time.Sleep(1500 * time.Millisecond)
			h.server.Resume()
		}
		for _, i := range all {
			i.caughtUp(t, h.server)
		}
		for range 40 {
			pass(h.server)
		}
		if now := h.state(t); !maps.Equal(settled, now) {
			t.Errorf("from\n%v\nto\n%v", settled, now)
		}
		for _, i := range all {
			if len(i.errs) > 0 && h.server.Real() == false {
				t.Error(i.errs)
			}
		}
	})
}

// The feed had not been read yet when its end was lost: then nothing in it shows
// that, and no connection need have broken.
func TestRow34OwnRevocationThatTheFeedNeverShowed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *house) {
		i := h.start(t)
		ended, token := h.login(t, i, "alice"), h.login(t, i, "bob")
		rollBack := h.before(t, ended, token)
		p, _ := partition.OfSID(token.sid)
		// As if it had happened a moment before a failover.
		i.Ended(ended.sid, refresh.Disabled, h.server.Now().Add(6*time.Minute))
		i.Denied(denylist.Denial{Partition: int(p), Kind: denylist.Token, ID: "jti-2", Until: h.server.Now().Add(5 * time.Minute)})
		_ = rollBack
		until(t, h.server, "both are asserted", func() bool { return h.why(t, ended) == "disabled" && h.life(t, p, "jti-2") > 0 })
		if life := h.life(t, p, "jti-2"); life > 5*time.Minute {
			t.Errorf("the denial lives for %v", life)
		}
		if _, err := i.sessions.Get(t.Context(), token.sid); err != nil {
			t.Errorf("a session of which only one token was denied: %v", err)
		}
	})
}

// Row 45, too: what has little or no life left is not denied for ever.
func TestDenialThatIsOverIsNotAsserted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *house) {
		i := h.start(t)
		for n, left := range []time.Duration{-time.Hour, -time.Second, 0, time.Millisecond, 5 * time.Second} {
			i.Denied(denylist.Denial{Partition: n, Kind: denylist.Token, ID: "over", Until: h.server.Now().Add(left)})
		}
		i.Denied(denylist.Denial{Partition: 9, Kind: denylist.Token, ID: "lives", Until: h.server.Now().Add(time.Minute)})
		until(t, h.server, "the one that lives is asserted", func() bool { return h.life(t, 9, "lives") > 0 })
		for p := range partition.ID(partition.Count) {
			if life := h.life(t, p, "over"); life >= -1 {
				t.Errorf("denied for %v", life)
			}
		}
		if life := h.life(t, 9, "lives"); life > time.Minute {
			t.Errorf("denied for %v", life)
		}
	})
}

// A ring that comes back with a key that was dropped must not sign with it.
func TestRow23DroppedKeyComesBack(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *house) {
		first, second := h.start(t), h.start(t)
		name := h.keys.Keyring()
		old := h.server.Client.Get(t.Context(), name).Val()
		rollBack := h.before(t)
		stolen := first.ring.Signer().ID()
		must(t, first.ring.Drop(t.Context(), stolen))
		must(t, first.denied.AddKey(t.Context(), stolen))
		first.caughtUp(t, h.server)
		second.caughtUp(t, h.server)
		first.stop()

		must(t, h.server.Client.Set(t.Context(), name, old, 0).Err())
		rollBack()
		holds := func() bool {
			ring, err := keyring.Read(t.Context(), h.server.Client, keyring.Options{Prefix: h.server.Prefix, Secrets: [][]byte{secret}})
			must(t, err)
			return slices.ContainsFunc(ring.Keys(), func(k keyring.Key) bool { return k.ID == stolen })
		}
		if !holds() {
			t.Fatal("the ring did not come back: nothing is shown")
		}
		until(t, h.server, "the key is dropped and denied again", func() bool {
			for p := range partition.ID(partition.Count) {
				if h.life(t, p, stolen) < 6*24*time.Hour {
					return false
				}
			}
			return !holds() && second.Totals().Keys > 0 // counted last
		})
		if n := second.Totals().Keys; n != 1 {
			t.Errorf("dropped %d times", n)
		}
	})
}
