package refresh_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/refresh"
)

// scriptRecorder keeps the scripts that a client sends, to deliver them again.
type scriptRecorder struct {
	mu   sync.Mutex
	sent [][]any
}

func (r *scriptRecorder) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *scriptRecorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && (cmd.Name() == "eval" || cmd.Name() == "evalsha") {
			r.mu.Lock()
			r.sent = append(r.sent, cmd.Args())
			r.mu.Unlock()
		}
		return err
	}
}

func (r *scriptRecorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// take returns what was sent since the last time.
func (r *scriptRecorder) take() [][]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// The network can deliver a command long after its sender gave up on it, sent
// it again and was answered. Whatever has happened since must stay.
func TestLateDuplicatesUndoNothing(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		r := &scriptRecorder{}
		h.client.AddHook(r)
		again := func(scripts [][]any) {
			t.Helper()
			if len(scripts) == 0 {
				t.Fatal("nothing was sent")
			}
			for _, args := range scripts {
				if err := h.client.Do(t.Context(), args...).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}

		d := h.login(t, "alice", mobile)
		login := r.take()
		d.advanceTo(t, 3)
		refreshes := r.take()
		h.server.Advance(time.Minute)

		before := h.hash(t, d.sid)
		again(login)
		again(refreshes)
		if after := h.hash(t, d.sid); !maps.Equal(before, after) {
			t.Errorf("the session was\n%q and is\n%q", before, after)
		}
		r.take()

		_, err := d.ask(t.Context(), 0, "a thief's")
		var reuse *refresh.ReuseError
		if !errors.As(err, &reuse) {
			t.Fatalf("the first token after the late login: %v", err)
		}
		end := r.take()

		tombstone := h.hash(t, d.sid)
		for what, scripts := range map[string][][]any{"login": login, "refreshes": refreshes, "end": end} {
			again(scripts)
			if after := h.hash(t, d.sid); !maps.Equal(tombstone, after) {
				t.Errorf("%s: the tombstone was\n%q and is\n%q", what, tombstone, after)
			}
			if n := h.client.ZCard(t.Context(), h.keys.User("alice")).Val(); n != 0 {
				t.Errorf("%s: the index names %d sessions", what, n)
			}
		}
	})
}
