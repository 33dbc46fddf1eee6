package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
)

// A cast is who deals with a session.
type cast struct {
	name    string
	client  string
	keys    keying
	hands   int
	weights [moves]int

	// honest casts do nothing that a session may end for.
	honest bool
}

type keying int

const (
	noKeys    keying = iota
	ownKeys          // a new key for each request, as tabs that know nothing of each other
	sharedKey        // the key depends on the token alone
)

type move int

const (
	refreshes  move = iota
	steals          // a thief takes a copy of the token, or uses the one he has
	repeats         // an earlier request arrives once more
	insists         // the token before, many times
	misdirects      // the wrong client or transport
	logsOut         // or an administrator ends it
	changesRoles
	reads
	moves // how many there are
)

var casts = []cast{
	{"one device", bodyClient, sharedKey, 2, [moves]int{refreshes: 80, misdirects: 4, changesRoles: 6, reads: 10}, true},
	{"one device and a thief", bodyClient, sharedKey, 3, [moves]int{refreshes: 80, steals: 10, repeats: 4, changesRoles: 2, reads: 4}, false},
	{"a device with late duplicates", bodyClient, sharedKey, 2, [moves]int{refreshes: 70, repeats: 20, logsOut: 1, reads: 9}, false},
	{"tabs with keys", bodyClient, ownKeys, 2, [moves]int{refreshes: 90, misdirects: 2, reads: 8}, false},
	{"a device without keys", bodyClient, noKeys, 2, [moves]int{refreshes: 70, insists: 10, misdirects: 4, logsOut: 1, changesRoles: 5, reads: 10}, false},
	{"no keys, and a thief", bodyClient, noKeys, 3, [moves]int{refreshes: 70, steals: 10, insists: 5, repeats: 5, reads: 10}, false},
	{"tabs with a cookie", cookieClient, noKeys, 4, [moves]int{refreshes: 76, insists: 5, misdirects: 4, changesRoles: 5, reads: 10}, false},
	{"tabs with a cookie and keys", cookieClient, ownKeys, 4, [moves]int{refreshes: 80, repeats: 8, logsOut: 1, changesRoles: 3, reads: 8}, false},
	{"a cookie and a thief", cookieClient, noKeys, 4, [moves]int{refreshes: 70, steals: 14, misdirects: 4, logsOut: 1, reads: 11}, false},
	{"everybody", bodyClient, ownKeys, 4, [moves]int{refreshes: 50, steals: 10, repeats: 10, insists: 5, misdirects: 5, logsOut: 5, changesRoles: 7, reads: 8}, false},
}

func (c *cast) pick(rng *rand.Rand) move {
	sum := 0
	for _, w := range c.weights {
		sum += w
	}
	n := rng.IntN(sum)
	for m, w := range c.weights {
		if n -= w; n < 0 {
			return move(m)
		}
	}
	panic("unreachable")
}

// A life is that of one session, as those see it who deal with it.
type life struct {
	*cast
	sid, sub, key, index string

	mu        sync.Mutex
	history   []porcupine.Operation
	undecided []int  // in history: may be done until the phase ends
	token     string // the client's
	loot      string // the thief's
	sent      []refresh.Presented
	over      bool // some answer said that the session is over

	grants    map[uint32]*refresh.Grant // by generation, the first seen
	endedAt   int64                     // when somebody was told that it is ended; 0 if nobody was
	tombstone int64                     // instant of the end, as the last phase left it
	restored  bool
	robbed    bool // at the end, honest or not
	snapshot  snapshot
	problems  []string
}

// A snapshot is what Redis held of the session.
type snapshot struct {
	taken   bool
	fields  map[string]string // none if it held nothing
	expires time.Duration     // Unix
	indexed bool
}

type round struct {
	*network
	seed    uint64
	lives   []*life
	current []*life      // those that somebody still deals with
	minute  int          // since the round began, by the server's clock
	moment  atomic.Int64 // orders calls and answers
}

// playRound takes the server through a round.
func playRound(t *testing.T, n *network, seed uint64, sessions int) *round {
	t.Helper()
	r := &round{network: n, seed: seed, current: make([]*life, sessions)}
	began := time.Now()

	fate := r.random(0, 0)
	for phase := 1; phase <= phases; phase++ {
		for i, l := range r.current {
			replaced := fate.IntN(2) == 0
			if l == nil || l.over && replaced {
				r.current[i] = r.begin(t, &casts[i%len(casts)])
			}
		}
		r.runPhase(phase)
		r.endPhase(t)
		r.between(fate, steps[fate.IntN(len(steps))])
	}
	r.between(fate, windowMinutes+1)
	for _, l := range r.current {
		r.lastReplay(l)
	}
	// The model's time is the clock's without the seconds.
	if took := time.Since(began); took > 25*time.Second {
		t.Fatalf("the round took %v: too slow for the model", took)
	}
	return r
}

// begin logs somebody in.
func (r *round) begin(t *testing.T, c *cast) *life {
	t.Helper()
	l := &life{cast: c, grants: map[uint32]*refresh.Grant{}}
	l.sub = fmt.Sprintf("user%d-%d-%d", r.seed, len(r.lives), time.Now().UnixNano())
	call := r.moment.Add(1)
	g, err := r.store.Create(context.Background(), refresh.Login{Subject: l.sub, ClientID: c.client, Roles: []string{"r0"}})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	l.sid, l.token, l.loot = g.Session.SID, g.Token, g.Token
	l.key, l.index = r.keys.Session(partition.Of(l.sub), l.sid), r.keys.User(l.sub)
	l.grants[0] = g
	q := request{op: create, sid: l.sid, minute: r.minute, cookie: c.client == cookieClient, roles: "r0"}
	l.record(q, outcome{}, call, r.moment.Add(1))
	r.lives = append(r.lives, l)
	return l
}

// steps of the clock, in minutes: inside the window and out of it, back, out
// of the idle and the absolute lifetime and that of a tombstone.
var steps = []int{
	1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 6, 6, 6, 6, 20, 20, 60,
	-1, -1, -1, -1, -2, -2, -4, -30, idleMinutes + 5, tombstoneMinutes + 60,
}

// random numbers of one goroutine depend on the seed and on nothing else.
func (r *round) random(a, b int) *rand.Rand {
	return rand.New(rand.NewPCG(r.seed, uint64(a)<<32|uint64(b)))
}

func (r *round) runPhase(phase int) {
	work := make(chan int)
	var lane sync.WaitGroup
	for i := range r.wires {
		lane.Go(func() {
			for life := range work {
				var hand sync.WaitGroup
				for j := range r.current[life].hands {
					hand.Go(func() {
						rng := r.random(phase, life*hands+j+1)
						r.act(r.current[life], r.wires[i][j], rng)
					})
				}
				hand.Wait()
			}
		})
	}
	for i := range r.current {
		work <- i
	}
	close(work)
	lane.Wait()
}

func (r *round) act(l *life, w *wire, rng *rand.Rand) {
	if l.isOver() && rng.IntN(3) > 0 {
		return // One who asks again and again learns nothing new.
	}
	// Two each, at most, for a pair of hands: so that the four rotations whose
	// keys are kept cover a phase, and no duplicate in it comes too late.
	for range 1 + rng.IntN(2) {
		r.do(l.pick(rng), l, w, rng)
	}
}

func (r *round) do(m move, l *life, w *wire, rng *rand.Rand) {
	ctx := context.Background()
	p := l.presented()
	switch m {
	case refreshes:
		switch l.keys {
		case ownKeys:
			p.RetryKey = fmt.Sprintf("tab%d", rng.Uint32())
		case sharedKey:
			// The same key for each token: what it stands for is the request.
			p.RetryKey = "device"
		}
		if rng.IntN(4) == 0 {
			p.ClientID = ""
		}
		w.arm(rng)
		for range 2 {
			g, err := r.present(l, w, p)
			if g != nil {
				l.keep(g)
			}
			if _, known := answerOf(g, err); known {
				break
			}
			w.arm(rng) // The client asks again.
		}

	case steals:
		l.mu.Lock()
		if l.loot == "" || rng.IntN(3) == 0 {
			l.loot = l.token
		}
		p.Token = l.loot
		l.mu.Unlock()
		if rng.IntN(3) > 0 {
			p.RetryKey = fmt.Sprintf("thief%d", rng.Uint32())
		}
		w.arm(rng)
		if g, _ := r.present(l, w, p); g != nil {
			l.mu.Lock()
			l.loot = g.Token
			l.mu.Unlock()
		}

	case repeats:
		l.mu.Lock()
		if n := len(l.sent); n > 0 {
			p = l.sent[n-1-rng.IntN(min(n, 10))]
		}
		l.mu.Unlock()
		w.arm(rng)
		r.present(l, w, p)

	case insists:
		if before := l.before(p.Token); before != "" {
			p.Token = before
		}
		for range repeatsAllowed + 2 {
			w.disarm()
			r.present(l, w, p)
		}

	case misdirects:
		if rng.IntN(2) == 0 {
			p.ClientID = "other"
		} else if p.Transport == refresh.Body {
			p.Transport = refresh.Cookie
		} else {
			p.Transport = refresh.Body
		}
		w.arm(rng)
		r.present(l, w, p)

	case logsOut:
		w.arm(rng)
		r.change(l, w, request{op: end, why: refresh.Logout}, func(q request) error {
			if rng.IntN(2) == 0 {
				_, err := w.store.EndAll(ctx, l.sub, "", q.why)
				return err
			}
			return w.store.End(ctx, l.sid, q.why)
		})

	case changesRoles:
		w.arm(rng)
		r.change(l, w, request{op: setRoles, roles: fmt.Sprintf("r%d", rng.Uint32())}, func(q request) error {
			return w.store.SetRoles(ctx, l.sub, []string{q.roles})
		})

	case reads:
		r.read(l, w.store)
	}
}

// present presents a token.
func (r *round) present(l *life, w *wire, p refresh.Presented) (*refresh.Grant, error) {
	token, err := r.store.Parse(p.Token)
	if err != nil {
		l.problem("a token that was handed out does not parse: %v", err)
		return nil, err
	}
	l.mu.Lock()
	l.sent = append(l.sent, p)
	l.mu.Unlock()

	call := r.moment.Add(1)
	q := request{
		op: rotate, sid: l.sid, minute: r.minute,
		generation:  token.Generation(),
		cookie:      p.Transport == refresh.Cookie,
		wrongClient: p.ClientID != "" && p.ClientID != l.client,
		key:         fmt.Sprintf("%s@%d", p.RetryKey, token.Generation()),
		keySent:     p.RetryKey != "",
	}
	if !q.keySent {
		q.key = fmt.Sprintf("own%d", call)
	}
	g, err := w.store.Rotate(context.Background(), p)
	ret := r.moment.Add(1)

	if len(w.runs) == 0 {
		l.problem("%v: Redis was not asked: %v", q, err)
		return nil, err
	}
	a, known := answerOf(g, err)
	if len(w.runs) > 1 {
		// The store has gone on to end the session, whatever came of that.
		a = answer{refusal: errReuse}
	} else if !known && w.runs[0].answered {
		l.problem("%v: unexpected: %v", q, err)
	}
	l.recordRuns(q, w.runs[:1], a, call, ret)
	if len(w.runs) > 1 {
		l.recordRuns(request{op: end, sid: l.sid, minute: r.minute, why: refresh.Reused}, w.runs[1:], answer{}, call, ret)
	}
	l.witness(q, g, err, call, ret)
	return g, err
}

// answerOf translates. It reports false if the store could not tell.
func answerOf(g *refresh.Grant, err error) (answer, bool) {
	if err == nil {
		return answer{
			repeated:   g.Repeated,
			generation: g.Session.Generation,
			ahead:      g.Ahead,
			roles:      strings.Join(g.Session.Roles, " "),
		}, true
	}
	if e := (*refresh.ReuseError)(nil); errors.As(err, &e) {
		return answer{refusal: errReuse}, true
	}
	for _, refusal := range []error{
		refresh.ErrExpired, refresh.ErrEnded, refresh.ErrReused, refresh.ErrLate,
		refresh.ErrClient, refresh.ErrOften, refresh.ErrClock,
	} {
		if errors.Is(err, refusal) {
			return answer{refusal: refusal}, true
		}
	}
	return answer{}, false
}

// witness holds an answer against what must be true whatever the model says.
func (l *life) witness(q request, g *refresh.Grant, err error, call, ret int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g == nil {
		if e := (*refresh.ReuseError)(nil); errors.As(err, &e) {
			if e.SID != l.sid || e.Subject != l.sub || e.ClientID != l.client || e.Presented != q.generation {
				l.complain("the report of the reuse is wrong: %+v", e)
			}
			if l.endedAt == 0 {
				l.endedAt = ret
			}
		}
		switch {
		case errors.Is(err, refresh.ErrReused), errors.Is(err, refresh.ErrEnded):
			if l.honest && !l.robbed {
				l.complain("an honest client lost its session: %v", err)
			}
			l.over = true
		case errors.Is(err, refresh.ErrExpired):
			l.over = true
		}
		return
	}
	l.over = false
	if l.endedAt != 0 && call > l.endedAt {
		l.complain("%v: granted at %d, after the end was answered at %d", q, call, l.endedAt)
	}
	if g.Session.SID != l.sid || g.Session.Subject != l.sub {
		l.complain("%v: granted another session: %+v", q, g.Session)
	}
	generation := g.Session.Generation
	if generation != q.generation+1 && generation != q.generation {
		l.complain("%v: granted generation %d", q, generation)
	}
	first, known := l.grants[generation]
	if !known {
		l.grants[generation] = g
		return
	}
	if g.Token != first.Token || g.JTI != first.JTI {
		l.complain("two tokens of generation %d", generation)
	}
	// After Redis came back older the same generation may be granted anew.
	if !l.restored && (!g.IssuedAt.Equal(first.IssuedAt) || !g.AccessExpires.Equal(first.AccessExpires)) {
		l.complain("%v: repeated with other instants: %v to %v, first %v to %v",
			q, g.IssuedAt, g.AccessExpires, first.IssuedAt, first.AccessExpires)
	}
}

// change asks for something that has no answer but success.
func (r *round) change(l *life, w *wire, q request, ask func(request) error) {
	q.sid, q.minute = l.sid, r.minute
	call := r.moment.Add(1)
	err := ask(q)
	ret := r.moment.Add(1)
	l.recordRuns(q, w.runs, answer{}, call, ret)
	if err != nil {
		for _, run := range w.runs {
			if run.answered {
				l.problem("%v: unexpected: %v", q, err)
			}
		}
		return
	}
	if len(w.runs) == 0 { // There was nothing to do, it says.
		l.record(q, outcome{}, call, ret)
	}
	if q.op == end {
		l.mu.Lock()
		if l.endedAt == 0 {
			l.endedAt = ret
		}
		l.mu.Unlock()
	}
}

func (r *round) read(l *life, st *refresh.Store) error {
	call := r.moment.Add(1)
	s, err := st.Get(context.Background(), l.sid)
	ret := r.moment.Add(1)
	a := answer{generation: s.Generation, roles: strings.Join(s.Roles, " ")}
	switch {
	case errors.Is(err, refresh.ErrEnded), errors.Is(err, refresh.ErrExpired):
		a = answer{refusal: err}
	case err != nil:
		return err // Nothing was learnt.
	}
	l.record(request{op: read, sid: l.sid, minute: r.minute}, outcome{answer: a}, call, ret)
	return err
}

// recordRuns notes each time that a script has run, or may have.
func (l *life) recordRuns(q request, runs []run, a answer, call, ret int64) {
	for _, run := range runs {
		for range run.unheard {
			l.record(q, outcome{known: unheard}, call, ret)
		}
		for range run.doubtful {
			l.record(q, outcome{known: undecided}, call, math.MaxInt64)
		}
		if run.answered {
			l.record(q, outcome{answer: a}, call, ret)
		}
	}
}

func (l *life) record(q request, o outcome, call, ret int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.known == undecided {
		l.undecided = append(l.undecided, len(l.history))
	}
	l.history = append(l.history, porcupine.Operation{Input: q, Output: o, Call: call, Return: ret})
}

func (l *life) presented() refresh.Presented {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, _ := modelPolicy(l.client)
	return refresh.Presented{Token: l.token, Transport: p.Transport, ClientID: l.client}
}

// keep is what a client does with a grant.
func (l *life) keep(g *refresh.Grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// One device knows which of its tokens is the newest. Tabs keep what comes
	// last, as the browser's cookie does.
	if l.keys == sharedKey {
		for generation, known := range l.grants {
			if known.Token == l.token && generation > g.Session.Generation {
				return
			}
		}
	}
	l.token = g.Token
}

// before returns the token before the given one, if anybody has seen it.
func (l *life) before(token string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for generation, g := range l.grants {
		if g.Token == token && generation > 0 && l.grants[generation-1] != nil {
			return l.grants[generation-1].Token
		}
	}
	return ""
}

func (l *life) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

func (l *life) problem(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complain(format, args...)
}

func (l *life) complain(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf("%s (%s): ", l.sid, l.name)+fmt.Sprintf(format, args...))
}

// endPhase waits for what was held back. Nothing is under way afterwards.
func (r *round) endPhase(t *testing.T) {
	r.held.Wait()
	now := r.moment.Add(1)
	for _, l := range r.current {
		for _, i := range l.undecided {
			l.history[i].Return = now
		}
		l.undecided = nil
		r.checkDenied(t, l)
	}
}

// checkDenied makes sure that a session that ended in this phase is on the
// denylist.
func (r *round) checkDenied(t *testing.T, l *life) {
	t.Helper()
	ctx := context.Background()
	ended, err := r.server.Client.HGet(ctx, l.key, "end").Int64()
	if errors.Is(err, redis.Nil) {
		return
	}
	if err != nil {
		t.Fatalf("read the tombstone: %v", err)
	}
	if ended == l.tombstone {
		return
	}
	l.tombstone = ended
	denied, err := r.deny.Denied(ctx, &tokens.Claims{SessionID: l.sid, ID: "no-such-token"})
	if err != nil {
		t.Fatalf("ask the denylist: %v", err)
	}
	if !denied {
		l.problem(notDenied)
	}
}

// between moves the clock, and brings sessions back from their snapshots.
func (r *round) between(fate *rand.Rand, minutes int) {
	for _, l := range r.current {
		if fate.IntN(4) == 0 {
			r.happens(l, save, func() error { return l.save(r.server) })
		}
	}
	r.server.Advance(time.Duration(minutes) * time.Minute)
	r.minute += minutes
	for _, l := range r.current {
		r.happens(l, tick, func() error {
			// A key whose time is over is dropped when somebody asks for it.
			return r.server.Client.Exists(context.Background(), l.key).Err()
		})
		if fate.IntN(8) == 0 && l.snapshot.taken {
			r.happens(l, restore, func() error { return l.restore(r.server) })
		}
	}
}

func (r *round) happens(l *life, op operation, do func() error) {
	call := r.moment.Add(1)
	if err := do(); err != nil {
		l.problem("%s: %v", op, err)
	}
	l.record(request{op: op, sid: l.sid, minute: r.minute}, outcome{}, call, r.moment.Add(1))
}

func (l *life) save(s *redistest.Server) error {
	ctx := context.Background()
	fields, err := s.Client.HGetAll(ctx, l.key).Result()
	if err != nil {
		return err
	}
	expires, err := s.Client.PExpireTime(ctx, l.key).Result()
	if err != nil {
		return err
	}
	_, err = s.Client.ZScore(ctx, l.index, l.sid).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	l.snapshot = snapshot{taken: true, fields: fields, expires: expires, indexed: err == nil}
	return nil
}

func (l *life) restore(s *redistest.Server) error {
	ctx := context.Background()
	// It may have been ended since: an end that Redis has forgotten is no end.
	l.endedAt, l.over, l.restored = 0, false, true
	_, err := s.Client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, l.key)
		if len(l.snapshot.fields) > 0 {
			p.HSet(ctx, l.key, l.snapshot.fields)
			p.PExpireAt(ctx, l.key, time.UnixMilli(l.snapshot.expires.Milliseconds()))
		}
		p.ZRem(ctx, l.index, l.sid)
		if l.snapshot.indexed {
			p.ZAdd(ctx, l.index, redis.Z{Member: l.sid})
		}
		return nil
	})
	return err
}

// lastReplay presents a spent token at the end of a life, out of every window,
// and sees that the session is ended by it and stays so.
func (r *round) lastReplay(l *life) {
	w := r.wires[0][0]
	w.disarm()
	if r.read(l, r.store) != nil {
		return // Over already.
	}
	s, err := r.store.Get(context.Background(), l.sid)
	if err != nil {
		l.problem("read: %v", err)
		return
	}
	if p, _ := modelPolicy(l.client); r.server.Now().Sub(s.RotatedAt) < p.Window {
		return // The clock went back once too often.
	}
	var spent *refresh.Grant
	for generation, g := range l.grants {
		if generation < s.Generation && (spent == nil || generation > spent.Session.Generation) {
			spent = g
		}
	}
	if spent == nil {
		return // Never refreshed.
	}
	p := l.presented()
	newest := p.Token
	l.robbed = true
	p.Token, p.RetryKey = spent.Token, "the last thief"
	w.disarm()
	_, err = r.present(l, w, p)
	if e := (*refresh.ReuseError)(nil); !errors.As(err, &e) {
		l.problem("generation %d presented at generation %d: %v", spent.Session.Generation, s.Generation, err)
		return
	}
	p.Token, p.RetryKey = newest, "device"
	w.disarm()
	if _, err := r.present(l, w, p); !errors.Is(err, refresh.ErrReused) {
		l.problem("after a replay its own client was told: %v", err)
	}
	if err := r.read(l, r.store); !errors.Is(err, refresh.ErrEnded) {
		l.problem("after a replay the session reads as: %v", err)
	}
}
