package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
)

// The tests of this file and of serve_test.go run the program as a process of
// its own, since signals, exit codes and standard streams are what they are
// about. The process is this test binary, which becomes the program where the
// variable below is set; so it is under the race detector, too.
const becomeProgram = "BECOME_AUTHAPI"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == hashCommand {
		main() // the program has started itself; it ends with its input
	}
	if os.Getenv(becomeProgram) != "" {
		// The descriptor is a pipe that ends with the test process, however
		// that ends: nothing it started outlives it.
		go func() {
			_, _ = io.Copy(io.Discard, os.NewFile(3, "life of the test process"))
			os.Exit(3)
		}()
		main()
	}
	// The clients of the tests would report each connection that breaks.
	redisconn.SetLogger(nil)
	redistest.Main(m)
}

// authapi prepares the program with just this environment.
func authapi(t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	read, write, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { read.Close(); write.Close() })
	cmd := exec.Command(self, args...)
	// At the end the race detector would wait a second for further reports.
	cmd.Env = append([]string{becomeProgram + "=yes", "GORACE=atexit_sleep_ms=0"}, environ...)
	cmd.ExtraFiles = []*os.File{read}
	return cmd
}

// outcome is how a command ended and what it said.
type outcome struct {
	code           int
	stdout, stderr string
}

// patience bounds what takes well below a second unless something is wrong.
const patience = 20 * time.Second

// execute runs the program to its end.
func execute(t *testing.T, environ []string, stdin string, args ...string) outcome {
	t.Helper()
	cmd := authapi(t, environ, args...)
	var stdout, stderr output
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	must(t, cmd.Start())
	kill := time.AfterFunc(patience, func() {
		t.Errorf("authapi %q does not end", args)
		_ = cmd.Process.Kill()
	})
	defer kill.Stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	soundProcess(t, stderr.String())
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// says fails the test unless the command ended with this code and these words,
// wherever it printed them.
func (o outcome) says(t *testing.T, code int, words ...string) outcome {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", o.code, code, o.stdout, o.stderr)
		return o
	}
	for _, w := range words {
		if !strings.Contains(o.stdout+o.stderr, w) {
			t.Errorf("no %q in\nstdout: %s\nstderr: %s", w, o.stdout, o.stderr)
		}
	}
	// What a script reads is on standard output, and what went wrong is not.
	if (code == 0) == (o.stderr != "") {
		t.Errorf("exit code %d with this on standard error: %q", code, o.stderr)
	}
	return o
}

func soundProcess(t *testing.T, stderr string) {
	t.Helper()
	for _, bad := range []string{"DATA RACE", "panic:", "goroutine 1 [", `"msg":"panic"`, "msg=panic"} {
		if strings.Contains(stderr, bad) {
			t.Errorf("%s:\n%s", bad, stderr)
		}
	}
}

// output is a buffer that one goroutine may read while another writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deployment is the environment of a complete configuration.
func deployment(s *redistest.Server, more ...string) []string {
	environ := []string{
		"AUTHAPI_REDIS_URL=" + s.URL,
		"AUTHAPI_REDIS_PREFIX=" + s.Prefix,
		"AUTHAPI_SECRET=" + b64(testSecret(1)),
		"AUTHAPI_ISSUER=https://auth.example.com",
		"AUTHAPI_ADDR=127.0.0.1:0",
		"AUTHAPI_DRAIN=0s",
	}
	for _, m := range more {
		name, _, _ := strings.Cut(m, "=")
		environ = append(without(environ, name), m)
	}
	return environ
}

// snapshot is all that a server holds.
func snapshot(t *testing.T, c redis.UniversalClient) map[string]string {
	t.Helper()
	all := map[string]string{}
	keys := c.Scan(t.Context(), 0, "*", 1000).Iterator()
	for keys.Next(t.Context()) {
		key := keys.Val()
		all[key] = fmt.Sprint(c.ExpireTime(t.Context(), key).Val(), c.Dump(t.Context(), key).Val())
	}
	must(t, keys.Err())
	return all
}

// instance is a running service.
type instance struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr output
	url            string
	ended          chan struct{}
	answered       sync.Map // request id -> status
}

var listening = regexp.MustCompile(`"?listening"?[=:]"?([0-9.]+:[0-9]+|\[::1\]:[0-9]+)`)

// launch starts the service without waiting for it.
func launch(t *testing.T, environ []string, args ...string) *instance {
	t.Helper()
	i := &instance{t: t, cmd: authapi(t, environ, args...), ended: make(chan struct{})}
	i.cmd.Stdout, i.cmd.Stderr = &i.stdout, &i.stderr
	must(t, i.cmd.Start())
	go func() {
		_ = i.cmd.Wait() // the state says more
		close(i.ended)
	}()
	t.Cleanup(func() {
		_ = i.cmd.Process.Kill() // fails only if it has ended
		<-i.ended
		soundProcess(t, i.stderr.String())
		if t.Failed() {
			t.Logf("log of %s:\n%s", i.url, i.stderr.String())
		}
	})
	return i
}

// up waits until the service listens.
func (i *instance) up() *instance {
	i.t.Helper()
	eventually(i.t, "a service that listens", func() bool {
		select {
		case <-i.ended:
			i.t.Fatalf("ended with %d:\n%s", i.cmd.ProcessState.ExitCode(), i.stderr.String())
		default:
		}
		match := listening.FindStringSubmatch(i.stderr.String())
		if match == nil {
			return false
		}
		i.url = "http://" + match[1]
		return true
	})
	return i
}

func start(t *testing.T, environ []string, args ...string) *instance {
	t.Helper()
	return launch(t, environ, args...).up()
}

func (i *instance) addr() string { return strings.TrimPrefix(i.url, "http://") }

func (i *instance) signal(s os.Signal) {
	i.t.Helper()
	must(i.t, i.cmd.Process.Signal(s))
}

// exit waits for the end and returns the exit code, -1 if a signal ended it.
func (i *instance) exit() int {
	i.t.Helper()
	eventually(i.t, "the end of the service", func() bool {
		select {
		case <-i.ended:
			return true
		default:
			return false
		}
	})
	return i.cmd.ProcessState.ExitCode()
}

// stop ends the service as an operator does.
func (i *instance) stop() {
	i.t.Helper()
	i.signal(syscall.SIGTERM)
	if code := i.exit(); code != 0 {
		i.t.Fatalf("exit code %d after SIGTERM", code)
	}
}

// answer is a response with the members that matter here.
type answer struct {
	status int
	header http.Header
	body   string

	Error    string `json:"error"`
	Reason   string `json:"reason"`
	Access   string `json:"access_token"`
	Refresh  string `json:"refresh_token"`
	Username string `json:"username"`
}

// is fails the test if the answer has another status, or another error code
// and reason, joined by a space.
func (a answer) is(t *testing.T, status int, code string) answer {
	t.Helper()
	if got := strings.TrimSpace(a.Error + " " + a.Reason); a.status != status || got != code {
		t.Errorf("got %d %q, want %d %q: %s", a.status, got, status, code, a.body)
	}
	return a
}

// client makes a connection for each request: what is asked of a service that
// shuts down is whether it still accepts.
var client = &http.Client{
	Transport: &http.Transport{DisableKeepAlives: true},
	Timeout:   patience,
}

// try sends a request. A header is given as "Name: value", a JSON body as a
// text that begins with a brace.
func (i *instance) try(method, path string, more ...string) (answer, error) {
	header, body := http.Header{}, ""
	for _, m := range more {
		if strings.HasPrefix(m, "{") {
			body = m
			header.Set("Content-Type", "application/json")
			continue
		}
		name, value, _ := strings.Cut(m, ": ")
		header.Add(name, value)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, i.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header = header
	r.Host = header.Get("Host")
	res, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(res)
}

func readAnswer(res *http.Response) (answer, error) {
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	a := answer{status: res.StatusCode, header: res.Header, body: string(body)}
	if err == nil && bytes.HasPrefix(body, []byte("{")) {
		err = json.Unmarshal(body, &a)
	}
	return a, err
}

func (i *instance) send(method, path string, more ...string) answer {
	i.t.Helper()
	a, err := i.try(method, path, more...)
	must(i.t, err)
	if id := a.header.Get("X-Request-Id"); id != "" {
		if _, twice := i.answered.LoadOrStore(id, a.status); twice {
			i.t.Errorf("two responses are named %s", id)
		}
	}
	return a
}

// insist sends a request again while the answer is 503, as clients should. On
// a busy machine the race detector can make a login take too long.
func (i *instance) insist(method, path string, more ...string) answer {
	i.t.Helper()
	var a answer
	eventually(i.t, method+" "+path+" to answer other than 503", func() bool {
		a = i.send(method, path, more...)
		return a.status != 503
	})
	return a
}

func (i *instance) login(username, password string) answer {
	i.t.Helper()
	return i.insist("POST", "/login", loginBody(username, password))
}

func loginBody(username, password string) string {
	body, _ := json.Marshal(map[string]string{"username": username, "password": password, "device": "a phone\x1b[2J"})
	return string(body)
}

func (i *instance) refresh(token string) answer {
	i.t.Helper()
	return i.insist("POST", "/refresh", refreshBody(token))
}

func refreshBody(token string) string { return `{"refresh_token":"` + token + `"}` }

func (i *instance) me(access string) answer {
	i.t.Helper()
	return i.insist("GET", "/me", bearer(access))
}

func bearer(access string) string { return "Authorization: Bearer " + access }

// claims are those of an access token, unverified.
func claims(t *testing.T, access string) map[string]any {
	t.Helper()
	parts := strings.Split(access, ".")
	if len(parts) != 3 {
		t.Fatalf("no access token: %q", access)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	must(t, err)
	var c map[string]any
	must(t, json.Unmarshal(payload, &c))
	return c
}

func roles(t *testing.T, access string) string {
	t.Helper()
	return fmt.Sprint(claims(t, access)["roles"])
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args, environ string
		code          int
		words         string // separated by commas
	}{
		"version":            {"version", "", 0, "authapi "},
		"version as a flag":  {"--version", "", 0, "authapi "},
		"help":               {"help", "", 0, "Commands:,user set-password <name>,AUTHAPI_SECRET_FILE,--redis-url"},
		"help as a flag":     {"--help", "", 0, "Commands:"},
		"help on a command":  {"user list --help", "", 0, "Commands:"},
		"unknown command":    {"srve", "", 2, `no command "srve",Try: authapi help`},
		"half a command":     {"user", "", 2, `no command "user"`},
		"unknown subcommand": {"user remove alice", "", 2, `no command "user remove"`},
		"too few arguments":  {"user add", "", 2, "number of arguments"},
		"too many arguments": {"user disable alice bob", "", 2, "number of arguments"},
		"serve something":    {"serve now", "", 2, "number of arguments"},
		"check something":    {"check now", "", 2, "number of arguments"},
		"unknown flag":       {"--adr :1", "", 1, "--adr: there is no such flag,did you mean --addr?"},
		"unknown variable":   {"", "AUTHAPI_REDIS_ULR=redis://db", 1, "AUTHAPI_REDIS_ULR: there is no such setting; did you mean AUTHAPI_REDIS_URL?"},
		"variable of a typo": {"user list", "AUTHAPI_SECRETS=x", 1, "did you mean AUTHAPI_SECRET?"},
		"no Redis":           {"user list", "", 1, "AUTHAPI_REDIS_URL is not set"},
		"no Redis, sessions": {"sessions end alice", "", 1, "AUTHAPI_REDIS_URL is not set"},
		"secret as a flag":   {"--secret c2VjcmV0LXZhbHVl", "", 1, "does not belong on a command line"},
	} {
		t.Run(name, func(t *testing.T) {
			var environ []string
			if c.environ != "" {
				environ = []string{c.environ}
			}
			o := execute(t, environ, "", strings.Fields(c.args)...)
			o.says(t, c.code, strings.Split(c.words, ",")...)
			if strings.Contains(o.stderr, "c2VjcmV0") {
				t.Errorf("repeats a secret: %s", o.stderr)
			}
		})
	}
}

// admin is whoever administers a deployment.
type admin struct {
	t       *testing.T
	environ []string
	secrets []string
}

// run runs a command with a line of input, and holds its output against all
// secrets so far.
func (a *admin) run(stdin string, args ...string) outcome {
	a.t.Helper()
	o := execute(a.t, a.environ, stdin, args...)
	a.secrets = append(a.secrets, strings.TrimRight(stdin, "\r\n"))
	noSecrets(a.t, o.stdout+o.stderr, a.secrets...)
	return o
}

// noSecrets fails the test if a text holds a secret, or something of a form
// that only secrets have.
func noSecrets(t *testing.T, text string, secrets ...string) {
	t.Helper()
	secrets = append(secrets, b64(testSecret(1)), b64(testSecret(2)), "$argon2", "authapi_rt_", "eyJhbGci")
	for _, s := range secrets {
		if len(s) >= 4 && strings.Contains(text, s) {
			t.Errorf("shows the secret %q:\n%s", s, text)
		}
	}
}

func TestAdministration(t *testing.T) {
	t.Parallel()
	for name, backend := range map[string]func(testing.TB) *redistest.Server{
		"redis": redistest.Redis, "cluster": redistest.Cluster,
	} {
		t.Run(name, func(t *testing.T) {
			s := backend(t)
			administer(t, &admin{t: t, environ: deployment(s)}, start(t, deployment(s)))
		})
	}
}

func administer(t *testing.T, a *admin, service *instance) {
	const first, second = "correct horse", "battery staple"

	// The password comes from standard input: its first line, without the end
	// of the line.
	a.run(first+"\r\nnot this\n", "user", "add", "alice", "admin", "auditor").says(t, 0, "Added alice with the subject ")
	tokens := service.login("alice", first).is(t, 200, "")
	if got := roles(t, tokens.Access); got != "[admin auditor]" {
		t.Errorf("roles %s", got)
	}
	a.run(second, "user", "add", "alice").says(t, 1, "a user of that name exists already")
	service.login("alice", second).is(t, 401, "invalid_grant")
	a.run("seven77\n", "user", "add", "bob").says(t, 1, "at least 8 characters")
	a.run("", "user", "add", "bob").says(t, 1, "at least 8 characters")
	a.run(strings.Repeat("x", 1025)+"\n", "user", "add", "bob").says(t, 1, "at most 1024 bytes")
	a.run("x"+strings.Repeat("ä", 600)+"\n", "user", "add", "bob").says(t, 1, "at most 1024 bytes")
	a.run(first, "user", "add", "bob smith").says(t, 1, "a username has")
	a.run(first, "user", "add", "bob", "a/b").says(t, 1, "a role has")
	a.run("latin1 \xe4\xf6\xfc\n", "user", "add", "bob").says(t, 1, "not UTF-8")
	service.login("bob", first).is(t, 401, "invalid_grant")

	// A password is never an argument.
	a.run("", "user", "add", "--password", "hunter2hunter2", "bob").says(t, 1, "--password: there is no such flag")
	a.run("", "user", "add", "--password=hunter2hunter2", "bob").says(t, 1, "--password: there is no such flag")
	for _, args := range [][]string{{"--password", "hunter2hunter2"}, {"--password=hunter2hunter2"}, {"-p", "hunter2hunter2"}} {
		// Behind the name it would have become a role, to be read in tokens.
		o := a.run(first, append([]string{"user", "add", "bob"}, args...)...).says(t, 2, "flags go before")
		if strings.Contains(o.stderr, "hunter2") {
			t.Errorf("repeats it: %s", o.stderr)
		}
	}
	service.login("bob", first).is(t, 401, "invalid_grant")
	a.run(first, "user", "add", "bob", "hunter2hunter2").says(t, 0, "Added bob")
	service.login("bob", "hunter2hunter2").is(t, 401, "invalid_grant")
	if got := roles(t, service.login("bob", first).is(t, 200, "").Access); got != "[hunter2hunter2]" {
		t.Errorf("roles %s", got)
	}

	for _, args := range [][]string{
		{"user", "disable"},
		{"user", "enable"},
		{"user", "set-password"},
		{"user", "set-roles"},
		{"sessions", "list"},
		{"sessions", "end"},
	} {
		a.run(first, append(args, "Alice")...).says(t, 1, "no such user")
	}

	// Disabling ends sessions and refuses logins; enabling brings none back.
	a.run("", "user", "disable", "alice").says(t, 0, "Disabled alice; 1 session(s) ended.")
	service.refresh(tokens.Refresh).is(t, 401, "invalid_grant ended")
	service.me(tokens.Access).is(t, 401, "invalid_token")
	service.login("alice", first).is(t, 401, "invalid_grant")
	a.run("", "user", "list").says(t, 0, "disabled")
	a.run("", "user", "enable", "alice").says(t, 0, "Enabled alice.")
	service.refresh(tokens.Refresh).is(t, 401, "invalid_grant ended")
	tokens = service.login("alice", first).is(t, 200, "")

	// A new password ends sessions, and an unacceptable one does not.
	a.run("short\n", "user", "set-password", "alice").says(t, 1, "at least 8 characters")
	tokens = service.refresh(tokens.Refresh).is(t, 200, "")
	other := service.login("alice", first).is(t, 200, "")
	a.run(second+"\n", "user", "set-password", "alice").says(t, 0, "Changed the password of alice; 2 session(s) ended.")
	service.refresh(tokens.Refresh).is(t, 401, "invalid_grant ended")
	service.me(other.Access).is(t, 401, "invalid_token")
	service.login("alice", first).is(t, 401, "invalid_grant")
	tokens = service.login("alice", second).is(t, 200, "")

	// New roles show in the next access token, of old sessions and new ones.
	a.run("", "user", "set-roles", "alice", "auditor", "auditor").says(t, 0, "alice now has the roles: auditor\n")
	tokens = service.refresh(tokens.Refresh).is(t, 200, "")
	if got := roles(t, tokens.Access); got != "[auditor]" {
		t.Errorf("roles %s after set-roles", got)
	}
	if got := roles(t, service.login("alice", second).Access); got != "[auditor]" {
		t.Errorf("roles %s at a login after set-roles", got)
	}
	a.run("", "user", "set-roles", "alice").says(t, 0, "alice now has no roles.")
	tokens = service.refresh(tokens.Refresh).is(t, 200, "")
	if got := claims(t, tokens.Access)["roles"]; fmt.Sprint(got) != "<nil>" && fmt.Sprint(got) != "[]" {
		t.Errorf("roles %v after all were taken", got)
	}
	service.refresh(service.login("bob", first).Refresh).is(t, 200, "")

	// Sessions, by name and by subject.
	c := claims(t, tokens.Access)
	sub, sid := c["sub"].(string), c["sid"].(string)
	for _, who := range []string{"alice", "sub:" + sub} {
		o := a.run("", "sessions", "list", who).says(t, 0, "SESSION", sid, "mobile", "a phone?[2J")
		if lines := strings.Count(o.stdout, "\n"); lines != 3 || strings.Contains(o.stdout, "\x1b") {
			t.Errorf("%d lines, want the head and two sessions:\n%q", lines, o.stdout)
		}
	}
	if o := a.run("", "sessions", "list", "sub:nobody").says(t, 0); strings.Count(o.stdout, "\n") != 1 {
		t.Errorf("sessions of nobody:\n%s", o.stdout)
	}
	a.run("", "sessions", "end", "sub:nobody").says(t, 0, "There are no sessions of the subject ")
	a.run("", "sessions", "end", "alice").says(t, 0, "2 session(s) ended.")
	service.refresh(tokens.Refresh).is(t, 401, "invalid_grant ended")
	service.me(tokens.Access).is(t, 401, "invalid_token")
	tokens = service.login("alice", second).is(t, 200, "")
	a.run("", "sessions", "end", "sub:"+sub).says(t, 0, "1 session(s) ended.")
	service.refresh(tokens.Refresh).is(t, 401, "invalid_grant ended")

	// The list has everyone, in whatever partition, in order.
	for _, name := range []string{"zoe", "émile", "carol", "dave"} {
		a.run(first, "user", "add", name).says(t, 0)
	}
	var names []string
	for line := range strings.Lines(a.run("", "user", "list").says(t, 0, "USER", sub, "enabled").stdout) {
		names = append(names, strings.Fields(line)[0])
	}
	if got := strings.Join(names, " "); got != "USER alice bob carol dave zoe émile" {
		t.Errorf("users: %s", got)
	}
	service.stop()
	noSecrets(t, service.stdout.String()+service.stderr.String(), a.secrets...)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	environ := deployment(s)
	check := func(environ []string) outcome {
		t.Helper()
		before := snapshot(t, s.Client)
		o := execute(t, environ, "", "check")
		noSecrets(t, o.stdout+o.stderr)
		if after := snapshot(t, s.Client); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("Redis was changed from %q to %q", before, after)
		}
		return o
	}

	check(environ).says(t, 0, "complete; issuer https://auth.example.com, 1 secret(s)", "none yet; the first start creates them", "noeviction")
	start(t, environ).stop()
	check(environ).says(t, 0, "opened with the secret; ES256 key ")
	check(append(without(environ, "AUTHAPI_SECRET"), "AUTHAPI_SECRET="+b64(testSecret(2))+","+b64(testSecret(1)))).says(t, 0, "2 secret(s)")

	const notReady = "authapi: the service would not start; see the lines marked refuse\n"
	check(deployment(s, "AUTHAPI_SECRET="+b64(testSecret(2)))).says(t, 1, "refuse  keys", "sealed under another secret", notReady)

	must(t, s.Client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	check(environ).says(t, 1, "refuse  maxmemory_policy", "set maxmemory-policy noeviction", "opened with the secret", notReady)
	must(t, s.Client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())

	s.Advance(time.Minute)
	check(environ).says(t, 1, "refuse  clock", "1m0", "ahead of this machine", notReady)
	s.Advance(-time.Minute)

	check(without(environ, "AUTHAPI_SECRET")).says(t, 1, "AUTHAPI_SECRET: required")
	check(nil).says(t, 0, "would start as a demo, with a known password, on localhost:8080")
	check([]string{"AUTHAPI_SECRET=" + b64(testSecret(1))}).says(t, 1, "has an environment file got lost?")

	// A server that is not there, and one that accepts and says nothing.
	quickly := func(environ []string, words ...string) {
		t.Helper()
		began := time.Now()
		execute(t, environ, "", "check").says(t, 1, append(words, notReady)...)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	}
	quickly(deployment(s, "AUTHAPI_REDIS_URL=redis://:redis-password@127.0.0.1:1"), "refuse  reachable", "127.0.0.1:1", "refused")
	s.Pause()
	quickly(environ, "refuse  reachable", "timeout")
	s.Resume()
}

func TestCheckCluster(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	execute(t, deployment(s), "", "check").says(t, 0, "cluster of 3 masters", "none yet")
	start(t, deployment(s)).stop()
	execute(t, deployment(s), "", "check").says(t, 0, "cluster of 3 masters", "opened with the secret")
}

// A password that is typed slowly into a pipe must not keep Ctrl-C from ending
// the program.
func TestInterruptWhileWaitingForPassword(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	cmd := authapi(t, deployment(s), "user", "add", "alice")
	stdin, err := cmd.StdinPipe()
	must(t, err)
	var stderr output
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	eventually(t, "a connection to Redis", func() bool {
		clients, err := s.Client.ClientList(t.Context()).Result()
		must(t, err)
		return strings.Count(clients, "\n") > 1
	})
	_, err = io.WriteString(stdin, "half of a passw")
	must(t, err)
	must(t, cmd.Process.Signal(os.Interrupt))
	select {
	case err := <-done:
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("does not end")
		_ = cmd.Process.Kill()
		<-done
	}
	soundProcess(t, stderr.String())
	if got := snapshot(t, s.Client); len(got) > 0 {
		t.Errorf("left behind %q", got)
	}
}
