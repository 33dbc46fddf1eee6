// Package verify guards HTTP handlers with access tokens. It is what a service
// imports.
//
// Call [New] and wrap handlers with [Verifier.Middleware], or with
// [Verifier.Require] where a route asks for more; inside them, [Claims] tells
// who is asking. [Verifier.Verify] is the same check without HTTP.
//
// New needs the issuer's keys and something that knows what was revoked. A
// service far from the issuer has both over HTTP: [NewJWKS] fetches the keys,
// and [Follow] with [NewRemote] keeps a copy of the revocations, the
// [Replica]. A service that reaches the issuer's Redis follows a
// *denylist.List instead. Nothing then waits for the network: a token is
// verified locally, its revocation looked up in memory, and a token that was
// verified before costs no signature again.
//
// A replica knows how old it is. If it has not heard from the issuer for the
// time that a route allows, a second by default, the function Denied is asked,
// if there is one. If that does not help either, the route's [Policy] decides:
// the request is refused with 503, not 401, because trouble here says nothing
// about the token, and a client that is told so keeps its login.
//
// Nothing can be left out: [New] refuses a configuration that would let a
// token pass unchecked. The package reaches neither Redis nor any code of the
// server. It knows access tokens only, and changes no state.
package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/authapi/authapi/tokens"
)

// Errors of [Verifier.Verify], besides those of package tokens.
var (
	// ErrDenied means that the token, its session or its key was revoked.
	ErrDenied = errors.New("verify: token revoked")
	// ErrUnavailable means that it could not be told whether the token is good.
	ErrUnavailable = errors.New("verify: it cannot be told whether the token is good")
	// ErrForbidden means that the token is good, but lacks a scope or a role
	// that the policy asks for.
	ErrForbidden = errors.New("verify: the token does not allow this")
)

var errOutOfDate = errors.New("the replica is out of date")

// KeySource gives the keys whose signatures are valid now; nil means that none
// are known yet. KeySet must be cheap and safe for concurrent use, and return
// the same pointer for as long as the keys are the same.
//
// If a source also has a method Refresh(), it is called when a token names a
// key that is unknown or denied: there may be newer keys. Refresh must not
// block.
type KeySource interface {
	KeySet() *tokens.KeySet
}

// Config says which tokens to accept. Issuer, Audience and Keys are needed, and
// Replica, Denied or both.
type Config struct {
	// Issuer and Audience must be those of the token, byte for byte.
	Issuer, Audience string
	// MoreAudiences are as good as Audience: for whoever has several names.
	MoreAudiences []string
	// Keys are the issuer's: [NewJWKS] fetches them.
	Keys KeySource

	// Replica is what is asked about revocation first.
	Replica *Replica
	// Denied reports whether a token, which is otherwise good, was revoked. It
	// is asked when the replica is too old, or always if there is none; at most
	// a second is waited for it, if it heeds its context, which does not end
	// when the client goes away. It is called concurrently. An error means that it cannot be told.
	Denied func(ctx context.Context, c *tokens.Claims) (bool, error)

	// CacheSize is how many verified tokens are remembered, so that their
	// signature is not computed again: about 1 KB each. 0 means 16384, a
	// negative size none.
	CacheSize int
	// Observe, if set, is told of each verdict, for metrics. It is called
	// concurrently, and every request waits for it.
	Observe func(Verdict)
	// Now is the clock by which tokens expire; nil means time.Now.
	Now func() time.Time
}

// Verdict is what became of one token.
type Verdict struct {
	// Err is the error of [Verifier.Verify]; nil if the token was accepted.
	Err error
	// Cached says that the signature had been checked before.
	Cached bool
	// By is who said whether the token was revoked.
	By Witness
}

// Witness is who knows about revocations.
type Witness string

// The witnesses of a [Verdict].
const (
	// Nobody: the token was no good anyway, or nobody could tell. An accepted
	// token was then accepted by the policy [AcceptUntilExpiry].
	Nobody    Witness = "nobody"
	ByReplica Witness = "replica"
	ByDenied  Witness = "denied" // the function Denied
)

const (
	defaultCacheSize = 16 << 10
	deniedTimeout    = time.Second
)

// Verifier accepts or refuses access tokens. It is safe for concurrent use.
type Verifier struct {
	config Config
	tokens *tokens.Verifier
	cache  *cache
}

// New returns a verifier, or says what the configuration lacks.
func New(c Config) (*Verifier, error) {
	if c.Keys == nil {
		return nil, errors.New("verify: no keys")
	}
	if c.Replica == nil && c.Denied == nil {
		return nil, errors.New("verify: nothing tells which tokens were revoked")
	}
	t, err := tokens.NewVerifier(tokens.Config{Issuer: c.Issuer, Audience: c.Audience, MoreAudiences: c.MoreAudiences, Now: c.Now})
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v := &Verifier{config: c, tokens: t}
	if c.CacheSize == 0 {
		c.CacheSize = defaultCacheSize
	}
	if c.CacheSize > 0 {
		v.cache = newCache(c.CacheSize)
	}
	return v, nil
}

// Verify returns the claims of a good access token, under the zero [Policy].
// The claims may be shared with other callers and must not be changed.
//
// A refusal matches [tokens.ErrInvalid] or [ErrDenied]; [ErrUnavailable] says
// nothing about the token.
func (v *Verifier) Verify(ctx context.Context, token string) (*tokens.Claims, error) {
	return v.verify(ctx, &zeroPolicy, token)
}

// VerifyFor is Verify under a policy. The error can be [ErrForbidden] too.
func (v *Verifier) VerifyFor(ctx context.Context, p Policy, token string) (*tokens.Claims, error) {
	if err := v.check(p); err != nil {
		return nil, err
	}
	return v.verify(ctx, &p, token)
}

func (v *Verifier) verify(ctx context.Context, p *Policy, token string) (*tokens.Claims, error) {
	c, cached, err := v.genuine(token)
	by := Nobody
	if err == nil {
		by, err = v.revoked(ctx, p, c)
	}
	if err == nil && !p.allows(c) {
		err = ErrForbidden
	}
	if v.config.Observe != nil {
		v.config.Observe(Verdict{Err: err, Cached: cached, By: by})
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// genuine checks all of a token but its revocation.
func (v *Verifier) genuine(token string) (c *tokens.Claims, cached bool, err error) {
	keys := v.config.Keys.KeySet()
	if v.cache != nil {
		if c := v.cache.get(token, keys); c != nil {
			return c, true, v.tokens.CheckTime(c)
		}
	}
	c, err = v.tokens.Verify(token, keys)
	switch {
	case err == nil:
		if v.cache != nil {
			v.cache.put(token, keys, c)
		}
	case errors.Is(err, tokens.ErrUnknownKey):
		v.refreshKeys()
		if keys == nil {
			err = fmt.Errorf("%w: no keys yet", ErrUnavailable)
		}
	}
	return c, false, err
}

// refreshKeys asks for newer keys, if the source has them to give. The token
// at hand is judged by those that are here: whoever waited could be made to
// wait by anybody with a made-up key id.
func (v *Verifier) refreshKeys() {
	if r, ok := v.config.Keys.(interface{ Refresh() }); ok {
		r.Refresh()
	}
}

// revoked returns nil if the token was not revoked, or the policy accepts that
// this cannot be told.
func (v *Verifier) revoked(ctx context.Context, p *Policy, c *tokens.Claims) (Witness, error) {
	if r := v.config.Replica; r != nil {
		// The age comes first. What is learned between the two questions is then
		// a denial more, and not a reason to believe an answer of before.
		age := r.ageOf(c.SessionID)
		if r.denies(c) {
			if r.deniesKey(c.KeyID) {
				v.refreshKeys()
			}
			return ByReplica, ErrDenied
		}
		if !p.Strict && age <= p.freshness() {
			return ByReplica, nil
		}
	}
	trouble := errOutOfDate
	if v.config.Denied != nil {
		// Whoever hangs up must not make it impossible to tell: a policy may let
		// in then.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deniedTimeout)
		defer cancel()
		denied, err := v.config.Denied(ctx, c)
		switch {
		case err != nil:
			trouble = err
		case denied:
			return ByDenied, ErrDenied
		default:
			return ByDenied, nil
		}
	}
	if p.Otherwise == AcceptUntilExpiry {
		return Nobody, nil
	}
	return Nobody, fmt.Errorf("%w: %w", ErrUnavailable, trouble)
}

// VerifyAnyTime is for ending what a token stands for: it asks neither the
// clock, nor anybody about revocation, nor whom the token is for, since none of
// that makes a token less authentic.
func (v *Verifier) VerifyAnyTime(token string) (*tokens.Claims, error) {
	return v.tokens.VerifyAnyTime(token, v.config.Keys.KeySet())
}

// Ready returns nil if a token can be judged now without the function Denied:
// there are keys, and the replica, if there is one, is up to date. It is for
// readiness checks.
func (v *Verifier) Ready() error {
	if v.config.Keys.KeySet() == nil {
		return fmt.Errorf("%w: no keys yet", ErrUnavailable)
	}
	if r := v.config.Replica; r != nil && r.Age() > defaultFreshness {
		return fmt.Errorf("%w: %w", ErrUnavailable, errOutOfDate)
	}
	return nil
}
