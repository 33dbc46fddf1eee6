package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/cors"
)

// checkOrigin refuses whatever is not one origin, spelled as browsers spell
// it. A pattern, or a spelling that never matches, would open the API to more
// or fewer pages than whoever wrote it believed.
func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" {
		return fmt.Errorf("origin %q: want scheme://host or scheme://host:port", origin)
	}
	for _, c := range u.Host {
		lower := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !lower && c != '.' && c != '-' && c != ':' && c != '[' && c != ']' {
			return fmt.Errorf("origin %q: the host must be exact, in lower case", origin)
		}
	}
	switch port := u.Port(); {
	case u.Scheme == "https" && port == "443", u.Scheme == "http" && port == "80":
		return fmt.Errorf("origin %q: browsers leave out the default port", origin)
	case port == "" && strings.HasSuffix(u.Host, ":"), strings.HasPrefix(port, "0"):
		return fmt.Errorf("origin %q: browsers never write the port like this", origin)
	}
	if origin != u.Scheme+"://"+u.Host {
		return fmt.Errorf("origin %q: nothing may follow the host", origin)
	}
	return nil
}

// cors lets the pages of the clients' origins read responses. Origins are
// compared byte for byte; none is configured by pattern. Without origins no
// page of another origin gets in. Cookies count only for the origins of clients
// that have one.
func (a *API) cors(next http.Handler) http.Handler {
	all, cookies := map[string]bool{}, map[string]bool{}
	for _, c := range a.config.Clients {
		for _, origin := range c.Origins {
			all[origin] = true
			cookies[origin] = cookies[origin] || c.inCookie()
		}
	}
	options := cors.Options{
		AllowOriginFunc: func(_ *http.Request, origin string) bool { return all[origin] },
		AllowedMethods:  []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete},
		AllowedHeaders:  []string{"Authorization", "Content-Type", "Idempotency-Key", pageHeader},
		ExposedHeaders:  []string{"X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate"},
		MaxAge:          600,
	}
	bare := cors.Handler(options)(next)
	options.AllowCredentials = true
	credentialed := cors.Handler(options)(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookies[r.Header.Get("Origin")] {
			credentialed.ServeHTTP(w, r)
			return
		}
		bare.ServeHTTP(w, r)
	})
}

// sameSite refuses requests that change something and come from a page that is
// neither this service's own nor one of a client's. Requests that no browser has
// made pass.
func (a *API) sameSite() (func(next http.Handler) http.Handler, error) {
	protection := http.NewCrossOriginProtection()
	for _, origin := range append(a.config.Clients.origins(), a.origin) {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.fail(w, r, errOrigin) }))
	return protection.Handler, nil
}
