// Package contract_test holds the service against openapi.yaml: the same
// routes on both sides, and every documented answer given for real.
//
// That each single response matches the document is checked by tests/service
// wherever a test sends a request.
package contract_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// public are the routes that answer without an access token.
var public = []string{
	"GET /.well-known/jwks.json",
	"GET /.well-known/oauth-authorization-server",
	"GET /healthz",
	"GET /openapi.yaml",
	"GET /readyz",
	"POST /login",
	"POST /logout", // takes an expired access token, or a refresh token
	"POST /oauth/revoke",
	"POST /oauth/token",
	"POST /refresh",
}

// clientsOnly are the routes for clients that authenticate themselves.
var clientsOnly = []string{
	"DELETE /users/{sub}/sessions",
	"GET /revocations",
	"POST /oauth/introspect",
	"POST /sessions",
	"PUT /users/{sub}/roles",
}

func document(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := service.Document()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// operations returns the document's, by "METHOD /path".
func operations(t *testing.T) map[string]*openapi3.Operation {
	t.Helper()
	all := map[string]*openapi3.Operation{}
	for path, item := range document(t).Paths.Map() {
		for method, operation := range item.Operations() {
			all[method+" "+path] = operation
		}
	}
	return all
}

// routes returns the router's.
func routes(t *testing.T, v *service.Service) []string {
	t.Helper()
	var all []string
	err := chi.Walk(v.API.Routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		all = append(all, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRouterAndDocumentHaveTheSameRoutes(t *testing.T) {
	documented := operations(t)
	routed := routes(t, service.Start(t, redistest.Miniredis(t)))
	for _, route := range routed {
		if documented[route] == nil {
			t.Errorf("%s is not in openapi.yaml", route)
		}
	}
	for route := range documented {
		if !slices.Contains(routed, route) {
			t.Errorf("%s is in openapi.yaml, but there is no such route", route)
		}
	}
}

// Row 54: a route that is added without a guard must be put on the list of public
// ones by somebody who thinks about it. Nobody gets in by the method, or by another
// spelling of the path, either.
func TestRow54EveryOtherRouteNeedsAnAccessToken(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	commands := redistest.CommandCount(v.Redis)
	guarded := 0
	for _, route := range routes(t, v) {
		if slices.Contains(public, route) {
			continue
		}
		guarded++
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{sid}", someSID, "{sub}", "42").Replace(path)
		code, challenge := "invalid_token", "Bearer"
		if slices.Contains(clientsOnly, route) {
			code, challenge = "invalid_client", `Basic realm="authapi"`
		}
		a := v.Send(service.Request{Method: method, Path: path})
		a.Is(t, http.StatusUnauthorized, code)
		if got := a.Header.Get("WWW-Authenticate"); got != challenge {
			t.Errorf("%s: WWW-Authenticate: %q", route, got)
		}
		for _, path := range []string{
			path + "/", "/" + path, path + "//", path + "/.", "/." + path, "/x/.." + path, path + "%2f", path + ";x", path + "%00", path + "%20",
			strings.ToUpper(path), "/healthz/.." + path, "/page" + path, "/docs/.." + path,
		} {
			a, err := v.Raw(service.Request{Method: method, Path: path})
			if err != nil || a.Status >= 200 && a.Status < 300 || a.Status >= 500 {
				t.Errorf("%s %s: %d, %v", method, path, a.Status, err)
			}
		}
	}
	if guarded < 4 {
		t.Errorf("only %d routes are guarded; is the walk broken?", guarded)
	}
	if n := commands.Total(); n != 0 {
		t.Errorf("Redis was asked %d times on behalf of nobody", n)
	}
}

// What the document says about security, and what every operation must list.
func TestDocumentIsComplete(t *testing.T) {
	doc := document(t)
	for route, operation := range operations(t) {
		needsToken := operation.Security == nil && len(doc.Security) > 0
		if slices.Contains(clientsOnly, route) {
			if s := operation.Security; s == nil || len(*s) != 1 || (*s)[0]["clientAuth"] == nil {
				t.Errorf("%s: the document does not say that only clients may ask", route)
			}
		} else if needsToken == slices.Contains(public, route) {
			t.Errorf("%s: the document and the list of public routes disagree on whether it needs a token", route)
		}
		var want []int
		if needsToken {
			want = append(want, 401, 503)
		}
		if operation.RequestBody != nil {
			want = append(want, 400, 413, 415, 503)
		}
		for _, status := range append(want, 500) {
			if operation.Responses.Status(status) == nil {
				t.Errorf("%s does not list %d", route, status)
			}
		}
		for status, response := range operation.Responses.Map() {
			if h := response.Value.Headers["X-Request-Id"]; h == nil || !h.Value.Required {
				t.Errorf("%s %s does not promise X-Request-Id", route, status)
			}
		}
		if operation.OperationID == "" || operation.Summary == "" || len(operation.Tags) != 1 {
			t.Errorf("%s needs an operationId, a summary and one tag", route)
		}
	}
}
