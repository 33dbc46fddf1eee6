// Package dialogue runs the commands that documents show, and holds what they
// print against what stands below them.
//
// [Run] takes a document's console blocks as one shell session: lines that begin
// with "$ " are commands, the lines below each are what it prints. [Need] says
// what programs a test cannot do without. Code that is not a test must not import
// the package.
package dialogue

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Need ends the test if a program is missing: it fails where everything must be
// there (CI is set), and else skips, so that nobody takes it for a success.
func Need(tb testing.TB, programs ...string) {
	tb.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				tb.Fatalf("%s is not installed (Debian package: %s)", program, program)
			}
			tb.Skipf("DOCUMENT NOT TESTED: %s is not installed", program)
		}
	}
}

// Run runs a document's commands, of which there must be at least so many. What
// stands first of each pair of texts to replace becomes the second one in the
// commands: addresses that a document writes, and those of the test.
//
// Tokens, ids and times differ from run to run; everything else must be as
// printed.
func Run(t *testing.T, path string, least int, replace ...string) {
	t.Helper()
	commands, printed := read(t, path)
	if len(commands) < least {
		t.Fatalf("only %d commands found", len(commands))
	}
	// A marker after each command tells which output is whose. It begins a line
	// of its own, whether or not the output has ended its last one.
	const marker = "\n--- end of command ---\n"
	script := "set -euo pipefail\n"
	for _, command := range commands {
		script += command + "\necho '" + marker + "'\n"
	}
	shell := exec.Command("bash", "-c", strings.NewReplacer(replace...).Replace(script))
	shell.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := strings.Split(string(out), marker)
	if len(got) != len(commands)+1 {
		t.Fatalf("%d outputs for %d commands:\n%s", len(got)-1, len(commands), out)
	}
	for i, command := range commands {
		if g, w := normal(got[i]), normal(printed[i]); g != w {
			t.Errorf("%s\nprints\n%s\nand the document says\n%s", command, g, w)
		}
	}
}

// read returns the commands of the console blocks, and what stands below each.
func read(t *testing.T, path string) (commands, printed []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
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
	{regexp.MustCompile(`authapi_dk_[\w-]+…?`), "DEVICE"},
	{regexp.MustCompile(`sha256:[\w-]{43}`), "HASH"},
	{regexp.MustCompile(`"sub":"[\w-]{16}"`), `"sub":"SUB"`},
	{regexp.MustCompile(`notes of [\w-]{16}`), "notes of SUB"},
	{regexp.MustCompile(`you are [\w-]{16},`), "you are SUB,"},
	{regexp.MustCompile(`"sid":"[a-z0-9]{2}\.[\w-]{22}"`), `"sid":"SID"`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
}

func normal(output string) string {
	for _, v := range varying {
		output = v.pattern.ReplaceAllString(output, v.name)
	}
	return strings.Trim(output, "\n")
}
