package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
)

// ClientSecret is the hash of a client's secret. A plain hash is enough,
// because secrets are not passwords that people think up: whoever configures
// one must make it at random.
type ClientSecret [sha256.Size]byte

// HashClientSecret returns the form in which a secret is kept.
func HashClientSecret(secret string) ClientSecret { return sha256.Sum256([]byte(secret)) }

// authenticateClient finds the confidential client that a request comes from,
// by HTTP Basic (RFC 6749, section 2.3.1).
func (a *API) authenticateClient(r *http.Request) (Client, error) {
	if len(r.Header.Values("Authorization")) != 1 {
		return Client{}, errClientAuth
	}
	id, secret, ok := r.BasicAuth()
	if !ok {
		return Client{}, errClientAuth
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
	if !good {
		return Client{}, errClientAuth
	}
	return client, nil
}

func (a *API) authentic(id, secret string) (Client, bool) {
	client := a.config.Clients[id]
	presented := HashClientSecret(secret)
	equal := 0
	for i := range client.Secrets {
		equal |= subtle.ConstantTimeCompare(presented[:], client.Secrets[i][:])
	}
	return client, equal == 1
}

// revocations streams what was revoked to services that keep a copy.
func (a *API) revocations(w http.ResponseWriter, r *http.Request) {
	client, err := a.authenticateClient(r)
	if err == nil && (!client.MayFollow || a.config.Revocations == nil) {
		err = errMayNot
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.config.Revocations.ServeHTTP(w, r)
}
