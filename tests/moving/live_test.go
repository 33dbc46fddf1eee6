package moving_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// liveSessions: people who are logged in at the old application stay so when the
// new one takes its place.
func liveSessions(t *testing.T, d *deployment) {
	a, b := d.a, d.b
	old := d.old(anywhere, "brief/express.cjs")
	sid := func() string { return oldLogin(t, old) }
	// come is the front end's first request: it knows no more than that the
	// browser may have a cookie.
	come := func(b *browser, p *program, sid string) answer {
		return b.post(p, "/refresh", "", "Idempotency-Key", "first", "Cookie", sid)
	}

	first := sid()
	user := &browser{t: t}
	answer := come(user, a, first).is(t, http.StatusOK)
	if user.cookie == nil || !strings.Contains(strings.Join(answer.Header["Set-Cookie"], "\n"), "sid=;") {
		t.Errorf("cookies after the move: %v", answer.Header["Set-Cookie"])
	}
	for _, p := range []*program{a, b} {
		if me := user.me(p).is(t, http.StatusOK); me.User.ID != "1" || fmt.Sprint(me.User.Roles) != "[user]" {
			t.Errorf("after the move: %s", me.Body)
		}
	}
	if since := time.Unix(int64(claim(t, user.access, "auth_time").(float64)), 0); since.Year() != 2000 {
		t.Errorf("the token says that somebody typed a password at %v", since)
	}
	user.refresh(b, "1").is(t, http.StatusOK)
	user.logout(b).is(t, http.StatusOK)

	// The old session has ended with that.
	send(t, http.MethodGet, old.url()+"/me", "", "Cookie", first).is(t, http.StatusUnauthorized)
	come(&browser{t: t}, b, first).is(t, http.StatusUnauthorized)
	// What is not an old session gets nothing.
	come(&browser{t: t}, a, "sid=s%3Amade-up.signature").is(t, http.StatusUnauthorized)
	forged := sid()
	come(&browser{t: t}, a, forged[:len(forged)-5]+"AAAAA").is(t, http.StatusUnauthorized)
	(&browser{t: t}).refresh(a, "1").is(t, http.StatusUnauthorized)
	send(t, http.MethodPost, a.url()+"/refresh", "", "Cookie", sid()).is(t, http.StatusForbidden)

	// Two tabs at once, at different processes.
	both := sid()
	tabs := []*browser{{t: t}, {t: t}}
	var wg sync.WaitGroup
	for i, tab := range tabs {
		wg.Go(func() { come(tab, []*program{a, b}[i], both) })
	}
	wg.Wait()
	if tabs[0].cookie == nil && tabs[1].cookie == nil {
		t.Error("two tabs at once, and neither is logged in")
	}
	for _, tab := range tabs {
		if tab.cookie != nil {
			tab.refresh(a, "1").is(t, http.StatusOK)
		}
	}

	// Trouble on either side logs nobody out.
	waiting := sid()
	d.service.kill()
	come(&browser{t: t}, a, waiting).trouble(t)
	if !d.service.start() {
		t.Fatalf("the service does not come back:\n%s", d.service.log)
	}
	d.wait(a)
	patient := &browser{t: t}
	come(patient, a, waiting).is(t, http.StatusOK)
	patient.me(a).is(t, http.StatusOK)
}

// oldRedisIsDown: whoever has moved does not need it any more, and whoever has
// not is not logged out.
func oldRedisIsDown(t *testing.T, d *deployment) {
	before, moved := d.old(anywhere, "brief/express.cjs"), in(t, d.a)
	sid := oldLogin(t, before)
	d.oldRedis.Kill()
	eventually(t, patience, "the process has noticed", func() bool { return strings.Contains(d.a.log.String(), "old sessions: ") })
	(&browser{t: t}).post(d.a, "/refresh", "", "Cookie", sid).trouble(t)
	send(t, http.MethodPost, d.a.url()+"/refresh", "", "X-Requested-With", "fetch",
		"Cookie", sid+"; "+moved.cookie.Name+"="+moved.cookie.Value).is(t, http.StatusOK)
	moved.me(d.a).is(t, http.StatusOK)
}

// oldLogin logs in at an application of before, and returns the cookie.
func oldLogin(t testing.TB, p *program) string {
	t.Helper()
	header := send(t, http.MethodPost, p.url()+"/login", "").is(t, http.StatusOK).Header
	cookie, _, _ := strings.Cut(header.Get("Set-Cookie"), ";")
	return cookie
}
