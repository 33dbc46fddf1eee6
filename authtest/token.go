package authtest

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/tokens"
)

// Option changes what a token says. There are options for what tests mostly
// ask for; any other function will do as well:
//
//	issuer.Token(func(c *tokens.Claims) { c.AMR = []string{"hwk"} })
type Option func(*tokens.Claims)

// Subject sets the user, otherwise "alice".
func Subject(sub string) Option { return func(c *tokens.Claims) { c.Subject = sub } }

// Session sets the session id, otherwise a new one for each token. It needs to
// have the form of one: uv.2F5uQdw0khr5SaFjY0mKKQ. To get two tokens of one
// session, make it up, or take it from the claims of the first token.
func Session(sid string) Option { return func(c *tokens.Claims) { c.SessionID = sid } }

// Client sets the id of the client that the user has logged in with, otherwise
// "mobile".
func Client(id string) Option { return func(c *tokens.Claims) { c.ClientID = id } }

// Roles sets the user's roles, otherwise none.
func Roles(roles ...string) Option { return func(c *tokens.Claims) { c.Roles = roles } }

// Scope sets the scopes, otherwise none.
func Scope(scopes ...string) Option {
	return func(c *tokens.Claims) { c.Scope = strings.Join(scopes, " ") }
}

// Audience sets whom the token is for, otherwise [Issuer.Audience].
func Audience(audience ...string) Option { return func(c *tokens.Claims) { c.Audience = audience } }

// Expired makes a token ten minutes older, so that it expired five minutes ago.
func Expired() Option {
	return func(c *tokens.Claims) {
		c.IssuedAt, c.ExpiresAt = c.IssuedAt.Add(-10*time.Minute), c.ExpiresAt.Add(-10*time.Minute)
	}
}

const lifetime = 5 * time.Minute

// Token returns an access token. If the options do not say otherwise it is
// good for five minutes from now, and belongs to a session of its own, which
// the user alice has just begun with the client mobile. Claims that the issuer
// would never sign end the test.
func (i *Issuer) Token(options ...Option) string {
	i.tb.Helper()
	c := i.claims(options)
	token := i.sign(i.signingKey(), c)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.issued[token] = c.SessionID
	return token
}

// Forge returns a token that says the same as one of [Issuer.Token], names the
// issuer's key, and was signed by somebody else.
func (i *Issuer) Forge(options ...Option) string {
	i.tb.Helper()
	c := i.claims(options)
	header, _, _ := strings.Cut(i.sign(i.signingKey(), c), ".")
	_, rest, _ := strings.Cut(i.sign(i.newKey(), c), ".")
	return header + "." + rest
}

func (i *Issuer) claims(options []Option) tokens.Claims {
	i.tb.Helper()
	now := time.Now()
	c := tokens.Claims{
		Issuer:    i.URL,
		Audience:  []string{i.Audience},
		Subject:   "alice",
		ClientID:  "mobile",
		ID:        randomID(),
		AMR:       []string{"pwd"},
		AuthTime:  now,
		IssuedAt:  now,
		ExpiresAt: now.Add(lifetime),
	}
	for _, option := range options {
		option(&c)
	}
	sid := partition.Of(c.Subject).Tag() + "." + randomID()
	if c.SessionID == "" {
		c.SessionID = sid
	}
	// A token with another one would be accepted here, where nobody asks Redis,
	// and by no service that follows revocations.
	if _, ok := partition.OfSID(c.SessionID); !ok {
		i.tb.Fatalf("authtest: %q has not the form of a session id, such as %q", c.SessionID, sid)
	}
	return c
}

func (i *Issuer) sign(key *tokens.SigningKey, c tokens.Claims) string {
	i.tb.Helper()
	token, err := key.Sign(c)
	if err != nil {
		i.tb.Fatalf("authtest: the issuer would not sign this: %v", err)
	}
	return token
}

// randomID has the form of a jti and of the second half of a sid.
func randomID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}
