package failover_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// front stands before a Redis and answers in its place, once it is told to. To a
// client that asks it is a Cluster of one node, if it is to be.
type front struct {
	addr    string
	cluster bool

	mu     sync.Mutex
	answer string // instead of what Redis says
	times  int    // for so many commands more
	given  int
}

// always is more often than anybody asks.
const always = 1 << 30

// say makes the next commands be answered so.
func (f *front) say(answer string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer, f.times = strings.ReplaceAll(answer, "{here}", f.addr), times
}

func (f *front) said() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.given
}

// inPlace returns what is to be answered to a command, "" if Redis is to be asked.
func (f *front) inPlace(args []string) string {
	name := strings.ToLower(args[0])
	if f.cluster && name == "cluster" {
		host, port, _ := net.SplitHostPort(f.addr)
		switch strings.ToLower(args[1]) {
		case "slots":
			return fmt.Sprintf("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$%d\r\n%s\r\n:%s\r\n$40\r\n%s\r\n", len(host), host, port, strings.Repeat("a", 40))
		default:
			return "-ERR unknown subcommand\r\n"
		}
	}
	if f.cluster && name == "info" {
		const info = "redis_version:7.0.15\r\ncluster_enabled:1\r\n"
		return fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)
	}
	switch name {
	case "hello", "client", "select", "auth", "readonly", "asking":
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.times == 0 || f.answer == "-NOSCRIPT No matching script. Please use EVAL.\r\n" && name != "evalsha" {
		return ""
	}
	f.times--
	f.given++
	return f.answer
}

func place(t *testing.T, s *redistest.Server, cluster bool) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f := &front{addr: l.Addr().String(), cluster: cluster}
	network := "tcp"
	if strings.HasPrefix(s.Addrs()[0], "/") {
		network = "unix"
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(conn, network, s.Addrs()[0])
		}
	}()
	return f
}

// serve asks Redis one command at a time.
func (f *front) serve(conn net.Conn, network, addr string) {
	defer conn.Close()
	up, err := net.Dial(network, addr)
	if err != nil {
		return
	}
	defer up.Close()
	down, replies := bufio.NewReader(conn), bufio.NewReader(up)
	for {
		raw, args, err := readCommand(down)
		if err != nil {
			return
		}
		answer := f.inPlace(args)
		if answer == "" {
			if _, err := io.WriteString(up, raw); err != nil {
				return
			}
			if answer, err = readReply(replies); err != nil {
				return
			}
		}
		if answer == "hang up" {
			return
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

func readCommand(r *bufio.Reader) (raw string, args []string, err error) {
	raw, err = readReply(r)
	lines := strings.Split(raw, "\r\n")
	for i := 2; i < len(lines); i += 2 {
		args = append(args, lines[i])
	}
	if err == nil && len(args) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return raw, args, err
}

// readReply reads one message of the protocol.
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	values := 0
	switch line[0] {
	case '$', '=', '!':
		if n < 0 {
			return line, nil
		}
		data := make([]byte, n+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return "", err
		}
		return line + string(data), nil
	case '*', '~', '>':
		values = n
	case '%':
		values = 2 * n
	}
	text := line
	for range values {
		part, err := readReply(r)
		if err != nil {
			return "", err
		}
		text += part
	}
	return text, nil
}

// complaints are what Redis, Sentinel's servers, Clusters and proxies answer when
// they cannot do what they are asked.
var complaints = []struct{ name, answer string }{
	{"LOADING", "-LOADING Redis is loading the dataset in memory\r\n"},
	{"READONLY", "-READONLY You can't write against a read only replica.\r\n"},
	{"READONLY in a script", "-READONLY You can't write against a read only replica. script: 7a3f, on @user_script:12.\r\n"},
	{"READONLY in a script of old", "-ERR Error running script (call to f_7a3f): @user_script:12: -READONLY You can't write against a read only replica.\r\n"},
	{"MASTERDOWN", "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n"},
	{"CLUSTERDOWN", "-CLUSTERDOWN The cluster is down\r\n"},
	{"TRYAGAIN", "-TRYAGAIN Multiple keys request during rehashing of slot\r\n"},
	{"CROSSSLOT", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"},
	{"MOVED here", "-MOVED 1 {here}\r\n"},
	{"MOVED nowhere", "-MOVED 1 127.0.0.1:1\r\n"},
	{"ASK here", "-ASK 1 {here}\r\n"},
	{"ASK nowhere", "-ASK 1 127.0.0.1:1\r\n"},
	{"OOM", "-OOM command not allowed when used memory > 'maxmemory'. script: 7a3f, on @user_script:12.\r\n"},
	{"NOREPLICAS", "-NOREPLICAS Not enough good replicas to write.\r\n"},
	{"MISCONF", "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.\r\n"},
	{"BUSY", "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"},
	{"too many clients", "-ERR max number of clients reached\r\n"},
	{"NOAUTH", "-NOAUTH Authentication required.\r\n"},
	{"NOPERM", "-NOPERM User app has no permissions to run the 'evalsha' command\r\n"},
	{"unknown command", "-ERR unknown command 'EVALSHA', with args beginning with: \r\n"},
	{"nil", "_\r\n"},
	{"a list of a stranger", "*6\r\n$1\r\nx\r\n$1\r\n0\r\n$7\r\nmissing\r\n:0\r\n:0\r\n*0\r\n"},
	{"a text", "$2\r\nOK\r\n"},
	{"no protocol", "HTTP/1.1 400 Bad Request\r\n\r\n"},
	{"hangs up", "hang up"},
}

// Whatever Redis answers, a client hears either what is so or 503, soon, and keeps
// its tokens. Complaints that end are ridden out where that is possible; afterwards
// everything is as it would have been.
func TestRow32ComplaintsOfRedisAreTrouble(t *testing.T) {
	t.Parallel()
	for _, cluster := range []bool{false, true} {
		for _, c := range complaints {
			t.Run(fmt.Sprintf("%s, cluster %v", c.name, cluster), func(t *testing.T) {
				t.Parallel()
				s := redistest.Miniredis(t)
				f := place(t, s, cluster)
				v := service.Start(t, s, service.Through(open(t, "redis://"+f.addr)))
				complain(t, v, f, c.answer)
			})
		}
	}
}

func complain(t *testing.T, v *service.Service, f *front, answer string) {
	t.Helper()
	refreshed, over, spent := v.Login().OK(t), v.Login().OK(t), v.Login().OK(t)
	const key = "a-key-of-this-refresh"
	requests := []service.Request{
		service.RefreshRequest(refreshed.Refresh, key),
		{Method: http.MethodPost, Path: "/logout", Bearer: over.Access},
		service.JSON("/login", `{"username":"`+service.Username+`","password":"`+service.Password+`"}`),
		{Path: "/me", Bearer: spent.Access},
		{Path: "/sessions", Bearer: spent.Access},
		service.Form("/oauth/revoke", "token", over.Refresh),
		service.Form("/oauth/introspect", "token", spent.Refresh).WithClient(service.Introspector, service.IntrospectorSecret),
		{Method: http.MethodDelete, Path: "/sessions/" + sid(over), Bearer: spent.Access},
	}
	f.say(answer, always)
	var all sync.WaitGroup
	for _, r := range requests {
		all.Go(func() {
			a, err := v.Try(context.Background(), r)
			if err != nil {
				t.Error(err)
				return
			}
			trouble(t, a)
		})
	}
	all.Wait()
	if f.said() == 0 {
		t.Error("nobody was answered so")
	}

	// Once: either it is ridden out or it is trouble.
	for i, r := range requests[:6] {
		f.say(answer, 1)
		a := v.Send(r)
		if a.Status != http.StatusServiceUnavailable && a.Status > 299 {
			t.Errorf("%s after one complaint: %d %s %s", a.Route, a.Status, a.Error, a.Reason)
		}
		f.say("", 0)
		if i == 0 && a.Status == 200 && generation(t, v, a.Refresh) != 1 {
			t.Errorf("generation %d", generation(t, v, a.Refresh))
		}
	}
	next := v.Refresh(refreshed.Refresh, key).OK(t)
	if g := generation(t, v, next.Refresh); g != 1 {
		t.Errorf("one refresh, and generation %d", g)
	}
	v.Me(next.Access).OK(t)
	v.Me(v.Login().OK(t).Access).OK(t)
	v.Logout(over.Access, "").OK(t)
	v.Me(over.Access).Is(t, 401, "invalid_token")
	v.Refresh(over.Refresh, "").Is(t, 401, "invalid_grant ended")
	v.Refresh(spent.Refresh, "").OK(t)
}

// Redis forgets scripts at any time, and nobody notices.
func TestRow33ScriptsAreForgotten(t *testing.T) {
	t.Parallel()
	for _, cluster := range []bool{false, true} {
		t.Run(fmt.Sprintf("cluster %v", cluster), func(t *testing.T) {
			t.Parallel()
			s := redistest.Redis(t)
			f := place(t, s, cluster)
			v := service.Start(t, s, service.Through(open(t, "redis://"+f.addr)))
			f.say("-NOSCRIPT No matching script. Please use EVAL.\r\n", always)
			a := v.Login().OK(t)
			next := v.Refresh(a.Refresh, "").OK(t)
			v.Me(next.Access).OK(t)
			v.List(next.Access)
			v.Logout(next.Access, "").OK(t)
			v.Refresh(next.Refresh, "").Is(t, 401, "invalid_grant ended")
			if f.said() == 0 {
				t.Error("no script was forgotten")
			}
		})
	}
}

// generation asks storage how often a session has been refreshed.
func generation(t *testing.T, v *service.Service, token string) uint32 {
	t.Helper()
	parsed, err := v.Sessions.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := v.Sessions.Get(ctx, parsed.SID())
	if err != nil {
		t.Fatal(err)
	}
	return s.Generation
}
