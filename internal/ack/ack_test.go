package ack_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/ack"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// world is a Redis whose primaries have a replica each.
type world struct {
	*redistest.Server
	replicas []*redistest.Server
	links    []*redistest.Replication
	keys     partition.Keys
}

func (w *world) replicate(t *testing.T) {
	t.Helper()
	for _, addr := range w.Addrs() {
		replica := redistest.RedisTCP(t)
		w.links = append(w.links, redistest.Replicate(t, addr, replica))
		w.replicas = append(w.replicas, replica)
	}
}

func (w *world) each(f func(*redistest.Replication)) {
	for _, link := range w.links {
		f(link)
	}
}

// every runs f on a single server and on a Cluster.
func every(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	for name, start := range map[string]func(testing.TB) *redistest.Server{"redis": redistest.RedisTCP, "cluster": redistest.Cluster} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			w := &world{Server: s, keys: partition.Keys{Prefix: s.Prefix}}
			f(t, w)
		})
	}
}

// set writes a key of a partition, once it counts.
func (w *world) set(ctx context.Context, replicas int, p partition.ID, value string) error {
	return ack.New(w.Client, replicas).Do(ctx, w.keys.Mark(p), func(c redis.Scripter) error {
		return c.Eval(ctx, "return redis.call('SET', KEYS[1], ARGV[1])", []string{w.keys.Session(p, "x")}, value).Err()
	})
}

// nothing finds its work done, on a connection that has written nothing yet.
func (w *world) nothing(t *testing.T, ctx context.Context, replicas int, p partition.ID) error {
	t.Helper()
	fresh, _ := w.Flaky(t)
	return ack.New(fresh, replicas).Do(ctx, w.keys.Mark(p), func(redis.Scripter) error { return nil })
}

func (w *world) has(t *testing.T, value string) bool {
	t.Helper()
	for p := range partition.ID(partition.Count) {
		found := false
		for _, replica := range w.replicas {
			found = found || replica.Client.Get(t.Context(), w.keys.Session(p, "x")).Val() == value
		}
		if !found {
			return false
		}
	}
	return true
}

const budget = 1500 * time.Millisecond

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	t.Cleanup(cancel)
	return ctx
}

// What was acknowledged is on the replica at that moment, however late that
// hears; what was not is an error, also when it is asked for again.
func TestWriteCountsWhenTheReplicaHasIt(t *testing.T) {
	every(t, func(t *testing.T, w *world) {
		w.replicate(t)
		w.each(func(r *redistest.Replication) { r.Hold(300 * time.Millisecond) })
		var all sync.WaitGroup
		for p := range partition.ID(partition.Count) {
			if p%4 != 0 {
				_ = w.set(bounded(t), 0, p, "late")
				continue
			}
			all.Go(func() {
				if err := w.set(bounded(t), 1, p, "late"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if !w.has(t, "late") {
			t.Error("acknowledged, and not on the replicas")
		}
		if ttl := w.Client.PTTL(t.Context(), w.keys.Mark(0)).Val(); ttl <= 0 || ttl > 10*time.Second {
			t.Errorf("the mark stays for %v", ttl)
		}

		w.each(func(r *redistest.Replication) { r.Hold(0); r.Cut() })
		for p := range partition.ID(2) {
			// Nothing will come, however long it is waited for.
			ctx, cancel := context.WithTimeout(t.Context(), budget/3)
			defer cancel()
			if err := w.set(ctx, 1, p, "cut"); err == nil {
				t.Error("acknowledged, and nobody has heard of it")
			}
			// Nothing is written this time, and that must not make it true.
			ctx, cancel = context.WithTimeout(t.Context(), budget/3)
			defer cancel()
			began := time.Now()
			if err := w.nothing(t, ctx, 1, p); err == nil {
				t.Error("acknowledged now, and nobody has heard of it yet")
			}
			if took := time.Since(began); took > budget {
				t.Errorf("took %v", took)
			}
		}
		if w.has(t, "cut") {
			t.Fatal("the replicas have heard of it: nothing was shown")
		}
	})
}

// Whoever asks for more replicas than there are should hear so, and soon.
func TestTooFewReplicas(t *testing.T) {
	every(t, func(t *testing.T, w *world) {
		for _, needed := range []int{1, 2} {
			began := time.Now()
			err := w.set(bounded(t), needed, 3, "x")
			if !errors.Is(err, ack.ErrReplicas) || !strings.Contains(err.Error(), "connected") {
				t.Errorf("%d needed: %v", needed, err)
			}
			if took := time.Since(began); took > budget {
				t.Errorf("%d needed: took %v", needed, took)
			}
			if needed == 1 {
				w.replicate(t)
				if err := w.set(bounded(t), 1, 3, "y"); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// Without replicas to wait for nothing is sent that was not sent before.
func TestNoReplicasCostNothing(t *testing.T) {
	every(t, func(t *testing.T, w *world) {
		sent := redistest.CommandCount(w.Client)
		if err := w.set(t.Context(), 0, 5, "x"); err != nil {
			t.Fatal(err)
		}
		if n := sent.Total(); n != 1 {
			t.Errorf("%d commands: %v", n, sent.Names())
		}
	})
}

// More than may wait at one time: each is written at once.
func TestManyWait(t *testing.T) {
	every(t, func(t *testing.T, w *world) {
		w.replicate(t)
		w.each((*redistest.Replication).Cut)
		writer := ack.New(w.Client, 1)
		ctx, cancel := context.WithTimeout(t.Context(), budget/2)
		defer cancel()
		const many = 40
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				if err := writer.Do(ctx, w.keys.Mark(3), func(c redis.Scripter) error {
					return c.Eval(ctx, "return redis.call('SADD', KEYS[1], ARGV[1])", []string{w.keys.Session(3, "set")}, i).Err()
				}); err == nil {
					t.Error("acknowledged by nobody")
				}
			})
		}
		all.Wait()
		if n := w.Client.SCard(t.Context(), w.keys.Session(3, "set")).Val(); n != many {
			t.Errorf("%d of %d were written", n, many)
		}
	})
}

// A full Redis revokes all the same, and so the mark must get through.
func TestFullRedis(t *testing.T) {
	every(t, func(t *testing.T, w *world) {
		w.replicate(t)
		w.SetFull(true)
		w.Client.Del(t.Context(), w.keys.Mark(0))
		if err := w.nothing(t, bounded(t), 1, 0); err != nil {
			t.Error(err)
		}
		// WAIT is documented to speak of a connection's own writes. Redis 7.0 waits for
		// all, so that a missing mark shows in nothing else here.
		if n := w.Client.Exists(t.Context(), w.keys.Mark(0)).Val(); n != 1 {
			t.Error("nothing was written before WAIT")
		}
	})
}

// A connection that breaks between the write and the question is no
// acknowledgement: the write is made again.
func TestConnectionBreaksInBetween(t *testing.T) {
	every(t, func(t *testing.T, w *world) {
		w.replicate(t)
		var runs atomic.Int32
		err := ack.New(w.Client, 1).Do(bounded(t), w.keys.Mark(7), func(c redis.Scripter) error {
			if runs.Add(1) > 2 {
				return nil
			}
			id, err := c.(*redis.Conn).ClientID(t.Context()).Result()
			if err != nil {
				return err
			}
			for _, addr := range w.Addrs() {
				node := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
				_ = node.ClientKillByFilter(t.Context(), "ID", strconv.FormatInt(id, 10)).Err()
				node.Close()
			}
			return nil
		})
		if err != nil || runs.Load() != 3 {
			t.Errorf("%v after %d runs", err, runs.Load())
		}
	})
}

// A partition that moves to another master takes its writes along.
func TestRow35PartitionThatMoves(t *testing.T) {
	s := redistest.Cluster(t)
	defer s.Kill() // The next test needs a Cluster as it was.
	w := &world{Server: s, keys: partition.Keys{Prefix: s.Prefix}}
	w.replicate(t)
	if err := w.set(bounded(t), 1, 0, "before"); err != nil {
		t.Fatal(err)
	}
	redistest.MoveSlot(t, s, w.keys.Mark(0))
	if err := w.set(bounded(t), 1, 0, "after"); err != nil {
		t.Error(err)
	}
	has := 0
	for _, replica := range w.replicas {
		if replica.Client.Get(t.Context(), w.keys.Session(0, "x")).Val() == "after" {
			has++
		}
	}
	if has != 1 {
		t.Errorf("%d replicas have it", has)
	}
}

// A deposed primary must not acknowledge: its replicas are elsewhere.
func TestPrimaryBecomesReplica(t *testing.T) {
	s, other := redistest.RedisTCP(t), redistest.RedisTCP(t)
	w := &world{Server: s, keys: partition.Keys{Prefix: s.Prefix}}
	w.replicate(t)
	w.each(func(r *redistest.Replication) { r.Cut() })
	go func() {
		time.Sleep(400 * time.Millisecond) // WAIT is under way
		host, port, _ := net.SplitHostPort(other.Addrs()[0])
		_ = s.Client.Do(context.Background(), "replicaof", host, port).Err()
	}()
	if err := w.set(bounded(t), 1, 0, "x"); err == nil {
		t.Error("acknowledged by nobody")
	}
}
