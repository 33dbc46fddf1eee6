package spelling_test

import (
	"testing"

	"github.com/authapi/authapi/internal/spelling"
)

func TestSuggest(t *testing.T) {
	names := []string{"id", "origins", "lifetimes", "may_introspect"}
	for name, want := range map[string]string{
		"orgins":         "; did you mean origins?",
		"origin":         "; did you mean origins?",
		"lifetime":       "; did you mean lifetimes?",
		"may-introspect": "; did you mean may_introspect?",
		"ids":            "; did you mean id?",
		"xy":             "",
		"redirect_uris":  "",
		"":               "",
	} {
		if got := spelling.Suggest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := spelling.Suggest("x", nil); got != "" {
		t.Errorf("out of nothing came %q", got)
	}
}
