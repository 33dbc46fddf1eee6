package refresh

import (
	"time"

	"github.com/authapi/authapi/internal/partition"
)

// TokenOf makes a token of the parts given.
func TokenOf(p partition.ID, seed [16]byte, generation uint32) Token {
	return Token{partition: p, seed: seed, generation: generation}
}

// Encode returns the text of a token.
func (st *Store) Encode(t Token) string { return st.encode(t) }

// Seed returns what a token must keep to itself.
func (t Token) Seed() [16]byte { return t.seed }

// Aged returns the grant as it looks after its process was frozen.
func (g *Grant) Aged(by time.Duration) *Grant {
	aged := *g
	aged.asked = g.asked.Add(-by)
	return &aged
}
