// Package mutation puts faults into the Lua scripts, one at a time, and sees that
// a test notices each.
//
//	go test ./tests/mutation -v -mutate -timeout 2h
//
// prints each fault and the test that noticed it. With -mutate.only, a regular
// expression, only the faults that it matches are tried:
//
//	go test ./tests/mutation -v -mutate -mutate.only 'create.lua.*PEXPIREAT'
//
// How it works. The faults (mutants_test.go) are made from the scripts' text:
// each condition is always or never true, each comparison is off by one, each
// operand of "and" and "or", each clamp, each addition and each write is left
// out, neighbouring writes change places, replies name another key. So a new line
// in a script is covered as soon as it is there. Each package's tests are built
// once, with an overlay in which internal/script exchanges the text of one script
// as it is loaded; the product itself has no such door. The package's own tests
// run, quick ones on the embedded server first, until one fails.
//
// A fault that nothing notices fails the test: write what is missing into the
// package, take the line out if it does nothing, or say in the list (equivalent,
// in scripts_test.go) why nobody can notice. A fault in the list that is noticed
// after all fails too.
//
// Without -mutate there is only a check that the list is up to date, that every
// line that guards something has a fault, and that Redis accepts all of them: one
// that is refused as it is read would be noticed by anything.
package mutation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/redistest"
)

var (
	mutate  = flag.Bool("mutate", false, "try every fault: takes long")
	only    = flag.String("mutate.only", "", "try only the faults that match this `expression`")
	workers = flag.Int("mutate.workers", 2, "how many at once")
)

const root = "../.."

func TestMain(m *testing.M) { redistest.Main(m) }

// read returns a script as it is when package script gets it.
func read(t *testing.T, file string) string {
	t.Helper()
	if file == "denylist/deny.lua" {
		return denylist.Lua() // with its constants
	}
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func all(t *testing.T, s script) []mutant {
	t.Helper()
	text := read(t, s.path)
	list := mutants(s.path, text)
	for _, m := range more {
		if m.script != s.path {
			continue
		}
		from := strings.Index(text, m.from)
		if from < 0 || strings.Count(text, m.from) > 1 {
			t.Errorf("%s: %q is not there, or more than once", m.script, m.from)
			continue
		}
		made := edit{from, from + len(m.from), m.to}.of(s.path, text)
		made.is += " (by hand)"
		list = append(list, made)
	}
	return list
}

// guards is what guards look like. It is cruder than what makes the mutants, so
// that one is a check of the other.
var guards = regexp.MustCompile(`\bif\b|math\.m|[<>]|[=~]=| and | or |redis\.call\('(SET|HSET|HDEL|DEL|ZADD|ZREM|XADD|PEXPIRE|HINCRBY)|\{KEYS\[1\]`)

func TestEveryGuardHasAMutant(t *testing.T) {
	found, err := filepath.Glob(root + "/*/*.lua")
	inside, insideErr := filepath.Glob(root + "/internal/*/*.lua")
	if err := errors.Join(err, insideErr); err != nil || len(found)+len(inside) != len(scripts) {
		t.Errorf("%d scripts, %d in the list: %v", len(found)+len(inside), len(scripts), err)
	}
	ctx := context.Background()
	s := redistest.Redis(t)
	left := map[string]bool{}
	for id := range equivalent {
		left[id] = true
	}
	sum := 0
	for _, script := range scripts {
		text, covered := read(t, script.path), map[int]bool{}
		library := ""
		if script.path == "refresh/end.lua" || script.path == "denylist/add.lua" {
			library = denylist.Lua()
		}
		for _, m := range all(t, script) {
			sum++
			covered[m.line] = true
			delete(left, m.id())
			if m.text == text {
				t.Errorf("%s:%d: changes nothing: %s", script.path, m.line, m.id())
			}
			if err := s.Client.ScriptLoad(ctx, library+m.text).Err(); err != nil {
				t.Errorf("%s:%d: %s: %v", script.path, m.line, m.id(), err)
			}
		}
		for i, line := range strings.Split(text, "\n") {
			code, _, _ := strings.Cut(line, "--")
			if guards.MatchString(code) && !covered[i+1] {
				t.Errorf("%s:%d: no mutant of: %s", script.path, i+1, line)
			}
		}
	}
	for id := range left {
		t.Errorf("in the list of equivalent mutants, but there is no such mutant any more: %s", id)
	}
	seam(t)
	t.Logf("%d mutants, %d of them equivalent", sum, len(equivalent))
}

// seam returns package script's source with the door for mutants.
func seam(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(root + "/internal/script/script.go")
	if err != nil {
		t.Fatal(err)
	}
	const before = "func New(source string, options ...Option) *Script {\n"
	if strings.Count(string(text), before) != 1 {
		t.Fatal("internal/script has another New than the one known here")
	}
	return strings.Replace(string(text), before, before+"\tsource = mutated(source)\n", 1)
}

const door = `package script

import (
	"encoding/json"
	"os"
	"strings"
)

func mutated(source string) string {
	file := os.Getenv("MUTANT")
	if file == "" {
		return source
	}
	var m struct{ Original, Mutant string }
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil && strings.Contains(source, m.Original) {
		source = strings.Replace(source, m.Original, m.Mutant, 1)
		err = os.WriteFile(file+".loaded", nil, 0o600)
	}
	if err != nil {
		panic(err)
	}
	return source
}
`

// build builds the tests of packages, with the door.
func build(t *testing.T, dir string, packages []string) {
	t.Helper()
	home, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for file, text := range map[string]string{"script.go": seam(t), "door.go": door} {
		replace[filepath.Join(home, "internal/script", file)] = filepath.Join(dir, file)
		write(t, filepath.Join(dir, file), text)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), string(overlay))
	args := []string{"test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", dir + "/"}
	for _, name := range packages {
		args = append(args, "./"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = home
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var stages = []struct{ name, run, skip string }{
	{"miniredis", ".*/^miniredis$", leftOut},
	{"redis", ".*/^redis$", leftOut},
}

// suite is the tests of a package, built with the door.
type suite struct{ folder, binary string }

// run runs tests until one fails, and returns which. "" if none does.
func run(s suite, mutant, tests, skip string) (noticed string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, "-test.failfast", "-test.run", tests, "-test.skip", skip, "-test.timeout", "4m")
	cmd.Dir = filepath.Join(root, s.folder)
	cmd.Env = append(os.Environ(), "CI=true", "MUTANT="+mutant)
	out, err := cmd.CombinedOutput()
	if err == nil {
		if bytes.Contains(out, []byte("no tests to run")) {
			return "", fmt.Errorf("no tests match %q", tests)
		}
		return "", nil
	}
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		return "", err
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		name, failed := strings.CutPrefix(strings.TrimSpace(line), "--- FAIL: ")
		if failed {
			name, _, _ = strings.Cut(name, " ")
			if noticed != "" && !strings.HasPrefix(name, noticed+"/") {
				break
			}
			noticed = name
		}
	}
	if noticed == "" {
		return "", fmt.Errorf("%w, and no test says that it failed:\n%s", err, out)
	}
	return noticed, nil
}

func TestMutants(t *testing.T) {
	if !*mutate {
		t.Skip("takes long: go test ./tests/mutation -v -mutate -timeout 2h")
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	dir, began := t.TempDir(), time.Now()
	type job struct {
		mutant
		binary                suite
		original, first, also string
	}
	var jobs []job
	var packages []string
	var binaries []suite
	for _, s := range scripts {
		name := path.Dir(s.path)
		binary := suite{name, filepath.Join(dir, path.Base(name)+".test")}
		for _, m := range all(t, s) {
			if !chosen.MatchString(m.id()) {
				continue
			}
			if !slices.Contains(packages, name) {
				packages, binaries = append(packages, name), append(binaries, binary)
			}
			jobs = append(jobs, job{m, binary, read(t, s.path), s.first, s.also})
		}
	}
	if !slices.Contains(packages, "refresh") {
		packages = append(packages, "refresh")
	}
	build(t, dir, packages)
	for _, binary := range binaries {
		for _, stage := range stages {
			if failed, err := run(binary, "", stage.run, stage.skip); failed != "" || err != nil {
				t.Fatalf("without any fault: %s: %s fails: %v", binary.folder, failed, err)
			}
		}
	}
	t.Logf("built after %v", time.Since(began).Round(time.Second))

	work := make(chan int)
	var mu sync.Mutex
	var crew sync.WaitGroup
	unnoticed := 0
	for range *workers {
		crew.Go(func() {
			for i := range work {
				j := jobs[i]
				file := filepath.Join(dir, fmt.Sprint(i))
				text, _ := json.Marshal(map[string]string{"Original": j.original, "Mutant": j.text})
				err := os.WriteFile(file, text, 0o600)
				noticed := ""
				tries := stages
				if j.first != "" {
					tries = append([]struct{ name, run, skip string }{{"first", "(" + j.first + ")/^miniredis$", leftOut}}, stages...)
				}
				for _, stage := range tries {
					if err == nil && noticed == "" {
						noticed, err = run(j.binary, file, stage.run, stage.skip)
					}
				}
				if err == nil && noticed == "" && j.also != "" {
					noticed, err = run(suite{"refresh", filepath.Join(dir, "refresh.test")}, file, "("+j.also+")/^miniredis$", leftOut)
				}
				if _, missing := os.Stat(file + ".loaded"); err == nil {
					err = missing
				}
				why, listed := equivalent[j.id()]
				mu.Lock()
				switch {
				case err != nil:
					t.Errorf("%s:%d: %s: %v", j.script, j.line, j.id(), err)
				case noticed == "" && !listed:
					unnoticed++
					t.Errorf("NOT NOTICED: %s", j.id())
				case noticed != "" && listed:
					t.Errorf("said to be equivalent (%s), but noticed by %s: %s", why, noticed, j.id())
				case listed:
					t.Logf("%s: equivalent: %s", j.id(), why)
				default:
					t.Logf("%s: %s", j.id(), noticed)
				}
				mu.Unlock()
			}
		})
	}
	for i := range jobs {
		work <- i
	}
	close(work)
	crew.Wait()
	t.Logf("%d faults, %d unnoticed, %v", len(jobs), unnoticed, time.Since(began).Round(time.Second))
}
