package verify_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

func askFor(v *verify.Verifier, p verify.Policy, r *http.Request) guarded {
	g := guarded{ResponseRecorder: httptest.NewRecorder()}
	v.Require(p)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		g.reached = true
		g.claims, _ = verify.Claims(r.Context())
	})).ServeHTTP(g, r)
	return g
}

func TestPolicyAsksForScopesAndRoles(t *testing.T) {
	k := newKeys(t)
	v := newVerifier(t, config(k))
	with := func(scope string, roles ...string) string {
		return k.sign(t, func(c *tokens.Claims) { c.Scope, c.Roles = scope, roles })
	}
	for _, c := range []struct {
		name   string
		token  string
		policy verify.Policy
		want   int
		scope  string // in the challenge
	}{
		{"nothing asked, nothing there", with(""), verify.Policy{}, 200, ""},
		{"the scope", with("notes:read"), verify.Policy{Scopes: []string{"notes:read"}}, 200, ""},
		{"one of several", with("openid notes:read mail"), verify.Policy{Scopes: []string{"notes:read"}}, 200, ""},
		{"all of several", with("b a"), verify.Policy{Scopes: []string{"a", "b"}}, 200, ""},
		{"not all", with("a"), verify.Policy{Scopes: []string{"a", "b"}}, 403, "a b"},
		{"a part of the word", with("notes:readwrite"), verify.Policy{Scopes: []string{"notes:read"}}, 403, "notes:read"},
		{"another case", with("Notes:read"), verify.Policy{Scopes: []string{"notes:read"}}, 403, "notes:read"},
		{"no scope", with(""), verify.Policy{Scopes: []string{"a"}}, 403, "a"},
		{"a role is no scope", with("", "a"), verify.Policy{Scopes: []string{"a"}}, 403, "a"},
		{"the role", with("", "editor"), verify.Policy{Roles: []string{"editor"}}, 200, ""},
		{"one of the roles", with("", "viewer", "admin"), verify.Policy{Roles: []string{"editor", "admin"}}, 200, ""},
		{"another role", with("", "viewer"), verify.Policy{Roles: []string{"editor"}}, 403, ""},
		{"no role", with(""), verify.Policy{Roles: []string{"editor"}}, 403, ""},
		{"a scope is no role", with("editor"), verify.Policy{Roles: []string{"editor"}}, 403, ""},
		{"both", with("a", "editor"), verify.Policy{Scopes: []string{"a"}, Roles: []string{"editor"}}, 200, ""},
		{"one of both", with("a", "viewer"), verify.Policy{Scopes: []string{"a"}, Roles: []string{"editor"}}, 403, "a"},
	} {
		g := askFor(v, c.policy, request("Bearer "+c.token))
		if g.Code != c.want || g.reached != (c.want == 200) {
			t.Errorf("%s: %d %s", c.name, g.Code, g.Body)
		}
		// Again, from the cache.
		if g := askFor(v, c.policy, request("Bearer "+c.token)); g.Code != c.want {
			t.Errorf("%s, again: %d", c.name, g.Code)
		}
		if c.want != 403 {
			continue
		}
		checkError(t, c.name, g, "insufficient_scope")
		challenge := `Bearer error="insufficient_scope", error_description="the access token does not allow this"`
		if c.scope != "" {
			challenge += `, scope="` + c.scope + `"`
		}
		if got := g.Header().Get("WWW-Authenticate"); got != challenge {
			t.Errorf("%s: WWW-Authenticate: %s", c.name, got)
		}
		if _, err := v.VerifyFor(context.Background(), c.policy, c.token); !errors.Is(err, verify.ErrForbidden) {
			t.Errorf("%s: VerifyFor: %v", c.name, err)
		}
	}
}

// That a token lacks a scope is told to nobody whose token is no good.
func TestRefusalComesBeforeForbidden(t *testing.T) {
	k := newKeys(t)
	c := config(k)
	c.Denied = func(_ context.Context, c *tokens.Claims) (bool, error) { return c.ID == "revoked", nil }
	v := newVerifier(t, c)
	revoked := k.sign(t, func(c *tokens.Claims) { c.ID = "revoked" })
	if g := askFor(v, verify.Policy{Scopes: []string{"a"}}, request("Bearer "+revoked)); g.Code != http.StatusUnauthorized {
		t.Errorf("%d", g.Code)
	}
}

// A route whose policy cannot be kept must not come into being.
func TestRequireRefusesWhatItCannotDo(t *testing.T) {
	v, _, k := replicated(t)
	for name, p := range map[string]verify.Policy{
		"strict with nobody to ask": {Strict: true},
		"negative freshness":        {Freshness: -time.Second},
		"unknown otherwise":         {Otherwise: 2},
		"an empty scope":            {Scopes: []string{""}},
		"two scopes in one":         {Scopes: []string{"a b"}},
		"a quote in a scope":        {Scopes: []string{`a"b`}},
		"an empty role":             {Roles: []string{""}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the route was made", name)
				}
			}()
			v.Require(p)
		}()
		if c, err := v.VerifyFor(context.Background(), p, k.sign(t, fresh())); c != nil || err == nil {
			t.Errorf("%s: VerifyFor: %v, %v", name, c, err)
		}
	}
}
