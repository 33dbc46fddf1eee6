package users

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/crypto/argon2"
)

// The cost of new hashes: OWASP's recommendation for Argon2id. One hashing
// takes about 20 ms and 19 MiB.
var defaultCost = cost{memory: 19456, passes: 2, threads: 1}

const (
	saltSize = 16
	hashSize = 32
)

// HasherConfig bounds the work of a [Hasher]. The zero value of each field
// means its default.
type HasherConfig struct {
	// Permits is how many hashings run at once. The default, and the most
	// there can be, is GOMAXPROCS: more would only share the processors and
	// take more memory.
	Permits int
	// Queue is how many callers may wait for a permit. Default: 64. A
	// negative number means that nobody waits.
	Queue int
	// Wait is how long a caller waits for a permit. Default: 1 s.
	Wait time.Duration
	// Derive computes Argon2id, with memory in KiB. The default does it here;
	// another process may do it instead. It is called by as many goroutines at
	// once as there are permits.
	Derive func(password, salt []byte, passes, memory uint32, threads uint8, size uint32) []byte
}

// Hasher hashes passwords with Argon2id and checks them. It is safe for
// concurrent use. A process should have one, since its bounds are its own.
//
// A hashing that has begun runs to its end and keeps its permit until then,
// also when the caller's context is cancelled: clients that hang up early
// cannot start more work than there are permits.
type Hasher struct {
	permits chan struct{}
	queue   chan struct{}
	wait    time.Duration

	cost   cost
	dummy  string // what nobody's password is
	derive func(password, salt []byte, c cost, size uint32) []byte
}

// NewHasher returns a Hasher with the default bounds.
func NewHasher() *Hasher { return NewHasherWith(HasherConfig{}) }

// NewHasherWith returns a Hasher with the bounds of config.
func NewHasherWith(config HasherConfig) *Hasher {
	return newHasher(config, defaultCost)
}

func newHasher(config HasherConfig, c cost) *Hasher {
	permits := runtime.GOMAXPROCS(0)
	if config.Permits > 0 {
		permits = min(permits, config.Permits)
	}
	queue := config.Queue
	if queue == 0 {
		queue = 64
	}
	wait := config.Wait
	if wait <= 0 {
		wait = time.Second
	}
	derive := config.Derive
	if derive == nil {
		derive = argon2.IDKey
	}
	return &Hasher{
		permits: make(chan struct{}, permits),
		queue:   make(chan struct{}, max(queue, 0)),
		wait:    wait,
		cost:    c,
		dummy:   phc{cost: c, salt: randomBytes(saltSize), hash: randomBytes(hashSize)}.String(),
		derive: func(password, salt []byte, c cost, size uint32) []byte {
			return derive(password, salt, c.passes, c.memory, c.threads, size)
		},
	}
}

// Hash returns a new hash of password, under a new salt, as a PHC string:
//
//	$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
//
// Its error is [ErrLongPassword], [ErrBusy], or that of ctx if it ended
// before the hashing began.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if len(password) > MaxPassword {
		return "", ErrLongPassword
	}
	p := phc{cost: h.cost, salt: randomBytes(saltSize)}
	var err error
	if p.hash, err = h.run(ctx, password, p.salt, p.cost, hashSize); err != nil {
		return "", err
	}
	return p.String(), nil
}

// Verify reports whether stored is a hash of password, in constant time. The
// empty string stands for the hash of an account that does not exist: Verify
// then does the work of checking a hash of today's cost, and reports false.
// It does the same for a password that is longer than [MaxPassword].
//
// Its error is [ErrHashFormat], [ErrBusy], or that of ctx if it ended before
// the hashing began. Stored hashes may ask for at most 256 MiB, 10 passes and
// 16 threads, with 8 to 64 bytes of salt and 16 to 64 of hash.
func (h *Hasher) Verify(ctx context.Context, stored, password string) (bool, error) {
	known := stored != ""
	if len(password) > MaxPassword {
		// The length is the caller's own; only the account must not show.
		password, known = "", false
	}
	if !known {
		stored = h.dummy // read like any other: that takes time, too
	}
	p, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	hash, err := h.run(ctx, password, p.salt, p.cost, uint32(len(p.hash)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(hash, p.hash) == 1 && known, nil
}

// run hashes in the caller's goroutine, so that nobody can return, and let the
// next one in, while the work goes on.
func (h *Hasher) run(ctx context.Context, password string, salt []byte, c cost, size uint32) ([]byte, error) {
	if err := h.acquire(ctx); err != nil {
		return nil, err
	}
	defer func() { <-h.permits }()
	return h.derive([]byte(password), salt, c, size), nil
}

func (h *Hasher) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("password not checked: %w", err)
	}
	select {
	case h.permits <- struct{}{}:
		return nil
	default:
	}
	select {
	case h.queue <- struct{}{}:
	default:
		return ErrBusy
	}
	defer func() { <-h.queue }()

	timer := time.NewTimer(h.wait)
	defer timer.Stop()
	select {
	case h.permits <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("password not checked: %w", ctx.Err())
	case <-timer.C:
		return ErrBusy
	}
	// A permit and the end of ctx may have come together.
	if err := ctx.Err(); err != nil {
		<-h.permits
		return fmt.Errorf("password not checked: %w", err)
	}
	return nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}
