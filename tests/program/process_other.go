//go:build !linux

package program

import (
	"os/exec"
	"syscall"
)

func startBound(cmd *exec.Cmd, _ syscall.Signal, ended chan<- struct{}) error {
	err := cmd.Start()
	if err == nil {
		go func() { _ = cmd.Wait(); close(ended) }()
	}
	return err
}
