package moving_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// launch starts a command on one processor (any, if it is negative), and returns
// a channel that is closed when it has ended.
//
// The command is killed when this process ends, however that ends. The kernel
// does so when the thread that started it ends: so the thread is kept.
func launch(cmd *exec.Cmd, processor int) (ended chan struct{}, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlocked: it may be bound to a processor
		var err error
		if processor >= 0 {
			err = bind(0, processor)
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // the log says more than the exit code
			close(ended)
		}
	}()
	return ended, <-started
}

// bind lets a thread run on one processor only; 0 is the calling one. What it
// starts does the same.
func bind(thread, processor int) error {
	var set unix.CPUSet
	set.Set(processor)
	return unix.SchedSetaffinity(thread, &set)
}

// bindMyself lets this process run on one processor only, until the function
// that is returned is called.
func bindMyself(processor int) (undo func(), err error) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, err
	}
	each := func(f func(thread int)) error {
		threads, err := os.ReadDir("/proc/self/task")
		for _, t := range threads {
			if id, err := strconv.Atoi(t.Name()); err == nil {
				f(id)
			}
		}
		return err
	}
	// A thread that ends meanwhile needs no binding.
	err = each(func(thread int) { _ = bind(thread, processor) })
	return func() { _ = each(func(thread int) { _ = unix.SchedSetaffinity(thread, &before) }) }, err
}

// hasStopped reports whether all threads of a process stand still: a signal
// arrives some time after it was sent, and at each thread by itself.
func hasStopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, thread := range threads {
		if fields := statOf(thread); len(fields) == 0 || fields[0] != "T" {
			return false
		}
	}
	return err == nil && len(threads) > 0
}

// processorTime is what a process has taken of all processors, to 10 ms.
func processorTime(pid int) time.Duration {
	fields := statOf(fmt.Sprintf("/proc/%d/stat", pid))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// statOf returns the fields of a stat file of the kernel that follow the name,
// which is in brackets and may hold anything.
func statOf(file string) []string {
	stat, _ := os.ReadFile(file) // a process that has ended has none
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}
