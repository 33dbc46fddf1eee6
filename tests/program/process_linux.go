package program

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startBound starts a program that ends with the test process, even if that is
// killed.
func startBound(cmd *exec.Cmd, signal syscall.Signal, ended chan<- struct{}) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: signal}
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread that started the program
		// ends, so the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	return <-started
}
