package gateways_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/verify"
)

// public is what the world may ask authapi, by the request line.
var public = regexp.MustCompile(`^(` +
	`(POST|OPTIONS) /(login|refresh|logout|oauth/(token|revoke|introspect))` +
	`|(GET|HEAD|OPTIONS) /(me|\.well-known/(jwks\.json|oauth-authorization-server))` +
	`|(GET|HEAD|DELETE|OPTIONS) /sessions` +
	`|(DELETE|OPTIONS) /sessions/[^/?]+` +
	`|GET /revocations` +
	`)(\?.*)?$`)

// publicRoutes: clients find what they need.
func publicRoutes(w *world, g *gateway) (p problems) {
	for _, line := range []string{
		"POST /login", "POST /refresh", "POST /logout", "POST /oauth/token", "POST /oauth/revoke", "POST /oauth/introspect",
		"GET /me", "HEAD /me", "GET /sessions", "DELETE /sessions", "DELETE /sessions?except=current", "DELETE /sessions/uv.dHfCwQUzgVfTZ6JyNhB0Yw",
		"GET /.well-known/jwks.json", "GET /.well-known/oauth-authorization-server",
		"OPTIONS /login", "OPTIONS /sessions", "OPTIONS /me",
	} {
		method, target, _ := strings.Cut(line, " ")
		w.authapi.take()
		r := g.ask(question{
			method: method, target: target, host: authHost, token: "garbage", body: map[bool]string{true: "body"}[method == "POST"],
			header: []string{"X-Forwarded-For: 10.0.0.1", "Origin: " + service.Origin},
		})
		at := w.authapi.take()
		if len(at) != 1 || at[0].target != target || at[0].method != method || at[0].host != authHost {
			p.add("%s: %v, and authapi was asked %v", line, r, at)
			continue
		}
		if f := at[0].header.Get("X-Forwarded-For"); f != "127.0.0.1" {
			p.add("%s: X-Forwarded-For: %s", line, f)
		}
		if method == "POST" && at[0].body != "body" {
			p.add("%s: the body arrived as %q", line, at[0].body)
		}
		if r.header.Get("X-Request-Id") == "" {
			p.add("%s: not authapi's answer: %v", line, r)
		}
	}
	return p
}

// blockedRoutes: authapi is never asked for anything else, however it is
// written.
func blockedRoutes(w *world, g *gateway) (p problems) {
	blocked := []string{
		"GET /verify", "POST /verify", "HEAD /verify", "GET /metrics", "GET /readyz", "GET /healthz", "GET /openapi.yaml", "GET /",
		"POST /sessions", "PUT /users/x/roles", "DELETE /users/x/sessions", "GET /users", "POST /users", "PUT /sessions", "POST /me",
		"POST /revocations", "GET /login", "GET /debug/pprof/", "GET /oauth/authorize", "GET /.well-known/", "GET /.well-known/x",
		// Tidied up these are other paths, to authapi they are what they are.
		"DELETE /users/../sessions", "DELETE /users/%2e%2e/sessions", "DELETE /sessions/../verify", "GET /me/../verify", "GET /me/%2e%2e/verify", "GET /me%2f..%2fverify",
		"GET /verify/../me", "GET /verify/..;/me", "GET //me", "GET /me/", "GET /ME", "GET /%6de", "GET /me#/../verify", "POST /login/../sessions",
		"DELETE /sessions/..%2fverify/x", "DELETE /sessions/x/y", "DELETE /sessions/", "GET /verify?/me", "GET /sessions/../metrics",
	}
	random := rand.New(rand.NewPCG(42, 42))
	for _, line := range blocked[:21] {
		for range 5 {
			method, target, _ := strings.Cut(line, " ")
			blocked = append(blocked, method+" "+disguise(random, target))
		}
	}
	for _, line := range blocked {
		method, target, _ := strings.Cut(line, " ")
		for _, q := range []question{
			{method: method, target: target, host: authHost, token: w.editor},
			{method: method, target: "http://" + authHost + target, token: w.editor},
		} {
			w.authapi.take()
			r := g.ask(q)
			for _, at := range w.authapi.take() {
				// As somebody else's name the line may be guarded instead.
				if at.target == "/verify" && at.header.Get("X-Forwarded-For") == "" && q.host == "" {
					continue
				}
				if !public.MatchString(at.method + " " + at.target) {
					p.add("%s: authapi was asked %s %s", line, at.method, at.target)
				}
			}
			if q.host == authHost && r.status != http.StatusNotFound && r.status != http.StatusBadRequest {
				if !public.MatchString(line) {
					p.add("%s: %v", line, r)
				}
			}
		}
	}
	return p
}

// disguise writes a path so that it may be read as the same.
func disguise(random *rand.Rand, path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		switch n := random.IntN(12); {
		case c == '/' && n < 2:
			b.WriteString([]string{"//", "/./", "/x/../", "/;/", "/%2e/", "%2f", "/me/../", "/sessions/%2e%2e/"}[random.IntN(8)])
		case n == 3:
			b.WriteString("%" + string("0123456789abcdef"[c>>4]) + string("0123456789ABCDEF"[c&15]))
		case n == 4:
			b.WriteString(strings.ToUpper(string(c)))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// revocations: services follow through the gateway, and hear at once.
func revocations(w *world, g *gateway) (p problems) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, port, _ := net.SplitHostPort(g.addr)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, g.addr)
	}}
	defer transport.CloseIdleConnections()
	remote, err := verify.NewRemote(verify.RemoteConfig{
		URL: "http://" + authHost + ":" + port + "/revocations", AllowHTTP: true,
		ClientID: api.Verifier, ClientSecret: service.VerifierSecret,
		Client: &http.Client{Transport: transport},
	})
	if err != nil {
		p.add("%v", err)
		return p
	}
	replica := verify.Follow(ctx, remote, nil)
	wait := func(what string, holds func() bool) bool {
		for end := time.Now().Add(3 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				p.add("not within 3 s: %s", what)
				return false
			}
		}
		return true
	}
	if !wait("the follower is up to date", func() bool { return replica.Age() < time.Second }) {
		return p
	}
	access := w.auth.Login().OK(w.tb).Access
	known := replica.Len()
	w.auth.Logout(access, "").OK(w.tb)
	wait("the follower hears of a logout", func() bool { return replica.Len() > known })
	return p
}

// stream: what is said comes at once, and as it is said.
func stream(_ *world, g *gateway) (p problems) {
	const long, gap = 2500 * time.Millisecond, time.Second
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		p.add("%v", err)
		return p
	}
	defer c.Close()
	credentials := base64.StdEncoding.EncodeToString([]byte(api.Verifier + ":" + url.QueryEscape(service.VerifierSecret)))
	c.Write(question{host: authHost, target: "/revocations", header: []string{
		"Authorization: Basic " + credentials, "Accept-Encoding: gzip",
	}}.bytes())
	c.SetDeadline(time.Now().Add(5 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		p.add("%v", err)
		return p
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Encoding") != "" {
		p.add("answered %d, encoded by %q", res.StatusCode, res.Header.Get("Content-Encoding"))
	}
	buffer := make([]byte, 32<<10)
	for began, last := time.Now(), time.Now(); time.Since(began) < long; {
		if _, err := res.Body.Read(buffer); err != nil {
			p.add("%v", err)
			return p
		}
		if now := time.Now(); now.Sub(last) > gap {
			p.add("nothing for %v", now.Sub(last))
			return p
		} else {
			last = now
		}
	}
	return p
}
