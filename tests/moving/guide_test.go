package moving_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authapi/authapi/api/clientsfile"
	"github.com/authapi/authapi/tests/dialogue"
)

const guide = root + "/docs/move-from-express-session.md"

// TestGuide runs the guide's commands, each example in turn being the
// application, beside the demo of the service; and the commands by which an
// example introduces itself.
func TestGuide(t *testing.T) {
	for name := range applications {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replace := examplesOf(t, name)
			dialogue.Run(t, guide, 20, replace...)
			dialogue.Run(t, filepath.Join(root, "examples", name, "README.md"), 3, replace...)
		})
	}
}

// examplesOf starts the demo and two processes of an example with nothing
// configured, and returns what to replace in commands that speak of them.
func examplesOf(t *testing.T, name string) (replace []string) {
	t.Helper()
	needNode(t)
	dialogue.Need(t, "curl", "jq", "bash", "openssl")
	binary, err := theService()
	if err != nil {
		t.Fatal(err)
	}
	demo := run(t, "authapi", anywhere, func(address string) []string { return []string{"AUTHAPI_ADDR=" + address} }, binary)
	replace = []string{"localhost:8080", demo.address, "go run ./cmd/authapi", binary}
	for _, written := range []string{"localhost:3000", "localhost:3001"} {
		p := run(t, name, anywhere, func(address string) []string {
			return []string{"PORT=" + port(address), "ISSUER=" + demo.url()}
		}, "node", applications[name])
		replace = append(replace, written, p.address)
	}
	return replace
}

// TestGuideShowsWhatRuns: the code in the guide is that of the examples, and what
// it calls the state before is that of the application that people have.
func TestGuideShowsWhatRuns(t *testing.T) {
	now := sources(t, root+"/examples/express/*.js", root+"/examples/express/public/*.js", root+"/examples/nestjs/src/*.ts")
	before := sources(t, "brief/express.cjs")
	blocks := blocksOf(t, guide)
	for _, kind := range []struct {
		fence  string
		least  int
		source string
	}{{"js", 8, now}, {"ts", 3, now}, {"js before", 4, before}} {
		if n := len(blocks[kind.fence]); n < kind.least {
			t.Errorf("only %d blocks of %s", n, kind.fence)
		}
		for _, block := range blocks[kind.fence] {
			for part := range strings.SplitSeq(block, "// …\n") {
				if !strings.Contains(kind.source, part) {
					t.Errorf("the guide shows as %s\n%s\nwhich is not in any file", kind.fence, part)
				}
			}
		}
	}
	for _, command := range []string{"node examples/express/server.js", "node examples/nestjs/dist/main.js"} {
		if text := read(t, guide); !strings.Contains(text, command) {
			t.Errorf("the guide does not say how to start what is tested: %s", command)
		}
	}
}

// TestGuideClientsFile: the service takes the clients file of the guide.
func TestGuideClientsFile(t *testing.T) {
	files := blocksOf(t, guide)["yaml"]
	if len(files) != 1 {
		t.Fatalf("%d clients files", len(files))
	}
	clients, err := clientsfile.Read(write(t, t.TempDir(), "clients.yaml", files[0]))
	if err != nil {
		t.Fatal(err)
	}
	if c := clients["shop"]; !c.MayStart || !c.MayFollow {
		t.Errorf("the client of the guide may not do what the application does: %+v", c)
	}
}

// sources are the texts of all files, which must be there.
func sources(t *testing.T, patterns ...string) string {
	t.Helper()
	var all strings.Builder
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s (%v)", pattern, err)
		}
		for _, file := range files {
			all.WriteString(read(t, file))
		}
	}
	return all.String()
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocksOf returns the fenced blocks of a document by what stands behind the
// fence.
func blocksOf(t *testing.T, path string) map[string][]string {
	t.Helper()
	blocks := map[string][]string{}
	fence, inside, block := "", false, ""
	for lines := bufio.NewScanner(strings.NewReader(read(t, path))); lines.Scan(); {
		line := lines.Text()
		mark, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !inside:
			fence, inside, block = mark, true, ""
		case isFence:
			blocks[fence] = append(blocks[fence], block)
			inside = false
		default:
			block += line + "\n"
		}
	}
	return blocks
}
