package tokens

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
)

func generateEd25519() (crypto.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return private, err
}

// ed25519FromJWK reads x (RFC 8037, section 2).
func ed25519FromJWK(k jwk) (crypto.PublicKey, error) {
	point, ok := decodeMember(k.X)
	if !ok || len(point) != ed25519.PublicKeySize {
		return nil, errors.New("x is not 32 bytes in base64url")
	}
	if !soundEd25519(point) {
		return nil, errors.New("x is not a point of the curve that can be a key")
	}
	return ed25519.PublicKey(point), nil
}

func ed25519ToJWK(public crypto.PublicKey, k *jwk) bool {
	key, ok := public.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize || !soundEd25519(key) {
		return false
	}
	k.X = base64url.EncodeToString(key)
	return true
}

// The field and the curve -x²+y² = 1+dx²y² of RFC 8032, section 5.1.
var (
	fieldPrime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	curveD     = func() *big.Int {
		d := new(big.Int).ModInverse(big.NewInt(121666), fieldPrime)
		return modulo(d.Mul(d, big.NewInt(-121665)))
	}()
)

func modulo(n *big.Int) *big.Int { return n.Mod(n, fieldPrime) }

// soundEd25519 checks what crypto/ed25519 finds out, if at all, only when a
// signature comes. The bytes must be the one encoding of a point on the curve,
// and not of the eight points of small order: anybody can make signatures for
// those, without a private key. It is not constant in time; keys it is asked
// about are public.
func soundEd25519(key []byte) bool {
	little := slices.Clone(key)
	little[31] &= 0x7f // the sign of x
	slices.Reverse(little)
	y := new(big.Int).SetBytes(little)
	if y.Cmp(fieldPrime) >= 0 {
		return false
	}
	// x² is the fraction u/v. It has a root if u·v has one; v is never 0.
	y2 := modulo(new(big.Int).Mul(y, y))
	u := modulo(new(big.Int).Sub(y2, big.NewInt(1)))
	v := modulo(new(big.Int).Add(new(big.Int).Mul(curveD, y2), big.NewInt(1)))
	if big.Jacobi(modulo(new(big.Int).Mul(u, v)), fieldPrime) < 0 {
		return false
	}
	// Of order 1 or 2: x = 0. Of order 4: y = 0. Of order 8: x² = -y², which
	// doubling takes to y = 0.
	sum := modulo(new(big.Int).Add(u, new(big.Int).Mul(y2, v)))
	return u.Sign() != 0 && y.Sign() != 0 && sum.Sign() != 0
}
