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
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/program"
)

const (
	username = "alice"
	password = "a password of some length"
	origin   = "https://app.example.com"
	issuer   = "https://auth.example.com"

	// patience bounds what takes well below a second unless something is wrong.
	patience = 20 * time.Second
)

func TestMain(m *testing.M) {
	program.Race = race
	program.Main(m)
}

// instance is a running service.
type instance struct {
	*program.Program
	t    *testing.T
	addr string
}

// deployment is the environment of a complete configuration. The test's Redis has
// the user that may log in.
func deployment(t *testing.T, s *redistest.Server, more ...string) []string {
	t.Helper()
	environ := program.Settings(s, append([]string{"AUTHAPI_LOG_LEVEL=debug", "GORACE=atexit_sleep_ms=0"}, more...)...)
	out, err := program.Run(t, environ, password+"\n", "user", "add", username)
	if err != nil && !strings.Contains(out, "exists already") {
		t.Fatalf("user add: %v\n%s", err, out)
	}
	return environ
}

// start runs the service until the test ends, and then reads its log for what
// must never be in it.
func start(t *testing.T, environ []string) *instance {
	t.Helper()
	p := program.Start(t, environ)
	t.Cleanup(func() {
		p.Kill()
		log := p.Log()
		for _, bad := range []string{"DATA RACE", "panic", `"level":"ERROR"`, `"status":5`, "superfluous"} {
			if strings.Contains(log, bad) {
				t.Errorf("%s in the log", bad)
			}
		}
	})
	return &instance{p, t, strings.TrimPrefix(p.URL, "http://")}
}

// records returns the lines of the log that say this, from a place in it on.
func (p *instance) records(message string, from int) []map[string]any {
	p.t.Helper()
	var found []map[string]any
	for line := range strings.Lines(p.Log()[from:]) {
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
