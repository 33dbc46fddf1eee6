package users

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// ErrHashFormat means that a stored password hash is not an Argon2id string
// that this package is willing to compute.
var ErrHashFormat = errors.New("stored password hash is malformed or too costly")

// cost holds Argon2id's parameters (RFC 9106 section 3.1).
type cost struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
}

// phc is a password hash in the PHC string format:
//
//	$argon2id$v=19$m=<KiB>,t=<passes>,p=<threads>$<salt>$<hash>
//
// with salt and hash in unpadded standard base64.
type phc struct {
	cost
	salt, hash []byte
}

// Whoever can write to Redis chooses the parameters of the next login's work.
// These caps keep one login from taking the machine.
const (
	maxMemory  = 256 << 10 // KiB
	maxPasses  = 10
	maxThreads = 16
	minSalt    = 8
	maxSalt    = 64
	minHash    = 16
	maxHash    = 64
	maxPHC     = 256 // longer than any string within the other caps
)

func (p phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", p.memory, p.passes, p.threads,
		b64.EncodeToString(p.salt), b64.EncodeToString(p.hash))
}

// parsePHC reads a PHC string. It accepts the one text that String gives for a
// value, and no other spelling of it. Its error does not contain the string.
func parsePHC(s string) (phc, error) {
	if len(s) > maxPHC {
		return phc{}, ErrHashFormat
	}
	parts := strings.Split(s, "$")
	if len(parts) != 6 {
		return phc{}, ErrHashFormat
	}
	var p phc
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.threads); err != nil {
		return phc{}, ErrHashFormat
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil {
		return phc{}, ErrHashFormat
	}
	if p.hash, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil {
		return phc{}, ErrHashFormat
	}
	// Scanning and decoding are lenient about signs, leading zeros, trailing
	// text, line ends and spare bits. Writing the value out again is not; it
	// also checks the algorithm and the version.
	if p.String() != s {
		return phc{}, ErrHashFormat
	}
	switch {
	case p.passes < 1 || p.passes > maxPasses,
		p.threads < 1 || p.threads > maxThreads,
		// Argon2 needs 8 KiB a thread (RFC 9106 section 3.1). With less, the
		// implementation would silently compute something else.
		p.memory < 8*uint32(p.threads) || p.memory > maxMemory,
		len(p.salt) < minSalt || len(p.salt) > maxSalt,
		len(p.hash) < minHash || len(p.hash) > maxHash:
		return phc{}, ErrHashFormat
	}
	return p, nil
}
