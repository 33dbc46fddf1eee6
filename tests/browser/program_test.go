package browser_test

import (
	"testing"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/program"
)

const (
	username = "alice"
	password = "a password of some length"
)

func startProgram(t *testing.T, s *redistest.Server, environ []string) *program.Program {
	t.Helper()
	p := program.Start(t, program.Settings(s, environ...))
	p.AddUser(username, password)
	return p
}
