package refresh

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/secret"
)

// Prefix opens every refresh token, so that scanners for leaked secrets can
// know one by its looks.
const Prefix = "authapi_rt_"

// What a token carries.
const (
	atSeed       = 1 // behind the partition
	atGeneration = atSeed + 16
)

// Token is a refresh token known to be genuine: this service made it, although
// its session may have moved on or ended since.
type Token struct {
	partition  partition.ID
	seed       [16]byte
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

// encode returns the text of a token.
func (st *Store) encode(t Token) string {
	var payload [secret.PayloadSize]byte
	payload[0] = byte(t.partition)
	copy(payload[atSeed:], t.seed[:])
	binary.BigEndian.PutUint32(payload[atGeneration:], t.generation)
	return st.tokens.Seal(payload, "")
}

// Parse tells whether a text is a refresh token that this service made. It
// asks nobody; anything else than a token is [ErrToken].
func (st *Store) Parse(token string) (Token, error) {
	payload, genuine := st.tokens.Open(token, "")
	if !genuine {
		return Token{}, ErrToken
	}
	return Token{
		partition:  partition.ID(payload[0]),
		seed:       [16]byte(payload[atSeed:atGeneration]),
		generation: binary.BigEndian.Uint32(payload[atGeneration:]),
	}, nil
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
