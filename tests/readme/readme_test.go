// Package readme runs the commands of the README and of docs/verify.md, and
// compares what they print.
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

// TestREADME runs all console blocks of the README as one shell session against
// the program as the README starts it.
func TestREADME(t *testing.T) {
	needPrograms(t)
	converse(t, "../../README.md", 10, strings.NewReplacer("localhost:8080", start(t, "authapi", "../../cmd/authapi")))
}

// TestVerifying does the same for docs/verify.md, with the example service that
// it speaks of beside the program.
func TestVerifying(t *testing.T) {
	needPrograms(t)
	demo := start(t, "authapi", "../../cmd/authapi")
	notes := start(t, "notes", "../../examples/notes", "ISSUER=http://"+demo)
	converse(t, "../../docs/verify.md", 5, strings.NewReplacer("localhost:8080", demo, "localhost:9090", notes))
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

func needPrograms(t *testing.T) {
	t.Helper()
	for _, program := range []string{"curl", "jq", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed (Debian package: %s)", program, program)
			}
			t.Skipf("README NOT TESTED: %s is not installed", program)
		}
	}
}

// converse runs a document's commands. Tokens, ids and times differ from run to
// run; everything else must be as printed.
func converse(t *testing.T, path string, least int, addresses *strings.Replacer) {
	t.Helper()
	commands, printed := dialogue(t, path)
	if len(commands) < least {
		t.Fatalf("only %d commands found", len(commands))
	}
	// A marker after each command tells which output is whose.
	const marker = "--- end of command ---"
	script := addresses.Replace(strings.Join(commands, "\necho '"+marker+"'\n"))
	out, err := exec.Command("bash", "-c", "set -euo pipefail\n"+script+"\necho '"+marker+"'\n").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(string(out), marker+"\n")
	if len(got) != len(commands)+1 {
		t.Fatalf("%d outputs for %d commands:\n%s", len(got)-1, len(commands), out)
	}
	for i, command := range commands {
		if g, w := normal(got[i]), normal(printed[i]); g != w {
			t.Errorf("%s\nprints\n%s\nand the document says\n%s", command, g, w)
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
	{regexp.MustCompile(`notes of [\w-]{16}`), "notes of SUB"},
	{regexp.MustCompile(`"sid":"[a-z0-9]{2}\.[\w-]{22}"`), `"sid":"SID"`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
}

func normal(output string) string {
	for _, v := range varying {
		output = v.pattern.ReplaceAllString(output, v.name)
	}
	return output
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
