package e2e_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// trusting makes an instance believe proxies at these addresses.
func trusting(prefixes ...string) service.Option {
	return service.With(func(c *api.Config) {
		for _, p := range prefixes {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(p))
		}
	})
}

// lastIP is the address in the last event of the log.
func lastIP(t *testing.T, v *service.Service) string {
	t.Helper()
	events := v.Log.Find("login")
	if len(events) == 0 {
		t.Fatal("no login in the log")
	}
	ip, _ := events[len(events)-1]["ip"].(string)
	return ip
}

// Whoever writes X-Forwarded-For is believed only from a trusted address, and
// only as far as the chain of trusted proxies goes.
func TestForwardedFor(t *testing.T) {
	s := redistest.Miniredis(t)
	direct := service.Start(t, s)
	behind := service.Start(t, s, trusting("127.0.0.0/8", "10.0.0.0/8"))
	elsewhere := service.Start(t, s, trusting("10.0.0.0/8"))
	login := service.JSON("/login", object("username", service.Username, "password", service.Password))
	for _, c := range []struct {
		name string
		v    *service.Service
		xff  []string
		want string
	}{
		{"nobody is trusted", direct, []string{"203.0.113.9"}, "127.0.0.1"},
		{"somebody else is trusted", elsewhere, []string{"203.0.113.9"}, "127.0.0.1"},
		{"no header", behind, nil, ""},
		{"one proxy", behind, []string{"203.0.113.9"}, "203.0.113.9"},
		{"two proxies", behind, []string{"203.0.113.9, 10.1.2.3"}, "203.0.113.9"},
		{"spoofed in front", behind, []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"},
		{"spoofed as a proxy of ours", behind, []string{"10.9.9.9, 203.0.113.9"}, "203.0.113.9"},
		{"two headers", behind, []string{"198.51.100.1", "203.0.113.9"}, "203.0.113.9"},
		{"IPv6", behind, []string{"2001:db8::1"}, "2001:db8::1"},
		{"mapped", behind, []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"garbage", behind, []string{"unknown"}, ""},
		{"garbage behind", behind, []string{"203.0.113.9, x"}, ""},
	} {
		r := login
		for _, value := range c.xff {
			r = r.WithHeader("X-Forwarded-For", value)
		}
		for _, other := range []string{"X-Real-Ip", "True-Client-Ip", "X_Forwarded_For", "Forwarded", "Cf-Connecting-Ip"} {
			r = r.WithHeader(other, "192.0.2.66")
		}
		c.v.Send(r).OK(t)
		if got := lastIP(t, c.v); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A cookie that came over plain http has been seen by everybody on the way.
func TestForwardedProto(t *testing.T) {
	s := redistest.Miniredis(t)
	direct, behind := service.Start(t, s), service.Start(t, s, trusting("127.0.0.0/8"))
	login := service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "web")).
		WithHeader("X-Requested-With", "x")
	for _, c := range []struct {
		v     *service.Service
		proto string
		want  int
	}{
		{behind, "https", 200},
		{behind, "http", 403},
		{behind, "HTTP", 403},
		{behind, "http, https", 403},
		{behind, "https, http", 200},
		{behind, "", 200},
		{direct, "http", 200},
		{direct, "https", 200},
	} {
		r := login
		if c.proto != "" {
			r = r.WithHeader("X-Forwarded-Proto", c.proto)
		}
		if a := c.v.Send(r); a.Status != c.want {
			t.Errorf("%q: %d %s, want %d", c.proto, a.Status, a.Description, c.want)
		}
	}
	behind.Send(service.JSON("/login", object("username", service.Username, "password", service.Password)).WithHeader("X-Forwarded-Proto", "http")).OK(t)
}

// An issuer with a path is served under that path and without it, for proxies of
// both kinds, and found by RFC 8414, section 3.1.
func TestBasePath(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		const issuer = "https://example.com/a/auth"
		v := service.Start(t, s, service.With(func(c *api.Config) { c.Issuer, c.Audience = issuer, issuer }))
		at := func(base string) {
			t.Helper()
			raw := func(r service.Request) service.Answer {
				r.Path = base + r.Path
				a, err := v.Raw(r)
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			login := raw(service.JSON("/login", object("username", service.Username, "password", service.Password))).OK(t)
			if me := raw(service.Request{Path: "/me", Bearer: login.Access}).OK(t); me.Username != service.Username {
				t.Errorf("%s/me: %s", base, me.Body)
			}
			raw(service.RefreshRequest(login.Refresh, "")).OK(t)
			raw(service.Request{Path: "/.well-known/jwks.json"}).OK(t)
			if a := raw(service.Request{Path: "/nothing"}); a.Status != 404 {
				t.Errorf("%s/nothing: %d", base, a.Status)
			}
			if a := raw(service.Request{Path: "/login"}); a.Status != 405 || a.Header.Get("Allow") != "POST" {
				t.Errorf("GET %s/login: %d, Allow: %s", base, a.Status, a.Header.Get("Allow"))
			}
		}
		at("")
		at("/a/auth")
		for _, path := range []string{"/.well-known/oauth-authorization-server/a/auth", "/a/auth/.well-known/oauth-authorization-server"} {
			a, err := v.Raw(service.Request{Path: path})
			if err != nil || !strings.Contains(string(a.Body), `"issuer":"`+issuer+`"`) || !strings.Contains(string(a.Body), `"jwks_uri":"`+issuer+`/.well-known/jwks.json"`) {
				t.Errorf("%s: %s %v", path, a.Body, err)
			}
		}
		for _, path := range []string{"/a/authx/healthz", "/a/healthz", "/auth/healthz", "/a/auth/a/auth/healthz", "/a%2Fauth/healthz", "/a/auth", "/.well-known/oauth-authorization-server/a"} {
			if a, err := v.Raw(service.Request{Path: path}); err != nil || a.Status != 404 {
				t.Errorf("%s: %d %v", path, a.Status, err)
			}
		}
	})
}
