package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

const alicesPassword = "correct horse"

func addAlice(t *testing.T, environ []string) {
	t.Helper()
	execute(t, environ, alicesPassword+"\n", "user", "add", "alice", "admin").says(t, 0)
}

func TestInstancesAgreeOnTheKey(t *testing.T) {
	t.Parallel()
	for round := range 2 {
		s := redistest.Redis(t)
		addAlice(t, deployment(s))
		// All have started when the first is waited for.
		var instances []*instance
		for range 3 {
			instances = append(instances, launch(t, deployment(s)))
		}
		for _, i := range instances {
			i.up()
		}
		for _, from := range instances {
			tokens := from.login("alice", alicesPassword).is(t, 200, "")
			for _, to := range instances {
				to.me(tokens.Access).is(t, 200, "")
				if got, want := to.send("GET", "/.well-known/jwks.json").body, from.send("GET", "/.well-known/jwks.json").body; got != want {
					t.Errorf("round %d: two key sets: %s and %s", round, got, want)
				}
				tokens = to.refresh(tokens.Refresh).is(t, 200, "")
			}
		}
		if t.Failed() {
			return
		}
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	environ := deployment(s)
	addAlice(t, environ)
	service := start(t, environ)
	tokens := service.login("alice", alicesPassword).is(t, 200, "")
	over := service.login("alice", alicesPassword).is(t, 200, "")
	service.send("POST", "/logout", bearer(over.Access)).is(t, 204, "")
	service.stop()
	service = start(t, environ)
	service.me(tokens.Access).is(t, 200, "")
	service.me(over.Access).is(t, 401, "invalid_token")
	service.refresh(over.Refresh).is(t, 401, "invalid_grant ended")
	next := service.refresh(tokens.Refresh).is(t, 200, "")
	service.signal(syscall.SIGKILL)
	service.exit()

	// A restart forgets no use of a token: this one is two generations old.
	service = start(t, environ)
	next = service.refresh(next.Refresh).is(t, 200, "")
	service.signal(syscall.SIGKILL)
	service.exit()
	service = start(t, environ)
	service.refresh(tokens.Refresh).is(t, 401, "invalid_grant reused")
	service.refresh(next.Refresh).is(t, 401, "invalid_grant reused")
}

func TestSecretRotation(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	older, newer := b64(testSecret(1)), b64(testSecret(2))
	with := func(secrets string) []string { return deployment(s, "AUTHAPI_SECRET="+secrets) }
	// made fails the test unless only this secret recognises a refresh token.
	made := func(token string, by, notBy byte) {
		t.Helper()
		for _, seed := range []byte{by, notBy} {
			store, err := refresh.New(s.Client, refresh.Options{
				Prefix: s.Prefix, Secrets: [][]byte{testSecret(seed)}, Policy: api.BuiltinClients().Policy,
			})
			must(t, err)
			if _, err := store.Parse(token); (err == nil) != (seed == by) {
				t.Errorf("a token recognised by secret %d: %v", seed, err)
			}
		}
	}
	addAlice(t, with(older))
	service := start(t, with(older))
	tokens := service.login("alice", alicesPassword).is(t, 200, "")
	made(tokens.Refresh, 1, 2)
	service.stop()

	// Appended on one instance while the other has not been restarted yet.
	before, after := start(t, with(older)), start(t, with(older+","+newer))
	tokens = after.refresh(tokens.Refresh).is(t, 200, "")
	made(tokens.Refresh, 1, 2)
	tokens = before.refresh(tokens.Refresh).is(t, 200, "")
	before.stop()

	// In front on one instance, still behind on the other.
	front := start(t, with(newer+","+older))
	front.me(tokens.Access).is(t, 200, "")
	tokens = front.refresh(tokens.Refresh).is(t, 200, "")
	made(tokens.Refresh, 2, 1)
	tokens = after.refresh(tokens.Refresh).is(t, 200, "")
	made(tokens.Refresh, 1, 2)
	after.stop()
	tokens = front.refresh(tokens.Refresh).is(t, 200, "")
	front.stop()

	// The signing keys stay sealed under the old one.
	launch(t, with(newer)).refuses("sealed under another secret")
	start(t, with(newer+","+older)).refresh(tokens.Refresh).is(t, 200, "")
}

// refuses fails the test unless the service ends by itself with exit code 1,
// these words, and nothing of a secret.
func (i *instance) refuses(words ...string) {
	i.t.Helper()
	if code := i.exit(); code != 1 {
		i.t.Errorf("exit code %d, want 1", code)
	}
	said := i.stderr.String()
	noSecrets(i.t, said)
	for _, w := range words {
		if !strings.Contains(said, w) {
			i.t.Errorf("no %q in %s", w, said)
		}
	}
	if strings.Contains(said, "serving") {
		i.t.Errorf("served:\n%s", said)
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	environ := deployment(s)

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	launch(t, environ, "--addr", taken.Addr().String()).refuses("listen on "+taken.Addr().String(), "address already in use")
	launch(t, nil, "--addr", taken.Addr().String()).refuses("listen on "+taken.Addr().String(), "address already in use")

	must(t, s.Client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
	launch(t, environ).refuses("maxmemory_policy", "set maxmemory-policy noeviction")
	must(t, s.Client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())

	s.Advance(-time.Minute)
	launch(t, environ).refuses("clock", "behind this machine")
	s.Advance(time.Minute)

	launch(t, deployment(s, "AUTHAPI_REDIS_URL=redis://127.0.0.1:1")).refuses("cannot reach Redis", "127.0.0.1:1")
	if got := snapshot(t, s.Client); len(got) != 0 {
		t.Errorf("a refused start has written %q", got)
	}

	// Keys of another secret are left as they are.
	start(t, environ).stop()
	key := partition.Keys{Prefix: s.Prefix}.Keyring()
	if s.Client.Exists(t.Context(), key).Val() != 1 {
		t.Fatalf("no %s", key)
	}
	before := snapshot(t, s.Client)
	launch(t, deployment(s, "AUTHAPI_SECRET="+b64(testSecret(2)))).refuses("sealed under another secret")
	if after := snapshot(t, s.Client); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("changed from %q to %q", before, after)
	}
	start(t, environ).stop()
}

// What is asked of a service between SIGTERM and its end.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	addAlice(t, deployment(s))
	service := start(t, deployment(s, "AUTHAPI_DRAIN=2500ms"))
	service.send("GET", "/readyz").is(t, 200, "")
	tokens := service.login("alice", alicesPassword).is(t, 200, "")
	underWay := service.begin(t, `{"refresh_token":"`, tokens.Refresh+`"}`)

	service.signal(syscall.SIGTERM)
	began := time.Now()
	eventually(t, "readyz to say no", func() bool { return service.send("GET", "/readyz").status == 503 })
	service.send("GET", "/readyz").is(t, 503, "temporarily_unavailable")
	service.send("GET", "/healthz").is(t, 200, "")
	service.me(tokens.Access).is(t, 200, "")
	service.login("alice", alicesPassword).is(t, 200, "")

	eventually(t, "the listener to close", func() bool {
		_, err := service.try("GET", "/healthz")
		return err != nil
	})
	if took := time.Since(began); took < 2500*time.Millisecond {
		t.Errorf("the listener closed after %v", took)
	}
	// One that began before is finished, though nobody new gets in.
	select {
	case <-service.ended:
		t.Error("ended with a request under way")
	default:
	}
	underWay().is(t, 200, "")
	if code := service.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, line := range []string{"draining", "stopped"} {
		if !strings.Contains(service.stderr.String(), `"msg":"`+line+`"`) {
			t.Errorf("does not log %q", line)
		}
	}
	start(t, deployment(s)).refresh(tokens.Refresh).is(t, 200, "") // a retry within the window
}

// begin sends a refresh but for the end of its body. The function it returns
// sends that and reads the answer.
func (i *instance) begin(t *testing.T, head, tail string) func() answer {
	t.Helper()
	conn, err := net.Dial("tcp", i.addr())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "POST /refresh HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		len(head)+len(tail))
	must(t, err)
	// The handler asks for the body, so the request is under way.
	reader := bufio.NewReader(conn)
	line, err := reader.ReadString('\n')
	must(t, err)
	if line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q", line)
	}
	if _, err = reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(conn, head)
	must(t, err)
	return func() answer {
		t.Helper()
		_, err := io.WriteString(conn, tail)
		must(t, err)
		res, err := http.ReadResponse(reader, nil)
		must(t, err)
		a, err := readAnswer(res)
		must(t, err)
		return a
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		service := start(t, deployment(s, "AUTHAPI_DRAIN=1m"))
		service.signal(syscall.SIGINT)
		eventually(t, "readyz to say no", func() bool { return service.send("GET", "/readyz").status == 503 })
		time.Sleep(50 * time.Millisecond) // The signals are let through when the first has been taken note of.
		began := time.Now()
		service.signal(second)
		service.exit()
		if state := service.cmd.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() || state.Signal() != second {
			t.Errorf("%v: ended with %v", second, service.cmd.ProcessState)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%v: took %v", second, took)
		}
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	must(t, s.Client.Do(t.Context(), "acl", "setuser", "app", "on", ">redis-password", "~*", "&*", "+@all").Err())
	withPassword := strings.Replace(s.URL, "unix://", "unix://app:redis-password@", 1)
	environ := deployment(s, "AUTHAPI_REDIS_URL="+withPassword, "AUTHAPI_LOG_LEVEL=debug")
	addAlice(t, environ)

	for _, format := range []string{"json", "text"} {
		service := start(t, append(environ, "AUTHAPI_LOG_FORMAT="+format))
		secrets := []string{alicesPassword, "redis-password", "wrong password", "retry-key-0123456789"}
		note := func(a answer) answer {
			t.Helper()
			if len(a.header.Get("X-Request-Id")) < 16 {
				t.Errorf("X-Request-Id in %v", a.header)
			}
			for _, token := range []string{a.Access, a.Refresh} {
				for part := range strings.SplitSeq(strings.TrimPrefix(token, "authapi_rt_"), ".") {
					if len(part) >= 16 {
						secrets = append(secrets, part)
					}
				}
			}
			return a
		}

		first := note(service.login("alice", alicesPassword).is(t, 200, ""))
		note(service.login("alice", "wrong password").is(t, 401, "invalid_grant"))
		note(service.login(alicesPassword, "alice").is(t, 401, "invalid_grant")) // the fields mixed up
		note(service.me(first.Access).is(t, 200, ""))
		note(service.me(first.Access+"x").is(t, 401, "invalid_token"))
		note(service.me(first.Refresh).is(t, 401, "invalid_token"))
		note(service.send("GET", "/me?access_token="+first.Access).is(t, 401, "invalid_token"))
		note(service.send("GET", "/sessions/"+first.Refresh).is(t, 405, "method_not_allowed"))
		note(service.send("GET", "/"+first.Access).is(t, 404, "not_found"))
		note(service.send("DELETE", "/sessions/"+first.Refresh, bearer(first.Access)))
		note(service.send("POST", "/refresh", refreshBody(first.Refresh+"x")).is(t, 401, "invalid_grant"))
		note(service.send("POST", "/refresh", "{"+first.Refresh).is(t, 400, "invalid_request"))
		second := note(service.send("POST", "/refresh", refreshBody(first.Refresh), "Idempotency-Key: retry-key-0123456789").is(t, 200, ""))
		third := note(service.refresh(second.Refresh).is(t, 200, ""))
		note(service.refresh(first.Refresh).is(t, 401, "invalid_grant reused"))
		note(service.refresh(third.Refresh).is(t, 401, "invalid_grant reused"))
		last := note(service.login("alice", alicesPassword).is(t, 200, ""))
		note(service.send("POST", "/logout", refreshBody(last.Refresh), "X-Request-Id: forged", "Cookie: __Host-rt="+last.Refresh).is(t, 204, ""))
		service.stop()
		log := service.stderr.String()
		noSecrets(t, log+service.stdout.String(), secrets...)
		if strings.Contains(log, "forged") {
			t.Error("believes the client's X-Request-Id")
		}

		got := map[string]int{}
		for line := range strings.Lines(log) {
			record := parseLine(t, format, line)
			if record["msg"] != "request" {
				continue
			}
			if record["method"] == "" || record["ms"] == "" || record["time"] == "" || record["level"] != "INFO" {
				t.Errorf("incomplete: %s", line)
			}
			status := 0
			_, err := fmt.Sscan(record["status"], &status)
			must(t, err)
			if _, twice := got[record["request_id"]]; twice {
				t.Errorf("logged twice: %s", line)
			}
			got[record["request_id"]] = status
		}
		want := map[string]int{}
		service.answered.Range(func(id, status any) bool {
			want[id.(string)] = status.(int)
			return true
		})
		if len(want) < 18 || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: requests in the log: %v, answered: %v", format, got, want)
		}
		if !strings.Contains(log, "refresh token reused, session ended") {
			t.Errorf("%s: nothing about the reused token", format)
		}
	}
}

// parseLine reads a log line of either format. Values of the text format that
// hold spaces are quoted; this only needs those that do not.
func parseLine(t *testing.T, format, line string) map[string]string {
	t.Helper()
	record := map[string]string{}
	if format == "json" {
		var values map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&values); err != nil {
			t.Fatalf("not JSON: %q: %v", line, err)
		}
		for name, value := range values {
			record[name] = fmt.Sprint(value)
		}
		return record
	}
	if !strings.HasPrefix(line, "time=") || !strings.Contains(line, " level=") {
		t.Fatalf("not text: %q", line)
	}
	for word := range strings.FieldsSeq(line) {
		if name, value, ok := strings.Cut(word, "="); ok {
			record[name] = value
		}
	}
	return record
}

func TestLogLevel(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	service := launch(t, deployment(s, "AUTHAPI_LOG_LEVEL=error", "AUTHAPI_ADDR="+freeAddr(t)))
	service.url = "http://" + strings.TrimPrefix(service.cmd.Env[len(service.cmd.Env)-1], "AUTHAPI_ADDR=")
	eventually(t, "an answer", func() bool { _, err := service.try("GET", "/healthz"); return err == nil })
	service.stop()
	if log := service.stderr.String(); log != "" {
		t.Errorf("logs below the level: %s", log)
	}
}

// freeAddr is an address that nobody listened at a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// Redis goes away and comes back: nobody is logged out.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	addAlice(t, deployment(s))
	service := start(t, deployment(s))
	tokens := service.login("alice", alicesPassword).is(t, 200, "")
	s.Pause()
	began := time.Now()
	var wait sync.WaitGroup
	for path, a := range map[string]func() answer{
		"/readyz":  func() answer { return service.send("GET", "/readyz") },
		"/me":      func() answer { return service.send("GET", "/me", bearer(tokens.Access)) },
		"/refresh": func() answer { return service.send("POST", "/refresh", refreshBody(tokens.Refresh)) },
	} {
		wait.Go(func() {
			if got := a(); got.status != 503 || got.header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
		})
	}
	service.send("GET", "/healthz").is(t, 200, "")
	wait.Wait()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
	s.Resume()
	eventually(t, "readyz to say yes", func() bool { return service.send("GET", "/readyz").status == 200 })
	service.me(tokens.Access).is(t, 200, "")
	service.refresh(tokens.Refresh).is(t, 200, "")
	service.stop()
}

// A server that is full refuses logins and keeps its promises to sessions.
func TestRedisFull(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	addAlice(t, deployment(s))
	service := start(t, deployment(s))
	tokens := service.login("alice", alicesPassword).is(t, 200, "")
	s.SetFull(true)
	service.send("POST", "/login", loginBody("alice", alicesPassword)).is(t, 503, "temporarily_unavailable")
	tokens = service.refresh(tokens.Refresh).is(t, 200, "")
	execute(t, deployment(s), "", "user", "disable", "alice").says(t, 0, "1 session(s) ended.")
	service.me(tokens.Access).is(t, 401, "invalid_token")
	service.refresh(tokens.Refresh).is(t, 401, "invalid_grant ended")
	s.SetFull(false)
	service.stop()
}

// Row 53: clients that are slow and clients that send much. They are all here at
// once, because the slow ones take seconds.
func TestRow53GreedyClients(t *testing.T) {
	t.Parallel()
	service := start(t, []string{"AUTHAPI_ADDR=127.0.0.1:0"})
	const head = "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	var wait sync.WaitGroup
	defer wait.Wait()

	// dribble sends a byte every 100 ms until the service has had enough, and
	// returns its answer and how long it was patient.
	dribble := func(beginning, bytes string) (answered string, took time.Duration) {
		conn, err := net.Dial("tcp", service.addr())
		if err != nil {
			t.Error(err)
			return "", 0
		}
		defer conn.Close()
		began := time.Now()
		_, _ = io.WriteString(conn, beginning)
		ended := make(chan string)
		go func() {
			text, _ := io.ReadAll(conn)
			ended <- string(text)
		}()
		for i := 0; ; i++ {
			select {
			case answered = <-ended:
				return answered, time.Since(began)
			case <-time.After(100 * time.Millisecond):
				_, _ = io.WriteString(conn, bytes[i%len(bytes):][:1])
			}
			if time.Since(began) > patience {
				t.Errorf("%q: still connected after %v", beginning, patience)
				conn.Close()
				return <-ended, patience
			}
		}
	}
	for name, c := range map[string]struct {
		beginning, bytes string
		least, most      time.Duration
	}{
		"request line": {"", "G", 4 * time.Second, 8 * time.Second},
		"header":       {head, "X-A: b\r\n", 4 * time.Second, 8 * time.Second},
		"one header":   {head + "X-A: ", "b", 4 * time.Second, 8 * time.Second},
		"body":         {head + "Content-Length: 1000\r\n\r\n", " ", 9 * time.Second, 13 * time.Second},
		"chunk":        {head + "Transfer-Encoding: chunked\r\n\r\n3e8\r\n", " ", 9 * time.Second, 13 * time.Second},
	} {
		wait.Go(func() {
			answered, took := dribble(c.beginning, c.bytes)
			if took < c.least || took > c.most {
				t.Errorf("%s: cut after %v, want %v to %v", name, took, c.least, c.most)
			}
			if strings.Contains(answered, "HTTP/1.1 2") {
				t.Errorf("%s: answered %q", name, answered)
			}
		})
	}

	for name, c := range map[string]struct {
		head, body string
		status     int
		code       string
	}{
		"one long header":    {"X-A: " + strings.Repeat("b", 1<<20) + "\r\n", "", 431, ""},
		"many headers":       {strings.Repeat("X-A: bbbbbbbb\r\n", 1<<16), "", 431, ""},
		"large body":         {fmt.Sprintf("Content-Length: %d\r\n", 10<<20), strings.Repeat("x", 10<<20), 413, "invalid_request"},
		"large body unsized": {"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 10<<20, strings.Repeat("x", 10<<20)), 413, "invalid_request"},
		"large announcement": {fmt.Sprintf("Content-Length: %d\r\n", 10<<20), strings.Repeat("x", 9<<10), 413, "invalid_request"},
	} {
		wait.Go(func() {
			a, err := flood(service.addr(), head+c.head+"\r\n"+c.body)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if a.status != c.status || a.Error != c.code {
				t.Errorf("%s: got %d %q, want %d %q", name, a.status, a.body, c.status, c.code)
			}
		})
	}

	// Meanwhile everybody else is served.
	service.login(demoUser, demoPassword).is(t, 200, "")
	endWithSilentConnections(t)
}

// endWithSilentConnections: connections without a request hold up the end of a
// service for a few seconds at most.
func endWithSilentConnections(t *testing.T) {
	service := start(t, []string{"AUTHAPI_ADDR=127.0.0.1:0"})
	silent, err := net.Dial("tcp", service.addr())
	must(t, err)
	defer silent.Close()
	idle, err := net.Dial("tcp", service.addr())
	must(t, err)
	defer idle.Close()
	_, err = io.WriteString(idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(idle), nil)
	must(t, err)
	res.Body.Close()
	began := time.Now()
	service.stop()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("with silent connections the end took %v", took)
	}
}

// flood sends a text and reads the answer, which may come before the text has
// been read to its end.
func flood(addr, text string) (answer, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{}, err
	}
	go func() { _, _ = io.WriteString(conn, text) }()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(res)
}

// A file that holds the secret works like the variable, and the process list
// and its own log show neither.
func TestSecretFile(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	file := t.TempDir() + "/secret"
	must(t, os.WriteFile(file, []byte(b64(testSecret(1))+"\n"), 0o600))
	start(t, deployment(s)).stop()
	service := start(t, without(deployment(s), "AUTHAPI_SECRET"), "serve", "--secret-file", file)
	service.stop()
	noSecrets(t, service.stderr.String()+strings.Join(service.cmd.Args, " "))
}
