package e2e_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tests/service"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// forgeries returns texts that are nearly a token. Each of its characters is
// altered in one bit; package refresh tries all bits.
func forgeries(token string) []string {
	at := strings.LastIndex(token, "_rt_") + len("_rt_")
	all := []string{
		token + "A", token + "=", token + "\n", " " + token, token[:len(token)-1], token[:at], token[at:],
		"x", strings.ToUpper(token[:at]) + token[at:], token[:at] + strings.Repeat("A", len(token)-at),
		token + token, token[:at] + token[at+4:] + token[at:at+4], "\x00" + token[1:],
	}
	for i := at; i < len(token); i++ {
		value := strings.IndexByte(alphabet, token[i]) ^ 1<<(i%6)
		all = append(all, token[:i]+alphabet[value:value+1]+token[i+1:])
	}
	return all
}

func TestForgedRefreshTokens(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, unlimited)
		login := v.Login().OK(t)

		// A token of another deployment is as good as any random text.
		other, err := refresh.New(v.Redis, refresh.Options{
			Prefix: s.Prefix + "other", Secrets: [][]byte{bytes.Repeat([]byte("x"), 32)},
			Policy: api.BuiltinClients().Policy,
		})
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := other.Create(context.Background(), refresh.Login{Subject: v.Subject, ClientID: "mobile"})
		if err != nil {
			t.Fatal(err)
		}

		commands := redistest.CommandCount(v.Redis)
		for i, forged := range append([]string{foreign.Token, login.Access}, forgeries(login.Refresh)...) {
			v.Send(service.JSON("/refresh", object("refresh_token", forged))).Is(t, 401, "invalid_grant")
			if i > 20 {
				continue // the routes share the code that reads tokens
			}
			v.Send(service.JSON("/logout", object("refresh_token", forged))).Is(t, 401, "invalid_grant")
			v.Send(service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", forged)).Is(t, 400, "invalid_grant")
			if forged != login.Access {
				v.Send(service.Form("/oauth/revoke", "token", forged)).Is(t, 200, "")
			}
		}
		if n := commands.Total(); n != 0 {
			t.Errorf("forgeries cost %d Redis commands: %v", n, commands.Names())
		}
		v.Me(login.Access).OK(t)
		v.Refresh(login.Refresh, "").OK(t)
	})
}

// The answer never arrived: the phone was in a tunnel, then switched off.
func TestRetryAnHourLater(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		const key = "5f0c1d6e-8a3b-4c47-9d52-7be1f3a90c26"
		lost := v.Refresh(login.Refresh, key).OK(t)
		s.Advance(time.Hour)
		for range 20 { // as often as it takes
			again := v.Refresh(login.Refresh, key).OK(t)
			if again.Refresh != lost.Refresh {
				t.Fatal("the retry got another successor")
			}
			if again.ExpiresIn != 0 || again.RefreshExpiresIn > lost.RefreshExpiresIn-3600 {
				t.Errorf("the retry extends the grant: %d and %d s", again.ExpiresIn, again.RefreshExpiresIn)
			}
		}
		next := v.Refresh(lost.Refresh, "9a1b7c33-0000-4c47-9d52-7be1f3a90c26").OK(t)
		if next.ExpiresIn != 300 {
			t.Errorf("the next access token expires in %d s", next.ExpiresIn)
		}
		// The first request was only late, nobody stole anything.
		v.Refresh(login.Refresh, key).Is(t, 401, "invalid_grant")
		v.Refresh(next.Refresh, "").OK(t)
	})
}

func TestRetryWithoutKey(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		lost := v.Refresh(login.Refresh, "").OK(t)
		if again := v.Refresh(login.Refresh, "").OK(t); again.Refresh != lost.Refresh {
			t.Error("the retry got another successor")
		}
		s.Advance(11 * time.Second)
		v.Refresh(login.Refresh, "").Is(t, 401, "invalid_grant reused")
		v.Refresh(lost.Refresh, "").Is(t, 401, "invalid_grant reused")
	})
}

// A second party with a key of its own gets no grace at all.
func TestSecondKeyIsTheft(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		next := v.Refresh(login.Refresh, "key-of-the-client").OK(t)
		v.Refresh(login.Refresh, "key-of-the-thief").Is(t, 401, "invalid_grant reused")
		v.Refresh(next.Refresh, "").Is(t, 401, "invalid_grant reused")
		v.Me(next.Access).Is(t, 401, "invalid_token")
	})
}

func TestRetryKeyQuotedOrBare(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		bare := v.Refresh(login.Refresh, "one-and-the-same-key").OK(t)
		s.Advance(time.Minute)
		quoted := v.Refresh(login.Refresh, `"one-and-the-same-key"`).OK(t)
		form := v.Send(service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", login.Refresh).
			WithHeader("Idempotency-Key", "one-and-the-same-key")).OK(t)
		if quoted.Refresh != bare.Refresh || form.Refresh != bare.Refresh {
			t.Error("the same key names different requests")
		}
		v.Refresh(login.Refresh, "one-and-the-SAME-key").Is(t, 401, "invalid_grant reused")
	})
}

func TestSessionExpires(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		s.Advance(14*24*time.Hour - time.Minute)
		next := v.Refresh(login.Refresh, "").OK(t)
		s.Advance(14 * 24 * time.Hour)
		v.Refresh(next.Refresh, "").Is(t, 401, "invalid_grant expired")
		v.Send(service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", next.Refresh)).Is(t, 400, "invalid_grant expired")
		v.Logout("", next.Refresh).OK(t)
		v.Send(service.Form("/oauth/revoke", "token", next.Refresh)).OK(t)
	})
}

func TestRefreshNeverOutlivesTheLogin(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a := v.Login().OK(t)
		for range 3 {
			s.Advance(9 * 24 * time.Hour)
			a = v.Refresh(a.Refresh, "").OK(t)
		}
		if a.SessionExpiresIn > 3*24*3600 || a.RefreshExpiresIn != a.SessionExpiresIn {
			t.Errorf("after 27 days: %d and %d s", a.RefreshExpiresIn, a.SessionExpiresIn)
		}
		s.Advance(3*24*time.Hour - 100*time.Second)
		a = v.Refresh(a.Refresh, "").OK(t)
		if a.ExpiresIn > 100 {
			t.Errorf("an access token of %d s, 100 s before the end", a.ExpiresIn)
		}
		s.Advance(101 * time.Second)
		v.Refresh(a.Refresh, "").Is(t, 401, "invalid_grant expired")
	})
}

// A client that has gone leaves no half a refresh behind: the service carries
// it out, and hears the end of it.
func TestClientDisconnects(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		const key = "5f0c1d6e-8a3b-4c47-9d52-7be1f3a90c26"

		s.Pause()
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan error)
		go func() {
			_, err := v.Try(ctx, service.RefreshRequest(login.Refresh, key))
			gone <- err
		}()
		time.Sleep(150 * time.Millisecond) // for the request to reach Redis
		cancel()
		if err := <-gone; err == nil {
			t.Fatal("the client got an answer")
		}
		time.Sleep(50 * time.Millisecond) // for the service to notice that the client has gone
		s.Resume()

		eventually(t, "the handler ends, and well", func() bool {
			for _, line := range v.Log.Find("request") {
				if line["route"] == "/refresh" {
					return line["status"] == 200.0
				}
			}
			return false
		})
		if g := generation(t, v, login.Refresh); g != 1 {
			t.Errorf("generation %d, want 1", g)
		}
		s.Advance(time.Hour)
		next := v.Refresh(login.Refresh, key).OK(t)
		if g := generation(t, v, login.Refresh); g != 1 {
			t.Errorf("generation %d after the retry, want 1", g)
		}
		v.Refresh(next.Refresh, "").OK(t)
	})
}
