package redistest

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// running counts the servers that were started and have not ended.
var running atomic.Int64

// A process is one redis-server.
type process struct {
	network, addr string

	folder string
	args   []string // of redis-server
	clock  *clock
	proc   *os.Process
	killed atomic.Bool
	ended  chan struct{} // closed when the process has been reaped
}

// inMemory is where servers have their folders if that exists. What a disk is
// doing for others must not matter to them: a Sentinel that waits two seconds for
// it takes the clock for broken, and promotes nobody for half a minute.
const inMemory = "/dev/shm"

// startProcess starts a redis-server and waits until it answers. listen is
// given the server's own folder, whose path is short enough for a socket in it.
func startProcess(clock *clock, listen func(folder string) (network, addr string, args []string)) (*process, error) {
	folder, err := os.MkdirTemp(inMemory, "rt")
	if err != nil {
		folder, err = os.MkdirTemp("", "rt")
	}
	if err == nil && len(folder) > 80 { // The kernel limits a socket's path to 107 bytes.
		os.Remove(folder)
		folder, err = os.MkdirTemp("/tmp", "rt")
	}
	if err != nil {
		return nil, err
	}
	p := &process{folder: folder, ended: make(chan struct{})}
	var args []string
	p.network, p.addr, args = listen(folder)
	p.args, p.clock = args, clock
	if err := p.run(clock, args...); err != nil {
		log, _ := p.stop()
		return nil, fmt.Errorf("redis-server: %w\n%s", err, log)
	}
	return p, nil
}

// run starts the server in its folder, again if it has ended, and waits until
// it answers.
func (p *process) run(clock *clock, args ...string) error {
	if err := p.start(exec.Command("redis-server", args...), clock); err != nil {
		return err
	}
	if err := p.waitUntilReady(clock); err != nil {
		p.kill()
		return err
	}
	return nil
}

// rerun starts the server again after kill: with the same folder, and so with
// what it has kept.
func (p *process) rerun(clock *clock, args ...string) error {
	p.ended = make(chan struct{})
	err := p.run(clock, args...)
	if err == nil {
		p.killed.Store(false)
	}
	return err
}

func (p *process) start(cmd *exec.Cmd, clock *clock) error {
	if err := clock.attach(cmd); err != nil {
		return err
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	// A test process that panics or is killed runs no cleanup.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go func() {
		// The kernel sends that signal when the thread that started the
		// process ends, not when the test process does. So the thread is
		// kept for as long as the server lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.proc = cmd.Process
			running.Add(1)
		}
		if err != nil {
			close(p.ended)
		}
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // The log says more than the exit code.
		running.Add(-1)
		close(p.ended)
	}()
	return <-started
}

func (p *process) logFile() string { return filepath.Join(p.folder, "log") }

func (p *process) waitUntilReady(clock *clock) error {
	deadline := time.Now().Add(startTimeout)
	var last error
	for time.Now().Before(deadline) {
		select {
		case <-p.ended:
			return errors.New("ended at start")
		default:
		}
		if last = p.answers(); last == nil {
			if clock.readers.Load() == 0 {
				return errors.New("the clock library was not loaded")
			}
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("not ready after %v: %w", startTimeout, last)
}

// answers asks the server for its process id: a port that was free a moment ago
// may by now belong to the server of another test process. It does without a
// client, which would report each refused connection.
func (p *process) answers() error {
	conn, err := net.DialTimeout(p.network, p.addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("INFO server\r\n")); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if pid, ok := strings.CutPrefix(lines.Text(), "process_id:"); ok {
			if pid != strconv.Itoa(p.proc.Pid) {
				return fmt.Errorf("%s belongs to process %s", p.addr, pid)
			}
			return nil
		}
		if strings.HasPrefix(lines.Text(), "-") {
			return errors.New(lines.Text())
		}
	}
	return cmp.Or(lines.Err(), io.ErrUnexpectedEOF)
}

func (p *process) kill() {
	p.killed.Store(true)
	if p.proc == nil {
		return // never started
	}
	_ = p.proc.Kill() // fails only if it has ended
	<-p.ended
}

// restart kills the process and starts it anew, with what it has on disk.
func (p *process) restart() error {
	p.kill()
	return p.rerun(p.clock, p.args...)
}

func (p *process) wasKilled() bool { return p.killed.Load() }

// stop ends the process, removes its folder and returns its log. It reports
// whether the process had ended unbidden.
func (p *process) stop() (log string, died bool) {
	select {
	case <-p.ended:
		died = !p.killed.Load()
	default:
	}
	p.kill()
	text, _ := os.ReadFile(p.logFile())
	os.RemoveAll(p.folder)
	return string(text), died
}

// pause returns when the process has really stopped: a signal arrives some
// time after it was sent, and until then commands would be answered.
func (p *process) pause() error {
	if err := p.proc.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	deadline := time.Now().Add(startTimeout)
	for time.Now().Before(deadline) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.proc.Pid))
		if err != nil {
			return err
		}
		// The state follows the name, which is in brackets.
		if end := bytes.LastIndexByte(stat, ')'); end >= 0 && bytes.HasPrefix(stat[end:], []byte(") T")) {
			return nil
		}
		time.Sleep(100 * time.Microsecond)
	}
	return errors.New("the process does not stop")
}

func (p *process) resume() error {
	err := p.proc.Signal(syscall.SIGCONT)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// mapCells maps the two integers of a clock file. Stores to them are seen whole
// by the servers, which a write to the file does not promise.
func mapCells(file *os.File) (mapping []byte, offset, readers *atomic.Int64, err error) {
	mapping, err = syscall.Mmap(int(file.Fd()), 0, 16, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, nil, err
	}
	cells := (*[2]atomic.Int64)(unsafe.Pointer(&mapping[0]))
	return mapping, &cells[0], &cells[1], nil
}

func unmap(mapping []byte) { _ = syscall.Munmap(mapping) }
