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
	names map[string]int
}

// CommandCount counts what c is asked from now on, pipelines included. For a
// transaction that is MULTI and EXEC as well. How the client introduces itself
// on a new connection (HELLO, AUTH, CLIENT) does not count.
func CommandCount(c redis.UniversalClient) *Counter {
	counter := &Counter{names: map[string]int{}}
	c.AddHook((*countingHook)(counter))
	return counter
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

func (h *countingHook) count(cmds ...redis.Cmder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, cmd := range cmds {
		switch name := cmd.Name(); name {
		case "hello", "auth", "client": // these too pass the hooks
		default:
			h.names[name]++
			h.total++
		}
	}
}

func (h *countingHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.count(cmd)
		return next(ctx, cmd)
	}
}

func (h *countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.count(cmds...)
		return next(ctx, cmds)
	}
}
