package denylist_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/authtest"
	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/verify"
)

// A service that reaches the issuer's Redis follows the denylist there, and
// asks it for the routes that want it strict, or when the copy is too old.
func Example_service() {
	issuer, address, end := startIssuer() // elsewhere, they are configured
	defer end()

	client := redis.NewClient(&redis.Options{Addr: address, ContextTimeoutEnabled: true})
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	revoked := denylist.New(client, "authapi") // the issuer's AUTHAPI_REDIS_PREFIX
	keys, err := verify.NewJWKS(ctx, verify.JWKSConfig{
		Issuer: issuer.URL,
		Report: func(err error) { log.Print(err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	v, err := verify.New(verify.Config{
		Issuer:   issuer.URL,
		Audience: issuer.URL,
		Keys:     keys,
		Replica:  verify.Follow(ctx, revoked, func(err error) { log.Print(err) }),
		Denied:   revoked.Denied,
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /notes", v.Middleware(notes))
	mux.Handle("DELETE /notes", v.Require(verify.Policy{Strict: true})(notes))

	// A service asks this in its readiness check.
	for v.Ready() != nil {
		time.Sleep(10 * time.Millisecond)
	}

	token := issuer.Token(authtest.Session(sid))
	show(mux, "GET", token)
	// The issuer ends the session.
	if err := revoked.AddSession(ctx, sid); err != nil {
		log.Fatal(err)
	}
	show(mux, "DELETE", token) // at once
	for !errors.Is(check(v, token), verify.ErrDenied) {
		time.Sleep(10 * time.Millisecond)
	}
	show(mux, "GET", token) // within a second
	// Output:
	// GET 200 the notes of alice
	// DELETE 401 {"error":"invalid_token","error_description":"the access token was revoked"}
	// GET 401 {"error":"invalid_token","error_description":"the access token was revoked"}
}

var notes = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	token, _ := verify.Claims(r.Context())
	fmt.Fprintln(w, "the notes of", token.Subject)
})

func show(handler http.Handler, method, token string) {
	r := httptest.NewRequest(method, "/notes", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Print(method, " ", w.Code, " ", w.Body)
}

func check(v *verify.Verifier, token string) error {
	_, err := v.Verify(context.Background(), token)
	return err
}

// startIssuer starts what issues tokens, and a Redis with its denylist, into
// which an instance writes signs of life.
func startIssuer() (issuer *authtest.Issuer, address string, end func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		denylist.New(client, "authapi").Beat(ctx, func(err error) { log.Print(err) })
	}()
	return authtest.NewServer(exampleT{}), server.Addr(), func() {
		cancel()
		<-ended
		client.Close()
		server.Close()
	}
}

// exampleT is for package authtest, since an example has no *testing.T. What it
// was given to clean up ends with the process.
type exampleT struct{ testing.TB }

func (exampleT) Helper()                           {}
func (exampleT) Cleanup(func())                    {}
func (exampleT) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
