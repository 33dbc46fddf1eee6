// Package authtest is an issuer for the tests of services that package verify
// guards: tokens in one line, revocation at once, trouble on demand.
//
//	issuer := authtest.New(t)
//	handler := app.New(issuer.Verifier())
//	token := issuer.Token(authtest.Roles("editor"))
//
// Serve a request with the token, and the handler is reached. After
// [Issuer.Revoke] the answer is 401, and after [Issuer.Fail], when nobody can
// tell what was revoked, it is 503 or whatever the route's policy says. Both
// hold from the next request on.
//
// [New] gives an issuer that consists of memory and opens no sockets, so that
// it works inside the bubbles of testing/synctest, if it was made there. For
// tests of how a service is wired, [NewServer] gives one that can be reached
// over HTTP as well: metadata, keys and revocations lie where the real issuer
// has them.
//
// Signatures are real, and so is everything that judges tokens: it is package
// verify. Sessions are not: nothing logs in, refreshes or expires here but the
// tokens themselves, and a session that was revoked stays so.
package authtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// Issuer issues and revokes access tokens. It is a [verify.KeySource] and a
// [verify.Source]. It is safe for concurrent use. What cannot be done, such as
// to sign claims that no issuer would, ends the test.
type Issuer struct {
	// URL is the issuer's name, the iss of its tokens: https://auth.example.com.
	// One that was made by [NewServer] is to be found there.
	URL string
	// Audience is whom the tokens are for. It is the URL, as with the real
	// issuer; a test whose service expects another one sets it before it uses
	// the issuer.
	Audience string

	tb testing.TB

	mu      sync.Mutex
	keys    []*tokens.SigningKey // the last one is to sign next, the one before signs now
	set     *tokens.KeySet       // of all these keys
	issued  map[string]string    // the session of each token
	denied  []denial
	failing bool
	changed chan struct{} // closed and replaced when revocations or failing change
}

type denial struct {
	kind, id string
	until    time.Time
}

const (
	// denyFor outlives every token that was issued before, and is what the real
	// issuer takes.
	denyFor = tokens.MaxLifetime + tokens.Leeway + time.Minute
	// lifeEvery is how often followers are told that there is nothing new.
	lifeEvery = 200 * time.Millisecond
	// maxKeys is how many a key set can hold.
	maxKeys = 32
)

var errFailing = errors.New("authtest: the issuer fails, as the test wants it")

// New returns an issuer that consists of memory.
func New(tb testing.TB) *Issuer {
	tb.Helper()
	const url = "https://auth.example.com"
	i := &Issuer{URL: url, Audience: url, tb: tb, issued: map[string]string{}, changed: make(chan struct{})}
	i.changeKeys([]*tokens.SigningKey{i.newKey()})
	return i
}

// Config returns what makes a verifier of this issuer's tokens, for
// [verify.New]: with keys that are always known and a function Denied that is
// never wrong and never late. A test may change it. For a verifier that
// follows the issuer, as one does in production:
//
//	c := issuer.Config()
//	c.Replica, c.Denied = verify.Follow(ctx, issuer, nil), nil
func (i *Issuer) Config() verify.Config {
	return verify.Config{Issuer: i.URL, Audience: i.Audience, Keys: i, Denied: i.isDenied}
}

// Verifier returns a verifier with the configuration of [Issuer.Config].
func (i *Issuer) Verifier() *verify.Verifier {
	i.tb.Helper()
	v, err := verify.New(i.Config())
	if err != nil {
		i.tb.Fatalf("authtest: %v", err)
	}
	return v
}

// Revoke ends the session of a token, as a logout does: all tokens of that
// session are refused, those still to be issued too.
func (i *Issuer) Revoke(token string) {
	i.tb.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	sid, ours := i.issued[token]
	if !ours {
		i.tb.Fatalf("authtest: Revoke: this issuer has not issued that token")
	}
	i.deny("sid", sid)
}

// Fail makes the issuer one that has lost its Redis: until [Issuer.Recover],
// nobody can tell what was revoked. It still has its keys.
//
// The function Denied returns an error at once. Whoever follows the issuer
// hears nothing any more, so that a replica is out of date as soon as the time
// has passed that a policy allows, a second by default. Over HTTP, keys are
// published as before, and /revocations goes on without signs of life.
func (i *Issuer) Fail() { i.setFailing(true) }

// Recover ends what [Issuer.Fail] began. What was revoked meanwhile is known
// now.
func (i *Issuer) Recover() { i.setFailing(false) }

// RotateKey makes the issuer sign with its next key. The keys before stay
// valid, and the one after is published, as the real issuer does long before
// it signs with it. So nobody notices a rotation, unless it is the second one
// before the keys were fetched again. A key set can hold 32 keys: in a test
// that rotates more often, the oldest go.
func (i *Issuer) RotateKey() {
	i.tb.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.changeKeys(i.keys)
}

// DropKey is for a key that has leaked: the one that signs is withdrawn and
// denied, so that all tokens that it has signed are refused, and the next one
// signs.
func (i *Issuer) DropKey() {
	i.tb.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	before, next := i.keys[:len(i.keys)-2], i.keys[len(i.keys)-1]
	i.deny("kid", i.keys[len(before)].ID())
	i.changeKeys(append(slices.Clone(before), next))
}

// KeySet implements [verify.KeySource].
func (i *Issuer) KeySet() *tokens.KeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.set
}

// Follow implements [verify.Source]. It reports revocations at once, and five
// times a second that it knows of no others. While the issuer fails there is
// only trouble to report, once.
func (i *Issuer) Follow(ctx context.Context,
	denied func(kind, id string, until time.Time),
	current func(partition int, age time.Duration),
	trouble func(error),
) {
	life := time.NewTicker(lifeEvery)
	defer life.Stop()
	told, failed := 0, false
	for ctx.Err() == nil {
		asked := time.Now()
		i.mu.Lock()
		news, failing, changed := i.denied[told:], i.failing, i.changed
		i.mu.Unlock()
		if !failing {
			for _, d := range news {
				denied(d.kind, d.id, d.until)
			}
			told += len(news)
			for p := range partition.Count {
				current(p, time.Since(asked))
			}
		} else if !failed {
			trouble(errFailing)
		}
		failed = failing
		select {
		case <-ctx.Done():
		case <-changed:
		case <-life.C:
		}
	}
}

// isDenied is the function Denied of [Issuer.Config].
func (i *Issuer) isDenied(_ context.Context, c *tokens.Claims) (bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failing {
		return false, errFailing
	}
	return slices.ContainsFunc(i.denied, func(d denial) bool {
		return d.kind == "sid" && d.id == c.SessionID || d.kind == "kid" && d.id == c.KeyID
	}), nil
}

func (i *Issuer) setFailing(failing bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failing = failing
	i.announce()
}

// deny needs the lock.
func (i *Issuer) deny(kind, id string) {
	i.denied = append(i.denied, denial{kind, id, time.Now().Add(denyFor)})
	i.announce()
}

// announce needs the lock.
func (i *Issuer) announce() {
	close(i.changed)
	i.changed = make(chan struct{})
}

// changeKeys publishes the keys and a new one, which is to sign after the last
// of them. It needs the lock.
func (i *Issuer) changeKeys(keys []*tokens.SigningKey) {
	i.tb.Helper()
	i.keys = append(slices.Clone(keys), i.newKey())
	i.keys = i.keys[max(0, len(i.keys)-maxKeys):]
	var public []tokens.PublicKey
	for _, key := range i.keys {
		public = append(public, key.Public())
	}
	set, err := tokens.NewKeySet(public...)
	if err != nil {
		i.tb.Fatalf("authtest: %v", err)
	}
	i.set = set
}

func (i *Issuer) signingKey() *tokens.SigningKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-2]
}

func (i *Issuer) newKey() *tokens.SigningKey {
	i.tb.Helper()
	key, err := tokens.GenerateKey("ES256")
	if err != nil {
		i.tb.Fatalf("authtest: %v", err)
	}
	return key
}
