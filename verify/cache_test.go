package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// observed is a verifier that tells whether its last token came from the cache.
func observed(t testing.TB, change ...func(*verify.Config)) (v *verify.Verifier, k keys, cached func(token string) (bool, error)) {
	t.Helper()
	k = newKeys(t)
	c := config(k)
	for _, f := range change {
		f(&c)
	}
	var last verify.Verdict
	c.Observe = func(v verify.Verdict) { last = v }
	v = newVerifier(t, c)
	return v, k, func(token string) (bool, error) {
		_, err := v.Verify(context.Background(), token)
		return last.Cached, err
	}
}

func TestCacheRemembersGoodTokensOnly(t *testing.T) {
	_, k, cached := observed(t)
	good := k.sign(t)
	for i := range 3 {
		if hit, err := cached(good); err != nil || hit != (i > 0) {
			t.Errorf("good token, time %d: from the cache %v, %v", i, hit, err)
		}
	}
	for name, bad := range map[string]string{
		"another's key": newKeys(t).sign(t),
		"expired":       k.sign(t, expired),
		"altered":       good[:len(good)-2] + "AA",
		"longer":        good + "A",
		"shorter":       good[:len(good)-1],
	} {
		for range 2 {
			if hit, err := cached(bad); err == nil || hit {
				t.Errorf("%s: from the cache %v, %v", name, hit, err)
			}
		}
	}
}

// Row 13 and the emergency: a verdict is good for the keys it was made with.
func TestCacheEndsWithTheKeySet(t *testing.T) {
	before, after := newKeys(t), newKeys(t)
	both, err := tokens.NewKeySet(before.Public(), after.Public())
	if err != nil {
		t.Fatal(err)
	}
	source := &rotating{both}
	_, _, cached := observed(t, func(c *verify.Config) { c.Keys = source })
	token := before.sign(t)
	_, _ = cached(token)
	if hit, err := cached(token); !hit || err != nil {
		t.Fatalf("from the cache %v, %v", hit, err)
	}
	source.current = after.set
	if hit, err := cached(token); hit || !errors.Is(err, tokens.ErrUnknownKey) {
		t.Errorf("after its key is gone: from the cache %v, %v", hit, err)
	}
	source.current = nil
	if _, err := cached(token); !errors.Is(err, verify.ErrUnavailable) || errors.Is(err, tokens.ErrInvalid) {
		t.Errorf("without keys: %v", err)
	}
	if _, err := cached("garbage"); !errors.Is(err, tokens.ErrInvalid) {
		t.Errorf("garbage without keys: %v", err)
	}
	source.current = both
	if _, err := cached(token); err != nil {
		t.Errorf("after the keys came back: %v", err)
	}
}

func TestCacheEndsWithTheToken(t *testing.T) {
	clock := now
	_, k, cached := observed(t, func(c *verify.Config) { c.Now = func() time.Time { return clock } })
	token := k.sign(t)
	_, _ = cached(token)
	end := claims().ExpiresAt.Add(tokens.Leeway)
	for _, c := range []struct {
		now  time.Time
		want error
	}{
		{end.Add(-time.Nanosecond), nil},
		{end, tokens.ErrExpired},
		{claims().IssuedAt.Add(-tokens.Leeway), nil},
		{claims().IssuedAt.Add(-tokens.Leeway - time.Second), tokens.ErrClaims},
	} {
		clock = c.now
		if hit, err := cached(token); !hit || !errors.Is(err, c.want) {
			t.Errorf("at %v: from the cache %v, %v, want %v", c.now, hit, err, c.want)
		}
	}
}

func TestCacheEndsWithADenial(t *testing.T) {
	revoked := false
	_, k, cached := observed(t, func(c *verify.Config) {
		c.Denied = func(context.Context, *tokens.Claims) (bool, error) { return revoked, nil }
	})
	token := k.sign(t)
	_, _ = cached(token)
	revoked = true
	if hit, err := cached(token); !hit || !errors.Is(err, verify.ErrDenied) {
		t.Errorf("from the cache %v, %v", hit, err)
	}
}

// However many tokens there are, and however large, the cache stays within its
// size, and each token gets its own claims.
func TestCacheIsBounded(t *testing.T) {
	for _, size := range []int{1, 5, 64} {
		_, k, cached := observed(t, func(c *verify.Config) { c.CacheSize = size })
		var all []string
		for i := range 4*size + 40 {
			all = append(all, k.sign(t, func(c *tokens.Claims) { c.ID = fmt.Sprint(i) }))
		}
		hits := 0
		for range 2 {
			hits = 0
			for _, token := range all {
				hit, err := cached(token)
				if err != nil {
					t.Fatal(err)
				}
				if hit {
					hits++
				}
			}
		}
		// A power of two, in fours.
		if most := max(4, 2*size); hits > most {
			t.Errorf("size %d: %d of %d tokens were remembered", size, hits, len(all))
		}
	}
	_, k, cached := observed(t)
	large := k.sign(t, func(c *tokens.Claims) { c.Scope = strings.Repeat("scope ", 500) })
	for range 2 {
		if hit, err := cached(large); hit || err != nil {
			t.Errorf("large token: from the cache %v, %v", hit, err)
		}
	}
	_, k, cached = observed(t, func(c *verify.Config) { c.CacheSize = -1 })
	token := k.sign(t)
	for range 2 {
		if hit, err := cached(token); hit || err != nil {
			t.Errorf("no cache: from the cache %v, %v", hit, err)
		}
	}
}

func TestCacheConcurrently(t *testing.T) {
	k := newKeys(t)
	c := config(k)
	c.CacheSize = 8 // many tokens for few slots
	v := newVerifier(t, c)
	var all []string
	for i := range 40 {
		all = append(all, k.sign(t, func(c *tokens.Claims) { c.ID = fmt.Sprint(i) }))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range 1000 {
				i := n * 7 % len(all)
				if c, err := v.Verify(context.Background(), all[i]); err != nil || c.ID != fmt.Sprint(i) {
					t.Errorf("token %d: %+v, %v", i, c, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// refreshing counts how often newer keys were asked for.
type refreshing struct {
	rotating
	asked int
}

func (r *refreshing) Refresh() { r.asked++ }

func TestUnknownAndDeniedKeysAskForNewerOnes(t *testing.T) {
	k := newKeys(t)
	source := &refreshing{rotating: rotating{k.set}}
	v, s, _ := replicated(t, func(c *verify.Config) { c.Keys = source })
	s.alive(0)
	verifies := func(token string, want error, asked int) {
		t.Helper()
		if _, err := v.Verify(context.Background(), token); !errors.Is(err, want) || source.asked != asked {
			t.Errorf("%v (want %v), asked %d times (want %d)", err, want, source.asked, asked)
		}
	}
	good := k.sign(t, fresh())
	verifies(good, nil, 0)
	verifies("garbage", tokens.ErrMalformed, 0)
	verifies(good[:len(good)-2]+"AA", tokens.ErrSignature, 0)
	verifies(newKeys(t).sign(t, fresh()), tokens.ErrUnknownKey, 1)
	s.denied("sid", claims().SessionID, time.Now().Add(time.Hour))
	verifies(good, verify.ErrDenied, 1)
	s.denied("kid", k.Public().ID(), time.Now().Add(time.Hour))
	verifies(good, verify.ErrDenied, 2)
}
