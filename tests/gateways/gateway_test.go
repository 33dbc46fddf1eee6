package gateways_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/program"
)

// Where the shipped files say that things are, and the names in them.
const (
	shippedAuthapi = "127.0.0.1:8080"
	shippedApp     = "127.0.0.1:9000"
	shippedGateway = ":8081"

	appHost  = "app.example.com"
	authHost = "auth.example.com"
)

// kind is a program that can stand in front.
type kind struct {
	name string
	// file is what is shipped.
	file string
	need func(testing.TB)
	// command returns how to run the program with a configuration. The folder
	// is for whatever else it needs.
	command func(tb testing.TB, folder, config string, o options) *exec.Cmd
}

var kinds = []kind{
	{"nginx", "../../deploy/nginx/authapi.conf", needNginx, nginxCommand},
	{"caddy", "../../deploy/caddy/Caddyfile", needCaddy, caddyCommand},
}

func kindOf(name string) kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	panic("no gateway " + name)
}

// gateway is one that runs.
type gateway struct {
	kind
	tb   testing.TB
	addr string
}

type options struct {
	// edit changes the file before it is used.
	edit func(config string) string
	// around is put into nginx's http block, before the file.
	around string
	// authapi is where authapi is, instead of at the world's tap.
	authapi string
}

type option func(*options)

// start starts the gateway. It ends with the test.
func (k kind) start(tb testing.TB, w *world, opts ...option) *gateway {
	tb.Helper()
	o := options{authapi: w.authapi.addr}
	for _, opt := range opts {
		opt(&o)
	}
	text, err := os.ReadFile(k.file)
	if err != nil {
		tb.Fatal(err)
	}
	config := string(text)
	if o.edit != nil {
		config = o.edit(config)
	}
	g := &gateway{kind: k, tb: tb, addr: freeAddress(tb)}
	for shipped, here := range map[string]string{
		shippedAuthapi: o.authapi,
		shippedApp:     w.app.addr,
		shippedGateway: strings.TrimPrefix(g.addr, "127.0.0.1"),
	} {
		if !strings.Contains(config, shipped) {
			tb.Fatalf("%s does not speak of %s", k.file, shipped)
		}
		config = strings.ReplaceAll(config, shipped, here)
	}
	folder := tb.TempDir()
	path := filepath.Join(folder, filepath.Base(k.file))
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	g.run(k.command(tb, folder, path, o), filepath.Join(folder, "log"))
	return g
}

func (g *gateway) run(cmd *exec.Cmd, logFile string) {
	g.tb.Helper()
	log, err := os.Create(logFile)
	if err != nil {
		g.tb.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	said := func() []byte {
		text, _ := os.ReadFile(logFile)
		return text[max(0, len(text)-2000):]
	}
	ended, err := program.Launch(cmd, syscall.SIGTERM) // nginx ends its workers then
	if err != nil {
		g.tb.Fatalf("%s: %v", g.name, err)
	}
	g.tb.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-ended
			g.tb.Errorf("%s did not end", g.name)
		}
		if g.tb.Failed() {
			g.tb.Logf("%s said:\n%s", g.name, said())
		}
	})
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			g.tb.Fatalf("%s ended at start: %v\n%s", g.name, cmd.ProcessState, said())
		default:
		}
		if c, err := net.Dial("tcp", g.addr); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			g.tb.Fatalf("%s does not listen", g.name)
		}
	}
}

func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// needNginx ends the test if there is no nginx. Where everything must be
// tested, that is a failure.
func needNginx(tb testing.TB) {
	tb.Helper()
	if _, err := nginxPath(); err != nil {
		const message = "GATEWAY NOT TESTED: nginx is not installed (Debian package: nginx-light)"
		if os.Getenv("CI") != "" {
			tb.Fatal(message)
		}
		fmt.Fprintln(os.Stderr, message)
		tb.Skip(message)
	}
}

func nginxPath() (string, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx") // not in everybody's PATH
	}
	return path, err
}

func nginxCommand(tb testing.TB, folder, config string, o options) *exec.Cmd {
	tb.Helper()
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the test's folder is closed to others
	}
	main := fmt.Sprintf(`%s
daemon off;
worker_processes 1;
pid %[2]s/pid;
error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	%[3]s
	include %[4]s;
}
`, user, folder, o.around, config)
	path := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(path, []byte(main), 0o600); err != nil {
		tb.Fatal(err)
	}
	program, err := nginxPath()
	if err != nil {
		tb.Fatal(err)
	}
	return exec.Command(program, "-p", folder, "-e", "stderr", "-c", path)
}

// needCaddy builds Caddy. Nothing but Go is needed for that.
func needCaddy(tb testing.TB) {
	tb.Helper()
	if _, err := caddyPath(); err != nil {
		tb.Fatal(err)
	}
}

// caddyPath builds Caddy, if Go's cache does not have it, and returns the
// program in the cache. The tags leave out databases for a certificate
// authority.
var caddyPath = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "tool", "-n", "caddy")
	cmd.Dir = "caddy"
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-tags=nobadger,nomysql,nopgx")
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	path, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("Caddy does not build (try: cd tests/gateways/caddy && go build): %w\n%s", err, trouble.Bytes())
	}
	return strings.TrimSpace(string(path)), nil
})

func caddyCommand(tb testing.TB, folder, config string, _ options) *exec.Cmd {
	tb.Helper()
	// Options for the whole of Caddy must come first in its file.
	main := fmt.Sprintf("{\n\tadmin off\n\tpersist_config off\n}\nimport %s\n", config)
	path := filepath.Join(folder, "main")
	if err := os.WriteFile(path, []byte(main), 0o600); err != nil {
		tb.Fatal(err)
	}
	program, err := caddyPath()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(program, "run", "--adapter", "caddyfile", "--config", path)
	cmd.Env = []string{"HOME=" + folder}
	return cmd
}
