package tokens

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"github.com/golang-jwt/jwt/v5"
)

// base64url is the only text form of bytes in a token or a key. Strict refuses
// a last character with bits that stand for nothing, which would give one
// token several spellings.
var base64url = base64.RawURLEncoding.Strict()

// An algorithm is a row of the table below: a way to sign, and the one kind of
// key it works with.
type algorithm struct {
	name     string   // alg, compared exactly
	kty, crv string   // what a JWK of this algorithm must say
	members  []string // what it may say about the key, see jwk.members

	// The shortest and the longest signature in bytes; signatureSize is the
	// length of those that one key makes.
	minSignature, maxSignature int
	signatureSize              func(crypto.PublicKey) int

	method   jwt.SigningMethod
	generate func() (crypto.Signer, error)

	// fromJWK reads the key from a JWK whose kty and crv are right already.
	fromJWK func(jwk) (crypto.PublicKey, error)
	// toJWK writes the key's own members into a JWK. It reports false if the
	// key is of another kind, or one that fromJWK would refuse.
	toJWK func(crypto.PublicKey, *jwk) bool
}

// algorithms is everything that this package can sign and verify; what is not
// here does not exist for it ("none" and HMAC in particular). No two rows may
// share a kind of key: it is the key that decides how it is used.
var algorithms = []*algorithm{
	{
		name: "ES256", kty: "EC", crv: "P-256", members: []string{"crv", "x", "y"},
		minSignature: 64, maxSignature: 64, signatureSize: always64,
		method: jwt.SigningMethodES256, generate: generateP256,
		fromJWK: p256FromJWK, toJWK: p256ToJWK,
	},
	{
		name: "EdDSA", kty: "OKP", crv: "Ed25519", members: []string{"crv", "x"},
		minSignature: 64, maxSignature: 64, signatureSize: always64,
		method: jwt.SigningMethodEdDSA, generate: generateEd25519,
		fromJWK: ed25519FromJWK, toJWK: ed25519ToJWK,
	},
	{
		name: "RS256", kty: "RSA", members: []string{"n", "e"},
		minSignature: minModulus / 8, maxSignature: maxModulus / 8, signatureSize: modulusSize,
		method: jwt.SigningMethodRS256, generate: generateRSA,
		fromJWK: rsaFromJWK, toJWK: rsaToJWK,
	},
}

func always64(crypto.PublicKey) int { return 64 }

// Algorithms returns the names of the algorithms there are, as in alg. The
// first is the one to choose when nothing speaks for another.
func Algorithms() []string {
	names := make([]string, len(algorithms))
	for i, a := range algorithms {
		names[i] = a.name
	}
	return names
}

// algorithmNamed returns nil if there is none.
func algorithmNamed(alg string) *algorithm {
	for _, a := range algorithms {
		if a.name == alg {
			return a
		}
	}
	return nil
}

// jwk is a public key as RFC 7517 writes it. The order of the fields is the
// order of the members in our own documents.
type jwk struct {
	Kty string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Crv string `json:"crv,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
}

// members are those that make the key, of all kinds of keys. The ones that the
// key's kind does not have are empty.
func (k *jwk) members() map[string]*string {
	return map[string]*string{"crv": &k.Crv, "x": &k.X, "y": &k.Y, "n": &k.N, "e": &k.E}
}

// thumbprint is the key's name under RFC 7638: the hash of the members that
// make the key, and only those, in alphabetical order.
func (k *jwk) thumbprint() string {
	required := map[string]string{"kty": k.Kty}
	for name, value := range k.members() {
		if *value != "" {
			required[name] = *value
		}
	}
	text, err := json.Marshal(required) // sorts the names
	if err != nil {
		panic(err) // strings cannot fail
	}
	sum := sha256.Sum256(text)
	return base64url.EncodeToString(sum[:])
}

// decodeMember reads bytes from a JWK. The decoder skips line breaks; the
// length shows them.
func decodeMember(text string) ([]byte, bool) {
	decoded, err := base64url.DecodeString(text)
	return decoded, err == nil && len(text) == base64url.EncodedLen(len(decoded))
}
