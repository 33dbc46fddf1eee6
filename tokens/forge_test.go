package tokens_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"strings"
	"sync"
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
	alg      string
	private  crypto.Signer
	key      *tokens.SigningKey
	keys     *tokens.KeySet
	verifier *tokens.Verifier
}

func newForger(t testing.TB, alg string) *forger {
	t.Helper()
	private := examplePrivate(t, alg)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	check(t, err)
	key, err := tokens.ParseSigningKey(pkcs8)
	check(t, err)
	keys, err := tokens.NewKeySet(key.Public())
	check(t, err)
	return &forger{alg, private, key, keys, verifierAt(t, now)}
}

// eachAlgorithm runs a test once for each algorithm.
func eachAlgorithm(t *testing.T, test func(*testing.T, *forger)) {
	for _, alg := range tokens.Algorithms() {
		t.Run(alg, func(t *testing.T) { test(t, newForger(t, alg)) })
	}
}

// mixed returns a forger for each algorithm, and one set with all their keys.
func mixed(t testing.TB) ([]*forger, *tokens.KeySet) {
	t.Helper()
	var forgers []*forger
	var public []tokens.PublicKey
	for _, alg := range tokens.Algorithms() {
		f := newForger(t, alg)
		forgers = append(forgers, f)
		public = append(public, f.key.Public())
	}
	keys, err := tokens.NewKeySet(public...)
	check(t, err)
	return forgers, keys
}

// examplePrivate returns the private key printed in RFC 7515, appendix A.3, in
// RFC 8037, appendix A.1, or in RFC 7517, appendix A.2. They are always the
// same, so fuzzing can find the same tokens again.
func examplePrivate(t testing.TB, alg string) crypto.Signer {
	t.Helper()
	switch alg {
	case "ES256":
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), decode(t, "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"))
		check(t, err)
		return private
	case "EdDSA":
		return ed25519.NewKeyFromSeed(decode(t, "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
	case "RS256":
		return exampleRSA(t, 65537)
	}
	t.Fatalf("no example of a key for %s", alg)
	return nil
}

// exampleRSA has the two primes of RFC 7517, appendix A.2, whatever e.
func exampleRSA(t testing.TB, e int) *rsa.PrivateKey {
	t.Helper()
	p := new(big.Int).SetBytes(decode(t, "83i-7IvMGXoMXCskv73TKr8637FiO7Z27zv8oj6pbWUQyLPQBQxtPVnwD20R-60eTDmD2ujnMt5P"+
		"oqMrm8RfmNhVWDtjjMmCMjOpSXicFHj7XOuVIYQyqVWlWEh6dN36GVZYk93N8Bc9vY41xy8B9RzzOGVQzXvNEvn7O0nVbfs"))
	q := new(big.Int).SetBytes(decode(t, "3dfOR9cuYq-0S-mkFLzgItgMEfFzB2q3hWehMuG0oCuqnb3vobLyumqjVZQO1dIrdwgTnCdpYzBc"+
		"OfW5r370AFXjiWft_NGEiovonizhKpo9VVS78TzFgxkIdrecRezsZ-1kYd_s1qDbxtkDEgfAITAG9LUnADun4vIcb6yelxk"))
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	d := new(big.Int).ModInverse(big.NewInt(int64(e)), phi)
	if d == nil {
		t.Fatalf("%d cannot be the exponent", e)
	}
	private := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: e}, D: d, Primes: []*big.Int{p, q},
	}
	private.Precompute()
	return private
}

// generated returns a key that GenerateKey has made, the same one each time:
// an RSA key takes long.
func generated(t testing.TB, alg string) *tokens.SigningKey {
	t.Helper()
	make, _ := generatedKeys.LoadOrStore(alg, sync.OnceValues(func() (*tokens.SigningKey, error) {
		return tokens.GenerateKey(alg)
	}))
	key, err := make.(func() (*tokens.SigningKey, error))()
	check(t, err)
	return key
}

var generatedKeys sync.Map

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

func decode(t testing.TB, text string) []byte {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	check(t, err)
	return decoded
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
	return signed + "." + b64(string(f.sign(t, signed)))
}

func (f *forger) sign(t testing.TB, text string) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(text))
	switch private := f.private.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
		check(t, err)
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		return ed25519.Sign(private, []byte(text))
	case *rsa.PrivateKey:
		signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
		check(t, err)
		return signature
	}
	t.Fatalf("cannot sign with a %T", f.private)
	return nil
}

// size is that of a signature, in bytes.
func (f *forger) size() int {
	if f.alg == "RS256" {
		return 256
	}
	return 64
}

func (f *forger) header() string {
	return `{"alg":"` + f.alg + `","typ":"at+jwt","kid":"` + f.key.ID() + `"}`
}

// cut separates the signature, decoded, from the text that it signs.
func cut(t testing.TB, token string) (string, []byte) {
	t.Helper()
	dot := strings.LastIndexByte(token, '.')
	return token[:dot], decode(t, token[dot+1:])
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
