package soak_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/program"
	"github.com/authapi/authapi/verify"
)

// sample is what the process and Redis look like at one moment.
type sample struct {
	goroutines int
	heap       int64 // live after the last collection
	verified   int64 // access tokens that were used until then
	revoked    int64 // sessions that ended in the hour before
	files      int   // but not the connections to Redis
	toRedis    int
	threads    int
	rss        int64

	keys        map[string]int // by kind
	redisMemory int64
	denials     int // that a new reader is told
}

func (x sample) String() string {
	return fmt.Sprintf("goroutines %d, heap %d MB, descriptors %d + %d to Redis, threads %d, RSS %.1f MiB; Redis %.2f MiB, keys: %s; %d denials known",
		x.goroutines, x.heap>>20, x.files, x.toRedis, x.threads, float64(x.rss)/mib, float64(x.redisMemory)/mib, sorted(x.keys), x.denials)
}

type watcher struct {
	t *testing.T
	p *program.Program
	s *redistest.Server
	l *load

	offset    int64
	rest      string // of the log: a list of goroutines that is not complete yet
	lists     int    // of goroutines that were read
	routines  int
	heap      int64
	collected int
	ended     []endedBy // by when
}

func (w *watcher) sample() sample {
	w.t.Helper()
	w.readTraces()
	x := sample{goroutines: w.routines, heap: w.heap, verified: w.l.verified.Load()}
	x.files, x.toRedis = w.files()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.p.PID))
	if err != nil {
		w.t.Fatal(err)
	}
	x.rss = field(w.t, string(status), "VmRSS:") << 10
	x.threads = int(field(w.t, string(status), "Threads:"))
	info, err := w.s.Client.Info(w.t.Context(), "memory").Result()
	if err != nil {
		w.t.Fatal(err)
	}
	x.redisMemory = field(w.t, info, "used_memory:")
	x.keys = w.kinds(nil)
	x.revoked = w.lastHour(int64(x.keys["tombstone"]))
	x.denials = w.denials()
	return x
}

// field is the number behind a name that opens a line.
func field(t *testing.T, text, name string) int64 {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %q in %q", name, text)
	return 0
}

var (
	// The runtime writes a line in pieces, between which lines of the log may come.
	logLine   = regexp.MustCompile(`\{"time":.*\}\n`)
	goroutine = regexp.MustCompile(`(?m)^  G\d+: status=(\d+)\(`)
	gcLine    = regexp.MustCompile(`(?m)^gc \d+ @.* \d+->\d+->(\d+) MB,`)
)

const dead = "6" // the status of a goroutine that has ended and may be used again

// remembered is about what the program remembers, up to a size that it does not
// exceed. The access tokens that it has verified (package verify) have 4,096 sets of
// four places, which a token finds at random, so they fill up ever more slowly. The
// revocations of an hour (package journal) take an hour until they are all there.
func (x sample) remembered() int64 {
	const sets, places, token, revocation = 4096, 4, 1300, 180
	// How many of a set's places are taken: at most all, when so many tokens have
	// come that fall into it as Poisson says.
	each := float64(x.verified) / sets
	taken, p, rest := 0.0, math.Exp(-each), 1.0
	for n := range places {
		taken += float64(n) * p
		rest -= p
		p *= each / float64(n+1)
	}
	taken += places * rest
	return int64(sets*taken*token) + x.revoked*revocation
}

// lastHour takes note of how many sessions have ended, and returns how many of them
// have in the last hour.
func (w *watcher) lastHour(ended int64) int64 {
	now := time.Now()
	w.ended = append(w.ended, endedBy{now, ended})
	for len(w.ended) > 1 && now.Sub(w.ended[1].at) > time.Hour {
		w.ended = w.ended[1:]
	}
	return ended - w.ended[0].sessions
}

type endedBy struct {
	at       time.Time
	sessions int64
}

// readTraces reads what the runtime has written since the last time.
func (w *watcher) readTraces() {
	text, next := w.p.LogFrom(w.offset)
	w.offset = next
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		w.offset -= int64(len(text) - i - 1)
		text = text[:i+1]
	}
	text = logLine.ReplaceAllString(text, "")
	for _, m := range gcLine.FindAllStringSubmatch(text, -1) {
		mb, _ := strconv.ParseInt(m[1], 10, 64)
		w.heap = mb << 20
		w.collected++
	}
	lists := strings.Split("\n"+w.rest+text, "\nSCHED ")
	w.rest = "SCHED " + lists[len(lists)-1]
	for _, list := range lists[1:max(1, len(lists)-1)] {
		n := 0
		for _, g := range goroutine.FindAllStringSubmatch(list, -1) {
			if g[1] != dead {
				n++
			}
		}
		if n > 0 {
			w.routines = n
			w.lists++
		}
	}
}

// files counts open descriptors. The connections to Redis are the Unix sockets; there
// are as many as were needed at once, up to the pool's size.
func (w *watcher) files() (files, toRedis int) {
	w.t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", w.p.PID))
	if err != nil {
		w.t.Fatal(err)
	}
	unix := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) >= 7 {
			unix["socket:["+f[6]+"]"] = true
		}
	}
	folder := fmt.Sprintf("/proc/%d/fd", w.p.PID)
	entries, err := os.ReadDir(folder)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(folder, e.Name()))
		switch {
		case err != nil: // closed meanwhile
		case unix[target]:
			toRedis++
		default:
			files++
		}
	}
	return files, toRedis
}

// collect makes the program collect its garbage twice: what is asked for here leaves
// nothing behind but garbage.
func (w *watcher) collect() {
	w.t.Helper()
	w.readTraces()
	from := w.collected
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(2 * time.Minute); w.collected < from+3; w.readTraces() {
		if time.Now().After(deadline) {
			w.t.Error("no garbage is collected")
			return
		}
		for range 50 {
			res, err := client.Get(w.p.URL + "/healthz")
			if err != nil {
				w.t.Error(err)
				return
			}
			res.Body.Close()
		}
	}
}

// settled waits until nobody is connected, and what the program does for connections
// has ended. With a level to come back to, it waits for that, but not for ever.
func (w *watcher) settled(level *sample) sample {
	w.t.Helper()
	w.l.client.CloseIdleConnections()
	var last, x sample
	w.readTraces()
	lists := w.lists
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		if w.readTraces(); w.lists < lists+2 { // the first may be from before
			continue
		}
		lists = w.lists
		last, x = x, w.sample()
		back := level == nil || x.files <= level.files && x.goroutines <= level.goroutines+2
		if back && x.files == last.files && x.goroutines <= last.goroutines {
			break
		}
	}
	return x
}

// denials asks as a reader who has just come how much an instance remembers.
func (w *watcher) denials() int {
	w.t.Helper()
	remote, err := verify.NewRemote(verify.RemoteConfig{URL: w.p.URL + "/revocations", ClientID: "shop", ClientSecret: shopSecret})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	var told, rounds atomic.Int64
	remote.Follow(ctx,
		func(string, string, time.Time) { told.Add(1) },
		func(partition int, _ time.Duration) {
			// What there was comes before the first sign of life.
			if partition == 0 && rounds.Add(1) >= 2 {
				cancel()
			}
		},
		func(err error) { w.t.Logf("revocations: %v", err) })
	if rounds.Load() < 2 {
		w.t.Error("GET /revocations gives no signs of life")
	}
	return int(told.Load())
}

// lives is how long a key of a kind may live, with a second for rounding; 0: for ever. It is
// docs/redis-keys.md for the lifetimes here.
var lives = map[string]time.Duration{
	"session":   idle,
	"tombstone": 24 * time.Hour,
	"user":      absolute,
	"deny":      access + grace + time.Second,
	"feed":      time.Hour + 75*time.Second,
	"beat":      10 * time.Second,
	"tries":     24 * time.Hour,
	"account":   0,
	"name":      0,
	"keyring":   0,
}

// kinds counts the keys by kind. Each is shown with its time to live.
func (w *watcher) kinds(show func(kind, name string, ttl time.Duration)) map[string]int {
	w.t.Helper()
	ctx := w.t.Context()
	kinds := map[string]int{}
	var cursor uint64
	for {
		names, next, err := w.s.Client.Scan(ctx, cursor, w.s.Prefix+":*", 1000).Result()
		if err != nil {
			w.t.Fatal(err)
		}
		ended := make([]*redis.BoolCmd, len(names))
		ttls := make([]*redis.DurationCmd, len(names))
		_, err = w.s.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, name := range names {
				ttls[i] = p.PTTL(ctx, name)
				if strings.Contains(name, ":session:") {
					ended[i] = p.HExists(ctx, name, "end")
				}
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		for i, name := range names {
			parts := strings.SplitN(strings.TrimPrefix(name, w.s.Prefix+":"), ":", 3)
			kind := parts[0]
			if strings.HasPrefix(kind, "{") && len(parts) > 1 {
				kind = parts[1]
			}
			ttl := ttls[i].Val()
			if ttl == -2 { // expired meanwhile
				continue
			}
			if ended[i] != nil && ended[i].Val() {
				kind = "tombstone"
			}
			kinds[kind]++
			if show != nil {
				show(kind, name, ttl)
			}
		}
		if cursor = next; cursor == 0 {
			return kinds
		}
	}
}

// auditKeys holds each key against what is promised of its kind.
func (w *watcher) auditKeys() {
	w.t.Helper()
	wrong := map[string]int{}
	w.kinds(func(kind, name string, ttl time.Duration) {
		most, known := lives[kind]
		complaint := ""
		switch {
		case !known:
			complaint = "a key of no known kind"
		case most > 0 && ttl < 0:
			complaint = "a key that never expires"
		case most > 0 && ttl > most+time.Second:
			complaint = fmt.Sprintf("a key that lives for %v, want at most %v", ttl, most)
		case most == 0 && ttl >= 0:
			complaint = fmt.Sprintf("a key that ends in %v and should not", ttl)
		}
		if complaint == "" {
			return
		}
		if wrong[kind]++; wrong[kind] <= 3 {
			w.t.Errorf("%s: %s", complaint, name)
		}
	})
	if len(wrong) > 0 {
		w.t.Errorf("keys that break the promise: %s", sorted(wrong))
	}
}

// expireAll lets Redis's clock pass all lifetimes. What is left then is left for ever.
func (w *watcher) expireAll(before sample) {
	w.t.Helper()
	w.s.Advance(25 * time.Hour)
	var kinds map[string]int
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		kinds = w.kinds(nil)
		delete(kinds, "beat")
		if len(kinds) == 3 {
			break
		}
	}
	w.t.Logf("after 25 hours: %s", sorted(kinds))
	for kind, n := range kinds {
		if most := before.keys[kind]; lives[kind] > 0 || n != most {
			w.t.Errorf("after 25 hours there are %d keys of the kind %s, before the load %d", n, kind, most)
		}
	}
	info, err := w.s.Client.Info(w.t.Context(), "memory").Result()
	if err != nil {
		w.t.Fatal(err)
	}
	// Buffers of clients and the tables of keys shrink later.
	is := field(w.t, info, "used_memory:")
	w.t.Logf("memory of Redis: %s before, %s now", number(float64(before.redisMemory)), number(float64(is)))
	if is > before.redisMemory+3*mib {
		w.t.Errorf("Redis holds %d bytes when all has expired, before the load %d", is, before.redisMemory)
	}
}
