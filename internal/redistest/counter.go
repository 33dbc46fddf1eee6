package redistest

import (
	"context"
	"maps"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Counter counts the commands that callers gave to a client, each once however
// often the client sent it. It is safe for concurrent use.
type Counter struct {
	mu    sync.Mutex
	total int
	trips int
	names map[string]int
}

// CommandCount counts what c is asked from now on, pipelines included. For a
// transaction that is MULTI and EXEC as well. How the client introduces itself
// on a new connection (HELLO, AUTH, CLIENT), and asks what a Cluster is like
// (CLUSTER, COMMAND), does not count. Of a Cluster, what is asked of one of its nodes counts too.
func CommandCount(c redis.UniversalClient) *Counter {
	counter := &Counter{names: map[string]int{}}
	hook := (*countingHook)(counter)
	c.AddHook(hook)
	if cluster, ok := c.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(hook) })
		_ = cluster.ForEachShard(context.Background(), func(_ context.Context, node *redis.Client) error {
			node.AddHook(hook)
			return nil
		})
	}
	return counter
}

// Trips returns how often something was asked: a pipeline counts once.
func (c *Counter) Trips() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trips
}

// Total returns the number of commands.
func (c *Counter) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// Names returns the number of commands by name, in lower case.
func (c *Counter) Names() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.names)
}

type countingHook Counter

// counted marks what a Cluster's client hands on to one of its nodes.
type counted struct{ by *countingHook }

func (h *countingHook) count(ctx context.Context, cmds ...redis.Cmder) context.Context {
	if ctx.Value(counted{h}) != nil {
		return ctx
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.total
	for _, cmd := range cmds {
		switch name := cmd.Name(); name {
		case "hello", "auth", "client", "cluster", "command": // these too pass the hooks
		default:
			h.names[name]++
			h.total++
		}
	}
	if h.total > before {
		h.trips++
	}
	return context.WithValue(ctx, counted{h}, true)
}

func (h *countingHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return next(h.count(ctx, cmd), cmd)
	}
}

func (h *countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return next(h.count(ctx, cmds...), cmds)
	}
}
