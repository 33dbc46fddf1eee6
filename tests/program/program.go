// Package program starts the program itself, as a process, for tests that look at
// it from outside: at its sockets, its memory, its end.
//
// Call [Start] with the Redis it should use and further settings; [Program.AddUser]
// adds somebody who may log in, and [Program.Command] runs a subcommand. Those who
// see to the process themselves call [Binary] and [Launch]. The binary is built once
// for a test process, and removed by [Main], which the package's TestMain must call.
// A process ends with its test, and with the test process however that ends.
//
// The program's log is shown if the test fails. Code that is not a test must not
// import the package.
package program

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// Main is redistest.Main for packages that start the program.
func Main(m *testing.M) { redistest.Main(suite{m}) }

type suite struct{ *testing.M }

func (s suite) Run() int {
	defer func() {
		if folder != "" {
			os.RemoveAll(folder)
		}
	}()
	return s.M.Run()
}

// Race is whether the program is built with the race detector. It is set before the
// first Start.
var Race bool

var folder string

var build = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "..", "..")
	if err := lookAtSources(root); err != nil {
		return "", err
	}
	var err error
	if folder, err = os.MkdirTemp("", "authapi"); err != nil {
		return "", err
	}
	binary := filepath.Join(folder, "authapi")
	cmd := exec.Command("go", "build", fmt.Sprint("-race=", Race), "-o", binary, "./cmd/authapi")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build authapi: %w\n%s", err, out)
	}
	return binary, nil
})

// lookAtSources looks at what the program is made of: the go command remembers the
// results of tests, and knows that one depends on a file only if it looked at it.
func lookAtSources(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "node_modules" || path == filepath.Join(root, "tests")):
			return fs.SkipDir
		case d.IsDir() || strings.HasSuffix(path, "_test.go") || filepath.Ext(path) != ".go" && filepath.Ext(path) != ".lua":
			return nil
		}
		_, err = os.Stat(path)
		return err
	})
}

// Binary returns the path of the program.
func Binary(tb testing.TB) string {
	tb.Helper()
	binary, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	return binary
}

// Launch starts a command that ends with the test process, even if that is killed:
// then it gets the signal (on Linux). The channel is closed when it has ended; what
// its Wait returned is in its ProcessState.
func Launch(cmd *exec.Cmd, signal syscall.Signal) (ended <-chan struct{}, err error) {
	c := make(chan struct{})
	return c, startBound(cmd, signal, c)
}

// Program is a running instance.
type Program struct {
	URL string
	PID int

	tb      testing.TB
	environ []string
	cmd     *exec.Cmd
	log     Buffer
	stop    context.CancelFunc
	ended   <-chan struct{}
}

// Settings are environment variables of a deployment on this Redis. Instances of one
// deployment share them.
func Settings(s *redistest.Server, more ...string) []string {
	secret := make([]byte, 32)
	rand.Read(secret)
	return append([]string{
		"AUTHAPI_REDIS_URL=" + s.URL, "AUTHAPI_REDIS_PREFIX=" + s.Prefix,
		"AUTHAPI_ISSUER=https://auth.example.com", "AUTHAPI_SECRET=" + base64.StdEncoding.EncodeToString(secret),
		"AUTHAPI_ADDR=127.0.0.1:0", "AUTHAPI_DRAIN=0s", "AUTHAPI_LOG_FORMAT=json",
	}, more...)
}

var listening = regexp.MustCompile(`"listening":"([^"]+)"`)

// Start starts an instance, and returns when it serves.
func Start(tb testing.TB, settings []string) *Program {
	tb.Helper()
	binary := Binary(tb)
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary)
	p := &Program{tb: tb, environ: settings, cmd: cmd, stop: stop}
	cmd.Env, cmd.Stderr = settings, &p.log
	var err error
	if p.ended, err = Launch(cmd, syscall.SIGKILL); err != nil {
		stop()
		tb.Fatal(err)
	}
	p.PID = cmd.Process.Pid
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			text := p.log.String()
			tb.Logf("log of the service:\n%s", text[max(0, len(text)-mostShown):])
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if match := listening.FindStringSubmatch(p.log.String()); match != nil {
			p.URL = "http://" + match[1]
			return p
		}
		select {
		case <-p.ended:
			tb.Fatalf("the service has ended:\n%s", p.log.String())
		default:
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the service does not listen:\n%s", p.log.String())
		}
	}
}

// Kill ends the process at once.
func (p *Program) Kill() {
	p.stop()
	<-p.ended
}

// Stop asks the process to end (SIGTERM), and returns when it has. It fails the test
// if the process does not end in order.
func (p *Program) Stop() {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.tb.Errorf("SIGTERM: %v", err)
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.tb.Error("the service does not end")
		p.Kill()
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.tb.Errorf("the service has ended with code %d", code)
	}
}

// Log returns what the instance has logged.
func (p *Program) Log() string { return p.log.String() }

// LogFrom returns what was written from an offset on, and the offset of what comes
// next.
func (p *Program) LogFrom(offset int64) (text string, next int64) { return p.log.from(offset) }

// Command runs a subcommand with the settings of the instance.
func (p *Program) Command(input string, args ...string) (string, error) {
	return Run(p.tb, p.environ, input, args...)
}

// Run runs a subcommand.
func Run(tb testing.TB, settings []string, input string, args ...string) (string, error) {
	tb.Helper()
	cmd := exec.Command(Binary(tb), args...)
	cmd.Env, cmd.Stdin = settings, strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// AddUser adds somebody who may log in.
func (p *Program) AddUser(username, password string) {
	p.tb.Helper()
	if out, err := p.Command(password+"\n", "user", "add", username); err != nil {
		p.tb.Fatalf("user add: %v\n%s", err, out)
	}
}

// Buffer is what a process writes while others read it. Of what is long it keeps the
// end: a process may run for days.
type Buffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	dropped int64
}

const (
	mostKept  = 32 << 20
	mostShown = 64 << 10
)

// Write appends.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.text.Len() > mostKept {
		b.dropped += int64(len(b.text.Next(mostKept / 2)))
	}
	return b.text.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	text, _ := b.from(0)
	return text
}

func (b *Buffer) from(offset int64) (string, int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.text.Bytes()
	skip := min(max(offset-b.dropped, 0), int64(len(text)))
	return string(text[skip:]), b.dropped + int64(len(text))
}
