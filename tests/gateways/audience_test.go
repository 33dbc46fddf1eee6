package gateways_test

import (
	"strings"
	"testing"
)

func replaceOnce(tb testing.TB, text, old, with string) string {
	tb.Helper()
	if n := strings.Count(text, old); n != 1 {
		tb.Fatalf("%q is there %d times", old, n)
	}
	return strings.Replace(text, old, with, 1)
}

// TestAnotherAudience: the files can be told whom tokens have to be for.
func TestAnotherAudience(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			k.need(t)
			w := newWorld(t)
			g := k.start(t, w, func(o *options) {
				o.edit = func(config string) string {
					plain, asking := "http://authapi/verify;", "http://authapi/verify?audience="+elsewhere+";"
					if k.name == "caddy" {
						plain, asking = "uri /verify?\n", "uri /verify?audience="+elsewhere+"\n"
					}
					return replaceOnce(t, config, plain, asking)
				}
			})
			for _, query := range []string{"", "?audience=https://api.example.com", "?audience=x"} {
				if r := g.ask(question{token: w.foreign, target: "/" + query}); r.status != 200 {
					t.Errorf("%s: a token for it: %v", query, r)
				}
				if r := g.ask(question{token: w.editor, target: "/" + query}); r.status != 401 {
					t.Errorf("%s: a token for others: %v", query, r)
				}
			}
		})
	}
}
