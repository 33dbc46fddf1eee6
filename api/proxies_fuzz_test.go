package api

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5/middleware"
)

// within compares bit by bit. An IPv4 address is in no network of IPv6, however
// it is written.
func within(ip netip.Addr, networks []netip.Prefix) bool {
	for _, network := range networks {
		mine, theirs := ip.AsSlice(), network.Addr().AsSlice()
		same := len(mine) == len(theirs)
		for bit := 0; same && bit < network.Bits(); bit++ {
			same = (mine[bit/8]^theirs[bit/8])&(0x80>>(bit%8)) == 0
		}
		if same {
			return true
		}
	}
	return false
}

// client is whose address counts: of all on the way, the peer being the last, the
// last that is not a trusted proxy's. If one behind it cannot be read, nobody's.
func client(peer string, headers []string, trusted []netip.Prefix) string {
	from, err := netip.ParseAddrPort(peer)
	if err != nil {
		return ""
	}
	direct := from.Addr().Unmap()
	if !within(direct.WithZone(""), trusted) {
		return direct.String()
	}
	found := ""
	for entry := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		ip, err := netip.ParseAddr(entry)
		switch ip = ip.Unmap().WithZone(""); {
		case err != nil:
			found = ""
		case !within(ip, trusted):
			found = ip.String()
		}
	}
	return found
}

// FuzzForwardedFor: whose address an event shows does not depend on what anybody
// in front of the last stranger writes; and whose X-Forwarded-For is believed,
// their X-Forwarded-Proto is as well, and nobody else's.
func FuzzForwardedFor(f *testing.F) {
	f.Add("127.0.0.1:80", "203.0.113.9", "127.0.0.0/8")
	f.Add("127.0.0.1:80", "198.51.100.1, 203.0.113.9\n10.1.2.3", "127.0.0.0/8,10.0.0.0/8")
	f.Add("127.0.0.1:80", "10.0.0.1, ::ffff:10.0.0.2, ::ffff:127.0.0.1", "127.0.0.1/32,10.0.0.0/8,::/1")
	f.Add("[::1]:80", "fe80::1%eth0, 2001:db8::1, fe80::2%25lo", "::1/128,fe80::/10")
	f.Add("[fe80::1%eth0]:80", "203.0.113.9", "fe80::/10")
	f.Add("[fe80::1%eth0]:80", "203.0.113.9", "fd00::/8")
	f.Add("[::ffff:127.0.0.1]:80", "203.0.113.9:1234, [2001:db8::1]", "127.0.0.1/32")
	f.Add("127.0.0.1:80", "203.0.113.9, unknown, , _hidden", "127.0.0.1/32")
	f.Add("127.0.0.1:80", "203.0.113.9, 127.1, 0x7f.1, 0177.0.0.1", "127.0.0.1/32")
	f.Add("127.0.0.1:80", strings.Repeat("127.0.0.1,", 1500), "127.0.0.1/32")
	f.Add("@", "203.0.113.9", "127.0.0.1/32")
	f.Add("203.0.113.1:80", "127.0.0.1", "")
	f.Fuzz(func(t *testing.T, peer, headers, networks string) {
		var trusted []netip.Prefix
		for text := range strings.SplitSeq(networks, ",") {
			// What the configuration lets through.
			p, err := netip.ParsePrefix(text)
			if err == nil && p.Bits() > 0 && p == p.Masked() && !p.Addr().Is4In6() {
				trusted = append(trusted, p)
			}
		}
		from, err := netip.ParseAddrPort(peer)
		if peer != "@" && (err != nil || strings.ContainsAny(from.Addr().Zone(), "[]")) {
			t.Skip("net.Conn gives addresses with a port, or a socket's name")
		}
		a := &API{config: Config{TrustedProxies: trusted}}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = peer
		lines := strings.Split(headers, "\n")
		r.Header["X-Forwarded-For"] = lines
		for _, other := range []string{"X-Real-Ip", "True-Client-Ip", "X_forwarded_for", "Forwarded", "Cf-Connecting-Ip"} {
			r.Header.Set(other, "192.0.2.66")
		}
		got := "not called"
		a.clientIP()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got = middleware.GetClientIP(r.Context())
		})).ServeHTTP(httptest.NewRecorder(), r)
		if want := client(peer, lines, trusted); got != want {
			t.Errorf("%s, %q, trusting %v: %q, want %q", peer, lines, trusted, got, want)
		}
		if want := err == nil && within(from.Addr().Unmap().WithZone(""), trusted); a.fromProxy(r) != want {
			t.Errorf("%s, trusting %v: is a proxy: %v", peer, trusted, !want)
		}
	})
}
