package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/authapi/authapi/tokens"
)

type contextKey struct{}

// Claims returns the claims of the token that [Verifier.Middleware] or
// [Verifier.Require] accepted. They may be shared with other requests and must
// not be changed.
func Claims(ctx context.Context) (*tokens.Claims, bool) {
	c, ok := ctx.Value(contextKey{}).(*tokens.Claims)
	return c, ok
}

// Middleware calls next only for requests with a good access token, under the
// zero [Policy].
func (v *Verifier) Middleware(next http.Handler) http.Handler { return v.Require(Policy{})(next) }

// Require returns a middleware that calls the next handler only for requests
// with a good access token that the policy allows. The token is taken from the
// Authorization header (RFC 6750, section 2.1). Tokens in the query or in the
// body are not looked for: they end up in logs.
//
// It answers 401 for a token that is no good, 403 for one that lacks a scope or
// a role (both with WWW-Authenticate, RFC 6750, section 3), and 503 with
// Retry-After for trouble, each with a JSON body in the form of RFC 6749.
//
// Require panics if the policy asks for what the verifier cannot do, as
// [http.ServeMux.Handle] does for a pattern: it is a mistake in the program,
// found when the routes are made.
func (v *Verifier) Require(p Policy) func(next http.Handler) http.Handler {
	if err := v.check(p); err != nil {
		panic(err)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, ok := Bearer(r)
			if !ok {
				w.Header().Set("WWW-Authenticate", "Bearer")
				refuse(w, http.StatusUnauthorized, "invalid_token", "an access token is needed")
				return
			}
			c, err := v.verify(r.Context(), &p, token)
			if err != nil {
				fail(w, &p, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, c)))
		})
	}
}

func fail(w http.ResponseWriter, p *Policy, err error) {
	description := Description(err)
	switch {
	// First, because what it wraps is not ours.
	case errors.Is(err, ErrUnavailable):
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "temporarily_unavailable", "it cannot be told now whether the token is good")
	case errors.Is(err, ErrForbidden):
		challenge := `Bearer error="insufficient_scope", error_description="` + description + `"`
		if len(p.Scopes) > 0 {
			challenge += `, scope="` + strings.Join(p.Scopes, " ") + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		refuse(w, http.StatusForbidden, "insufficient_scope", description)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+description+`"`)
		refuse(w, http.StatusUnauthorized, "invalid_token", description)
	}
}

// Bearer returns the access token of a request. It reports false if there is
// none, or more than one Authorization header: which of two counts is a
// question on which proxies and services differ.
func Bearer(r *http.Request) (string, bool) {
	headers := r.Header["Authorization"]
	if len(headers) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", false
	}
	return token, true
}

// Description says in a few plain words why a token was refused. It tells what
// the client can find out anyway, and nothing of keys or signatures.
func Description(err error) string {
	switch {
	case errors.Is(err, tokens.ErrExpired):
		return "the access token has expired"
	case errors.Is(err, ErrDenied):
		return "the access token was revoked"
	case errors.Is(err, ErrForbidden):
		return "the access token does not allow this"
	default:
		return "the access token is not valid"
	}
}

func refuse(w http.ResponseWriter, status int, code, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":%q,"error_description":%q}`+"\n", code, description)
}
