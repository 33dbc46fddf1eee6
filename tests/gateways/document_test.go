package gateways_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const document = "../../deploy/README.md"

// TestTheDocument runs the document's commands against the demo and each
// gateway, and compares what they print.
func TestTheDocument(t *testing.T) {
	for _, program := range []string{"curl", "jq", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed (Debian package: %s)", program, program)
			}
			t.Skipf("DOCUMENT NOT TESTED: %s is not installed", program)
		}
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```console\n")
	block, _, _ = strings.Cut(block, "```")
	var script, printed strings.Builder
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			script.WriteString(command)
		} else {
			printed.WriteString(line)
		}
	}
	demo := startDemo(t)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			k.need(t)
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "you are %s, in the roles: %s\n", r.Header.Get("X-Auth-Subject"), r.Header.Get("X-Auth-Roles"))
			}))
			defer app.Close()
			g := k.start(t, &world{authapi: &tap{addr: demo}, app: &tap{addr: app.Listener.Addr().String()}})
			here := strings.NewReplacer("localhost:8080", demo, "localhost:8081", g.addr)
			out, err := exec.Command("bash", "-euo", "pipefail", "-c", here.Replace(script.String())).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			subject := regexp.MustCompile(`you are [\w-]{16},`)
			if got, want := subject.ReplaceAllString(string(out), "you are SUB,"), subject.ReplaceAllString(printed.String(), "you are SUB,"); got != want || !strings.Contains(got, "SUB") {
				t.Errorf("the commands print\n%s\nand the document says\n%s", got, want)
			}
		})
	}
}

// startDemo starts the program as the document does.
func startDemo(t *testing.T) (addr string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "authapi")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/authapi").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	addr = freeAddress(t)
	ctx, cancel := context.WithCancel(context.Background())
	program := exec.CommandContext(ctx, binary)
	program.Env = []string{"PATH=" + os.Getenv("PATH"), "AUTHAPI_ADDR=" + addr}
	program.Cancel = func() error { return program.Process.Signal(os.Interrupt) }
	program.WaitDelay = 10 * time.Second
	ended := make(chan error, 1)
	if err := startBound(program, ended); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-ended })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r, err := http.Get("http://" + addr + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return addr
			}
		}
		if time.Now().After(end) {
			t.Fatal("the demo does not start")
		}
	}
}
