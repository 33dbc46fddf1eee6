package gateways_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/dialogue"
)

const document = "../../deploy/README.md"

// TestTheDocument runs the document's commands against the demo and each
// gateway, and compares what they print.
func TestTheDocument(t *testing.T) {
	dialogue.Need(t, "curl", "jq", "bash")
	demo := startDemo(t)
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			k.need(t)
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "you are %s, in the roles: %s\n", r.Header.Get("X-Auth-Subject"), r.Header.Get("X-Auth-Roles"))
			}))
			defer app.Close()
			g := k.start(t, &world{authapi: &tap{addr: demo}, app: &tap{addr: app.Listener.Addr().String()}})
			dialogue.Run(t, document, 5, "localhost:8080", demo, "localhost:8081", g.addr)
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
