package faults_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// hasStopped reports whether all threads of a process stand still.
func hasStopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, thread := range threads {
		stat, _ := os.ReadFile(thread)
		// The state follows the name, which is in brackets and may hold anything.
		if !bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T")) {
			return false
		}
	}
	return err == nil && len(threads) > 0
}
