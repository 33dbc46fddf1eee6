package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
)

// Client is an application: one that asks for tokens on behalf of its users,
// or a service that verifies them.
type Client struct {
	// ID is 1 to 64 bytes of printable ASCII without spaces, quotes and
	// backslashes.
	ID string
	// Policy is what its sessions are subject to. The zero policy is for a
	// client that has none.
	Policy refresh.Policy
	// Audience is whom its access tokens are for; empty: whom all others are.
	Audience []string
	// Scopes are what its sessions get, unless they ask for less.
	Scopes []string
	// Origins are the web origins its pages come from, exactly:
	// "https://app.example.com", without a path, without wildcards.
	Origins []string
	// Cookie is the name of the cookie that holds its refresh token, if its
	// transport is that; empty: [DefaultCookie].
	Cookie string

	// Secrets make the client a confidential one (RFC 6749, section 2.1). It
	// authenticates with any of them, so that a new one can be rolled out
	// before the old one is taken away.
	Secrets []ClientSecret
	// What only a client with a secret may do. MayStart lets it start sessions
	// for users whom it has authenticated itself, end the sessions of any user,
	// and change their roles. MayFollow lets it read /revocations, and
	// MayIntrospect ask /oauth/introspect about any token.
	MayStart, MayFollow, MayIntrospect bool
}

func (c Client) hasSessions() bool { return c.Policy != refresh.Policy{} }

func (c Client) confidential() bool { return len(c.Secrets) > 0 }

// Clients are all applications, by id.
type Clients map[string]Client

// DefaultClient is who asks when a login names no client.
const DefaultClient = "mobile"

// BuiltinClients returns the two clients that exist without configuration:
// mobile keeps its refresh token itself, web would keep it in a cookie.
func BuiltinClients(origins ...string) Clients {
	return Clients{
		"mobile": {ID: "mobile", Origins: origins, Policy: DefaultPolicy(refresh.Body)},
		"web":    {ID: "web", Origins: origins, Policy: DefaultPolicy(refresh.Cookie)},
	}
}

// DefaultPolicy is what sessions are subject to unless it is configured
// otherwise. A cookie is for a browser that more than one person may use, and
// lives for a day without a refresh; other tokens for two weeks.
func DefaultPolicy(t refresh.Transport) refresh.Policy {
	p := refresh.Policy{
		Transport: t,
		Window:    10 * time.Second,
		Idle:      14 * 24 * time.Hour,
		Absolute:  30 * 24 * time.Hour,
		Access:    5 * time.Minute,
		Sessions:  20,
	}
	if t == refresh.Cookie {
		p.Idle = 24 * time.Hour
	}
	return p
}

// Verifier is the id of the client that [Clients.AddVerifier] adds.
const Verifier = "verifier"

// AddVerifier adds the client by which services follow the revocations. Without
// a secret it adds nobody.
func (c Clients) AddVerifier(secrets []string) {
	if len(secrets) == 0 {
		return
	}
	client := Client{ID: Verifier, MayFollow: true}
	for _, secret := range secrets {
		client.Secrets = append(client.Secrets, HashClientSecret(secret))
	}
	c[Verifier] = client
}

// Policy returns a client's policy, in the form that [refresh.Options] wants.
func (c Clients) Policy(id string) (refresh.Policy, bool) {
	client, ok := c[id]
	p := client.Policy
	p.Audience = strings.Join(client.Audience, " ")
	return p, ok && client.hasSessions()
}

// audiences returns those of all clients that have one of their own.
func (c Clients) audiences() []string {
	var all []string
	for _, client := range c {
		all = append(all, client.Audience...)
	}
	return all
}

// origins returns those of all clients.
func (c Clients) origins() []string {
	var all []string
	for _, client := range c {
		all = append(all, client.Origins...)
	}
	return all
}

func (c Clients) check() error {
	if len(c) == 0 {
		return errors.New("api: no clients")
	}
	for id, client := range c {
		if id != client.ID {
			return fmt.Errorf("api: client %q is filed as %q", client.ID, id)
		}
		if err := client.Check(); err != nil {
			return fmt.Errorf("api: client %q: %w", id, err)
		}
	}
	return nil
}

// Check says what is wrong with a client, in words for whoever configured it.
func (c Client) Check() error {
	if !isPlain(c.ID) || len(c.ID) > refresh.MaxClient {
		return fmt.Errorf("an id is 1 to %d printable ASCII characters without spaces, quotes and backslashes", refresh.MaxClient)
	}
	if !c.confidential() && (c.MayStart || c.MayFollow || c.MayIntrospect) {
		return errors.New("who may start sessions, introspect or follow the revocations needs a secret")
	}
	if c.MayStart && !c.hasSessions() {
		return errors.New("who may start sessions needs lifetimes for them")
	}
	for i, audience := range c.Audience {
		if !isPlain(audience) || slices.Contains(c.Audience[:i], audience) {
			return fmt.Errorf("audience %q is not printable ASCII characters without spaces, quotes and backslashes, or comes twice", audience)
		}
	}
	if len(strings.Join(c.Audience, " ")) > refresh.MaxAudience {
		return fmt.Errorf("the audiences joined by spaces are more than %d bytes", refresh.MaxAudience)
	}
	for i, scope := range c.Scopes {
		if !isPlain(scope) || slices.Contains(c.Scopes[:i], scope) {
			return fmt.Errorf("scope %q is not one word of printable ASCII without quotes and backslashes (RFC 6749, section 3.3), or comes twice", scope)
		}
	}
	if len(strings.Join(c.Scopes, " ")) > refresh.MaxScope {
		return fmt.Errorf("the scopes joined by spaces are more than %d bytes", refresh.MaxScope)
	}
	for _, origin := range c.Origins {
		if err := checkOrigin(origin); err != nil {
			return err
		}
	}
	if c.hasSessions() {
		return c.checkPolicy()
	}
	return nil
}

func (c Client) checkPolicy() error {
	p := c.Policy
	switch {
	case c.confidential() && p.Transport != refresh.Authenticated:
		return errors.New("a client with a secret has the transport body, and authenticates there")
	case !c.confidential() && p.Transport != refresh.Body && p.Transport != refresh.Cookie:
		return errors.New("the transport is body or cookie")
	case p.Access%time.Second != 0 || p.Idle%time.Second != 0 || p.Absolute%time.Second != 0:
		return errors.New("lifetimes are whole seconds")
	case p.Access < time.Second || p.Access > tokens.MaxLifetime:
		return fmt.Errorf("access tokens must live between a second and %s", tokens.MaxLifetime)
	case p.Idle <= p.Access || p.Absolute < p.Idle:
		return errors.New("the lifetimes must be in this order: access < idle <= absolute")
	case p.Window < 0 || p.Window >= p.Idle || p.Window > time.Minute:
		return errors.New("the retry window is at most a minute, and shorter than the idle lifetime")
	case c.inCookie() && p.Access <= p.Window:
		return errors.New("in a cookie, access tokens must live longer than the retry window, within which there is no new one")
	case p.Sessions < 1:
		return errors.New("a user needs at least one session")
	}
	return nil
}

// isPlain accepts what can stand in a header, a challenge and a list separated
// by spaces.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return s != ""
}
