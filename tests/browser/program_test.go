package browser_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

const (
	username = "alice"
	password = "a password of some length"
)

// program is the real one, as a process.
type program struct {
	url string
	log output
}

var (
	buildOnce sync.Once
	built     string
	buildErr  error
)

// build makes the program, once for all tests.
func build(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		built = filepath.Join(os.TempDir(), "authapi-browser-test-"+rand.Text())
		if out, err := exec.Command("go", "build", "-o", built, "../../cmd/authapi").CombinedOutput(); err != nil {
			buildErr = err
			t.Logf("%s", out)
		}
	})
	must(t, buildErr)
	return built
}

func removeProgram() {
	if built != "" {
		os.Remove(built)
	}
}

var listening = regexp.MustCompile(`"listening":"([0-9.]+:[0-9]+)"`)

func startProgram(t *testing.T, s *redistest.Server, environ []string) *program {
	t.Helper()
	binary := build(t)
	secret := make([]byte, 32)
	rand.Read(secret)
	environ = append(environ,
		"AUTHAPI_REDIS_URL="+s.URL, "AUTHAPI_REDIS_PREFIX="+s.Prefix, "AUTHAPI_ADDR=127.0.0.1:0", "AUTHAPI_DRAIN=0s",
		"AUTHAPI_LOG_FORMAT=json", "AUTHAPI_SECRET="+base64.StdEncoding.EncodeToString(secret))

	add := exec.Command(binary, "user", "add", username)
	add.Env, add.Stdin = environ, strings.NewReader(password+"\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("user add: %v\n%s", err, out)
	}

	p := &program{}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env, cmd.Stderr = environ, &p.log
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		stop()
		<-ended
		if t.Failed() {
			t.Logf("log of the service:\n%s", p.log.String())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if match := listening.FindStringSubmatch(p.log.String()); match != nil {
			p.url = "http://" + match[1]
			return p
		}
		select {
		case <-ended:
			t.Fatalf("the service has ended:\n%s", p.log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the service does not listen:\n%s", p.log.String())
		}
	}
}
