// Package moving_test holds what is said to people who move from express-session
// to this service: the two example applications keep their promises, in front of
// the real service on a real Redis, as several processes; the guide's commands
// print what the guide says; and the guarded route is measured beside the
// application that people come from (brief).
//
// Node and the packages of the workspace are needed:
//
//	npm ci && npm run build
//
// Without them the tests fail where CI is set, and are skipped with the words
// NOT TESTED elsewhere.
package moving_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/authapi/authapi/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(suite{m}) }

// suite removes what the tests have built together.
type suite struct{ *testing.M }

func (s suite) Run() int {
	defer func() {
		if built != "" {
			os.RemoveAll(built)
		}
	}()
	return s.M.Run()
}

// lookAtEverything tells the go command what the tests depend on. It takes an
// old result for one of today unless something has changed that the tests have
// looked at themselves, and here most is read by node and by the compiler.
var lookAtEverything = sync.OnceFunc(func() {
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return filepath.SkipDir
		}
		_, _ = os.Stat(path)
		return nil
	})
})

const root = "../.."

// built is the folder of the programs that were built.
var built string

// theService is the path of the program, which is built once.
var theService = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "moving")
	if err != nil {
		return "", err
	}
	built = folder
	binary := filepath.Join(folder, "authapi")
	if out, err := exec.Command("go", "build", "-o", binary, root+"/cmd/authapi").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build authapi: %w\n%s", err, out)
	}
	return binary, nil
})

// needNode ends the test if the applications cannot run here. A silent skip
// would look like a proof.
func needNode(tb testing.TB) {
	tb.Helper()
	lookAtEverything()
	missing := ""
	if _, err := exec.LookPath("node"); err != nil {
		missing = "node is not installed (20 or newer)"
	}
	for _, file := range []string{
		"node_modules/express/package.json", "node_modules/connect-redis/package.json", // npm ci
		"clients/verify/dist/express.js", "examples/nestjs/dist/main.js", "tests/moving/brief/dist/nest.js", // npm run build
	} {
		if _, err := os.Stat(filepath.Join(root, file)); err != nil && missing == "" {
			missing = file + " is missing: npm ci && npm run build"
		}
	}
	if missing == "" {
		return
	}
	message := "NOT TESTED with Node: " + missing
	if os.Getenv("CI") != "" {
		tb.Fatal(message)
	}
	fmt.Fprintln(os.Stderr, message)
	tb.Skip(message)
}
