package gateways_test

import (
	"bufio"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/authapi/authapi/tests/service"
)

// identityNames are all that authapi says of a user.
var identityNames = []string{"X-Auth-Subject", "X-Auth-Client-Id", "X-Auth-Session-Id", "X-Auth-Roles", "X-Auth-Scope"}

// identity: the service is told who it is, and the file knows all of the headers
// by which authapi tells.
func identity(w *world, g *gateway) (p problems) {
	for token, me := range map[string]service.Answer{w.editor: w.me, w.plain: w.plainMe} {
		found, _ := w.letIn(g, question{token: token}, me)
		p = append(p, found...)
	}
	w.app.take()
	g.ask(question{token: w.scoped})
	if at := w.app.take(); len(at) != 1 || at[0].identity()["X-Auth-Scope"] != scope {
		p.add("a token with a scope: the service was asked %v", at)
	}
	text, err := os.ReadFile(g.file)
	if err != nil {
		p.add("%v", err)
	}
	verdict := w.auth.Send(service.Request{Path: "/verify", Bearer: w.editor})
	n := 0
	for name := range verdict.Header {
		if strings.HasPrefix(name, "X-Auth-") {
			n++
			if !strings.Contains(string(text), name) {
				p.add("%s knows nothing of %s", g.file, name)
			}
		}
	}
	if n != len(identityNames) {
		p.add("authapi sends %d headers of identity, and this test knows %d", n, len(identityNames))
	}
	return p
}

// forgedHeaders: whatever headers a client makes up, in whatever spelling, the
// service never sees an identity that is not authapi's.
func forgedHeaders(w *world, g *gateway) (p problems) {
	fixed := [][]string{
		{"X-Auth-Subject: forged"},
		{"x-auth-subject: forged", "X-AUTH-SUBJECT: forged"},
		{"X-Auth-Roles: admin", "X-Auth-Scope: everything"}, // authapi leaves these empty for some
		{"X_Auth_Roles: admin"},
		{"X.Auth.Roles: admin"},
		{"X-Auth_Roles: admin"},
		{"X-Harmless: a", " X-Auth-Roles: admin"}, // a folded line, or a header
		{"X-Harmless: a\nX-Auth-Roles: admin"},    // a bare line feed
		{"X-Harmless: a\rX-Auth-Roles: admin"},
		{"X-Auth-Roles : admin"},
		{"X-Auth-Roles\t: admin"},
		{"X-Auth-Roles:admin"},
		{"X-Auth-Roles: \x00admin"},
		{"X-Auth-Roles\x00: admin"},
	}
	for _, name := range identityNames {
		fixed = append(fixed, []string{name + ": forged", name + ": forged twice"})
	}
	random := rand.New(rand.NewPCG(42, 42))
	for range 100 {
		var lines []string
		for range 1 + random.IntN(4) {
			lines = append(lines, misspell(random, identityNames[random.IntN(len(identityNames))])+": forged")
		}
		fixed = append(fixed, lines)
	}
	for _, lines := range fixed {
		if len(p) > 0 {
			return p
		}
		for token, me := range map[string]service.Answer{w.editor: w.me, w.plain: w.plainMe} {
			q := question{token: token, header: lines}
			if random.IntN(2) == 0 {
				q.early, q.header = q.header, nil
			}
			w.app.take()
			r := g.ask(q)
			at := w.app.take()
			// A gateway may refuse to understand it.
			if r.status == http.StatusBadRequest && len(at) == 0 {
				continue
			}
			found, _ := w.letIn(g, q, me)
			p = append(p, found...)
		}
		found, _ := w.keptOut(g, question{header: lines}, http.StatusUnauthorized, http.StatusBadRequest)
		p = append(p, found...)
	}
	// A trailer is not a header, and must not become one.
	found, at := w.letIn(g, question{
		method: "POST", token: w.plain, body: "body", chunked: true,
		header: []string{"Trailer: X-Auth-Roles"}, trailer: "X-Auth-Roles: admin",
	}, w.plainMe)
	p = append(p, found...)
	if at.body != "body" {
		p.add("a body with a trailer arrived as %q", at.body)
	}
	return p
}

// misspell writes a header's name so that it may be read as the same.
func misspell(random *rand.Rand, name string) string {
	const separators = "!#$%&'*+.^`|~"
	var b strings.Builder
	for _, c := range []byte(name) {
		s := string(c)
		switch {
		case c == '-' && random.IntN(8) == 0:
			s = string(separators[random.IntN(len(separators))])
		case c == '-' && random.IntN(2) == 0:
			s = "_"
		case random.IntN(3) == 0:
			s = strings.ToUpper(s)
		case random.IntN(3) == 0:
			s = strings.ToLower(s)
		}
		b.WriteString(s)
	}
	return b.String()
}

// hopByHop: a client cannot have the identity dropped by naming its headers in
// Connection, nor open a tunnel.
func hopByHop(w *world, g *gateway) (p problems) {
	for _, lines := range [][]string{
		{"Connection: close, X-Auth-Subject, X-Auth-Roles"},
		{"Connection: x-auth-subject", "Connection: x-auth-roles"},
		{"Connection: keep-alive, X-Auth-Client-Id, X-Auth-Session-Id", "Keep-Alive: timeout=5"},
		{"Proxy-Connection: X-Auth-Subject"},
		{"Connection: Authorization"},
	} {
		found, _ := w.letIn(g, question{token: w.editor, header: lines}, w.me)
		p = append(p, found...)
	}
	for _, protocol := range []string{"h2c", "websocket", "anything"} {
		found, at := w.letIn(g, question{token: w.editor, header: []string{
			"Connection: Upgrade, HTTP2-Settings", "Upgrade: " + protocol, "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
		}}, w.me)
		p = append(p, found...)
		if at.header.Get("Upgrade") != "" {
			p.add("the service was asked to upgrade to %s", protocol)
		}
	}
	return p
}

// twoTokens: of two Authorization headers either none counts, or the first.
func twoTokens(w *world, g *gateway) (p problems) {
	second := func(token string) []string { return []string{"Authorization: Bearer " + token} }
	for _, q := range []question{
		{token: w.editor, header: second("garbage")},
		{token: w.editor, header: second(w.plain)},
	} {
		w.app.take()
		r := g.ask(q)
		for _, at := range w.app.take() {
			if at.identity()["X-Auth-Subject"] != w.me.Subject || at.header.Get("Authorization") != "" {
				p.add("two tokens: the service was told %v", at.header)
			}
		}
		if r.status != http.StatusOK && r.status != http.StatusUnauthorized && r.status != http.StatusBadRequest {
			p.add("two tokens: answered %v", r)
		}
	}
	found, _ := w.keptOut(g, question{token: "garbage", header: second(w.editor)}, http.StatusUnauthorized, http.StatusBadRequest)
	return append(p, found...)
}

// smuggling: what one program reads as one request and another as two.
func smuggling(w *world, g *gateway) (p problems) {
	const hidden = "GET /hidden HTTP/1.1\r\nHost: " + appHost + "\r\nX-Auth-Subject: forged\r\n\r\n"
	authorization := "Authorization: Bearer " + w.editor + "\r\n"
	head := func(line, headers string) string {
		return line + "\r\nHost: " + appHost + "\r\n" + headers + "\r\n"
	}
	for name, bytes := range map[string]string{
		"both lengths":         head("POST / HTTP/1.1", authorization+"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + hidden,
		"two lengths":          head("POST / HTTP/1.1", authorization+"Content-Length: 0\r\nContent-Length: 100\r\n") + hidden,
		"odd encoding":         head("POST / HTTP/1.1", authorization+"Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n" + hidden,
		"encoding, with space": head("POST / HTTP/1.1", authorization+"Transfer-Encoding : chunked\r\n") + "0\r\n\r\n" + hidden,
		"chunks in HTTP/1.0":   head("POST / HTTP/1.0", authorization+"Transfer-Encoding: chunked\r\n") + "0\r\n\r\n" + hidden,
		"a body of GET":        head("GET / HTTP/1.1", authorization+"Content-Length: 0\r\n") + hidden,
		"after a refusal":      head("POST / HTTP/1.1", "Content-Length: 0\r\n") + hidden,
		"in a refused body":    head("POST / HTTP/1.1", "Content-Length: 10\r\n") + "0123456789" + hidden,
	} {
		w.app.take()
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			p.add("%v", err)
			continue
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write([]byte(bytes))
		from := bufio.NewReader(c)
		// What is hidden has no token: if it is taken for a request it is refused.
		for r := read(from, "POST"); r.err == nil && r.status != http.StatusUnauthorized && r.status != http.StatusBadRequest; {
			r = read(from, "GET")
		}
		c.Close()
		for _, at := range w.app.take() {
			if strings.Contains(at.target, "hidden") || at.identity()["X-Auth-Subject"] != w.me.Subject {
				p.add("%s: the service was asked %s for %v", name, at.target, at.identity())
			}
		}
	}
	found, _ := w.letIn(g, question{token: w.editor, version: "HTTP/1.0"}, w.me)
	p = append(p, found...)
	found, _ = w.keptOut(g, question{version: "HTTP/1.0"}, http.StatusUnauthorized)
	return append(p, found...)
}
