package redistest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

//go:embed clock.c.txt
var clockSource string

// A clock is a file that servers add to their wall clock (see clock.c.txt).
// Several servers may share one.
type clock struct {
	file    *os.File
	mapping []byte
	offset  *atomic.Int64 // microseconds
	readers *atomic.Int64 // processes that have mapped the file
}

func newClock() (*clock, error) {
	file, err := os.CreateTemp("", "rtclock")
	if err != nil {
		return nil, err
	}
	c := &clock{file: file}
	// Servers reach the file through its descriptor, so that none is left
	// behind by a test process that crashes. The same goes for the library.
	if err = os.Remove(file.Name()); err == nil {
		err = file.Truncate(16)
	}
	if err == nil {
		c.mapping, c.offset, c.readers, err = mapCells(file)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("clock file: %w", err)
	}
	return c, nil
}

func (c *clock) close() {
	unmap(c.mapping)
	c.file.Close()
}

// attach makes a command run by this clock.
func (c *clock) attach(cmd *exec.Cmd) error {
	library, err := clockLibrary()
	if err != nil {
		return err
	}
	// ExtraFiles become descriptors 3 and up.
	cmd.ExtraFiles = []*os.File{library, c.file}
	cmd.Env = append(os.Environ(), "LD_PRELOAD=/proc/self/fd/3", "REDISTEST_CLOCK=/proc/self/fd/4")
	return nil
}

var clockLibrary = sync.OnceValues(func() (*os.File, error) {
	folder, err := os.MkdirTemp("", "rtclock")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	library := filepath.Join(folder, "clock.so")
	cc := exec.Command("cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
		"-x", "c", "-", "-o", library)
	cc.Stdin = strings.NewReader(clockSource)
	if output, err := cc.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile clock.c.txt (needs the packages gcc and libc6-dev): %w\n%s", err, output)
	}
	return os.Open(library)
})
