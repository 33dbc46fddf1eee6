package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
)

const p256Size = 32 // bytes of a coordinate

func generateP256() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// p256FromJWK reads x and y (RFC 7518, section 6.2.1).
func p256FromJWK(k jwk) (crypto.PublicKey, error) {
	point := append(make([]byte, 0, 1+2*p256Size), 4) // 4: uncompressed
	for _, text := range []string{k.X, k.Y} {
		coordinate, ok := decodeMember(text)
		if !ok || len(coordinate) != p256Size {
			return nil, errors.New("a coordinate is not 32 bytes in base64url")
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
