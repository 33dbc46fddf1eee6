package api

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/go-chi/chi/v5/middleware"
)

// What a header says about where a request comes from is believed only if a
// proxy has sent it that the operator trusts; anybody else can write one. Of
// several addresses in X-Forwarded-For the last that is no such proxy's counts.

// clientIP finds out the address of whoever sends a request. The log shows it.
func (a *API) clientIP() func(http.Handler) http.Handler {
	if len(a.config.TrustedProxies) == 0 {
		return middleware.ClientIPFromRemoteAddr
	}
	trusted := make([]string, len(a.config.TrustedProxies))
	for i, prefix := range a.config.TrustedProxies {
		trusted[i] = prefix.String()
	}
	return middleware.ClientIPFromXFF(trusted...)
}

// plain reports whether a trusted proxy says that the request came to it without
// TLS. If several have added what they know, the first one's word counts: that
// is where the client was.
func (a *API) plain(r *http.Request) bool {
	if !a.fromProxy(r) {
		return false
	}
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "http")
}

func (a *API) fromProxy(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	// No network contains an address with a zone, and a link-local proxy has one.
	ip := peer.Addr().Unmap().WithZone("")
	for _, prefix := range a.config.TrustedProxies {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

// withoutBase takes the issuer's path from the front of a request's, for proxies
// that pass it on: https://example.com/auth is asked for /auth/login. Without it
// the request is served as well, for proxies that take it away themselves.
func (a *API) withoutBase(r *http.Request) *http.Request {
	if a.base == "" || !strings.HasPrefix(r.URL.Path, a.base+"/") {
		return r
	}
	url := *r.URL
	url.Path = strings.TrimPrefix(url.Path, a.base)
	url.RawPath = strings.TrimPrefix(url.RawPath, a.base) // the issuer's has no escapes
	stripped := new(http.Request)
	*stripped = *r
	stripped.URL = &url
	return stripped
}
