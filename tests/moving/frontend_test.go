package moving_test

import (
	"net/http"
	"os/exec"
	"testing"
)

// frontEnd runs the browser's half (public/session.js) against both processes;
// frontend.mjs says what it checks.
func frontEnd(t *testing.T, d *deployment) {
	node := exec.Command("node", "frontend.mjs", d.a.url(), d.b.url(), username, password)
	out, err := node.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if d.name != "express" {
		return // serves no pages
	}
	for _, file := range []string{"/", "/session.js"} {
		send(t, http.MethodGet, d.a.url()+file, "").is(t, http.StatusOK)
	}
}
