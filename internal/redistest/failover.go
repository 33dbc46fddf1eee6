package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// RedisTCP is [Redis] on a port of the loopback interface, so that other
// servers can replicate it, and a [Sentinel] can watch it.
func RedisTCP(tb testing.TB) *Server {
	tb.Helper()
	clock, node := startOne(tb, func(clock *clock) (*process, error) {
		return startOnPort(clock, func(string) []string {
			// Left alone, a primary waits five seconds for more replicas.
			return []string{"--repl-diskless-sync-delay", "0"}
		})
	})
	r := &realServers{clock: clock, nodes: []*process{node}}
	return newServer(tb, "redis", "redis://"+node.addr+"/0", []string{node.addr}, r)
}

// Sentinel starts a Sentinel that knows primary as "mymaster", and promotes one
// of its replicas when it has not answered for the time given. It returns the
// Sentinel's address.
func Sentinel(tb testing.TB, primary *Server, patience time.Duration) (addr string) {
	tb.Helper()
	host, port, err := net.SplitHostPort(primary.addrs[0])
	if err != nil {
		tb.Fatalf("redistest: a Sentinel can watch RedisTCP only: %v", err)
	}
	_, node := startOne(tb, func(clock *clock) (*process, error) {
		return startOnPort(clock, func(folder string) []string {
			// A Sentinel keeps what it knows in its configuration file.
			file := filepath.Join(folder, "sentinel.conf")
			// On a busy machine a failover may fail. The next attempt comes after
			// twice its time-out.
			text := fmt.Sprintf("sentinel monitor mymaster %s %s 1\n"+
				"sentinel down-after-milliseconds mymaster %d\nsentinel failover-timeout mymaster 1500\n",
				host, port, patience.Milliseconds())
			_ = os.WriteFile(file, []byte(text), 0o600) // Without it the Sentinel does not start.
			return []string{file, "--sentinel"}
		})
	})
	return node.addr
}

// startOnPort starts a server on a free port. args may put files into the
// server's folder.
func startOnPort(clock *clock, args func(folder string) []string) (node *process, err error) {
	// A port that is free now may be taken when the server asks for it.
	for range 5 {
		var port string
		if port, _, err = freePorts(); err != nil {
			return nil, err
		}
		node, err = startProcess(clock, func(folder string) (network, addr string, all []string) {
			return "tcp", net.JoinHostPort("127.0.0.1", port), forgetful(folder, append(args(folder), "--port", port, "--bind", "127.0.0.1")...)
		})
		if err == nil {
			return node, nil
		}
	}
	return nil, err
}
