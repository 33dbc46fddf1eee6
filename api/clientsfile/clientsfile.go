// Package clientsfile reads the file that names the clients of a deployment.
//
// Call [Read] with its path. docs/clients.md describes the form for those who
// write it; the fields of an entry are the table in this file.
//
// The file is YAML, and read strictly: what is misspelt, comes twice or has the
// wrong form is an error with its line, and all errors are reported at once.
// Anchors, aliases and tags are refused, since what an entry says should stand
// in that entry. Secrets are hashes, or in files of their own; one that stands
// in the file as it is, is refused, and no error quotes it.
//
// The package knows the form. Whether a client makes sense is for api.Client to
// say. It does not watch the file: a change needs a restart.
package clientsfile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/spelling"
	"github.com/authapi/authapi/refresh"
)

// maxFile bounds the file in bytes: more is another file.
const maxFile = 1 << 20

// Read returns the clients that a file names.
func Read(path string) (api.Clients, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	f := &file{path: path, clients: api.Clients{}}
	var documents []yaml.Node
	if err := yaml.Load(text, &documents, yaml.WithAllDocuments()); err != nil {
		return nil, fmt.Errorf("%s: not YAML%s", path, position(err))
	}
	if len(documents) != 1 {
		return nil, fmt.Errorf("%s: %d documents, and not one that names clients", path, len(documents))
	}
	f.read(documents[0].Content[0])
	if len(f.problems) > 0 {
		return nil, errors.Join(f.problems...)
	}
	return f.clients, nil
}

// position is where the library found a mistake. What it says besides may quote
// what stands there, which may be a secret.
func position(err error) string {
	var at *yaml.LoadError
	if errors.As(err, &at) && at.Mark.Line > 0 {
		return fmt.Sprintf(", at line %d", at.Mark.Line)
	}
	return ""
}

func readFile(path string) ([]byte, error) {
	// Others have no end, or none that comes soon.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	opened, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	text, err := io.ReadAll(io.LimitReader(opened, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxFile)
	}
	return text, err
}

// file is what has been read so far.
type file struct {
	path     string
	clients  api.Clients
	problems []error
}

func (f *file) problem(at *yaml.Node, format string, args ...any) {
	f.problems = append(f.problems, fmt.Errorf("%s:%d: "+format, append([]any{f.path, at.Line}, args...)...))
}

func (f *file) read(root *yaml.Node) {
	found := false
	f.mapping(root, "the file", map[string]func(*yaml.Node){
		"clients": func(n *yaml.Node) {
			found = true
			for _, entry := range f.list(n, "clients") {
				f.client(entry)
			}
		},
	})
	if len(f.problems) == 0 && (!found || len(f.clients) == 0) {
		f.problem(root, "no clients")
	}
}

// client reads one entry.
func (f *file) client(entry *yaml.Node) {
	before := len(f.problems)
	var c api.Client
	var kind, transport string
	var lifetimes struct{ access, idle, absolute time.Duration }
	var window *time.Duration
	limit := 0
	f.mapping(entry, "a client", map[string]func(*yaml.Node){
		"id":          func(n *yaml.Node) { c.ID = f.text(n, "id") },
		"type":        func(n *yaml.Node) { kind = f.choice(n, "type", "public", "confidential") },
		"transport":   func(n *yaml.Node) { transport = f.choice(n, "transport", "body", "cookie") },
		"cookie_name": func(n *yaml.Node) { c.Cookie = f.text(n, "cookie_name") },
		"lifetimes": func(n *yaml.Node) {
			f.mapping(n, "lifetimes", map[string]func(*yaml.Node){
				"access":   func(n *yaml.Node) { lifetimes.access = f.duration(n, "access") },
				"idle":     func(n *yaml.Node) { lifetimes.idle = f.duration(n, "idle") },
				"absolute": func(n *yaml.Node) { lifetimes.absolute = f.duration(n, "absolute") },
			})
		},
		"retry_window":           func(n *yaml.Node) { d := f.duration(n, "retry_window"); window = &d },
		"session_limit":          func(n *yaml.Node) { limit = f.count(n, "session_limit") },
		"audience":               func(n *yaml.Node) { c.Audience = f.texts(n, "audience") },
		"scopes":                 func(n *yaml.Node) { c.Scopes = f.texts(n, "scopes") },
		"origins":                func(n *yaml.Node) { c.Origins = f.texts(n, "origins") },
		"secret":                 func(n *yaml.Node) { c.Secrets = f.secrets(n) },
		"may_start_sessions":     func(n *yaml.Node) { c.MayStart = f.truth(n, "may_start_sessions") },
		"may_introspect":         func(n *yaml.Node) { c.MayIntrospect = f.truth(n, "may_introspect") },
		"may_follow_revocations": func(n *yaml.Node) { c.MayFollow = f.truth(n, "may_follow_revocations") },
	})
	if len(f.problems) > before {
		return
	}
	switch {
	case kind == "":
		f.problem(entry, "client %q: type is missing; it is public or confidential", c.ID)
		return
	case kind == "confidential" && len(c.Secrets) == 0:
		f.problem(entry, "client %q: a confidential client needs a secret", c.ID)
		return
	case kind == "public" && len(c.Secrets) > 0:
		f.problem(entry, "client %q: a public client keeps no secret; make it confidential, or take the secret out", c.ID)
		return
	case c.Cookie != "" && transport != "cookie":
		f.problem(entry, "client %q: only a client with the transport cookie has a cookie_name", c.ID)
		return
	case kind == "confidential" && transport == "cookie":
		f.problem(entry, "client %q: a confidential client has the transport body", c.ID)
		return
	}
	c.Policy = api.DefaultPolicy(transports[kind+" "+transport])
	for _, given := range []struct {
		from time.Duration
		into *time.Duration
	}{
		{lifetimes.access, &c.Policy.Access}, {lifetimes.idle, &c.Policy.Idle}, {lifetimes.absolute, &c.Policy.Absolute},
	} {
		if given.from != 0 {
			*given.into = given.from
		}
	}
	if window != nil {
		c.Policy.Window = *window
	}
	if limit != 0 {
		c.Policy.Sessions = limit
	}
	if err := c.Check(); err != nil {
		f.problem(entry, "client %q: %w", c.ID, err)
		return
	}
	if _, taken := f.clients[c.ID]; taken {
		f.problem(entry, "client %q: there is another client of that id", c.ID)
		return
	}
	f.clients[c.ID] = c
}

var transports = map[string]refresh.Transport{
	"public ":           refresh.Body,
	"public body":       refresh.Body,
	"public cookie":     refresh.Cookie,
	"confidential ":     refresh.Authenticated,
	"confidential body": refresh.Authenticated,
}

// mapping reads the fields of a mapping.
func (f *file) mapping(n *yaml.Node, what string, fields map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode || !f.plain(n) {
		f.problem(n, "%s is not a mapping of names to values", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		read, known := fields[name.Value]
		switch {
		case name.Kind != yaml.ScalarNode || !f.plain(name):
			f.problem(name, "%s has a name that is not a word", what)
		case !known:
			f.problem(name, "%s has no %s%s", what, quoted(name.Value), spelling.Suggest(name.Value, slices.Sorted(maps.Keys(fields))))
		case seen[name.Value]:
			f.problem(name, "%s comes twice", name.Value)
		default:
			read(value)
		}
		seen[name.Value] = true
	}
}

// quoted is a name, unless it is so long that it could be a secret.
func quoted(name string) string {
	if len(name) >= minSecret {
		return "field of that name"
	}
	return strconv.Quote(name)
}

// plain refuses what makes a value depend on other places of the file.
func (f *file) plain(n *yaml.Node) bool {
	return n.Anchor == "" && n.Alias == nil && n.Style&yaml.TaggedStyle == 0
}

func (f *file) list(n *yaml.Node, name string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode || !f.plain(n) {
		f.problem(n, "%s is not a list", name)
		return nil
	}
	return n.Content
}

// scalar returns the text of a value, as it stands or between quotes.
func (f *file) scalar(n *yaml.Node) (string, bool) {
	return n.Value, n.Kind == yaml.ScalarNode && f.plain(n) && n.Tag != "!!null" && n.Value != ""
}

func (f *file) text(n *yaml.Node, name string) string {
	text, ok := f.scalar(n)
	if !ok {
		f.problem(n, "%s is not a text", name)
	}
	return text
}

// texts reads one text or a list of them.
func (f *file) texts(n *yaml.Node, name string) []string {
	elements := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		elements = f.list(n, name)
	}
	var texts []string
	for _, element := range elements {
		texts = append(texts, f.text(element, name))
	}
	return texts
}

func (f *file) choice(n *yaml.Node, name string, choices ...string) string {
	text, ok := f.scalar(n)
	if !ok || !slices.Contains(choices, text) {
		f.problem(n, "%s is %s%s", name, strings.Join(choices, " or "), spelling.Suggest(text, choices))
	}
	return text
}

func (f *file) truth(n *yaml.Node, name string) bool {
	return f.choice(n, name, "true", "false") == "true"
}

func (f *file) count(n *yaml.Node, name string) int {
	text, _ := f.scalar(n)
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 {
		f.problem(n, "%s is a number from 1 to 65535", name)
	}
	return int(number)
}

// duration reads a duration with its unit. Days are there because sessions live
// for days.
func (f *file) duration(n *yaml.Node, name string) time.Duration {
	text, _ := f.scalar(n)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if number, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(number) * 24 * time.Hour
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || (d == 0 && name != "retry_window") {
		f.problem(n, "%s is a time like 30s, 5m, 24h or 14d", name)
	}
	return d
}

// secrets reads one secret or a list of them: a hash, or the name of a file that
// holds the secret.
func (f *file) secrets(n *yaml.Node) []api.ClientSecret {
	var secrets []api.ClientSecret
	for _, text := range f.texts(n, "secret") {
		secret, err := f.secret(text)
		if err != nil {
			f.problem(n, "secret: %w", err)
			continue
		}
		if slices.Contains(secrets, secret) {
			f.problem(n, "secret: one comes twice")
		}
		secrets = append(secrets, secret)
	}
	return secrets
}

func (f *file) secret(text string) (api.ClientSecret, error) {
	path, ok := strings.CutPrefix(text, "file:")
	if !ok {
		secret, err := api.ParseClientSecret(text)
		if err != nil {
			err = fmt.Errorf("%w, made by: authapi client hash-secret; or file: and the path of a file that holds the secret", err)
		}
		return secret, err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(f.path), path)
	}
	content, err := readFile(path)
	if err != nil {
		return api.ClientSecret{}, err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if err := CheckSecret(secret); err != nil {
		return api.ClientSecret{}, fmt.Errorf("%s: %w", path, err)
	}
	return api.HashClientSecret(secret), nil
}
