package hostile_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/program"
	"github.com/authapi/authapi/tests/service"
)

// refuses fails the test unless the service ends by itself, with a word about
// what is wrong.
func refuses(t *testing.T, environ []string, says string) {
	t.Helper()
	cmd := exec.Command(program.Binary(t))
	cmd.Env = environ
	said := &program.Buffer{}
	cmd.Stdout, cmd.Stderr = said, said
	ended, err := program.Launch(cmd, syscall.SIGKILL)
	must(t, err)
	eventually(t, says+" is refused", func() bool {
		select {
		case <-ended:
			return true
		default:
			if strings.Contains(said.String(), `"msg":"serving"`) {
				_ = cmd.Process.Kill()
				t.Errorf("serves with %s", says)
				return true
			}
			return false
		}
	})
	<-ended
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(said.String(), says) {
		t.Errorf("%s: exit code %d: %s", says, code, said)
	}
}

// lookalikes are origins that a loose comparison takes for the right one.
var lookalikes = []string{
	"https://app.example.com.evil.example", "https://evil-app.example.com", "https://evilapp.example.com", "https://evil.app.example.com",
	"https://example.com", "https://appxexample.com", "https://app.example.comx", "https://app.example.com:8443", "https://app.example.com:443",
	"http://app.example.com", "HTTPS://APP.EXAMPLE.COM", "https://app.example.com/", "https://app.example.com.", "https://app.example.com?",
	"https://app.example.com@evil.example", "https://evil.example#https://app.example.com", "https://evil.example/https://app.example.com",
	"https://app.example.com https://evil.example", "https://evil.example,https://app.example.com", "https://app.example.com\t",
	"https://app%2eexample.com", "https://\u0430pp.example.com", "https://xn--pp-6kc.example.com", "https://app.example.com\\.evil.example",
	"https://app.example.com`.evil.example", "null", "*", "https://*", "file://", "about:blank", "app.example.com", "//app.example.com",
}

// Row 51: no pattern is an origin, at the start, and nothing that looks like the
// right one gets in: it hears no word that a page could read.
func TestRow51LooseOrigins(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	file := filepath.Join(t.TempDir(), "clients.yaml")
	environ := append(deployment(t, s), "AUTHAPI_CLIENTS_FILE="+file)
	configure := func(origins ...string) {
		t.Helper()
		text := "clients:\n  - id: mobile\n    type: public\n  - id: web\n    type: public\n    transport: cookie\n    origins:\n"
		for _, o := range origins {
			text += fmt.Sprintf("      - %q\n", o)
		}
		must(t, os.WriteFile(file, []byte(text), 0o600))
	}
	for _, loose := range []string{
		"*", "null", "https://*", "https://*.example.com", "https://app.*", "https://app.example.com:*", "https://.example.com",
		"*.example.com", "https://app.example.com/", "https://(app|web).example.com", "https://APP.example.com", "https://app.example.com:443",
	} {
		configure(origin, loose)
		if loose == "https://.example.com" {
			continue // a name that no page has: harmless
		}
		refuses(t, environ, loose)
	}
	configure(origin)
	p := start(t, environ)
	ask := func(o string, preflight bool) http.Header {
		t.Helper()
		text := "POST /refresh HTTP/1.1\r\nContent-Length: 0\r\n"
		if preflight {
			text = "OPTIONS /refresh HTTP/1.1\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"
		}
		got := talk(t, p.addr, text+"Host: localhost\r\nConnection: close\r\nOrigin: "+o+"\r\n\r\n")
		if len(got) != 1 {
			t.Fatalf("%q: %v", o, statuses(got))
		}
		return got[0].header
	}
	for _, preflight := range []bool{false, true} {
		if h := ask(origin, preflight); h.Get("Access-Control-Allow-Origin") != origin || h.Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("the right origin: %v", h)
		}
		for _, o := range lookalikes {
			if o == "https://app.example.com\t" {
				continue // white space around a value is not part of it
			}
			h := ask(o, preflight)
			for name := range h {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%q: %s: %s", o, name, h.Get(name))
				}
			}
			if !slices.Contains(h.Values("Vary"), "Origin") {
				t.Errorf("%q: a cache may give the answer to others", o)
			}
		}
	}
}

// Row 48, continued: what a page elsewhere can make a browser send without asking
// first (a form, a script's simple request), or by asking for more than it may.
func TestRow48SimpleRequests(t *testing.T) {
	t.Parallel()
	v := service.Start(t, redistest.Redis(t))
	cookie := cookieOf(t, v)
	asked := redistest.CommandCount(v.Redis)
	login := fmt.Sprintf(`{"username":%q,"password":%q,"client_id":"web"}`, service.Username, service.Password)
	bodies := map[string]string{
		"":                                  "",
		"application/x-www-form-urlencoded": login + "=",
		"multipart/form-data; boundary=x":   "--x\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nalice\r\n--x--\r\n",
		// <form enctype="text/plain"> with a field whose name begins an object.
		"text/plain": login[:len(login)-1] + `,"x":"=y"}`,
		// A script's, that hopes for a lenient reader.
		"text/plain; application/json":                        login,
		"text/plain;charset=UTF-8;application/json":           login,
		"application/x-www-form-urlencoded, application/json": login,
	}
	for _, path := range []string{"/login", "/refresh", "/logout"} {
		for contentType, body := range bodies {
			for name, headers := range map[string][][2]string{
				"neither header": nil,
				"cross-site":     {{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}},
				"sibling":        {{"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example.com"}},
				"own page":       {{"Sec-Fetch-Site", "same-site"}, {"Origin", service.Origin}},
				"sandboxed":      {{"Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}},
				"old browser":    {{"Origin", "null"}},
				"method":         {{"X-Http-Method-Override", "POST"}},
			} {
				r := service.Request{Method: "POST", Path: path, Type: contentType, Body: body}.WithHeader("Cookie", api.DefaultCookie+"="+cookie)
				for _, h := range headers {
					r = r.WithHeader(h[0], h[1])
				}
				a := v.Send(r)
				if a.Status != 403 && a.Status != 415 || len(a.Header.Values("Set-Cookie")) > 0 {
					t.Errorf("%s, %q, %s: %d %s", path, contentType, name, a.Status, a.Error)
				}
			}
		}
	}
	// A page that looks like the right one to a loose comparison, with everything
	// else in order.
	for _, o := range lookalikes {
		if strings.ContainsAny(o, "\t") {
			continue
		}
		for _, site := range []string{"cross-site", "same-site", ""} {
			r := service.Request{Method: "POST", Path: "/refresh"}.WithHeader("Cookie", api.DefaultCookie+"="+cookie).
				WithHeader("X-Requested-With", "x").WithHeader("Origin", o)
			if site != "" {
				r = r.WithHeader("Sec-Fetch-Site", site)
			}
			a := v.Send(r)
			if a.Status != 403 || a.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%q, %q: %d %s", o, site, a.Status, a.Error)
			}
		}
	}
	// A browser that asks first is told no, and changes nothing by asking.
	for _, c := range [][3]string{
		{"https://evil.example", "POST", "x-requested-with"},
		{service.Origin, "POST", "x-requested-with, x-forwarded-for"},
		{service.Origin, "POST", "x-requested-with,\u00a0cookie"},
		{service.Origin, "PUT", "x-requested-with"},
		{service.Origin, "TRACE", ""},
		{service.Origin, "POST, GET", ""},
		{service.Origin, "*", "*"},
		{"null", "POST", "x-requested-with"},
	} {
		a := v.Send(service.Request{Method: "OPTIONS", Path: "/refresh"}.WithHeader("Cookie", api.DefaultCookie+"="+cookie).
			WithHeader("Origin", c[0]).WithHeader("Access-Control-Request-Method", c[1]).WithHeader("Access-Control-Request-Headers", c[2]))
		if a.Header.Get("Access-Control-Allow-Methods") != "" || a.Header.Get("Access-Control-Allow-Credentials") != "" && a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%q: %v", c, a.Header)
		}
	}
	// Methods that browsers hold to be safe change nothing here.
	for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
		for _, path := range []string{"/login", "/refresh", "/logout", "/oauth/token"} {
			a := v.Send(service.Request{Method: method, Path: path}.WithHeader("Cookie", api.DefaultCookie+"="+cookie).WithHeader("X-Requested-With", "x"))
			a.Is(t, 405, map[bool]string{true: "", false: "method_not_allowed"}[method == "HEAD"])
		}
	}
	if n := asked.Total(); n != 0 {
		t.Errorf("Redis was asked %d times: %v", n, asked.Names())
	}
}
