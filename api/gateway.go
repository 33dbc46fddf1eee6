package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/authapi/authapi/verify"
)

// verifyForGateway tells a gateway whose request it is about to pass on. The
// middleware has refused the bad tokens before.
//
// Every header is always there, empty or not: a gateway that copies only what
// it finds would let the client's own header through in its place.
func (a *API) verifyForGateway(w http.ResponseWriter, r *http.Request) {
	c, _ := verify.Claims(r.Context())
	audience := a.config.Audience
	query, err := url.ParseQuery(r.URL.RawQuery)
	if wanted, given := query["audience"]; err != nil || len(wanted) > 1 {
		a.fail(w, r, invalidRequest("the query is malformed"))
		return
	} else if given {
		audience = wanted[0]
	}
	// This service accepts the tokens of all its clients on its own routes.
	// What stands behind a gateway is one of them.
	if !slices.Contains(c.Audience, audience) {
		a.fail(w, r, errAudience)
		return
	}
	for name, value := range map[string]string{
		"X-Auth-Subject":    c.Subject,
		"X-Auth-Client-Id":  c.ClientID,
		"X-Auth-Session-Id": c.SessionID,
		"X-Auth-Roles":      strings.Join(c.Roles, " "),
		"X-Auth-Scope":      c.Scope,
	} {
		w.Header().Set(name, value)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}
