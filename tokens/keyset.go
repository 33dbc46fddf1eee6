package tokens

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/authapi/authapi/internal/strictjson"
)

const (
	maxKeySetSize = 64 << 10 // bytes of a JWKS document
	maxKeys       = 32
)

// PublicKey verifies what one [SigningKey] signs. It comes from
// [SigningKey.Public] or a [KeySet]; the zero value is no key.
type PublicKey struct {
	alg *algorithm
	key crypto.PublicKey
	jwk jwk
}

// newPublicKey names a key by its thumbprint. It fails if no algorithm works
// with this kind of key, or the key is too weak for it.
func newPublicKey(key crypto.PublicKey) (PublicKey, error) {
	for _, alg := range algorithms {
		k := jwk{Kty: alg.kty, Use: "sig", Alg: alg.name, Crv: alg.crv}
		if alg.toJWK(key, &k) {
			k.Kid = k.thumbprint()
			return PublicKey{alg, key, k}, nil
		}
	}
	return PublicKey{}, errors.New("tokens: no algorithm for a key of this kind and size")
}

// ID returns the key's id, the kid of the tokens it verifies.
func (k PublicKey) ID() string { return k.jwk.Kid }

// Algorithm returns the only algorithm the key may be used with, one of
// [Algorithms].
func (k PublicKey) Algorithm() string { return k.jwk.Alg }

// signatureSize is the length in bytes of every signature of this key.
func (k PublicKey) signatureSize() int { return k.alg.signatureSize(k.key) }

// KeySet is the public keys of an issuer, of one kind or several. It never
// changes: whoever holds a verdict can tie it to the pointer. A nil *KeySet has
// no keys.
type KeySet struct {
	keys map[string]PublicKey
}

// NewKeySet makes a set of 1 to 32 keys with different ids.
func NewKeySet(keys ...PublicKey) (*KeySet, error) {
	// An empty set is always a fault, and to take it would log everyone out.
	if len(keys) == 0 {
		return nil, errors.New("tokens: key set: no usable key")
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("tokens: key set: more than %d keys", maxKeys)
	}
	s := &KeySet{make(map[string]PublicKey, len(keys))}
	for i, k := range keys {
		if k.alg == nil {
			return nil, fmt.Errorf("tokens: key set: key %d is a zero value", i)
		}
		if _, taken := s.keys[k.jwk.Kid]; taken {
			return nil, fmt.Errorf("tokens: key set: key %d has the id of another", i)
		}
		s.keys[k.jwk.Kid] = k
	}
	return s, nil
}

// ParseKeySet reads a JWKS document (RFC 7517), of at most 64 KiB and 32 keys.
//
// Each key whose alg is one of [Algorithms] must be perfect: the right kty and
// crv for its alg, use absent or "sig", key_ops absent or ["verify"], a kid of
// 1 to 64 bytes that no other has, no private part, and no member of a key of
// another kind. Coordinates have the exact length and are a point on the curve,
// for Ed25519 not one of small order. An RSA modulus has 2048 to 4096 bits and
// is odd, the exponent is 65537, and neither is written with leading zeros. One
// key that is not perfect refuses the whole document, and the caller keeps the
// set it has: a broken publication must not take keys away. A key without alg
// is refused likewise, since it would let the token choose.
//
// A key with an alg that this package does not know is ignored, whatever else
// it says: the issuer may begin to publish new kinds while old verifiers run.
// A document with no other keys is refused.
//
// Errors quote nothing from the document.
func ParseKeySet(jwks []byte) (*KeySet, error) {
	if len(jwks) > maxKeySetSize {
		return nil, fmt.Errorf("tokens: key set: larger than %d bytes", maxKeySetSize)
	}
	var documents [][]byte
	found := false
	err := strictjson.Members(jwks, func(name string, value []byte) error {
		if name != "keys" {
			return nil
		}
		found = strictjson.Elements(value, func(element []byte) bool {
			documents = append(documents, element)
			return len(documents) <= maxKeys
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tokens: key set: %w", err)
	}
	if len(documents) > maxKeys {
		return nil, fmt.Errorf("tokens: key set: more than %d keys", maxKeys)
	}
	if !found {
		return nil, errors.New("tokens: key set: no array of keys")
	}
	var keys []PublicKey
	for i, document := range documents {
		key, err := parseJWK(document)
		if err != nil {
			return nil, fmt.Errorf("tokens: key set: key %d: %w", i, err)
		}
		if key.alg != nil {
			keys = append(keys, key)
		}
	}
	return NewKeySet(keys...)
}

// parseJWK returns the zero PublicKey for a key to be ignored.
func parseJWK(document []byte) (PublicKey, error) {
	var k jwk
	if err := strictjson.Decode(document, map[string]any{"alg": &k.Alg}); err != nil {
		return PublicKey{}, err
	}
	if k.Alg == "" {
		return PublicKey{}, errors.New("no alg")
	}
	alg := algorithmNamed(k.Alg)
	if alg == nil {
		return PublicKey{}, nil
	}
	k.Use = "sig"
	operations := []string{"verify"}
	fields := map[string]any{
		"kty": &k.Kty, "use": &k.Use, "key_ops": &operations, "alg": &k.Alg, "kid": &k.Kid,
	}
	// A set that publishes a private key, even a part of it, is an accident.
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth"} {
		fields[name] = nil
	}
	for name, value := range k.members() {
		if slices.Contains(alg.members, name) {
			fields[name] = value
		} else {
			fields[name] = nil
		}
	}
	err := strictjson.Decode(document, fields)
	switch {
	case err != nil:
		return PublicKey{}, err
	case k.Kty != alg.kty || k.Crv != alg.crv:
		return PublicKey{}, errors.New("kty or crv does not fit alg")
	case k.Use != "sig" || !slices.Equal(operations, []string{"verify"}):
		return PublicKey{}, errors.New("not for verifying signatures")
	case k.Kid == "" || len(k.Kid) > MaxKeyID:
		return PublicKey{}, fmt.Errorf("kid is not 1 to %d bytes", MaxKeyID)
	}
	key, err := alg.fromJWK(k)
	if err != nil {
		return PublicKey{}, err
	}
	return PublicKey{alg, key, k}, nil
}

// MarshalJSON writes the set as a JWKS document, sorted by kid: the same keys
// give the same bytes on every instance.
func (s *KeySet) MarshalJSON() ([]byte, error) {
	document := struct {
		Keys []jwk `json:"keys"`
	}{[]jwk{}}
	if s != nil {
		for _, k := range s.keys {
			document.Keys = append(document.Keys, k.jwk)
		}
	}
	slices.SortFunc(document.Keys, func(a, b jwk) int { return strings.Compare(a.Kid, b.Kid) })
	return json.Marshal(document)
}

// find reports false if the set has no key of that id.
func (s *KeySet) find(kid string) (PublicKey, bool) {
	if s == nil {
		return PublicKey{}, false
	}
	k, ok := s.keys[kid]
	return k, ok
}
