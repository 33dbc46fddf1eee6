package contract_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/tokens"
)

// cannotHappen lists the documented answers that no request brings about, and
// why. Whoever adds one here says so to the readers of the document.
var cannotHappen = map[string]string{
	"GET /healthz 500":                                "asks nothing and nobody; only a bug could answer so",
	"GET /openapi.yaml 500":                           "sends a file that is part of the program; only a bug could answer so",
	"DELETE /users/{sub}/sessions 500":                "asks storage alone, whose trouble is 503; only a bug could answer so",
	"PUT /users/{sub}/roles 500":                      "likewise",
	"GET /.well-known/oauth-authorization-server 500": "sends what was made at the start; only a bug could answer so",
}

// reservedCodes are documented and never sent.
var reservedCodes = []string{"unsupported_token_type"}

// faultyKeys are the service's keys until they break.
type faultyKeys struct {
	api.Keys
	broken atomic.Bool
}

func (k *faultyKeys) Signer() *tokens.SigningKey {
	if k.broken.Load() {
		panic("no signer")
	}
	return k.Keys.Signer()
}

func (k *faultyKeys) KeySet() *tokens.KeySet {
	if k.broken.Load() {
		panic("no key set")
	}
	return k.Keys.KeySet()
}

const someSID = "uv.kCuprU-EQKQAuZDf8yN3DQ"

// large is a body that every route finds too large, and valid in its first
// half.
var large = `{"username":"` + strings.Repeat("a", 9<<10) + `"}`

// A question is one request and the answer that it must get.
type question struct {
	request service.Request
	status  int
	code    string
}

// TestEveryDocumentedAnswerIsGiven sends the document's every operation into
// each answer that it lists. Together with the checks in tests/service, which
// refuse answers that are not listed, document and service say the same.
func TestEveryDocumentedAnswerIsGiven(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		keys := &faultyKeys{}
		var notReady atomic.Bool
		stranger := api.HashClientSecret("stranger's secret")
		v := service.Start(t, s, service.With(func(c *api.Config) {
			keys.Keys, c.Keys = c.Keys, keys
			ready := c.Ready
			c.Ready = func(ctx context.Context) error {
				if notReady.Load() {
					panic("not foreseen")
				}
				return ready(ctx)
			}
			relay := c.Revocations
			c.Revocations = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if notReady.Load() {
					panic("not foreseen")
				}
				relay.ServeHTTP(w, r)
			})
			c.Clients["stranger"] = api.Client{ID: "stranger", Secrets: []api.ClientSecret{stranger}}
		}))
		given := &answers{routes: map[string]bool{}, codes: map[string]bool{}}
		ask := func(questions ...question) {
			t.Helper()
			for _, q := range questions {
				a := v.Send(q.request)
				a.Is(t, q.status, q.code)
				given.add(a)
			}
		}

		health(ask)
		following(ask)
		introspection(t, v, ask)
		sessions(t, v, ask)
		oauth(t, v, ask)
		gateways(t, v, ask)
		otherPages(t, v, ask)
		ownUsers(t, v, ask)
		badRequests(ask)
		ask(
			question{service.Request{Path: "/nothing/here"}, 404, "not_found"},
			question{service.Request{Path: "/login"}, 405, "method_not_allowed"},
		)

		access, refresh := tokensOf(t, v)
		keys.broken.Store(true)
		notReady.Store(true)
		for _, q := range needingStorage(access, refresh) {
			q.status, q.code = 500, "server_error"
			ask(q)
		}
		ask(
			question{service.Request{Path: "/.well-known/jwks.json"}, 500, "server_error"},
			question{revocations(api.Verifier, service.VerifierSecret), 500, "server_error"},
		)
		keys.broken.Store(false)
		notReady.Store(false)

		v.Me(access).OK(t) // trouble in one request is over with it
		v.Relay.Drain()
		ask(question{revocations(api.Verifier, service.VerifierSecret), 503, "temporarily_unavailable"})
		s.Kill()
		var all sync.WaitGroup
		for _, q := range append(needingStorage(access, refresh), needingStorageAlone()...) {
			all.Go(func() {
				a := v.Send(q.request)
				a.Is(t, 503, "temporarily_unavailable")
				given.add(a)
			})
		}
		all.Wait()

		unlisted := maps.Clone(cannotHappen)
		for route, operation := range operations(t) {
			for status := range operation.Responses.Map() {
				answer := route + " " + status
				_, impossible := cannotHappen[answer]
				if given.routes[answer] == impossible {
					t.Errorf("%s: given is %v, listed as impossible is %v", answer, given.routes[answer], impossible)
				}
				delete(unlisted, answer)
			}
		}
		for answer := range unlisted {
			t.Errorf("%s is listed as impossible, but is not in the document", answer)
		}
		for _, code := range document(t).Components.Schemas["ErrorCode"].Value.Enum {
			if given.codes[code.(string)] == slices.Contains(reservedCodes, code.(string)) {
				t.Errorf("error code %q: given is %v, and the reserved ones are %q", code, given.codes[code.(string)], reservedCodes)
			}
		}
	})
}

type answers struct {
	mu            sync.Mutex
	routes, codes map[string]bool
}

func (g *answers) add(a service.Answer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.routes[a.Route+" "+strconv.Itoa(a.Status)] = true
	g.codes[a.Error] = true
}

func tokensOf(t *testing.T, v *service.Service) (access, refresh string) {
	t.Helper()
	a := v.Login().OK(t)
	return a.Access, a.Refresh
}

func login(username, password string) service.Request {
	return service.JSON("/login", fmt.Sprintf(`{"username":%q,"password":%q}`, username, password))
}

func health(ask func(...question)) {
	for _, path := range []string{
		"/healthz", "/readyz", "/openapi.yaml",
		"/.well-known/jwks.json", "/.well-known/oauth-authorization-server",
	} {
		ask(
			question{service.Request{Path: path}, 200, ""},
			question{service.Request{Method: http.MethodHead, Path: path}, 200, ""},
		)
	}
}

func revocations(client, secret string) service.Request {
	return service.Request{Path: "/revocations"}.WithClient(client, secret)
}

// following asks with HEAD where the answer to GET would be a stream.
func following(ask func(...question)) {
	head := revocations(api.Verifier, service.VerifierSecret)
	head.Method = http.MethodHead
	bare := head // not form-encoded
	bare.Header = http.Header{}
	bare.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(api.Verifier+":"+service.VerifierSecret)))
	ask(
		question{head, 200, ""},
		question{bare, 200, ""},
		question{service.Request{Path: "/revocations"}, 401, "invalid_client"},
		question{revocations(api.Verifier, "wrong"), 401, "invalid_client"},
		question{revocations(api.Verifier, ""), 401, "invalid_client"},
		question{revocations("", ""), 401, "invalid_client"},
		question{revocations("nobody", service.VerifierSecret), 401, "invalid_client"},
		question{revocations("mobile", ""), 401, "invalid_client"},
		question{revocations("stranger", "stranger's secret"), 403, "unauthorized_client"},
		question{service.JSON("/login", `{"username":"alice","password":"x","client_id":"verifier"}`), 401, "invalid_client"},
		question{service.JSON("/login", `{"username":"alice","password":"x"}`).WithClient(api.Verifier, service.VerifierSecret), 400, "unauthorized_client"},
	)
}

func introspection(t *testing.T, v *service.Service, ask func(...question)) {
	access, _ := tokensOf(t, v)
	request := service.Form("/oauth/introspect", "token", access)
	may := func(r service.Request) service.Request {
		return r.WithClient(service.Introspector, service.IntrospectorSecret)
	}
	oversized, mistyped := request, request
	oversized.Body, mistyped.Type = large, "application/json"
	ask(
		question{may(request), 200, ""},
		question{request, 401, "invalid_client"},
		question{request.WithBearer(access), 401, "invalid_client"},
		question{request.WithClient(service.Introspector, service.VerifierSecret), 401, "invalid_client"},
		question{request.WithClient(api.Verifier, service.VerifierSecret), 403, "unauthorized_client"},
		question{may(service.Form("/oauth/introspect")), 400, "invalid_request"},
		question{may(oversized), 413, "invalid_request"},
		question{may(mistyped), 415, "invalid_request"},
		question{service.Request{Path: "/revocations"}.WithClient(service.Introspector, service.IntrospectorSecret), 403, "unauthorized_client"},
	)
}

func sessions(t *testing.T, v *service.Service, ask func(...question)) {
	ask(
		question{login(service.Username, service.Password), 200, ""},
		question{login(service.Username, service.Password+"x"), 401, "invalid_grant"},
	)
	for range throttle.DefaultAccount.N { // as many are refused, and no more are looked at
		ask(question{login("nobody", service.Password), 401, "invalid_grant"})
	}
	ask(question{login("nobody", service.Password), 429, "slow_down"})
	access, refresh := tokensOf(t, v)
	ask(
		question{service.RefreshRequest(refresh, ""), 200, ""},
		question{service.RefreshRequest(refresh+"x", ""), 401, "invalid_grant"},
	)
	for range 8 { // the ninth repeat is one too many
		ask(question{service.RefreshRequest(refresh, ""), 200, ""})
	}
	ask(
		question{service.RefreshRequest(refresh, ""), 429, "slow_down"},
		question{service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", refresh), 429, "slow_down"},
	)

	get := func(path string) service.Request { return service.Request{Path: path, Bearer: access} }
	remove := func(path string) service.Request {
		return service.Request{Method: http.MethodDelete, Path: path, Bearer: access}
	}
	current := v.Me(access).OK(t).SID
	other, _ := tokensOf(t, v)
	ask(
		question{get("/me"), 200, ""},
		question{get("/sessions"), 200, ""},
		question{remove("/sessions?except=mine"), 400, "invalid_request"},
		question{remove("/sessions/" + someSID), 404, "not_found"},
		question{remove("/sessions/" + v.Me(other).OK(t).SID), 204, ""},
		question{remove("/sessions?except=current"), 204, ""},
		question{get("/me").WithBearer(other), 401, "invalid_token"},
		question{get("/sessions").WithBearer(other), 401, "invalid_token"},
		question{remove("/sessions").WithBearer(other), 401, "invalid_token"},
		question{remove("/sessions/" + current).WithBearer(other), 401, "invalid_token"},
		question{remove("/sessions"), 204, ""},
	)

	access, _ = tokensOf(t, v)
	logout := service.Request{Method: http.MethodPost, Path: "/logout"}
	ask(
		question{logout.WithBearer(access), 204, ""},
		question{logout.WithBearer(access), 204, ""},
		question{logout.WithBearer(access + "x"), 401, "invalid_token"},
		question{logout, 400, "invalid_request"},
	)
}

func oauth(t *testing.T, v *service.Service, ask func(...question)) {
	access, refresh := tokensOf(t, v)
	ask(
		question{service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", refresh), 200, ""},
		question{service.Form("/oauth/token", "grant_type", "password"), 400, "unsupported_grant_type"},
		question{service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", refresh, "scope", "all"), 400, "invalid_scope"},
		question{service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", refresh, "client_id", "web"), 400, "unauthorized_client"},
		question{service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", refresh, "client_id", "none"), 400, "invalid_client"},
		question{service.Form("/oauth/revoke", "token", access), 200, ""},
		question{service.Form("/oauth/revoke", "client_id", "mobile"), 400, "invalid_request"},
	)
}

// otherPages are pages of nobody's, whose requests do nothing.
func otherPages(t *testing.T, v *service.Service, ask func(...question)) {
	access, refresh := tokensOf(t, v)
	for _, r := range []service.Request{
		login(service.Username, service.Password),
		service.RefreshRequest(refresh, ""),
		{Method: http.MethodPost, Path: "/logout", Bearer: access},
		{Method: http.MethodDelete, Path: "/sessions", Bearer: access},
		{Method: http.MethodDelete, Path: "/sessions/" + someSID, Bearer: access},
		service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", refresh),
		service.Form("/oauth/revoke", "token", access),
		service.Form("/oauth/introspect", "token", access).WithClient(service.Introspector, service.IntrospectorSecret),
		service.JSON("/sessions", `{"sub":"42"}`).AsShop(),
		service.Request{Method: http.MethodDelete, Path: "/users/42/sessions"}.AsShop(),
		service.Request{Method: http.MethodPut, Path: "/users/42/roles", Type: "application/json", Body: `{"roles":[]}`}.AsShop(),
	} {
		ask(question{r.WithHeader("Origin", "https://evil.example"), 403, "access_denied"})
	}
	v.Me(access).OK(t)
}

func gateways(t *testing.T, v *service.Service, ask func(...question)) {
	access, _ := tokensOf(t, v)
	ask(
		question{service.Request{Path: "/verify", Bearer: access}, 204, ""},
		question{service.Request{Path: "/verify?audience=a&audience=a", Bearer: access}, 400, "invalid_request"},
		question{service.Request{Path: "/verify?audience=nobody", Bearer: access}, 401, "invalid_token"},
	)
}

func ownUsers(t *testing.T, v *service.Service, ask func(...question)) {
	shop := v.StartSession("42").OK(t)
	token := service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", shop.Refresh)
	revoke := service.Form("/oauth/revoke", "token", shop.Refresh)
	ask(
		question{token, 400, "invalid_grant"},
		question{token.WithClient(service.Shop, "wrong"), 401, "invalid_client"},
		question{revoke, 401, "invalid_client"},
		question{service.JSON("/refresh", `{"refresh_token":"x","scope":"  "}`), 400, "invalid_scope"},
	)
	start := service.JSON("/sessions", `{"sub":"42"}`)
	end := service.Request{Method: http.MethodDelete, Path: "/users/42/sessions"}
	roles := service.JSON("/users/42/roles", `{"roles":["a"]}`)
	roles.Method = http.MethodPut
	ask(
		question{start.AsShop(), 200, ""},
		question{end.AsShop(), 204, ""},
		question{roles.AsShop(), 204, ""},
		question{service.JSON("/sessions", `{"sub":"42","scope":"admin"}`).AsShop(), 400, "invalid_scope"},
	)
	end.Path = "/users/a%20b/sessions"
	ask(question{end.AsShop(), 400, "invalid_request"})
	for _, r := range []service.Request{start, roles} {
		malformed, oversized, mistyped := r.AsShop(), r.AsShop(), r.AsShop()
		malformed.Body, oversized.Body, mistyped.Type = "{", large, "text/plain"
		ask(
			question{malformed, 400, "invalid_request"},
			question{oversized, 413, "invalid_request"},
			question{mistyped, 415, "invalid_request"},
		)
	}
	for _, r := range []service.Request{start, end, roles} {
		ask(
			question{r, 401, "invalid_client"},
			question{r.WithClient(service.Introspector, service.IntrospectorSecret), 403, "unauthorized_client"},
		)
	}
}

// badRequests are malformed, too large or of the wrong type.
func badRequests(ask func(...question)) {
	for _, path := range []string{"/login", "/refresh", "/logout", "/oauth/token", "/oauth/revoke"} {
		right, wrong := "application/json", "application/x-www-form-urlencoded"
		if strings.HasPrefix(path, "/oauth/") {
			right, wrong = wrong, right
		}
		post := service.Request{Method: http.MethodPost, Path: path, Type: right}
		malformed, oversized, mistyped := post, post, post
		malformed.Body, oversized.Body = "{%zz", large
		mistyped.Type, mistyped.Body = wrong, "{}"
		ask(
			question{malformed, 400, "invalid_request"},
			question{oversized, 413, "invalid_request"},
			question{mistyped, 415, "invalid_request"},
		)
	}
}

// needingStorage are requests that would succeed, one for each operation that
// uses keys and storage.
func needingStorage(access, refresh string) []question {
	requests := []service.Request{
		{Path: "/readyz"},
		login(service.Username, service.Password),
		service.RefreshRequest(refresh, ""),
		{Method: http.MethodPost, Path: "/logout", Bearer: access},
		{Path: "/me", Bearer: access},
		{Path: "/verify", Bearer: access},
		service.JSON("/sessions", `{"sub":"42"}`).AsShop(),
		{Path: "/sessions", Bearer: access},
		{Method: http.MethodDelete, Path: "/sessions", Bearer: access},
		{Method: http.MethodDelete, Path: "/sessions/" + someSID, Bearer: access},
		service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", refresh),
		service.Form("/oauth/revoke", "token", access),
		service.Form("/oauth/introspect", "token", access).WithClient(service.Introspector, service.IntrospectorSecret),
	}
	return questionsOf(requests)
}

// needingStorageAlone are those that use no keys.
func needingStorageAlone() []question {
	return questionsOf([]service.Request{
		service.Request{Method: http.MethodDelete, Path: "/users/42/sessions"}.AsShop(),
		service.Request{Method: http.MethodPut, Path: "/users/42/roles", Type: "application/json", Body: `{"roles":[]}`}.AsShop(),
	})
}

func questionsOf(requests []service.Request) []question {
	questions := make([]question, len(requests))
	for i, r := range requests {
		questions[i].request = r
	}
	return questions
}
