package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/users"
)

// The demo's only user. Everybody knows the password, so the demo must be
// reachable by nobody else: see loopbackOnly and the checks in config.go.
const (
	demoUser     = "demo"
	demoPassword = "demo-password"

	// Likewise: two clients with secrets that everybody knows.
	demoVerifierSecret = "verifier-secret"
	demoApp            = "app"
	demoAppSecret      = "app-secret"
)

// demoClients are the clients of a deployment without configuration, open to
// development servers, and one for applications that have users of their own.
func demoClients() api.Clients {
	clients := api.BuiltinClients(developmentOrigins...)
	// Over http some browsers drop cookies that are for https only, on loopback
	// too.
	web := clients["web"]
	web.Cookie = "authapi-refresh"
	clients["web"] = web
	clients.AddVerifier([]string{demoVerifierSecret})
	clients[demoApp] = api.Client{
		ID:       demoApp,
		Policy:   api.DefaultPolicy(refresh.Authenticated),
		Secrets:  []api.ClientSecret{api.HashClientSecret(demoAppSecret)},
		MayStart: true, MayFollow: true, MayIntrospect: true,
	}
	return clients
}

// developmentOrigins are where the usual development servers of front ends
// listen. Only the demo lets their pages in.
var developmentOrigins = []string{
	"http://localhost:3000", "http://localhost:4200", "http://localhost:5173", "http://localhost:8081",
	"http://127.0.0.1:3000", "http://127.0.0.1:4200", "http://127.0.0.1:5173", "http://127.0.0.1:8081",
}

// embedded is a Redis inside this process. It forgets everything when the
// process ends.
type embedded struct {
	url    string
	secret []byte
	stop   func()
}

// tick is how often the embedded Redis is told that time has passed: it does
// not let keys expire by itself.
const tick = 100 * time.Millisecond

// startEmbedded starts it on a loopback port, with a password: other users of
// the machine can reach the port too.
func startEmbedded() (*embedded, error) {
	server := miniredis.NewMiniRedis()
	password := rand.Text()
	server.RequireAuth(password)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	secret := make([]byte, 32)
	rand.Read(secret)

	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		last := time.Now()
		for {
			select {
			case <-done:
				return
			case now := <-ticker.C:
				server.FastForward(now.Sub(last))
				last = now
			}
		}
	}()
	return &embedded{
		url:    "redis://:" + password + "@" + server.Addr(),
		secret: secret,
		stop: func() {
			close(done)
			server.Close()
		},
	}, nil
}

func addDemoUser(ctx context.Context, directory *users.Directory) error {
	if _, err := directory.Add(ctx, demoUser, demoPassword, []string{"user"}); err != nil {
		return fmt.Errorf("add the demo user: %w", err)
	}
	return nil
}

// loopbackOnly keeps the demo from whoever is not at this machine. The
// listener is on loopback, but that is not enough: a page on any site can make
// a browser here send requests to a name that resolves to 127.0.0.1 (the Host
// then is that name), and a proxy in front would carry the world in.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		problem := ""
		if !isLoopback(trimBrackets(host)) {
			problem = "this demo answers to localhost only"
		}
		if proxied(r) {
			problem = "this demo does not work behind a proxy"
		}
		if problem == "" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":"invalid_request","error_description":%q}`+"\n", problem)
	})
}

// proxied reports whether a request looks as if a proxy had sent it: by a
// header, even an empty one, that proxies add, or by HTTP/1.0, which nginx
// speaks unless told otherwise, with no header to tell.
func proxied(r *http.Request) bool {
	if !r.ProtoAtLeast(1, 1) {
		return true
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded") || slices.Contains(proxyHeaders, name) {
			return true
		}
	}
	return false
}

var proxyHeaders = []string{
	"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip",
	"X-Cluster-Client-Ip", "X-Original-Host", "X-Envoy-External-Address",
}

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

// greet tells somebody who has just started the demo what to do next.
func greet(w io.Writer, url string) {
	fmt.Fprintf(w, `
authapi runs at %[1]s as a demo: an embedded Redis, one user, nothing is kept.
Open it in a browser, as %[2]s with the password %[3]s, or try it here:

  curl -s %[1]s/login --json '{"username":"%[2]s","password":"%[3]s"}'

then send the access token to /me, and the refresh token to /refresh:

  curl -s %[1]s/me -H 'Authorization: Bearer <access_token>'
  curl -s %[1]s/refresh --json '{"refresh_token":"<refresh_token>"}'

All routes: %[1]s/docs. Stop with Ctrl-C.

`, url, demoUser, demoPassword)
}
