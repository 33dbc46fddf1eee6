// Package ack makes a write count only when replicas of Redis have it too.
//
// Make a [Writer] with [New] and let [Writer.Do] run what writes. With 0
// replicas that is all it does, on the client that it was given.
//
// Otherwise Do takes one connection, runs the write on it, adds a mark, and asks
// with WAIT how many replicas have got that far. WAIT speaks of what its own
// connection has written, so a reply on any other proves nothing: after a
// failover that would be the new primary, which may never have heard of the
// write. The mark is there because a write that finds its work done writes
// nothing, and WAIT would then be content at once: a client that repeats a
// logout whose acknowledgement failed has to wait again.
//
// Replication is one stream for each primary. A replica that has the mark has
// everything that the primary wrote before it, whoever asked for it.
//
// The package does not undo a write that too few replicas have: it stands, and
// will reach them, or it will not. A WAIT is no vote either: Sentinel may promote
// a replica that had not acknowledged.
package ack

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/script"
)

// ErrReplicas means that the write was made, but that too few replicas have
// acknowledged it. Whoever asked should ask again.
var ErrReplicas = errors.New("too few replicas of Redis have acknowledged")

const (
	// concurrent bounds the connections that wait at one time. Replicas that lag
	// must not take the connections that refreshing needs.
	concurrent = 8

	// soon is how long a replica usually needs at most. Only then is the primary
	// asked whether there are enough at all.
	soon = 100 * time.Millisecond

	// longest is how long is waited altogether if the context allows more, and
	// reserve what is left of its time for the answer.
	longest = 5 * time.Second
	reserve = 100 * time.Millisecond

	// Pauses between attempts, doubled each time: 0.6 s together, in which a
	// partition can move and a failover be noticed.
	firstPause = 5 * time.Millisecond
	lastPause  = 320 * time.Millisecond

	// markLife is how long the mark stays.
	markLife = 10 * time.Second
)

var (
	//go:embed mark.lua
	markLua string

	markScript = script.New(markLua, script.OnFullRedis)
)

// Writer writes to one Redis. It is safe for concurrent use.
type Writer struct {
	client   redis.UniversalClient
	replicas int
	slots    chan struct{}
}

// New returns a writer for which a write counts when so many replicas have it.
// The client must heed the deadlines of contexts (ContextTimeoutEnabled).
func New(c redis.UniversalClient, replicas int) *Writer {
	return &Writer{client: c, replicas: replicas, slots: make(chan struct{}, concurrent)}
}

// Replicas returns how many must acknowledge.
func (w *Writer) Replicas() int { return w.replicas }

// Do runs write, and returns nil when it has succeeded and the replicas have
// acknowledged. mark is the key of the mark; what is written must lie in its hash
// slot. write may run several times, and must use no other connection than the
// one it is given.
func (w *Writer) Do(ctx context.Context, mark string, write func(redis.Scripter) error) error {
	if w.replicas == 0 {
		return write(w.client)
	}
	select {
	case w.slots <- struct{}{}:
	default:
		// Many wait for replicas that lag. What this one writes should take effect
		// all the same, before it gets its turn to wait.
		if err := write(w.client); err != nil {
			return err
		}
		select {
		case w.slots <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("%w: too many wait for them: %w", ErrReplicas, ctx.Err())
		}
	}
	defer func() { <-w.slots }()
	for pause := firstPause; ; pause *= 2 {
		err := w.attempt(ctx, mark, write)
		if err == nil || errors.Is(err, ErrReplicas) || pause > lastPause || ctx.Err() != nil {
			return err
		}
		// A connection that broke, a primary that is none any more, a slot that
		// has moved: the library cannot go on elsewhere by itself, since this is
		// about one connection.
		if c, ok := w.client.(*redis.ClusterClient); ok {
			c.ReloadState(ctx)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (w *Writer) attempt(ctx context.Context, mark string, write func(redis.Scripter) error) error {
	node, err := w.node(ctx, mark)
	if err != nil {
		return err
	}
	// If the connection breaks the library refuses to go on with another one.
	conn := node.Conn()
	defer conn.Close()
	if err := write(conn); err != nil {
		return err
	}
	if _, err := markScript.Run(ctx, conn, []string{mark}, markLife.Milliseconds()); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	return w.wait(ctx, conn)
}

// node returns a client of the one server that has the key.
func (w *Writer) node(ctx context.Context, key string) (*redis.Client, error) {
	switch c := w.client.(type) {
	case *redis.Client:
		return c, nil
	case *redis.ClusterClient:
		return c.MasterForKey(ctx, key)
	default:
		return nil, fmt.Errorf("wait for replicas: not possible with a %T", c)
	}
}

func (w *Writer) wait(ctx context.Context, conn *redis.Conn) error {
	left := longest
	if deadline, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(deadline)-reserve)
	}
	// WAIT takes 0 for no limit at all.
	first := max(min(soon, left), time.Millisecond)
	n, err := conn.Wait(ctx, w.replicas, first).Result()
	if err == nil && n < int64(w.replicas) && left-first > time.Millisecond {
		// It is no use to keep a client waiting for what is not there.
		if online, known := w.online(ctx, conn); known && online < w.replicas {
			return fmt.Errorf("%w: %d are needed, and %d are connected", ErrReplicas, w.replicas, online)
		}
		n, err = conn.Wait(ctx, w.replicas, left-first).Result()
	}
	switch {
	case err != nil:
		return fmt.Errorf("wait for replicas: %w", err)
	case n < int64(w.replicas):
		return fmt.Errorf("%w: %d of %d", ErrReplicas, n, w.replicas)
	}
	return nil
}

// online asks how many replicas are connected and receive the stream.
func (w *Writer) online(ctx context.Context, conn *redis.Conn) (n int, known bool) {
	text, err := conn.Info(ctx, "replication").Result()
	info := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[name] = value
	}
	return Online(info), err == nil
}

// Online counts, in the fields of INFO replication, the replicas that are
// connected and receive the stream.
func Online(info map[string]string) (n int) {
	for name, value := range info {
		if strings.HasPrefix(name, "slave") && strings.Contains(value, ",state=online,") {
			n++
		}
	}
	return n
}
