// Package flood_test floods the program with logins while others refresh.
//
// A thousand attackers name invented accounts from invented addresses, so that no
// throttle holds them back, and ask again a second after each answer. That is more
// than ten times what can be hashed. Beside them some sessions are refreshed at a
// steady rate. Quiet times and floods take turns, so that what else the machine
// does hits both.
//
// The attackers are a process of their own, which gives way to everything else: real
// ones would have machines of their own.
//
//	go test ./tests/flood -v -flood.for 20s -flood.ratio 1.5
package flood_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/program"
)

var (
	floodFor = flag.Duration("flood.for", 2*time.Second, "how long each quiet time and each flood lasts")
	rounds   = flag.Int("flood.rounds", 2, "how often they take turns")
	// The machine may be busy with other tests.
	ratio = flag.Float64("flood.ratio", 20, "how many times the quiet p99 of a refresh may be, in the flood")
)

const (
	attackers = 1000
	sessions  = 20
	perSecond = 400 // refreshes

	// The program with what a thousand connections need, and each process that
	// hashes with 19 MiB, twice if they lie around until they are collected.
	mostMemory = 256 << 20
)

func TestMain(m *testing.M) {
	if url := os.Getenv("FLOOD_URL"); url != "" {
		attack(url)
		return
	}
	program.Main(m)
}

// Row 58: a thousand logins at once take neither the memory nor the processors that
// refreshes need.
func TestRow58RefreshesInALoginFlood(t *testing.T) {
	p := program.Start(t, program.Settings(redistest.Redis(t), "AUTHAPI_TRUSTED_PROXIES=127.0.0.0/8", "AUTHAPI_LIMIT_REFRESH=off"))
	p.AddUser("alice", "a password of some length")
	r := newRefresher(t, p.URL)
	r.run(time.Second) // warm up

	var quiet, flooded []time.Duration
	answers := map[string]int{}
	for range *rounds {
		quiet = append(quiet, r.run(*floodFor)...)
		flood, stop := startAttack(t, p.URL)
		// Until most are put off. Attackers get what nobody else wants of the
		// processors, which may be little.
		for begun := time.Now(); !flood(); r.run(500 * time.Millisecond) {
			if time.Since(begun) > time.Minute {
				t.Fatalf("no flood within a minute: %v", stop())
			}
		}
		flooded = append(flooded, r.run(*floodFor)...)
		for status, n := range stop() {
			answers[status] += n
		}
	}
	t.Logf("quiet:   %s", describe(quiet))
	t.Logf("flooded: %s", describe(flooded))
	got := float64(percentile(flooded, 99)) / float64(percentile(quiet, 99))
	memory := highWater(t, p.PID)
	t.Logf("the program alone had at most %d MiB", memory>>20)
	for _, pid := range childrenOf(t, p.PID) {
		memory += highWater(t, pid)
	}
	t.Logf("p99 in the flood is %.2f times the quiet one; logins: %v; the program and its processes had at most %d MiB", got, answers, memory>>20)
	if got > *ratio {
		t.Errorf("p99 in the flood is %.2f times the quiet one, want at most %.2f", got, *ratio)
	}
	if memory > mostMemory {
		t.Errorf("the program had %d MiB, want at most %d", memory>>20, mostMemory>>20)
	}
	if answers["401"] == 0 || answers["503"] < answers["401"] || answers["other"] > 0 || answers["none"] > answers["503"]/10 {
		t.Errorf("the logins were answered %v: want some refused, most put off, and nearly none not at all", answers)
	}
}

// refresher refreshes sessions at a steady rate.
type refresher struct {
	t      *testing.T
	url    string
	client *http.Client
	tokens chan string // of the sessions that nobody refreshes at the moment
}

func newRefresher(t *testing.T, url string) *refresher {
	t.Helper()
	r := &refresher{t: t, url: url, tokens: make(chan string, sessions), client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: sessions}, Timeout: 10 * time.Second,
	}}
	t.Cleanup(r.client.CloseIdleConnections)
	for range sessions {
		r.tokens <- r.post("/login", `{"username":"alice","password":"a password of some length"}`)
	}
	return r
}

func (r *refresher) post(path, body string) string {
	res, err := r.client.Post(r.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		r.t.Errorf("%s: %v", path, err)
		return ""
	}
	defer res.Body.Close()
	var tokens struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&tokens); err != nil || res.StatusCode != 200 {
		r.t.Errorf("%s: %d, %v", path, res.StatusCode, err)
	}
	return tokens.Refresh
}

// run refreshes for a while, and returns how long each took, from when it should
// have begun: what comes late because another took long counts.
func (r *refresher) run(d time.Duration) []time.Duration {
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	start := time.Now()
	for at := time.Duration(0); at < d; at += time.Second / perSecond {
		due := start.Add(at)
		time.Sleep(time.Until(due))
		all.Go(func() {
			token := <-r.tokens
			next := r.post("/refresh", `{"refresh_token":"`+token+`"}`)
			elapsed := time.Since(due)
			r.tokens <- next
			mu.Lock()
			defer mu.Unlock()
			took = append(took, elapsed)
		})
	}
	all.Wait()
	return took
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)]
}

func describe(d []time.Duration) string {
	return fmt.Sprintf("%d refreshes, p50 %s, p99 %s, most %s", len(d),
		percentile(d, 50).Round(10*time.Microsecond), percentile(d, 99).Round(10*time.Microsecond), percentile(d, 100).Round(10*time.Microsecond))
}

// childrenOf are the processes that hash.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, word := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(pids, child)
			}
		}
	}
	if len(pids) == 0 {
		t.Error("no process hashes")
	}
	return pids
}

func highWater(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// startAttack starts the attackers. flood reports whether logins were refused, and
// most put off; stop stops them, and says how many were answered with which status.
func startAttack(t *testing.T, url string) (flood func() bool, stop func() map[string]int) {
	t.Helper()
	cmd := exec.Command("nice", "-n", "19", os.Args[0])
	cmd.Env = append(os.Environ(), "FLOOD_URL="+url)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out program.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() map[string]int {
		answers := map[string]int{}
		if !stopped {
			stopped = true
			in.Close() // they end with it
			if err := cmd.Wait(); err != nil {
				t.Errorf("attackers: %v", err)
			}
			if err := json.Unmarshal([]byte(strings.TrimPrefix(out.String(), flooding)), &answers); err != nil {
				t.Errorf("attackers: %v in %q", err, out.String())
			}
		}
		return answers
	}
	t.Cleanup(func() { stop() })
	return func() bool { return strings.HasPrefix(out.String(), flooding) }, stop
}

// flooding is what the attackers say when it is a flood.
const flooding = "a flood\n"

// attack is what the process of the attackers does until its input ends.
func attack(url string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: attackers}, Timeout: time.Minute}
	var over atomic.Bool
	var mu sync.Mutex
	answers := map[string]int{}
	said := false
	for range attackers {
		go func() {
			time.Sleep(rand.N(time.Second))
			for !over.Load() {
				body := fmt.Sprintf(`{"username":"user%d","password":"guess"}`, rand.Uint64())
				req, _ := http.NewRequest(http.MethodPost, url+"/login", strings.NewReader(body))
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("X-Forwarded-For", fmt.Sprintf("%d.%d.%d.%d", 1+rand.N(126), rand.N(256), rand.N(256), rand.N(256)))
				// On a machine so busy that they cannot even send in time their
				// connections are closed.
				status := "none"
				if res, err := client.Do(req); err == nil {
					status = "other"
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if res.StatusCode == 401 || res.StatusCode == 503 {
						status = strconv.Itoa(res.StatusCode)
					}
				}
				if !over.Load() {
					mu.Lock()
					answers[status]++
					if !said && answers["401"] > 0 && answers["503"] > answers["401"] {
						said = true
						fmt.Print(flooding)
					}
					mu.Unlock()
				}
				time.Sleep(time.Second)
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	over.Store(true)
	mu.Lock()
	defer mu.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(answers)
}
