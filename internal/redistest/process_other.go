//go:build !linux

package redistest

import (
	"errors"
	"os"
	"sync/atomic"
)

// The rest of the kit must compile everywhere; needRealRedis keeps tests from
// getting here.
var errNotLinux = errors.New("real servers are tested on Linux only")

var running atomic.Int64

type process struct{ network, addr, folder string }

func startProcess(*clock, func(string) (string, string, []string)) (*process, error) {
	return nil, errNotLinux
}

func (*process) rerun(*clock, ...string) error { return errNotLinux }
func (*process) wasKilled() bool               { return false }
func (*process) kill()                         {}
func (*process) stop() (log string, died bool) { return "", false }
func (*process) pause() error                  { return errNotLinux }
func (*process) resume() error                 { return errNotLinux }
func (*process) restart() error                { return errNotLinux }
func unmap([]byte)                             {}

func mapCells(*os.File) (mapping []byte, offset, readers *atomic.Int64, err error) {
	return nil, nil, nil, errNotLinux
}
