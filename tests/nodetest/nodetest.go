// Package nodetest runs tests that are written for Node from tests in Go.
//
// [Run] runs a file's tests, each as a subtest; [Need] says what they cannot do
// without. Code that is not a test must not import the package.
package nodetest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// Need ends the test if node, a program, or a package of npm is missing: it fails
// where everything must be there (CI is set), and else skips, so that nobody
// takes it for a success. A package is named node_modules/name.
func Need(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range append([]string{"node"}, names...) {
		_, err := exec.LookPath(name)
		if filepath.Dir(name) == "node_modules" {
			_, err = os.Stat(filepath.Join("../..", name, "package.json"))
		}
		switch {
		case err == nil:
		case os.Getenv("CI") != "":
			t.Fatalf("%s: %v (Debian packages, or npm ci)", name, err)
		default:
			t.Skipf("NOT TESTED WITH NODE: %s: %v (Debian packages, or npm ci)", name, err)
		}
	}
}

// outcome is a line of TAP: a test's result, name and directive.
var outcome = regexp.MustCompile(`(?m)^(ok|not ok) \d+ - (.*?)( # .*)?$`)

// Run runs the tests of a file, and ends them if they take so long that they must
// be stuck. They are told everything
// in the environment, which has nothing else but PATH and an empty HOME: other
// users of a machine see what a process's arguments are.
func Run(t *testing.T, file string, patience time.Duration, environ ...string) {
	t.Helper()
	// Go repeats an old result until a file changes that the test itself looked at.
	sources, err := filepath.Glob("*.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(sources, file) {
		if _, err := os.Stat(name); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "--test", "--test-reporter=tap", file)
	node.Env = append(environ, "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir())
	// Interrupted it ends its own children, which a kill would leave behind.
	node.Cancel = func() error { return node.Process.Signal(os.Interrupt) }
	node.WaitDelay = 10 * time.Second
	out, err := node.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("%s", out)
	}
	switch {
	case ctx.Err() != nil:
		t.Errorf("node --test %s did not end within %v", file, patience)
	case err != nil:
		t.Errorf("node --test %s: %v", file, err)
	}
	ran := 0
	for _, test := range outcome.FindAllStringSubmatch(string(out), -1) {
		result, name, directive := test[1], test[2], test[3]
		if filepath.Base(name) == file {
			continue // a file without tests is reported as one that passed
		}
		ran++
		t.Run(name, func(t *testing.T) {
			if result != "ok" || directive != "" {
				t.Errorf("%s%s", result, directive)
			}
		})
	}
	if ran == 0 {
		t.Errorf("%s ran no tests:\n%s", file, out)
	}
}
