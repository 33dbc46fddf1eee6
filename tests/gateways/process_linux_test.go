package gateways_test

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startBound starts a program that ends with the test process, even if that is
// killed. ended is told of the end.
func startBound(cmd *exec.Cmd, ended chan<- error) error {
	// nginx ends its workers on this signal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread that started the program
		// ends, so the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return <-started
}
