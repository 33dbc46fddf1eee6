//go:build !linux

package gateways_test

import "os/exec"

// startBound starts a program. ended is told of the end.
func startBound(cmd *exec.Cmd, ended chan<- error) error {
	err := cmd.Start()
	if err == nil {
		go func() { ended <- cmd.Wait() }()
	}
	return err
}
