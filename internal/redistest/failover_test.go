package redistest_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
)

func TestSentinelPromotesTheReplica(t *testing.T) {
	primary, replica := redistest.RedisTCP(t), redistest.RedisTCP(t)
	replica.Advance(-time.Hour)
	if apart := primary.Now().Sub(replica.Now()); apart < 59*time.Minute {
		t.Errorf("the clocks are %v apart", apart)
	}
	must(t, replica.Client.Do(t.Context(), "replicaof", "127.0.0.1", port(primary)).Err())
	must(t, primary.Client.Set(t.Context(), "k", "v", 0).Err())
	until(t, "the replica has what the primary has", func() bool {
		return replica.Client.Get(t.Context(), "k").Val() == "v"
	})
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName:    "mymaster",
		SentinelAddrs: []string{redistest.Sentinel(t, primary, 200*time.Millisecond)},
		DialTimeout:   time.Second,
		ReadTimeout:   time.Second,
	})
	t.Cleanup(func() { client.Close() })
	must(t, client.Set(t.Context(), "k", "w", 0).Err())
	primary.Pause()
	until(t, "the replica is the primary", func() bool {
		return client.Set(t.Context(), "k", "x", 0).Err() == nil && replica.Client.Get(t.Context(), "k").Val() == "x"
	})
}

func TestNodeComesBackWithWhatItHasKept(t *testing.T) {
	durable := redistest.StartNode(t, func(*redistest.Node) []string { return []string{"--appendonly", "yes", "--appendfsync", "no"} })
	forgetful := redistest.StartNode(t, func(*redistest.Node) []string { return nil })
	for _, n := range []*redistest.Node{durable, forgetful} {
		must(t, n.Client.Set(t.Context(), "k", "v", 0).Err())
		n.Kill()
		if err := n.Client.Get(t.Context(), "k").Err(); err == nil {
			t.Error("a killed node answers")
		}
		n.Restart()
		n.Pause()
		n.Resume()
		n.Advance(time.Hour)
		now, err := n.Client.Time(t.Context()).Result()
		must(t, err)
		if ahead := time.Until(now); ahead < 59*time.Minute {
			t.Errorf("after a restart the clock is %v ahead", ahead)
		}
	}
	if v := durable.Client.Get(t.Context(), "k").Val(); v != "v" {
		t.Errorf("with an AOF %q came back", v)
	}
	if v := forgetful.Client.Get(t.Context(), "k").Val(); v != "" {
		t.Errorf("without an AOF %q came back", v)
	}
}

func port(s *redistest.Server) string {
	return s.Addrs()[0][len("127.0.0.1:"):]
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happened that %s", what)
		}
	}
}
