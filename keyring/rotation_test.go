package keyring_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tokens"
)

const (
	every = 30 * 24 * time.Hour
	lead  = 15 * time.Minute
)

// scheduled opens a ring with a schedule of the test's own.
func scheduled(t *testing.T, s *redistest.Server, schedule keyring.Schedule, secrets ...[]byte) *keyring.Ring {
	t.Helper()
	if len(secrets) == 0 {
		secrets = [][]byte{newSecret}
	}
	r, err := keyring.Open(t.Context(), s.Client, keyring.Options{Prefix: s.Prefix, Secrets: secrets, Schedule: schedule})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func daily(t *testing.T, s *redistest.Server) *keyring.Ring {
	t.Helper()
	return scheduled(t, s, keyring.Schedule{Every: every, Lead: lead})
}

// catchUp lets rings look at Redis once, in this order.
func catchUp(t *testing.T, rings ...*keyring.Ring) {
	t.Helper()
	for _, r := range rings {
		if err := r.FollowOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func rotate(t *testing.T, r *keyring.Ring) time.Time {
	t.Helper()
	from, err := r.Rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return from
}

// only returns the key of a ring that is in a state, and fails the test unless
// there is exactly one.
func only(t *testing.T, r *keyring.Ring, state keyring.State) keyring.Key {
	t.Helper()
	all := in(r, state)
	if len(all) != 1 {
		t.Fatalf("%d keys are %s in %+v", len(all), state, r.Keys())
	}
	return all[0]
}

func in(r *keyring.Ring, state keyring.State) []keyring.Key {
	return slices.DeleteFunc(r.Keys(), func(k keyring.Key) bool { return k.State != state })
}

// published returns the ids that verifiers see.
func published(t *testing.T, r *keyring.Ring) []string {
	t.Helper()
	text, err := json.Marshal(r.KeySet())
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []struct {
			Kid string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range set.Keys {
		ids = append(ids, k.Kid)
	}
	return ids
}

// sound fails the test unless the ring has one current key, which signs, one
// next, and shows verifiers exactly its keys.
func sound(t *testing.T, r *keyring.Ring) {
	t.Helper()
	current, next := only(t, r, keyring.Current), only(t, r, keyring.Next)
	if got := r.Signer().ID(); got != current.ID || got == next.ID {
		t.Fatalf("%s signs, and not the current key: %+v", got, r.Keys())
	}
	var ids []string
	for _, k := range r.Keys() {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	if got := published(t, r); !slices.Equal(got, ids) {
		t.Fatalf("published %q of %q", got, ids)
	}
}

// near allows for the time that a test takes on a server whose time runs.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Second }

// token signs one that is valid for an hour from now on.
func token(t *testing.T, r *keyring.Ring, now time.Time) string {
	t.Helper()
	signed, err := r.Signer().Sign(claimsAt(now))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func claimsAt(now time.Time) tokens.Claims {
	c := claims()
	c.IssuedAt, c.AuthTime, c.ExpiresAt = now, now, now.Add(tokens.MaxLifetime)
	return c
}

func verifierAt(t *testing.T, now func() time.Time) *tokens.Verifier {
	t.Helper()
	v, err := tokens.NewVerifier(tokens.Config{Issuer: claims().Issuer, Audience: claims().Issuer, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestNewRingHasANextKeyThatDoesNotSign(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		r := daily(t, s)
		sound(t, r)
		if len(r.Keys()) != 2 {
			t.Errorf("keys %+v", r.Keys())
		}
		current, next := only(t, r, keyring.Current), only(t, r, keyring.Next)
		if !near(current.SignsFrom, s.Now()) || !near(next.PublishedAt, s.Now()) || !next.SignsFrom.IsZero() || !current.SignedUntil.IsZero() {
			t.Errorf("at %v: %+v", s.Now(), r.Keys())
		}
		before := value(t, s)
		s.Advance(every / 2)
		catchUp(t, r, r)
		if value(t, s) != before || r.Signer().ID() != current.ID {
			t.Error("the ring was changed, and nothing was due")
		}
	})
}

// life is what a test saw of a key.
type life struct{ published, signed time.Time }

// Over a hundred days, with instances that look at Redis at different times.
// None lags behind by more than 45 s: a token of a key must expire before the
// key goes, and an instance signs with the old key until it looks.
func TestRotationOverTime(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		rings := []*keyring.Ring{daily(t, s), daily(t, s), daily(t, s)}
		random := rand.New(rand.NewPCG(1, 2))
		first := rings[0].Signer().ID()
		began := s.Now()

		type issued struct {
			token string
			at    time.Time
		}
		var live []issued
		lives := map[string]*life{}
		now := began
		v := verifierAt(t, func() time.Time { return now })
		expired := func(i issued) bool { return !now.Before(i.at.Add(tokens.MaxLifetime)) }

		// use holds a ring to what the test has seen, and signs with it.
		use := func(r *keyring.Ring) {
			t.Helper()
			now = s.Now()
			for _, id := range published(t, r) {
				if lives[id] == nil {
					lives[id] = &life{published: now}
				}
			}
			l := lives[r.Signer().ID()]
			if l.signed.IsZero() && r.Signer().ID() != first && now.Before(l.published.Add(lead-2*time.Second)) {
				t.Errorf("a key signs %v after it was published", now.Sub(l.published))
			}
			l.signed = now
			live = append(live, issued{token(t, r, now), now})
		}
		check := func() {
			t.Helper()
			now = s.Now()
			live = slices.DeleteFunc(live, expired)
			for range min(4, len(live)) {
				i := live[random.IntN(len(live))]
				for n, r := range rings {
					if _, err := v.Verify(i.token, r.KeySet()); err != nil {
						t.Errorf("ring %d refuses a token of %v: %v", n, now.Sub(i.at), err)
					}
				}
			}
			if len(live) > 0 {
				if _, err := v.Verify(live[0].token, rings[random.IntN(len(rings))].KeySet()); err != nil {
					t.Errorf("the oldest token, of %v: %v", now.Sub(live[0].at), err)
				}
			}
		}
		// all lets every ring look, in any order, and sign after each look:
		// the others have not noticed yet.
		all := func() {
			t.Helper()
			now = s.Now()
			for _, r := range rings { // they might have signed until now
				lives[r.Signer().ID()].signed = now
			}
			for _, n := range random.Perm(len(rings)) {
				catchUp(t, rings[n])
				use(rings[random.IntN(len(rings))])
			}
			check()
			for _, r := range rings {
				sound(t, r)
				ids := published(t, r)
				for id, l := range lives {
					had, signed := slices.Contains(ids, id), now.Sub(l.signed)
					switch {
					case l.signed.IsZero() && !had:
						t.Errorf("%s went before it signed", id)
					// What a lagging ring signed came a little after the key's
					// time was over; that is what the extra minute is for.
					case !l.signed.IsZero() && signed < tokens.MaxLifetime+tokens.Leeway && !had:
						t.Errorf("%s went %v after it had signed", id, signed)
					case !l.signed.IsZero() && signed > keyring.Keep+time.Second && had:
						t.Errorf("%s is there %v after it had signed", id, signed)
					}
				}
			}
		}

		use(rings[0])
		signers, burst := 0, 0
		last := ""
		for now = began; now.Before(began.Add(100*24*time.Hour)) && !t.Failed(); now = s.Now() {
			all()
			if id := rings[0].Signer().ID(); id != last {
				last, burst = id, 14
				signers++
			}
			// Some instances lag a little.
			for range random.IntN(3) {
				s.Advance(time.Duration(random.Int64N(int64(20 * time.Second))))
				catchUp(t, rings[random.IntN(len(rings))])
				use(rings[random.IntN(len(rings))])
				check()
			}
			catchUp(t, rings...)
			if burst > 0 {
				burst--
				s.Advance(time.Duration(random.Int64N(int64(12 * time.Minute))))
			} else {
				s.Advance(time.Duration(random.Int64N(int64(72 * time.Hour))))
			}
		}
		if signers != 4 {
			t.Errorf("%d keys have signed in 100 days, want 4", signers)
		}
	})
}

// The last token of a key may come from an instance that has not noticed yet,
// and is good for an hour, plus the verifiers' leeway.
func TestOldKeyVerifiesItsLastTokenAndThenGoes(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		a, late := daily(t, s), daily(t, s)
		s.Advance(lead)
		old := a.Signer().ID()
		rotated := rotate(t, a)
		now := s.Now()
		v := verifierAt(t, func() time.Time { return now })
		s.Advance(45 * time.Second)
		now = s.Now()
		if late.Signer().ID() != old {
			t.Fatal("has noticed")
		}
		last := token(t, late, now)
		for _, since := range []time.Duration{time.Minute, time.Hour, time.Hour + 57*time.Second} {
			s.Advance(rotated.Add(since).Sub(s.Now()))
			catchUp(t, a, late)
			now = s.Now()
			for _, r := range []*keyring.Ring{a, late, daily(t, s)} {
				if _, err := v.Verify(last, r.KeySet()); err != nil {
					t.Errorf("%v later: %v", since, err)
				}
			}
		}
		s.Advance(rotated.Add(time.Hour + 75*time.Second).Sub(s.Now()))
		catchUp(t, a, late)
		for _, r := range []*keyring.Ring{a, late, daily(t, s)} {
			sound(t, r)
			if slices.Contains(published(t, r), old) {
				t.Error("the key is still there")
			}
		}
	})
}

func TestRotate(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		a, b := daily(t, s), daily(t, s)
		for round := range 3 {
			current, next := only(t, a, keyring.Current), only(t, a, keyring.Next)

			// Unripe: as soon as all verifiers have it, and not before.
			from := rotate(t, a)
			if !from.Equal(next.PublishedAt.Add(lead)) {
				t.Errorf("round %d: signs from %v, published %v", round, from, next.PublishedAt)
			}
			if again := rotate(t, b); !again.Equal(from) {
				t.Errorf("commanded again: %v instead of %v", again, from)
			}
			s.Advance(from.Sub(s.Now()) - 5*time.Second)
			catchUp(t, a, b)
			sound(t, a)
			if a.Signer().ID() != current.ID || b.Signer().ID() != current.ID {
				t.Fatal("signs before every verifier can know it")
			}
			s.Advance(5 * time.Second)
			catchUp(t, b, a)
			if a.Signer().ID() != next.ID || b.Signer().ID() != next.ID {
				t.Fatal("does not sign when it may")
			}
			sound(t, a)
			if old := in(a, keyring.Previous); len(old) == 0 || old[len(old)-1].ID != current.ID {
				t.Errorf("the old key is not kept: %+v", a.Keys())
			}

			// It was commanded twice, and once is enough.
			s.Advance(2 * lead)
			catchUp(t, a, b)
			if a.Signer().ID() != next.ID {
				t.Error("rotated once more")
			}

			// Ripe: at once.
			next = only(t, a, keyring.Next)
			if from := rotate(t, a); !near(from, s.Now()) || a.Signer().ID() != next.ID {
				t.Errorf("round %d: a ripe key signs from %v on, now is %v", round, from, s.Now())
			}
			accepts(t, a, b) // which has it since long
			catchUp(t, b)
			sound(t, b)
			accepts(t, b, a)
			if b.Signer().ID() != next.ID {
				t.Error("another instance signs with another key")
			}
		}
	})
}

func TestTooManyRotations(t *testing.T) {
	for name, followed := range map[string]bool{"followed": true, "command line only": false} {
		t.Run(name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				const short = time.Second
				r := scheduled(t, s, keyring.Schedule{Every: every, Lead: short})
				var err error
				for range 40 {
					s.Advance(short)
					if _, err = r.Rotate(t.Context()); err != nil {
						break
					}
					sound(t, r)
				}
				if !errors.Is(err, keyring.ErrTooMany) {
					t.Fatalf("ended with %v and %d keys", err, len(r.Keys()))
				}
				if n := len(published(t, r)); n < 20 || n > 32 {
					t.Errorf("%d keys", n)
				}
				sound(t, r)
				accepts(t, r, scheduled(t, s, keyring.Schedule{}))

				s.Advance(keyring.Keep)
				if followed {
					catchUp(t, r)
				}
				next := only(t, r, keyring.Next).ID
				rotate(t, r)
				if r.Signer().ID() != next {
					t.Error("does not sign")
				}
				if n := len(r.Keys()); n != 3 {
					t.Errorf("%d keys an hour later", n)
				}
				sound(t, r)
			})
		})
	}
}

func TestDrop(t *testing.T) {
	for name, c := range map[string]struct {
		state   keyring.State
		wait    time.Duration // since the next key was published
		promote bool
	}{
		"previous":            {keyring.Previous, 0, false},
		"next":                {keyring.Next, 0, false},
		"ripe next":           {keyring.Next, lead, false},
		"current, next ripe":  {keyring.Current, lead, true},
		"current, not so yet": {keyring.Current, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
				a, b := daily(t, s), daily(t, s)
				s.Advance(lead)
				rotate(t, a)
				s.Advance(c.wait)
				catchUp(t, a, b)

				victim, next, current := only(t, a, c.state).ID, only(t, a, keyring.Next).ID, only(t, a, keyring.Current).ID
				now := s.Now()
				v := verifierAt(t, func() time.Time { return now })
				good := token(t, a, now)
				if err := a.Drop(t.Context(), victim); err != nil {
					t.Fatal(err)
				}
				catchUp(t, b)
				for _, r := range []*keyring.Ring{a, b, daily(t, s)} {
					sound(t, r)
					if slices.Contains(published(t, r), victim) {
						t.Error("the key is still published")
					}
					want := current
					if c.promote {
						want = next
					}
					if got := r.Signer().ID(); got != want {
						t.Errorf("%s signs, want %s", got, want)
					}
					switch _, err := v.Verify(good, r.KeySet()); {
					case c.promote && !errors.Is(err, tokens.ErrUnknownKey):
						t.Errorf("a token of the dropped key: %v", err)
					case !c.promote && err != nil:
						t.Errorf("a token of another key: %v", err)
					}
				}
				accepts(t, a, b)
				accepts(t, b, a)

				// There is nothing left to do.
				before := value(t, s)
				for _, id := range []string{victim, "", "x"} {
					if err := b.Drop(t.Context(), id); !errors.Is(err, keyring.ErrUnknownKey) {
						t.Errorf("dropped %q: %v", id, err)
					}
				}
				catchUp(t, a, b)
				if value(t, s) != before {
					t.Error("the ring was changed once more")
				}
			})
		})
	}
}

func TestReseal(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		before := mustOpen(t, s, oldSecret)
		if !before.SealedUnderFirst() {
			t.Error("a new ring is not sealed under the only secret")
		}
		r := mustOpen(t, s, newSecret, oldSecret)
		if r.SealedUnderFirst() {
			t.Error("says that the old secret can go")
		}
		if err := r.Reseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !r.SealedUnderFirst() {
			t.Error("not sealed under the first")
		}
		after := mustOpen(t, s, newSecret)
		if fmt.Sprint(after.Keys()) != fmt.Sprint(before.Keys()) {
			t.Errorf("%+v became %+v", before.Keys(), after.Keys())
		}
		accepts(t, before, after)
		if _, err := open(t, s, oldSecret); !errors.Is(err, keyring.ErrSealed) {
			t.Errorf("opened with the old secret: %v", err)
		}
		// An instance that was forgotten goes on with what it has.
		stored := value(t, s)
		if err := before.FollowOnce(t.Context()); !errors.Is(err, keyring.ErrSealed) {
			t.Errorf("follows with the old secret: %v", err)
		}
		accepts(t, before, after)
		if value(t, s) != stored {
			t.Error("the ring was changed with the old secret")
		}
	})
}

// Whatever anyone's change produced must be in the ring that is there at last,
// and the keys must have followed each other without a gap or a fork.
func TestConcurrentChangesLoseNothing(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		schedule := keyring.Schedule{Every: every, Lead: 10 * time.Millisecond}
		orders := [][][]byte{{newSecret, oldSecret}, {oldSecret, newSecret}}
		var enough atomic.Bool
		signers := make([]map[string]bool, 8)
		var all sync.WaitGroup
		for i := range signers {
			r := scheduled(t, s, schedule, orders[i%2]...)
			signers[i] = map[string]bool{}
			all.Go(func() {
				for n := i; !enough.Load(); n++ {
					var err error
					switch n % 3 {
					case 0:
						_, err = r.Rotate(t.Context())
					case 1:
						err = r.Reseal(t.Context())
					default:
						err = r.FollowOnce(t.Context())
					}
					if err != nil && !errors.Is(err, keyring.ErrTooMany) && !errors.Is(err, keyring.ErrContended) {
						t.Error(err)
					}
					signers[i][r.Signer().ID()] = true
					if len(in(r, keyring.Current)) != 1 {
						t.Errorf("held %+v", r.Keys())
					}
				}
			})
		}
		reader := readAlong(t, s, orders[0])
		enough.Store(true)
		all.Wait()
		if t.Failed() {
			return
		}

		last := scheduled(t, s, schedule, orders[0]...)
		sound(t, last)
		signed := append(in(last, keyring.Previous), only(t, last, keyring.Current))
		for i := 1; i < len(signed); i++ {
			if !signed[i-1].SignedUntil.Equal(signed[i].SignsFrom) {
				t.Errorf("%+v is followed by %+v", signed[i-1], signed[i])
			}
			if signed[i].SignsFrom.Before(signed[i].PublishedAt.Add(schedule.Lead)) {
				t.Errorf("signed too early: %+v", signed[i])
			}
		}
		for _, seen := range append(signers, reader) {
			for id := range seen {
				if !slices.ContainsFunc(signed, func(k keyring.Key) bool { return k.ID == id }) {
					t.Errorf("%s has signed and is lost", id)
				}
			}
		}
	})
}

// readAlong opens what is in Redis, over and over, until several keys have
// signed, and returns those.
func readAlong(t *testing.T, s *redistest.Server, secrets [][]byte) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	for began := time.Now(); time.Since(began) < 350*time.Millisecond || len(seen) < 5; {
		if time.Since(began) > 10*time.Second {
			t.Errorf("only %d keys have signed", len(seen))
			break
		}
		r, err := keyring.Read(t.Context(), s.Client, keyring.Options{Prefix: s.Prefix, Secrets: secrets})
		if err != nil {
			t.Error(err)
			break
		}
		if n := len(in(r, keyring.Current)); n != 1 {
			t.Errorf("%d current keys in Redis", n)
		}
		seen[r.Signer().ID()] = true
		if !s.Real() {
			s.Advance(time.Millisecond) // its time does not run
		}
	}
	return seen
}

func TestAlgorithms(t *testing.T) {
	for _, alg := range tokens.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			s := redistest.Miniredis(t)
			schedule := keyring.Schedule{Algorithm: alg, Every: every, Lead: lead}
			a := scheduled(t, s, schedule)
			sound(t, a)
			if got := a.Signer().Algorithm(); got != alg || only(t, a, keyring.Next).Algorithm != alg {
				t.Errorf("signs with %s: %+v", got, a.Keys())
			}
			s.Advance(lead)
			b := scheduled(t, s, schedule)
			accepts(t, a, b)
			accepts(t, b, a)
			next := only(t, a, keyring.Next).ID
			rotate(t, b)
			if b.Signer().ID() != next {
				t.Error("does not sign")
			}
			accepts(t, b, a)
			accepts(t, a, b)
			accepts(t, b, scheduled(t, s, schedule))
		})
	}
	if _, err := keyring.Open(t.Context(), redistest.Miniredis(t).Client, keyring.Options{
		Prefix: "p", Secrets: [][]byte{newSecret}, Schedule: keyring.Schedule{Algorithm: "none"},
	}); err == nil {
		t.Error("opened with an algorithm that does not exist")
	}
}

func TestChangeOfAlgorithm(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		before := daily(t, s)
		s.Advance(24 * time.Hour)
		after := scheduled(t, s, keyring.Schedule{Algorithm: "EdDSA", Every: every, Lead: lead})
		catchUp(t, after)
		sound(t, after)
		// Not by itself: instances may be configured differently for a while.
		if next := only(t, after, keyring.Next); next.ID != only(t, before, keyring.Next).ID {
			t.Errorf("the next key was replaced: %+v", next)
		}
		from := rotate(t, after)
		sound(t, after)
		current, next := only(t, after, keyring.Current), only(t, after, keyring.Next)
		if current.ID != before.Signer().ID() || current.Algorithm != "ES256" || next.Algorithm != "EdDSA" {
			t.Fatalf("keys %+v", after.Keys())
		}
		if len(after.Keys()) != 2 || !near(next.PublishedAt, s.Now()) {
			t.Errorf("keys %+v", after.Keys())
		}
		// Its predecessor was ripe; it is not.
		if !from.Equal(next.PublishedAt.Add(lead)) || after.Signer().ID() != current.ID {
			t.Errorf("signs from %v", from)
		}
		s.Advance(lead)
		now := s.Now()
		v := verifierAt(t, func() time.Time { return now })
		old := token(t, after, now)
		catchUp(t, after)
		sound(t, after)
		if got := after.Signer(); got.ID() != next.ID || got.Algorithm() != "EdDSA" {
			t.Errorf("%v signs", got)
		}
		for _, signed := range []string{old, token(t, after, now)} {
			if _, err := v.Verify(signed, after.KeySet()); err != nil {
				t.Error(err)
			}
		}
		restarted := scheduled(t, s, keyring.Schedule{Algorithm: "EdDSA", Every: every, Lead: lead})
		accepts(t, after, restarted)
		accepts(t, restarted, after)
	})
}

// recorder keeps the changes that were sent. If there is a fault, they are not
// sent, and end with it.
type recorder struct {
	mu    sync.Mutex
	runs  [][]any
	fault error
}

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		// Name, script, number of keys, key, and the two forms of the ring.
		if (cmd.Name() != "eval" && cmd.Name() != "evalsha") || len(cmd.Args()) != 6 {
			return next(ctx, cmd)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.fault != nil {
			cmd.SetErr(r.fault)
			return r.fault
		}
		err := next(ctx, cmd)
		if err == nil {
			r.runs = append(r.runs, slices.Clone(cmd.Args()))
		}
		return err
	}
}

// The network may deliver a command twice, and the second time late.
func TestLateDuplicateOfAChangeDoesNothing(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		r := daily(t, s)
		record := &recorder{}
		s.Client.AddHook(record)
		again := func(when string, want int64) {
			t.Helper()
			before := value(t, s)
			for _, args := range slices.Clone(record.runs) {
				reply, err := s.Client.Do(t.Context(), args...).Slice()
				if err != nil || len(reply) != 2 || reply[0] != name(s) {
					t.Fatalf("%s: %v, %v", when, reply, err)
				}
				if reply[1] != want {
					t.Errorf("%s: replies %v, want %d", when, reply[1], want)
				}
				if value(t, s) != before {
					t.Errorf("%s: the ring was changed", when)
				}
			}
		}
		stolen := r.Signer().ID()
		if err := r.Drop(t.Context(), stolen); err != nil {
			t.Fatal(err)
		}
		if len(record.runs) != 1 {
			t.Fatalf("%d changes", len(record.runs))
		}
		again("at once", 1)
		s.Advance(lead)
		rotate(t, r)
		record.runs = record.runs[:1]
		again("after another change", 0)
		s.Advance(2 * every)
		catchUp(t, r)
		record.runs = record.runs[:1]
		again("much later", 0)
		catchUp(t, r)
		sound(t, r)
		if slices.Contains(published(t, r), stolen) {
			t.Error("the dropped key is back")
		}

		if err := s.Client.Del(t.Context(), name(s)).Err(); err != nil {
			t.Fatal(err)
		}
		for _, args := range record.runs[:1] {
			if err := s.Client.Do(t.Context(), args...).Err(); err != nil {
				t.Error(err)
			}
		}
		if n := s.Client.Exists(t.Context(), name(s)).Val(); n != 0 {
			t.Error("an old ring was put where there was none")
		}
	})
}

func TestFailedChangeLeavesTheHeldRing(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		r := daily(t, s)
		record := &recorder{fault: errors.New("the network is down")}
		s.Client.AddHook(record)
		before, stored, set := fmt.Sprint(r.Keys()), value(t, s), r.KeySet()
		s.Advance(2 * every)
		for what, change := range map[string]func() error{
			"rotate": func() error { _, err := r.Rotate(t.Context()); return err },
			"drop":   func() error { return r.Drop(t.Context(), r.Signer().ID()) },
			"reseal": func() error { return r.Reseal(t.Context()) },
			"follow": func() error { return r.FollowOnce(t.Context()) },
		} {
			if err := change(); !errors.Is(err, record.fault) {
				t.Errorf("%s: %v", what, err)
			}
			if fmt.Sprint(r.Keys()) != before || r.KeySet() != set || value(t, s) != stored {
				t.Errorf("%s: %s became %+v", what, before, r.Keys())
			}
		}
		sound(t, r)
		record.fault = nil
		next := only(t, r, keyring.Next).ID
		catchUp(t, r)
		sound(t, r)
		if r.Signer().ID() != next {
			t.Error("what was due is not made up for")
		}
	})
}

// While keys change, nobody's token is refused: this is what the lead is for.
// The servers' time moves on only when all instances follow, so that a slow
// machine does not fail the test.
func TestNoTokenIsRefusedWhileKeysRotate(t *testing.T) {
	// The embedded server is too slow for four instances that look all the time.
	for name, backend := range map[string]func(testing.TB) *redistest.Server{
		"redis": redistest.Redis, "cluster": redistest.Cluster,
	} {
		t.Run(name, func(t *testing.T) { noTokenIsRefused(t, backend(t)) })
	}
}

func noTokenIsRefused(t *testing.T, s *redistest.Server) {
	var clock atomic.Int64
	clock.Store(s.Now().UnixMilli())
	now := func() time.Time { return time.UnixMilli(clock.Load()) }
	v := verifierAt(t, now)
	rings := make([]*keyring.Ring, 4)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for i := range rings {
		rings[i] = daily(t, s)
		all.Go(func() {
			rings[i].Follow(ctx, time.Millisecond, func(err error) {
				// A cancelled request is the end of the test.
				if ctx.Err() == nil {
					t.Error(err)
				}
			})
		})
	}
	var good [8]atomic.Int64
	for n := range good {
		all.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				signed, err := rings[i%4].Signer().Sign(claimsAt(now()))
				if err == nil {
					_, err = v.Verify(signed, rings[(i+1+n%3)%4].KeySet())
				}
				if err != nil {
					t.Error(err)
					return
				}
				good[n].Add(1)
				time.Sleep(time.Millisecond) // the rings want to follow
			}
		})
	}
	everywhere := func(what string, holds func(*keyring.Ring) bool) {
		t.Helper()
		for _, r := range rings {
			eventually(t, what, func() bool { return holds(r) })
		}
	}
	for n := range 20 {
		next := only(t, rings[n%4], keyring.Next).ID
		everywhere("all have the next key", func(r *keyring.Ring) bool { return slices.Contains(published(t, r), next) })
		rotate(t, rings[(n+1)%4])
		s.Advance(lead)
		clock.Add(int64(lead / time.Millisecond))
		everywhere("all sign with it", func(r *keyring.Ring) bool { return r.Signer().ID() == next })
		// Or a goroutine that sleeps would find its token expired.
		for i := range good {
			before := good[i].Load()
			eventually(t, "a token is accepted", func() bool { return t.Failed() || good[i].Load() > before })
		}
	}
	cancel()
	all.Wait()
}
