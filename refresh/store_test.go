package refresh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// The clients of the tests.
const (
	mobile = "mobile" // tokens in bodies, a retry window
	strict = "strict" // tokens in bodies, no retry window
	web    = "web"    // tokens in a cookie
	shop   = "shop"   // tokens in bodies, with the client's own credentials
)

const (
	window   = 10 * time.Second
	idle     = 24 * time.Hour
	absolute = 30 * 24 * time.Hour
	access   = 5 * time.Minute
	limit    = 20
)

var oldSecret, newSecret = bytes.Repeat([]byte("old."), 8), bytes.Repeat([]byte("new!"), 8)

// house is a store on one backend, and what tests look at besides.
type house struct {
	*refresh.Store
	server *redistest.Server
	client redis.UniversalClient
	keys   partition.Keys

	mu       sync.Mutex
	policies map[string]refresh.Policy
}

func newHouse(t *testing.T, s *redistest.Server) *house {
	t.Helper()
	p := refresh.Policy{
		Transport: refresh.Body, Window: window, Idle: idle, Absolute: absolute, Access: access, Sessions: limit,
	}
	h := &house{server: s, client: s.Client, keys: partition.Keys{Prefix: s.Prefix}, policies: map[string]refresh.Policy{mobile: p}}
	p.Transport = refresh.Cookie
	h.policies[web] = p
	p.Transport = refresh.Authenticated
	h.policies[shop] = p
	p.Transport, p.Window = refresh.Body, 0
	h.policies[strict] = p
	h.Store = h.over(t, s.Client, newSecret)
	return h
}

// over returns another store on the same data, as another instance of the
// service would have, through its own client or with its own secrets.
func (h *house) over(t *testing.T, c redis.UniversalClient, secrets ...[]byte) *refresh.Store {
	t.Helper()
	st, err := refresh.New(c, refresh.Options{Prefix: h.keys.Prefix, Secrets: secrets, Policy: func(client string) (refresh.Policy, bool) {
		h.mu.Lock()
		defer h.mu.Unlock()
		p, ok := h.policies[client]
		return p, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// configure changes a client's policy, as a restart with another file would.
func (h *house) configure(client string, change func(*refresh.Policy)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.policies[client]
	change(&p)
	h.policies[client] = p
}

func each(t *testing.T, f func(t *testing.T, h *house)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) { f(t, newHouse(t, s)) })
}

func eachWithCluster(t *testing.T, f func(t *testing.T, h *house)) {
	t.Helper()
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) { f(t, newHouse(t, s)) })
}

// eachReal is for what the embedded server does not have.
func eachReal(t *testing.T, f func(t *testing.T, h *house)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) { f(t, newHouse(t, redistest.Redis(t))) })
	t.Run("cluster", func(t *testing.T) { f(t, newHouse(t, redistest.Cluster(t))) })
}

// device is a client with a session.
type device struct {
	h         *house
	st        *refresh.Store // through which it refreshes
	sid       string
	sub       string
	client    string
	transport refresh.Transport
	first     *refresh.Grant
	tokens    []string            // by generation
	snapshots []map[string]string // the session's hash, by generation
}

// login starts a session for a user.
func (h *house) login(t *testing.T, sub, client string) *device {
	t.Helper()
	return h.loginFor(t, sub, client, "mail calendar")
}

func (h *house) loginFor(t *testing.T, sub, client, scope string) *device {
	t.Helper()
	g, err := h.Create(t.Context(), refresh.Login{
		Subject: sub, ClientID: client, Roles: []string{"reader", "writer"}, Scope: scope, AMR: []string{"pwd"}, Device: "test",
	})
	if err != nil {
		t.Fatalf("login of %s: %v", sub, err)
	}
	d := &device{
		h: h, st: h.Store, sid: g.Session.SID, sub: sub, client: client, transport: g.Session.Policy.Transport,
		first: g, tokens: []string{g.Token},
	}
	d.snapshots = append(d.snapshots, h.hash(t, d.sid))
	return d
}

// ask presents the session's token of a generation. It is safe for concurrent use.
func (d *device) ask(ctx context.Context, generation int, key string) (*refresh.Grant, error) {
	return d.st.Rotate(ctx, refresh.Presented{
		Token: d.tokens[generation], Transport: d.transport, ClientID: d.client, RetryKey: key,
	})
}

// refresh is ask for when it must succeed. It remembers the successor.
func (d *device) refresh(t *testing.T, generation int, key string) *refresh.Grant {
	t.Helper()
	g, err := d.ask(t.Context(), generation, key)
	if err != nil {
		t.Fatalf("refresh at generation %d: %v", generation, err)
	}
	if n := int(g.Session.Generation); n == len(d.tokens) {
		d.tokens = append(d.tokens, g.Token)
		d.snapshots = append(d.snapshots, d.h.hash(t, d.sid))
	} else if n > len(d.tokens) || d.tokens[n] != g.Token {
		t.Fatalf("refresh at generation %d gave another token of generation %d than the one known", generation, n)
	}
	return g
}

// advanceTo refreshes in turn until the token of a generation is known.
func (d *device) advanceTo(t *testing.T, generation int) {
	t.Helper()
	for n := len(d.tokens) - 1; n < generation; n++ {
		d.refresh(t, n, fmt.Sprint("key ", n))
	}
}

// restore puts the session back to where it was at a generation, as a failover
// to an old replica does.
func (h *house) restore(t *testing.T, d *device, generation int) {
	t.Helper()
	key := h.session(d.sid)
	must(t, h.client.Del(t.Context(), key).Err())
	must(t, h.client.HSet(t.Context(), key, d.snapshots[generation]).Err())
	must(t, h.client.PExpireAt(t.Context(), key, d.first.Session.EndsAt).Err())
}

func (h *house) session(sid string) string {
	p, _ := partition.OfSID(sid)
	return h.keys.Session(p, sid)
}

func (h *house) denyKey(sid, id string) string {
	p, _ := partition.OfSID(sid)
	return h.keys.Deny(p, id)
}

func (h *house) hash(t *testing.T, sid string) map[string]string {
	t.Helper()
	fields, err := h.client.HGetAll(t.Context(), h.session(sid)).Result()
	must(t, err)
	return fields
}

func (h *house) ttl(t *testing.T, key string) time.Duration {
	t.Helper()
	ttl, err := h.client.PTTL(t.Context(), key).Result()
	must(t, err)
	return ttl
}

// feed returns what the feed of a session's partition says of the session.
func (h *house) feed(t *testing.T, sid string) []map[string]any {
	t.Helper()
	p, _ := partition.OfSID(sid)
	lines, err := h.client.XRange(t.Context(), h.keys.Feed(p), "-", "+").Result()
	must(t, err)
	var about []map[string]any
	for _, line := range lines {
		if line.Values["id"] == sid {
			about = append(about, line.Values)
		}
	}
	return about
}

func (h *house) denied(t *testing.T, sid string) bool {
	t.Helper()
	n, err := h.client.Exists(t.Context(), h.denyKey(sid, sid)).Result()
	must(t, err)
	return n == 1
}

func (h *house) index(t *testing.T, sub string) []string {
	t.Helper()
	sids, err := h.client.ZRange(t.Context(), h.keys.User(sub), 0, -1).Result()
	must(t, err)
	return sids
}

// names returns all keys of the house, on all masters.
func (h *house) names(t *testing.T) []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	of := func(ctx context.Context, c *redis.Client) error {
		keys, err := c.Keys(ctx, h.keys.Prefix+":*").Result()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, keys...)
		return err
	}
	switch c := h.client.(type) {
	case *redis.ClusterClient:
		must(t, c.ForEachMaster(t.Context(), of))
	case *redis.Client:
		must(t, of(t.Context(), c))
	}
	slices.Sort(all)
	return all
}

// state is everything stored about a session: contents and expiry of its hash,
// its user's index, its denylist entry and its feed.
func (h *house) state(t *testing.T, d *device) map[string]string {
	t.Helper()
	ctx := t.Context()
	p, _ := partition.OfSID(d.sid)
	state := map[string]string{}
	for field, value := range h.hash(t, d.sid) {
		state["session "+field] = value
	}
	index, err := h.client.ZRangeWithScores(ctx, h.keys.User(d.sub), 0, -1).Result()
	must(t, err)
	state["index"] = fmt.Sprint(index)
	lines, err := h.client.XRange(ctx, h.keys.Feed(p), "-", "+").Result()
	must(t, err)
	state["feed"] = fmt.Sprint(lines)
	for name, key := range map[string]string{
		"session": h.session(d.sid), "index": h.keys.User(d.sub), "deny": h.denyKey(d.sid, d.sid), "feed": h.keys.Feed(p),
	} {
		at, err := h.client.PExpireTime(ctx, key).Result()
		must(t, err)
		state["end of "+name] = at.String()
	}
	return state
}

// unchanged fails the test if something else than the session's fields named
// differs between two states.
func unchanged(t *testing.T, before, after map[string]string, except ...string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now, there := after[name]; (!there || now != before[name]) && !slices.Contains(except, name) {
			t.Errorf("%s changed from %q to %q", name, before[name], now)
		}
	}
	for name := range after {
		if _, there := before[name]; !there && !slices.Contains(except, name) {
			t.Errorf("%s appeared: %q", name, after[name])
		}
	}
}

// isEnded fails the test unless all of what ending a session means has been done.
func (h *house) isEnded(t *testing.T, d *device, why refresh.Reason) {
	t.Helper()
	hash := h.hash(t, d.sid)
	if len(hash) != 2 || hash["end"] == "" || hash["why"] != string(why) {
		t.Errorf("tombstone %v, want only end and why = %s", hash, why)
	}
	if ttl := h.ttl(t, h.session(d.sid)); ttl < 24*time.Hour-time.Minute || ttl > 24*time.Hour {
		t.Errorf("the tombstone lies for %v", ttl)
	}
	if !h.denied(t, d.sid) {
		t.Error("the session's access tokens are not denied")
	}
	if lines := h.feed(t, d.sid); len(lines) == 0 || lines[0]["kind"] != "sid" {
		t.Errorf("the feed says %v", lines)
	}
	if slices.Contains(h.index(t, d.sub), d.sid) {
		t.Error("the session is still in the index")
	}
	newest := len(d.tokens) - 1
	want := refresh.ErrEnded
	if why == refresh.Reused {
		want = refresh.ErrReused
	}
	if _, err := d.ask(t.Context(), newest, ""); !errors.Is(err, want) {
		t.Errorf("its newest token: %v, want %v", err, want)
	}
	if _, err := h.Get(t.Context(), d.sid); !errors.Is(err, refresh.ErrEnded) {
		t.Errorf("Get: %v", err)
	}
}

// isRefusal reports whether an error says that the request must not succeed,
// as opposed to that the store could not tell.
func isRefusal(err error) bool {
	for _, refusal := range []error{
		refresh.ErrToken, refresh.ErrExpired, refresh.ErrEnded, refresh.ErrReused, refresh.ErrLate, refresh.ErrClient,
		refresh.ErrOften, refresh.ErrGuard,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// sameGrant fails the test unless two grants entitle to the very same.
func sameGrant(t *testing.T, a, b *refresh.Grant) {
	t.Helper()
	if a.Token != b.Token || a.JTI != b.JTI || !a.IssuedAt.Equal(b.IssuedAt) || !a.AccessExpires.Equal(b.AccessExpires) {
		t.Errorf("grants differ:\n%s %s %v %v\n%s %s %v %v",
			a.Token, a.JTI, a.IssuedAt, a.AccessExpires, b.Token, b.JTI, b.IssuedAt, b.AccessExpires)
	}
}

// together runs f n times at once and waits for all.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// near reports whether two durations differ by what a slow machine may need.
func near(a, b time.Duration) bool { return (a - b).Abs() < 5*time.Second }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// words returns words that take n bytes when joined by spaces; n is a multiple of 8.
func words(n int) []string { return strings.Fields(strings.Repeat("abcdefg ", n/8-1) + "abcdefgh") }
