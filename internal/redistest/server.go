package redistest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Server is a Redis, or a Redis Cluster, on which one test runs. Its methods
// are for the test's own goroutine; Client is safe for concurrent use.
type Server struct {
	// Name is "miniredis", "redis" or "cluster".
	Name string
	// Client is connected to the server and closed at the test's end. It may
	// be given hooks: no other test uses it.
	Client redis.UniversalClient
	// URL is redis://host:port/0, unix:///path?db=0 or, for the Cluster,
	// redis://host:port,host:port,host:port.
	URL string
	// Prefix begins the names of the test's keys, and of no other test's. It
	// consists of letters and digits. On the Cluster, only keys under it are
	// removed at the test's end.
	Prefix string

	tb      testing.TB
	addrs   []string
	backend backend
}

// A backend is what differs between the embedded server and real ones.
type backend interface {
	advance(d time.Duration) error
	kill()
	pause() error
	resume() error
	real() bool
}

// Miniredis starts an embedded server, which ends with the test.
func Miniredis(tb testing.TB) *Server {
	tb.Helper()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		tb.Fatalf("redistest: miniredis: %v", err)
	}
	e := &embedded{mini: m, now: time.Now().UTC()}
	m.SetTime(e.now)
	m.Server().SetPreHook(e.gate)
	tb.Cleanup(e.kill)
	return newServer(tb, "miniredis", "redis://"+m.Addr()+"/0", []string{m.Addr()}, e)
}

// Redis starts a redis-server, which ends with the test.
func Redis(tb testing.TB) *Server {
	tb.Helper()
	clock, node := startOne(tb, func(clock *clock) (*process, error) {
		return startProcess(clock, func(folder string) (network, addr string, args []string) {
			socket := filepath.Join(folder, "s")
			return "unix", socket, forgetful(folder, "--port", "0", "--unixsocket", socket)
		})
	})
	r := &realServers{clock: clock, nodes: []*process{node}}
	return newServer(tb, "redis", "unix://"+node.addr+"?db=0", []string{node.addr}, r)
}

// forgetful adds to a command line that nothing is kept over a restart.
func forgetful(folder string, args ...string) []string {
	return append(args, "--dir", folder, "--save", "", "--appendonly", "no")
}

// startOne starts a process with a clock of its own. Both end with the test.
func startOne(tb testing.TB, start func(*clock) (*process, error)) (*clock, *process) {
	tb.Helper()
	needRealRedis(tb)
	clock, err := newClock()
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	tb.Cleanup(clock.close)
	node, err := start(clock)
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	tb.Cleanup(func() {
		if log, died := node.stop(); died {
			tb.Errorf("redistest: redis-server ended before the test did:\n%s", log)
		}
	})
	return clock, node
}

func newServer(tb testing.TB, name, url string, addrs []string, b backend) *Server {
	var random [8]byte
	rand.Read(random[:])
	s := &Server{
		Name:    name,
		URL:     url,
		Prefix:  "t" + hex.EncodeToString(random[:]),
		tb:      tb,
		addrs:   addrs,
		backend: b,
	}
	s.Client = s.connect(tb, nil)
	return s
}

// startTimeout bounds what takes milliseconds unless something is wrong.
const startTimeout = 15 * time.Second

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func (s *Server) connect(tb testing.TB, dial dialer) redis.UniversalClient {
	client := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:                 s.addrs,
		IsClusterMode:         s.Name == "cluster",
		Dialer:                dial,
		DialTimeout:           time.Second,
		DialerRetries:         1,
		ReadTimeout:           2 * time.Second,
		WriteTimeout:          2 * time.Second,
		ContextTimeoutEnabled: true,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})
	tb.Cleanup(func() { client.Close() })
	return client
}

// Addrs returns the addresses of the server's nodes: host:port or the path of
// a Unix socket.
func (s *Server) Addrs() []string { return append([]string(nil), s.addrs...) }

// Real reports whether this is a redis-server, and not the embedded one: it has
// CONFIG and a memory limit, and its time runs.
func (s *Server) Real() bool { return s.backend.real() }

// Now returns the server's time, to the microsecond.
func (s *Server) Now() time.Time {
	s.tb.Helper()
	now, err := s.Client.Time(context.Background()).Result()
	if err != nil {
		s.tb.Fatalf("redistest: TIME: %v", err)
	}
	return now
}

// Advance moves the server's clock by d, to the microsecond, and with it all
// that expires. If d is negative the clock steps back and keys live longer.
func (s *Server) Advance(d time.Duration) {
	s.tb.Helper()
	if err := s.backend.advance(d.Truncate(time.Microsecond)); err != nil {
		s.tb.Fatalf("redistest: advance by %v: %v", d, err)
	}
}

// Kill ends the server without warning. It does not come back.
func (s *Server) Kill() { s.backend.kill() }

// Pause stops the server from answering. It still accepts connections, and
// executes what it was sent when it is resumed, though the client may long have
// given up. The Cluster pauses as a whole.
func (s *Server) Pause() {
	s.tb.Helper()
	if err := s.backend.pause(); err != nil {
		s.tb.Fatalf("redistest: pause: %v", err)
	}
}

// Resume ends a pause. A test need not call it at its end.
func (s *Server) Resume() {
	s.tb.Helper()
	if err := s.backend.resume(); err != nil {
		s.tb.Fatalf("redistest: resume: %v", err)
	}
}

// SetFull makes every node of a real server refuse the writes that need memory
// (OOM), or accept them again. It fails the test on an embedded server, which
// has no memory limit. A test need not set it back.
func (s *Server) SetFull(full bool) {
	s.tb.Helper()
	if !s.Real() {
		s.tb.Fatal("redistest: an embedded server cannot be full; ask Real first")
	}
	limit := "0" // none
	if full {
		limit = "1" // byte, which is less than any server needs
	}
	// A Cluster client would send CONFIG to one node of its choice.
	for _, addr := range s.addrs {
		node := redis.NewClient(nodeOptions(addr))
		err := node.ConfigSet(context.Background(), "maxmemory", limit).Err()
		node.Close()
		if err != nil {
			s.tb.Fatalf("redistest: CONFIG SET maxmemory: %v", err)
		}
	}
}

// nodeOptions are those of the kit's own connections to one node.
func nodeOptions(addr string) *redis.Options {
	return &redis.Options{
		Addr:                     addr,
		DialTimeout:              time.Second,
		ReadTimeout:              5 * time.Second,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

type embedded struct {
	mini *miniredis.Miniredis
	now  time.Time

	paused  bool
	running sync.RWMutex // held for writing during a pause
}

// gate runs before each command.
func (e *embedded) gate(*server.Peer, string, ...string) bool {
	e.running.RLock()
	defer e.running.RUnlock()
	return false
}

func (e *embedded) advance(d time.Duration) error {
	e.now = e.now.Add(d)
	e.mini.SetTime(e.now)
	// The server keeps what is left of each TTL, not its end. A negative
	// duration lengthens it, as a clock that steps back does on a real server.
	e.mini.FastForward(d)
	return nil
}

func (e *embedded) pause() error {
	if !e.paused {
		e.running.Lock()
		e.paused = true
	}
	return nil
}

func (e *embedded) resume() error {
	if e.paused {
		e.paused = false
		e.running.Unlock()
	}
	return nil
}

func (e *embedded) kill() {
	_ = e.resume() // Close waits for the commands that a pause holds back.
	e.mini.Close()
}

func (e *embedded) real() bool { return false }

type realServers struct {
	clock *clock
	nodes []*process
	// settled, if set, waits until the nodes have got over a jump or a pause.
	settled func() error
}

func (r *realServers) advance(d time.Duration) error {
	r.clock.offset.Add(d.Microseconds())
	return r.settle()
}

func (r *realServers) pause() error {
	for _, node := range r.nodes {
		if err := node.pause(); err != nil {
			return err
		}
	}
	return nil
}

func (r *realServers) resume() error {
	for _, node := range r.nodes {
		if err := node.resume(); err != nil {
			return err
		}
	}
	return r.settle()
}

func (r *realServers) kill() {
	for _, node := range r.nodes {
		node.kill()
	}
}

func (r *realServers) settle() error {
	if r.settled == nil {
		return nil
	}
	return r.settled()
}

func (r *realServers) real() bool { return true }
