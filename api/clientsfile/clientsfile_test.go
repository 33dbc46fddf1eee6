package clientsfile_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/api/clientsfile"
	"github.com/authapi/authapi/refresh"
)

const (
	secret = "kK2q1mXlD9cT7vR0wZs5yB8nHf3gUjLp+/=="
	hashed = "sha256:l4wvpl7HRVhVbWU-9l8rvGdFuW9yYnKfE3BxGgGgXxI"
)

// write makes a clients file, and beside it the files that it may name.
func write(t *testing.T, text string, others ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(others); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, others[i]), []byte(others[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "clients.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	path := write(t, `
# Comments are fine.
clients:
  - id: mobile
    type: public
  - {id: spa, type: public, transport: cookie, cookie_name: __Host-spa, origins: ["https://app.example.com", "http://localhost:5173"]}
  - id: shop
    type: confidential
    transport: body
    secret: [file:shop.secret, `+hashed+`]
    lifetimes: {access: 90s, idle: 2d, absolute: 72h}
    retry_window: 0s
    session_limit: 3
    audience: https://shop.example.com
    scopes: [orders:read, orders:write]
    may_start_sessions: true
    may_introspect: true
    may_follow_revocations: false
  - id: "gate"
    type: confidential
    secret: `+hashed+`
    audience:
      - a
      - b
    may_follow_revocations: true
`, "shop.secret", secret+"\n")
	got, err := clientsfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := api.ParseClientSecret(hashed)
	if err != nil {
		t.Fatal(err)
	}
	want := api.Clients{
		"mobile": {ID: "mobile", Policy: api.DefaultPolicy(refresh.Body)},
		"spa": {
			ID: "spa", Policy: api.DefaultPolicy(refresh.Cookie), Cookie: "__Host-spa",
			Origins: []string{"https://app.example.com", "http://localhost:5173"},
		},
		"shop": {
			ID: "shop",
			Policy: refresh.Policy{
				Transport: refresh.Authenticated, Access: 90 * time.Second, Idle: 48 * time.Hour, Absolute: 72 * time.Hour, Sessions: 3,
			},
			Secrets:  []api.ClientSecret{api.HashClientSecret(secret), hash},
			Audience: []string{"https://shop.example.com"},
			Scopes:   []string{"orders:read", "orders:write"},
			MayStart: true, MayIntrospect: true,
		},
		"gate": {
			ID: "gate", Policy: api.DefaultPolicy(refresh.Authenticated), Secrets: []api.ClientSecret{hash},
			Audience: []string{"a", "b"}, MayFollow: true,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// What docs/clients.md shows is a file that can be read.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	block = strings.Replace(block, "file:/run/secrets/shop", "file:shop.secret", 1)
	clients, err := clientsfile.Read(write(t, block, "shop.secret", secret))
	if err != nil || len(clients) != 3 {
		t.Errorf("%v, %v", clients, err)
	}
	// Every field of an entry has its line in the table.
	for _, name := range []string{
		"id", "type", "transport", "cookie_name", "lifetimes", "audience", "scopes", "retry_window", "session_limit", "origins", "secret",
		"may_start_sessions", "may_introspect", "may_follow_revocations",
	} {
		if !strings.Contains(string(text), "\n| `"+name+"` |") {
			t.Errorf("%s has no line in the table", name)
		}
	}
}

// entry is a file with one client, whose last lines are the test's.
func entry(lines ...string) string {
	return "clients:\n  - id: shop\n    type: confidential\n    " + strings.Join(lines, "\n    ") + "\n"
}

func TestMistakes(t *testing.T) {
	good := "secret: " + hashed
	for _, c := range []struct {
		name, text string
		says       []string // after the path
	}{
		{"empty", "", []string{": 0 documents, and not one that names clients"}},
		{"comment only", "# nothing yet\n", []string{": 0 documents"}},
		{"null document", "---\n", []string{":2: the file is not a mapping"}},
		{"not YAML", "clients: [", []string{": not YAML, at line 2"}},
		{"not YAML, further below", "clients:\n  - id: a\n\t- x\n", []string{": not YAML, at line 3"}},
		{"secret as an alias", entry("secret: *" + secret), []string{": not YAML"}},
		{"secret as a name", entry(secret + ": x"), []string{":4: a client has no field of that name"}},
		{"two documents", "clients: []\n---\nclients: []\n", []string{": 2 documents, and not one"}},
		{"a list", "- id: a\n", []string{":1: the file is not a mapping"}},
		{"nothing in it", "clients: []\n", []string{":1: no clients"}},
		{"something else", "client: []\n", []string{`:1: the file has no "client"; did you mean clients?`}},
		{"no list", "clients: {id: a}\n", []string{":1: clients is not a list"}},
		{"a client that is a word", "clients: [shop]\n", []string{":1: a client is not a mapping"}},

		{"misspelt", entry(good, "orgins: [a]"), []string{`:5: a client has no "orgins"; did you mean origins?`}},
		{"unknown", entry(good, "redirect_uris: [a]"), []string{`:5: a client has no "redirect_uris"`}},
		{"other case", entry(good, "Origins: [a]"), []string{`:5: a client has no "Origins"; did you mean origins?`}},
		{"twice", entry(good, good), []string{":5: secret comes twice"}},
		{"misspelt lifetime", entry(good, "lifetimes:", "  iddle: 1h"), []string{`:6: lifetimes has no "iddle"; did you mean idle?`}},
		{"all mistakes at once", entry("typ: x", "may_introspect: si", "retry_window: 10"), []string{
			`:4: a client has no "typ"; did you mean type?`, ":5: may_introspect is true or false", ":6: retry_window is a time like",
		}},
		{"of two clients", "clients:\n  - id: [a]\n  - type: pubic\n", []string{":2: id is not a text", ":3: type is public or confidential; did you mean public?"}},

		{"no id", "clients:\n  - type: public\n", []string{`:2: client "": an id is 1 to 64`}},
		{"id with a space", "clients:\n  - id: a b\n    type: public\n", []string{`:2: client "a b": an id is 1 to 64`}},
		{"long id", "clients:\n  - id: " + strings.Repeat("a", 65) + "\n    type: public\n", []string{"an id is 1 to 64"}},
		{"two of one id", "clients:\n  - {id: a, type: public}\n  - {id: a, type: public}\n", []string{`:3: client "a": there is another client of that id`}},
		{"no type", "clients:\n  - id: a\n", []string{`:2: client "a": type is missing`}},
		{"null", entry(good, "origins: ~"), []string{":5: origins is not a text"}},
		{"a mapping for a text", entry(good, "scopes: {a: b}"), []string{":5: scopes is not a text"}},
		{"a list in a list", entry(good, "scopes: [[a]]"), []string{":5: scopes is not a text"}},

		{"no secret", entry("scopes: [a]"), []string{`:2: client "shop": a confidential client needs a secret`}},
		{"empty secret", entry("secret: ''"), []string{":4: secret is not a text"}},
		{"public with a secret", "clients:\n  - id: a\n    type: public\n    " + good + "\n", []string{`:2: client "a": a public client keeps no secret`}},
		{"secret as it is", entry("secret: " + secret), []string{":4: secret: a hashed secret is sha256: and 43 characters of base64url, made by: authapi client hash-secret"}},
		{"short hash", entry("secret: " + hashed[:40]), []string{":4: secret: a hashed secret is"}},
		{"spare bits", entry("secret: " + hashed[:len(hashed)-1] + "J"), []string{":4: secret: a hashed secret is"}},
		{"secret twice", entry("secret: [" + hashed + ", " + hashed + "]"), []string{":4: secret: one comes twice"}},
		{"no such file", entry("secret: file:none"), []string{":4: secret: open ", "none: no such file"}},
		{"short secret", entry("secret: file:short"), []string{":4: secret: ", "short: a client's secret has at least 32 characters"}},
		{"secret that is not random", entry("secret: file:same"), []string{":4: secret: ", "same: this secret is not random"}},
		{"secret with a second line", entry("secret: file:lines"), []string{":4: secret: ", "lines: a client's secret is printable ASCII"}},

		{"public that may introspect", "clients:\n  - {id: a, type: public, may_introspect: true}\n", []string{`:2: client "a": who may start sessions, introspect or follow`}},
		{"public that may start", "clients:\n  - {id: a, type: public, may_start_sessions: true}\n", []string{"needs a secret"}},
		{"yes", entry(good, "may_introspect: yes"), []string{":5: may_introspect is true or false"}},
		{"confidential in a cookie", entry(good, "transport: cookie"), []string{`:2: client "shop": a confidential client has the transport body`}},
		{"cookie of a client without one", entry(good, "cookie_name: __Host-x"), []string{`:2: client "shop": only a client with the transport cookie has`}},
		{"transport", entry(good, "transport: header"), []string{":5: transport is body or cookie"}},

		{"a bare number of seconds", entry(good, "lifetimes: {idle: 3600}"), []string{":5: idle is a time like"}},
		{"no lifetime", entry(good, "lifetimes: {idle: 0s}"), []string{":5: idle is a time like"}},
		{"negative lifetime", entry(good, "lifetimes: {idle: -1h}"), []string{":5: idle is a time like"}},
		{"access tokens for ever", entry(good, "lifetimes: {access: 2h}"), []string{`:2: client "shop": access tokens must live between`}},
		{"idle longer than absolute", entry(good, "lifetimes: {absolute: 1d}"), []string{"the lifetimes must be in this order"}},
		{"half a second", entry(good, "lifetimes: {access: 1500ms}"), []string{"lifetimes are whole seconds"}},
		{"long window", entry(good, "retry_window: 2m"), []string{"the retry window is at most a minute"}},
		{"no sessions", entry(good, "session_limit: 0"), []string{":5: session_limit is a number"}},
		{"many sessions", entry(good, "session_limit: 100000"), []string{":5: session_limit is a number"}},

		{"wildcard origin", entry(good, "origins: ['https://*.example.com']"), []string{`origin "https://*.example.com": the host must be exact`}},
		{"two scopes in one", entry(good, "scopes: read write"), []string{`scope "read write" is not one word`}},
		{"scope twice", entry(good, "scopes: [a, a]"), []string{"comes twice"}},
		{"long scopes", entry(good, "scopes: ["+strings.Repeat("a", 200)+", "+strings.Repeat("b", 60)+"]"), []string{"more than 256 bytes"}},
		{"audience with a space", entry(good, "audience: a b"), []string{`audience "a b" is not`}},
		{"long audiences", entry(good, "audience: ["+strings.Repeat("a", 200)+", "+strings.Repeat("b", 60)+"]"), []string{"the audiences joined by spaces are more than 256 bytes"}},
		{"a directory for a secret", entry("secret: file:."), []string{":4: secret: ", "not a regular file"}},

		{"anchor", "clients:\n  - &a {id: a, type: public}\n", []string{":2: a client is not a mapping"}},
		{"alias", "clients:\n  - id: &x a\n    type: public\n    scopes: [*x]\n", []string{":2: id is not a text", ":4: scopes is not a text"}},
		{"tag", "clients:\n  - id: !!str 5\n    type: public\n", []string{":2: id is not a text"}},
		{"merge key", "clients:\n  - {id: a, type: public, <<: {scopes: [a]}}\n", []string{`:2: a client has no "<<"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, c.text, "short", "short", "same", strings.Repeat("ab", 20), "lines", secret+"\n"+secret)
			clients, err := clientsfile.Read(path)
			if err == nil {
				t.Fatalf("it was read: %+v", clients)
			}
			for _, says := range c.says {
				if strings.HasPrefix(says, ":") {
					says = path + says
				}
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%q does not say %q", err, says)
				}
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), hashed) {
				t.Errorf("the error quotes a secret: %v", err)
			}
		})
	}
}

func TestReadFails(t *testing.T) {
	if _, err := clientsfile.Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file was read that is not there")
	}
	if _, err := clientsfile.Read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	// An absolute path is taken as it is.
	path := write(t, "", "x.secret", secret+"\r\n")
	absolute := write(t, entry("secret: file:"+filepath.Join(filepath.Dir(path), "x.secret")))
	if c, err := clientsfile.Read(absolute); err != nil || c["shop"].Secrets[0] != api.HashClientSecret(secret) {
		t.Errorf("%v", err)
	}
	large := write(t, "clients: []\n#"+strings.Repeat("x", 1<<20))
	if _, err := clientsfile.Read(large); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a megabyte of comment: %v", err)
	}
}

// entryAsText is an entry of the file as a lenient reader has it.
type entryAsText struct {
	ID         string
	Type       string
	Transport  string
	CookieName string `yaml:"cookie_name"`
	Limit      string `yaml:"session_limit"`
	Start      string `yaml:"may_start_sessions"`
	Introspect string `yaml:"may_introspect"`
	Follow     string `yaml:"may_follow_revocations"`
	Scopes     any
	Audience   any
	Origins    any
	Secret     any
}

// count is how many values one text, or a list of them, are.
func count(value any) int {
	if value == nil {
		return 0
	}
	if list, ok := value.([]any); ok {
		return len(list)
	}
	return 1
}

// Whatever the file is, reading it ends in an error, or in clients that make
// sense and are what a lenient reader finds in the file: no entry is lost, and
// nobody may do what the file does not say.
func FuzzRead(f *testing.F) {
	f.Add("clients:\n  - id: a\n    type: public\n")
	f.Add(entry("secret: "+hashed, "lifetimes: {access: 1m, idle: 2d}", "origins: [http://localhost]"))
	f.Add(entry("secret: ["+hashed+"]", "may_introspect: true", "may_follow_revocations: false", "session_limit: 7", "scopes: [a, b]", "audience: x"))
	f.Add("clients: [{id: 0x10, type: 'public', transport: \"cookie\", cookie_name: __Host-x}, {id: b, type: public}]")
	f.Add("clients: [*a, &a {b: *a}]")
	f.Add("{{{{[[[[")
	// One folder for all: a folder for each input would take most of the time.
	path := filepath.Join(f.TempDir(), "clients.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file:") {
			t.Skip("names files of this machine")
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		clients, err := clientsfile.Read(path)
		if (err == nil) != (len(clients) > 0) {
			t.Fatalf("%d clients and %v", len(clients), err)
		}
		if err != nil {
			return
		}
		var lenient struct{ Clients []entryAsText }
		if err := yaml.Load([]byte(text), &lenient); err != nil || len(lenient.Clients) != len(clients) {
			t.Fatalf("a lenient reader finds %d clients, not %d: %v", len(lenient.Clients), len(clients), err)
		}
		for _, e := range lenient.Clients {
			c, ok := clients[e.ID]
			if err := c.Check(); !ok || err != nil || e.ID != c.ID {
				t.Errorf("client %q: %v", e.ID, err)
			}
			if c.MayStart != (e.Start == "true") || c.MayIntrospect != (e.Introspect == "true") || c.MayFollow != (e.Follow == "true") {
				t.Errorf("%+v may do what %+v does not say", c, e)
			}
			if len(c.Secrets) != count(e.Secret) || len(c.Scopes) != count(e.Scopes) || len(c.Audience) != count(e.Audience) || len(c.Origins) != count(e.Origins) {
				t.Errorf("%+v is not %+v", c, e)
			}
			if (e.Type == "confidential") != (len(c.Secrets) > 0) || (e.Transport == "cookie") != (c.Policy.Transport == refresh.Cookie) || c.Cookie != e.CookieName {
				t.Errorf("%+v is not %+v", c, e)
			}
			if limit := strconv.Itoa(c.Policy.Sessions); e.Limit != "" && strings.TrimLeft(e.Limit, "0") != limit {
				t.Errorf("%q sessions became %s", e.Limit, limit)
			}
		}
	})
}

func TestCheckSecret(t *testing.T) {
	for _, good := range []string{secret, strings.Repeat("0123456789abcdef", 2), strings.Repeat("ABCDEFGH", 32)} {
		if err := clientsfile.CheckSecret(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", secret[:31], strings.Repeat("a", 40), strings.Repeat("abc", 20), secret + " x", secret + "\n", "ß" + secret, strings.Repeat("ABCDEFGH", 32) + "x",
	} {
		if err := clientsfile.CheckSecret(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
