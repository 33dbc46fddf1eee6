package verify_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/authtest"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// A service that reaches its issuer over HTTP. Requests wait for nothing but
// memory.
func Example() {
	issuer := authtest.NewServer(exampleT{}) // elsewhere, its URL and the secret are configured
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	keys, err := verify.NewJWKS(ctx, verify.JWKSConfig{
		Issuer: issuer.URL,
		Report: func(err error) { log.Print(err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	feed, err := verify.NewRemote(verify.RemoteConfig{
		URL:      issuer.URL + "/revocations",
		ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret,
	})
	if err != nil {
		log.Fatal(err)
	}
	v, err := verify.New(verify.Config{
		Issuer:   issuer.URL,
		Audience: issuer.URL,
		Keys:     keys,
		Replica:  verify.Follow(ctx, feed, func(err error) { log.Print(err) }),
	})
	if err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.Handle("GET /notes", v.Require(verify.Policy{Roles: []string{"editor"}})(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token, _ := verify.Claims(r.Context())
			fmt.Fprintln(w, "the notes of", token.Subject)
		})))

	// A service asks this in its readiness check.
	until(func() bool { return v.Ready() == nil })

	token := issuer.Token(authtest.Roles("editor"))
	show(mux, "GET", "/notes", token)
	show(mux, "GET", "/notes", issuer.Token(authtest.Roles("guest")))

	issuer.Revoke(token) // the user logs out, which counts here within a second
	until(func() bool { _, err := v.Verify(ctx, token); return errors.Is(err, verify.ErrDenied) })
	show(mux, "GET", "/notes", token)
	// Output:
	// GET 200 the notes of alice
	// GET 403 {"error":"insufficient_scope","error_description":"the access token does not allow this"}
	// GET 401 {"error":"invalid_token","error_description":"the access token was revoked"}
}

// Each route says what it asks for, and what happens when nobody can tell which
// tokens were revoked.
func ExampleVerifier_Require() {
	issuer := authtest.New(exampleT{})
	v := issuer.Verifier()

	mux := http.NewServeMux()
	mux.Handle("GET /notes", v.Require(verify.Policy{
		Scopes:    []string{"notes:read"},
		Otherwise: verify.AcceptUntilExpiry, // reading goes on, come what may
	})(done))
	mux.Handle("POST /notes", v.Require(verify.Policy{
		Scopes: []string{"notes:write"},
	})(done))
	mux.Handle("DELETE /notes", v.Require(verify.Policy{
		Roles:  []string{"editor", "admin"}, // one of them
		Strict: true,                        // a logout counts at once, for a round trip
	})(done))

	token := issuer.Token(authtest.Scope("notes:read", "notes:write"), authtest.Roles("editor"))
	show(mux, "GET", "/notes", token)
	show(mux, "POST", "/notes", token)
	show(mux, "DELETE", "/notes", token)
	issuer.Fail()
	show(mux, "GET", "/notes", token)
	show(mux, "DELETE", "/notes", token)
	// Output:
	// GET 200 done
	// POST 200 done
	// DELETE 200 done
	// GET 200 done
	// DELETE 503 {"error":"temporarily_unavailable","error_description":"it cannot be told now whether the token is good"}
}

// Without a replica the function Denied is asked with every request. What it
// knows counts at once.
func ExampleConfig_denied() {
	issuer := authtest.New(exampleT{}) // elsewhere, its keys come from NewJWKS
	var ended sync.Map                 // or a table, with an index on the session id

	v, err := verify.New(verify.Config{
		Issuer:   issuer.URL,
		Audience: issuer.URL,
		Keys:     issuer,
		Denied: func(_ context.Context, c *tokens.Claims) (bool, error) {
			_, denied := ended.Load(c.SessionID)
			return denied, nil // with an error, the answer would be 503 and not 401
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := v.Middleware(done)

	token := issuer.Token(authtest.Session("uv.2F5uQdw0khr5SaFjY0mKKQ"))
	show(handler, "GET", "/", token)
	ended.Store("uv.2F5uQdw0khr5SaFjY0mKKQ", true)
	show(handler, "GET", "/", token)
	// Output:
	// GET 200 done
	// GET 401 {"error":"invalid_token","error_description":"the access token was revoked"}
}

var done = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "done") })

// show prints what a handler answers to somebody with a token.
func show(handler http.Handler, method, path, token string) {
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Print(method, " ", w.Code, " ", w.Body)
}

func until(happened func() bool) {
	for !happened() {
		time.Sleep(10 * time.Millisecond)
	}
}

// exampleT is for package authtest, since an example has no *testing.T. What it
// was given to clean up ends with the process.
type exampleT struct{ testing.TB }

func (exampleT) Helper()                           {}
func (exampleT) Cleanup(func())                    {}
func (exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
