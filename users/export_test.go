package users

// ChangeScript is what changes accounts.
var ChangeScript = changeScript

// NewCheapHasher returns a Hasher whose hashes cost next to nothing.
func NewCheapHasher(config HasherConfig) *Hasher {
	return newHasher(config, cost{memory: 8, passes: 1, threads: 1})
}

// HashCall is one call of the hashing function.
type HashCall struct {
	Memory, Passes uint32
	Threads        uint8
	SaltSize       int
	Size           uint32
}

// OnHash makes h call before ahead of each hashing. Not while h is in use.
func (h *Hasher) OnHash(before func(HashCall)) {
	derive := h.derive
	h.derive = func(password, salt []byte, c cost, size uint32) []byte {
		before(HashCall{c.memory, c.passes, c.threads, len(salt), size})
		return derive(password, salt, c, size)
	}
}

// Permits is how many hashings may run at once.
func (h *Hasher) Permits() int { return cap(h.permits) }

// SetPermits lifts the bound of GOMAXPROCS, so that a test sees the same on
// every machine. Not while h is in use.
func (h *Hasher) SetPermits(n int) { h.permits = make(chan struct{}, n) }

// Waiting is how many callers wait for a permit.
func (h *Hasher) Waiting() int { return len(h.queue) }

// ReformatPHC parses s and writes it out again.
func ReformatPHC(s string) (string, error) {
	p, err := parsePHC(s)
	return p.String(), err
}
