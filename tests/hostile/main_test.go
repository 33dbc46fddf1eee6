// Package hostile_test attacks the service as somebody does who has no part in
// it: over raw connections, with requests that no library would send, spoofed
// headers, altered tokens, and pages of other origins.
//
// What runs is the program itself, on a real Redis, since the limits on
// connections and the reading of requests are part of what is attacked. Where
// it matters what Redis is asked, the handler runs in the test's process (see
// tests/service) and its commands are counted.
package hostile_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

const (
	username = "alice"
	password = "a password of some length"
	origin   = "https://app.example.com"
	issuer   = "https://auth.example.com"

	// patience bounds what takes well below a second unless something is wrong.
	patience = 20 * time.Second
)

func TestMain(m *testing.M) { redistest.Main(withProgram{m}) }

// withProgram removes the program at the end.
type withProgram struct{ m *testing.M }

func (w withProgram) Run() int {
	defer func() {
		if folder != "" {
			os.RemoveAll(folder)
		}
	}()
	return w.m.Run()
}

var (
	folder string
	// build makes the program, once for all tests.
	build = sync.OnceValues(func() (string, error) {
		// The go command remembers results of tests, and does not know that this one
		// depends on the program, unless it sees the files being looked at.
		sources, err := filepath.Glob("../../cmd/authapi/*.go")
		for _, source := range sources {
			if _, err := os.Stat(source); err != nil {
				return "", err
			}
		}
		if err != nil {
			return "", err
		}
		if folder, err = os.MkdirTemp("", "authapi-hostile-"); err != nil {
			return "", err
		}
		binary := filepath.Join(folder, "authapi")
		args := []string{"build", "-o", binary}
		if race {
			args = append(args, "-race")
		}
		cmd := exec.Command("go", append(args, "../../cmd/authapi")...)
		cmd.Stderr = os.Stderr
		return binary, cmd.Run()
	})
)

// program is a running service.
type program struct {
	t    *testing.T
	addr string
	log  *output
	cmd  *exec.Cmd
	kill func()
}

var listening = regexp.MustCompile(`"listening":"([^"]+)"`)

// deployment is the environment of a complete configuration. The test's Redis has
// the user that may log in.
func deployment(t *testing.T, s *redistest.Server, more ...string) []string {
	t.Helper()
	secret := make([]byte, 32)
	rand.Read(secret)
	environ := append([]string{
		"AUTHAPI_REDIS_URL=" + s.URL, "AUTHAPI_REDIS_PREFIX=" + s.Prefix, "AUTHAPI_ADDR=127.0.0.1:0", "AUTHAPI_DRAIN=0s",
		"AUTHAPI_ISSUER=" + issuer, "AUTHAPI_LOG_FORMAT=json", "AUTHAPI_LOG_LEVEL=debug",
		"AUTHAPI_SECRET=" + base64.StdEncoding.EncodeToString(secret), "GORACE=atexit_sleep_ms=0",
	}, more...)
	binary, err := build()
	must(t, err)
	add := exec.Command(binary, "user", "add", username)
	add.Env, add.Stdin = environ, strings.NewReader(password+"\n")
	if out, err := add.CombinedOutput(); err != nil && !strings.Contains(string(out), "exists already") {
		t.Fatalf("user add: %v\n%s", err, out)
	}
	return environ
}

// start runs the service until the test ends, and then reads its log for what
// must never be in it.
func start(t *testing.T, environ []string) *program {
	t.Helper()
	binary, err := build()
	must(t, err)
	p := &program{t: t, log: &output{}, cmd: exec.Command(binary)}
	p.cmd.Env, p.cmd.Stderr = environ, p.log
	ended, err := launch(p.cmd)
	must(t, err)
	p.kill = func() { _ = p.cmd.Process.Kill(); <-ended } // fails only if it has ended
	t.Cleanup(func() {
		p.kill()
		log := p.log.String()
		for _, bad := range []string{"DATA RACE", "panic", `"level":"ERROR"`, `"status":5`, "superfluous"} {
			if strings.Contains(log, bad) {
				t.Errorf("%s in the log", bad)
			}
		}
		if t.Failed() {
			t.Logf("log of the service, its end:\n%s", log[max(0, len(log)-8000):])
		}
	})
	eventually(t, "the service listens", func() bool {
		match := listening.FindStringSubmatch(p.log.String())
		if match != nil {
			p.addr = match[1]
		}
		select {
		case <-ended:
			t.Fatalf("the service has ended:\n%s", p.log.String())
		default:
		}
		return match != nil
	})
	return p
}

// records returns the lines of the log that say this, from a place in it on.
func (p *program) records(message string, from int) []map[string]any {
	p.t.Helper()
	var found []map[string]any
	for line := range strings.Lines(p.log.String()[from:]) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			p.t.Fatalf("not a line of log: %q: %v", line, err)
		}
		if record["msg"] == message {
			found = append(found, record)
		}
	}
	return found
}

// output is a log that is written and read at the same time.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
