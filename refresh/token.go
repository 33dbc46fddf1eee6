package refresh

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/secret"
)

// Prefix opens every refresh token, so that scanners for leaked secrets can
// know one by its looks.
const Prefix = "authapi_rt_"

// The binary token. 42 bytes are exactly 56 characters of base64: no spare
// bits, so every token has one spelling only.
const (
	seedSize = 16
	macSize  = 16

	version1 = 1

	atSecret     = 1
	atPartition  = atSecret + len(secret.ID{})
	atSeed       = atPartition + 1
	atGeneration = atSeed + seedSize
	atMAC        = atGeneration + 4
	binarySize   = atMAC + macSize

	textSize = len(Prefix) + binarySize*4/3
)

// Token is a refresh token known to be genuine: this service made it, although
// its session may have moved on or ended since.
type Token struct {
	partition  partition.ID
	seed       [seedSize]byte
	generation uint32
}

// newToken starts a session: the seed is drawn once and stays the same in all
// of the session's tokens. It appears nowhere else.
func newToken(p partition.ID) Token {
	t := Token{partition: p}
	rand.Read(t.seed[:])
	return t
}

// SID returns the public id of the token's session. It does not reveal the
// seed, and so does not help to make a token.
func (t Token) SID() string {
	return t.partition.Tag() + "." + t.digest("sid/v1", nil)
}

// Generation returns how many rotations preceded the token.
func (t Token) Generation() uint32 { return t.generation }

// jti returns the id of the access token that is granted with this token. It
// is a function of the token, so that a repeated grant carries the id of the
// original, and denying one denies the other.
func (t Token) jti() string {
	return t.digest("jti/v1", binary.BigEndian.AppendUint32(nil, t.generation))
}

func (t Token) digest(purpose string, more []byte) string {
	h := sha256.New()
	h.Write([]byte(purpose))
	h.Write(t.seed[:])
	h.Write(more)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// at returns the session's token of another generation.
func (t Token) at(generation uint32) Token {
	t.generation = generation
	return t
}

// codec turns tokens into text and back. The first secret signs, all verify.
type codec struct {
	current secret.ID
	macKeys map[secret.ID][]byte
}

func newCodec(secrets [][]byte) (*codec, error) {
	if len(secrets) == 0 {
		return nil, errors.New("refresh: no secret")
	}
	c := &codec{macKeys: make(map[secret.ID][]byte, len(secrets))}
	for i, s := range secrets {
		id, err := secret.IDOf(s)
		if err != nil {
			return nil, fmt.Errorf("refresh: %w", err)
		}
		if _, taken := c.macKeys[id]; taken {
			return nil, errors.New("refresh: two secrets are the same or share an id")
		}
		if c.macKeys[id], err = secret.Derive(s, "refresh-mac/v1"); err != nil {
			return nil, fmt.Errorf("refresh: %w", err)
		}
		if i == 0 {
			c.current = id
		}
	}
	return c, nil
}

func (c *codec) encode(t Token) string {
	b := make([]byte, atMAC, binarySize)
	b[0] = version1
	copy(b[atSecret:], c.current[:])
	b[atPartition] = byte(t.partition)
	copy(b[atSeed:], t.seed[:])
	binary.BigEndian.PutUint32(b[atGeneration:], t.generation)
	b = append(b, mac(c.macKeys[c.current], b)...)
	return Prefix + base64.RawURLEncoding.EncodeToString(b)
}

// decode costs a forger one HMAC and Redis nothing.
func (c *codec) decode(text string) (Token, error) {
	if len(text) != textSize || text[:len(Prefix)] != Prefix {
		return Token{}, ErrToken
	}
	var b [binarySize]byte
	// No second spelling gets through: the decoder skips line breaks, but then
	// the result is too short.
	n, err := base64.RawURLEncoding.Decode(b[:], []byte(text[len(Prefix):]))
	if err != nil || n != binarySize || b[0] != version1 {
		return Token{}, ErrToken
	}
	key, ok := c.macKeys[secret.ID(b[atSecret:atPartition])]
	if !ok || !hmac.Equal(mac(key, b[:atMAC]), b[atMAC:]) {
		return Token{}, ErrToken
	}
	return Token{
		partition:  partition.ID(b[atPartition]),
		seed:       [seedSize]byte(b[atSeed:atGeneration]),
		generation: binary.BigEndian.Uint32(b[atGeneration:atMAC]),
	}, nil
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)[:macSize]
}

// retryHash shortens a retry key to the eight bytes that the session keeps.
// The generation goes in, so that a key used again for a later refresh is a
// different key there.
func retryHash(key string, generation uint32) string {
	h := sha256.New()
	h.Write([]byte("retry/v1"))
	h.Write(binary.BigEndian.AppendUint32(nil, generation))
	h.Write([]byte(key))
	return string(h.Sum(nil)[:8])
}
