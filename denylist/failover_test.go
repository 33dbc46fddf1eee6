package denylist_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
)

// replication is the connection between a replica and its primary.
type replication struct {
	mu    sync.Mutex
	delay time.Duration
	cut   bool
}

// hold makes the replica hear everything so much later.
func (r *replication) hold(delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = delay
}

// stop makes the replica hear nothing more. It does not notice for a minute.
func (r *replication) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
}

func (r *replication) state() (delay time.Duration, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.delay, r.cut
}

// replicate makes one server a replica of the other.
func replicate(t *testing.T, primary, replica *redistest.Server) *replication {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &replication{}
	go func() {
		for {
			down, err := listener.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", primary.Addrs()[0])
			if err != nil {
				down.Close()
				continue
			}
			t.Cleanup(func() { down.Close(); up.Close() })
			go func() { _, _ = io.Copy(up, down) }()
			go r.forward(down, up)
		}
	}()
	t.Cleanup(func() { listener.Close() })
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	if err := replica.Client.Do(t.Context(), "replicaof", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	until(t, replica, "the replica has the data", func() bool {
		return strings.Contains(replica.Client.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	return r
}

func (r *replication) forward(down, up net.Conn) {
	type chunk struct {
		data []byte
		at   time.Time
	}
	chunks := make(chan chunk, 10000)
	go func() {
		defer close(chunks)
		for {
			data := make([]byte, 64<<10)
			n, err := up.Read(data)
			if err != nil {
				return
			}
			chunks <- chunk{data[:n], time.Now()}
		}
	}()
	for c := range chunks {
		delay, cut := r.state()
		time.Sleep(time.Until(c.at.Add(delay)))
		if cut {
			continue
		}
		if _, err := down.Write(c.data); err != nil {
			return
		}
	}
}

func TestReplicaShowsItsLagAsAge(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.RedisTCP(t), redistest.RedisTCP(t)
	link := replicate(t, primary, replica)
	h := house{denylist.New(primary.Client, primary.Prefix), primary, primary.Client, partition.Keys{Prefix: primary.Prefix}}
	beat(t, h.List)
	lagging := denylist.New(replica.Client, primary.Prefix)

	at, _ := follow(t, lagging)
	at.untilCurrent(t, replica)
	const lag = 700 * time.Millisecond
	link.hold(lag)
	pass(replica, lag)
	behind, _ := follow(t, lagging)
	until(t, replica, "it is current as far as it can be", func() bool { return behind.age() < 5*time.Second })
	began := time.Now()
	h.add(t, denylist.Token, jti, primary.Now().Add(time.Hour))
	if took := until(t, replica, "the denial", func() bool { return behind.has(denylist.Token, jti) }); took < lag {
		t.Errorf("a denial arrived %v after it was made", took)
	}
	if !behind.knownTo().Before(began.Add(500 * time.Millisecond)) {
		t.Error("everything was known before it could have been")
	}
	if behind.least() < lag {
		t.Errorf("%v behind at least, and it said %v", lag, behind.least())
	}

	// Nobody told the replica that it is one no more: it still answers.
	if err := replica.Client.Do(t.Context(), "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	alone := time.Now()
	h.add(t, denylist.Token, "unheard", primary.Now().Add(time.Hour))
	pass(replica, 1500*time.Millisecond)
	if known := behind.knownTo(); known.After(alone) {
		t.Errorf("it knows what happened %v after it was cut off", known.Sub(alone))
	}
}

// The primary hangs, with denials that its replica has not heard of. The
// replica, whose clock is slow, takes its place; then the old one is back, and
// believes for some seconds that nothing has happened.
func TestRow34Failover(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.RedisTCP(t), redistest.RedisTCP(t)
	replica.Advance(-30 * time.Second)
	link := replicate(t, primary, replica)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: "mymaster", SentinelAddrs: []string{redistest.Sentinel(t, primary, 500*time.Millisecond)},
		DialTimeout: time.Second, DialerRetries: 1, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { client.Close() })
	h := house{denylist.New(client, primary.Prefix), primary, client, partition.Keys{Prefix: primary.Prefix}}
	beat(t, h.List)
	w, _ := follow(t, h.List)
	left, _ := follow(t, denylist.New(primary.Client, primary.Prefix))
	w.untilCurrent(t, primary)
	left.untilCurrent(t, primary)

	deny := func(id string) {
		t.Helper()
		until(t, replica, "denying "+id, func() bool {
			return h.Add(t.Context(), denylist.Token, sid, id, primary.Now().Add(time.Hour)) == nil
		})
	}
	deny("replicated")
	until(t, replica, "the replica hears", func() bool { return replica.Client.XLen(t.Context(), h.feedKey()).Val() == 1 })
	link.stop()
	deny("lost")
	until(t, primary, "the denial", func() bool { return w.has(denylist.Token, "lost") && left.has(denylist.Token, "lost") })

	primary.Pause()
	paused := time.Now()
	until(t, replica, "the replica is promoted", func() bool {
		_, port, _ := net.SplitHostPort(replica.Addrs()[0])
		return strings.Contains(client.Info(t.Context(), "server").Val(), "tcp_port:"+port)
	})
	primary.Resume()
	// Its id is less than that of the last line that was read.
	deny("after")
	if lines := replica.Client.XLen(t.Context(), h.feedKey()).Val(); lines != 2 {
		t.Fatalf("the promoted one has %d lines of 2", lines)
	}
	denied := time.Now()
	until(t, replica, "the new one is current", func() bool { return w.knownTo().After(denied) })
	if !w.has(denylist.Token, "after") {
		t.Error("current, but a denial is missing")
	}
	if histories, _ := w.told(); histories != 1 {
		t.Errorf("%d changes of history were noticed", histories)
	}
	pass(replica, time.Second)
	if known := left.knownTo(); known.After(paused) {
		t.Errorf("whoever still reads the deposed one knows what happened %v after it hung", known.Sub(paused))
	}
	if role := primary.Client.Info(t.Context(), "replication").Val(); !strings.Contains(role, "role:master") {
		t.Error("the deposed one knew that it is: nothing was shown")
	}
}

func TestRow35PartitionThatMovesToAnotherNode(t *testing.T) {
	alongside(t, func(t *testing.T, h house) {
		defer h.server.Kill() // The next test needs a Cluster as it was.
		beat(t, h.List)
		w, _ := follow(t, denylist.New(through(t, h.server, net.Dial), h.server.Prefix))
		h.add(t, denylist.Token, "before", h.server.Now().Add(time.Hour))
		until(t, h.server, "the denial", func() bool { return w.has(denylist.Token, "before") })
		w.untilCurrent(t, h.server)
		move(t, h.client.(*redis.ClusterClient), h.feedKey())
		moved := time.Now()
		h.add(t, denylist.Token, "after", h.server.Now().Add(time.Hour))
		until(t, h.server, "it is current", func() bool { return w.knownTo().After(moved) })
		if took := time.Since(moved); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if histories, _ := w.told(); histories > 0 || w.read() != 2 || !w.has(denylist.Token, "after") {
			t.Errorf("%d changes of history, %d lines of 2", histories, w.read())
		}
	}, "cluster")
}

// move moves the slot of a key to another master.
func move(t *testing.T, c *redis.ClusterClient, key string) {
	t.Helper()
	from, err := c.MasterForKey(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	do := func(on *redis.Client, args ...any) string {
		t.Helper()
		text, err := on.Do(t.Context(), args...).Text()
		if err != nil {
			t.Fatal(args, err)
		}
		return text
	}
	var masters []*redis.Client
	var mu sync.Mutex
	if err := c.ForEachMaster(t.Context(), func(_ context.Context, m *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, m)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	to := masters[0]
	if to.Options().Addr == from.Options().Addr {
		to = masters[1]
	}
	slot := c.ClusterKeySlot(t.Context(), key).Val()
	fromID, toID := do(from, "cluster", "myid"), do(to, "cluster", "myid")
	do(to, "cluster", "setslot", slot, "importing", fromID)
	do(from, "cluster", "setslot", slot, "migrating", toID)
	host, port, _ := net.SplitHostPort(to.Options().Addr)
	for {
		keys := from.ClusterGetKeysInSlot(t.Context(), int(slot), 100).Val()
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
