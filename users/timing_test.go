package users_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/users"
)

// advantage says how well the times of two kinds of requests tell the kinds
// apart: 0 if a longer time says nothing about the kind, 1 if all of the first
// take longer than all of the second, -1 if it is the other way round. It is
// Mann and Whitney's U, scaled; outliers count no more than anything else.
func advantage(a, b []time.Duration) float64 {
	type sample struct {
		took  time.Duration
		first bool
	}
	var all []sample
	for _, took := range a {
		all = append(all, sample{took, true})
	}
	for _, took := range b {
		all = append(all, sample{took, false})
	}
	slices.SortFunc(all, func(x, y sample) int { return int(x.took - y.took) })
	ranks := 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].took == all[i].took {
			j++
		}
		for _, s := range all[i:j] {
			if s.first {
				ranks += float64(i+1+j) / 2 // ties share their ranks
			}
		}
		i = j
	}
	n, m := float64(len(a)), float64(len(b))
	u := ranks - n*(n+1)/2
	return 2*u/(n*m) - 1
}

// login is one kind of request that is refused.
type login struct{ username, password string }

// times makes so many logins of each kind, in an order that nobody knows, so that
// what the machine does meanwhile meets all kinds alike.
func times(t *testing.T, each int, kinds map[string]login, authenticate func(context.Context, login) error) map[string][]time.Duration {
	t.Helper()
	var order []string
	for kind := range kinds {
		order = append(order, slices.Repeat([]string{kind}, each)...)
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	took := map[string][]time.Duration{}
	for _, kind := range order {
		began := time.Now()
		err := authenticate(t.Context(), kinds[kind])
		took[kind] = append(took[kind], time.Since(began))
		if !errors.Is(err, users.ErrCredentials) {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	return took
}

// toldApart returns the kinds that are told from an unknown user's by more than
// the bound, in each of some rounds: what the machine does meanwhile may look like
// a difference once.
func toldApart(t *testing.T, rounds, each int, bound float64, kinds map[string]login, authenticate func(context.Context, login) error) map[string]float64 {
	t.Helper()
	apart := map[string]float64{}
	for kind := range kinds {
		apart[kind] = math.Inf(1)
	}
	for round := 0; round < rounds && len(apart) > 0; round++ {
		took := times(t, each, kinds, authenticate)
		for kind := range apart {
			if apart[kind] = advantage(took[kind], took["unknown"]); math.Abs(apart[kind]) <= bound {
				delete(apart, kind)
			}
		}
		t.Logf("round %d: told apart: %v", round, apart)
	}
	return apart
}

// Row 57: nobody learns from the time that a refusal takes whether a user exists,
// or is disabled. Hashes cost next to nothing here, so that everything else shows
// that a real one would cover up.
func TestRow57RefusalsTakeTheSameTime(t *testing.T) {
	s := redistest.Redis(t)
	h := newHouse(s.Client, s.Prefix)
	h.add(t, "alice", "admin", "reports:read")
	h.add(t, "carol")
	if _, err := h.SetDisabled(t.Context(), "carol", true); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]login{
		"unknown":                  {"nobdy", password},
		"wrong password":           {"alice", password + "x"},
		"disabled":                 {"carol", password},
		"disabled, wrong password": {"carol", password + "x"},
	}
	real := func(ctx context.Context, l login) error {
		_, err := h.Authenticate(ctx, l.username, l.password)
		return err
	}
	// without answers users of this name at once, as soon as it has asked Redis.
	without := func(username string) func(context.Context, login) error {
		return func(ctx context.Context, l login) error {
			if l.username != username {
				return real(ctx, l)
			}
			if _, err := h.Get(ctx, username); err != nil && !errors.Is(err, users.ErrUnknownUser) {
				return err
			}
			return users.ErrCredentials
		}
	}
	const bound = 0.1
	for kind, a := range toldApart(t, 5, 2000, bound, kinds, real) {
		t.Errorf("%s: told from an unknown user by the time: %.2f", kind, a)
	}
	// The measure finds what it is to find: an answer without a hashing.
	if apart := toldApart(t, 1, 300, 3*bound, kinds, without("nobdy")); len(apart) != len(kinds)-1 {
		t.Errorf("an unknown user's hashing is left out, and nobody notices: %v", apart)
	}
	if apart := toldApart(t, 1, 300, 3*bound, kinds, without("carol")); len(apart) != 2 {
		t.Errorf("a disabled user's hashing is left out, and nobody notices: %v", apart)
	}
}
