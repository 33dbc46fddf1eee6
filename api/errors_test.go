package api

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/authapi/authapi"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/users"
)

// A verdict is what a client is told about an error of another package.
type verdict struct {
	err    error
	status int
	code   string
	reason string
}

// verdicts has every exported error of the packages that handlers call. A new
// one must be put here by somebody who decides what it means for clients; by
// default it is trouble.
var verdicts = map[string]verdict{
	"users.ErrCredentials": {users.ErrCredentials, 401, "invalid_grant", ""},
	"users.ErrBusy":        {users.ErrBusy, 503, "temporarily_unavailable", ""},
	// A record that cannot be read is the service's fault, not the user's.
	"users.ErrHashFormat": {users.ErrHashFormat, 503, "temporarily_unavailable", ""},
	// No handler administers accounts.
	"users.ErrUnknownUser":  {users.ErrUnknownUser, 503, "temporarily_unavailable", ""},
	"users.ErrExists":       {users.ErrExists, 503, "temporarily_unavailable", ""},
	"users.ErrUsername":     {users.ErrUsername, 503, "temporarily_unavailable", ""},
	"users.ErrWeakPassword": {users.ErrWeakPassword, 503, "temporarily_unavailable", ""},
	"users.ErrLongPassword": {users.ErrLongPassword, 503, "temporarily_unavailable", ""},
	"users.ErrRoles":        {users.ErrRoles, 503, "temporarily_unavailable", ""},

	"refresh.ErrToken":   {refresh.ErrToken, 401, "invalid_grant", ""},
	"refresh.ErrExpired": {refresh.ErrExpired, 401, "invalid_grant", "expired"},
	"refresh.ErrEnded":   {refresh.ErrEnded, 401, "invalid_grant", "ended"},
	"refresh.ErrReused":  {refresh.ErrReused, 401, "invalid_grant", "reused"},
	"refresh.ErrLate":    {refresh.ErrLate, 401, "invalid_grant", ""},
	"refresh.ErrClient":  {refresh.ErrClient, 401, "invalid_grant", ""},
	"refresh.ErrScope":   {refresh.ErrScope, 400, "invalid_scope", ""},
	"refresh.ErrGuard":   {refresh.ErrGuard, 401, "invalid_grant", ""},
	"refresh.ErrOften":   {refresh.ErrOften, 429, "slow_down", ""},
	"refresh.ErrLimit":   {refresh.ErrLimit, 429, "slow_down", ""},
	"refresh.ErrClock":   {refresh.ErrClock, 503, "temporarily_unavailable", ""},
	"refresh.ErrReply":   {refresh.ErrReply, 503, "temporarily_unavailable", ""},

	"tokens.ErrInvalid":    {tokens.ErrInvalid, 401, "invalid_token", ""},
	"tokens.ErrMalformed":  {tokens.ErrMalformed, 401, "invalid_token", ""},
	"tokens.ErrUnknownKey": {tokens.ErrUnknownKey, 401, "invalid_token", ""},
	"tokens.ErrSignature":  {tokens.ErrSignature, 401, "invalid_token", ""},
	"tokens.ErrClaims":     {tokens.ErrClaims, 401, "invalid_token", ""},
	"tokens.ErrExpired":    {tokens.ErrExpired, 401, "invalid_token", ""},
}

func TestEveryErrorHasAVerdict(t *testing.T) {
	var found []string
	for _, name := range []string{"refresh", "users", "tokens"} {
		found = append(found, exportedErrors(t, name)...)
	}
	for _, name := range found {
		if _, ok := verdicts[name]; !ok {
			t.Errorf("%s: decide what clients are told, in refusals and here", name)
		}
	}
	for name, want := range verdicts {
		if !slices.Contains(found, name) {
			t.Errorf("there is no %s any more", name)
		}
		for _, err := range []error{want.err, fmt.Errorf("more: %w", want.err)} {
			p, known := problemOf(err)
			if p.status != want.status || p.code != want.code || p.reason != want.reason {
				t.Errorf("%s: %d %s %s, want %d %s %s", name, p.status, p.code, p.reason, want.status, want.code, want.reason)
			}
			// Nothing but trouble may be left to the default.
			if !known && want.status != http.StatusServiceUnavailable {
				t.Errorf("%s: not in the table", name)
			}
		}
	}
	// The error with data counts as its sentinel.
	if p, _ := problemOf(&refresh.ReuseError{}); p.reason != "reused" {
		t.Errorf("ReuseError: %+v", p)
	}
}

// exportedErrors reads a package's source for its variables Err...
func exportedErrors(t *testing.T, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", name, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of package %s: %v", name, err)
	}
	var found []string
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			block, ok := declaration.(*ast.GenDecl)
			if !ok || block.Tok != token.VAR {
				continue
			}
			for _, spec := range block.Specs {
				for _, variable := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(variable.Name, "Err") {
						found = append(found, name+"."+variable.Name)
					}
				}
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("package %s has no errors; is the search broken?", name)
	}
	return found
}

// What is not in the table must never cost anyone a login.
func TestUnknownErrorsAreTrouble(t *testing.T) {
	for _, err := range []error{
		errors.New("dial tcp: connection refused"),
		fmt.Errorf("wrapped: %w", errors.New("OOM command not allowed")),
	} {
		p, known := problemOf(err)
		if known || p.status != http.StatusServiceUnavailable || p.retryAfter < 1 {
			t.Errorf("%v: %+v", err, p)
		}
	}
	// A problem that is wrapped in a cause stays that problem.
	p, known := problemOf(fmt.Errorf("%w: %w", errInternal, refresh.ErrToken))
	if !known || p.status != http.StatusInternalServerError {
		t.Errorf("%+v", p)
	}
}

// Every problem must be one that RFC 6749 and the document allow.
func TestProblems(t *testing.T) {
	all := []problem{
		*errNotFound, *errMethod, *errTooLarge, *errNotJSON, *errNotForm, *errClient, *errCookies,
		*errOthersToken, *errGrantType, *errScope, *errInternal, *errUnavailable, *invalidRequest("x is missing"),
	}
	for _, r := range refusals {
		all = append(all, r.problem)
	}
	// Section 5.2: neither quotes nor backslashes, and nothing beyond ASCII.
	description := regexp.MustCompile(`^[ !#-\[\]-~]+$`)
	for _, p := range all {
		if !description.MatchString(p.description) {
			t.Errorf("%s: description %q", p.code, p.description)
		}
		if !strings.Contains(string(authapi.OpenAPI), "\n        - "+p.code+"\n") {
			t.Errorf("the code %q is not in the document", p.code)
		}
		if wait := p.status == http.StatusTooManyRequests || p.status == http.StatusServiceUnavailable; wait != (p.retryAfter > 0) {
			t.Errorf("%s: status %d with Retry-After %d", p.code, p.status, p.retryAfter)
		}
		if p.reason != "" && p.code != "invalid_grant" {
			t.Errorf("%s has the reason %s", p.code, p.reason)
		}
	}
}
