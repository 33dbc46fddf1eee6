package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
)

func TestEmbeddedRedis(t *testing.T) {
	t.Parallel()
	e, err := startEmbedded()
	must(t, err)
	client, err := redisconn.Open(t.Context(), e.url, redisconn.Options{})
	must(t, err)
	defer client.Close()
	ctx := t.Context()

	// Time passes by itself, for keys that expire and for those that do not.
	must(t, client.Set(ctx, "short", "x", time.Second).Err())
	must(t, client.Set(ctx, "long", "x", time.Hour).Err())
	must(t, client.Set(ctx, "forever", "x", 0).Err())
	began := time.Now()
	if client.Exists(ctx, "short").Val() != 1 {
		t.Error("gone at once")
	}
	eventually(t, "a key to expire", func() bool { return client.Exists(ctx, "short").Val() == 0 })
	// Its clock moves in steps, of which the last may be late and long.
	if took := time.Since(began); took < 500*time.Millisecond || took > 5*time.Second {
		t.Errorf("a key for a second lived %v", took)
	}
	left := client.PTTL(ctx, "long").Val()
	if passed := time.Hour - left; passed < 500*time.Millisecond || passed > time.Since(began)+time.Second {
		t.Errorf("a key for an hour has %v left after %v", left, time.Since(began))
	}
	if client.TTL(ctx, "forever").Val() != -1 {
		t.Error("a key without expiry got one")
	}
	if skew := time.Since(client.Time(ctx).Val()); skew.Abs() > time.Second {
		t.Errorf("its clock is off by %v", skew)
	}

	// Other users of the machine reach the port, and are let in by no password
	// that they could know.
	u, err := url.Parse(e.url)
	must(t, err)
	if !isLoopback(u.Hostname()) {
		t.Errorf("listens on %s", u.Host)
	}
	if password, _ := u.User.Password(); len(password) < 20 {
		t.Errorf("a password of %d bytes", len(password))
	}
	for _, user := range []*url.Userinfo{nil, url.UserPassword("", demoPassword), url.UserPassword("default", "x")} {
		stranger := *u
		stranger.User = user
		if _, err := redisconn.Open(ctx, stranger.String(), redisconn.Options{}); err == nil {
			t.Errorf("lets %v in", user)
		}
	}
	bare := redis.NewClient(&redis.Options{Addr: u.Host, Protocol: 2, DisableIdentity: true})
	defer bare.Close()
	for _, command := range [][]any{{"get", "long"}, {"keys", "*"}, {"flushall"}, {"eval", "return 1", 0}} {
		if err := bare.Do(ctx, command...).Err(); !redis.HasErrorPrefix(err, "NOAUTH") {
			t.Errorf("%v without a password: %v", command, err)
		}
	}

	other, err := startEmbedded()
	must(t, err)
	if other.url == e.url || string(other.secret) == string(e.secret) || len(e.secret) < secretMin {
		t.Error("two demos share a password, a port or a secret, or it is short")
	}
	other.stop()
	e.stop()
	if err := client.Get(ctx, "long").Err(); err == nil {
		t.Error("answers after its end")
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	began := time.Now()
	one := start(t, nil, "--addr", "localhost:0")
	two := start(t, nil, "serve", "--addr", "[::1]:0")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("two demos took %v to start", took)
	}
	for _, i := range []*instance{one, two} {
		tokens := i.login(demoUser, demoPassword).is(t, 200, "")
		if me := i.me(tokens.Access).is(t, 200, ""); me.Username != demoUser {
			t.Errorf("me: %s", me.body)
		}
		c := claims(t, tokens.Access)
		_, port, _ := strings.Cut(strings.ReplaceAll(i.addr(), "[::1]", ""), ":")
		issuer := "http://localhost:" + port
		if c["iss"] != issuer || fmt.Sprint(c["aud"]) != fmt.Sprint([]any{issuer}) && c["aud"] != issuer {
			t.Errorf("iss %v, aud %v, want %s", c["iss"], c["aud"], issuer)
		}
		next := i.refresh(tokens.Refresh).is(t, 200, "")
		i.send("GET", "/readyz").is(t, 200, "")
		i.send("POST", "/logout", bearer(next.Access)).is(t, 204, "")
		i.refresh(next.Refresh).is(t, 401, "invalid_grant ended")
		i.login(demoUser, "demo-passwore").is(t, 401, "invalid_grant")
		if greeting := i.stdout.String(); !strings.Contains(greeting, issuer+"/login") || !strings.Contains(greeting, demoPassword) {
			t.Errorf("greets with %q", greeting)
		}
	}
	// They know nothing of each other's sessions and keys.
	tokens := one.login(demoUser, demoPassword).is(t, 200, "")
	two.me(tokens.Access).is(t, 401, "invalid_token")
	two.refresh(tokens.Refresh).is(t, 401, "invalid_grant")

	// One at an address that is taken leaves the first alone.
	launch(t, nil, "--addr", one.addr()).refuses("address already in use")
	one.me(tokens.Access).is(t, 200, "")
	for _, i := range []*instance{one, two} {
		began := time.Now()
		i.stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v to end", took)
		}
		noSecrets(t, i.stderr.String(), demoPassword)
	}
}

func TestDemoRefusesToStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ args, environ, words string }{
		"every address":     {"--addr :0", "", "--addr: without AUTHAPI_REDIS_URL this is a demo"},
		"all of IPv4":       {"--addr 0.0.0.0:0", "", "localhost, 127.0.0.0/8 or [::1] only"},
		"all of IPv6":       {"--addr [::]:0", "", "this is a demo"},
		"address of a LAN":  {"", "AUTHAPI_ADDR=192.168.1.2:8080", "AUTHAPI_ADDR: without"},
		"name of a host":    {"--addr example.com:8080", "", "this is a demo"},
		"secret":            {"", "AUTHAPI_SECRET=" + b64(testSecret(1)), "AUTHAPI_SECRET: set, but there is no AUTHAPI_REDIS_URL"},
		"issuer":            {"", "AUTHAPI_ISSUER=https://auth.example.com", "AUTHAPI_ISSUER: set, but"},
		"prefix":            {"", "AUTHAPI_REDIS_PREFIX=eu", "AUTHAPI_REDIS_PREFIX: set, but"},
		"issuer as a flag":  {"--issuer https://auth.example.com", "", "--issuer: set, but"},
		"an empty URL":      {"", "AUTHAPI_REDIS_URL=", "AUTHAPI_REDIS_URL: set, but empty"},
		"a lost file":       {"", "AUTHAPI_REDIS_URL_FILE=/does/not/exist", "no such file"},
		"a misspelt URL":    {"", "AUTHAPI_REDISURL=redis://db", "did you mean AUTHAPI_REDIS_URL?"},
		"proxies, reserved": {"", "AUTHAPI_TRUSTED_PROXIES=10.0.0.0/8", "has an environment file got lost?"},
	} {
		t.Run(name, func(t *testing.T) {
			var environ []string
			if c.environ != "" {
				environ = []string{c.environ}
			}
			launch(t, environ, strings.Fields(c.args)...).refuses(c.words)
		})
	}
}

func TestLoopbackOnly(t *testing.T) {
	t.Parallel()
	reached := false
	handler := loopbackOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	ask := func(host string, header http.Header) *httptest.ResponseRecorder {
		reached = false
		r := httptest.NewRequest("GET", "/me", nil)
		r.Host = host
		if header != nil {
			r.Header = header
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	refused := func(t *testing.T, w *httptest.ResponseRecorder) {
		t.Helper()
		var body struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		if reached || w.Code != 400 || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("got through: %v, status %d, type %q", reached, w.Code, w.Header().Get("Content-Type"))
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error != "invalid_request" || !strings.Contains(body.Description, "this demo") {
			t.Errorf("body %q: %v", w.Body, err)
		}
	}

	for _, host := range []string{
		"localhost", "localhost:8080", "LocalHost:1", "127.0.0.1", "127.0.0.1:8080", "127.0.0.2:8080",
		"127.255.255.254", "[::1]", "[::1]:8080",
	} {
		if ask(host, nil); !reached {
			t.Errorf("refuses the host %q", host)
		}
	}
	for _, host := range []string{
		"", "evil.example", "evil.example:8080", "localhost.evil.example", "localhost.evil.example:80", "evil-localhost",
		"127.0.0.1.evil.example", "127.0.0.1.nip.io:8080", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0.0.0.0", "0.0.0.0:8080",
		"[::]", "[::]:8080", "10.0.0.1", "192.168.1.2:8080", "[fe80::1]:8080", "128.0.0.1", "126.255.255.255",
		"evil.example:localhost", "localhost@evil.example", "evil.example#localhost", "[::1%25lo]", "::ffff:10.0.0.1",
	} {
		t.Run("host "+host, func(t *testing.T) { refused(t, ask(host, nil)) })
	}
	for _, header := range []string{
		"Forwarded: for=127.0.0.1", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: localhost",
		"X-Forwarded-Proto: http", "X-Real-Ip: 127.0.0.1", "Via: 1.1 proxy",
		"x-forwarded-for: 10.0.0.1", "X-Forwarded-For: ", "Forwarded: ",
	} {
		t.Run(header, func(t *testing.T) {
			name, value, _ := strings.Cut(header, ": ")
			h := http.Header{}
			h.Add(name, value)
			refused(t, ask("localhost:8080", h))
			h.Add(name, "192.0.2.1")
			refused(t, ask("localhost:8080", h))
		})
	}
}

// The same through the running demo, whose server reads the Host header.
func TestDemoAnswersToThisMachineOnly(t *testing.T) {
	t.Parallel()
	demo := start(t, nil, "--addr", "127.0.0.1:0")
	port := demo.addr()[strings.LastIndex(demo.addr(), ":"):]
	for _, host := range []string{"localhost", "localhost" + port, "127.0.0.1" + port, "[::1]" + port, "127.0.0.2"} {
		demo.send("GET", "/healthz", "Host: "+host).is(t, 200, "")
	}
	for _, header := range []string{
		"Host: evil.example", "Host: evil.example" + port, "Host: localhost.evil.example" + port,
		"Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: evil.example",
		"X-Forwarded-Proto: https", "X-Real-Ip: 192.0.2.1", "Via: 1.1 proxy",
	} {
		for _, path := range []string{"/healthz", "/login", "/nothing"} {
			demo.send("GET", path, header).is(t, 400, "invalid_request")
		}
	}
	// The host of an absolute request target counts, not that of the header.
	a, err := flood(demo.addr(), "GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	must(t, err)
	a.is(t, 400, "invalid_request")
	a, err = flood(demo.addr(), "GET /healthz HTTP/1.0\r\n\r\n")
	must(t, err)
	a.is(t, 400, "invalid_request")
	// A deployment is reached by whatever name its proxy uses.
	s := redistest.Redis(t)
	start(t, deployment(s)).send("GET", "/healthz", "Host: auth.example.com", "X-Forwarded-For: 192.0.2.1").is(t, 200, "")
}

func TestDevelopmentOrigins(t *testing.T) {
	t.Parallel()
	const front = "http://localhost:5173"
	demo, deployed := start(t, nil, "--addr", "localhost:0"), start(t, deployment(redistest.Redis(t)))
	preflight := func(i *instance, origin string) answer {
		return i.send("OPTIONS", "/refresh", "Origin: "+origin,
			"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type,idempotency-key")
	}
	const allowed = "Access-Control-Allow-Origin"

	for _, origin := range developmentOrigins {
		p := preflight(demo, origin)
		if p.header.Get(allowed) != origin || !strings.Contains(p.header.Get("Access-Control-Allow-Methods"), "POST") ||
			!strings.Contains(strings.ToLower(p.header.Get("Access-Control-Allow-Headers")), "content-type") {
			t.Errorf("preflight from %s: %d %v", origin, p.status, p.header)
		}
		if p.header.Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("a page there cannot be the client web: %v", p.header)
		}
	}
	login := loginBody(demoUser, demoPassword)
	for _, a := range []answer{
		demo.insist("POST", "/login", login, "Origin: "+front).is(t, 200, ""),
		// An error that the page cannot read would look like a dead server.
		demo.send("POST", "/login", "{}", "Origin: "+front).is(t, 400, "invalid_request"),
		demo.send("GET", "/me", "Origin: "+front).is(t, 401, "invalid_token"),
	} {
		if a.header.Get(allowed) != front || !strings.Contains(strings.Join(a.header.Values("Vary"), ","), "Origin") {
			t.Errorf("headers %v", a.header)
		}
	}

	for _, origin := range []string{
		"http://evil.example", "https://localhost:5173", "http://localhost:5174", "http://localhost", "null",
		"http://localhost:5173.evil.example", "http://LOCALHOST:5173", "http://localhost:51730",
	} {
		for _, a := range []answer{preflight(demo, origin), demo.send("GET", "/healthz", "Origin: "+origin)} {
			if a.header.Get(allowed) != "" {
				t.Errorf("the demo allows %s: %v", origin, a.header)
			}
		}
	}
	for _, a := range []answer{preflight(deployed, front), deployed.send("GET", "/healthz", "Origin: "+front)} {
		if a.header.Get(allowed) != "" {
			t.Errorf("a deployment allows %s: %v", front, a.header)
		}
	}
}

// The page is the demo's, and a deployment's only if it is asked for. Nothing of
// it may come from elsewhere.
func TestPages(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	demo, deployed := start(t, nil, "--addr", "localhost:0"), start(t, deployment(s))
	asked := start(t, deployment(s, "AUTHAPI_PAGE=on"))
	for _, c := range []struct {
		i      *instance
		path   string
		status int
	}{
		{demo, "/", 200},
		{demo, "/page/main.js", 200},
		{demo, "/page/none.js", 404},
		{demo, "/docs", 200},
		{deployed, "/", 404},
		{deployed, "/page/main.js", 404},
		{deployed, "/docs", 200},
		{asked, "/", 200},
		{asked, "/docs", 200},
	} {
		a := c.i.send("GET", c.path)
		if a.status != c.status {
			t.Errorf("%s%s: %d, want %d", c.i.url, c.path, a.status, c.status)
		}
		if policy := a.header.Get("Content-Security-Policy"); a.status == 200 && (!strings.Contains(policy, "default-src 'none'") ||
			!strings.Contains(policy, "frame-ancestors 'none'") || a.header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("%s: %v", c.path, a.header)
		}
	}
}
