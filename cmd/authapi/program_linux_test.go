package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/authapi/authapi/internal/redistest"
)

// terminal is a pseudo-terminal with a command on it.
type terminal struct {
	t              *testing.T
	keyboard, line *os.File // the user's end and the program's
	screen         output
	cmd            *exec.Cmd
	stdout         output
	ended, read    chan struct{}
}

// onTerminal runs the program as a shell does: the terminal is its controlling
// one, so that Ctrl-C sends a signal.
func onTerminal(t *testing.T, environ []string, args ...string) *terminal {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	must(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	must(t, err)
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)

	x := &terminal{
		t: t, keyboard: keyboard, line: line, cmd: authapi(t, environ, args...),
		ended: make(chan struct{}), read: make(chan struct{}),
	}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = line, &x.stdout, line
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, x.cmd.Start())
	go func() {
		_ = x.cmd.Wait()
		close(x.ended)
	}()
	go func() {
		defer close(x.read)
		buffer := make([]byte, 1024)
		for {
			n, err := keyboard.Read(buffer)
			x.screen.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		<-x.ended
		line.Close() // ends the reading above
		<-x.read
		keyboard.Close()
		soundProcess(t, x.screen.String())
	})
	return x
}

func (x *terminal) echoes() bool {
	state, err := unix.IoctlGetTermios(int(x.line.Fd()), unix.TCGETS)
	must(x.t, err)
	return state.Lflag&unix.ECHO != 0
}

// answer types a line when the prompt is there and typing is not shown.
func (x *terminal) answer(prompt, line string) {
	x.t.Helper()
	eventually(x.t, prompt+" on "+x.screen.String(), func() bool {
		return strings.HasSuffix(x.screen.String(), prompt) && !x.echoes()
	})
	_, err := x.keyboard.WriteString(line)
	must(x.t, err)
}

// exit returns the exit code when the program has ended and the screen is
// complete.
func (x *terminal) exit() int {
	x.t.Helper()
	select {
	case <-x.ended:
	case <-time.After(patience):
		x.t.Fatalf("does not end; the screen shows %q", x.screen.String())
	}
	if !x.echoes() {
		x.t.Error("the terminal is left without echo")
	}
	x.line.Close()
	<-x.read
	return x.cmd.ProcessState.ExitCode()
}

func TestPasswordOnTerminal(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	service := start(t, deployment(s))

	x := onTerminal(t, deployment(s), "user", "add", "alice", "admin")
	x.answer("New password: ", "correct horse\r")
	x.answer("Again: ", "correct horse\r")
	if code := x.exit(); code != 0 || x.screen.String() != "New password: \r\nAgain: \r\n" {
		t.Errorf("exit code %d, screen %q", code, x.screen.String())
	}
	if !strings.HasPrefix(x.stdout.String(), "Added alice") {
		t.Errorf("stdout %q", x.stdout.String())
	}
	service.login("alice", "correct horse").is(t, 200, "")

	x = onTerminal(t, deployment(s), "user", "set-password", "alice")
	x.answer("New password: ", "battery staple\r")
	x.answer("Again: ", "battery stable\r")
	if code := x.exit(); code != 1 || !strings.Contains(x.screen.String(), "the two passwords differ") {
		t.Errorf("exit code %d, screen %q", code, x.screen.String())
	}
	noSecrets(t, x.screen.String(), "battery", "stable")
	service.login("alice", "correct horse").is(t, 200, "")

	// Ctrl-C ends it, also at the second question, and changes nothing.
	x = onTerminal(t, deployment(s), "user", "set-password", "alice")
	x.answer("New password: ", "battery staple\r")
	x.answer("Again: ", "battery\x03")
	if code := x.exit(); code != 1 || !strings.Contains(x.screen.String(), "interrupted") {
		t.Errorf("exit code %d, screen %q", code, x.screen.String())
	}
	noSecrets(t, x.screen.String(), "battery")
	service.login("alice", "correct horse").is(t, 200, "")
}

// The log on a terminal is text, without being told so.
func TestLogOnTerminal(t *testing.T) {
	t.Parallel()
	x := onTerminal(t, []string{"AUTHAPI_ADDR=127.0.0.1:0"})
	eventually(t, "a line of text", func() bool { return strings.Contains(x.screen.String(), "msg=serving") })
	_, err := x.keyboard.WriteString("\x03")
	must(t, err)
	if code := x.exit(); code != 0 || !strings.Contains(x.screen.String(), "msg=stopped") {
		t.Errorf("Ctrl-C: exit code %d, screen %q", code, x.screen.String())
	}
}

// startSentinel runs a Sentinel that watches the master at a port. The kit
// (package redistest) has none.
func startSentinel(t *testing.T, masterPort string) (addr string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr = free.Addr().String()
	free.Close()
	_, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	file := filepath.Join(dir, "sentinel.conf")
	must(t, os.WriteFile(file, []byte("dir "+dir+"\nbind 127.0.0.1\nport "+port+
		"\nsentinel monitor mymaster 127.0.0.1 "+masterPort+" 1\n"), 0o600))
	var log output
	cmd := exec.Command("redis-server", file, "--sentinel")
	cmd.Stdout, cmd.Stderr = &log, &log
	// It dies with a test process that crashes. The kernel ties that to the
	// thread, so the thread is kept for as long as the Sentinel lives.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	must(t, <-started)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	eventually(t, "a Sentinel that listens", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr
}

func TestSentinel(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	must(t, s.Client.ConfigSet(t.Context(), "port", port).Err())
	environ := deployment(s, "AUTHAPI_REDIS_URL=sentinel://"+startSentinel(t, port)+"/mymaster")

	execute(t, environ, "", "check").says(t, 0, "sentinel", "none yet")
	execute(t, environ, "correct horse\n", "user", "add", "alice", "admin").says(t, 0, "Added alice")
	service := start(t, environ)
	tokens := service.login("alice", "correct horse").is(t, 200, "")
	service.me(tokens.Access).is(t, 200, "")
	service.refresh(tokens.Refresh).is(t, 200, "")
	execute(t, environ, "", "user", "disable", "alice").says(t, 0, "1 session(s) ended")
	service.me(tokens.Access).is(t, 401, "invalid_token")
	service.stop()
}
