package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"runtime"

	"github.com/authapi/authapi/internal/hashing"
	"github.com/authapi/authapi/users"
)

// hashCommand is what the service starts itself with, to hash passwords.
const hashCommand = "hash-passwords"

func hashPasswords(_ context.Context, p program) error { return hashing.Serve(p.stdin, p.stdout) }

// hashApart returns a hasher whose work is done by processes of its own, one for
// each processor.
func hashApart(logger *slog.Logger) (hasher *users.Hasher, close func()) {
	n := runtime.GOMAXPROCS(0)
	pool := hashing.New(n, func() *exec.Cmd {
		self, err := os.Executable()
		if err != nil {
			self = os.Args[0]
		}
		cmd := exec.Command(self, hashCommand)
		// Not the environment of the service: there are secrets in it.
		cmd.Env = []string{"GOMAXPROCS=1"}
		return cmd
	}, seldom(func(err error) {
		logger.Error("a process that hashes passwords has failed, and its work is done here", "error", err)
	}))
	return users.NewHasherWith(users.HasherConfig{
		Permits: n,
		Derive: func(password, salt []byte, passes, memory uint32, threads uint8, size uint32) []byte {
			return pool.Derive(hashing.Job{Password: password, Salt: salt, Passes: passes, Memory: memory, Threads: threads, Size: size})
		},
	}), pool.Close
}
