package vectors_test

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
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/authapi/authapi/tokens"
)

const (
	issuer   = "https://auth.example"
	audience = "https://api.example"

	iat   = 1767323045
	nowMS = iat*1000 + 600
)

// The private keys printed in RFC 7515, appendix A.3, RFC 8037, appendix A.1,
// and RFC 7517, appendix A.2.
var (
	p256    = must(ecdsa.ParseRawPrivateKey(elliptic.P256(), unb64("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")))
	edwards = ed25519.NewKeyFromSeed(unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
	rsa2048 = rsaKey(
		"83i-7IvMGXoMXCskv73TKr8637FiO7Z27zv8oj6pbWUQyLPQBQxtPVnwD20R-60eTDmD2ujnMt5PoqMrm8RfmNhVWDtjjMmCMjOpSXicFHj7"+
			"XOuVIYQyqVWlWEh6dN36GVZYk93N8Bc9vY41xy8B9RzzOGVQzXvNEvn7O0nVbfs",
		"3dfOR9cuYq-0S-mkFLzgItgMEfFzB2q3hWehMuG0oCuqnb3vobLyumqjVZQO1dIrdwgTnCdpYzBcOfW5r370AFXjiWft_NGEiovonizhKpo9"+
			"VVS78TzFgxkIdrecRezsZ-1kYd_s1qDbxtkDEgfAITAG9LUnADun4vIcb6yelxk",
	)
)

func rsaKey(primes ...string) *rsa.PrivateKey {
	p, q := new(big.Int).SetBytes(unb64(primes[0])), new(big.Int).SetBytes(unb64(primes[1]))
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537},
		D:         new(big.Int).ModInverse(big.NewInt(65537), phi),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	return key
}

// forger signs whatever text a vector wants, with a key that the verifier
// trusts, and without the package under test: a refusal is then for the reason
// that the vector is about and not for the signature.
type forger struct {
	alg, kid string
	private  crypto.Signer
}

var forgers = []*forger{newForger("ES256", p256), newForger("EdDSA", edwards), newForger("RS256", rsa2048)}

func newForger(alg string, private crypto.Signer) *forger {
	return &forger{alg, signingKey(private).ID(), private}
}

func signingKey(private crypto.Signer) *tokens.SigningKey {
	return must(tokens.ParseSigningKey(must(x509.MarshalPKCS8PrivateKey(private))))
}

// size is that of a signature, in bytes.
func (f *forger) size() int {
	if f.alg == "RS256" {
		return 256
	}
	return 64
}

func (f *forger) header() string {
	return fmt.Sprintf(`{"alg":%q,"typ":"at+jwt","kid":%q}`, f.alg, f.kid)
}

// forge signs a header and a payload as they are.
func (f *forger) forge(header, payload string) string {
	return f.forgeText(b64(header) + "." + b64(payload))
}

// forgeText signs text that need not even be base64.
func (f *forger) forgeText(signed string) string {
	return signed + "." + b64(string(f.sign(signed)))
}

func (f *forger) sign(text string) []byte {
	digest := sha256.Sum256([]byte(text))
	switch private := f.private.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		return ed25519.Sign(private, []byte(text))
	default:
		return must(rsa.SignPKCS1v15(nil, private.(*rsa.PrivateKey), crypto.SHA256, digest[:]))
	}
}

// payload returns acceptable claims with some replaced by raw JSON, or removed
// where the raw JSON is "".
func payload(changes map[string]string) string {
	claims := map[string]string{
		"iss": `"` + issuer + `"`, "sub": `"alice"`, "aud": `"` + audience + `"`, "exp": "1767323345", "iat": "1767323045",
		"jti": `"j1"`, "client_id": `"mobile"`, "sid": `"q6.2F5uQdw0khr5SaFjY0mKKQ"`, "auth_time": "1767323045",
		"scope": `"read"`, "roles": `["admin"]`, "amr": `["pwd"]`,
	}
	maps.Copy(claims, changes)
	var members []string
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		if claims[name] != "" {
			members = append(members, string(must(json.Marshal(name)))+":"+claims[name])
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

// with appends a member to an object, even if it is there already.
func with(object, member string) string {
	return strings.TrimSuffix(object, "}") + "," + member + "}"
}

// document is the JWKS of these keys.
func document(keys ...*forger) json.RawMessage {
	var public []tokens.PublicKey
	for _, f := range keys {
		public = append(public, signingKey(f.private).Public())
	}
	return must(must(tokens.NewKeySet(public...)).MarshalJSON())
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func unb64(text string) []byte { return must(base64.RawURLEncoding.DecodeString(text)) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
