package moving_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/scrypt"

	"github.com/authapi/authapi/internal/redistest"
)

const (
	clientID = "shop"
	// What form encoding and HTTP Basic treat specially is in it.
	clientSecret = "a:secret/of+the%20shop=and,some&more,as?it#must!be(long)"
	username     = "rohit"
	subject      = "42"
	password     = "the password of rohit"

	sessionSecret = "the secret of the old sessions"
)

// applications are the examples, by name: their main programs.
var applications = map[string]string{
	"express": root + "/examples/express/server.js",
	"nestjs":  root + "/examples/nestjs/dist/main.js",
}

// deployment is two processes of an example, the service, and its Redis.
type deployment struct {
	t        testing.TB
	name     string // of the application
	redis    *redistest.Server
	oldRedis *redistest.Server // of the sessions that people come with
	service  *program
	a, b     *program
}

// each runs a test on a deployment of each example.
func each(t *testing.T, f func(t *testing.T, d *deployment)) {
	t.Helper()
	for _, name := range []string{"express", "nestjs"} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			d.name = name
			d.a, d.b = d.application(name), d.application(name)
			f(t, d)
		})
	}
}

// deploy starts the service with a configuration as in production.
func deploy(t testing.TB) *deployment {
	t.Helper()
	needNode(t)
	d := &deployment{t: t, redis: redistest.RedisTCP(t), oldRedis: redistest.RedisTCP(t)}
	folder := t.TempDir()
	secret := write(t, folder, "secret", clientSecret)
	clients := write(t, folder, "clients.yaml", fmt.Sprintf(`
clients:
  - id: %s
    type: confidential
    secret: file:%s
    may_start_sessions: true
    may_follow_revocations: true
`, clientID, secret))
	binary, err := theService()
	if err != nil {
		t.Fatal(err)
	}
	d.service = run(t, "authapi", anywhere, func(address string) []string {
		return []string{
			"AUTHAPI_ADDR=" + address, "AUTHAPI_ISSUER=http://" + address,
			"AUTHAPI_REDIS_URL=" + d.redis.URL, "AUTHAPI_REDIS_PREFIX=" + d.redis.Prefix,
			"AUTHAPI_SECRET=ylcAPTPreeDKLs0W4DbUPKdKUxy8dqI7ESMEiVqNYmY=", "AUTHAPI_DRAIN=0s",
			"AUTHAPI_CLIENTS_FILE=" + clients, "AUTHAPI_LOG_LEVEL=warn",
		}
	}, binary)
	return d
}

// application starts a process of an example. It is ready when this returns.
func (d *deployment) application(name string, environ ...string) *program {
	d.t.Helper()
	p := d.node(name, applications[name], anywhere, environ...)
	d.wait(p)
	return p
}

// node starts a process that is configured as the examples are.
func (d *deployment) node(name, script string, processor int, environ ...string) *program {
	d.t.Helper()
	users := write(d.t, d.t.TempDir(), "users.json", usersTable(d.t))
	return run(d.t, name, processor, func(address string) []string {
		return append([]string{
			"PORT=" + port(address), "ISSUER=" + d.service.url(),
			"CLIENT_ID=" + clientID, "CLIENT_SECRET=" + clientSecret, "USERS_FILE=" + users, "NODE_ENV=production",
			"REDIS_URL=" + d.oldRedis.URL, "SESSION_SECRET=" + sessionSecret,
		}, environ...)
	}, "node", script)
}

// old starts a process of an application that keeps its sessions in Redis.
func (d *deployment) old(processor int, script string) *program {
	d.t.Helper()
	return run(d.t, script, processor, func(address string) []string {
		return []string{
			"PORT=" + port(address), "NODE_ENV=production",
			"REDIS_URL=" + d.oldRedis.URL, "SESSION_SECRET=" + sessionSecret,
		}
	}, "node", script)
}

// wait waits until a process knows what was revoked.
func (d *deployment) wait(p *program) {
	d.t.Helper()
	eventually(d.t, patience, p.name+" is ready", func() bool {
		res, err := http.Get(p.url() + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// usersTable is a table in the form of the examples, with a hash that costs
// little: tests log in hundreds of times.
func usersTable(t testing.TB) string {
	t.Helper()
	salt := []byte("salt of the test")
	hash, err := scrypt.Key([]byte(password), salt, 1024, 8, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	table, err := json.Marshal([]map[string]any{{
		"id": subject, "username": username, "roles": []string{"user"},
		"password": fmt.Sprintf("scrypt:1024:8:1:%s:%s", b64(salt), b64(hash)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return string(table)
}

func write(t testing.TB, folder, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
