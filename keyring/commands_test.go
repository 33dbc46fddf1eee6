package keyring_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tokens"
)

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
