package keyring

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/authapi/authapi/tokens"
)

// State says what a key is used for.
type State string

// A key goes through these in turn, and is then removed.
const (
	Next     State = "next"     // published, so that verifiers have it when it begins to sign
	Current  State = "current"  // signs
	Previous State = "previous" // only verifies, until the last token it signed has expired
)

// Schedule says when keys are changed. The zero value is good.
type Schedule struct {
	// Algorithm is that of new keys, one of [tokens.Algorithms]. Default ES256.
	Algorithm string
	// Every is how long a key signs. Default 30 days.
	Every time.Duration
	// Lead is how long a key is published before it signs. It must be longer
	// than verifiers keep the key set without asking. Default 15 minutes.
	Lead time.Duration
}

func (s Schedule) withDefaults() Schedule {
	return Schedule{
		Algorithm: cmp.Or(s.Algorithm, tokens.Algorithms()[0]),
		Every:     cmp.Or(s.Every, 30*24*time.Hour),
		Lead:      cmp.Or(s.Lead, 15*time.Minute),
	}
}

// keep is how long a key verifies after it has signed for the last time.
const keep = tokens.MaxLifetime + tokens.Leeway + time.Minute

// maxKeys leaves room below the limit of a key set. Whoever rotates more often
// within an hour than this has to wait.
const maxKeys = 24

var (
	// ErrUnknownKey means that the ring has no key of that id.
	ErrUnknownKey = errors.New("keyring: no key of that id")
	// ErrTooMany means that keys were rotated so often that the tokens of the
	// old ones have not expired yet.
	ErrTooMany = errors.New("keyring: too many keys whose tokens still live; wait an hour")
)

// contents is the ring's plain form. There is always one current key, and
// after the first advance one next.
type contents struct {
	Keys []storedKey `json:"keys"`
	// Due means that a rotation was commanded before the next key was ripe.
	Due bool `json:"due,omitempty"`
}

type storedKey struct {
	State       State     `json:"state"`
	Algorithm   string    `json:"algorithm"`
	ID          string    `json:"kid"`
	PKCS8       []byte    `json:"pkcs8"`
	PublishedAt time.Time `json:"published_at"`
	SignsFrom   time.Time `json:"signs_from,omitzero"`
	SignedUntil time.Time `json:"signed_until,omitzero"`
}

func newKey(state State, algorithm string, now time.Time) (storedKey, error) {
	key, err := tokens.GenerateKey(algorithm)
	if err != nil {
		return storedKey{}, err
	}
	pkcs8, err := key.PKCS8()
	if err != nil {
		return storedKey{}, err
	}
	return storedKey{State: state, Algorithm: key.Algorithm(), ID: key.ID(), PKCS8: pkcs8, PublishedAt: now}, nil
}

// begin makes the first key, which signs at once: there are no verifiers yet
// that could not know it.
func begin(now time.Time, s Schedule) (contents, error) {
	first, err := newKey(Current, s.Algorithm, now)
	if err != nil {
		return contents{}, err
	}
	first.SignsFrom = now
	c := contents{Keys: []storedKey{first}}
	_, err = c.advance(now, s)
	return c, err
}

func (c *contents) clone() contents { return contents{slices.Clone(c.Keys), c.Due} }

// in returns the only key in a state, nil if there is none.
func (c *contents) in(state State) *storedKey {
	for i := range c.Keys {
		if c.Keys[i].State == state {
			return &c.Keys[i]
		}
	}
	return nil
}

// advance does what the schedule asks for, and reports whether that was
// anything. Any number of instances may do so: only one result is stored.
func (c *contents) advance(now time.Time, s Schedule) (changed bool, err error) {
	count := len(c.Keys)
	c.Keys = slices.DeleteFunc(c.Keys, func(k storedKey) bool {
		return k.State == Previous && !now.Before(k.SignedUntil.Add(keep))
	})
	changed = len(c.Keys) != count

	current := c.in(Current)
	if current == nil {
		return false, errors.New("keyring: no current key")
	}
	if c.Due || !now.Before(current.SignsFrom.Add(s.Every)) {
		if c.ripe(now, s) && len(c.Keys) < maxKeys {
			c.promote(now)
			changed = true
		}
	}
	if c.in(Next) == nil {
		next, err := newKey(Next, s.Algorithm, now)
		if err != nil {
			return false, err
		}
		c.Keys = append(c.Keys, next)
		changed = true
	}
	return changed, nil
}

// ripe reports whether every verifier has the next key.
func (c *contents) ripe(now time.Time, s Schedule) bool {
	next := c.in(Next)
	return next != nil && !now.Before(next.PublishedAt.Add(s.Lead))
}

func (c *contents) promote(now time.Time) {
	next := c.in(Next)
	if current := c.in(Current); current != nil {
		current.State, current.SignedUntil = Previous, now
	}
	next.State, next.SignsFrom = Current, now
	c.Due = false
}

// rotate makes the next key sign, now if it is ripe, else as soon as it is. A
// next key of another algorithm than is wanted now is replaced: only here, on
// command, since instances that are configured differently would otherwise
// replace each other's next key for ever, and none would get ripe.
func (c *contents) rotate(now time.Time, s Schedule) error {
	c.Keys = slices.DeleteFunc(c.Keys, func(k storedKey) bool {
		return k.State == Next && k.Algorithm != s.Algorithm
	})
	c.Due = true
	if _, err := c.advance(now, s); err != nil {
		return err
	}
	// Only now, when the keys whose time is over have gone.
	if c.Due && len(c.Keys) >= maxKeys {
		return ErrTooMany
	}
	return nil
}

// drop removes a key at once, whatever it has signed. In an emergency the next
// key signs even if it is not ripe: better that some verifiers have to fetch it
// than that a stolen key is believed.
func (c *contents) drop(id string, now time.Time, s Schedule) error {
	i := slices.IndexFunc(c.Keys, func(k storedKey) bool { return k.ID == id })
	if i < 0 {
		return ErrUnknownKey
	}
	state := c.Keys[i].State
	c.Keys = slices.Delete(c.Keys, i, i+1)
	if state == Current {
		if c.in(Next) == nil {
			next, err := newKey(Next, s.Algorithm, now)
			if err != nil {
				return err
			}
			c.Keys = append(c.Keys, next)
		}
		c.promote(now)
	}
	_, err := c.advance(now, s)
	return err
}

// load makes the keys that sign and verify.
func (c *contents) load() (*tokens.SigningKey, *tokens.KeySet, error) {
	var signer *tokens.SigningKey
	var public []tokens.PublicKey
	for _, k := range c.Keys {
		key, err := tokens.ParseSigningKey(k.PKCS8)
		if err != nil {
			return nil, nil, fmt.Errorf("keyring: %w", err)
		}
		public = append(public, key.Public())
		if k.State == Current {
			signer = key
		}
	}
	if signer == nil {
		return nil, nil, errors.New("keyring: no current key")
	}
	set, err := tokens.NewKeySet(public...)
	if err != nil {
		return nil, nil, fmt.Errorf("keyring: %w", err)
	}
	return signer, set, nil
}
