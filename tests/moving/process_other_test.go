//go:build !linux

package moving_test

import (
	"os/exec"
	"time"
)

// launch starts a command, and returns a channel that is closed when it has
// ended. Nothing is bound to a processor here.
func launch(cmd *exec.Cmd, _ int) (ended chan struct{}, err error) {
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

func bindMyself(int) (undo func(), err error) { return func() {}, nil }

func processorTime(int) time.Duration { return 0 }

func hasStopped(int) bool { return true }
