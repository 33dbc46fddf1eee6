package e2e_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// trouble is what every request must get while Redis is away: soon, and
// nothing that would make a client drop its tokens.
func trouble(t *testing.T, a service.Answer) {
	t.Helper()
	a.Is(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	if a.Header.Get("Retry-After") == "" {
		t.Errorf("%s: no Retry-After", a.Route)
	}
	if a.Took > 2*time.Second+slack {
		t.Errorf("%s: took %v", a.Route, a.Took)
	}
}

// everything sends one request of each kind at the same time.
func everything(v *service.Service, refreshed, logged service.Answer) []service.Answer {
	requests := []service.Request{
		service.JSON("/login", object("username", service.Username, "password", service.Password)),
		service.JSON("/login", object("username", "nobody", "password", service.Password)),
		service.RefreshRequest(refreshed.Refresh, "key-1-of-this-session"),
		service.RefreshRequest(logged.Refresh, ""),
		service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", logged.Refresh),
		{Method: http.MethodPost, Path: "/logout", Bearer: logged.Access},
		service.JSON("/logout", object("refresh_token", logged.Refresh)),
		service.Form("/oauth/revoke", "token", logged.Refresh),
		service.Form("/oauth/revoke", "token", logged.Access),
		{Path: "/me", Bearer: refreshed.Access},
		{Path: "/sessions", Bearer: refreshed.Access},
		{Method: http.MethodDelete, Path: "/sessions/uv.kCuprU-EQKQAuZDf8yN3DQ", Bearer: refreshed.Access},
		{Path: "/readyz"},
	}
	answers := make([]service.Answer, len(requests))
	var all sync.WaitGroup
	for i, r := range requests {
		all.Go(func() { answers[i] = v.Send(r) })
	}
	all.Wait()
	return answers
}

// quiet are the routes that work without Redis.
func quiet(t *testing.T, v *service.Service) {
	t.Helper()
	for _, path := range []string{"/healthz", "/openapi.yaml", "/.well-known/jwks.json", "/.well-known/oauth-authorization-server"} {
		v.Send(service.Request{Path: path}).Is(t, 200, "")
	}
	v.Me("not.a.token").Is(t, 401, "invalid_token")
	v.Refresh("not-a-refresh-token", "").Is(t, 401, "invalid_grant")
}

func TestRedisKilled(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a, b := v.Login().OK(t), v.Login().OK(t)
		v.Send(service.Request{Path: "/readyz"}).Is(t, 200, "")
		s.Kill()
		for _, answer := range everything(v, a, b) {
			trouble(t, answer)
		}
		quiet(t, v)
	})
}

func TestRedisHangs(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a, b, c := v.Login().OK(t), v.Login().OK(t), v.Login().OK(t)
		s.Pause()
		for _, answer := range everything(v, a, b) {
			trouble(t, answer)
		}
		quiet(t, v)
		s.Resume()

		// Everything works again, and nobody was logged out but by themselves.
		next := v.Refresh(a.Refresh, "key-1-of-this-session").OK(t)
		if g := generation(t, v, next.Refresh); g != 1 {
			t.Errorf("generation %d, want 1", g)
		}
		v.Me(a.Access).OK(t)
		v.Me(c.Access).OK(t)
		v.Refresh(c.Refresh, "").OK(t)
		v.Logout(b.Access, "").OK(t)
		v.Me(b.Access).Is(t, 401, "invalid_token")
		v.Refresh(b.Refresh, "").Is(t, 401, "invalid_grant ended")
		v.Me(v.Login().OK(t).Access).OK(t)
		v.Send(service.Request{Path: "/readyz"}).Is(t, 200, "")
	})
}

// Refreshing without a key is safe too: what Redis carries out late, after the
// service gave up, must not look like theft.
func TestRedisHangsDuringRefreshWithoutKey(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a := v.Login().OK(t)
		s.Pause()
		trouble(t, v.Refresh(a.Refresh, ""))
		s.Resume()
		next := v.Refresh(a.Refresh, "").OK(t)
		if g := generation(t, v, a.Refresh); g != 1 {
			t.Errorf("generation %d, want 1", g)
		}
		v.Me(next.Access).OK(t)
		v.Refresh(next.Refresh, "").OK(t)
	})
}

// A full Redis takes no new sessions. Those that are there go on, and can be
// ended: nobody must stay logged in because memory ran out.
func TestRedisFull(t *testing.T) {
	s := redistest.Redis(t)
	v := service.Start(t, s)
	a, b, c, d, e := v.Login().OK(t), v.Login().OK(t), v.Login().OK(t), v.Login().OK(t), v.Login().OK(t)
	s.SetFull(true)

	trouble(t, v.Login())
	v.LoginAs(service.Username, "the-wrong-password").Is(t, 401, "invalid_grant")
	next := v.Refresh(a.Refresh, "key-1-of-this-session").OK(t)
	v.Me(next.Access).OK(t)
	if n := len(v.List(next.Access)); n != 5 {
		t.Errorf("%d sessions", n)
	}
	v.Logout(b.Access, "").OK(t)
	v.Me(b.Access).Is(t, 401, "invalid_token")
	v.Send(service.Form("/oauth/revoke", "token", c.Refresh)).OK(t)
	v.Me(c.Access).Is(t, 401, "invalid_token")
	v.Send(service.Form("/oauth/revoke", "token", d.Access)).OK(t)
	v.Me(d.Access).Is(t, 401, "invalid_token")
	v.Refresh(a.Refresh, "key-of-the-thief").Is(t, 401, "invalid_grant reused")
	v.Me(next.Access).Is(t, 401, "invalid_token")
	v.Send(service.Request{Method: http.MethodDelete, Path: "/sessions", Bearer: e.Access}).OK(t)
	v.Me(e.Access).Is(t, 401, "invalid_token")
	trouble(t, v.Login())

	s.SetFull(false)
	v.Me(v.Login().OK(t).Access).OK(t)
}

// The Redis client sends a script again when its reply was lost. The user must
// not notice, however that is repeated.
func TestRepliesOfRedisLost(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		client, flaky := s.Flaky(t)
		v := service.Start(t, s, service.Through(client))
		flaky.LoseReplies(2)
		a := v.Login().OK(t)
		if n := len(v.List(a.Access)); n != 1 {
			t.Errorf("one login made %d sessions", n)
		}
		flaky.LoseReplies(2)
		b := v.Refresh(a.Refresh, "").OK(t)
		if g := generation(t, v, a.Refresh); g != 1 {
			t.Errorf("generation %d, want 1", g)
		}
		flaky.LoseReplies(1000)
		const key = "5f0c1d6e-8a3b-4c47-9d52-7be1f3a90c26"
		trouble(t, v.Refresh(b.Refresh, key))
		flaky.LoseReplies(0)
		s.Advance(time.Hour)
		c := v.Refresh(b.Refresh, key).OK(t)
		if g := generation(t, v, a.Refresh); g != 2 {
			t.Errorf("generation %d, want 2", g)
		}
		flaky.LoseReplies(2)
		v.Logout("", c.Refresh).OK(t)
		v.Refresh(c.Refresh, "").Is(t, 401, "invalid_grant ended")
		if flaky.Lost() < 8 {
			t.Errorf("only %d replies were lost", flaky.Lost())
		}
	})
}

// Ended while Redis hangs: whatever was sent before the service gave up takes
// effect, and the user is told nothing wrong meanwhile.
func TestLogoutWhileRedisHangs(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a := v.Login().OK(t)
		s.Pause()
		trouble(t, v.Logout(a.Access, ""))
		s.Resume()
		v.Logout(a.Access, "").OK(t)
		v.Me(a.Access).Is(t, 401, "invalid_token")
		v.Refresh(a.Refresh, "").Is(t, 401, "invalid_grant ended")
	})
}

// An instance that shuts down says so where load balancers ask, and goes on
// serving those who are still there.
func TestDrain(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	a := v.Login().OK(t)
	v.API.Drain()
	trouble(t, v.Send(service.Request{Path: "/readyz"}))
	v.Send(service.Request{Path: "/healthz"}).Is(t, 200, "")
	v.Refresh(a.Refresh, "").OK(t)
}

// Waiting for one of the connections that all hang counts as well. This client
// would wait far longer than the service does.
func TestManyAtOnceWhileRedisHangs(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.Through(s.Client))
		a := v.Login().OK(t)
		s.Pause()
		var all sync.WaitGroup
		for range 40 { // more than there are connections
			all.Go(func() {
				answer, err := v.Try(context.Background(), service.Request{Path: "/me", Bearer: a.Access})
				if err != nil {
					t.Error(err)
					return
				}
				trouble(t, answer)
			})
		}
		all.Wait()
		s.Resume()
		v.Me(a.Access).OK(t)
	})
}
