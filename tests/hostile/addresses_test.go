package hostile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/authapi/authapi/internal/redistest"
)

// Whose address an event of the log shows is whose connection it came over, or
// whom a proxy names that the operator trusts. Nothing else that a client writes
// has a say in it: there are as many headers for it as there are proxies.
func TestSpoofedAddresses(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	environ := deployment(t, s, "AUTHAPI_VERIFIER_SECRET=kK2q1mXlD9cT7vR0wZs5yB8nHf3gUjLpQe4tYaSdFgE=")
	direct := start(t, environ)
	behind := start(t, append(environ, "AUTHAPI_TRUSTED_PROXIES=127.0.0.0/8,10.0.0.0/8,fd00::/8"))
	elsewhere := start(t, append(environ, "AUTHAPI_TRUSTED_PROXIES=10.0.0.0/8"))
	const victim = "192.0.2.66"
	var elsewise []string
	for _, header := range []string{
		"X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Azure-ClientIP",
		"X-Original-Forwarded-For", "X-Originating-IP", "X-Remote-IP", "X-Remote-Addr", "X-ProxyUser-Ip", "Client-IP", "WL-Proxy-Client-IP",
		"X_Forwarded_For", "X_FORWARDED-FOR", "X-Forwarded_For", "X-Forwarded", "Forwarded-For", "Via", "Remote_Addr", "HTTP_X_FORWARDED_FOR",
	} {
		elsewise = append(elsewise, header+": "+victim)
	}
	elsewise = append(elsewise, "Forwarded: for="+victim+";proto=https;by=127.0.0.1", `Forwarded: for="[2001:db8::66]:80"`, "X-Forwarded-Host: evil.example")
	all := strings.Join(elsewise, "\r\n") + "\r\n"

	// A client that authenticates badly leaves an event, and costs no hashing.
	ip := func(p *instance, headers string) string {
		t.Helper()
		from := len(p.Log())
		got := talk(t, p.addr, "POST /oauth/introspect HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic dmVyaWZpZXI6eA==\r\n"+
			"Connection: close\r\nContent-Length: 0\r\n"+headers+"\r\n")
		if len(got) != 1 || got[0].status != 401 {
			t.Fatalf("%q: %v", headers, statuses(got))
		}
		var found []map[string]any
		eventually(t, "the event is in the log", func() bool {
			found = p.records("client refused: wrong secret", from)
			return len(found) > 0
		})
		return fmt.Sprint(found[0]["ip"])
	}
	for _, c := range []struct {
		name string
		xff  []string
		want string // behind trusted proxies; "" if nobody can tell
	}{
		{"none", nil, ""},
		{"one", []string{"203.0.113.9"}, "203.0.113.9"},
		{"spoofed in front", []string{victim + ", 203.0.113.9"}, "203.0.113.9"},
		{"spoofed in a header of its own", []string{victim, "203.0.113.9"}, "203.0.113.9"},
		{"spoofed as a proxy", []string{"10.0.0.1, 127.0.0.1, 203.0.113.9"}, "203.0.113.9"},
		{"through proxies", []string{victim + ", 203.0.113.9, 10.0.0.1", "fd00::1"}, "203.0.113.9"},
		{"through proxies, mapped", []string{victim + ", 203.0.113.9, ::ffff:10.0.0.1"}, "203.0.113.9"},
		{"through proxies, with a zone", []string{victim + ", 203.0.113.9, fd00::1%eth0"}, "203.0.113.9"},
		{"mapped", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"mapped, in hexadecimal", []string{"::ffff:cb00:7109"}, "203.0.113.9"},
		{"IPv6", []string{victim + ", 2001:DB8:0:0::9"}, "2001:db8::9"},
		{"zone", []string{"2001:db8::9%25eth0"}, "2001:db8::9"},
		{"only proxies", []string{"10.0.0.1, 10.0.0.2"}, ""},
		{"empty", []string{""}, ""},
		{"commas", []string{victim + ",, 203.0.113.9 ,,\t,"}, "203.0.113.9"},
		{"port", []string{victim + ", 203.0.113.9:4711"}, ""},
		{"brackets", []string{victim + ", [2001:db8::9]"}, ""},
		{"quotes", []string{victim + `, "203.0.113.9"`}, ""},
		{"name", []string{victim + ", localhost"}, ""},
		{"unknown", []string{victim + ", unknown"}, ""},
		{"zeros in front", []string{victim + ", 0203.0.113.9"}, ""},
		{"short", []string{victim + ", 127.1"}, ""},
		{"hexadecimal", []string{victim + ", 0x7f.0.0.1"}, ""},
		{"one number", []string{victim + ", 2130706433"}, ""},
		{"network", []string{victim + ", 203.0.113.0/24"}, ""},
		{"other digits", []string{victim + ", \uff12\uff10\uff13.0.113.9"}, ""},
		{"script", []string{victim + ", <script>"}, ""},
		{"line of log", []string{victim + `, ","ip":"203.0.113.9`}, ""},
		{"oversized", []string{strings.Repeat(victim+", ", 1000) + "203.0.113.9"}, "203.0.113.9"},
		{"oversized, proxies", []string{victim + strings.Repeat(",10.0.0.1", 1500)}, victim},
	} {
		headers := all
		for _, value := range c.xff {
			headers += "X-Forwarded-For: " + value + "\r\n"
		}
		for _, p := range []*instance{direct, elsewhere} {
			if got := ip(p, headers); got != "127.0.0.1" {
				t.Errorf("%s: believed %q of somebody who is not trusted", c.name, got)
			}
		}
		if got := ip(behind, headers); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	// A network that is everybody's would let anybody say to be anyone.
	for _, bad := range []string{"0.0.0.0/0", "::/0", "10.0.0.0/33", "10.0.0.1/8", "::ffff:10.0.0.0/104", "localhost", "*", "10.0.0.1-10.0.0.9", "fe80::1%eth0"} {
		refuses(t, append(environ, "AUTHAPI_TRUSTED_PROXIES="+bad), bad)
	}
}
