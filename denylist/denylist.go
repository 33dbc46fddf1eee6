// Package denylist keeps the ids of revoked tokens, sessions and signing keys in
// Redis until the last token that they deny has expired.
//
// Call [New], then [List.Add] or [List.AddKey] to deny an id. There are two ways
// to ask: [List.Denied], one round trip for each access token, or
// [List.Follow], which tells a copy in memory (verify.Replica) of every denial
// within a second. Whoever denies must also run [List.Beat], or those who follow
// cannot tell quiet from dead.
//
// An entry is a key that exists; it expires on its own. The script that writes
// it also appends a line to the partition's feed, a stream. Other scripts that
// deny tokens as part of a larger change (ending a session) use the same piece
// of [Lua].
//
// A follower polls the feed of each partition, always from the last line it
// knows: as long as that line is there, its history is that of the feed. How old
// its knowledge is it takes from the beats, which are keys beside the feed that
// say when they were written: a Redis that has been deposed and does not know it
// still answers, but is written to no more.
//
// The package does not end sessions and does not look into tokens. Denied asks
// the primary: a replica may not have heard of a denial yet. If a deposed primary
// still has an instance at its side that beats, a follower there cannot know;
// min-replicas-to-write and min-replicas-max-lag in Redis bound how long.
package denylist

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/ack"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/script"
	"github.com/authapi/authapi/tokens"
)

// Kind says what an id names.
type Kind string

// The kinds of ids, as the feed spells them.
const (
	Session Kind = "sid" // every access token of a session
	Token   Kind = "jti" // one access token
	Key     Kind = "kid" // every access token that a key has signed; see [List.AddKey]
)

const (
	// grace is how long an entry outlives the last token it denies: verifiers
	// accept an expired token for the leeway, and clocks differ.
	grace = tokens.Leeway + time.Minute

	// horizon is how long a line stays in the feed: longer than the entry of any
	// session or token.
	horizon = tokens.MaxLifetime + grace

	// keyTerm is how long a key is denied. Its last token expires within the
	// hour, but a verifier that cannot reach the issuer goes on for a day with
	// the key set it has, and whoever has stolen the key signs what they like.
	// Who begins to follow when the feed has lost the line has a key set that
	// has lost the key.
	keyTerm = 7 * 24 * time.Hour
)

// ErrID means that an id has not the form of a session id, so that no
// partition can be found for it.
var ErrID = errors.New("denylist: not a session id")

var (
	//go:embed deny.lua
	denyLua string
	//go:embed add.lua
	addLua string

	constants = strings.NewReplacer(
		"{{grace}}", strconv.FormatInt(int64(grace.Seconds()), 10),
		"{{horizon}}", strconv.FormatInt(horizon.Milliseconds(), 10),
	)

	add = script.New(constants.Replace(denyLua+addLua), script.OnFullRedis)
)

// Lua returns the definition of the local function deny. A script that begins
// with it can deny ids together with its own writes; it must declare the
// entry's key and the feed's.
func Lua() string { return constants.Replace(denyLua) }

// Denial is one entry of the denylist, as the feed has it.
type Denial struct {
	Partition int
	Kind      Kind
	ID        string
	Until     time.Time // when the entry ends
}

// List is the denylist in one Redis, under one prefix. It is safe for
// concurrent use.
type List struct {
	client redis.UniversalClient
	keys   partition.Keys
	writer *ack.Writer
	tell   func(Denial)
}

// An Option changes what a [List] does beside denying.
type Option func(*List)

// AcknowledgedBy makes a denial succeed only when so many replicas of Redis have
// it.
func AcknowledgedBy(replicas int) Option {
	return func(l *List) { l.writer = ack.New(l.client, replicas) }
}

// Tell is told what this list has denied, and until when, before whoever asked
// for it is.
func Tell(tell func(Denial)) Option { return func(l *List) { l.tell = tell } }

// New returns the list that lies under the prefix.
func New(c redis.UniversalClient, prefix string, options ...Option) *List {
	l := &List{client: c, keys: partition.Keys{Prefix: prefix}, writer: ack.New(c, 0), tell: func(Denial) {}}
	for _, o := range options {
		o(l)
	}
	return l
}

// Add denies an id until exp, the expiry of the last token it denies, and a
// little longer. The id lies in the partition of the session sid; to deny a
// whole session, id and sid are the same. If exp has long passed there is
// nothing to deny, and nothing is written. Adding twice does no harm.
func (l *List) Add(ctx context.Context, kind Kind, sid, id string, exp time.Time) error {
	p, ok := partition.OfSID(sid)
	if !ok {
		return ErrID
	}
	return l.add(ctx, p, kind, id, exp.Unix())
}

// AddSession denies a session of which nothing but its id is known, for as
// long as any access token that was granted by now can live.
func (l *List) AddSession(ctx context.Context, sid string) error {
	p, ok := partition.OfSID(sid)
	if !ok {
		return ErrID
	}
	return l.add(ctx, p, Session, sid, "", tokens.MaxLifetime.Seconds())
}

// AddKey denies every token that a signing key has signed or will sign, in all
// partitions, for seven days from now. An error means that some partitions may
// not know of it: call it again. Doing so does no harm.
func (l *List) AddKey(ctx context.Context, kid string) error {
	if kid == "" {
		return errors.New("denylist: no key id")
	}
	var errs [partition.Count]error
	everywhere(func(p partition.ID) {
		errs[p] = l.add(ctx, p, Key, kid, "", keyTerm.Seconds())
	})
	return errors.Join(errs[:]...)
}

// add takes exp as the script does: Unix seconds, or "" and the seconds from now.
func (l *List) add(ctx context.Context, p partition.ID, kind Kind, id string, exp ...any) error {
	var until int64
	err := l.writer.Do(ctx, l.keys.Mark(p), func(c redis.Scripter) (err error) {
		until, err = l.write(ctx, c, p, kind, id, exp...)
		return err
	})
	if err != nil {
		return fmt.Errorf("deny %s: %w", kind, err)
	}
	if until > 0 {
		l.tell(Denial{int(p), kind, id, time.Unix(until, 0)})
	}
	return nil
}

func (l *List) write(ctx context.Context, c redis.Scripter, p partition.ID, kind Kind, id string, exp ...any) (until int64, err error) {
	keys := []string{l.keys.Deny(p, id), l.keys.Feed(p)}
	reply, err := add.Run(ctx, c, keys, append([]any{string(kind), id}, exp...)...)
	if err != nil {
		return 0, err
	}
	if len(reply) == 1 {
		if until, ok := reply[0].(int64); ok {
			return until, nil
		}
	}
	return 0, script.ErrReply
}

// Assert denies again what was denied before, until the same instant. If that is
// past, or Redis knows of it, nothing is written. Replicas are not waited for, and
// nobody is told.
func (l *List) Assert(ctx context.Context, d Denial) error {
	if d.Partition < 0 || d.Partition >= partition.Count {
		return ErrID
	}
	if _, err := l.write(ctx, l.client, partition.ID(d.Partition), d.Kind, d.ID, d.Until.Add(-grace).Unix()); err != nil {
		return fmt.Errorf("deny %s again: %w", d.Kind, err)
	}
	return nil
}

// Lives returns how long each entry will live on in Redis, 0 for one that is not
// there. All are of one partition.
func (l *List) Lives(ctx context.Context, denials []Denial) ([]time.Duration, error) {
	if len(denials) == 0 {
		return nil, nil
	}
	left := make([]*redis.DurationCmd, len(denials))
	where := l.keys.Deny(partition.ID(denials[0].Partition), "")
	err := script.AskFor(ctx, l.client, where, func(pipe redis.Pipeliner) {
		for i, d := range denials {
			left[i] = pipe.PTTL(ctx, l.keys.Deny(partition.ID(d.Partition), d.ID))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("ask the denylist: %w", err)
	}
	lives := make([]time.Duration, len(denials))
	for i, cmd := range left {
		lives[i] = max(0, cmd.Val())
	}
	return lives, nil
}

// Reachable returns an error unless every partition's primary answers. On a
// Cluster a PING would reach only one of the nodes.
func (l *List) Reachable(ctx context.Context) error {
	_, err := l.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for id := range partition.Count {
			p.Exists(ctx, l.keys.Feed(partition.ID(id)))
		}
		return nil
	})
	return err
}

// Denied reports whether an access token is denied: by its session, by its own
// id, or by the key that signed it (if KeyID is set). It is one round trip. An
// error says nothing about the token; it is [ErrID] if the token's sid is not
// one of this issuer's.
func (l *List) Denied(ctx context.Context, c *tokens.Claims) (bool, error) {
	p, ok := partition.OfSID(c.SessionID)
	if !ok {
		return false, ErrID
	}
	keys := []string{l.keys.Deny(p, c.SessionID), l.keys.Deny(p, c.ID)}
	if c.KeyID != "" {
		keys = append(keys, l.keys.Deny(p, c.KeyID))
	}
	var there *redis.IntCmd
	if err := script.AskFor(ctx, l.client, keys[0], func(pipe redis.Pipeliner) { there = pipe.Exists(ctx, keys...) }); err != nil {
		return false, fmt.Errorf("ask the denylist: %w", err)
	}
	return there.Val() > 0, nil
}
