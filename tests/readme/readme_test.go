// Package readme runs the commands of the README and compares what they print.
package readme

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDialogue runs all console blocks of the README as one shell session
// against the program as the README starts it. Tokens, ids and times differ
// from run to run; everything else must be as printed.
func TestDialogue(t *testing.T) {
	for _, program := range []string{"curl", "jq", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed (Debian package: %s)", program, program)
			}
			t.Skipf("README NOT TESTED: %s is not installed", program)
		}
	}
	address := startDemo(t)

	commands, printed := dialogue(t, "../../README.md")
	if len(commands) < 10 {
		t.Fatalf("only %d commands found", len(commands))
	}
	// A marker after each command tells which output is whose.
	const marker = "--- end of command ---"
	script := strings.ReplaceAll(strings.Join(commands, "\necho '"+marker+"'\n"), "localhost:8080", address)
	out, err := exec.Command("bash", "-c", "set -euo pipefail\n"+script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(string(out), marker+"\n")
	if len(got) != len(commands) {
		t.Fatalf("%d outputs for %d commands:\n%s", len(got), len(commands), out)
	}
	for i, command := range commands {
		if g, w := normal(got[i]), normal(printed[i]); g != w {
			t.Errorf("%s\nprints\n%s\nand the README says\n%s", command, g, w)
		}
	}
}

// dialogue returns the commands of the console blocks, and what stands below
// each.
func dialogue(t *testing.T, path string) (commands, printed []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch {
		case line == "```console":
			inside = true
		case line == "```":
			inside = false
		case inside && strings.HasPrefix(line, "$ "):
			commands = append(commands, line[2:])
			printed = append(printed, "")
		case inside:
			printed[len(printed)-1] += line + "\n"
		}
	}
	return commands, printed
}

var varying = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`eyJ[\w.-]+…?`), "JWT"},
	{regexp.MustCompile(`authapi_rt_[\w-]+…?`), "REFRESH"},
	{regexp.MustCompile(`"sub":"[\w-]{16}"`), `"sub":"SUB"`},
	{regexp.MustCompile(`"sid":"[a-z0-9]{2}\.[\w-]{22}"`), `"sid":"SID"`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
}

func normal(output string) string {
	for _, v := range varying {
		output = v.pattern.ReplaceAllString(output, v.name)
	}
	return output
}

// startDemo builds and starts the program with nothing in its environment, and
// returns its address once it answers.
func startDemo(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "authapi")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/authapi").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	address := strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1)
	l.Close()

	ctx, cancel := context.WithCancel(context.Background())
	program := exec.CommandContext(ctx, binary, "--addr", address)
	program.Env = []string{"PATH=" + os.Getenv("PATH")}
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
		if err := program.Wait(); program.ProcessState.ExitCode() != 0 {
			t.Errorf("the demo did not end well: %v\n%s", err, log.String())
		}
	})
	for time.Since(began) < 10*time.Second {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			t.Logf("the demo listens after %v", time.Since(began).Round(time.Millisecond))
			return address
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the demo does not listen:\n%s", log.String())
	return ""
}
