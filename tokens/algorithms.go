package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/golang-jwt/jwt/v5"
)

// base64url is the only text form of bytes in a token or a key. Strict refuses
// a last character with bits that stand for nothing, which would give one
// token several spellings.
var base64url = base64.RawURLEncoding.Strict()

// An algorithm is a row of the table below: a way to sign, and the one kind of
// key it works with.
type algorithm struct {
	name          string // alg, compared exactly
	kty, crv      string // what a JWK of this algorithm must say
	signatureSize int    // bytes
	method        jwt.SigningMethod

	// publicKey reads the key from a JWK whose kty and crv are right already.
	publicKey func(jwk) (crypto.PublicKey, error)
	// coordinates writes the key's own members into a JWK. It reports false if
	// the key is of another kind.
	coordinates func(crypto.PublicKey, *jwk) bool
}

// algorithms is everything that this package can sign and verify; what is not
// here does not exist for it ("none" and HMAC in particular). A new row needs
// no change outside this file but its members in jwk, and for RSA a signature
// size that comes from the key.
var algorithms = []*algorithm{
	{
		name: "ES256", kty: "EC", crv: "P-256",
		signatureSize: 64,
		method:        jwt.SigningMethodES256,
		publicKey:     p256FromJWK,
		coordinates:   p256ToJWK,
	},
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
}

// thumbprint is the key's name under RFC 7638: the hash of the members that
// make the key, and only those, in alphabetical order.
func (k jwk) thumbprint() string {
	required := map[string]string{"kty": k.Kty}
	for name, value := range map[string]string{"crv": k.Crv, "x": k.X, "y": k.Y} {
		if value != "" {
			required[name] = value
		}
	}
	text, err := json.Marshal(required) // sorts the names
	if err != nil {
		panic(err) // strings cannot fail
	}
	sum := sha256.Sum256(text)
	return base64url.EncodeToString(sum[:])
}

const p256Size = 32 // bytes of a coordinate

func p256FromJWK(k jwk) (crypto.PublicKey, error) {
	point := append(make([]byte, 0, 1+2*p256Size), 4) // 4: uncompressed
	for _, text := range []string{k.X, k.Y} {
		if len(text) != base64url.EncodedLen(p256Size) {
			return nil, errors.New("a coordinate has the wrong length")
		}
		coordinate, err := base64url.DecodeString(text)
		if err != nil || len(coordinate) != p256Size {
			return nil, errors.New("a coordinate is not base64url")
		}
		point = append(point, coordinate...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errors.New("the point is not on the curve")
	}
	return key, nil
}

func p256ToJWK(public crypto.PublicKey, k *jwk) bool {
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return false
	}
	point, err := key.Bytes()
	if err != nil {
		return false
	}
	k.X = base64url.EncodeToString(point[1 : 1+p256Size])
	k.Y = base64url.EncodeToString(point[1+p256Size:])
	return true
}
