package api

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
)

type status struct {
	Status string `json:"status"`
}

// health says that the process runs. It asks nothing else: a process is not
// cured by a restart when Redis is away.
func (a *API) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, status{"ok"})
}

// ready says whether requests should be sent here.
func (a *API) ready(w http.ResponseWriter, r *http.Request) {
	if a.draining.Load() {
		a.fail(w, r, fmt.Errorf("%w: shutting down", errUnavailable))
		return
	}
	if err := a.config.Ready(r.Context()); err != nil {
		a.fail(w, r, fmt.Errorf("%w: not ready: %w", errUnavailable, err))
		return
	}
	writeJSON(w, http.StatusOK, status{"ready"})
}

func (a *API) notFound(w http.ResponseWriter, r *http.Request) { a.fail(w, r, errNotFound) }

// methodNotAllowed names the methods that the route does know (RFC 9110,
// section 15.5.6).
func (a *API) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	// The router goes by the escaped path if there is one.
	path := cmp.Or(r.URL.RawPath, r.URL.Path)
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if a.router.Match(chi.NewRouteContext(), method, path) {
			allowed = append(allowed, method)
			if method == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
	}
	// A method that the router has never heard of ends up here, whatever the
	// path.
	if len(allowed) == 0 {
		a.notFound(w, r)
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	a.fail(w, r, errMethod)
}
