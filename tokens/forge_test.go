package tokens_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
)

// The forger signs whatever text a test wants, with a key the verifier trusts,
// and without the package under test: a refusal is then for the reason that
// the test is about and not for the signature.

const (
	issuer   = "https://auth.example"
	audience = "https://api.example"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)

type forger struct {
	private  *ecdsa.PrivateKey
	key      *tokens.SigningKey
	keys     *tokens.KeySet
	verifier *tokens.Verifier
}

// newForger uses the private key printed in RFC 7515, appendix A.3, so that
// fuzzing can find the same tokens again.
func newForger(t testing.TB) *forger {
	t.Helper()
	d, err := base64.RawURLEncoding.DecodeString("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")
	check(t, err)
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	check(t, err)
	key, err := tokens.ParseSigningKey(pkcs8)
	check(t, err)
	keys, err := tokens.NewKeySet(key.Public())
	check(t, err)
	return &forger{private, key, keys, verifierAt(t, now)}
}

func verifierAt(t testing.TB, at time.Time) *tokens.Verifier {
	t.Helper()
	v, err := tokens.NewVerifier(tokens.Config{
		Issuer: issuer, Audience: audience, Now: func() time.Time { return at },
	})
	check(t, err)
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// forge signs a header and a payload as they are.
func (f *forger) forge(t testing.TB, header, payload string) string {
	t.Helper()
	return f.forgeText(t, b64(header)+"."+b64(payload))
}

// forgeText signs text that need not even be base64.
func (f *forger) forgeText(t testing.TB, signed string) string {
	t.Helper()
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, f.private, digest[:])
	check(t, err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + b64(string(signature))
}

func (f *forger) header() string {
	return `{"alg":"ES256","typ":"at+jwt","kid":"` + f.key.ID() + `"}`
}

// payload returns acceptable claims with some replaced by raw JSON, or removed
// where the raw JSON is "".
func payload(t testing.TB, changes map[string]string) string {
	t.Helper()
	claims := map[string]json.RawMessage{}
	check(t, json.Unmarshal([]byte(`{
		"iss":"https://auth.example","sub":"alice","aud":"https://api.example",
		"exp":1767323345,"iat":1767323045,"jti":"j1","client_id":"mobile","sid":"q6.s1",
		"auth_time":1767323045,"scope":"read","roles":["admin"],"amr":["pwd"]
	}`), &claims))
	for name, raw := range maps.All(changes) {
		if raw == "" {
			delete(claims, name)
		} else {
			claims[name] = json.RawMessage(raw)
		}
	}
	text, err := json.Marshal(claims)
	check(t, err)
	return string(text)
}

// with appends a member to an object, even if it is there already.
func with(object, member string) string {
	return strings.TrimSuffix(object, "}") + "," + member + "}"
}

// refused asserts the exact reason, and that the error is silent about the token.
func (f *forger) refused(t *testing.T, name, token string, want error) {
	t.Helper()
	c, err := f.verifier.Verify(token, f.keys)
	if !errors.Is(err, want) || !errors.Is(err, tokens.ErrInvalid) || c != nil {
		t.Errorf("%s: got %v, %v; want %v", name, c, err, want)
		return
	}
	for _, secret := range []string{"alice", "mobile", "q6.s1", "evil", "https:", f.key.ID()} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows part of the token: %v", name, err)
		}
	}
}

func (f *forger) accepted(t *testing.T, name, token string) *tokens.Claims {
	t.Helper()
	c, err := f.verifier.Verify(token, f.keys)
	if err != nil {
		t.Errorf("%s: refused: %v", name, err)
		return &tokens.Claims{}
	}
	return c
}
