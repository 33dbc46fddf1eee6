// Package api is the HTTP interface of the service: routes, handlers, and the
// one place where errors become responses.
//
// Call [New] with the stores it should use; the result is an http.Handler.
// [API.Drain] makes /readyz say no before a shutdown.
//
// A request flows one way: it is read strictly (request.go), a store decides
// (packages refresh, users, denylist), a token is signed, a response is
// written (response.go). Errors of all packages become responses by one table
// (errors.go). Routes that need an access token are guarded by the same
// package, verify, that other services import.
//
// The package keeps no state of its own but for how many logins are under way, so
// that any number of instances can stand side by side. openapi.yaml is the contract; a test holds the routes
// against it.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/authapi/authapi"
	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/users"
	"github.com/authapi/authapi/verify"
)

// Keys are the signing keys. [keyring.Ring] is one.
type Keys interface {
	Signer() *tokens.SigningKey
	KeySet() *tokens.KeySet
}

// Config is what the API is made of. All fields are needed but Username,
// SetAccountRoles, Throttle, Revocations, TrustedProxies, Page, Docs, Admit and Logger.
type Config struct {
	// Issuer is the URL that access tokens name, and under which clients find
	// the routes. Audience is whom access tokens are for.
	Issuer, Audience string
	// Clients are the applications that may ask for tokens.
	Clients  Clients
	Sessions *refresh.Store
	Denylist *denylist.List
	Keys     Keys
	Users    users.Authenticator
	// Username returns the name of a subject, "" if it has none.
	Username func(ctx context.Context, sub string) (string, error)
	// SetAccountRoles changes the roles of a subject's account. It does nothing
	// for a subject that has no account here.
	SetAccountRoles func(ctx context.Context, sub string, roles []string) error
	// Throttle says how often a password may be tried. nil: as often as anybody
	// likes.
	Throttle *throttle.Throttle
	// Revocations serves /revocations to clients that may follow. A relay is
	// one. nil: nobody may.
	Revocations http.Handler
	// TrustedProxies are whose X-Forwarded-For and X-Forwarded-Proto are
	// believed. None: nobody's.
	TrustedProxies []netip.Prefix
	// Ready asks whatever the service cannot work without.
	Ready func(ctx context.Context) error
	// Page, if set, serves the page at / and its files below /page/, and Docs the
	// reference at /docs and its files below that.
	Page, Docs http.Handler
	// Admit, if set, sees every request before the routes do, and answers
	// those that it does not let in.
	Admit func(http.Handler) http.Handler
	// Logger gets a line for each request and each security event. nil
	// discards them.
	Logger *slog.Logger
}

// API serves the routes. It is safe for concurrent use.
type API struct {
	config   Config
	verifier *verify.Verifier
	metadata []byte
	origin   string // of the issuer
	base     string // the issuer's path
	// cookieOwners are the clients whose refresh tokens lie in cookies, by the
	// cookie's name.
	cookieOwners map[string]string
	logins       chan struct{} // one for each that is under way
	router       *chi.Mux
	draining     atomic.Bool
}

// storageBudget bounds what a request may spend on Redis and on waiting for a
// place to hash. Whatever hangs, the client hears of it within two seconds.
const storageBudget = 1500 * time.Millisecond

// maxLogins is how many logins may be under way. Hashing two or more at a time, as
// many as that are done within a second.
const maxLogins = 64

// New makes the API, or says what the configuration lacks.
func New(c Config) (*API, error) {
	if c.Sessions == nil || c.Denylist == nil || c.Keys == nil || c.Users == nil || c.Ready == nil {
		return nil, errors.New("api: a store is missing")
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Scheme == "" || issuer.Host == "" {
		return nil, fmt.Errorf("api: issuer %q is not an absolute URL", c.Issuer)
	}
	if err := c.Clients.check(); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := c.Clients.checkCookies(issuer); err != nil {
		return nil, err
	}
	a := &API{config: c, origin: issuer.Scheme + "://" + issuer.Host, base: strings.TrimSuffix(issuer.Path, "/"), cookieOwners: map[string]string{}, logins: make(chan struct{}, maxLogins)}
	for id, client := range c.Clients {
		if client.inCookie() {
			a.cookieOwners[client.cookieName()] = id
		}
	}
	a.verifier, err = verify.New(verify.Config{
		Issuer:   c.Issuer,
		Audience: c.Audience,
		// Tokens are good here whomever they are for: it is their own issuer.
		MoreAudiences: c.Clients.audiences(),
		Keys:          c.Keys,
		Denied: func(ctx context.Context, t *tokens.Claims) (bool, error) {
			denied, err := c.Denylist.Denied(ctx, t)
			if err != nil {
				c.Logger.ErrorContext(ctx, "cannot tell whether a token was revoked", "error", err)
			}
			return denied, err
		},
	})
	if err != nil {
		return nil, err
	}
	if a.metadata, err = metadata(c.Issuer); err != nil {
		return nil, err
	}
	sameSite, err := a.sameSite()
	if err != nil {
		return nil, err
	}
	a.router = a.routes(sameSite)
	return a, nil
}

func (a *API) routes(sameSite func(http.Handler) http.Handler) *chi.Mux {
	r := chi.NewRouter()
	r.Use(requestID, lastOfConnection, a.clientIP(), a.logRequests, a.recoverPanics)
	if a.config.Admit != nil {
		r.Use(a.config.Admit)
	}
	r.Use(middleware.GetHead, a.cors, sameSite)
	r.NotFound(a.notFound)
	r.MethodNotAllowed(a.methodNotAllowed)

	r.Get("/healthz", a.health)
	r.Get("/openapi.yaml", a.contract)
	r.Get("/.well-known/jwks.json", a.jwks)
	r.Get("/.well-known/oauth-authorization-server", a.serverMetadata)
	if a.base != "" { // RFC 8414, section 3.1
		r.Get("/.well-known/oauth-authorization-server"+a.base, a.serverMetadata)
	}
	r.Get("/revocations", a.revocations) // not bounded: it lasts
	if a.config.Page != nil {
		r.Method(http.MethodGet, "/", a.config.Page)
		r.Method(http.MethodGet, "/page/*", a.config.Page)
	}
	if a.config.Docs != nil {
		r.Method(http.MethodGet, "/docs", a.config.Docs)
		r.Method(http.MethodGet, "/docs/*", a.config.Docs)
	}

	r.Group(func(r chi.Router) {
		r.Use(a.bounded)
		r.Get("/readyz", a.ready)
		r.Post("/login", a.login)
		r.Post("/refresh", a.refresh)
		r.Post("/logout", a.logout)
		r.Post("/oauth/token", a.oauthToken)
		r.Post("/oauth/revoke", a.oauthRevoke)
		r.Post("/oauth/introspect", a.oauthIntrospect)
		r.Post("/sessions", a.startSession)
		r.Delete("/users/{sub}/sessions", a.endUserSessions)
		r.Put("/users/{sub}/roles", a.setUserRoles)

		r.Group(func(r chi.Router) {
			r.Use(a.verifier.Middleware)
			r.Get("/me", a.me)
			r.Get("/verify", a.verifyForGateway)
			r.Get("/sessions", a.listSessions)
			r.Delete("/sessions", a.endSessions)
			r.Delete("/sessions/{sid}", a.endSession)
		})
	})
	return r
}

// ServeHTTP serves one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.router.ServeHTTP(w, a.withoutBase(r))
}

// Routes lets tests and tools walk the routes.
func (a *API) Routes() chi.Routes { return a.router }

// Drain makes /readyz answer 503 from now on, so that no new requests are sent
// here, while everything still works.
func (a *API) Drain() { a.draining.Store(true) }

func (a *API) contract(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(authapi.OpenAPI)
}
