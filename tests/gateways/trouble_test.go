package gateways_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// trouble: whatever happens to authapi, nobody is let in, and whoever has a good
// token is not told that it is bad.
func trouble(w *world, g *gateway) (p problems) {
	defer w.authapi.mend()
	status := func(code int) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) }
	}
	for name, happens := range map[string]func(){
		"500": func() { w.authapi.answer(status(500)) },
		"502": func() { w.authapi.answer(status(502)) },
		"503": func() { w.authapi.answer(status(503)) },
		"400": func() { w.authapi.answer(status(400)) },
		"404": func() { w.authapi.answer(status(404)) },
		"a redirect": func() {
			w.authapi.answer(func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/ok", http.StatusFound) })
		},
		"200 of somebody else": func() { w.authapi.answer(status(200)) },
		"a good verdict about nobody": func() {
			w.authapi.answer(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("X-Auth-Roles", "admin")
				rw.WriteHeader(http.StatusNoContent)
			})
		},
		"not HTTP": func() {
			w.authapi.answer(func(rw http.ResponseWriter, _ *http.Request) {
				c, _, err := http.NewResponseController(rw).Hijack()
				if err == nil {
					c.Write([]byte("hello\n"))
					c.Close()
				}
			})
		},
		"authapi is cut off": w.authapi.cut,
	} {
		happens()
		// Twice, since the connections that there were fail first.
		for range 2 {
			p = append(p, w.unavailable(g, name, question{token: w.editor, header: []string{"X-Auth-Subject: forged"}})...)
		}
		w.authapi.mend()
		found, _ := w.letIn(g, question{token: w.editor}, w.me)
		p = append(p, found...)
	}
	w.authapi.answer(status(http.StatusForbidden)) // authapi never says that
	found, _ := w.keptOut(g, question{token: w.editor}, http.StatusForbidden, http.StatusServiceUnavailable)
	return append(p, found...)
}

// unavailable asks what must be answered 503.
func (w *world) unavailable(g *gateway, when string, q question) (p problems) {
	found, r := w.keptOut(g, q, http.StatusServiceUnavailable)
	for _, f := range found {
		p.add("%s: %s", when, f)
	}
	var body struct{ Error string }
	if json.Unmarshal([]byte(r.body), &body) != nil || body.Error != "temporarily_unavailable" {
		p.add("%s: the body is %q", when, r.body)
	}
	if r.header.Get("Retry-After") != "1" || r.header.Get("Content-Type") != "application/json" || r.header.Get("Cache-Control") != "no-store" {
		p.add("%s: %v", when, r.header)
	}
	return p
}

// slow: nobody waits for an authapi that hangs.
func slow(w *world, g *gateway) (p problems) {
	defer w.authapi.mend()
	w.authapi.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	began := time.Now()
	p = w.unavailable(g, "authapi hangs", question{token: w.editor})
	if took := time.Since(began); took > 5*time.Second {
		p.add("answered after %v", took)
	}
	return p
}

// redisAway: authapi is there but cannot tell.
func redisAway(w *world, g *gateway) (p problems) {
	w.redis.Pause()
	p = w.unavailable(g, "Redis is away", question{token: w.editor})
	found, _ := w.keptOut(g, question{}, http.StatusUnauthorized) // that can be told
	p = append(p, found...)
	w.redis.Resume()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		found, _ := w.letIn(g, question{token: w.editor}, w.me)
		if len(found) == 0 || time.Now().After(end) {
			return append(p, found...)
		}
	}
}

// TestNobodyListens: authapi is not running at all.
func TestNobodyListens(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			k.need(t)
			w := newWorld(t)
			g := k.start(t, w, func(o *options) { o.authapi = freeAddress(t) })
			for _, problem := range w.unavailable(g, "nobody listens", question{token: w.editor}) {
				t.Error(problem)
			}
			if r := g.ask(question{host: authHost, target: "/me", token: w.editor}); r.status != 503 || r.header.Get("Retry-After") != "1" {
				t.Errorf("authapi's own routes: %v", r)
			}
		})
	}
}
