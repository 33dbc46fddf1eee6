package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/authapi/authapi/refresh"
)

// ClientSecret is the hash of a client's secret. A plain hash is enough,
// because secrets are not passwords that people think up: whoever configures
// one must make it at random.
type ClientSecret [sha256.Size]byte

// HashClientSecret returns the form in which a secret is kept.
func HashClientSecret(secret string) ClientSecret { return sha256.Sum256([]byte(secret)) }

const secretPrefix = "sha256:"

// String is the form for configuration: sha256: and 43 characters of base64url.
// It does not help to make the secret.
func (s ClientSecret) String() string {
	return secretPrefix + base64.RawURLEncoding.EncodeToString(s[:])
}

// ParseClientSecret reads what [ClientSecret.String] wrote. Its error does not
// quote the text, which may be a secret in the wrong place.
func ParseClientSecret(text string) (ClientSecret, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	hash, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(hash) != sha256.Size || len(encoded) != base64.RawURLEncoding.EncodedLen(sha256.Size) {
		return ClientSecret{}, errors.New("a hashed secret is " + secretPrefix + " and 43 characters of base64url")
	}
	return ClientSecret(hash), nil
}

// credentials are what a request says about the client that it comes from.
type credentials struct {
	id     string // client_id of the body
	secret string // client_secret of the body, on the routes of OAuth
}

// asking returns the client that a request comes from, for routes that public
// clients use too: by its secret if there is one, else by its name. It returns
// the zero Client if the request names none. A client with a secret that does
// not show it is refused: its name alone proves nothing.
func (a *API) asking(r *http.Request, c credentials) (Client, error) {
	if id, secret, ok := basic(r); ok && secret == "" && c == (credentials{}) {
		// Some libraries put a public client's name there.
		if client, known := a.config.Clients[id]; known && !client.confidential() {
			return client, nil
		}
	}
	if c.secret != "" || hasBasic(r) {
		return a.authenticate(r, c)
	}
	if c.id == "" {
		return Client{}, nil
	}
	client, ok := a.config.Clients[c.id]
	switch {
	case !ok:
		return Client{}, errClient
	case client.confidential():
		return Client{}, errClientAuth
	}
	return client, nil
}

// sessionClient is asking, for the routes that have to do with sessions.
func (a *API) sessionClient(r *http.Request, c credentials) (Client, error) {
	client, err := a.asking(r, c)
	if err == nil && client.ID != "" && !client.hasSessions() {
		err = errNoSessions
	}
	return client, err
}

// oauthClient is sessionClient for the routes of OAuth, which know no cookies.
func (a *API) oauthClient(r *http.Request, c credentials) (Client, error) {
	client, err := a.sessionClient(r, c)
	if err == nil && client.inCookie() {
		err = errCookies
	}
	return client, err
}

// authenticate finds the confidential client that a request comes from: by HTTP
// Basic, or by the parameters of RFC 6749, section 2.3.1.
func (a *API) authenticate(r *http.Request, c credentials) (Client, error) {
	if c.secret != "" {
		if hasBasic(r) {
			return Client{}, invalidRequest("the client authenticates in two ways")
		}
		client, good := a.authentic(c.id, c.secret)
		if !good {
			return Client{}, a.unauthentic(r, c.id)
		}
		return client, nil
	}
	client, good := a.byBasic(r)
	switch {
	case !good:
		id, _, _ := basic(r)
		return Client{}, a.unauthentic(r, id)
	case c.id != "" && c.id != client.ID:
		return Client{}, invalidRequest("client_id is not the client that authenticates")
	}
	return client, nil
}

// unauthentic is the refusal of who does not show a client's secret. If the
// client exists, whoever watches over it should know.
func (a *API) unauthentic(r *http.Request, id string) error {
	if a.config.Clients[id].confidential() {
		a.event(r, slog.LevelWarn, "client refused: wrong secret", "client_id", id)
	}
	return errClientAuth
}

// hasBasic reports whether a client tries to authenticate, however badly.
func hasBasic(r *http.Request) bool {
	for _, header := range r.Header.Values("Authorization") {
		if scheme, _, _ := strings.Cut(header, " "); strings.EqualFold(scheme, "Basic") {
			return true
		}
	}
	return false
}

// basic returns what HTTP Basic says, if that is all that Authorization says.
func basic(r *http.Request) (id, secret string, ok bool) {
	if len(r.Header.Values("Authorization")) != 1 {
		return "", "", false
	}
	return r.BasicAuth()
}

func (a *API) byBasic(r *http.Request) (Client, bool) {
	id, secret, ok := basic(r)
	if !ok {
		return Client{}, false
	}
	// The standard wants both parts form-encoded. Many clients do not do that,
	// and a secret in base64 has a plus in it every other time.
	client, good := a.authentic(id, secret)
	if !good {
		decodedID, errID := url.QueryUnescape(id)
		decodedSecret, errSecret := url.QueryUnescape(secret)
		if errID == nil && errSecret == nil {
			client, good = a.authentic(decodedID, decodedSecret)
		}
	}
	return client, good
}

func (a *API) authentic(id, secret string) (Client, bool) {
	client := a.config.Clients[id]
	if secret == "" { // of which anybody knows the hash
		return Client{}, false
	}
	presented := HashClientSecret(secret)
	equal := 0
	for i := range client.Secrets {
		equal |= subtle.ConstantTimeCompare(presented[:], client.Secrets[i][:])
	}
	return client, equal == 1
}

// allowed returns the client that authenticates, by HTTP Basic, and may do
// something.
func (a *API) allowed(r *http.Request, may func(Client) bool) (Client, error) {
	client, err := a.authenticate(r, credentials{})
	if err == nil && !may(client) {
		err = errMayNot
	}
	return client, err
}

// transport is how the tokens of a client arrive; of nobody, in a body.
func (c Client) transport() refresh.Transport {
	switch {
	case c.confidential():
		return refresh.Authenticated
	case c.inCookie():
		return refresh.Cookie
	}
	return refresh.Body
}

// revocations streams what was revoked to services that keep a copy.
func (a *API) revocations(w http.ResponseWriter, r *http.Request) {
	_, err := a.allowed(r, func(c Client) bool { return c.MayFollow && a.config.Revocations != nil })
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.config.Revocations.ServeHTTP(w, r)
}
