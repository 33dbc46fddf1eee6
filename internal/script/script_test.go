package script_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/internal/script"
)

func TestMain(m *testing.M) { redistest.Main(m) }

const count = `return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}`

// number runs a script that replies with one.
func number(t *testing.T, sc *script.Script, c redis.Scripter, key string, args ...any) (int, error) {
	t.Helper()
	reply, err := sc.Run(t.Context(), c, []string{key}, args...)
	if err != nil {
		return 0, err
	}
	n, ok := reply[0].(int64)
	if len(reply) != 1 || !ok {
		t.Fatalf("replied %v", reply)
	}
	return int(n), nil
}

func sha(source string) string {
	sum := sha1.Sum([]byte(source))
	return hex.EncodeToString(sum[:])
}

func TestScriptRunsKnownOrNot(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		for name, sc := range map[string]*script.Script{
			"plain":   script.New(count),
			"flagged": script.New(count, script.OnFullRedis),
		} {
			asked := redistest.CommandCount(s.Client)
			key := s.Prefix + ":{x}:" + name
			for i := range 5 {
				before := asked.Total()
				if n, err := number(t, sc, s.Client, key, 2); err != nil || n != 2*(i+1) {
					t.Fatalf("%s, run %d: %d, %v", name, i, n, err)
				}
				if trips := asked.Total() - before; i > 0 && trips != 1 {
					t.Errorf("%s: run %d took %d commands", name, i, trips)
				}
			}
		}
	})
}

func TestErrorsOfScriptsReachTheCaller(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for name, source := range map[string]string{
			"does not compile":      `return redis.call(`,
			"fails":                 `error('my own reason')`,
			"is refused a command":  `return redis.call('NOSUCH')`,
			"speaks of other flags": `error("near '#'")`,
		} {
			for _, options := range [][]script.Option{nil, {script.OnFullRedis}} {
				sc := script.New(source, options...)
				for i := range 2 {
					if v, err := sc.Run(t.Context(), s.Client, []string{s.Prefix}); err == nil {
						t.Errorf("a script that %s gave %v in run %d", name, v, i)
					}
				}
			}
		}
		if _, err := script.New(`error('my own reason')`).Run(t.Context(), s.Client, []string{s.Prefix}); err == nil || !strings.Contains(err.Error(), "my own reason") {
			t.Errorf("got %v", err)
		}
		s.Kill()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := script.New(count, script.OnFullRedis).Run(ctx, s.Client, []string{s.Prefix}, 1); err == nil {
			t.Error("ran without a server")
		}
	})
}

// A reply that does not say whose it is, or says that it is another's, is nobody's.
func TestRow41ReplyToAnotherRequestIsNone(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, reply := range []string{`{ARGV[1], 1}`, `{1, KEYS[1]}`, `{}`, `{{KEYS[1]}}`, `KEYS[1]`, `1`, `false`} {
			got, err := script.New("return "+reply).Run(t.Context(), s.Client, []string{s.Prefix}, s.Prefix+"x")
			if err == nil || got != nil {
				t.Errorf("%s was taken for an answer: %v", reply, got)
			}
			if strings.HasPrefix(reply, "{") && !errors.Is(err, script.ErrReply) {
				t.Errorf("%s: %v", reply, err)
			}
		}
	})
}

func TestRow33ScriptFlushIsNeverSeen(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		const workers, runs = 8, 60
		scripts := []*script.Script{script.New(count), script.New(count, script.OnFullRedis)}
		var stop atomic.Bool
		var flushes atomic.Int64
		var flusher, callers sync.WaitGroup
		flusher.Go(func() {
			for !stop.Load() {
				if err := flush(t.Context(), s.Client); err != nil {
					t.Error(err)
					return
				}
				flushes.Add(1)
			}
		})
		for worker := range workers {
			callers.Go(func() {
				key := fmt.Sprintf("%s:%d", s.Prefix, worker)
				for i := range runs {
					n, err := number(t, scripts[i%2], s.Client, key, 1)
					if err != nil || n != i+1 {
						t.Errorf("run %d: %d, %v", i, n, err)
						return
					}
				}
			})
		}
		callers.Wait()
		stop.Store(true)
		flusher.Wait()
		t.Logf("%d runs during %d flushes", workers*runs, flushes.Load())
	})
}

func flush(ctx context.Context, c redis.UniversalClient) error {
	if cluster, ok := c.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() })
	}
	return c.ScriptFlush(ctx).Err()
}

func TestRow36FlagDecidesWhatRunsOnAFullRedis(t *testing.T) {
	onFull := func(t *testing.T, s *redistest.Server) {
		key := s.Prefix + ":x"
		s.SetFull(true)
		for i := range 2 { // unknown, then known
			if n, err := number(t, script.New(count, script.OnFullRedis), s.Client, key, 1); err != nil || n != i+1 {
				t.Errorf("flagged: %d, %v", n, err)
			}
			if n, err := number(t, script.New(count), s.Client, key, 1); err == nil || !strings.Contains(err.Error(), "OOM") {
				t.Errorf("without the flag: %d, %v", n, err)
			}
		}
	}
	t.Run("redis", func(t *testing.T) { onFull(t, redistest.Redis(t)) })
	t.Run("cluster", func(t *testing.T) { onFull(t, redistest.Cluster(t)) })
}

// A real server that knew the text without the flag could be asked to run it,
// and a revocation would then fail when memory is full.
func TestRealServersAreNeverTaughtTheTextWithoutTheFlag(t *testing.T) {
	embedded, full := redistest.Miniredis(t), redistest.Redis(t)
	sc := script.New(count, script.OnFullRedis)
	run := func(s *redistest.Server) {
		t.Helper()
		if _, err := number(t, sc, s.Client, s.Prefix, 1); err != nil {
			t.Error(err)
		}
	}
	plain, flagged := sha(count), sha(string(script.OnFullRedis)+count)
	known := func(s *redistest.Server, want []bool) {
		t.Helper()
		got, err := s.Client.ScriptExists(t.Context(), plain, flagged).Result()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s knows the plain and the flagged text: %v, %v; want %v", s.Name, got, err, want)
		}
	}
	// The embedded server comes first, and in between: what was learned from it
	// must not be applied to the other.
	for range 3 {
		run(embedded)
		known(embedded, []bool{true, false})
		run(full)
		known(full, []bool{false, true})
		if err := full.Client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		full.SetFull(true)
		run(full)
		full.SetFull(false)
		known(full, []bool{false, true})
	}
	var both sync.WaitGroup
	for range 4 {
		both.Go(func() {
			for range 30 {
				run(embedded)
			}
		})
		both.Go(func() {
			for range 30 {
				run(full)
			}
		})
	}
	both.Wait()
	known(full, []bool{false, true})
}

func TestLostReplyRunsTheScriptAgain(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		client, flaky := s.Flaky(t)
		sc := script.New(`return {KEYS[1], redis.call('SET', KEYS[1], ARGV[1])}`, script.OnFullRedis)
		for _, value := range []string{"a", "b"} { // sent in full, then by its hash
			flaky.LoseReplies(2)
			if _, err := sc.Run(t.Context(), client, []string{s.Prefix}, value); err != nil {
				t.Error(err)
			}
			if got := s.Client.Get(t.Context(), s.Prefix).Val(); got != value {
				t.Errorf("stored %q, want %q", got, value)
			}
		}
		if flaky.Lost() != 4 {
			t.Errorf("%d replies were lost", flaky.Lost())
		}
	})
}
