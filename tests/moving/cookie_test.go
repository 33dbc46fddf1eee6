package moving_test

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func cookie(t *testing.T, d *deployment) {
	b := in(t, d.a)
	again := b.refresh(d.a, "1").is(t, http.StatusOK).Cookie
	for _, c := range []*http.Cookie{in(t, d.b).cookie, again} {
		if c == nil || c.Name != "refresh" || !c.HttpOnly || c.Secure || c.SameSite != http.SameSiteStrictMode ||
			c.Path != "/" || c.Domain != "" || c.MaxAge < 1209590 || c.MaxAge > 1209600 {
			t.Errorf("the cookie on http://localhost is %v", c)
		}
	}
	gone := b.logout(d.a).Cookie
	if gone == nil || gone.Value != "" || !gone.HttpOnly || gone.SameSite != http.SameSiteStrictMode || gone.Path != "/" {
		t.Errorf("the cookie is cleared with %v", gone)
	}
}

// cookieOnHTTPS: behind a proxy that ends TLS, which says so or does not.
func cookieOnHTTPS(t *testing.T, d *deployment) {
	p := d.application(d.name, "ORIGIN=https://shop.example.com")
	b := in(t, p)
	again := b.refresh(p, "1").is(t, http.StatusOK).Cookie
	gone := b.copy().logout(p).Cookie
	for _, c := range []*http.Cookie{in(t, p).cookie, again, gone} {
		if c == nil || c.Name != "__Host-refresh" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode ||
			c.Path != "/" || c.Domain != "" {
			t.Errorf("the cookie on https is %v", c)
		}
	}
	// One that any neighbour could have planted does not count.
	b = in(t, p)
	b.cookie = &http.Cookie{Name: "refresh", Value: b.cookie.Value}
	b.refresh(p, "1").is(t, http.StatusUnauthorized)

	// http anywhere else is a mistake, found at the start.
	const origin = "http://shop.example.com"
	node := exec.Command("node", applications[d.name])
	node.Env = []string{"PATH=" + os.Getenv("PATH"), "PORT=" + port(freeAddress(t)), "ORIGIN=" + origin}
	kill := time.AfterFunc(patience, func() { _ = node.Process.Kill() })
	out, err := node.CombinedOutput()
	if !kill.Stop() || err == nil || !strings.Contains(string(out), origin) {
		t.Errorf("with the origin %s: %v\n%s", origin, err, out)
	}
}

// plantedCookie: garbage in a cookie must not keep anybody from logging in.
func plantedCookie(t *testing.T, d *deployment) {
	for _, value := range []string{"x", "authapi_rt_" + strings.Repeat("A", 56), strings.Repeat("A", 10_000), `"quoted"`} {
		b := &browser{t: t, cookie: &http.Cookie{Name: "refresh", Value: value}}
		b.copy().refresh(d.a, "1").is(t, http.StatusUnauthorized)
		b.copy().logout(d.a).is(t, http.StatusOK)
		b.login(d.a).is(t, http.StatusOK)
		b.refresh(d.a, "1").is(t, http.StatusOK)
	}
}

// otherSites: pages elsewhere cannot act in the user's name.
func otherSites(t *testing.T, d *deployment) {
	b := in(t, d.a)
	cookie := b.cookie.Name + "=" + b.cookie.Value
	credentials := `{"username":"` + username + `","password":"` + password + `"}`
	for _, path := range []string{"/login", "/refresh", "/logout"} {
		for name, header := range map[string][]string{
			"a form":              {"Cookie", cookie},
			"another site":        {"Cookie", cookie, "X-Requested-With", "fetch", "Sec-Fetch-Site", "cross-site"},
			"a subdomain":         {"Cookie", cookie, "X-Requested-With", "fetch", "Sec-Fetch-Site", "same-site"},
			"a form in a browser": {"Cookie", cookie, "Sec-Fetch-Site", "same-origin"},
		} {
			if a := send(t, http.MethodPost, d.a.url()+path, credentials, header...); a.Status != http.StatusForbidden || a.Cookie != nil {
				t.Errorf("%s to %s: %d %v", name, path, a.Status, a.Cookie)
			}
		}
		// What a browser asks before it sends a header across origins.
		a := send(t, http.MethodOptions, d.a.url()+path, "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "x-requested-with")
		if a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s is open to other origins: %v", path, a.Header)
		}
		send(t, http.MethodGet, d.a.url()+path, "", "Cookie", cookie).is(t, http.StatusNotFound)
	}
	// A form cannot send JSON, and what is not JSON is no login.
	send(t, http.MethodPost, d.a.url()+"/login", credentials, "X-Requested-With", "fetch", "Content-Type", "text/plain").
		is(t, http.StatusUnauthorized)
	b.refresh(d.a, "1").is(t, http.StatusOK)
}

// forwarded: headers of proxies that were not configured change nothing.
func forwarded(t *testing.T, d *deployment) {
	b := &browser{t: t}
	a := b.post(d.a, "/login", `{"username":"`+username+`","password":"`+password+`"}`,
		"X-Forwarded-Proto", "https", "X-Forwarded-Host", "evil.example", "Forwarded", "proto=https;host=evil.example")
	if a.is(t, http.StatusOK).Cookie == nil || a.Cookie.Name != "refresh" || a.Cookie.Domain != "" {
		t.Errorf("a client decides about its cookie: %v", a.Cookie)
	}
}
