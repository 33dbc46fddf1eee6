package browser_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

const chromium = "/usr/bin/chromium"

// needBrowser skips a test only where nobody relies on it.
func needBrowser(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = exec.LookPath(chromium)
	}
	if err == nil {
		_, err = os.Stat("../../node_modules/playwright-core/package.json")
	}
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%v (Debian packages: chromium nodejs; then npm ci)", err)
	}
	t.Skipf("NOT TESTED IN A BROWSER: %v (Debian packages: chromium nodejs; then npm ci)", err)
}

// outcome is a line of TAP: a test's result, name and directive.
var outcome = regexp.MustCompile(`(?m)^(ok|not ok) \d+ - (.*?)( # .*)?$`)

// runNode runs the tests of a file, each as a subtest.
func runNode(t *testing.T, file string, patience time.Duration, environ ...string) {
	t.Helper()
	// Go repeats an old result until a file changes that the test itself looked at.
	for _, name := range []string{file, "browser.mjs"} {
		_, err := os.Stat(name)
		must(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "--test", "--test-reporter=tap", file)
	node.Env = append(environ, "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir(), "CHROMIUM="+chromium)
	// Interrupted it ends its own children, which a kill would leave behind.
	node.Cancel = func() error { return node.Process.Signal(os.Interrupt) }
	node.WaitDelay = 10 * time.Second
	out, err := node.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("%s", out)
	}
	if err != nil {
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
