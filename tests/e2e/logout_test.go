package e2e_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/tokens"
)

func TestLogout(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		other := v.Login().OK(t)
		for name, by := range map[string]func(first, second service.Answer, expired string) (access, refresh string){
			"access token":         func(_, second service.Answer, _ string) (string, string) { return second.Access, "" },
			"older access token":   func(first, _ service.Answer, _ string) (string, string) { return first.Access, "" },
			"expired access token": func(_, _ service.Answer, expired string) (string, string) { return expired, "" },
			"refresh token":        func(_, second service.Answer, _ string) (string, string) { return "", second.Refresh },
			"used refresh token":   func(first, _ service.Answer, _ string) (string, string) { return "", first.Refresh },
			"both":                 func(_, second service.Answer, expired string) (string, string) { return expired, second.Refresh },
		} {
			t.Run(name, func(t *testing.T) {
				first := v.Login().OK(t)
				second := v.Refresh(first.Refresh, "").OK(t)
				old := claimsOf(v.Me(first.Access).OK(t))
				old.IssuedAt = old.IssuedAt.Add(-7 * 24 * time.Hour)
				old.ExpiresAt = old.IssuedAt.Add(5 * time.Minute)
				expired := sign(t, v.Keys.Signer(), old)
				v.Me(expired).Is(t, 401, "invalid_token")

				access, refresh := by(first, second, expired)
				for range 2 { // twice is fine
					if a := v.Logout(access, refresh); a.Status != http.StatusNoContent {
						t.Errorf("%d %s", a.Status, a.Error)
					}
					v.Me(first.Access).Is(t, 401, "invalid_token")
					v.Me(second.Access).Is(t, 401, "invalid_token")
					v.Refresh(second.Refresh, "").Is(t, 401, "invalid_grant ended")
				}
			})
		}
		v.Me(other.Access).OK(t)
		v.Refresh(other.Refresh, "").OK(t)
		if alarms := v.Log.Find("refresh token reused, session ended"); len(alarms) != 0 {
			t.Errorf("a logout raised an alarm: %v", alarms)
		}
	})
}

// Two tokens of two sessions end both.
func TestLogoutOfTwoSessions(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a, b := v.Login().OK(t), v.Login().OK(t)
		v.Logout(a.Access, b.Refresh).OK(t)
		v.Me(a.Access).Is(t, 401, "invalid_token")
		v.Me(b.Access).Is(t, 401, "invalid_token")
	})
}

// A session can be ended with nothing but what was once genuine.
func TestForgedLogout(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		good := claimsOf(v.Me(login.Access).OK(t))
		stranger, err := tokens.GenerateKey("ES256")
		if err != nil {
			t.Fatal(err)
		}
		changed := func(change func(*tokens.Claims)) string {
			c := good
			change(&c)
			return sign(t, v.Keys.Signer(), c)
		}
		segments := strings.Split(login.Access, ".")
		forged := map[string]string{
			"another's key":       sign(t, stranger, good),
			"another issuer":      changed(func(c *tokens.Claims) { c.Issuer += "/" }),
			"without signature":   segments[0] + "." + segments[1] + ".",
			"two segments":        segments[0] + "." + segments[1],
			"alg none":            "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + segments[1] + ".",
			"another's payload":   segments[0] + "." + strings.Split(sign(t, stranger, good), ".")[1] + "." + segments[2],
			"nothing":             "x",
			"a refresh token":     login.Refresh,
			"more than 8 KiB":     login.Access + strings.Repeat("A", 8<<10),
			"with a line break":   segments[0] + "." + segments[1] + "\t." + segments[2],
			"with a fourth part":  login.Access + ".A",
			"in other characters": strings.ReplaceAll(login.Access, ".", "。"),
		}
		commands := redistest.CommandCount(v.Redis)
		for name, token := range forged {
			if a := v.Logout(token, ""); a.Status != 401 || a.Error != "invalid_token" {
				t.Errorf("%s: %d %s", name, a.Status, a.Error)
			}
			if a := v.Me(token); a.Status != 401 || a.Error != "invalid_token" {
				t.Errorf("/me: %s: %d %s", name, a.Status, a.Error)
			}
		}
		if n := commands.Total(); n != 0 {
			t.Errorf("forgeries cost %d Redis commands: %v", n, commands.Names())
		}
		v.Me(login.Access).OK(t)
		next := v.Refresh(login.Refresh, "").OK(t)

		// One that this issuer has signed is no forgery, whomever it is for: perhaps
		// for an audience of a configuration that is not here, or not any more.
		elsewhere := changed(func(c *tokens.Claims) { c.Audience = []string{"https://other.example.com"} })
		v.Me(elsewhere).Is(t, 401, "invalid_token")
		v.Me(next.Access).OK(t)
		v.Logout(elsewhere, "").OK(t)
		v.Me(next.Access).Is(t, 401, "invalid_token")
	})
}

// What a proxy or an old version has put into one place must not keep somebody
// from logging out by the other.
func TestOneGenuineTokenIsEnoughToLogOut(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		for name, by := range map[string]func(service.Answer) (access, refresh string){
			"forged access token":  func(a service.Answer) (string, string) { return a.Access + "A", a.Refresh },
			"forged refresh token": func(a service.Answer) (string, string) { return a.Access, a.Refresh + "A" },
			// The clock of Redis is ahead of ours.
			"access token of the future": func(a service.Answer) (string, string) {
				c := claimsOf(v.Me(a.Access).OK(t))
				c.IssuedAt, c.ExpiresAt = c.IssuedAt.Add(time.Minute), c.ExpiresAt.Add(time.Minute)
				future := sign(t, v.Keys.Signer(), c)
				v.Me(future).Is(t, 401, "invalid_token")
				return future, ""
			},
		} {
			t.Run(name, func(t *testing.T) {
				login := v.Login().OK(t)
				v.Logout(by(login)).OK(t)
				v.Me(login.Access).Is(t, 401, "invalid_token")
				v.Refresh(login.Refresh, "").Is(t, 401, "invalid_grant ended")
			})
		}
	})
}

func TestExpiredAccessToken(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	c := claimsOf(v.Me(v.Login().OK(t).Access).OK(t))
	c.IssuedAt = c.IssuedAt.Add(-time.Hour)
	c.ExpiresAt = c.IssuedAt.Add(5 * time.Minute)
	a := v.Me(sign(t, v.Keys.Signer(), c))
	a.Is(t, 401, "invalid_token")
	if got := a.Header.Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_token"`) || !strings.Contains(got, "expired") {
		t.Errorf("WWW-Authenticate: %s", got)
	}
}
