package authtest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/authapi/authapi/relay"
)

// ClientID and ClientSecret are those of the client that may read /revocations
// of an issuer that was made by [NewServer].
const (
	ClientID     = "verifier"
	ClientSecret = "verifier-secret"
)

// NewServer returns an issuer that is served over HTTP too, on a loopback
// address, until the test ends. For a service's configuration:
//
//	issuer.URL                                   // the name; verify.JWKSConfig.Issuer
//	issuer.URL + "/.well-known/jwks.json"        // verify.JWKSConfig.URL
//	issuer.URL + "/revocations"                  // verify.RemoteConfig.URL
//	authtest.ClientID, authtest.ClientSecret     // of the same
//
// A service that gets its keys and revocations in this way is ready, and hears
// of revocations, some milliseconds later: a test has to wait for it, for the
// former by [verify.Verifier.Ready].
func NewServer(tb testing.TB) *Issuer {
	tb.Helper()
	i := New(tb)
	feed := relay.New(i, relay.Options{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/.well-known/jwks.json"})
	})
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) { answer(w, i.KeySet()) })
	mux.HandleFunc("GET /revocations", func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id != ClientID || secret != ClientSecret {
			w.Header().Set("WWW-Authenticate", `Basic realm="authtest"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		feed.ServeHTTP(w, r)
	})
	server := httptest.NewUnstartedServer(mux)
	i.URL = "http://" + server.Listener.Addr().String()
	i.Audience = i.URL
	server.Start()

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		feed.Run(ctx)
	}()
	tb.Cleanup(func() {
		// In this order: the server waits for its streams, which end with the feed.
		cancel()
		<-ended
		server.Close()
	})
	return i
}

func answer(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(document) // the client may have gone
}
