// Package soak_test keeps the program under load for long, and looks for what grows.
//
//	go test ./tests/soak                                  # seconds: what leaks fast
//	go test ./tests/soak -v -soak 10m -timeout 30m        # before a release
//	go test ./tests/soak -v -soak 1h -timeout 2h
//
// The program is the one that is shipped, as a process of its own. The load is twice
// a usual peak, that of ten thousand people who refresh every five minutes: see
// load_test.go. Lifetimes are short, so that sessions also end by themselves.
//
// What is looked at, and how. File descriptors, memory and threads are those that
// Linux shows of the process (/proc). The program has no route that shows its
// goroutines and its heap, so the runtime is asked to write them to standard error:
// GODEBUG=schedtrace lists all goroutines every so often, gctrace says how many
// MB were live after each collection, in whole MB. In Redis every key is counted by its
// kind, and its time to live is held against what docs/redis-keys.md promises. What
// an instance remembers of revocations is what it tells a reader who has just come.
//
// Row 59 asks for three things: nothing grows while the load is steady (the last
// third of the samples against the first, after the warm-up), everything comes back
// when the load has gone, and Redis is as before when all lifetimes have passed. The
// bounds stand beside the checks. A short run asks only for the last two: it finds what
// leaks with each request, and keys that never expire. From five minutes on, trends are
// judged, and the test waits at its end until what was revoked is forgotten. A leak
// of a hundred bytes a request takes the hour.
package soak_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/program"
)

var (
	soakFor = flag.Duration("soak", 5*time.Second, "how long the load lasts")
	scale   = flag.Float64("soak.scale", 1, "how many times twice a usual peak it is")
)

func TestMain(m *testing.M) { program.Main(m) }

// The lifetimes of the clients. Revocations are kept for the access token's, 75
// seconds more, and until the minute in which they are swept is over.
const (
	access, idle, absolute = 10 * time.Second, 30 * time.Second, 90 * time.Second
	grace                  = 75 * time.Second
	forgotten              = access + grace + time.Minute

	clientsFile = `clients:
  - id: app
    type: public
    lifetimes: {access: 10s, idle: 30s, absolute: 90s}
    session_limit: 500
  - id: page
    type: public
    transport: cookie
    retry_window: 5s
    lifetimes: {access: 10s, idle: 30s, absolute: 90s}
    session_limit: 3
  - id: shop
    type: confidential
    secret: sha256:%s
    may_start_sessions: true
    may_introspect: true
    may_follow_revocations: true
    lifetimes: {access: 10s, idle: 30s, absolute: 90s}
`
	shopSecret = "the secret of a shop, which is long enough 4711"
	password   = "a password of some length"
)

// Row 59: under steady load at twice the peak nothing grows, and afterwards
// everything is as it was.
func TestRow59SoakAtTwiceThePeak(t *testing.T) {
	long := *soakFor >= 5*time.Minute
	needed := *soakFor + time.Minute
	if long {
		needed += forgotten + time.Minute
	}
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < needed {
		t.Fatalf("-timeout must be more than %v", needed)
	}
	every := max(*soakFor/60, 500*time.Millisecond)

	folder := t.TempDir()
	file := filepath.Join(folder, "clients.yaml")
	hash := sha256.Sum256([]byte(shopSecret))
	text := fmt.Sprintf(clientsFile, base64.RawURLEncoding.EncodeToString(hash[:]))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := redistest.Redis(t)
	p := program.Start(t, program.Settings(s,
		"AUTHAPI_CLIENTS_FILE="+file, "AUTHAPI_TRUSTED_PROXIES=127.0.0.0/8",
		fmt.Sprintf("GODEBUG=gctrace=1,schedtrace=%d,scheddetail=1", min(every, 5*time.Second).Milliseconds())))
	l := newLoad(t, p.URL)
	for _, name := range slices.Concat(appUsers, pageUsers) {
		p.AddUser(name, password)
	}
	w := &watcher{t: t, p: p, s: s, l: l}

	// Pools, caches and the hashing's memory have been used once before the level
	// is taken that everything is held against afterwards.
	l.run(min(2*time.Second, *soakFor))
	w.collect()
	before := w.settled(nil)
	t.Logf("before: %s", before)

	var during []sample
	started := time.Now()
	stop := l.start()
	for next := started.Add(every); time.Since(started) < *soakFor; next = next.Add(every) {
		time.Sleep(time.Until(next))
		// What a password takes while it is hashed, 19 MiB, is as much as all the rest.
		// Where the processes for that are not let run, the service hashes. Logins wait
		// for a second then, and come together.
		if long {
			l.withoutPasswords(w.collect)
		}
		x := w.sample()
		during = append(during, x)
		t.Logf("%6.0fs: %s", time.Since(started).Seconds(), x)
	}
	stop()
	w.auditKeys()
	l.report(time.Since(started), long)

	// The sessions that were begun in the first seconds have to have ended, and
	// what was revoked in them must be forgotten, before anything can be steady.
	if long {
		warm := max(*soakFor/4, forgotten)
		w.trends(during[min(len(during)-1, int(warm/every)):])
		t.Logf("waiting for %v until all that was revoked is forgotten", forgotten+10*time.Second)
		time.Sleep(forgotten + 10*time.Second)
	}
	w.collect()
	after := w.settled(&before)
	t.Logf("after: %s", after)
	w.compare(before, after, long)

	w.expireAll(before)
	p.Stop()
}

// bound says how much more the last third may be than the first.
type bound struct {
	name   string
	of     func(sample) float64
	factor float64
	plus   float64
	least  bool    // compare the least in each third, not the mean
	most   float64 // up to this it may grow: it is a pool's size
}

const mib = 1 << 20

// poolSize is how many connections to Redis the service may have, and some that are
// not requests'. It needs more of them when the machine is slow.
var poolSize = float64(max(32, 16*runtime.GOMAXPROCS(0)) + 2)

func trendBounds() []bound {
	kind := func(k string) func(sample) float64 {
		return func(x sample) float64 { return float64(x.keys[k]) }
	}
	return []bound{
		// Readers and connections come and go at random: some are always there.
		{name: "goroutines", of: func(x sample) float64 { return float64(x.goroutines) }, factor: 1.15, plus: 30},
		{name: "descriptors", of: func(x sample) float64 { return float64(x.files) }, factor: 1.15, plus: 20},
		// The runtime keeps each thread that it has once needed.
		{name: "threads", of: func(x sample) float64 { return float64(x.threads) }, factor: 1, plus: 8},
		{name: "heap, but for what is remembered", of: func(x sample) float64 { return float64(x.heap - x.remembered()) }, factor: 1, plus: 3 * mib, least: true},
		{name: "memory", of: func(x sample) float64 { return float64(x.rss) }, factor: 1, plus: 32 * mib},
		{name: "connections to Redis", of: func(x sample) float64 { return float64(x.toRedis) }, factor: 1, plus: 5, most: poolSize},
		{name: "live sessions", of: kind("session"), factor: 1.2, plus: 50},
		{name: "indexes of users", of: kind("user"), factor: 1.2, plus: 50},
		{name: "denials", of: kind("deny"), factor: 1.2, plus: 50},
		{name: "denials that an instance knows", of: func(x sample) float64 { return float64(x.denials) }, factor: 1.3, plus: 150},
	}
}

// trends compares the first third of the samples with the last.
func (w *watcher) trends(steady []sample) {
	w.t.Helper()
	third := max(1, len(steady)/3)
	first, last := steady[:third], steady[len(steady)-third:]
	for _, b := range trendBounds() {
		middle := mean
		if b.least {
			middle = least
		}
		was, is := middle(first, b.of), middle(last, b.of)
		w.t.Logf("trend of %s: %s, then %s", b.name, number(was), number(is))
		if is > max(was*b.factor+b.plus, b.most) {
			w.t.Errorf("%s grow under steady load: %s in the first third, %s in the last", b.name, number(was), number(is))
		}
	}
	// Tombstones lie for a day and the feed for an hour, so the memory of Redis grows by
	// what has ended, and by nothing else.
	a, z := steady[0], steady[len(steady)-1]
	ended := max(1, z.keys["tombstone"]-a.keys["tombstone"])
	growth := z.redisMemory - a.redisMemory
	w.t.Logf("Redis: %d tombstones more, %s more, %d bytes for each", ended, number(float64(growth)), growth/int64(ended))
	if limit := int64(ended)*1000 + 4*mib; growth > limit {
		w.t.Errorf("the memory of Redis has grown by %d bytes for %d tombstones", growth, ended)
	}
}

// compare holds the level after the load against that before.
func (w *watcher) compare(before, after sample, long bool) {
	w.t.Helper()
	// In a short run garbage of the load is still revoked, cached or pooled.
	heap := 8 * int64(mib)
	if long {
		heap = 3 * mib
	}
	for _, c := range []struct {
		name            string
		was, is, atMost int64
	}{
		{"goroutines", int64(before.goroutines), int64(after.goroutines), int64(before.goroutines + 5)},
		{"descriptors", int64(before.files), int64(after.files), int64(before.files + 2)},
		{"threads", int64(before.threads), int64(after.threads), int64(before.threads + 12)},
		{"heap, but for what is remembered", before.heap - before.remembered(), after.heap - after.remembered(), before.heap - before.remembered() + heap},
		{"memory", before.rss, after.rss, before.rss + 48*mib + 2*after.remembered()}, // the heap may double before it is collected
	} {
		if c.is > c.atMost {
			w.t.Errorf("%s after the load: %d, before it %d, want at most %d", c.name, c.is, c.was, c.atMost)
		}
	}
	if long && after.denials > 0 {
		w.t.Errorf("%d denials are told to new readers although all have expired", after.denials)
	}
}

func mean(samples []sample, of func(sample) float64) float64 {
	sum := 0.0
	for _, x := range samples {
		sum += of(x)
	}
	return sum / float64(len(samples))
}

func least(samples []sample, of func(sample) float64) float64 {
	x := of(samples[0])
	for _, s := range samples {
		x = min(x, of(s))
	}
	return x
}

func number(x float64) string {
	if x >= 10*mib || x <= -10*mib {
		return fmt.Sprintf("%.1f MiB", x/mib)
	}
	return fmt.Sprintf("%.0f", x)
}

func sorted(m map[string]int) string {
	var out []byte
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = fmt.Appendf(out, "%s %d, ", k, m[k])
	}
	return string(out[:max(0, len(out)-2)])
}

func object(fields ...any) string {
	m := map[string]any{}
	for i := 0; i < len(fields); i += 2 {
		m[fields[i].(string)] = fields[i+1]
	}
	text, _ := json.Marshal(m)
	return string(text)
}
