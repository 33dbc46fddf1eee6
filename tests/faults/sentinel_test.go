package faults_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// guarded is a Redis behind a proxy, which announces the proxy's address as its
// own: whoever asks a Sentinel, or another node of its Cluster, comes through
// the proxy, replicas too.
type guarded struct {
	*redistest.Node
	proxy *proxy
	id    string // in a Cluster
	// replicaOf is what it begins as, the address of a primary's proxy.
	replicaOf string
}

func startGuarded(t *testing.T, seed uint64, options func(g *guarded) []string) *guarded {
	t.Helper()
	g := &guarded{}
	g.Node = redistest.StartNode(t, func(n *redistest.Node) []string {
		g.Node = n
		if g.proxy == nil || g.proxy.target != n.Addr {
			g.proxy = newProxy(t, seed, n.Addr)
		}
		return append(options(g), "--appendonly", "no",
			// Left alone, a primary waits five seconds for more replicas.
			"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--repl-timeout", "5")
	})
	return g
}

func (g *guarded) port() string {
	_, port, _ := net.SplitHostPort(g.proxy.addr)
	return port
}

// info is one field of INFO replication.
func (g *guarded) info(field string) string {
	text, _ := g.Client.Info(context.Background(), "replication").Result()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// settled waits until a replica of the primary has all that was written before
// the moment that it returns. In a Cluster, tag must be one that the node has.
func (g *guarded) settled(f *fault, tag string) (before time.Time) {
	f.t.Helper()
	ctx := context.Background()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		before = time.Now()
		// WAIT counts for the writes of its own connection.
		conn := g.Client.Conn()
		acknowledged := int64(0)
		err := conn.Set(ctx, "marker{"+tag+"}", "x", 0).Err()
		if err == nil {
			acknowledged, err = conn.Wait(ctx, 1, time.Second).Result()
		}
		conn.Close()
		if err == nil && acknowledged > 0 {
			return before
		}
	}
	f.t.Fatalf("the replica of %s does not follow", g.Addr)
	return before
}

const (
	// primaryPatience is when a Sentinel takes a primary for dead. Sooner, a busy
	// machine would look like a dead one.
	primaryPatience = 3 * time.Second
	sentinelCount   = 3
)

// watched is a primary, its replica, and Sentinels.
type watched struct {
	servers   []*guarded
	sentinels []*redistest.Node
	primary   int
}

func (w *watched) way() (string, []*proxy) {
	var addrs []string
	for _, s := range w.sentinels {
		addrs = append(addrs, s.Addr)
	}
	return "sentinel://" + strings.Join(addrs, ",") + "/mymaster", []*proxy{w.servers[0].proxy, w.servers[1].proxy}
}

func underSentinels(t *testing.T, seed uint64) topology {
	w := &watched{}
	for n := range 2 {
		s := startGuarded(t, seed+100+uint64(n), func(g *guarded) []string {
			options := []string{"--replica-announce-ip", "127.0.0.1", "--replica-announce-port", g.port()}
			if g.replicaOf != "" {
				options = append(options, "--replicaof", strings.Replace(g.replicaOf, ":", " ", 1))
			}
			return options
		})
		w.servers = append(w.servers, s)
	}
	primary, replica := w.servers[0], w.servers[1]
	if err := replica.Client.Do(t.Context(), "replicaof", "127.0.0.1", primary.port()).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica follows", func() bool { return replica.info("master_link_status") == "up" })
	for range sentinelCount {
		w.sentinels = append(w.sentinels, redistest.StartNode(t, func(n *redistest.Node) []string {
			file := filepath.Join(n.Folder, "sentinel.conf")
			text := fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %s 2\n"+
				"sentinel down-after-milliseconds mymaster %d\nsentinel failover-timeout mymaster 4000\n",
				primary.port(), primaryPatience.Milliseconds())
			_ = os.WriteFile(file, []byte(text), 0o600) // Without it the Sentinel does not start.
			return []string{file, "--sentinel"}
		}))
	}
	t.Cleanup(func() {
		for _, s := range w.sentinels {
			if t.Failed() {
				t.Logf("a Sentinel says:\n%s", s.Log())
			}
		}
	})
	eventually(t, "the Sentinels know each other and the replica", func() bool {
		for _, s := range w.sentinels {
			about, err := s.Client.Do(t.Context(), "sentinel", "master", "mymaster").Result()
			fields, _ := about.(map[any]any)
			if err != nil || fields["num-other-sentinels"] != fmt.Sprint(sentinelCount-1) || fields["num-slaves"] != "1" {
				return false
			}
		}
		return true
	})
	return w
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never happened that %s", what)
		}
	}
}

// failover promotes the replica: the primary is gone. What was written since the
// moment between savedFrom and savedUntil is lost.
func (w *watched) failover(f *fault, goes func(primary *guarded)) (l loss, old *guarded) {
	old, heir := w.servers[w.primary], w.servers[1-w.primary]
	l.savedFrom = old.settled(f, "")
	goes(old)
	f.since = time.Now()
	eventually(f.t, "the replica is the primary", func() bool { return heir.info("role") == "master" })
	l.backUntil = time.Now()
	w.primary = 1 - w.primary
	return l, old
}

// primaryLost: first nothing is replicated any more, then the primary dies.
func primaryLost(f *fault) {
	w := f.d.redis.(*watched)
	f.again(func() {
		f.tidy()
		var cut, dying time.Time
		l, old := w.failover(f, func(primary *guarded) {
			primary.proxy.cutReplication()
			cut = time.Now()
			time.Sleep(min(f.lasts, 3*time.Second)) // What happens now will be forgotten.
			dying = time.Now()
			primary.Kill()
		})
		l.savedUntil, l.backFrom = cut, dying
		f.d.record.lost(l)
		f.later = func() {
			old.proxy.mend()
			old.replicaOf = w.servers[w.primary].proxy.addr
			old.Restart()
		}
	})
}

// primaryDeposed: the primary stands still until another has taken its place,
// and wakes up without knowing.
func primaryDeposed(f *fault) {
	w := f.d.redis.(*watched)
	f.again(func() {
		f.tidy()
		var stopping, stopped time.Time
		l, old := w.failover(f, func(primary *guarded) {
			stopping = time.Now()
			primary.Pause()
			stopped = time.Now()
		})
		l.savedUntil, l.backFrom = stopped, stopping
		time.Sleep(f.short(time.Second))
		l.splitFrom = time.Now()
		old.Resume()
		f.later = func() {
			eventually(f.t, "the deposed primary has been told", func() bool {
				return old.info("role") == "slave" && old.info("master_link_status") == "up"
			})
			l.splitUntil = time.Now()
			f.d.record.lost(l)
		}
	})
}

// onlyOurs fails the test if a Sentinel has promoted more than the row did: the
// machine was too slow, and what follows is no fault of the service.
func (w *watched) onlyOurs(t *testing.T) {
	for _, s := range w.sentinels {
		about, err := s.Client.Do(context.Background(), "sentinel", "get-master-addr-by-name", "mymaster").StringSlice()
		if err != nil || len(about) != 2 || about[1] != w.servers[w.primary].port() {
			t.Errorf("a Sentinel says that the primary is %v (%v): the machine is too slow for this row", about, err)
		}
	}
}
