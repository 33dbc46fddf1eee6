//go:build unix && !linux

package hashing

import (
	"os/exec"
	"syscall"
)

// giveWay lets the process run when nothing else wants to, or else a tenth of the
// time.
func giveWay() { _ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 10) }

// apart keeps the signals of a terminal away: the service goes on for a while after
// them, and so must this.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
