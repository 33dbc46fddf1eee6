// Package script runs Lua scripts on Redis, and sees to it that a reply is that to
// what was asked.
//
// Make a [Script] once, with [New], and call [Script.Run]. Where scripts may not be
// allowed, call [AskFor] or [Ask].
//
// Replies have been known to shift between requests that share a connection.
// Handing one user the grant of another, or believing that a session has ended
// because another's has, would be the worst that this service can do. Every script
// must therefore reply with a list that begins with KEYS[1]. What may differ
// between two requests about one key, it must repeat too.
//
// A script is sent by its hash and in full only when the server does not know
// it: the script cache is volatile, so this is normal after a restart or a
// failover, and never an error the caller sees. The Redis client may send a
// script again when a reply was lost. Every script run here must therefore
// give the same state when it runs twice.
//
// Scripts that must work on a full Redis ([OnFullRedis]) declare so in a first
// line that only real servers understand. The embedded server rejects that
// line; it gets the script without it. There the flag has no meaning, since
// the embedded server has no memory limit.
//
// The package does not run scripts inside pipelines, where an unknown script
// cannot be sent again.
package script

import (
	"context"
	"crypto/sha1" // Redis names scripts by SHA-1; nothing is authenticated by it.
	"encoding/hex"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// ErrReply means that Redis answered something else than was asked. What was
// asked may have been done.
var ErrReply = errors.New("the reply of Redis does not match the request")

// An Option changes how a script runs.
type Option string

// OnFullRedis lets a script write although maxmemory is reached. It is for
// scripts that end or advance what exists already; those that add records must
// fail instead.
const OnFullRedis Option = "#!lua flags=allow-oom\n"

// Script is one script. It is safe for concurrent use, with several servers too.
type Script struct {
	flagged, plain text
	// plainWorked is a hint about which text to name first. With several
	// servers of both kinds in one process it may be wrong, which costs a
	// round trip and nothing else.
	plainWorked atomic.Bool
}

type text struct{ source, sha string }

func newText(source string) text {
	sum := sha1.Sum([]byte(source)) // see above
	return text{source, hex.EncodeToString(sum[:])}
}

// New prepares a script.
func New(source string, options ...Option) *Script {
	s := &Script{plain: newText(source), flagged: newText(source)}
	for _, o := range options {
		s.flagged = newText(string(o) + source)
	}
	return s
}

// Run runs the script and returns what it replied behind the first key. All keys
// (there must be one) must lie in one hash slot, and the script must touch no
// others. An error is [ErrReply] or one of Redis.
func (s *Script) Run(ctx context.Context, c redis.Scripter, keys []string, args ...any) ([]any, error) {
	reply, err := s.run(ctx, c, keys, args).Slice()
	switch {
	case err != nil:
		return nil, err
	case len(reply) == 0 || reply[0] != keys[0]:
		return nil, ErrReply
	}
	return reply[1:], nil
}

func (s *Script) run(ctx context.Context, c redis.Scripter, keys []string, args []any) *redis.Cmd {
	first := s.flagged
	if s.plainWorked.Load() {
		first = s.plain
	}
	cmd := c.EvalSha(ctx, first.sha, keys, args...)
	if !redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		return cmd
	}
	// The flagged text always goes first here: a real server must never be
	// taught the plain one, or a later run would lose the flag.
	cmd = c.Eval(ctx, s.flagged.source, keys, args...)
	if s.flagged == s.plain {
		return cmd
	}
	if err := cmd.Err(); err == nil || !strings.Contains(err.Error(), "near '#'") {
		s.plainWorked.Store(false)
		return cmd
	}
	s.plainWorked.Store(true)
	return c.Eval(ctx, s.plain.source, keys, args...)
}
