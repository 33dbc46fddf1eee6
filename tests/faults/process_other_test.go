//go:build !linux

package faults_test

import "os/exec"

// launch starts a command, and returns a channel that is closed when it has
// ended.
func launch(cmd *exec.Cmd) (ended chan struct{}, err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended = make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	return ended, nil
}

func hasStopped(int) bool { return true }
