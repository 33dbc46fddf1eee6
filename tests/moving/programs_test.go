package moving_test

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds what takes well below a second unless something is wrong.
const patience = 20 * time.Second

// anywhere means that a program may run on any processor.
const anywhere = -1

// program is a process that a test has started. It ends with the test.
type program struct {
	tb      testing.TB
	name    string
	address string // localhost:port
	argv    []string
	environ []string
	on      int // processor

	cmd   *exec.Cmd
	ended chan struct{}
	log   *output
}

// url is where the program listens.
func (p *program) url() string { return "http://" + p.address }

// run starts a program that takes its port from what environ makes of its
// address, and waits until it listens. It has nothing else in its environment.
func run(tb testing.TB, name string, processor int, environ func(address string) []string, argv ...string) *program {
	tb.Helper()
	// A port that is free now may be taken when the program asks for it.
	for attempt := 0; ; attempt++ {
		p := &program{tb: tb, name: name, argv: argv, on: processor, log: &output{}}
		p.address = freeAddress(tb)
		p.environ = append(environ(p.address), "PATH="+os.Getenv("PATH"))
		ok := p.start()
		if !ok && attempt < 3 && strings.Contains(p.log.String(), "in use") {
			continue
		}
		if !ok {
			tb.Fatalf("%s does not listen:\n%s", name, p.log.String())
		}
		tb.Cleanup(func() { p.end() })
		return p
	}
}

// start starts the program, again if it was killed, and reports whether it
// listens.
func (p *program) start() bool {
	p.tb.Helper()
	p.cmd = exec.Command(p.argv[0], p.argv[1:]...)
	p.cmd.Env = p.environ
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	ended, err := launch(p.cmd, p.on)
	if err != nil {
		p.tb.Fatalf("%s: %v", p.name, err)
	}
	p.ended = ended
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			return false
		default:
		}
		if c, err := net.Dial("tcp", p.address); err == nil {
			c.Close()
			return true
		}
	}
	p.kill()
	return false
}

// kill ends the program without warning. start starts it again, at the same
// address.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.ended
}

// pause leaves the program hanging, resume wakes it. Connections to it are
// accepted meanwhile, and not answered.
func (p *program) pause() {
	p.tb.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	eventually(p.tb, patience, p.name+" has stopped", func() bool { return hasStopped(p.cmd.Process.Pid) })
}

func (p *program) resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// secrets are what no log may show. An access token begins with {" in base64, which
// random ids contain as well; it is longer than they are.
var secrets = regexp.MustCompile(`eyJ[\w-]{24}|authapi_rt_|` + regexp.QuoteMeta(clientSecret) + "|" + regexp.QuoteMeta(password))

func (p *program) end() {
	p.resume()
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.tb.Errorf("%s does not end", p.name)
		p.kill()
	}
	log := p.log.String()
	if secret := secrets.FindString(log); secret != "" {
		p.tb.Errorf("the log of %s shows %q", p.name, secret)
	}
	if p.tb.Failed() {
		p.tb.Logf("%s said:\n%s", p.name, log)
	}
}

func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1)
}

// port is the number at the end of an address.
func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// output is a log that is written and read at the same time.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
