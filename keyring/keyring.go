// Package keyring holds the signing keys that all instances of the service
// share.
//
// Call [Open] at start-up ([Read] if nothing may be created) and keep
// [Ring.Follow] running; then [Ring.Signer] is the key to sign with and
// [Ring.KeySet] what verifiers may accept.
//
// The ring lies in Redis as one value, sealed with AES-256-GCM under a key
// derived from the deployment's secret. Who can read Redis can therefore not
// sign, and who can write to it can destroy the ring but not put a key of
// their own into it. The first instance to start creates the ring; SET NX
// makes all that start together agree on one.
//
// Follow keeps all instances on the same ring. If Redis has lost it, whoever
// notices first puts back the one they hold: two instances with different keys
// would each refuse the other's tokens.
//
// The package does not yet rotate keys: the stored form has a state for each
// key, so that a next and a previous key can stand beside the current one.
package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/secret"
	"github.com/authapi/authapi/tokens"
)

var (
	// ErrNone means that Redis holds no ring.
	ErrNone = errors.New("keyring: there are no signing keys in Redis yet")
	// ErrSealed means that the ring in Redis can be opened with none of the
	// secrets given. It is left untouched: overwriting it would log everybody
	// out.
	ErrSealed = errors.New("keyring: the signing keys in Redis are sealed under another secret, or damaged")
)

// Options configure [Open].
type Options struct {
	// Prefix opens all key names.
	Prefix string
	// Secrets are the deployment's, at least 32 random bytes each. The first
	// seals, all open.
	Secrets [][]byte
}

func (o Options) key() string { return partition.Keys{Prefix: o.Prefix}.Keyring() }

// Ring is the set of signing keys. It is safe for concurrent use.
type Ring struct {
	client  redis.UniversalClient
	options Options
	held    atomic.Pointer[keys]
}

// keys is what a ring holds at one time.
type keys struct {
	sealed string // as it lies in Redis
	signer *tokens.SigningKey
	set    *tokens.KeySet
}

// Signer returns the key that signs now.
func (r *Ring) Signer() *tokens.SigningKey { return r.held.Load().signer }

// KeySet returns the keys whose signatures are valid now.
func (r *Ring) KeySet() *tokens.KeySet { return r.held.Load().set }

// Follow looks every so often whether the ring in Redis is still the one that
// is held, until ctx ends. What goes wrong is given to report; the ring that is
// held then stays in use.
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
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	held := r.held.Load()
	value, err := r.client.Get(ctx, r.options.key()).Result()
	switch {
	case errors.Is(err, redis.Nil):
		err = r.client.SetNX(ctx, r.options.key(), held.sealed, 0).Err()
		if err == nil {
			err = ErrNone
		}
		return fmt.Errorf("keyring: put back: %w", err)
	case err != nil:
		return fmt.Errorf("keyring: read: %w", err)
	case value == held.sealed:
		return nil
	}
	keys, err := load(value, r.options.Secrets)
	if err != nil {
		return err
	}
	r.held.Store(keys)
	return nil
}

// state says what a key is used for.
type state string

const current state = "current" // signs and verifies

// stored is the ring's plain form.
type stored struct {
	Keys []storedKey `json:"keys"`
}

type storedKey struct {
	State     state     `json:"state"`
	PKCS8     []byte    `json:"pkcs8"`
	CreatedAt time.Time `json:"created_at"`
}

// Open reads the ring, or creates it if there is none.
func Open(ctx context.Context, c redis.UniversalClient, o Options) (*Ring, error) {
	r, err := Read(ctx, c, o)
	if !errors.Is(err, ErrNone) {
		return r, err
	}
	if err := create(ctx, c, o); err != nil {
		return nil, fmt.Errorf("keyring: create: %w", err)
	}
	// What is there now may be another instance's.
	return Read(ctx, c, o)
}

// Read reads the ring. It returns [ErrNone] if there is none.
func Read(ctx context.Context, c redis.UniversalClient, o Options) (*Ring, error) {
	if len(o.Secrets) == 0 {
		return nil, errors.New("keyring: no secret")
	}
	value, err := c.Get(ctx, o.key()).Result()
	if errors.Is(err, redis.Nil) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: read: %w", err)
	}
	keys, err := load(value, o.Secrets)
	if err != nil {
		return nil, err
	}
	r := &Ring{client: c, options: o}
	r.held.Store(keys)
	return r, nil
}

// create writes a new ring, unless somebody else has been faster.
func create(ctx context.Context, c redis.UniversalClient, o Options) error {
	key, err := tokens.GenerateKey()
	if err != nil {
		return err
	}
	pkcs8, err := key.PKCS8()
	if err != nil {
		return err
	}
	plain, err := json.Marshal(stored{Keys: []storedKey{{current, pkcs8, time.Now().UTC()}}})
	if err != nil {
		return err
	}
	sealed, err := seal(plain, o.Secrets[0])
	if err != nil {
		return err
	}
	return c.SetNX(ctx, o.key(), sealed, 0).Err()
}

func load(sealed string, secrets [][]byte) (*keys, error) {
	plain, err := unseal(sealed, secrets)
	if err != nil {
		return nil, err
	}
	var s stored
	if err := json.Unmarshal(plain, &s); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k := keys{sealed: sealed}
	var public []tokens.PublicKey
	for _, sk := range s.Keys {
		key, err := tokens.ParseSigningKey(sk.PKCS8)
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		public = append(public, key.Public())
		if sk.State == current {
			k.signer = key
		}
	}
	if k.signer == nil {
		return nil, errors.New("keyring: no current key")
	}
	if k.set, err = tokens.NewKeySet(public...); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return &k, nil
}

// The sealed form is a version, the id of the secret, and nonce and
// ciphertext in hex, with a dot between each.
const version = "v1"

func seal(plain, under []byte) (string, error) {
	id, aead, err := cipherFor(under)
	if err != nil {
		return "", err
	}
	// 96 random bits are enough: a ring is sealed a few times in its life.
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	head := version + "." + hex.EncodeToString(id[:]) + "."
	return head + hex.EncodeToString(aead.Seal(nonce, nonce, plain, []byte(head))), nil
}

func unseal(value string, secrets [][]byte) ([]byte, error) {
	for _, s := range secrets {
		id, aead, err := cipherFor(s)
		if err != nil {
			return nil, err
		}
		head := version + "." + hex.EncodeToString(id[:]) + "."
		if len(value) < len(head) || value[:len(head)] != head {
			continue
		}
		box, err := hex.DecodeString(value[len(head):])
		if err != nil || len(box) < aead.NonceSize() {
			return nil, ErrSealed
		}
		// The head is authenticated too, so that it cannot be exchanged.
		plain, err := aead.Open(nil, box[:aead.NonceSize()], box[aead.NonceSize():], []byte(head))
		if err != nil {
			return nil, ErrSealed
		}
		return plain, nil
	}
	return nil, ErrSealed
}

func cipherFor(s []byte) (secret.ID, cipher.AEAD, error) {
	id, err := secret.IDOf(s)
	if err != nil {
		return id, nil, fmt.Errorf("keyring: %w", err)
	}
	key, err := secret.Derive(s, "keyring-seal/v1")
	if err != nil {
		return id, nil, fmt.Errorf("keyring: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return id, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return id, aead, err
}
