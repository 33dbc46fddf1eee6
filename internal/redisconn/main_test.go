package redisconn_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) {
	// The library's own log would go to standard error.
	redisconn.SetLogger(nil)
	redistest.Main(quiet{m})
}

// quiet fails the run if a test's client wrote to standard error in spite of
// SetLogger.
type quiet struct{ m *testing.M }

func (q quiet) Run() int {
	real := os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	os.Stderr = w
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		read <- string(text)
	}()
	code := q.m.Run()
	os.Stderr = real
	w.Close()
	text := <-read
	fmt.Fprint(real, text)
	if strings.Contains(text, "redis: ") {
		fmt.Fprintln(real, "the Redis library wrote to standard error")
		code = max(code, 1)
	}
	return code
}

func open(t *testing.T, rawURL string, opts redisconn.Options) redis.UniversalClient {
	t.Helper()
	client, err := redisconn.Open(t.Context(), rawURL, opts)
	if err != nil {
		t.Fatalf("Open(%s): %v", rawURL, err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// within runs f under the budget and fails if f takes longer than limit.
func within(t *testing.T, limit time.Duration, f func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), redisconn.Budget)
	defer cancel()
	start := time.Now()
	err := f(ctx)
	if took := time.Since(start); took > limit {
		t.Errorf("took %v, want at most %v (error: %v)", took, limit, err)
	}
	return err
}

// fakeServer speaks enough of the protocol to answer as servers do that are
// not at hand: old ones, proxies, clouds. reply returns the raw answer, or
// nothing to hang up. It is called by one goroutine for each connection.
func fakeServer(t *testing.T, reply func(args []string) string) (addr string) {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					args, err := readCommand(r)
					if err != nil {
						return
					}
					text := reply(args)
					if text == "" {
						return
					}
					if _, err := io.WriteString(conn, text); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func readCommand(r *bufio.Reader) ([]string, error) {
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil || line[0] != kind {
			return 0, fmt.Errorf("%q: %w", line, err)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		data := make([]byte, size+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, err
		}
		args[i] = string(data[:size])
	}
	return args, nil
}
