package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// Each runs f as the subtests "miniredis" and "redis".
func Each(t *testing.T, f func(t *testing.T, s *Server)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) { f(t, Miniredis(t)) })
	t.Run("redis", func(t *testing.T) { f(t, Redis(t)) })
}

// EachWithCluster runs f as the subtests "miniredis", "redis" and "cluster".
// The package must call [Main].
func EachWithCluster(t *testing.T, f func(t *testing.T, s *Server)) {
	t.Helper()
	Each(t, f)
	t.Run("cluster", func(t *testing.T) { f(t, Cluster(t)) })
}

var mainCalled atomic.Bool

// Main runs a package's tests, stops what they shared, and exits with their
// code. It also fails the run if a server that a test started is still there:
// a test that leaks servers disturbs the ones after it.
//
// The argument is the *testing.M, or something that wraps it.
func Main(m interface{ Run() int }) {
	mainCalled.Store(true)
	code := func() int {
		defer stopCluster()
		return m.Run()
	}()
	if n := running.Load(); n > 0 {
		fmt.Fprintf(os.Stderr, "redistest: %d redis-server processes outlived their tests\n", n)
		code = max(code, 1)
	}
	os.Exit(code)
}

// needRealRedis ends the test if this machine cannot run a real server. A
// silent skip would look like a proof.
func needRealRedis(tb testing.TB) {
	tb.Helper()
	err := whatIsMissing()
	if err == nil {
		return
	}
	message := fmt.Sprintf("NOT TESTED ON REAL REDIS: %v. Nothing was proved on a real server. "+
		"On Debian: apt-get install redis-server gcc libc6-dev", err)
	warnOnce.Do(func() { fmt.Fprintln(os.Stderr, message) })
	if os.Getenv("CI") != "" {
		tb.Fatal(message)
	}
	tb.Skip(message)
}

var warnOnce sync.Once

func whatIsMissing() error {
	if runtime.GOOS != "linux" {
		return errors.New("the clock of a real server can be moved on Linux only")
	}
	for _, program := range []string{"redis-server", "cc"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed", program)
		}
	}
	return nil
}
