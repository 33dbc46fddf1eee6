package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

func TestOrigins(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	login := v.Login().OK(t)
	requests := []service.Request{
		{Path: "/me", Bearer: login.Access},
		{Path: "/me"},
		{Path: "/nothing"},
		service.RefreshRequest("x", ""),
		service.JSON("/login", "{"),
		{Path: "/.well-known/jwks.json"},
		{Method: http.MethodHead, Path: "/me", Bearer: login.Access},
	}
	for _, r := range requests {
		a := v.Send(r.WithHeader("Origin", service.Origin))
		if got := a.Header.Values("Access-Control-Allow-Origin"); !slices.Equal(got, []string{service.Origin}) {
			t.Errorf("%s: Access-Control-Allow-Origin: %q", r.Path, got)
		}
		for _, header := range []string{"X-Request-Id", "Retry-After", "Www-Authenticate"} {
			if !strings.Contains(a.Header.Get("Access-Control-Expose-Headers"), header) {
				t.Errorf("%s: pages cannot read %s", r.Path, header)
			}
		}
	}
	for _, origin := range []string{
		"https://app.example.com.evil.example", "https://evil-app.example.com", "https://evil.app.example.com",
		"http://app.example.com", "https://app.example.com:8443", "https://app.example.com:443",
		"HTTPS://APP.EXAMPLE.COM", "https://app.example.com/", "https://app.example.com.", "https://appXexample.com",
		"https://example.com", "null", "*", "", "https://app.example.com, https://app.example.com",
	} {
		for _, r := range requests {
			a := v.Send(r.WithHeader("Origin", origin))
			for name := range a.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s from %q: %s: %s", r.Path, origin, name, a.Header.Get(name))
				}
			}
			if !slices.Contains(a.Header.Values("Vary"), "Origin") {
				t.Errorf("%s from %q: a cache may give the answer to others", r.Path, origin)
			}
		}
	}
}

func TestPreflight(t *testing.T) {
	const bodies = "https://mobile.example.com" // of a client without a cookie
	v := service.Start(t, redistest.Miniredis(t), service.With(func(c *api.Config) {
		mobile := c.Clients["mobile"]
		mobile.Origins = append(mobile.Origins, bodies)
		c.Clients["mobile"] = mobile
	}))
	preflight := func(origin, method, path, headers string) http.Header {
		r := service.Request{Method: http.MethodOptions, Path: path}.
			WithHeader("Origin", origin).WithHeader("Access-Control-Request-Method", method)
		if headers != "" {
			r = r.WithHeader("Access-Control-Request-Headers", headers)
		}
		return v.Send(r).Header
	}
	for _, c := range []struct {
		origin, method, path, headers string
		allowed                       bool
	}{
		{service.Origin, "POST", "/login", "content-type", true},
		{service.Origin, "POST", "/refresh", "content-type,idempotency-key", true},
		{service.Origin, "POST", "/logout", "authorization,x-requested-with", true},
		{bodies, "POST", "/refresh", "content-type,idempotency-key", true},
		{service.Origin, "GET", "/me", "authorization", true},
		{service.Origin, "DELETE", "/sessions/uv.kCuprU-EQKQAuZDf8yN3DQ", "authorization", true},
		{service.Origin, "PUT", "/login", "", false},
		{service.Origin, "POST", "/login", "x-forwarded-for", false},
		{"https://evil.example", "POST", "/login", "content-type", false},
		{"null", "POST", "/login", "content-type", false},
	} {
		h := preflight(c.origin, c.method, c.path, c.headers)
		allowed := h.Get("Access-Control-Allow-Origin") == c.origin && h.Get("Access-Control-Allow-Methods") == c.method &&
			strings.EqualFold(strings.ReplaceAll(h.Get("Access-Control-Allow-Headers"), " ", ""), c.headers)
		if allowed != c.allowed || !c.allowed && h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%+v: %v", c, h)
		}
		// Cookies go along from the pages of clients that have one.
		if got := h.Get("Access-Control-Allow-Credentials"); (got == "true") != (c.allowed && c.origin == service.Origin) {
			t.Errorf("%+v: credentials are allowed: %s", c, got)
		}
		if h.Get("X-Request-Id") == "" {
			t.Error("no X-Request-Id")
		}
	}
}

// A pattern in the place of an origin would let everyone in.
func TestStartRefusesLooseOrigins(t *testing.T) {
	var config api.Config
	service.Start(t, redistest.Miniredis(t), service.With(func(c *api.Config) { config = *c }))
	if _, err := api.New(config); err != nil {
		t.Fatal(err)
	}
	for _, origin := range []string{"*", "https://*", "https://*.example.com", "null", "https://", "", "https://app.example.com/"} {
		for _, client := range []string{"mobile", "web"} {
			c := config
			c.Clients = api.BuiltinClients()
			loose := c.Clients[client]
			loose.Origins = []string{service.Origin, origin}
			c.Clients[client] = loose
			if _, err := api.New(c); err == nil || !strings.Contains(err.Error(), client) {
				t.Errorf("%s with origin %q: %v", client, origin, err)
			}
		}
	}
}

func TestRequestIDs(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	seen := map[string]bool{}
	for _, r := range []service.Request{
		{Path: "/healthz"},
		{Path: "/healthz"},
		{Path: "/nothing"},
		{Method: "DELETE", Path: "/login"},
		{Method: "BREW", Path: "/login"},
		{Method: "OPTIONS", Path: "/login"},
		{Method: "HEAD", Path: "/login"},
		{Path: "/me"},
		{Path: "/"},
		{Path: "//"},
		{Path: "/login/"},
		{Path: "/sessions/"},
		{Path: "/%2e%2e/me"},
		service.JSON("/login", "{"),
		service.JSON("/login", strings.Repeat(" ", 9<<10)),
	} {
		a := v.Send(r.WithHeader("X-Request-Id", "chosen-by-the-client"))
		id := a.Header.Get("X-Request-Id")
		if len(a.Header.Values("X-Request-Id")) != 1 || id == "" || id == "chosen-by-the-client" || seen[id] {
			t.Errorf("%s %s: X-Request-Id: %q", r.Method, r.Path, a.Header.Values("X-Request-Id"))
		}
		seen[id] = true
	}
	logged := map[string]bool{}
	for _, line := range v.Log.Find("request") {
		logged[fmt.Sprint(line["request_id"])] = true
	}
	for id := range seen {
		if !logged[id] {
			t.Errorf("request %s is not in the log", id)
		}
	}
}

func TestMethods(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	for _, c := range []struct{ method, path, allow string }{
		{"GET", "/login", "POST"},
		{"HEAD", "/login", "POST"},
		{"OPTIONS", "/login", "POST"},
		{"BREW", "/login", "POST"},
		{"PUT", "/refresh", "POST"},
		{"DELETE", "/logout", "POST"},
		{"GET", "/oauth/token", "POST"},
		{"POST", "/me", "GET, HEAD"},
		{"PATCH", "/sessions", "GET, HEAD, POST, DELETE"},
		{"GET", "/sessions/uv.kCuprU-EQKQAuZDf8yN3DQ", "DELETE"},
		{"GET", "/sessions/a%2Fb", "DELETE"},
		{"POST", "/.well-known/jwks.json", "GET, HEAD"},
		{"TRACE", "/healthz", "GET, HEAD"},
	} {
		a := v.Send(service.Request{Method: c.method, Path: c.path})
		if a.Status != http.StatusMethodNotAllowed || a.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, Allow: %q, want %q", c.method, c.path, a.Status, a.Header.Get("Allow"), c.allow)
		}
	}
	for _, method := range []string{"GET", "POST", "HEAD", "OPTIONS", "BREW"} {
		if a := v.Send(service.Request{Method: method, Path: "/nothing"}); a.Status != http.StatusNotFound {
			t.Errorf("%s /nothing: %d", method, a.Status)
		}
	}
}

func TestHead(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	login := v.Login().OK(t)
	for _, path := range []string{
		"/me", "/sessions", "/healthz", "/readyz", "/openapi.yaml",
		"/.well-known/jwks.json", "/.well-known/oauth-authorization-server",
	} {
		get := v.Send(service.Request{Path: path, Bearer: login.Access}).OK(t)
		head := v.Send(service.Request{Method: http.MethodHead, Path: path, Bearer: login.Access}).OK(t)
		if head.Status != get.Status || head.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
			t.Errorf("%s: HEAD %d %s, GET %d %s", path, head.Status, head.Header.Get("Content-Type"), get.Status, get.Header.Get("Content-Type"))
		}
	}
	v.Send(service.Request{Method: http.MethodHead, Path: "/me"}).Is(t, 401, "")
}

// The metadata leads a standard client to routes that work.
func TestDiscovery(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	metadata := string(v.Send(service.Request{Path: "/.well-known/oauth-authorization-server"}).OK(t).Body)
	for _, want := range []string{
		`"issuer":"` + service.Issuer + `"`,
		`"token_endpoint":"` + service.Issuer + `/oauth/token"`,
		`"revocation_endpoint":"` + service.Issuer + `/oauth/revoke"`,
		`"jwks_uri":"` + service.Issuer + `/.well-known/jwks.json"`,
	} {
		if !strings.Contains(metadata, want) {
			t.Errorf("%s is not in %s", want, metadata)
		}
	}
	keys := string(v.Send(service.Request{Path: "/.well-known/jwks.json"}).OK(t).Body)
	if strings.Contains(keys, `"d"`) || !strings.Contains(keys, v.Keys.Signer().ID()) {
		t.Errorf("key set: %s", keys)
	}
}

// Tokens end up in the oddest places. The log must not hold them; that it does
// not is checked when any test here ends.
func TestTokensInWrongPlaces(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	login := v.Login().OK(t)
	for _, secret := range []string{login.Access, login.Refresh, service.Password} {
		for _, r := range []service.Request{
			{Path: "/" + secret},
			{Path: "/me?access_token=" + secret},
			{Path: "/sessions/" + secret, Method: http.MethodDelete, Bearer: login.Access},
			{Path: "/me", Header: http.Header{"Authorization": {"Basic " + secret}, "User-Agent": {secret}, "Referer": {secret}}},
			{Path: "/me", Bearer: secret, Method: "X" + secret[:4]},
			{Path: "/healthz", Header: http.Header{"Origin": {secret}, "X-Request-Id": {secret}, "Cookie": {"t=" + secret}}},
			service.JSON("/"+secret, secret),
			service.JSON("/login", secret),
			service.JSON("/login", object("username", secret[:16], "password", secret, "client_id", secret[:16])),
			service.JSON("/login", object("username", secret[:16], "password", secret)),
			service.JSON("/login", object("username", service.Username, "password", secret, "device", secret[:16])),
			service.JSON("/refresh", object(secret, secret, "Refresh_token", secret)),
			service.JSON("/refresh", object("refresh_token", secret, "client_id", secret[:16])),
			service.Form("/oauth/token?refresh_token="+secret, "grant_type", secret),
			service.Form("/oauth/revoke", "token", secret, "token_type_hint", secret[:16], "client_id", secret[:16]),
		} {
			v.Send(r)
		}
	}
	if len(v.Log.Find("request")) < 40 || len(v.Log.Find("login refused")) == 0 {
		t.Error("the log is not where this test looks for it")
	}
}

// What lies in Redis logs nobody in: no token, no password, no retry key.
func TestRedisHoldsNoSecrets(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a := v.Login().OK(t)
		b := v.Refresh(a.Refresh, "5f0c1d6e-8a3b-4c47-9d52-7be1f3a90c26").OK(t)
		v.Send(service.Form("/oauth/revoke", "token", b.Access)).OK(t)
		v.Logout("", v.Login().OK(t).Refresh).OK(t)

		dump := everythingIn(t, v.Redis)
		if !strings.Contains(dump, ":session:") || !strings.Contains(dump, "$argon2id$") || !strings.Contains(dump, "jti") {
			t.Fatalf("the dump is not complete:\n%s", dump)
		}
		for _, secret := range append(v.Log.Secrets(), "authapi_rt_", "eyJhbGci") {
			if strings.Contains(dump, secret) {
				t.Errorf("Redis holds %q", secret)
			}
		}
	})
}

func everythingIn(t *testing.T, c redis.UniversalClient) string {
	t.Helper()
	ctx := context.Background()
	var dump strings.Builder
	keys := c.Scan(ctx, 0, "*", 100).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		kind, err := c.Type(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		var value any
		switch kind {
		case "string":
			value, err = c.Get(ctx, key).Result()
		case "hash":
			value, err = c.HGetAll(ctx, key).Result()
		case "zset":
			value, err = c.ZRange(ctx, key, 0, -1).Result()
		case "stream":
			value, err = c.XRange(ctx, key, "-", "+").Result()
		default:
			t.Fatalf("%s is a %s", key, kind)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&dump, key, value)
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return dump.String()
}
