// Package readme runs the commands of the README and of docs/verify.md, and
// compares what they print.
package readme

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/dialogue"
)

// TestREADME runs all console blocks of the README as one shell session against
// the program as the README starts it.
func TestREADME(t *testing.T) {
	dialogue.Need(t, "curl", "jq", "bash")
	dialogue.Run(t, "../../README.md", 10, "localhost:8080", start(t, "authapi", "../../cmd/authapi"))
}

// TestVerifying does the same for docs/verify.md, with the example service that
// it speaks of beside the program.
func TestVerifying(t *testing.T) {
	dialogue.Need(t, "curl", "jq", "bash")
	demo := start(t, "authapi", "../../cmd/authapi")
	notes := start(t, "notes", "../../examples/notes", "ISSUER=http://"+demo)
	dialogue.Run(t, "../../docs/verify.md", 5, "localhost:8080", demo, "localhost:9090", notes)
}

// TestGoBlocks: what docs/verify.md shows of the example is what the example is.
func TestGoBlocks(t *testing.T) {
	text, err := os.ReadFile("../../docs/verify.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../examples/notes/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```go\n")
	block, _, _ = strings.Cut(block, "```")
	if !strings.Contains(block, "func newGuard(") || !strings.Contains(string(example), block) {
		t.Errorf("docs/verify.md shows\n%s\nwhich is not in the example", block)
	}
}

// start builds and starts a program with nothing in its environment but its
// address and what is given, and returns the address once it answers.
func start(t *testing.T, name, from string, environ ...string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", binary, from).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	address := strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1)
	l.Close()

	ctx, cancel := context.WithCancel(context.Background())
	program := exec.CommandContext(ctx, binary)
	program.Env = append([]string{"PATH=" + os.Getenv("PATH"), "ADDR=" + address, "AUTHAPI_ADDR=" + address}, environ...)
	program.Cancel = func() error { return program.Process.Signal(os.Interrupt) }
	program.WaitDelay = 10 * time.Second
	var log strings.Builder
	program.Stderr = &log
	began := time.Now()
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := program.Wait(); name == "authapi" && program.ProcessState.ExitCode() != 0 {
			t.Errorf("%s did not end well: %v\n%s", name, err, log.String())
		}
	})
	for time.Since(began) < 10*time.Second {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			t.Logf("%s listens after %v", name, time.Since(began).Round(time.Millisecond))
			return address
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s does not listen:\n%s", name, log.String())
	return ""
}
