package users_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
)

// cutter makes scripts fail before their second write, as a server does that
// crashes there.
type cutter struct{}

func (*cutter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*cutter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		switch cmd.Name() {
		case "evalsha":
			args[1] = strings.Repeat("0", 40) // unknown, so that the source is sent
		case "eval":
			args[1] = `
local server, writes = redis, 0
local redis = {call = function(name, ...)
  if name == 'SET' or name == 'HSET' then
    writes = writes + 1
    if writes == 2 then
      error('cut off here')
    end
  end
  return server.call(name, ...)
end}
` + args[1].(string)
		}
		return next(ctx, cmd)
	}
}

func (*cutter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// An account without its name could not be found by its subject.
func TestAddThatIsCutLeavesNoAccount(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		h := newHouse(s.Client, s.Prefix)
		client, _ := s.Flaky(t) // a second client, which loses nothing here
		client.AddHook(&cutter{})
		_, err := newHouse(client, s.Prefix).Add(t.Context(), "alice", password, nil)
		if err == nil || !strings.Contains(err.Error(), "cut off here") {
			t.Fatalf("not cut: %v", err)
		}
		if n := s.Client.Exists(t.Context(), h.keys.Account("alice")).Val(); n != 0 {
			t.Error("there is half an account")
		}
		if keys := h.stored(t); len(keys) != 1 {
			t.Errorf("%q; want the name that nobody has", keys)
		}
		if _, err := h.Directory.Add(t.Context(), "alice", password, nil); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}
