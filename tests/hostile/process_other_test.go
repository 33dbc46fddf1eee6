//go:build !linux

package hostile_test

import "os/exec"

func launch(cmd *exec.Cmd) (ended chan struct{}, err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended = make(chan struct{})
	go func() {
		_ = cmd.Wait() // the log says more than the exit code
		close(ended)
	}()
	return ended, nil
}
