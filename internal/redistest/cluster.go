package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	masters    = 3
	totalSlots = 16384

	// Nodes judge each other by the wall clock, which tests move by days. There
	// is no replica that could take over in any case.
	nodeTimeout = 10 * 365 * 24 * time.Hour

	// A test waits this long for the tests before it to leave the Cluster.
	turnTimeout = 2 * time.Minute
)

// cluster is the process's one Cluster. Whoever has put a value into
// clusterTurn may use it, and the variable sharedCluster.
type cluster struct {
	realServers
	admin []*redis.Client // one for each node
}

var (
	clusterTurn   = make(chan struct{}, 1)
	sharedCluster *cluster
)

// Cluster gives a Cluster of three masters, which this process's tests share.
// They take turns: the call waits until the test before has ended. So a test
// can call it once only. After [Server.Kill] the next test gets a new Cluster.
func Cluster(tb testing.TB) *Server {
	tb.Helper()
	needRealRedis(tb)
	if !mainCalled.Load() {
		tb.Fatal("redistest: tests on the Cluster need func TestMain(m *testing.M) { redistest.Main(m) }")
	}
	select {
	case clusterTurn <- struct{}{}:
	case <-time.After(turnTimeout):
		tb.Fatalf("redistest: another test has kept the Cluster for %v (or this one asks for it twice)", turnTimeout)
	}
	tb.Cleanup(func() { <-clusterTurn })
	if sharedCluster == nil {
		c, err := startCluster()
		if err != nil {
			tb.Fatalf("redistest: cluster: %v", err)
		}
		sharedCluster = c
	}
	c := sharedCluster

	var addrs []string
	for _, node := range c.nodes {
		addrs = append(addrs, node.addr)
	}
	s := newServer(tb, "cluster", "redis://"+strings.Join(addrs, ","), addrs, c)
	tb.Cleanup(func() {
		if err := c.leave(s.Prefix); err != nil {
			logs := c.stop()
			sharedCluster = nil
			if !errors.Is(err, errKilled) {
				tb.Errorf("redistest: cluster: %v\n%s", err, logs)
			}
		}
	})
	return s
}

// stopCluster runs after the last test.
func stopCluster() {
	if sharedCluster != nil {
		sharedCluster.stop()
		sharedCluster = nil
	}
}

func startCluster() (*cluster, error) {
	clock, err := newClock()
	if err != nil {
		return nil, err
	}
	c := &cluster{realServers: realServers{clock: clock}}
	c.settled = c.agree
	if err := c.form(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, c.stop())
	}
	return c, nil
}

// form starts the masters and makes them a Cluster.
func (c *cluster) form() error {
	var buses []string
	for range masters {
		bus, err := c.startMaster()
		if err != nil {
			return err
		}
		buses = append(buses, bus)
	}
	ctx := context.Background()
	for i, node := range c.admin {
		first, end := i*totalSlots/masters, (i+1)*totalSlots/masters
		if err := node.Do(ctx, "cluster", "addslotsrange", first, end-1).Err(); err != nil {
			return err
		}
		// Masters that start with the same epoch argue about it at length.
		if err := node.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
	}
	for i, node := range c.admin {
		for j := i + 1; j < masters; j++ {
			host, port, err := net.SplitHostPort(c.nodes[j].addr)
			if err != nil {
				return err
			}
			if err := node.Do(ctx, "cluster", "meet", host, port, buses[j]).Err(); err != nil {
				return err
			}
		}
	}
	if err := c.waitFor(c.introductions); err != nil {
		return err
	}
	// Left alone, the masters wait two seconds by the wall clock before they
	// serve, and tell each other about their slots at leisure. A leap of more
	// than half the node time-out makes them do both at once.
	c.clock.offset.Store((nodeTimeout * 6 / 10).Microseconds())
	defer c.clock.offset.Store(0)
	return c.agree()
}

// startMaster returns the port of the master's Cluster bus.
func (c *cluster) startMaster() (bus string, err error) {
	// A port that is free now may be taken when the server asks for it.
	for range 5 {
		var port string
		if port, bus, err = freePorts(); err != nil {
			return "", err
		}
		var node *process
		node, err = startProcess(c.clock, func(folder string) (string, string, []string) {
			return "tcp", net.JoinHostPort("127.0.0.1", port), forgetful(folder,
				"--port", port,
				"--bind", "127.0.0.1",
				"--repl-diskless-sync-delay", "0",
				"--cluster-enabled", "yes",
				"--cluster-port", bus,
				"--cluster-announce-ip", "127.0.0.1",
				"--cluster-require-full-coverage", "no",
				"--cluster-node-timeout", strconv.FormatInt(nodeTimeout.Milliseconds(), 10))
		})
		if err == nil {
			c.nodes = append(c.nodes, node)
			c.admin = append(c.admin, redis.NewClient(nodeOptions(node.addr)))
			return bus, nil
		}
	}
	return "", err
}

func freePorts() (port, bus string, err error) {
	// Both are held until both are known, or they could be the same.
	a, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer a.Close()
	b, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer b.Close()
	number := func(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) }
	return number(a), number(b), nil
}

// agree waits until every master serves, and knows who has each slot.
func (c *cluster) agree() error { return c.waitFor(c.agreement) }

// waitFor waits until missing finds nothing missing on any master.
func (c *cluster) waitFor(missing func(context.Context, *redis.Client) (string, error)) error {
	deadline := time.Now().Add(startTimeout)
	for _, node := range c.admin {
		for {
			what, err := missing(context.Background(), node)
			if err != nil {
				return err
			}
			if what == "" {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("the masters do not agree after %v:\n%s", startTimeout, what)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}

func (c *cluster) introductions(ctx context.Context, node *redis.Client) (missing string, err error) {
	nodes, err := node.ClusterNodes(ctx).Result()
	if strings.Count(nodes, "\n") == masters && !strings.Contains(nodes, "handshake") {
		return "", err
	}
	return nodes, err
}

func (c *cluster) agreement(ctx context.Context, node *redis.Client) (missing string, err error) {
	info, err := node.ClusterInfo(ctx).Result()
	for _, want := range []string{
		"cluster_state:ok\r\n",
		fmt.Sprintf("cluster_slots_ok:%d\r\n", totalSlots),
		fmt.Sprintf("cluster_known_nodes:%d\r\n", masters),
		fmt.Sprintf("cluster_size:%d\r\n", masters),
	} {
		if !strings.Contains(info, want) {
			return info, err
		}
	}
	return "", err
}

var errKilled = errors.New("the cluster was killed")

// leave undoes what a test did to the Cluster.
func (c *cluster) leave(prefix string) error {
	for _, node := range c.nodes {
		if node.wasKilled() {
			return errKilled
		}
	}
	// The clock goes first: keys that have expired only in the test's time are
	// invisible to SCAN and would come back to life afterwards.
	c.clock.offset.Store(0)
	if err := c.resume(); err != nil {
		return err
	}
	ctx := context.Background()
	for _, node := range c.admin {
		if err := node.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
			return err
		}
		// A test must not profit from the scripts that an earlier one loaded.
		if err := node.ScriptFlush(ctx).Err(); err != nil {
			return err
		}
		for keys := node.Scan(ctx, 0, prefix+"*", 1000).Iterator(); ; {
			if !keys.Next(ctx) {
				if err := keys.Err(); err != nil {
					return err
				}
				break
			}
			if err := node.Unlink(ctx, keys.Val()).Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// stop returns the logs of the masters.
func (c *cluster) stop() (logs string) {
	for _, admin := range c.admin {
		admin.Close()
	}
	for _, node := range c.nodes {
		log, _ := node.stop()
		logs += fmt.Sprintf("master %s:\n%s\n", node.addr, log)
	}
	c.clock.close()
	return logs
}
