package redisconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/script"
)

// A connection on which one reply too many was read, or one too few, gives each
// request the reply of another from then on, until it ends. Nothing in the
// protocol shows it; a proxy or a bug of a library is enough. This file notices
// it by the commands that repeat in their reply what they were asked, and then
// lets no connection that was open at that time be used again: which one it was
// cannot be told, and to open them all anew costs little.

// errLost is that of a connection that is not trusted any more. It wraps io.EOF,
// since the library then sends the command on another one.
var errLost = fmt.Errorf("the replies of this connection belong to other requests: %w", io.EOF)

// resends is how often a command is sent again whose reply belonged to another.
// Then it is script.ErrReply, which nobody sends again.
const resends = 2

// trust is shared by all connections of a client.
type trust struct {
	epoch atomic.Uint64 // older connections are not used any more
	lost  func()
}

// lose is called when a reply belonged to another request than that which was
// sent in an epoch. Many may notice the same.
func (t *trust) lose(epoch uint64) {
	if t.epoch.CompareAndSwap(epoch, epoch+1) && t.lost != nil {
		t.lost()
	}
}

// dial returns a dialer whose connections end when they have lost the trust.
func (t *trust) dial(with func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		epoch := t.epoch.Load()
		c, err := with(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return trustedConn{c, t, epoch}, nil
	}
}

type trustedConn struct {
	net.Conn
	trust *trust
	epoch uint64
}

func (c trustedConn) check() error {
	if c.epoch != c.trust.epoch.Load() {
		return errLost
	}
	return nil
}

// Write begins a request. What is under way already may end: if its replies are
// another's, that is noticed, or not, as it is at all times.
func (c trustedConn) Write(b []byte) (int, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// SyscallConn is what the library asks for before it takes a connection from the
// pool, to see whether the other side has closed it, or has sent what nobody
// asked for. It drops one that gives an error, and takes another.
func (c trustedConn) SyscallConn() (syscall.RawConn, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return opaque{}, nil
}

// opaque stands for a connection that nothing can be seen of from outside, as is
// one with TLS.
type opaque struct{}

func (opaque) Control(func(uintptr)) error    { return nil }
func (opaque) Read(func(uintptr) bool) error  { return nil }
func (opaque) Write(func(uintptr) bool) error { return nil }

// watcher is the hook that notices.
type watcher struct{ trust *trust }

func (w watcher) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w watcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		for n := 0; ; n++ {
			epoch := w.trust.epoch.Load()
			err := next(ctx, cmd)
			// The command does not have its error yet.
			if !foreign(cmd, err) {
				return err
			}
			w.trust.lose(epoch)
			if n == resends || ctx.Err() != nil {
				cmd.SetErr(script.ErrReply)
				return script.ErrReply
			}
		}
	}
}

func (w watcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for n := 0; ; n++ {
			epoch := w.trust.epoch.Load()
			err := next(ctx, cmds)
			if !anyForeign(cmds) {
				return err
			}
			w.trust.lose(epoch)
			if n == resends || ctx.Err() != nil {
				for _, cmd := range cmds {
					cmd.SetErr(script.ErrReply)
				}
				return script.ErrReply
			}
		}
	}
}

func anyForeign(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		if foreign(cmd, cmd.Err()) {
			return true
		}
	}
	return false
}

// foreign reports whether a reply cannot be the command's own. A script replies
// with a list that begins with its first key (package script), and ECHO with what
// it was given.
func foreign(cmd redis.Cmder, err error) bool {
	args := cmd.Args()
	switch {
	case err == nil, errors.Is(err, redis.Nil):
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		return cmd.Name() == "eval" // which brings the script along
	default:
		// One of another kind than the library reads here. It gives up the
		// connection by itself, but not the others.
		return strings.HasPrefix(err.Error(), "redis: can't parse")
	}
	switch cmd := cmd.(type) {
	case *redis.Cmd:
		if name := cmd.Name(); name != "evalsha" && name != "eval" || len(args) < 4 {
			return false
		}
		reply, _ := cmd.Val().([]any)
		return len(reply) == 0 || reply[0] != args[3]
	case *redis.StringCmd:
		return cmd.Name() == "echo" && cmd.Val() != args[1]
	}
	return false
}
