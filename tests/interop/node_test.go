package interop_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tests/service"
)

func TestOAuth4WebAPI(t *testing.T) {
	needNode(t, "oauth4webapi")
	v := start(t, redistest.Redis(t))
	runNode(t, "oauth4webapi.mjs", "ISSUER="+v.URL)
}

func TestJose(t *testing.T) {
	needNode(t, "jose")
	v := start(t, redistest.Redis(t), service.Live(keyring.Schedule{Lead: 100 * time.Millisecond}))
	// An operator, who makes the next key sign and waits until it does.
	operator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before := v.Keys.Signer().ID()
		if _, err := v.Keys.Rotate(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for v.Keys.Signer().ID() == before && r.Context().Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
	}))
	defer operator.Close()
	runNode(t, "jose.mjs", "ISSUER="+v.URL, "ROTATE="+operator.URL)
}

// needNode skips a test only where nobody relies on it.
func needNode(t *testing.T, module string) {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join("../../node_modules", module, "package.json"))
	}
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%v (Debian package: nodejs; then npm ci)", err)
	}
	t.Skipf("%s NOT TESTED: %v (Debian package: nodejs; then npm ci)", module, err)
}

// outcome is a line of TAP: a test's result, name and directive.
var outcome = regexp.MustCompile(`(?m)^(ok|not ok) \d+ - (.*?)( # .*)?$`)

// runNode runs the tests of a file, each as a subtest. They are told everything
// in the environment: other users of a machine see what a process's arguments
// are.
func runNode(t *testing.T, file string, environ ...string) {
	t.Helper()
	// Go repeats an old result until a file changes that the test itself looked at.
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "--test", "--test-reporter=tap", file)
	node.Env = append(environ, "PATH="+os.Getenv("PATH"), "AUDIENCE="+service.Audience,
		"USERNAME="+service.Username, "PASSWORD="+service.Password,
		"SHOP="+service.Shop, "SHOP_SECRET="+service.ShopSecret,
		"INTROSPECTOR="+service.Introspector, "INTROSPECTOR_SECRET="+service.IntrospectorSecret)
	// Interrupted it ends its own child, which a kill would leave behind.
	node.Cancel = func() error { return node.Process.Signal(os.Interrupt) }
	node.WaitDelay = 5 * time.Second
	out, err := node.CombinedOutput()
	if err != nil {
		t.Errorf("node --test %s: %v\n%s", file, err, out)
	}
	ran := 0
	for _, test := range outcome.FindAllStringSubmatch(string(out), -1) {
		result, name, directive := test[1], test[2], test[3]
		if filepath.Base(name) == file {
			continue // a file without tests is reported as one that passed
		}
		ran++
		t.Run(name, func(t *testing.T) {
			if result != "ok" || directive != "" {
				t.Errorf("%s%s", result, directive)
			}
		})
	}
	if ran == 0 {
		t.Errorf("%s ran no tests:\n%s", file, out)
	}
}
