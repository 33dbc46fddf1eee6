// Package verify guards HTTP handlers with access tokens. It is what a service
// imports.
//
// Call [New] and wrap handlers with [Verifier.Middleware]; inside them,
// [Claims] tells who is asking. [Verifier.Verify] is the same check without
// HTTP.
//
// A token is verified locally, by its signature and claims. Then the function
// Denied is asked whether the token, or its session, was revoked. If that
// cannot be told the request is refused with 503, not 401: trouble here says
// nothing about the token, and a client that is told so keeps its login.
//
// Nothing can be left out: [New] refuses a configuration that would let a
// token pass unchecked. The package reaches neither Redis nor any code of the
// server. It knows access tokens only, and changes no state.
package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/authapi/authapi/tokens"
)

// Errors of [Verifier.Verify], besides those of package tokens.
var (
	// ErrDenied means that the token or its session was revoked.
	ErrDenied = errors.New("verify: token revoked")
	// ErrUnavailable means that it could not be told whether the token was
	// revoked.
	ErrUnavailable = errors.New("verify: revocations unavailable")
)

// KeySource gives the keys whose signatures are valid now. KeySet must be
// cheap and safe for concurrent use, and must not return nil.
type KeySource interface {
	KeySet() *tokens.KeySet
}

// Config says which tokens to accept. All fields but Now are needed.
type Config struct {
	// Issuer and Audience must be those of the token, byte for byte.
	Issuer, Audience string
	// Keys are the issuer's.
	Keys KeySource
	// Denied reports whether a token, which is otherwise good, was revoked. It
	// is asked for every request, concurrently. An error refuses the request.
	Denied func(ctx context.Context, c *tokens.Claims) (bool, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Verifier accepts or refuses access tokens. It is safe for concurrent use.
type Verifier struct {
	tokens *tokens.Verifier
	keys   KeySource
	denied func(context.Context, *tokens.Claims) (bool, error)
}

// New returns a verifier, or says what the configuration lacks.
func New(c Config) (*Verifier, error) {
	if c.Keys == nil {
		return nil, errors.New("verify: no keys")
	}
	if c.Denied == nil {
		return nil, errors.New("verify: nothing tells which tokens were revoked")
	}
	t, err := tokens.NewVerifier(tokens.Config{Issuer: c.Issuer, Audience: c.Audience, Now: c.Now})
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return &Verifier{tokens: t, keys: c.Keys, denied: c.Denied}, nil
}

// Verify returns the claims of a good access token. A refusal matches
// [tokens.ErrInvalid] or [ErrDenied]; [ErrUnavailable] says nothing about the
// token.
func (v *Verifier) Verify(ctx context.Context, token string) (*tokens.Claims, error) {
	c, err := v.tokens.Verify(token, v.keys.KeySet())
	if err != nil {
		return nil, err
	}
	denied, err := v.denied(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if denied {
		return nil, ErrDenied
	}
	return c, nil
}

// VerifyAnyTime is for ending what a token stands for: it asks neither the
// clock nor the denylist, since neither makes a token less authentic.
func (v *Verifier) VerifyAnyTime(token string) (*tokens.Claims, error) {
	return v.tokens.VerifyAnyTime(token, v.keys.KeySet())
}

type contextKey struct{}

// Claims returns the claims of the token that [Verifier.Middleware] accepted.
func Claims(ctx context.Context) (*tokens.Claims, bool) {
	c, ok := ctx.Value(contextKey{}).(*tokens.Claims)
	return c, ok
}

// Middleware calls next only for requests with a good access token in the
// Authorization header (RFC 6750, section 2.1). Tokens in the query or in the
// body are not looked for: they end up in logs.
//
// It answers 401 with WWW-Authenticate for a refusal and 503 with Retry-After
// for trouble, each with a JSON body in the form of RFC 6749.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := Bearer(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "invalid_token", "an access token is needed")
			return
		}
		c, err := v.Verify(r.Context(), token)
		switch {
		case err == nil:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, c)))
		case errors.Is(err, tokens.ErrInvalid) || errors.Is(err, ErrDenied):
			description := Description(err)
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+description+`"`)
			refuse(w, http.StatusUnauthorized, "invalid_token", description)
		default:
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusServiceUnavailable, "temporarily_unavailable", "it cannot be told now whether the token was revoked")
		}
	})
}

// Bearer returns the access token of a request. It reports false if there is
// none, or more than one Authorization header: which of two counts is a
// question on which proxies and services differ.
func Bearer(r *http.Request) (string, bool) {
	headers := r.Header.Values("Authorization")
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
	default:
		return "the access token is not valid"
	}
}

func refuse(w http.ResponseWriter, status int, code, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":%q,"error_description":%q}`+"\n", code, description)
}
