package gateways_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/dialogue"
	"github.com/authapi/authapi/tests/program"
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
	addr = freeAddress(t)
	ctx, cancel := context.WithCancel(context.Background())
	demo := exec.CommandContext(ctx, program.Binary(t))
	demo.Env = []string{"PATH=" + os.Getenv("PATH"), "AUTHAPI_ADDR=" + addr}
	demo.Cancel = func() error { return demo.Process.Signal(os.Interrupt) }
	demo.WaitDelay = 10 * time.Second
	ended, err := program.Launch(demo, syscall.SIGKILL)
	if err != nil {
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
