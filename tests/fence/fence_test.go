// Package fence holds the packages to the arrows drawn in docs/design.md.
package fence

import (
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/authapi/authapi"

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}

// TestArrows: for each package, which others of this module it may import.
// Data flows from the request to the store to the token; nothing looks back.
func TestArrows(t *testing.T) {
	allowed := map[string][]string{
		"":                    {},
		"internal/strictjson": {},
		"internal/partition":  {},
		"internal/ack":        {"internal/script"},
		"internal/script":     {},
		"internal/spelling":   {},
		"internal/secret":     {},
		"internal/redisconn":  {"internal/ack", "internal/script"},
		"internal/redistest":  {},
		"internal/hashing":    {},
		"tokens":              {"internal/strictjson"},
		"denylist":            {"internal/ack", "internal/partition", "internal/script", "tokens"},
		"refresh":             {"denylist", "internal/ack", "internal/partition", "internal/script", "internal/secret", "tokens"},
		"keyring":             {"internal/ack", "internal/partition", "internal/script", "internal/secret", "tokens"},
		"users":               {"internal/partition", "internal/script"},
		"throttle":            {"internal/partition", "internal/script", "internal/secret"},
		"journal":             {"denylist", "internal/partition", "keyring", "refresh"},
		"internal/wire":       {"internal/partition"},
		"relay":               {"internal/partition", "internal/wire"},
		"verify":              {"internal/partition", "internal/strictjson", "internal/wire", "tokens"},
		"authtest":            {"internal/partition", "relay", "tokens", "verify"},
		"examples/notes":      {"verify"},
		"api":                 {"", "denylist", "internal/strictjson", "refresh", "throttle", "tokens", "users", "verify"},
		"api/clientsfile":     {"api", "internal/spelling", "refresh"},
		"cmd/authapi":         {"api", "denylist", "api/clientsfile", "internal/ack", "internal/hashing", "internal/redisconn", "internal/spelling", "journal", "keyring", "refresh", "relay", "throttle", "tokens", "users", "web"},
		"web":                 {},
	}
	for _, line := range strings.Split(strings.Join(goList(t, "-f", `{{.ImportPath}}={{join .Imports ","}}`, module+"/..."), "\n"), "\n") {
		path, imports, _ := strings.Cut(line, "=")
		name := short(path)
		if strings.HasPrefix(name, "tests/") {
			continue
		}
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s has no place in the house yet: add it here and to the map in the README", name)
			continue
		}
		for _, imported := range strings.Split(imports, ",") {
			if strings.HasPrefix(imported, module) && !slices.Contains(may, short(imported)) {
				t.Errorf("%s imports %s", name, short(imported))
			}
		}
	}
}

func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

// TestReach: what a package must not reach, through however many imports.
func TestReach(t *testing.T) {
	server := []string{
		"github.com/redis/", "github.com/go-chi/", "github.com/alicebob/",
		module + "/api", module + "/refresh", module + "/denylist", module + "/keyring", module + "/users", module + "/cmd",
	}
	for _, c := range []struct {
		from, why string
		never     []string
	}{
		{"verify", "services import it: they must compile neither the server nor its Redis client", server},
		{"authtest", "the tests of services import it: the same", server},
		{"tokens", "a token is the same whoever carries it", []string{"net/http", "github.com/redis/", "github.com/go-chi/"}},
		{"cmd/authapi", "test code does not belong into what runs in production", []string{
			"testing", module + "/tests", module + "/internal/redistest", module + "/authtest",
			"github.com/getkin/", "github.com/anishathalye/", "pgregory.net/", "golang.org/x/oauth2/", "go.uber.org/goleak", "github.com/google/go-cmp",
		}},
		{"users", "whoever changes a user ends sessions too, and that is arranged above", []string{module + "/refresh", module + "/denylist"}},
		{"refresh", "sessions know nothing of HTTP", []string{module + "/api", "github.com/go-chi/"}},
	} {
		for _, dep := range goList(t, "-deps", module+"/"+c.from) {
			for _, never := range c.never {
				if dep == never || strings.HasPrefix(dep, strings.TrimSuffix(never, "/")+"/") {
					t.Errorf("%s reaches %s; %s", c.from, dep, c.why)
				}
			}
		}
	}
}

// TestEveryPackageSaysWhatItIs: the comment is where a reader begins.
func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, dir := range goList(t, "-f", "{{.Dir}}", module+"/...") {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		documented := false
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || f.Doc != nil
		}
		if !documented {
			t.Errorf("%s has no package comment", dir)
		}
	}
}
