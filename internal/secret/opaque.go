package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
)

// PayloadSize is how many bytes an opaque token carries. With the rest they are
// 42, which are exactly 56 characters of base64: no spare bits, so every token has
// one spelling only.
const PayloadSize = 21

const (
	version1 = 1

	atSecret  = 1
	atPayload = atSecret + len(ID{})
	atMAC     = atPayload + PayloadSize
	macSize   = 16
	size      = atMAC + macSize
)

// Opaque makes opaque tokens of one kind, and knows them again:
//
//	prefix base64url(version ‖ ID of the secret ‖ payload ‖ MAC)
//
// The first secret signs, all verify. Safe for concurrent use.
type Opaque struct {
	prefix  string
	current ID
	macKeys map[ID][]byte
}

// NewOpaque returns the kind of tokens that begin with the prefix and are signed
// with the keys for the purpose.
func NewOpaque(prefix, purpose string, secrets [][]byte) (*Opaque, error) {
	if len(secrets) == 0 {
		return nil, errors.New("no secret")
	}
	o := &Opaque{prefix: prefix, macKeys: make(map[ID][]byte, len(secrets))}
	for i, s := range secrets {
		id, err := IDOf(s)
		if err != nil {
			return nil, err
		}
		if _, taken := o.macKeys[id]; taken {
			return nil, errors.New("two secrets are the same or share an id")
		}
		if o.macKeys[id], err = Derive(s, purpose); err != nil {
			return nil, err
		}
		if i == 0 {
			o.current = id
		}
	}
	return o, nil
}

// Seal makes a token. What it is bound to is not in it, but must be known to open
// it.
func (o *Opaque) Seal(payload [PayloadSize]byte, bound string) string {
	b := make([]byte, atMAC, size)
	b[0] = version1
	copy(b[atSecret:], o.current[:])
	copy(b[atPayload:], payload[:])
	b = append(b, mac(o.macKeys[o.current], b, bound)...)
	return o.prefix + base64.RawURLEncoding.EncodeToString(b)
}

// Open returns what a genuine token carries. It costs a forger one HMAC, and Redis
// nothing.
func (o *Opaque) Open(text, bound string) (payload [PayloadSize]byte, genuine bool) {
	if len(text) != len(o.prefix)+base64.RawURLEncoding.EncodedLen(size) || text[:len(o.prefix)] != o.prefix {
		return payload, false
	}
	var b [size]byte
	// No second spelling gets through: the decoder skips line breaks, but then
	// the result is too short.
	n, err := base64.RawURLEncoding.Decode(b[:], []byte(text[len(o.prefix):]))
	if err != nil || n != size || b[0] != version1 {
		return payload, false
	}
	key, known := o.macKeys[ID(b[atSecret:atPayload])]
	if !known || !hmac.Equal(mac(key, b[:atMAC], bound), b[atMAC:]) {
		return payload, false
	}
	return [PayloadSize]byte(b[atPayload:atMAC]), true
}

func mac(key, message []byte, bound string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message) // of fixed length: nothing can move between it and what follows
	h.Write([]byte(bound))
	return h.Sum(nil)[:macSize]
}
