package denylist

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
)

// everywhere runs f for all partitions at once and waits for the last.
func everywhere(f func(partition.ID)) {
	var all sync.WaitGroup
	for p := range partition.Count {
		all.Go(func() { f(partition.ID(p)) })
	}
	all.Wait()
}

// rounds calls visit every so often, until ctx ends, for each server with the
// partitions that lie there: what concerns one server travels together, and no
// server waits for another. A partition whose last visit is not over is left
// out, so that one that hangs holds up itself only. If it is not known where a
// partition lies, missing is told why.
func (l *List) rounds(ctx context.Context, every time.Duration,
	visit func(ctx context.Context, node redis.UniversalClient, there []partition.ID),
	missing func(partition.ID, error),
) {
	var visits sync.WaitGroup
	defer visits.Wait()
	var busy [partition.Count]atomic.Bool
	// Instances that were started together do not all ask at the same moment.
	pause(ctx, rand.N(every))
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		nodes := map[redis.UniversalClient][]partition.ID{}
		for p := range partition.ID(partition.Count) {
			if busy[p].Load() {
				continue
			}
			node, err := l.node(ctx, p)
			if err != nil {
				missing(p, err)
				continue
			}
			nodes[node] = append(nodes[node], p)
		}
		for node, there := range nodes {
			for _, p := range there {
				busy[p].Store(true)
			}
			visits.Go(func() {
				visit(ctx, node, there)
				for _, p := range there {
					busy[p].Store(false)
				}
			})
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// node returns a client of the one server that has the partition. The client of
// a Cluster would send a command without a key, such as TIME, to any.
func (l *List) node(ctx context.Context, p partition.ID) (redis.UniversalClient, error) {
	c, ok := l.client.(*redis.ClusterClient)
	if !ok {
		return l.client, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.MasterForKey(ctx, l.keys.Feed(p))
}

// reload is for after an error: the partition may have moved. The client of a
// Cluster reloads once for however many ask.
func (l *List) reload(ctx context.Context) {
	if c, ok := l.client.(*redis.ClusterClient); ok {
		c.ReloadState(ctx)
	}
}

// flood is how long the same trouble of one partition is kept back.
const flood = 10 * time.Second

// trouble passes on what goes wrong in one partition, without flooding a log.
// It is for one goroutine.
type trouble struct {
	partition partition.ID
	to        func(error)
	reported  map[error]time.Time // by kind; nil is whatever Redis or the network said
}

func troubleOf(p partition.ID, to func(error)) *trouble {
	return &trouble{p, to, map[error]time.Time{}}
}

func (t *trouble) report(err error) {
	// The text does not tell kinds apart: it has the port of a connection in it.
	var kind error
	for _, k := range []error{ErrHistory, errLine, errSilent} {
		if errors.Is(err, k) {
			kind = k
		}
	}
	now := time.Now()
	if last, before := t.reported[kind]; before && now.Sub(last) < flood && kind != ErrHistory {
		return
	}
	t.reported[kind] = now
	t.to(fmt.Errorf("denylist: partition %s: %w", t.partition.Tag(), err))
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
