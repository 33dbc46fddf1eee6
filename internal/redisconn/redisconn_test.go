package redisconn_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/redis/go-redis/v9"
)

func TestOpenDetectsMode(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		urls := []string{s.URL}
		if s.Name == "cluster" {
			urls = append(urls, "redis://"+s.Addrs()[1], "redis://"+s.Addrs()[1]+"/0")
		}
		for _, rawURL := range urls {
			client := open(t, rawURL, redisconn.Options{})
			if _, isCluster := client.(*redis.ClusterClient); isCluster != (s.Name == "cluster") {
				t.Errorf("Open(%s) made a %T", rawURL, client)
			}
			// Keys in several slots: on a Cluster they lie on all masters.
			for _, key := range []string{"a", "b", "c", "d", "e"} {
				if err := client.Set(t.Context(), s.Prefix+key, key, time.Minute).Err(); err != nil {
					t.Errorf("SET through %s: %v", rawURL, err)
				}
			}
		}
	})
}

func TestOpenUsesTheDatabase(t *testing.T) {
	s := redistest.Redis(t)
	client := open(t, strings.Replace(s.URL, "db=0", "db=3", 1), redisconn.Options{})
	if err := client.Set(t.Context(), s.Prefix, "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n := s.Client.Exists(t.Context(), s.Prefix).Val(); n != 0 {
		t.Error("the key is in database 0")
	}
	_, err := redisconn.Open(t.Context(), strings.Replace(s.URL, "db=0", "db=9999", 1), redisconn.Options{})
	if err == nil {
		t.Error("a database that does not exist was accepted")
	}
}

func TestOpenRefusesWrongTopology(t *testing.T) {
	a, b := redistest.Miniredis(t), redistest.Miniredis(t)
	_, err := redisconn.Open(t.Context(), "redis://"+a.Addrs()[0]+","+b.Addrs()[0], redisconn.Options{})
	if !errors.Is(err, redisconn.ErrTopology) || !strings.Contains(err.Error(), "sentinel://") {
		t.Errorf("several hosts without Cluster: %v; want ErrTopology that suggests sentinel://", err)
	}
	_, err = redisconn.Open(t.Context(), "redis://"+redistest.Cluster(t).Addrs()[0]+"/1", redisconn.Options{})
	if !errors.Is(err, redisconn.ErrTopology) {
		t.Errorf("database 1 of a Cluster: %v; want ErrTopology", err)
	}
}

func TestOpenAsksTheOtherHosts(t *testing.T) {
	s := redistest.Cluster(t)
	dead := closedPort(t)
	open(t, "redis://"+dead+","+s.Addrs()[0], redisconn.Options{})
}

func TestDeadPortFailsFast(t *testing.T) {
	for _, rawURL := range []string{
		"redis://" + closedPort(t),
		"rediss://" + closedPort(t),
		"redis://" + closedPort(t) + "," + closedPort(t),
		"unix:///nowhere/redis.sock",
		"sentinel://" + closedPort(t) + "/mymaster",
	} {
		err := within(t, time.Second, func(ctx context.Context) error {
			_, err := redisconn.Open(ctx, rawURL, redisconn.Options{})
			return err
		})
		if !errors.Is(err, redisconn.ErrUnreachable) {
			t.Errorf("%s: %v; want ErrUnreachable", rawURL, err)
		}
	}
}

func TestSilentListenerKeepsBudget(t *testing.T) {
	t.Parallel()
	addr := listen(t).Addr().String() // the kernel accepts, nobody answers
	for _, rawURL := range []string{"redis://" + addr, "rediss://" + addr, "sentinel://" + addr + "/mymaster"} {
		t.Run(rawURL[:strings.Index(rawURL, ":")], func(t *testing.T) {
			t.Parallel()
			err := within(t, limit, func(ctx context.Context) error {
				_, err := redisconn.Open(ctx, rawURL, redisconn.Options{})
				return err
			})
			if !errors.Is(err, redisconn.ErrUnreachable) {
				t.Errorf("%s: %v; want ErrUnreachable", rawURL, err)
			}
		})
	}
}

// limit is what a request may take when it has the whole budget and the
// machine is busy.
const limit = redisconn.Budget + 400*time.Millisecond

// TestTroubleKeepsBudget covers servers that fail behind an open client, at
// different times: what a client asks on its first use (a Cluster's layout, for
// example) must not cost extra.
func TestTroubleKeepsBudget(t *testing.T) {
	use := map[string]func(t *testing.T, client redis.UniversalClient){
		"after Open":    func(*testing.T, redis.UniversalClient) {},
		"after Inspect": func(t *testing.T, client redis.UniversalClient) { inspect(t, client) },
		"after commands": func(t *testing.T, client redis.UniversalClient) {
			for _, key := range []string{"a", "b", "c", "d"} {
				if err := client.Exists(t.Context(), key).Err(); err != nil {
					t.Error(err)
				}
			}
		},
	}
	trouble := map[string]func(*redistest.Server){"hangs": (*redistest.Server).Pause, "dies": (*redistest.Server).Kill}
	start := map[string]func(testing.TB) *redistest.Server{"redis": redistest.Redis, "cluster": redistest.Cluster}

	for startName, start := range start {
		for troubleName, trouble := range trouble {
			for useName, use := range use {
				t.Run(startName+" "+troubleName+" "+useName, func(t *testing.T) {
					t.Parallel()
					s := start(t)
					client := open(t, s.URL, redisconn.Options{})
					use(t, client)
					trouble(s)
					set := func(ctx context.Context) error {
						return client.Set(ctx, s.Prefix, "x", time.Minute).Err()
					}
					// More than there are connections: they wait for each other.
					var group sync.WaitGroup
					for range 100 {
						group.Go(func() {
							if err := within(t, limit, set); err == nil {
								t.Error("SET succeeded")
							}
						})
					}
					group.Wait()
					if troubleName == "hangs" {
						s.Resume()
						if err := within(t, limit, set); err != nil {
							t.Errorf("after the pause: %v", err)
						}
					}
				})
			}
		}
	}
}

func TestFullPoolKeepsBudget(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	client := open(t, s.URL, redisconn.Options{PoolSize: 1})
	done := make(chan struct{})
	go func() {
		defer close(done)
		client.BLPop(context.Background(), 10*time.Second, s.Prefix)
	}()
	for !strings.Contains(s.Client.Info(t.Context(), "clients").Val(), "blocked_clients:1") {
		if t.Context().Err() != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	err := within(t, limit, func(ctx context.Context) error {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Get(ctx, "x").Err() })
		return err
	})
	if err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("a pipeline got a connection beyond PoolSize: %v", err)
	}
	s.Client.LPush(t.Context(), s.Prefix, "x")
	<-done
}

// TestDeadlineIsObeyed: a deadline shorter than the time-outs counts, and the
// time-outs bound a caller whose deadline is far away.
func TestDeadlineIsObeyed(t *testing.T) {
	for startName, start := range map[string]func(testing.TB) *redistest.Server{
		"redis": redistest.Redis, "cluster": redistest.Cluster,
	} {
		t.Run(startName, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			client := open(t, s.URL, redisconn.Options{})
			client.Exists(t.Context(), "x")
			s.Pause()
			for _, c := range []struct{ deadline, limit time.Duration }{
				{100 * time.Millisecond, 400 * time.Millisecond},
				{time.Minute, 5 * time.Second},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				start := time.Now()
				err := client.Exists(ctx, "x").Err()
				cancel()
				if took := time.Since(start); err == nil || took > c.limit {
					t.Errorf("with %v to go: %v after %v, want an error within %v", c.deadline, err, took, c.limit)
				}
			}
		})
	}
}

// TestHangUpsAreRiddenOut: a proxy or a restarting Redis hangs up in the middle
// of a command.
func TestHangUpsAreRiddenOut(t *testing.T) {
	var hangUps atomic.Int32
	addr := fakeServer(t, func(args []string) string {
		switch strings.ToLower(args[0]) {
		case "get":
			if hangUps.Add(-1) >= 0 {
				return ""
			}
			return "+value\r\n"
		case "info":
			return "$0\r\n\r\n"
		default:
			return "-ERR unknown command\r\n"
		}
	})
	client := open(t, "redis://"+addr, redisconn.Options{})
	for n := range int32(4) {
		hangUps.Store(n)
		err := within(t, time.Second, func(ctx context.Context) error { return client.Get(ctx, "x").Err() })
		if err != nil {
			t.Errorf("after %d hang-ups: %v", n, err)
		}
	}
}

// TestServerThatRepeatsArguments is an old server or proxy: its complaint
// about AUTH holds the password.
func TestServerThatRepeatsArguments(t *testing.T) {
	const secret = "correct-horse-battery"
	addr := fakeServer(t, func(args []string) string {
		return "-ERR unknown command '" + args[0] + "', with args beginning with: '" + strings.Join(args[1:], "' '") + "'\r\n"
	})
	var log syncBuffer
	redisconn.SetLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer redisconn.SetLogger(nil)

	for _, rawURL := range []string{
		"redis://user:" + secret + "@" + addr,
		"sentinel://" + addr + "/m?sentinel_password=" + secret,
	} {
		_, err := redisconn.Open(t.Context(), rawURL, redisconn.Options{})
		if err == nil || !strings.Contains(err.Error(), "unknown command") {
			t.Fatalf("got %v; the test does not test what it says", err)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if text := log.String(); !strings.Contains(text, "unknown command") || strings.Contains(text, secret) {
		t.Errorf("want a log that shows the server's complaint but not the password:\n%s", text)
	}
}

func TestSetLogger(t *testing.T) {
	var log syncBuffer
	defer redisconn.SetLogger(nil)
	dial := func() {
		_, err := redisconn.Open(t.Context(), "redis://"+closedPort(t), redisconn.Options{})
		if err == nil {
			t.Fatal("no error")
		}
	}
	redisconn.SetLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	dial()
	if text := log.String(); !strings.Contains(text, "level=DEBUG") || !strings.Contains(text, "failed to dial") {
		t.Errorf("want the failed dial at level debug, got: %s", text)
	}
	before := log.String()
	redisconn.SetLogger(slog.New(slog.NewTextHandler(&log, nil)))
	dial()
	if log.String() != before {
		t.Errorf("logged above level debug: %s", log.String())
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
