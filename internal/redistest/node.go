package redistest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Node is one redis-server, or one Sentinel, on a port of the loopback
// interface: a test says how it is configured, ends it, and starts it again
// with what it has kept. Its methods are for one goroutine at a time; Client is
// safe for concurrent use.
type Node struct {
	// Addr is host:port, the same after a restart.
	Addr string
	// Bus is the port of the Cluster bus, if there is to be one.
	Bus string
	// Folder is where the node keeps what it keeps.
	Folder string
	// Client is the test's own way to the node. It is closed at the test's end.
	Client *redis.Client

	tb    testing.TB
	clock *clock
	args  func(n *Node) []string
	proc  *process
}

// StartNode starts a server. args are added to its command line; they are asked
// for again at each start, and may put files into the node's folder. The first
// may be a configuration file. The port and the folder are given.
func StartNode(tb testing.TB, args func(n *Node) []string) *Node {
	tb.Helper()
	n := &Node{tb: tb, args: args}
	var last string
	clock, proc := startOne(tb, func(clock *clock) (node *process, err error) {
		// A port that is free now may be taken when the server asks for it.
		for range 5 {
			var port string
			if port, n.Bus, err = freePorts(); err != nil {
				return nil, err
			}
			node, err = startProcess(clock, func(folder string) (network, addr string, all []string) {
				n.Addr, n.Folder = net.JoinHostPort("127.0.0.1", port), folder
				return "tcp", n.Addr, n.commandLine()
			})
			if err == nil {
				return node, nil
			}
			last = err.Error()
			if !strings.Contains(last, "in use") && !strings.Contains(last, "belongs to") {
				return nil, err
			}
		}
		return nil, err
	})
	n.clock, n.proc = clock, proc
	n.Client = redis.NewClient(nodeOptions(n.Addr))
	tb.Cleanup(func() { n.Client.Close() })
	return n
}

func (n *Node) commandLine() []string {
	_, port, _ := net.SplitHostPort(n.Addr)
	var file, options []string
	args := n.args(n)
	if len(args) > 0 && !strings.HasPrefix(args[0], "--") {
		file, args = args[:1], args[1:]
	}
	options = append(options, "--port", port, "--bind", "127.0.0.1", "--dir", n.Folder, "--save", "")
	return append(append(file, options...), args...)
}

// Kill ends the server without warning, as SIGKILL does.
func (n *Node) Kill() { n.proc.kill() }

// Restart starts the server again after Kill, on the same port.
func (n *Node) Restart() {
	n.tb.Helper()
	// The port was the node's a moment ago; somebody else's client socket may sit
	// on it.
	var err error
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = n.proc.rerun(n.clock, n.commandLine()...); err == nil {
			return
		}
	}
	log, _ := os.ReadFile(filepath.Join(n.Folder, "log"))
	n.tb.Errorf("redistest: restart %s: %v\n%s", n.Addr, err, log)
}

// Pause stops the server from answering. It still accepts connections, and
// executes what it was sent when it is resumed.
func (n *Node) Pause() {
	n.tb.Helper()
	if err := n.proc.pause(); err != nil {
		n.tb.Errorf("redistest: pause %s: %v", n.Addr, err)
	}
}

// Resume ends a pause.
func (n *Node) Resume() {
	n.tb.Helper()
	if err := n.proc.resume(); err != nil {
		n.tb.Errorf("redistest: resume %s: %v", n.Addr, err)
	}
}

// Advance moves the node's clock by d, or back if d is negative.
func (n *Node) Advance(d time.Duration) { n.clock.offset.Add(d.Microseconds()) }

// Log is what the server has said so far.
func (n *Node) Log() string {
	text, err := os.ReadFile(filepath.Join(n.Folder, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Sprint(err)
	}
	return string(text)
}
