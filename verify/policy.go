package verify

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/authapi/authapi/tokens"
)

// Policy is what a route asks for. The zero value asks for a good token whose
// revocation would be known within a second, and refuses if that cannot be
// told.
type Policy struct {
	// Scopes are needed, all of them.
	Scopes []string
	// Roles are those of which one is needed; none if empty.
	Roles []string

	// Freshness is how long ago the replica may last have known everything
	// about the token's partition; 0 means a second. Below about half a second
	// a replica is too old at times although nothing is wrong.
	Freshness time.Duration
	// Strict asks the function Denied with each request, so that a revocation
	// counts from the moment it was answered. It costs a round trip.
	Strict bool
	// Otherwise says what happens if nobody can tell whether the token was
	// revoked.
	Otherwise Otherwise
}

// Otherwise is what to do when it cannot be told whether a token was revoked.
type Otherwise int

const (
	// Refuse answers 503. It is the default.
	Refuse Otherwise = iota
	// AcceptUntilExpiry lets in whoever has a token that has not expired. It
	// suits routes that must work when nothing else does, and that whoever
	// stole a token may use for some minutes more.
	AcceptUntilExpiry
)

const defaultFreshness = time.Second

var zeroPolicy Policy

func (p *Policy) freshness() time.Duration {
	if p.Freshness == 0 {
		return defaultFreshness
	}
	return p.Freshness
}

// check refuses policies that ask for what this verifier cannot do. To take
// them for a milder policy would open what was meant to be closed.
func (v *Verifier) check(p Policy) error {
	switch {
	case p.Strict && v.config.Denied == nil:
		return errors.New("verify: a strict policy needs the function Denied")
	case p.Freshness < 0:
		return errors.New("verify: a policy's freshness is negative")
	case p.Otherwise != Refuse && p.Otherwise != AcceptUntilExpiry:
		return errors.New("verify: a policy's otherwise is unknown")
	case slices.ContainsFunc(p.Scopes, func(s string) bool { return s == "" || strings.ContainsAny(s, ` "\`) }):
		return errors.New("verify: a policy's scope is empty or more than one")
	case slices.Contains(p.Roles, ""):
		return errors.New("verify: a policy's role is empty")
	}
	return nil
}

func (p *Policy) allows(c *tokens.Claims) bool {
	for _, scope := range p.Scopes {
		if !hasWord(c.Scope, scope) {
			return false
		}
	}
	if len(p.Roles) == 0 {
		return true
	}
	for _, role := range p.Roles {
		if slices.Contains(c.Roles, role) {
			return true
		}
	}
	return false
}

// hasWord reports whether a word is one of those that text separates by spaces.
func hasWord(text, word string) bool {
	for text != "" {
		var first string
		if first, text, _ = strings.Cut(text, " "); first == word {
			return true
		}
	}
	return false
}
