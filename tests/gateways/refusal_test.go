package gateways_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/authapi/authapi/tests/service"
)

// refusals: whoever has no good token is told so in authapi's words.
func refusals(w *world, g *gateway) (p problems) {
	revoked := w.auth.Login().OK(w.tb).Access
	w.auth.Logout(revoked, "").OK(w.tb)
	for name, token := range map[string]string{
		"none": "", "garbage": "garbage", "expired": w.expired, "for another audience": w.foreign, "revoked": revoked,
		"a part": w.editor[:len(w.editor)-10], "with quotes": `"},"`, "long": strings.Repeat("a", 6000),
	} {
		for _, method := range []string{"GET", "POST"} {
			found, r := w.keptOut(g, question{token: token, method: method}, http.StatusUnauthorized)
			p = append(p, found...)
			said := w.auth.Send(service.Request{Path: "/verify", Bearer: token})
			// nginx makes the body from the header, which says the same.
			_, why, _ := strings.Cut(said.Header.Get("WWW-Authenticate"), `error_description=`)
			made := `{"error":"invalid_token","error_description":` + why + "}\n"
			if r.body != string(said.Body) && r.body != made || r.header.Get("Content-Type") != "application/json" {
				p.add("%s: %q of type %q, and authapi says %q", name, r.body, r.header.Get("Content-Type"), said.Body)
			}
			if got, want := r.header.Values("WWW-Authenticate"), said.Header.Values("WWW-Authenticate"); len(got) != 1 || got[0] != want[0] {
				p.add("%s: WWW-Authenticate: %q, and authapi says %q", name, got, want)
			}
			if said.Header.Get("Cache-Control") != "" && r.header.Get("Cache-Control") != "no-store" {
				p.add("%s: Cache-Control: %q", name, r.header.Get("Cache-Control"))
			}
		}
	}
	for _, line := range []string{
		"Authorization: Basic " + w.editor, "Authorization: " + w.editor, "Authorization:", "Cookie: Authorization=" + w.editor,
		"Proxy-Authorization: Bearer " + w.editor, "X-Authorization: Bearer " + w.editor,
	} {
		found, _ := w.keptOut(g, question{header: []string{line}}, http.StatusUnauthorized)
		p = append(p, found...)
	}
	// What the token has to be for is not the client's choice.
	for _, query := range []string{"?audience=" + url.QueryEscape(elsewhere), "?&audience=" + url.QueryEscape(elsewhere), "?audience=" + elsewhere + "#"} {
		found, _ := w.keptOut(g, question{token: w.foreign, target: "/" + query}, http.StatusUnauthorized)
		p = append(p, found...)
	}
	found, _ := w.keptOut(g, question{target: "/?access_token=" + w.editor}, http.StatusUnauthorized)
	return append(p, found...)
}

// everyPath: there is no path, no method and no name of the host that leads past
// the guard.
func everyPath(w *world, g *gateway) (p problems) {
	for _, target := range []string{
		"/", "/health", "/favicon.ico", "/static/app.js", "/robots.txt", "/verify", "/login", "/me", "/.well-known/jwks.json",
		"/a/../b", "/a/%2e%2e/b", "/a/.%2e/b", "/a/..;/b", "/a;x=y/b", "/a%2fb", "/a%2f..%2fb", "/a%5c..%5cb", "/a//b", "//", "//b",
		"//app.example.com/b", "/a%252e%252e/b", "/a/.", "/a/..", "/a?b=/../c", "/?/b", "/%61", "/A", "/a%20b", "/a%0ab", "/a%00b", "/%ff", "/a\\b",
		"/a#b", "*", "a", "", "http://" + appHost + "/b", "http://evil.example.com/b", "http://" + authHost + "/b", "https://" + appHost + "/b",
		"http:///b", "http://" + appHost + "@evil.example.com/b", "/_authapi", "/_authapi/", "/_authapi?x", "/%5fauthapi", "//_authapi",
		"/@trouble", "/@refused", "/" + strings.Repeat("a/", 500), "/" + strings.Repeat("../", 20),
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			w.app.take()
			w.authapi.take()
			if r := g.ask(question{target: target, method: method}); r.status >= 200 && r.status < 400 {
				// Caddy answers 200 and nothing to names that it does not know.
				if g.name != "caddy" || r.body != "" {
					p.add("%s %.50s without a token: %v", method, target, r)
				}
			}
			if n := len(w.app.take()); n > 0 {
				p.add("%s %.50s without a token: the service was asked", method, target)
			}
			for _, at := range w.authapi.take() {
				if at.target != "/verify" {
					p.add("%s %.50s without a token: authapi was asked for %s", method, target, at.target)
				}
			}
		}
	}
	// Those that need no decoding arrive as they were sent.
	for _, target := range []string{"/a/b?c=d", "/a%2fb", "/a/..;/b", "/a%252e%252e/b", "/%61", "/a//b", "/a/../b", "/?access=1&x=%2f"} {
		found, at := w.letIn(g, question{token: w.editor, target: target}, w.me)
		p = append(p, found...)
		if at.target != target {
			p.add("%s arrived as %s", target, at.target)
		}
	}
	if r := g.ask(question{token: w.editor, target: "/_authapi"}); r.status == http.StatusNoContent || r.header.Get("X-Auth-Subject") != "" {
		p.add("the verdict itself can be asked for: %v", r)
	}
	for _, method := range []string{"HEAD", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "get", "X"} {
		w.app.take()
		r := g.ask(question{method: method})
		if n := len(w.app.take()); n > 0 || r.status < 400 && r.err == nil {
			p.add("%s without a token: %v", method, r)
		}
	}
	for _, host := range []string{authHost, "evil.example.com", "localhost", "127.0.0.1", "APP.EXAMPLE.COM", appHost + ".", appHost + ":1234", "*", "_", "app"} {
		w.app.take()
		g.ask(question{host: host})
		g.ask(question{host: host, target: "http://" + appHost + "/b"})
		if n := len(w.app.take()); n > 0 {
			p.add("as %s without a token: the service was asked", host)
		}
	}
	return p
}

// bodies arrive as they were sent, at the service and nowhere else.
func bodies(w *world, g *gateway) (p problems) {
	for _, size := range []int{1, 100, 20_000, 300_000} {
		body := strings.Repeat("0123456789", size/10+1)[:size]
		for _, chunked := range []bool{false, true} {
			if len(p) > 0 {
				return p
			}
			w.authapi.take()
			found, at := w.letIn(g, question{method: "POST", token: w.editor, body: body, chunked: chunked}, w.me)
			p = append(p, found...)
			if at.body != body || at.method != "POST" {
				p.add("%d bytes arrived as %d, by %s", size, len(at.body), at.method)
			}
			for _, at := range w.authapi.take() {
				if at.body != "" || at.method != "GET" {
					p.add("authapi got %d bytes, by %s", len(at.body), at.method)
				}
			}
		}
	}
	return p
}

// whatIsAsked: authapi is asked once for each request, over few connections, and
// told nothing but the token.
func whatIsAsked(w *world, g *gateway) (p problems) {
	const requests = 30
	w.authapi.take()
	before := w.authapi.connections()
	for i := range requests {
		found, _ := w.letIn(g, question{
			method: "POST", token: w.editor, body: "body", target: "/?audience=elsewhere&secret=x",
			header: []string{
				"Content-Type: application/json", "Cookie: secret", "X-Forwarded-For: 10.0.0.1", "Expect: 100-continue",
			}[:i%5],
		}, w.me)
		p = append(p, found...)
	}
	at := w.authapi.take()
	if len(at) != requests {
		p.add("%d requests, and authapi was asked %d times", requests, len(at))
	}
	if n := w.authapi.connections() - before; n > 3 {
		p.add("%d connections for %d requests", n, requests)
	}
	harmless := map[string]bool{"Authorization": true, "Accept-Encoding": true, "User-Agent": true}
	for _, s := range at {
		if s.method != "GET" || s.target != "/verify" || s.body != "" {
			p.add("authapi was asked %s %s with %q", s.method, s.target, s.body)
		}
		for name, values := range s.header {
			if !harmless[name] {
				p.add("authapi was told %s: %s", name, values)
			}
		}
		if host, _, _ := strings.Cut(s.host, ":"); host != "localhost" && host != "127.0.0.1" {
			p.add("authapi was asked as %s, which the demo does not answer to", s.host)
		}
	}
	return p
}

// ownAnswers: what the service says is not the gateway's business.
func ownAnswers(w *world, g *gateway) (p problems) {
	for _, status := range []int{200, 401, 500} {
		r := g.ask(question{token: w.editor, target: fmt.Sprintf("/?answer=%d", status)})
		if r.status != status || strings.TrimSpace(r.body) != "the service's own" {
			p.add("%d became %v", status, r)
		}
		if status == 401 && !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Basic") {
			p.add("the service's challenge became %q", r.header.Values("WWW-Authenticate"))
		}
	}
	w.app.cut()
	r := g.ask(question{token: w.editor})
	w.app.mend()
	if r.status != http.StatusBadGateway {
		p.add("without the service: %v", r)
	}
	return p
}
