package denylist_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
)

func TestReplicaShowsItsLagAsAge(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.RedisTCP(t), redistest.RedisTCP(t)
	link := redistest.Replicate(t, primary.Addrs()[0], replica)
	h := house{denylist.New(primary.Client, primary.Prefix), primary, primary.Client, partition.Keys{Prefix: primary.Prefix}}
	beat(t, h.List)
	lagging := denylist.New(replica.Client, primary.Prefix)

	at, _ := follow(t, lagging)
	at.untilCurrent(t, replica)
	const lag = 700 * time.Millisecond
	link.Hold(lag)
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
	link := redistest.Replicate(t, primary.Addrs()[0], replica)
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
	link.Cut()
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
		redistest.MoveSlot(t, h.server, h.feedKey())
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
