//go:build !linux

package program

import "os/exec"

func startBound(cmd *exec.Cmd, ended chan<- struct{}) error {
	err := cmd.Start()
	if err == nil {
		go func() { _ = cmd.Wait(); close(ended) }()
	}
	return err
}
