package keyring_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

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
