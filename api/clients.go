package api

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
)

// Client is an application: one that asks for tokens on behalf of its users,
// or a service that verifies them.
type Client struct {
	ID string
	// Policy is what its sessions are subject to. The zero policy is for a
	// client that has none.
	Policy refresh.Policy
	// Origins are the web origins its pages come from, exactly:
	// "https://app.example.com", without a path, without wildcards.
	Origins []string

	// Secrets make the client a confidential one (RFC 6749, section 2.1). It
	// authenticates with any of them, so that a new one can be rolled out
	// before the old one is taken away.
	Secrets []ClientSecret
	// MayFollow lets the client read /revocations. It needs a secret for that.
	MayFollow bool
	// MayIntrospect lets the client ask /oauth/introspect about any token. It
	// needs a secret for that.
	MayIntrospect bool
}

func (c Client) hasSessions() bool { return c.Policy != refresh.Policy{} }

// Clients are all applications, by id.
type Clients map[string]Client

// DefaultClient is who asks when a login names no client.
const DefaultClient = "mobile"

// BuiltinClients returns the two clients that exist without configuration:
// mobile keeps its refresh token itself, web would keep it in a cookie.
func BuiltinClients(origins ...string) Clients {
	return Clients{
		"mobile": {ID: "mobile", Origins: origins, Policy: refresh.Policy{
			Transport: refresh.Body,
			Window:    10 * time.Second,
			Idle:      14 * 24 * time.Hour,
			Absolute:  30 * 24 * time.Hour,
			Access:    5 * time.Minute,
			Sessions:  20,
		}},
		"web": {ID: "web", Origins: origins, Policy: refresh.Policy{
			Transport: refresh.Cookie,
			Window:    10 * time.Second,
			Idle:      24 * time.Hour,
			Absolute:  30 * 24 * time.Hour,
			Access:    5 * time.Minute,
			Sessions:  20,
		}},
	}
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
	return client.Policy, ok && client.hasSessions()
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
		if id == "" || id != client.ID || len(id) > refresh.MaxClient {
			return fmt.Errorf("api: client %q: bad id", id)
		}
		if (client.MayFollow || client.MayIntrospect) && len(client.Secrets) == 0 {
			return fmt.Errorf("api: client %s: who may follow the revocations, or introspect, needs a secret", id)
		}
		if !client.hasSessions() {
			continue
		}
		p := client.Policy
		switch {
		case p.Transport != refresh.Body && p.Transport != refresh.Cookie:
			return fmt.Errorf("api: client %s: unknown transport", id)
		case p.Access%time.Second != 0 || p.Idle%time.Second != 0 || p.Absolute%time.Second != 0:
			return fmt.Errorf("api: client %s: lifetimes are whole seconds", id)
		case p.Access < time.Second || p.Access > tokens.MaxLifetime:
			return fmt.Errorf("api: client %s: access tokens must live between a second and %s", id, tokens.MaxLifetime)
		case p.Idle <= p.Access || p.Absolute < p.Idle:
			return fmt.Errorf("api: client %s: need access lifetime < idle lifetime <= absolute lifetime", id)
		case p.Window < 0 || p.Window >= p.Idle || p.Window > time.Minute:
			return fmt.Errorf("api: client %s: the retry window is at most a minute", id)
		case p.Sessions < 1:
			return fmt.Errorf("api: client %s: a user needs at least one session", id)
		}
		for _, origin := range client.Origins {
			if err := checkOrigin(origin); err != nil {
				return fmt.Errorf("api: client %s: %w", id, err)
			}
		}
	}
	return nil
}

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
