package e2e_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// page is a browser with a page of the client web in it: it keeps the cookie.
type page struct {
	t      *testing.T
	v      *service.Service
	cookie string
}

func (p *page) send(r service.Request) service.Answer {
	p.t.Helper()
	r = r.WithHeader("X-Requested-With", "fetch").WithHeader("Origin", service.Origin).WithHeader("Sec-Fetch-Site", "same-site")
	if p.cookie != "" {
		r = r.WithHeader("Cookie", "theme=dark; "+api.DefaultCookie+"="+p.cookie)
	}
	a := p.v.Send(r)
	if c := setCookie(p.t, a); c != nil {
		p.cookie = c.Value
	}
	return a
}

// setCookie is the only cookie that an answer sets, beside that of the device.
func setCookie(t *testing.T, a service.Answer) *http.Cookie {
	t.Helper()
	cookies := slices.DeleteFunc((&http.Response{Header: a.Header}).Cookies(), func(c *http.Cookie) bool { return c.Name == "__Host-device" })
	if len(cookies) > 1 {
		t.Errorf("%s: sets %d cookies", a.Route, len(cookies))
	}
	if len(cookies) == 0 {
		return nil
	}
	return cookies[0]
}

func (p *page) login() service.Answer {
	p.t.Helper()
	return p.send(service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "web"))).OK(p.t)
}

func (p *page) refresh() service.Answer {
	p.t.Helper()
	return p.send(service.Request{Method: "POST", Path: "/refresh"})
}

func (p *page) logout() service.Answer {
	p.t.Helper()
	return p.send(service.Request{Method: "POST", Path: "/logout"})
}

// Row 49, and the life of a session in a cookie.
func TestRow49SessionInACookie(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		p := &page{t: t, v: v}
		login := p.login()
		if login.Tokens.Refresh != "" || strings.Contains(string(login.Body), "refresh_token") {
			t.Errorf("the body holds the refresh token: %s", login.Body)
		}
		header := login.Header.Get("Set-Cookie")
		first, attributes, _ := strings.Cut(header, "; ")
		if !strings.HasPrefix(first, "__Host-refresh=authapi_rt_") || attributes != "Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Strict" {
			t.Errorf("Set-Cookie: %s", header)
		}
		if login.RefreshExpiresIn != 86400 || login.ExpiresIn != 300 {
			t.Errorf("%+v", login.Tokens)
		}
		v.Me(login.Access).OK(t)

		s.Advance(time.Minute)
		before := p.cookie
		next := p.refresh().OK(t)
		if p.cookie == before || next.Tokens.Refresh != "" {
			t.Error("the cookie was not rotated")
		}
		// Reloads within the window: one rotation is enough.
		after := p.cookie
		again := p.refresh().OK(t)
		if p.cookie != after || again.Access == "" {
			t.Error("a reload rotated again")
		}
		if c := setCookie(t, again); c != nil {
			t.Errorf("what has not changed is sent again, and would replace something newer if it came late: %v", c)
		}
		// A tab that has the cookie of before.
		tab := &page{t: t, v: v, cookie: before}
		tab.refresh().OK(t)
		if tab.cookie != after {
			t.Error("another tab got another successor")
		}
		if g := generation(t, v, after); g != 1 {
			t.Errorf("generation %d, want 1", g)
		}

		a := p.logout()
		a.Is(t, 204, "")
		if c := setCookie(t, a); c == nil || c.Name != api.DefaultCookie || c.MaxAge != -1 || !c.Secure || !c.HttpOnly || c.Path != "/" {
			t.Errorf("logout sets %+v", c)
		}
		v.Me(next.Access).Is(t, 401, "invalid_token")
		p.cookie = after
		p.refresh().Is(t, 401, "invalid_grant ended")
		if p.cookie != after {
			t.Error("a refusal has touched the cookie")
		}
		p.logout().Is(t, 204, "")
	})
}

// Row 48: what other pages can make a browser send does nothing.
func TestRow48OtherPages(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.With(func(c *api.Config) {
			other := c.Clients["web"]
			other.ID, other.Cookie, other.Origins = "admin", "__Host-admin", []string{"https://admin.example.com"}
			c.Clients["admin"] = other
		}))
		p := &page{t: t, v: v}
		login := p.login()
		s.Advance(time.Minute)
		cookie := api.DefaultCookie + "=" + p.cookie
		const page = "X-Requested-With"
		headers := func(pairs ...string) []string { return pairs }
		for name, h := range map[string][]string{
			"cross-site":                    headers("Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example", page, "x"),
			"cross-site, no header":         headers("Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"),
			"cross-site, no origin":         headers("Sec-Fetch-Site", "cross-site", page, "x"),
			"sibling subdomain":             headers("Sec-Fetch-Site", "same-site", "Origin", "https://evil.example.com", page, "x"),
			"lookalike":                     headers("Sec-Fetch-Site", "same-site", "Origin", service.Origin+".evil.example", page, "x"),
			"http of the same host":         headers("Sec-Fetch-Site", "same-site", "Origin", "http://app.example.com", page, "x"),
			"another port":                  headers("Sec-Fetch-Site", "same-site", "Origin", service.Origin+":8443", page, "x"),
			"null origin":                   headers("Sec-Fetch-Site", "cross-site", "Origin", "null", page, "x"),
			"null origin of an old browser": headers("Origin", "null", page, "x"),
			"cross-site, old browser":       headers("Origin", "https://evil.example", page, "x"),
			"neither header, a form":        headers(),
			"own page, a form":              headers("Sec-Fetch-Site", "same-site", "Origin", service.Origin),
			"same origin, a form":           headers("Sec-Fetch-Site", "same-origin"),
			"page of another client":        headers("Sec-Fetch-Site", "same-site", "Origin", "https://admin.example.com", page, "x"),
			"page of another, old browser":  headers("Origin", "https://admin.example.com", page, "x"),
			"two origins":                   headers("Sec-Fetch-Site", "same-site", "Origin", service.Origin+" https://evil.example", page, "x"),
			"empty header":                  headers("Sec-Fetch-Site", "same-site", "Origin", service.Origin, page, ""),
			"unknown fetch metadata":        headers("Sec-Fetch-Site", "everywhere", "Origin", "https://evil.example", page, "x"),
		} {
			requests := map[string]service.Request{
				"refresh":           {Method: "POST", Path: "/refresh"},
				"logout":            {Method: "POST", Path: "/logout"},
				"login":             service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "web")),
				"refresh of a form": {Method: "POST", Path: "/refresh", Type: "application/x-www-form-urlencoded", Body: "a=b"},
			}
			for what, r := range requests {
				if what == "refresh of a form" && len(h) < 4 {
					continue // 415 before anything is known of it
				}
				r = r.WithHeader("Cookie", cookie)
				for i := 0; i < len(h); i += 2 {
					r = r.WithHeader(h[i], h[i+1])
				}
				a := v.Send(r)
				if a.Status != 403 && a.Status != 415 || setCookie(t, a) != nil || a.Access != "" {
					t.Errorf("%s, %s: %d %s, sets %v", name, what, a.Status, a.Error, setCookie(t, a))
				}
			}
		}
		if g := generation(t, v, p.cookie); g != 0 {
			t.Errorf("generation %d, want 0", g)
		}
		v.Me(login.Access).OK(t)
		if n := len(v.List(login.Access)); n != 1 {
			t.Errorf("%d sessions, want 1", n)
		}
		// The service's own pages, and programs.
		for _, h := range [][]string{
			headers("Sec-Fetch-Site", "same-origin", page, "x"),
			headers("Sec-Fetch-Site", "same-origin", "Origin", service.Issuer, page, "x"),
			headers("Origin", service.Issuer, page, "x"),
			headers("Origin", strings.Replace(v.URL, "http://", "https://", 1), page, "x"),
			headers(page, "x"),
		} {
			r := service.Request{Method: "POST", Path: "/refresh"}.WithHeader("Cookie", cookie)
			for i := 0; i < len(h); i += 2 {
				r = r.WithHeader(h[i], h[i+1])
			}
			a := v.Send(r)
			if a.Status != 200 {
				t.Errorf("%q: %d %s", h, a.Status, a.Description)
			}
			if c := setCookie(t, a); c != nil {
				cookie = api.DefaultCookie + "=" + c.Value
			}
		}
	})
}

// Row 50: which of two tokens counts is not guessed.
func TestRow50TwoTokens(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.With(func(c *api.Config) {
			other := c.Clients["web"]
			other.ID, other.Cookie = "admin", "__Host-admin"
			c.Clients["admin"] = other
		}))
		p := &page{t: t, v: v}
		p.login()
		body := v.Login().OK(t)
		for _, path := range []string{"/refresh", "/logout"} {
			own := service.Request{Method: "POST", Path: path}.WithHeader("X-Requested-With", "x")
			cookie := api.DefaultCookie + "=" + p.cookie
			for name, r := range map[string]service.Request{
				"twice in one header": own.WithHeader("Cookie", cookie+"; "+cookie),
				"twice":               own.WithHeader("Cookie", cookie).WithHeader("Cookie", cookie),
				"two values":          own.WithHeader("Cookie", cookie+"; "+api.DefaultCookie+"=x"),
				"of two clients":      own.WithHeader("Cookie", cookie+"; __Host-admin="+p.cookie),
				"in the cookie and the body": service.JSON(path, object("refresh_token", body.Refresh)).
					WithHeader("X-Requested-With", "x").WithHeader("Cookie", cookie),
			} {
				a := v.Send(r)
				a.Is(t, 400, "invalid_request")
				if setCookie(t, a) != nil {
					t.Errorf("%s: sets a cookie", name)
				}
			}
		}
		if g := generation(t, v, p.cookie); g != 0 {
			t.Errorf("generation %d, want 0", g)
		}
		v.Me(body.Access).OK(t)
		// Named, each is its own; a cookie that means nothing here is none.
		s.Advance(time.Minute)
		a := v.Send(service.JSON("/refresh", object("client_id", "web")).WithHeader("X-Requested-With", "x").
			WithHeader("Cookie", "__Host-admin=x; "+api.DefaultCookie+"="+p.cookie+"; __host-refresh=y; refresh=z"))
		a.OK(t)
		v.Send(service.JSON("/refresh", object("client_id", "admin")).WithHeader("X-Requested-With", "x").
			WithHeader("Cookie", api.DefaultCookie+"="+setCookie(t, a).Value)).Is(t, 401, "invalid_grant")
		v.Send(service.JSON("/refresh", object("client_id", "admin")).WithHeader("X-Requested-With", "x").
			WithHeader("Cookie", "__Host-admin="+setCookie(t, a).Value)).Is(t, 401, "invalid_grant")
	})
}

// A token that travels another way than its client's is worth nothing.
func TestCookieTokensStayInCookies(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		p := &page{t: t, v: v}
		p.login()
		body := v.Login().OK(t)
		v.Refresh(p.cookie, "").Is(t, 401, "invalid_grant")
		v.Send(service.JSON("/refresh", object("refresh_token", p.cookie, "client_id", "web"))).Is(t, 401, "invalid_grant")
		v.Send(grant(p.cookie)).Is(t, 400, "invalid_grant")
		v.Send(grant(p.cookie, "client_id", "web")).Is(t, 400, "unauthorized_client")
		v.Send(service.Form("/oauth/revoke", "token", p.cookie, "client_id", "web")).Is(t, 400, "unauthorized_client")
		thief := &page{t: t, v: v, cookie: body.Refresh}
		thief.refresh().Is(t, 401, "invalid_grant")
		for _, token := range []string{p.cookie, body.Refresh} {
			if g := generation(t, v, token); g != 0 {
				t.Errorf("generation %d, want 0", g)
			}
		}
	})
}

// A login takes the place of the session that the same user had in the cookie.
func TestLoginReplacesTheSessionOfTheCookie(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		v.AddUser("bob", "bob-s-password-of-some-length")
		p := &page{t: t, v: v}
		first, elsewhere := p.login(), (&page{t: t, v: v}).login()
		second := p.login()
		v.Me(first.Access).Is(t, 401, "invalid_token")
		v.Me(second.Access).OK(t)
		v.Me(elsewhere.Access).OK(t)
		if n := len(v.List(second.Access)); n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
		// Somebody else at the same browser ends nobody's session, nor does a
		// login that fails, or one of another client.
		bob := p.send(service.JSON("/login", object("username", "bob", "password", "bob-s-password-of-some-length", "client_id", "web"))).OK(t)
		v.Me(second.Access).OK(t)
		p.send(service.JSON("/login", object("username", "bob", "password", "wrong", "client_id", "web"))).Is(t, 401, "invalid_grant")
		p.send(service.JSON("/login", object("username", "bob", "password", "bob-s-password-of-some-length"))).OK(t)
		v.Me(bob.Access).OK(t)
	})
}

// Only a logout clears the cookie, and only when it is done.
func TestCookieOutlivesTrouble(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		p := &page{t: t, v: v}
		p.login()
		cookie := p.cookie
		garbage := &page{t: t, v: v, cookie: "garbage"}
		garbage.refresh().Is(t, 401, "invalid_grant")
		if garbage.cookie != "garbage" {
			t.Error("a refusal has touched the cookie")
		}
		a := garbage.logout()
		a.Is(t, 401, "invalid_grant")
		if c := setCookie(t, a); c == nil || c.MaxAge != -1 {
			t.Errorf("a logout leaves a cookie that means nothing: %+v", c)
		}
		s.Kill()
		for _, answer := range []service.Answer{p.refresh(), p.logout()} {
			answer.Is(t, 503, "temporarily_unavailable")
			if p.cookie != cookie || setCookie(t, answer) != nil {
				t.Error("trouble has touched the cookie")
			}
		}
	})
}

// Many tabs at once: nobody is logged out, and there is one chain.
func TestTabsShareTheCookie(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		p := &page{t: t, v: v}
		p.login()
		for round := range 5 {
			s.Advance(time.Minute)
			var all sync.WaitGroup
			var mu sync.Mutex
			successors := map[string]bool{}
			for range 8 {
				tab := &page{t: t, v: v, cookie: p.cookie}
				all.Go(func() {
					a := tab.refresh()
					if a.Status != 200 && a.Status != 429 {
						t.Errorf("%d %s %s", a.Status, a.Error, a.Reason)
					}
					mu.Lock()
					successors[tab.cookie] = true
					mu.Unlock()
				})
			}
			all.Wait()
			delete(successors, p.cookie)
			if len(successors) != 1 {
				t.Fatalf("round %d: %d successors", round, len(successors))
			}
			for p.cookie = range successors {
			}
		}
		if g := generation(t, v, p.cookie); g != 5 {
			t.Errorf("generation %d, want 5", g)
		}
	})
}
