package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/authapi/authapi/internal/redistest"
)

// children are the processes that the instance has started.
func children(t *testing.T, pid int) (pids []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	must(t, err)
	for _, file := range files {
		text, _ := os.ReadFile(file) // a thread may have ended
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

// The processes that hash have none of the service's secrets, and are gone when it
// is, however it ends.
func TestHashingProcesses(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*instance){
		"stopped": func(service *instance) { service.stop() },
		"killed": func(service *instance) {
			_ = service.cmd.Process.Kill()
			<-service.ended
		},
	} {
		t.Run(name, func(t *testing.T) {
			service := start(t, deployment(redistest.Redis(t)))
			service.login("nobody", "some password").is(t, 401, "invalid_grant")
			pids := children(t, service.cmd.Process.Pid)
			if len(pids) == 0 {
				t.Fatal("nobody hashes")
			}
			for _, pid := range pids {
				environ, err := os.ReadFile("/proc/" + pid + "/environ")
				must(t, err)
				if strings.Contains(string(environ), "AUTHAPI") {
					t.Errorf("environment of %s: %q", pid, environ)
				}
			}
			end(service)
			eventually(t, "the processes that hash are gone", func() bool {
				for _, pid := range pids {
					if _, err := os.Stat("/proc/" + pid + "/exe"); err == nil {
						return false
					}
				}
				return true
			})
		})
	}
}
