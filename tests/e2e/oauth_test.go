package e2e_test

import (
	"testing"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

func grant(refresh string, pairs ...string) service.Request {
	return service.Form("/oauth/token", append([]string{"grant_type", "refresh_token", "refresh_token", refresh}, pairs...)...)
}

func revoke(token string, pairs ...string) service.Request {
	return service.Form("/oauth/revoke", append([]string{"token", token}, pairs...)...)
}

// The OAuth routes are the same sessions in other words.
func TestOAuthTokenIsRefresh(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		first := v.Login().OK(t)
		second := v.Send(grant(first.Refresh, "client_id", "mobile")).OK(t)
		third := v.Refresh(second.Refresh, "").OK(t)
		v.Me(third.Access).OK(t)
		// RFC 6749, section 5.2: 400 where our own route says 401.
		v.Send(grant(first.Refresh)).Is(t, 400, "invalid_grant reused")
		v.Send(grant(third.Refresh)).Is(t, 400, "invalid_grant reused")
		v.Refresh(third.Refresh, "").Is(t, 401, "invalid_grant reused")
		v.Me(third.Access).Is(t, 401, "invalid_token")
	})
}

func TestWiderScopeSpendsNothing(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		v.Send(grant(login.Refresh, "scope", "admin")).Is(t, 400, "invalid_scope")
		if g := generation(t, v, login.Refresh); g != 0 {
			t.Errorf("generation %d, want 0", g)
		}
		// Not even a retry key was spent.
		s.Advance(time.Minute)
		v.Send(grant(login.Refresh)).OK(t)
	})
}

func TestRevokeRefreshToken(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		other := v.Login().OK(t)
		for _, hint := range []string{"", "refresh_token", "access_token", "something else"} {
			login := v.Login().OK(t)
			next := v.Refresh(login.Refresh, "").OK(t)
			// An old one will do: revoking is never an alarm.
			v.Send(revoke(login.Refresh, "token_type_hint", hint, "client_id", "mobile")).OK(t)
			v.Refresh(next.Refresh, "").Is(t, 401, "invalid_grant ended")
			v.Me(next.Access).Is(t, 401, "invalid_token")
			v.Send(revoke(login.Refresh)).OK(t)
			v.Send(revoke(login.Refresh, "client_id", "mobile")).OK(t)
		}
		v.Me(other.Access).OK(t)
	})
}

func TestRevokeAccessTokenAlone(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		const key = "5f0c1d6e-8a3b-4c47-9d52-7be1f3a90c26"
		next := v.Refresh(login.Refresh, key).OK(t)
		for _, hint := range []string{"", "refresh_token", "access_token"} {
			v.Send(revoke(next.Access, "token_type_hint", hint)).OK(t)
		}
		v.Me(next.Access).Is(t, 401, "invalid_token")
		v.Me(login.Access).OK(t)
		// A repeated grant is the same grant, and just as revoked.
		v.Me(v.Refresh(login.Refresh, key).OK(t).Access).Is(t, 401, "invalid_token")
		// The session goes on.
		v.Me(v.Refresh(next.Refresh, "").OK(t).Access).OK(t)
	})
}

func TestRevokeWhatMeansNothing(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		expired := claimsOf(v.Me(login.Access).OK(t))
		expired.IssuedAt = expired.IssuedAt.Add(-time.Hour)
		expired.ExpiresAt = expired.IssuedAt.Add(5 * time.Minute)
		for _, token := range []string{
			"x", "a.b.c", login.Access + "x", login.Refresh + "x", sign(t, v.Keys.Signer(), expired),
		} {
			v.Send(revoke(token)).OK(t)
			v.Send(revoke(token, "client_id", "mobile")).OK(t)
		}
		v.Me(login.Access).OK(t)
		v.Refresh(login.Refresh, "").OK(t)
	})
}

func TestTokensOfAnotherClient(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.With(func(c *api.Config) {
			tablet := c.Clients["mobile"]
			tablet.ID = "tablet"
			c.Clients["tablet"] = tablet
		}))
		login := v.Login().OK(t)
		v.Send(service.JSON("/refresh", object("refresh_token", login.Refresh, "client_id", "tablet"))).Is(t, 401, "invalid_grant")
		v.Send(grant(login.Refresh, "client_id", "tablet")).Is(t, 400, "invalid_grant")
		v.Send(revoke(login.Refresh, "client_id", "tablet")).Is(t, 400, "unauthorized_client")
		v.Send(revoke(login.Access, "client_id", "tablet")).Is(t, 400, "unauthorized_client")
		v.Me(login.Access).OK(t)
		if g := generation(t, v, login.Refresh); g != 0 {
			t.Errorf("generation %d, want 0", g)
		}
		v.Refresh(login.Refresh, "").OK(t)

		theirs := v.Send(service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "tablet"))).OK(t)
		if id := v.Me(theirs.Access).OK(t).ClientID; id != "tablet" {
			t.Errorf("client_id %q", id)
		}
		v.Send(grant(theirs.Refresh, "client_id", "tablet")).OK(t)
	})
}
