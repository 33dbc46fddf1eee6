package gateways_test

import (
	"maps"
	"net/http"
	"slices"

	"github.com/authapi/authapi/tests/service"
)

// check is one promise. It returns in what the gateway breaks it.
type check struct {
	name string
	find func(*world, *gateway) problems
}

var checks = []check{
	{"identity", identity},
	{"forged headers", forgedHeaders},
	{"Connection and Upgrade", hopByHop},
	{"two tokens", twoTokens},
	{"refusals", refusals},
	{"every path", everyPath},
	{"smuggling", smuggling},
	{"bodies", bodies},
	{"what authapi is asked", whatIsAsked},
	{"the service's own answers", ownAnswers},
	{"trouble", trouble},
	{"slow", slow},
	{"Redis is away", redisAway},
	{"public routes", publicRoutes},
	{"blocked routes", blockedRoutes},
	{"revocations", revocations},
	{"stream", stream},
}

func checkOf(name string) check {
	for _, c := range checks {
		if c.name == name {
			return c
		}
	}
	panic("no check " + name)
}

// letIn asks what must get through, and returns what is wrong with how it did.
func (w *world) letIn(g *gateway, q question, me service.Answer) (p problems, s seen) {
	w.app.take()
	r := g.ask(q)
	at := w.app.take()
	if r.status != http.StatusOK || len(at) != 1 {
		p.add("%.200q: answered %v, and the service was asked %d times", q.bytes(), r, len(at))
		return p, s
	}
	s = at[0]
	if got, want := s.identity(), identityOf(me); !maps.Equal(got, want) {
		p.add("%.400q: the service was told %v, not %v", q.bytes(), got, want)
	}
	if s.header.Get("Authorization") != "" {
		p.add("%.200q: the service got the token", q.bytes())
	}
	return p, s
}

// keptOut asks what must not get through.
func (w *world) keptOut(g *gateway, q question, statuses ...int) (p problems, r reply) {
	w.app.take()
	r = g.ask(q)
	if n := len(w.app.take()); n != 0 {
		p.add("%.200q: the service was asked %d times", q.bytes(), n)
	}
	if !slices.Contains(statuses, r.status) {
		p.add("%.200q: answered %v, not %d", q.bytes(), r, statuses)
	}
	return p, r
}
