package hashing_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/authapi/authapi/internal/hashing"
)

// The test program is also the process that hashes, and one that fails.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "serve":
			if err := hashing.Serve(os.Stdin, os.Stdout); err != nil {
				os.Exit(1)
			}
			return
		case "talk nonsense":
			fmt.Print(strings.Repeat("nonsense", 100))
			return
		}
	}
	os.Exit(m.Run())
}

func command(what string) func() *exec.Cmd {
	return func() *exec.Cmd {
		self, _ := os.Executable()
		return exec.Command(self, what)
	}
}

func job(n int) hashing.Job {
	return hashing.Job{Password: fmt.Append(nil, "password", n), Salt: []byte("salt of the test"), Passes: 1, Memory: 64, Threads: 1, Size: uint32(16 + n%48)}
}

func want(j hashing.Job) []byte {
	return argon2.IDKey(j.Password, j.Salt, j.Passes, j.Memory, j.Threads, j.Size)
}

func TestManyAtOnceGetTheirOwn(t *testing.T) {
	var started atomic.Int64
	run := command("serve")
	pool := hashing.New(2, func() *exec.Cmd { started.Add(1); return run() }, func(err error) { t.Error(err) })
	defer pool.Close()
	var all sync.WaitGroup
	for n := range 200 {
		all.Go(func() {
			if j := job(n); !bytes.Equal(pool.Derive(j), want(j)) {
				t.Errorf("job %d has another's hash", n)
			}
		})
	}
	all.Wait()
	if started.Load() > 2 {
		t.Errorf("%d processes were started, want 2 at most", started.Load())
	}
}

// Whatever becomes of the processes, passwords are hashed.
func TestProcessesThatFail(t *testing.T) {
	for name, run := range map[string]func() *exec.Cmd{
		"not there":      func() *exec.Cmd { return exec.Command("/does/not/exist") },
		"ends at once":   func() *exec.Cmd { return exec.Command("true") },
		"talks nonsense": command("talk nonsense"),
	} {
		t.Run(name, func(t *testing.T) {
			var failures atomic.Int64
			pool := hashing.New(1, run, func(error) { failures.Add(1) })
			defer pool.Close()
			for n := range 3 {
				if j := job(n); !bytes.Equal(pool.Derive(j), want(j)) {
					t.Errorf("job %d has another hash", n)
				}
			}
			if failures.Load() != 3 {
				t.Errorf("%d failures were told, want 3", failures.Load())
			}
		})
	}
}

// One that is killed is replaced.
func TestProcessThatIsKilled(t *testing.T) {
	var last *exec.Cmd
	run := command("serve")
	var failures int
	pool := hashing.New(1, func() *exec.Cmd { last = run(); return last }, func(error) { failures++ })
	defer pool.Close()
	for n := range 6 {
		j := job(n)
		if !bytes.Equal(pool.Derive(j), want(j)) {
			t.Errorf("job %d has another hash", n)
		}
		rest(t, pool)
		if n == 2 {
			if err := last.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_, _ = last.Process.Wait()
		}
	}
	if failures != 1 {
		t.Errorf("%d failures were told, want 1", failures)
	}
}

// rest waits until the pool's processes have nothing to do. On a busy machine what
// they are asked is first done in the service, and they come later.
func rest(t *testing.T, pool *hashing.Pool) {
	t.Helper()
	if !pool.Rests(20 * time.Second) {
		t.Fatal("a process is never done")
	}
}

// startOne returns a pool whose one process waits for work.
func startOne(t *testing.T) (*hashing.Pool, *exec.Cmd) {
	t.Helper()
	var started *exec.Cmd
	run := command("serve")
	pool := hashing.New(1, func() *exec.Cmd { started = run(); return started }, func(err error) { t.Error(err) })
	t.Cleanup(pool.Close)
	pool.Derive(job(0))
	rest(t, pool)
	return pool, started
}

// A process that is never let run keeps nobody waiting.
func TestProcessThatStandsStill(t *testing.T) {
	pool, started := startOne(t)
	process := started.Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if j := job(n); !bytes.Equal(pool.Derive(j), want(j)) {
			t.Errorf("job %d has another hash", n)
		}
	}
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// While another is being done here, the process may still be the first.
func TestLateHashingsTakeTurns(t *testing.T) {
	pool, started := startOne(t)
	process := started.Process
	var done atomic.Int64
	comes := func(n int64, what string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); done.Load() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	pool.Here() <- struct{}{}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		go func() {
			if j := job(n); !bytes.Equal(pool.Derive(j), want(j)) {
				t.Errorf("job %d has another hash", n)
			}
			done.Add(1)
		}()
	}
	time.Sleep(hashing.Patience + 100*time.Millisecond)
	if done.Load() > 0 {
		t.Error("two were done here at once")
	}
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	comes(1, "what the process has done at last is not taken")
	<-pool.Here()
	comes(2, "nobody does what no process was free for")
}

// A process ends with the pool.
func TestClose(t *testing.T) {
	pool, started := startOne(t)
	pool.Close()
	if started.ProcessState == nil {
		t.Error("it still runs")
	}
}
