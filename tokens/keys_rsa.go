package tokens

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
)

// Bits of a modulus. RFC 7518, section 3.3, demands the lower bound; the upper
// one bounds the work that a stranger's token can cause. Both are whole bytes.
const (
	minModulus = 2048
	maxModulus = 4096
)

// The only public exponent. A small one lets some signatures be forged where
// padding is checked carelessly, by other readers of the same key set too.
const (
	publicExponent     = 65537
	publicExponentText = "AQAB"
)

func generateRSA() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, minModulus) }

// rsaFromJWK reads n and e (RFC 7518, section 6.3.1).
func rsaFromJWK(k jwk) (crypto.PublicKey, error) {
	if k.E != publicExponentText {
		return nil, errors.New("e is not 65537 in its shortest form")
	}
	n, ok := decodeMember(k.N)
	if !ok || len(n) == 0 || n[0] == 0 {
		return nil, errors.New("n is not a number in base64url, in its shortest form")
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: publicExponent}
	if !soundRSA(key) {
		return nil, errors.New("n is not odd, or not of 2048 to 4096 bits")
	}
	return key, nil
}

func rsaToJWK(public crypto.PublicKey, k *jwk) bool {
	key, ok := public.(*rsa.PublicKey)
	if !ok || !soundRSA(key) {
		return false
	}
	k.N = base64url.EncodeToString(key.N.Bytes())
	k.E = publicExponentText
	return true
}

func soundRSA(key *rsa.PublicKey) bool {
	bits := key.N.BitLen()
	return minModulus <= bits && bits <= maxModulus && key.N.Bit(0) == 1 && key.E == publicExponent
}

func modulusSize(key crypto.PublicKey) int { return key.(*rsa.PublicKey).Size() }
