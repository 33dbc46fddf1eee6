package main

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// relocation is an address behind which Redis can become another one, as when a
// name or a virtual address moves in a failover.
type relocation struct {
	addr string

	mu    sync.Mutex
	to    string
	conns []net.Conn
}

func relocate(t *testing.T, s *redistest.Server) *relocation {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relocation{addr: l.Addr().String(), to: s.Addrs()[0]}
	t.Cleanup(func() { l.Close(); r.move(s) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			up, err := net.Dial("tcp", r.to)
			if err != nil {
				conn.Close()
			} else {
				r.conns = append(r.conns, conn, up)
				go func() { _, _ = io.Copy(up, conn) }()
				go func() { _, _ = io.Copy(conn, up) }()
			}
			r.mu.Unlock()
		}
	}()
	return r
}

// move breaks all connections. New ones lead to s.
func (r *relocation) move(s *redistest.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = s.Addrs()[0]
	for _, conn := range r.conns {
		conn.Close()
	}
	r.conns = nil
}

// What is checked at the start is checked when Redis has become another one, too,
// and not half a minute later.
func TestRow37OtherRedisAfterAReconnect(t *testing.T) {
	t.Parallel()
	good, forgets, evicts := redistest.RedisTCP(t), redistest.RedisTCP(t), redistest.RedisTCP(t)
	set := func(s *redistest.Server, name, value string) {
		t.Helper()
		must(t, s.Client.ConfigSet(t.Context(), name, value).Err())
	}
	set(good, "appendonly", "yes")
	set(evicts, "appendonly", "yes")
	set(evicts, "maxmemory-policy", "volatile-ttl")
	at := relocate(t, evicts)
	environ := deployment(good, "AUTHAPI_REDIS_URL=redis://"+at.addr)

	// At the start.
	launch(t, environ).refuses("maxmemory_policy", "volatile-ttl")
	at.move(forgets)
	service := start(t, environ)
	eventually(t, "a warning", func() bool {
		return strings.Contains(service.stderr.String(), "subject=persistence") || strings.Contains(service.stderr.String(), `"subject":"persistence"`)
	})
	service.send("GET", "/readyz").is(t, 200, "")
	service.stop()

	// Later.
	at.move(good)
	service = start(t, environ)
	service.send("GET", "/readyz").is(t, 200, "")
	if said := service.stderr.String(); strings.Contains(said, "persistence") {
		t.Fatalf("warned of nothing: %s", said)
	}
	within := func(what string, is func() bool) {
		t.Helper()
		began := time.Now()
		eventually(t, what, is)
		// Half a minute is the time without a reason.
		if took := time.Since(began); took > inspectEvery/2 {
			t.Errorf("%s: took %v", what, took)
		}
	}
	at.move(evicts)
	within("not ready", func() bool { return service.send("GET", "/readyz").status == 503 })
	within("said why", func() bool {
		return strings.Contains(service.stderr.String(), "no longer keeps the promises") && strings.Contains(service.stderr.String(), "volatile-ttl")
	})
	at.move(good)
	within("ready again", func() bool { return service.send("GET", "/readyz").status == 200 })
	at.move(forgets)
	within("warned", func() bool { return strings.Contains(service.stderr.String(), "persistence") })
	within("ready all the same", func() bool { return service.send("GET", "/readyz").status == 200 })
}

// The commands that end sessions and drop keys wait for replicas as the service
// does, and say so when there are none.
func TestRow34CommandsWaitForReplicas(t *testing.T) {
	t.Parallel()
	s := redistest.RedisTCP(t)
	environ := deployment(s, "AUTHAPI_REVOCATION_REPLICAS=1")
	addAlice(t, environ)
	execute(t, environ, "", "check").says(t, 0, "replicas", "0 connected, and 1 must acknowledge")
	service := start(t, environ)
	eventually(t, "a warning", func() bool { return strings.Contains(service.stderr.String(), "must acknowledge a revocation") })
	service.send("GET", "/readyz").is(t, 200, "")
	tokens := service.login("alice", alicesPassword).is(t, 200, "")
	kid := strings.Fields(strings.Split(execute(t, environ, "", "keys", "list").stdout, "\n")[1])[0] // the oldest signs

	commands := [][]string{{"sessions", "end", "alice"}, {"user", "disable", "alice"}, {"keys", "drop", kid}}
	for _, c := range commands {
		execute(t, environ, "", c...).says(t, 1, "too few replicas")
	}
	service.send("POST", "/logout", refreshBody(tokens.Refresh)).is(t, 503, "temporarily_unavailable")

	redistest.Replicate(t, s.Addrs()[0], redistest.RedisTCP(t))
	eventually(t, "a replica that is connected", func() bool {
		return strings.Contains(execute(t, environ, "", "check").stdout, "1 connected")
	})
	execute(t, environ, "", "sessions", "end", "alice").says(t, 0)
	execute(t, environ, "", "user", "disable", "alice").says(t, 0)
	// It has been dropped by the attempt that was not acknowledged.
	execute(t, environ, "", "keys", "drop", kid).says(t, 1, "verifiers were told")
	service.send("POST", "/logout", refreshBody(tokens.Refresh)).is(t, 204, "")
}
