package redistest

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// MoveSlot moves the slot of a key, with all its keys, to another master of the
// Cluster. The test must kill the Cluster at its end: the next one needs it as it
// was.
func MoveSlot(tb testing.TB, s *Server, key string) {
	tb.Helper()
	ctx := context.Background()
	c, ok := s.Client.(*redis.ClusterClient)
	if !ok {
		tb.Fatal("redistest: only a Cluster has slots")
	}
	from, err := c.MasterForKey(ctx, key)
	if err != nil {
		tb.Fatal(err)
	}
	do := func(on *redis.Client, args ...any) string {
		tb.Helper()
		text, err := on.Do(ctx, args...).Text()
		if err != nil {
			tb.Fatal(args, err)
		}
		return text
	}
	var masters []*redis.Client
	var mu sync.Mutex
	if err := c.ForEachMaster(ctx, func(_ context.Context, m *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, m)
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	to := masters[0]
	if to.Options().Addr == from.Options().Addr {
		to = masters[1]
	}
	slot := c.ClusterKeySlot(ctx, key).Val()
	fromID, toID := do(from, "cluster", "myid"), do(to, "cluster", "myid")
	do(to, "cluster", "setslot", slot, "importing", fromID)
	do(from, "cluster", "setslot", slot, "migrating", toID)
	host, port, _ := net.SplitHostPort(to.Options().Addr)
	for {
		keys := from.ClusterGetKeysInSlot(ctx, int(slot), 100).Val()
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			do(from, "migrate", host, port, key, 0, 5000)
		}
	}
	for _, m := range append([]*redis.Client{to, from}, masters...) {
		do(m, "cluster", "setslot", slot, "node", toID)
	}
}
