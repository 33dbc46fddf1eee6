package faults_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/program"
)

// patience bounds what takes well below a second unless something is wrong.
const patience = 30 * time.Second

const (
	issuer = "https://auth.example.com"

	shopID, shopSecret     = "shop", "PBmcwCTXhFZQPuWZwE5Un4kSrKXUKB6z"
	followID, followSecret = "services", "hTrG4CYFqEEgtwJMHqksZ2WPYtSuKvXA"
	mobileID, userPassword = "mobile", "the password of everybody"
)

// An instance is one process of the service, with a proxy before it.
type instance struct {
	tb      testing.TB
	addr    string
	environ []string
	proxy   *proxy

	mu    sync.Mutex // whoever starts or ends it
	cmd   *exec.Cmd
	ended <-chan struct{}
	log   program.Buffer
}

// clientsFile has short windows: a test has no time for ten seconds.
func clientsFile(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "clients.yaml")
	text := fmt.Sprintf(`
clients:
  - id: %s
    type: confidential
    secret: file:%s
    may_start_sessions: true
    retry_window: %s
    session_limit: 1000
  - id: %s
    type: public
    retry_window: %s
    session_limit: 1000
  - id: %s
    type: confidential
    secret: file:%s
    may_follow_revocations: true
`, shopID, secretFile(tb, shopSecret), retryWindow, mobileID, retryWindow, followID, secretFile(tb, followSecret))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func secretFile(tb testing.TB, secret string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// secrets are what no log may show. An access token begins with {" in base64, which
// random ids contain as well; it is longer than they are.
var secrets = regexp.MustCompile(`eyJ[\w-]{24}|authapi_rt_|` + regexp.QuoteMeta(shopSecret) + "|" + regexp.QuoteMeta(userPassword))

func startInstance(tb testing.TB, seed uint64, environ []string) *instance {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	i := &instance{tb: tb, addr: addr, environ: append(environ, "AUTHAPI_ADDR="+addr)}
	i.start()
	i.proxy = newProxy(tb, seed, addr)
	tb.Cleanup(func() {
		i.signal(syscall.SIGCONT)
		i.kill()
		log := i.log.String()
		for _, bad := range []string{"DATA RACE", "panic:", "goroutine 1 [", `"msg":"panic"`, "NOSCRIPT", "CROSSSLOT"} {
			if strings.Contains(log, bad) {
				tb.Errorf("an instance says %q:\n%s", bad, log)
			}
		}
		if at := secrets.FindStringIndex(log); at != nil {
			tb.Errorf("the log of an instance shows a secret: ...%s...", log[max(0, at[0]-200):min(len(log), at[1]+40)])
		}
		if *keepLogs != "" {
			_ = os.WriteFile(filepath.Join(*keepLogs, strings.ReplaceAll(addr, ":", "-")+".log"), []byte(log), 0o600)
		}
	})
	return i
}

// start starts the process, again if it has ended, and waits until it serves.
// If Redis does not answer in time it ends instead, and is started once more, as
// an orchestrator would do.
func (i *instance) start() {
	i.tb.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		i.cmd = exec.Command(program.Binary(i.tb))
		i.cmd.Env = i.environ
		i.cmd.Stdout, i.cmd.Stderr = &i.log, &i.log
		ended, err := program.Launch(i.cmd, syscall.SIGKILL)
		if err != nil {
			i.tb.Errorf("start authapi: %v", err)
			return
		}
		i.ended = ended
		if i.serves(deadline) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	i.tb.Errorf("an instance does not start:\n%s", i.log.String())
}

// serves waits for the first answer: it listens before it has found its Redis.
func (i *instance) serves(deadline time.Time) bool {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for time.Now().Before(deadline) {
		select {
		case <-i.ended:
			return false
		default:
		}
		if res, err := client.Get("http://" + i.addr + "/healthz"); err == nil {
			res.Body.Close()
			return res.StatusCode == http.StatusOK
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

func (i *instance) signal(s os.Signal) { _ = i.cmd.Process.Signal(s) }

// freeze stops the process until it gets a SIGCONT. A signal arrives some time
// after it was sent, and at each thread by itself.
func (i *instance) freeze() {
	i.tb.Helper()
	i.signal(syscall.SIGSTOP)
	for end := time.Now().Add(patience); !hasStopped(i.cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			i.tb.Fatal("an instance does not stand still")
		}
	}
}

// kill ends the process without warning.
func (i *instance) kill() {
	i.mu.Lock()
	defer i.mu.Unlock()
	_ = i.cmd.Process.Kill() // fails only if it has ended
	<-i.ended
}

// stop ends the process as an operator does.
func (i *instance) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.signal(syscall.SIGTERM)
	select {
	case <-i.ended:
	case <-time.After(patience):
		i.tb.Errorf("an instance does not stop:\n%s", i.log.String())
	}
}
