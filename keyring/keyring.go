// Package keyring holds the signing keys that all instances of the service
// share, and changes them in time.
//
// Call [Open] at start-up ([Read] if nothing may be created) and keep
// [Ring.Follow] running; then [Ring.Signer] is the key to sign with and
// [Ring.KeySet] what verifiers may accept. [Ring.Rotate], [Ring.Drop] and
// [Ring.Reseal] are for whoever administers the service.
//
// The ring lies in Redis as one value, sealed with AES-256-GCM under a key
// derived from the deployment's secret. Who can read Redis can therefore not
// sign, and who can write to it can destroy the ring but not put a key of
// their own into it. The first instance to start creates the ring; SET NX
// makes all that start together agree on one. Later changes replace the value
// that was read and no other, so that any instance may make them: there is no
// leader that could be missing.
//
// A key is published before it signs (next), signs (current), and goes on to
// verify until its last token has expired (previous). Follow takes over what
// other instances or an administrator have changed, and does what the
// [Schedule] asks for, by the clock of Redis. If Redis has lost the ring,
// whoever notices first puts back the one they hold: two instances with
// different keys would each refuse the other's tokens.
//
// The package does not tell verifiers of a dropped key; their copy of the key
// set, or the feed, does.
package keyring

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/ack"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/script"
	"github.com/authapi/authapi/tokens"
)

var (
	//go:embed read.lua
	readLua string
	//go:embed swap.lua
	swapLua string

	readScript = script.New(readLua) // also on a Redis that takes no writes
	swapScript = script.New(swapLua, script.OnFullRedis)
)

var (
	// ErrNone means that Redis holds no ring.
	ErrNone = errors.New("keyring: there are no signing keys in Redis yet")
	// ErrSealed means that the ring in Redis can be opened with none of the
	// secrets given. It is left untouched: overwriting it would log everybody
	// out.
	ErrSealed = errors.New("keyring: the signing keys in Redis are sealed under another secret, or damaged")

	// ErrContended means that others changed the ring faster than this change
	// could be stored. Nothing was changed.
	ErrContended = errors.New("keyring: the ring changed too often meanwhile")
)

// Options configure a ring.
type Options struct {
	// Prefix opens all key names.
	Prefix string
	// Secrets are the deployment's, at least 32 random bytes each. The first
	// seals, all open.
	Secrets [][]byte
	// Schedule says when keys are changed.
	Schedule Schedule
	// Replicas is how many replicas of Redis must have a change before
	// [Ring.Drop] has succeeded. 0: none.
	Replicas int
}

func (o Options) key() string { return partition.Keys{Prefix: o.Prefix}.Keyring() }

// Ring is the set of signing keys. It is safe for concurrent use.
type Ring struct {
	client  redis.UniversalClient
	options Options
	writer  *ack.Writer
	held    atomic.Pointer[held]
}

// held is the ring as it was last seen.
type held struct {
	sealed   string // as it lies in Redis
	contents contents
	signer   *tokens.SigningKey
	set      *tokens.KeySet
}

// Open reads the ring, or creates it if there is none.
func Open(ctx context.Context, c redis.UniversalClient, o Options) (*Ring, error) {
	r, err := Read(ctx, c, o)
	if !errors.Is(err, ErrNone) {
		return r, err
	}
	r, err = newRing(c, o)
	if err != nil {
		return nil, err
	}
	if err := r.create(ctx); err != nil {
		return nil, fmt.Errorf("keyring: create: %w", err)
	}
	// What is there now may be another instance's.
	return Read(ctx, c, o)
}

// Read reads the ring. It returns [ErrNone] if there is none.
func Read(ctx context.Context, c redis.UniversalClient, o Options) (*Ring, error) {
	r, err := newRing(c, o)
	if err != nil {
		return nil, err
	}
	sealed, _, err := r.read(ctx, c)
	if err != nil {
		return nil, err
	}
	h, err := r.open(sealed)
	if err != nil {
		return nil, err
	}
	r.held.Store(h)
	return r, nil
}

func newRing(c redis.UniversalClient, o Options) (*Ring, error) {
	if len(o.Secrets) == 0 {
		return nil, errors.New("keyring: no secret")
	}
	o.Schedule = o.Schedule.withDefaults()
	return &Ring{client: c, options: o, writer: ack.New(c, o.Replicas)}, nil
}

// Signer returns the key that signs now.
func (r *Ring) Signer() *tokens.SigningKey { return r.held.Load().signer }

// KeySet returns the keys whose signatures are valid, now or soon.
func (r *Ring) KeySet() *tokens.KeySet { return r.held.Load().set }

// Key is what may be seen of a key.
type Key struct {
	ID, Algorithm string
	State         State
	PublishedAt   time.Time
	SignsFrom     time.Time // zero for the next key
	SignedUntil   time.Time // zero unless previous
}

// Keys returns the ring's keys, the oldest first.
func (r *Ring) Keys() []Key {
	var keys []Key
	for _, k := range r.held.Load().contents.Keys {
		keys = append(keys, Key{k.ID, k.Algorithm, k.State, k.PublishedAt, k.SignsFrom, k.SignedUntil})
	}
	return keys
}

// SealedUnderFirst reports whether the ring is sealed under the first of the
// secrets. If not, the secret that it is sealed under must not be removed
// before [Ring.Reseal].
func (r *Ring) SealedUnderFirst() bool {
	head, _, err := sealing(r.options.Secrets[0])
	return err == nil && strings.HasPrefix(r.held.Load().sealed, head)
}

// Follow keeps the ring up to date until ctx ends, looking at Redis every so
// often. What goes wrong is given to report; the ring that is held then stays
// in use.
func (r *Ring) Follow(ctx context.Context, every time.Duration, report func(error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := r.follow(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
	}
}

func (r *Ring) follow(ctx context.Context) error {
	// Long enough to make an RSA key on a slow machine.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := r.update(ctx, r.client, func(c *contents, now time.Time) (bool, error) {
		return c.advance(now, r.options.Schedule)
	})
	if !errors.Is(err, ErrNone) {
		return err
	}
	if err := r.client.SetNX(ctx, r.options.key(), r.held.Load().sealed, 0).Err(); err != nil {
		return fmt.Errorf("keyring: put back: %w", err)
	}
	return fmt.Errorf("%w: those held here were put back", ErrNone)
}

// Rotate makes the next key sign: now if it has been published for long
// enough, else as soon as it has. It returns when that is. If the schedule's
// algorithm has changed, a next key of the new one takes the other's place.
func (r *Ring) Rotate(ctx context.Context) (signsFrom time.Time, err error) {
	err = r.update(ctx, r.client, func(c *contents, now time.Time) (bool, error) {
		if err := c.rotate(now, r.options.Schedule); err != nil {
			return false, err
		}
		signsFrom = c.in(Current).SignsFrom
		if c.Due {
			signsFrom = c.in(Next).PublishedAt.Add(r.options.Schedule.Lead)
		}
		return true, nil
	})
	return signsFrom, err
}

// Drop removes a key at once: its tokens are refused by every instance that
// follows, and by verifiers when they learn of it. If it was the current one
// the next signs from now on.
func (r *Ring) Drop(ctx context.Context, id string) error {
	var unknown error
	dropped := false
	err := r.writer.Do(ctx, partition.Keys{Prefix: r.options.Prefix}.KeyringMark(), func(to redis.Scripter) error {
		err := r.update(ctx, to, func(c *contents, now time.Time) (bool, error) {
			return true, c.drop(id, now, r.options.Schedule)
		})
		switch {
		case err == nil:
			dropped, unknown = true, nil
		case errors.Is(err, ErrUnknownKey):
			// Dropped a moment ago, perhaps, and not acknowledged by replicas yet:
			// then this waits for them.
			if !dropped {
				unknown = err
			}
			err = nil
		}
		return err
	})
	return cmp.Or(err, unknown)
}

// Reseal seals the ring under the first secret, so that the others can be
// removed.
func (r *Ring) Reseal(ctx context.Context) error {
	return r.update(ctx, r.client, func(*contents, time.Time) (bool, error) { return true, nil })
}

// attempts bounds how often a change starts over because another came first.
const attempts = 20

// update reads the ring, lets it be changed, and stores it if it was. Whatever
// is then in Redis is held.
func (r *Ring) update(ctx context.Context, to redis.Scripter, change func(c *contents, now time.Time) (bool, error)) error {
	for range attempts {
		sealed, now, err := r.read(ctx, to)
		if err != nil {
			return err
		}
		h := r.held.Load()
		if sealed != h.sealed {
			if h, err = r.open(sealed); err != nil {
				return err
			}
			r.held.Store(h)
		}
		c := h.contents.clone()
		changed, err := change(&c, now)
		if err != nil || !changed {
			return err
		}
		if h, err = r.close(c); err != nil {
			return err
		}
		swapped, err := r.swap(ctx, to, sealed, h.sealed)
		if err != nil {
			return err
		}
		if swapped {
			r.held.Store(h)
			return nil
		}
	}
	return ErrContended
}

func (r *Ring) create(ctx context.Context) error {
	_, now, err := r.read(ctx, r.client)
	if !errors.Is(err, ErrNone) {
		return err
	}
	c, err := begin(now, r.options.Schedule)
	if err != nil {
		return err
	}
	h, err := r.close(c)
	if err != nil {
		return err
	}
	return r.client.SetNX(ctx, r.options.key(), h.sealed, 0).Err()
}

// read returns the sealed ring and the time of Redis. With [ErrNone] the time
// is valid.
func (r *Ring) read(ctx context.Context, from redis.Scripter) (sealed string, now time.Time, err error) {
	reply, err := readScript.Run(ctx, from, []string{r.options.key()})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("keyring: read: %w", err)
	}
	if len(reply) != 2 {
		return "", time.Time{}, fmt.Errorf("keyring: read: %w", script.ErrReply)
	}
	ms, ok := reply[0].(int64)
	if !ok {
		return "", time.Time{}, fmt.Errorf("keyring: read: %w", script.ErrReply)
	}
	now = time.UnixMilli(ms).UTC()
	if reply[1] == nil {
		return "", now, ErrNone
	}
	sealed, _ = reply[1].(string)
	return sealed, now, nil
}

func (r *Ring) swap(ctx context.Context, to redis.Scripter, old, replacement string) (bool, error) {
	reply, err := swapScript.Run(ctx, to, []string{r.options.key()}, old, replacement)
	if err == nil && len(reply) != 1 {
		err = script.ErrReply
	}
	if err != nil {
		return false, fmt.Errorf("keyring: replace: %w", err)
	}
	return reply[0] == int64(1), nil
}

func (r *Ring) open(sealed string) (*held, error) {
	plain, err := unseal(sealed, r.options.Secrets)
	if err != nil {
		return nil, err
	}
	h := &held{sealed: sealed}
	if err := json.Unmarshal(plain, &h.contents); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	h.signer, h.set, err = h.contents.load()
	return h, err
}

func (r *Ring) close(c contents) (*held, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	h := &held{contents: c}
	if h.sealed, err = seal(plain, r.options.Secrets[0]); err != nil {
		return nil, err
	}
	h.signer, h.set, err = c.load()
	return h, err
}
