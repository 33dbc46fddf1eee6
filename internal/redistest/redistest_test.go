package redistest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func TestAdvanceForwardExpiresKeysAndMovesTIME(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		ctx := t.Context()
		short, long := s.Prefix+":short", s.Prefix+":long"
		must(t, s.Client.Set(ctx, short, "x", time.Hour).Err())
		must(t, s.Client.Set(ctx, long, "x", 24*time.Hour).Err())

		before := s.Now()
		s.Advance(59 * time.Minute)
		if n := s.Client.Exists(ctx, short).Val(); n != 1 {
			t.Error("a key expired too early")
		}
		s.Advance(2 * time.Minute)
		if n := s.Client.Exists(ctx, short).Val(); n != 0 {
			t.Error("a key outlived its TTL")
		}
		near(t, "TIME moved by", s.Now().Sub(before), 61*time.Minute)
		near(t, "TTL left", s.Client.PTTL(ctx, long).Val(), 24*time.Hour-61*time.Minute)
	})
}

func TestAdvanceBackwardMovesTIMEBack(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		ctx := t.Context()
		key := s.Prefix + ":key"
		must(t, s.Client.Set(ctx, key, "x", 10*time.Minute).Err())
		before := s.Now()
		s.Advance(-time.Hour - 1500*time.Microsecond)
		near(t, "TIME moved by", s.Now().Sub(before), -time.Hour)
		near(t, "TTL left", s.Client.PTTL(ctx, key).Val(), 70*time.Minute)
		s.Advance(time.Hour)
		near(t, "TTL left", s.Client.PTTL(ctx, key).Val(), 10*time.Minute)
	})
}

func TestScriptsAndStreamsSeeTheMovedClock(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		ctx := t.Context()
		s.Advance(48 * time.Hour)
		key := s.Prefix + ":stream"
		id, err := s.Client.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []string{"a", "b"}}).Result()
		must(t, err)
		millis, err := strconv.ParseInt(strings.Split(id, "-")[0], 10, 64)
		must(t, err)
		near(t, "stream id", time.Until(time.UnixMilli(millis)), 48*time.Hour)
		seconds, err := s.Client.Eval(ctx, `return redis.call('TIME')[1]`, []string{key}).Int64()
		must(t, err)
		near(t, "TIME in a script", time.Until(time.Unix(seconds, 0)), 48*time.Hour)
	})
}

// Nodes of a Cluster watch each other by the clock that tests move.
func TestClusterSurvivesJumpsOfTheClock(t *testing.T) {
	s := redistest.Cluster(t)
	for _, d := range []time.Duration{24 * time.Hour, -24 * time.Hour, 90 * 24 * time.Hour, -180 * 24 * time.Hour} {
		s.Advance(d)
		// Long enough for the nodes to look at each other several times.
		for range 5 {
			writeEverywhere(t, s, s.Client)
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func TestClusterLeavesNothingToTheNextTest(t *testing.T) {
	var first string
	t.Run("first", func(t *testing.T) {
		s := redistest.Cluster(t)
		first = s.Prefix
		writeEverywhere(t, s, s.Client)
		must(t, s.Client.Set(t.Context(), s.Prefix+":brief", "x", time.Minute).Err())
		s.SetFull(true)
		s.Advance(time.Hour)
	})
	t.Run("second", func(t *testing.T) {
		s := redistest.Cluster(t)
		near(t, "clock", time.Until(s.Now()), 0)
		for _, tag := range tags {
			if n := s.Client.Exists(t.Context(), first+":{"+tag+"}").Val(); n != 0 {
				t.Errorf("key in %s is still there", tag)
			}
		}
		if n := s.Client.Exists(t.Context(), first+":brief").Val(); n != 0 {
			t.Error("a key that had expired came back")
		}
		writeEverywhere(t, s, s.Client)
	})
}

func TestClusterIsReplacedAfterKill(t *testing.T) {
	t.Run("kill", func(t *testing.T) {
		s := redistest.Cluster(t)
		s.Kill()
		if err := s.Client.Set(t.Context(), s.Prefix, "x", 0).Err(); err == nil {
			t.Error("a killed cluster answers")
		}
	})
	t.Run("next", func(t *testing.T) {
		s := redistest.Cluster(t)
		writeEverywhere(t, s, s.Client)
	})
}

// The partitions' tags, as in internal/partition.
var tags = strings.Fields("18 5x dj 3r d2 pv uh iy ly h9 uv q6 9s 5f dt ha")

func TestClusterSpreadsPartitionsOverThreeMasters(t *testing.T) {
	s := redistest.Cluster(t)
	writeEverywhere(t, s, s.Client)
	if len(s.Addrs()) != 3 {
		t.Fatalf("addresses: %v", s.Addrs())
	}
	total := 0
	for _, addr := range s.Addrs() {
		node := redis.NewClient(&redis.Options{Addr: addr})
		defer node.Close()
		keys, err := node.Keys(t.Context(), s.Prefix+"*").Result()
		must(t, err)
		if len(keys) < 5 || len(keys) > 6 {
			t.Errorf("%s has %d partitions: %v", addr, len(keys), keys)
		}
		total += len(keys)
	}
	if total != len(tags) {
		t.Errorf("%d partitions in all", total)
	}
}

func TestPrefixesKeepTestsApart(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
			if seen[s.Prefix] || strings.ContainsAny(s.Prefix, "{}*?[]:") {
				t.Errorf("prefix %q", s.Prefix)
			}
			seen[s.Prefix] = true
			must(t, s.Client.Set(t.Context(), s.Prefix+":mine", "x", 0).Err())
			for prefix := range seen {
				want := int64(0)
				if prefix == s.Prefix {
					want = 1
				}
				if n := s.Client.Exists(t.Context(), prefix+":mine").Val(); n != want {
					t.Errorf("keys under %s: %d, want %d", prefix, n, want)
				}
			}
		})
	}
	if len(seen) != 6 {
		t.Errorf("%d prefixes", len(seen))
	}
}

func TestURLReachesTheServer(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		must(t, s.Client.Set(t.Context(), s.Prefix, "here", 0).Err())
		var client redis.UniversalClient
		if hosts, ok := strings.CutPrefix(s.URL, "redis://"); ok && s.Name == "cluster" {
			client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: strings.Split(hosts, ",")})
		} else {
			options, err := redis.ParseURL(s.URL)
			must(t, err)
			client = redis.NewClient(options)
		}
		defer client.Close()
		if got := client.Get(t.Context(), s.Prefix).Val(); got != "here" {
			t.Errorf("%s: got %q", s.URL, got)
		}
	})
}

// Its result tells how often it ran.
const increment = `return redis.call('INCR', KEYS[1])`

func TestFlakyLosesRepliesAfterTheScriptRan(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		ctx := t.Context()
		client, flaky := s.Flaky(t)
		script := redis.NewScript(increment)
		key := s.Prefix + ":n"
		must(t, script.Load(ctx, client).Err())

		flaky.LoseReplies(2)
		n, err := script.EvalSha(ctx, client, []string{key}).Int()
		must(t, err)
		if n != 3 || flaky.Lost() != 2 || flaky.Sent() != 3 {
			t.Errorf("the third run answered %d; lost %d of %d", n, flaky.Lost(), flaky.Sent())
		}
		if n := s.Client.Get(ctx, key).Val(); n != "3" {
			t.Errorf("the script ran %s times", n)
		}
		// Nothing is left over: neither losses nor broken connections.
		n, err = client.Eval(ctx, increment, []string{key}).Int()
		must(t, err)
		if n != 4 || flaky.Lost() != 2 || flaky.Sent() != 4 {
			t.Errorf("afterwards: answered %d; lost %d of %d", n, flaky.Lost(), flaky.Sent())
		}
	})
}

func TestFlakyShowsTheLossWhenRetriesRunOut(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		client, flaky := s.Flaky(t)
		flaky.LoseReplies(1000)
		err := client.Eval(t.Context(), increment, []string{s.Prefix + ":n"}).Err()
		if !errors.Is(err, io.EOF) {
			t.Errorf("error: %v", err)
		}
		runs, _ := s.Client.Get(t.Context(), s.Prefix+":n").Int()
		if runs != flaky.Lost() || runs != flaky.Sent() || runs < 2 {
			t.Errorf("%d runs, %d sent, %d lost", runs, flaky.Sent(), flaky.Lost())
		}
	})
}

func TestFlakyLosesOnlyScriptResults(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		ctx := t.Context()
		client, flaky := s.Flaky(t)
		key := s.Prefix + ":n"
		flaky.LoseReplies(1)
		must(t, client.Set(ctx, key, "0", 0).Err())
		err := client.EvalSha(ctx, strings.Repeat("0", 40), []string{key}).Err()
		if !redis.HasErrorPrefix(err, "NOSCRIPT") {
			t.Errorf("unknown script: %v", err)
		}
		if flaky.Lost() != 0 {
			t.Fatal("lost something that was no script's result")
		}
		// In a pipeline the loss hits the script, wherever it stands.
		pipe := client.Pipeline()
		pipe.Get(ctx, key)
		run := pipe.Eval(ctx, increment, []string{key})
		pipe.Get(ctx, key)
		if _, err := pipe.Exec(ctx); err != nil {
			t.Errorf("the client did not send the pipeline again: %v", err)
		}
		if n, _ := run.Int(); n != 2 || flaky.Lost() != 1 || flaky.Sent() != 1+2 {
			t.Errorf("answered %d; lost %d of %d", n, flaky.Lost(), flaky.Sent())
		}
	})
}

func TestFlakyPassesEverythingElseThrough(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		ctx := t.Context()
		client, flaky := s.Flaky(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				key := fmt.Sprint(s.Prefix, ":", i)
				big := strings.Repeat("0123456789abcdef", 10_000+i) + "\r\n*3\r\n$4\r\nEVAL\r\n"
				for range 10 {
					got, err := client.Eval(ctx, `redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])`,
						[]string{key}, big).Text()
					if err != nil || got != big {
						t.Errorf("%d bytes came back as %d: %v", len(big), len(got), err)
					}
					if err := client.Get(ctx, key+"none").Err(); !errors.Is(err, redis.Nil) {
						t.Errorf("absent key: %v", err)
					}
				}
				client.HSet(ctx, key+"h", "a", "1", "b", "2")
				if h := client.HGetAll(ctx, key+"h").Val(); len(h) != 2 {
					t.Errorf("hash: %v", h)
				}
				_, err := client.XRead(ctx, &redis.XReadArgs{Streams: []string{key + "x"}, ID: "$", Block: 10 * time.Millisecond}).Result()
				if !errors.Is(err, redis.Nil) {
					t.Errorf("XREAD: %v", err)
				}
			})
		}
		wg.Wait()
		if flaky.Sent() != 80 || flaky.Lost() != 0 {
			t.Errorf("sent %d, lost %d", flaky.Sent(), flaky.Lost())
		}
	})
}

func TestCommandCount(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		ctx := t.Context()
		client, flaky := s.Flaky(t)
		must(t, client.Ping(ctx).Err())
		counter := redistest.CommandCount(client)
		key := s.Prefix + ":n"
		must(t, client.Set(ctx, key, "0", 0).Err())
		flaky.LoseReplies(1)
		must(t, client.Eval(ctx, increment, []string{key}).Err())
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Get(ctx, key)
			p.Get(ctx, key)
			return nil
		})
		must(t, err)
		names := counter.Names()
		if counter.Total() != 4 || names["set"] != 1 || names["eval"] != 1 || names["get"] != 2 || len(names) != 3 {
			t.Errorf("total %d: %v", counter.Total(), names)
		}
		if flaky.Sent() != 2 {
			t.Errorf("a command counted once was sent %d times", flaky.Sent())
		}
	})
}

func TestKill(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.Kill()
		s.Kill()
		if err := s.Client.Ping(t.Context()).Err(); err == nil {
			t.Error("a killed server answers")
		}
	})
}

func TestPauseHoldsCommandsBackUntilResume(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		key := s.Prefix + ":n"
		// Otherwise the pause would hold back the connection's set-up.
		must(t, s.Client.Set(t.Context(), key, "0", 0).Err())
		s.Pause()
		s.Pause()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := s.Client.Incr(ctx, key).Err(); err == nil {
			t.Fatal("a paused server answers")
		}
		s.Resume()
		s.Resume()
		deadline := time.Now().Add(5 * time.Second)
		for s.Client.Get(t.Context(), key).Val() != "1" {
			if time.Now().After(deadline) {
				t.Fatal("a command sent during the pause was never executed")
			}
			time.Sleep(time.Millisecond)
		}
	})
}

func TestPausedServerCanBeLeftPausedOrKilled(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) { s.Pause() })
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) { s.Pause(); s.Kill() })
}

func TestFullServer(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		if s.Real() == (s.Name == "miniredis") {
			t.Fatalf("%s: Real() = %v", s.Name, s.Real())
		}
		if !s.Real() {
			return
		}
		s.SetFull(true)
		for _, tag := range tags {
			err := s.Client.Set(t.Context(), s.Prefix+":{"+tag+"}", "x", 0).Err()
			if !redis.HasErrorPrefix(err, "OOM") {
				t.Errorf("%s: %v", tag, err)
			}
		}
		s.SetFull(false)
		writeEverywhere(t, s, s.Client)
	})
}

// What follows runs this test binary again, in a bad way.

func TestMissingProgramsAreLoud(t *testing.T) {
	server, err := exec.LookPath("redis-server")
	if err != nil {
		redistest.Redis(t) // says so and ends the test
	}
	onlyServer := t.TempDir()
	must(t, os.Symlink(server, filepath.Join(onlyServer, "redis-server")))
	for _, test := range []struct {
		path, ci, mention string
		pass              bool
	}{
		{t.TempDir(), "", "redis-server is not installed", true},
		{t.TempDir(), "true", "redis-server is not installed", false},
		{onlyServer, "", "cc is not installed", true},
		{onlyServer, "true", "cc is not installed", false},
	} {
		output, err := rerun(t, "TestURLReachesTheServer", "PATH="+test.path, "CI="+test.ci).CombinedOutput()
		text := string(output)
		if (err == nil) != test.pass {
			t.Errorf("CI=%q: %v\n%s", test.ci, err, text)
		}
		for _, want := range []string{
			"\nNOT TESTED ON REAL REDIS: " + test.mention, "apt-get install",
			"--- PASS: TestURLReachesTheServer/miniredis",
		} {
			if !strings.Contains("\n"+text, want) {
				t.Errorf("CI=%q: no %q in:\n%s", test.ci, want, text)
			}
		}
		if strings.Contains(text, "--- PASS: TestURLReachesTheServer/redis") {
			t.Errorf("passed without a server:\n%s", text)
		}
	}
}

func TestServersDieWithTheTestProcess(t *testing.T) {
	if os.Getenv("REDISTEST_CRASH") != "" {
		for _, s := range []*redistest.Server{redistest.Redis(t), redistest.Cluster(t)} {
			for _, addr := range s.Addrs() {
				node := redis.NewClient(&redis.Options{Addr: addr})
				for line := range strings.Lines(node.Info(t.Context(), "server").Val()) {
					if pid, ok := strings.CutPrefix(line, "process_id:"); ok {
						fmt.Println("\nserver pid", strings.TrimSpace(pid))
					}
				}
			}
		}
		done := make(chan struct{})
		go func() { panic("a crash that no cleanup survives") }()
		<-done
	}
	redistest.Redis(t) // or say why not
	// The crash leaves folders behind. Their path must stay short.
	folder, err := os.MkdirTemp("", "rt")
	must(t, err)
	defer os.RemoveAll(folder)
	output, err := rerun(t, "TestServersDieWithTheTestProcess", "REDISTEST_CRASH=yes", "TMPDIR="+folder).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "panic: a crash") {
		t.Fatalf("did not crash: %v\n%s", err, output)
	}
	pids := 0
	for line := range strings.Lines(string(output)) {
		pid, ok := strings.CutPrefix(strings.TrimSpace(line), "server pid ")
		if !ok {
			continue
		}
		pids++
		deadline := time.Now().Add(5 * time.Second)
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("server %s is still running", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if pids != 4 {
		t.Errorf("%d servers were started:\n%s", pids, output)
	}
}

// alive reports whether the process exists and is more than a zombie that its
// new parent has not fetched yet.
func alive(pid string) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestMainKeepsTheExitCode(t *testing.T) {
	if os.Getenv("REDISTEST_FAIL") != "" {
		t.Fatal("as asked")
	}
	err := rerun(t, "TestMainKeepsTheExitCode", "REDISTEST_FAIL=yes").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("a failed run ended with: %v", err)
	}
}

func rerun(t *testing.T, test string, environment ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.v", "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), environment...)
	return cmd
}

func BenchmarkEval(b *testing.B) {
	for name, start := range map[string]func(testing.TB) *redistest.Server{
		"miniredis": redistest.Miniredis, "redis": redistest.Redis, "cluster": redistest.Cluster,
	} {
		b.Run(name, func(b *testing.B) {
			s := start(b)
			for b.Loop() {
				must(b, s.Client.Eval(b.Context(), increment, []string{s.Prefix}).Err())
			}
		})
	}
}

func writeEverywhere(t *testing.T, s *redistest.Server, client redis.UniversalClient) {
	t.Helper()
	for _, tag := range tags {
		must(t, client.Set(t.Context(), s.Prefix+":{"+tag+"}", "x", 0).Err())
	}
}

// near allows for a real server's clock running on during the test.
func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if diff := got - want; diff.Abs() > 5*time.Second {
		t.Errorf("%s %v, want about %v", what, got, want)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
