// Package verification_test holds services that verify access tokens locally
// against what they are promised: a revocation reaches them within a second,
// whether they follow Redis or GET /revocations; they know when it does not;
// and changes of keys refuse nobody whose token is good.
//
// All parts are real: instances of the service on a real Redis, and HTTP
// servers guarded by package verify as its users would set it up. What is cut
// is the line between them.
package verification_test

import (
	"context"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/verify"
)

var (
	cutFor = flag.Duration("cut", 3*time.Second, "how long the feed is cut")
	ids    = flag.Int("ids", 20_000, "how many ids are denied in the test of size")
)

func TestMain(m *testing.M) { redistest.Main(m) }

// deployment is two instances on one Redis.
type deployment struct {
	redis *redistest.Server
	a, b  *service.Service
}

func deploy(t *testing.T, s *redistest.Server, schedule keyring.Schedule) deployment {
	t.Helper()
	return deployment{s, service.Start(t, s, service.Live(schedule), service.Unlimited()), service.Start(t, s, service.Live(schedule), service.Unlimited())}
}

// notes is a service that verifies tokens, as somebody else would write it.
type notes struct {
	*verify.Verifier
	keys *verify.JWKS
	// line is the only way to what it follows. Keys take another way.
	line *line
	url  string
	http *http.Client
}

// routes are the paths of a service, and what each asks for.
var routes = map[string]verify.Policy{
	"/":        {},
	"/accept":  {Otherwise: verify.AcceptUntilExpiry},
	"/patient": {Freshness: time.Minute},
}

func (d deployment) service(t *testing.T, follow func(context.Context, *line) verify.Source, change ...func(*verify.Config)) *notes {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &notes{line: &line{}, http: &http.Client{Timeout: 5 * time.Second}}
	var err error
	n.keys, err = verify.NewJWKS(ctx, verify.JWKSConfig{
		URL: d.a.URL + "/.well-known/jwks.json", Every: 60 * time.Millisecond, Cooldown: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := verify.Config{
		Issuer: service.Issuer, Audience: service.Audience,
		Keys: n.keys, Replica: verify.Follow(ctx, follow(ctx, n.line), nil),
	}
	for _, f := range change {
		f(&c)
	}
	n.Verifier, err = verify.New(c)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, policy := range routes {
		mux.Handle(path, n.Require(policy)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
		})))
	}
	server := httptest.NewServer(mux)
	n.url = server.URL
	t.Cleanup(func() {
		cancel()
		n.line.cut()
		n.http.CloseIdleConnections()
		server.Close()
	})
	eventually(t, 5*time.Second, "the service is ready", func() bool { return n.Ready() == nil })
	return n
}

// overRedis follows the denylist in Redis.
func (d deployment) overRedis(t *testing.T) func(context.Context, *line) verify.Source {
	return func(_ context.Context, l *line) verify.Source {
		return denylist.New(d.client(t, l), d.redis.Prefix)
	}
}

// client is one of the service's own, over a line that can be cut.
func (d deployment) client(t *testing.T, l *line) redis.UniversalClient {
	t.Helper()
	c, err := redisconn.Open(t.Context(), d.redis.URL, redisconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	options := *c.(*redis.Client).Options()
	options.Dialer = l.dial
	client := redis.NewClient(&options)
	t.Cleanup(func() { client.Close() })
	return client
}

// overHTTP follows GET /revocations of the second instance.
func (d deployment) overHTTP(t *testing.T) func(context.Context, *line) verify.Source {
	return func(_ context.Context, l *line) verify.Source {
		r, err := verify.NewRemote(verify.RemoteConfig{
			URL:      d.b.URL + "/revocations",
			ClientID: api.Verifier, ClientSecret: service.VerifierSecret,
			Client: &http.Client{Transport: &http.Transport{DialContext: l.dial}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// ask sends a token to a route and returns the status.
func (n *notes) ask(t testing.TB, path, access string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, n.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+access)
	res, err := n.http.Do(r)
	if err != nil {
		t.Errorf("ask the service: %v", err)
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// line is a network that can be cut and mended.
type line struct {
	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.ErrClosed}
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		l.conns = append(l.conns, conn)
	}
	return conn, err
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

func eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// percentile sorts.
func percentile(of []time.Duration, p int) time.Duration {
	slices.Sort(of)
	return of[min(len(of)-1, len(of)*p/100)].Round(time.Millisecond)
}
