// Command notes is a service that verifies access tokens by itself: no request
// waits for the issuer, and a token whose session was ended is refused within a
// second. It is the example of docs/verify.md.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/authapi/authapi/verify"
)

func main() {
	guard, err := newGuard(context.Background(), cmp.Or(os.Getenv("ISSUER"), "http://localhost:8080"), cmp.Or(os.Getenv("VERIFIER_SECRET"), "verifier-secret"))
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("GET /notes", guard.Middleware(http.HandlerFunc(list)))
	http.Handle("DELETE /notes", guard.Require(verify.Policy{Roles: []string{"admin"}})(http.HandlerFunc(clear)))
	http.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := guard.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe(cmp.Or(os.Getenv("ADDR"), "localhost:9090"), nil))
}

func newGuard(ctx context.Context, issuer, secret string) (*verify.Verifier, error) {
	keys, err := verify.NewJWKS(ctx, verify.JWKSConfig{URL: issuer + "/.well-known/jwks.json"})
	if err != nil {
		return nil, err
	}
	feed, err := verify.NewRemote(verify.RemoteConfig{URL: issuer + "/revocations", ClientID: "verifier", ClientSecret: secret})
	if err != nil {
		return nil, err
	}
	revoked := verify.Follow(ctx, feed, func(err error) { log.Print(err) })
	return verify.New(verify.Config{Issuer: issuer, Audience: issuer, Keys: keys, Replica: revoked})
}

func list(w http.ResponseWriter, r *http.Request) {
	token, _ := verify.Claims(r.Context())
	fmt.Fprintf(w, "the notes of %s\n", token.Subject)
}

func clear(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
