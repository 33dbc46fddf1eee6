package faults_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/partition"
)

const (
	masters = 3
	slots   = 16384
)

// cluster is three masters and a replica of each.
type cluster struct {
	nodes []*guarded // node n+3 begins as the replica of node n
	// master is the index of the node that has the n-th third of the slots.
	master [masters]int
}

func (c *cluster) way() (string, []*proxy) {
	var addrs []string
	var proxies []*proxy
	for _, n := range c.nodes {
		addrs, proxies = append(addrs, n.proxy.addr), append(proxies, n.proxy)
	}
	return "redis://" + strings.Join(addrs, ","), proxies
}

func ofSix(t *testing.T, seed uint64) topology {
	c := &cluster{master: [masters]int{0, 1, 2}}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if t.Failed() {
				known, err := n.Client.ClusterNodes(context.Background()).Result()
				t.Logf("node %s knows (%v):\n%s", n.proxy.addr, err, known)
			}
		}
	})
	ctx := t.Context()
	do := func(n *guarded, args ...any) {
		t.Helper()
		if err := n.Client.Do(ctx, args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	for n := range 2 * masters {
		node := startGuarded(t, seed+100+uint64(n), func(g *guarded) []string {
			return []string{
				"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", g.Bus,
				"--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", g.port(), "--cluster-announce-bus-port", g.Bus,
				"--cluster-node-timeout", fmt.Sprint(primaryPatience.Milliseconds()), "--cluster-replica-validity-factor", "0",
				"--cluster-require-full-coverage", "no",
			}
		})
		node.id = node.Client.Do(ctx, "cluster", "myid").Val().(string)
		c.nodes = append(c.nodes, node)
		if n < masters {
			do(node, "cluster", "addslotsrange", n*slots/masters, (n+1)*slots/masters-1)
		}
		// Nodes that start with the same epoch argue about it at length.
		do(node, "cluster", "set-config-epoch", n+1)
	}
	var met time.Time
	eventually(t, "the nodes know each other", func() bool {
		// On a busy machine an introduction may time out.
		if time.Since(met) > 3*time.Second {
			met = time.Now()
			for _, n := range c.nodes[1:] {
				do(n, "cluster", "meet", "127.0.0.1", c.nodes[0].port(), c.nodes[0].Bus)
			}
		}
		for _, n := range c.nodes {
			known, err := n.Client.ClusterNodes(ctx).Result()
			if err != nil || strings.Count(known, "\n") != len(c.nodes) || strings.Contains(known, "handshake") {
				return false
			}
		}
		return true
	})
	for n, node := range c.nodes[masters:] {
		do(node, "cluster", "replicate", c.nodes[n].id)
	}
	c.untilWhole(t)
	return c
}

// untilWhole waits until each node serves, and each replica follows.
func (c *cluster) untilWhole(t *testing.T) {
	t.Helper()
	eventually(t, "the Cluster is whole", func() bool {
		for n, node := range c.nodes {
			info, err := node.Client.ClusterInfo(context.Background()).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") ||
				!strings.Contains(info, fmt.Sprintf("cluster_size:%d\r\n", masters)) || !strings.Contains(info, fmt.Sprintf("cluster_slots_ok:%d\r\n", slots)) {
				return false
			}
			role := node.info("role")
			if (role == "master") != (c.master[n%masters] == n) || role == "slave" && node.info("master_link_status") != "up" {
				return false
			}
		}
		return true
	})
}

// slot of a partition, as the Cluster itself computes it.
func (c *cluster) slot(tag string) int {
	n, _ := c.nodes[0].Client.ClusterKeySlot(context.Background(), "{"+tag+"}").Result()
	return int(n)
}

// third is where the slots of a partition lie.
func (c *cluster) third(slot int) int {
	for n := range masters {
		if slot < (n+1)*slots/masters {
			return n
		}
	}
	panic("no such slot")
}

// tagIn is a partition whose slot lies in a third of all.
func (c *cluster) tagIn(third int) string {
	for p := range partition.ID(partition.Count) {
		if c.third(c.slot(p.Tag())) == third {
			return p.Tag()
		}
	}
	panic("a master without partitions")
}

// masterKilled: its replica takes its place, without what it had not heard of.
func masterKilled(f *fault) {
	c := f.d.redis.(*cluster)
	f.again(func() {
		f.tidy()
		third := f.rnd.IntN(masters)
		old := c.master[third]
		heir := (old + masters) % (2 * masters)
		l := loss{where: c.in(third)}
		l.savedFrom = c.nodes[old].settled(f, c.tagIn(third))
		l.backFrom = time.Now()
		c.nodes[old].Kill()
		l.savedUntil = time.Now()
		f.since = l.backFrom
		eventually(f.t, "the replica is the master", func() bool { return c.nodes[heir].info("role") == "master" })
		l.backUntil = time.Now()
		f.d.record.lost(l)
		c.master[third] = heir
		f.later = func() {
			c.nodes[old].Restart()
			c.untilWhole(f.t)
		}
	})
}

// in tells which partitions lie in a third of the slots.
func (c *cluster) in(third int) func(tag string) bool {
	there := map[string]bool{}
	for p := range partition.ID(partition.Count) {
		there[p.Tag()] = c.third(c.slot(p.Tag())) == third
	}
	return func(tag string) bool { return there[tag] }
}

// masterReplaced is what an operator does before maintenance. Nothing may be
// lost.
func masterReplaced(f *fault) {
	c := f.d.redis.(*cluster)
	f.again(func() {
		third := f.rnd.IntN(masters)
		heir := (c.master[third] + masters) % (2 * masters)
		var asked time.Time
		eventually(f.t, "the replica is the master", func() bool {
			// On a busy machine it gives up after five seconds.
			if time.Since(asked) > 6*time.Second {
				asked = time.Now()
				if err := c.nodes[heir].Client.ClusterFailover(context.Background()).Err(); err != nil {
					f.t.Log(err)
				}
			}
			return c.nodes[heir].info("role") == "master"
		})
		c.master[third] = heir
		c.untilWhole(f.t)
		time.Sleep(f.short(500 * time.Millisecond))
	})
}

// slotMoved moves partitions to other masters, with the keys in them and under
// load.
func slotMoved(f *fault) {
	c := f.d.redis.(*cluster)
	ctx := context.Background()
	moved := 0
	f.again(func() {
		p := partition.ID(moved % partition.Count)
		slot := c.slot(p.Tag())
		owner := -1
		for _, n := range c.master {
			if keys, err := c.nodes[n].Client.ClusterCountKeysInSlot(ctx, slot).Result(); err == nil && keys > 0 {
				owner = n
			}
		}
		if owner < 0 {
			f.t.Fatalf("nobody has the keys of partition %s", p.Tag())
		}
		target := c.master[f.rnd.IntN(masters)]
		for target == owner {
			target = c.master[f.rnd.IntN(masters)]
		}
		c.move(f, slot, c.nodes[owner], c.nodes[target])
		moved++
	})
	f.happened("a slot was moved", moved > 0)
}

func (c *cluster) move(f *fault, slot int, from, to *guarded) {
	ctx := context.Background()
	do := func(n *guarded, args ...any) {
		if err := n.Client.Do(ctx, args...).Err(); err != nil {
			f.t.Errorf("%v: %v", args, err)
		}
	}
	do(to, "cluster", "setslot", slot, "importing", from.id)
	do(from, "cluster", "setslot", slot, "migrating", to.id)
	host, port, _ := net.SplitHostPort(to.Addr)
	for {
		// A few at a time, so that for a while some keys of a user are here and
		// some there.
		keys, err := from.Client.ClusterGetKeysInSlot(ctx, slot, 4).Result()
		if err != nil {
			f.t.Errorf("keys in slot: %v", err)
			return
		}
		if len(keys) == 0 {
			break
		}
		args := []any{"migrate", host, port, "", 0, 5000, "keys"}
		for _, k := range keys {
			args = append(args, k)
		}
		do(from, args...)
		time.Sleep(time.Duration(f.rnd.Int64N(int64(10 * time.Millisecond))))
	}
	do(to, "cluster", "setslot", slot, "node", to.id)
	do(from, "cluster", "setslot", slot, "node", to.id)
	for _, n := range c.master {
		if node := c.nodes[n]; node != from && node != to {
			do(node, "cluster", "setslot", slot, "node", to.id)
		}
	}
}
