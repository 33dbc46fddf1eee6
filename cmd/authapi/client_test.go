package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authapi/authapi/internal/redistest"
)

// basic is the header by which a client authenticates.
func basic(id, secret string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

func TestClientHashSecret(t *testing.T) {
	t.Parallel()
	a := &admin{t: t}
	secret := b64(testSecret(3))
	for _, stdin := range []string{secret + "\n", secret, secret + "\r\nmore"} {
		o := execute(t, nil, stdin, "client", "hash-secret").says(t, 0)
		if !strings.HasPrefix(o.stdout, "sha256:") || len(o.stdout) != len("sha256:")+43+1 || strings.Contains(o.stdout, secret) {
			t.Errorf("printed %q", o.stdout)
		}
	}
	a.run("short\n", "client", "hash-secret").says(t, 1, "at least 32 characters", "openssl rand -base64 32")
	a.run(strings.Repeat("ab", 20)+"\n", "client", "hash-secret").says(t, 1, "not random")
	a.run("", "client", "hash-secret").says(t, 1, "at least 32 characters")
	a.run("", "client", "hash-secret", "c2VjcmV0").says(t, 2, "is asked for, or read from standard input")
}

// A deployment with a clients file, from the making of the secret to the end of
// a session.
func TestClientsFile(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	hashed, inFile := b64(testSecret(3)), b64(testSecret(4))
	hash := strings.TrimSpace(execute(t, nil, hashed+"\n", "client", "hash-secret").says(t, 0).stdout)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write("gate.secret", inFile+"\n")
	file := write("clients.yaml", `clients:
  - {id: app, type: public, lifetimes: {access: 2m}}
  - id: shop
    type: confidential
    secret: `+hash+`
    may_start_sessions: true
    audience: https://shop.example.com
    scopes: [orders]
  - id: gate
    type: confidential
    secret: file:gate.secret
    may_introspect: true
    may_follow_revocations: true
`)
	environ := deployment(s, "AUTHAPI_CLIENTS_FILE="+file)
	execute(t, environ, "", "check").says(t, 0, "clients app gate shop")
	execute(t, environ, "correct horse\n", "user", "add", "alice").says(t, 0)
	i := start(t, environ)

	const login = `{"username":"alice","password":"correct horse"}`
	i.send("POST", "/login", login).is(t, 400, "invalid_client") // mobile is not in the file
	app := i.send("POST", "/login", strings.TrimSuffix(login, "}")+`,"client_id":"app"}`).is(t, 200, "")
	if c := claims(t, app.Access); c["exp"].(float64)-c["iat"].(float64) != 120 || c["aud"] != "https://auth.example.com" {
		t.Errorf("%v", c)
	}
	i.send("POST", "/sessions", `{"sub":"42"}`).is(t, 401, "invalid_client")
	i.send("POST", "/sessions", `{"sub":"42"}`, basic("gate", inFile)).is(t, 403, "unauthorized_client")
	shop := i.send("POST", "/sessions", `{"sub":"42"}`, basic("shop", hashed)).is(t, 200, "")
	if c := claims(t, shop.Access); c["aud"] != "https://shop.example.com" || c["scope"] != "orders" || c["sub"] != "42" {
		t.Errorf("%v", c)
	}
	i.refresh(shop.Refresh).is(t, 401, "invalid_grant")
	next := i.send("POST", "/refresh", `{"refresh_token":"`+shop.Refresh+`"}`, basic("shop", hashed)).is(t, 200, "")
	i.send("DELETE", "/users/42/sessions", basic("shop", hashed)).is(t, 204, "")
	i.me(next.Access).is(t, 401, "invalid_token")
	i.send("HEAD", "/revocations", basic("gate", inFile)).is(t, 200, "")
	i.stop()
	noSecrets(t, i.stdout.String()+i.stderr.String(), hashed, inFile, hash)

	// What is wrong with the file is said before anything else happens.
	broken := write("broken.yaml", "clients:\n  - id: shop\n    type: confidential\n    secret: "+hashed+"\n    scope: x\n")
	before := len(snapshot(t, s.Client))
	launch(t, deployment(s, "AUTHAPI_CLIENTS_FILE="+broken)).refuses(
		"broken.yaml:4: secret: a hashed secret is sha256:", `broken.yaml:5: a client has no "scope"; did you mean scopes?`)
	if after := len(snapshot(t, s.Client)); after != before {
		t.Errorf("a refused start has written something")
	}
	named := write("verifier.yaml", "clients:\n  - {id: verifier, type: confidential, secret: "+hash+", may_follow_revocations: true}\n")
	launch(t, deployment(s, "AUTHAPI_CLIENTS_FILE="+named, "AUTHAPI_VERIFIER_SECRET="+inFile)).refuses(
		"AUTHAPI_VERIFIER_SECRET: the clients file has a client verifier of its own")
	start(t, deployment(s, "AUTHAPI_CLIENTS_FILE="+named)).stop()
	start(t, deployment(s, "AUTHAPI_CLIENTS_FILE="+file, "AUTHAPI_VERIFIER_SECRET="+inFile)).send("HEAD", "/revocations", basic("verifier", inFile)).is(t, 200, "")
}

// The demo has a client for applications that have users of their own.
func TestDemoApp(t *testing.T) {
	t.Parallel()
	i := start(t, nil, "--addr", "localhost:0")
	i.send("POST", "/sessions", `{"sub":"42"}`, basic(demoApp, "wrong")).is(t, 401, "invalid_client")
	tokens := i.send("POST", "/sessions", `{"sub":"42"}`, basic(demoApp, demoAppSecret)).is(t, 200, "")
	i.send("HEAD", "/revocations", basic(demoApp, demoAppSecret)).is(t, 200, "")
	i.me(tokens.Access).is(t, 200, "")
	i.stop()
	noSecrets(t, i.stderr.String(), demoAppSecret)
}
