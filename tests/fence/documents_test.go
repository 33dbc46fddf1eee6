package fence

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// `package` Name, Name, `package` Name
	testInDocument = regexp.MustCompile("`([a-z][a-z0-9/]*)`|\\b((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)\\b")
	testInCode     = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
)

// TestDocumentsNameTestsThatExist: a promise whose proof has been renamed, or is
// gone, is no better than one without.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	for _, document := range []string{"security.md", "reliability.md"} {
		text, err := os.ReadFile(filepath.Join("../../docs", document))
		if err != nil {
			t.Error(err)
			continue
		}
		named := 0
		for line := range strings.Lines(string(text)) {
			dir := ""
			for _, m := range testInDocument.FindAllStringSubmatch(line, -1) {
				if m[1] != "" {
					dir = m[1]
					continue
				}
				named++
				if !hasTest(t, dir, m[2]) {
					t.Errorf("%s: there is no %s in %q", document, m[2], dir)
				}
			}
		}
		if named == 0 {
			t.Errorf("%s names no test", document)
		}
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	if dir == "" {
		return false
	}
	files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testInCode.FindAllStringSubmatch(string(text), -1) {
			if m[1] == name {
				return true
			}
		}
	}
	return false
}
