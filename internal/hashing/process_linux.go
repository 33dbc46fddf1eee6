package hashing

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// giveWay lets the process run when nothing else wants to. A low priority is not
// enough: the kernel lets even those finish their slice of some milliseconds, while
// a request waits at each of its steps.
func giveWay() {
	// Priorities are the threads', and threads inherit them. Twice, for one that is
	// just being made by another.
	for range 2 {
		threads, _ := os.ReadDir("/proc/self/task")
		for _, thread := range threads {
			if tid, err := strconv.Atoi(thread.Name()); err == nil {
				_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
			}
		}
	}
}

// apart keeps the signals of a terminal away: the service goes on for a while after
// them, and so must this.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
