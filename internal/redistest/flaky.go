package redistest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Flaky loses replies between the server and one client. It is safe for
// concurrent use.
type Flaky struct {
	mu           sync.Mutex
	toLose, lost int
	sent         int
}

// Flaky returns a second client of the server, with the client's usual retries,
// and the means to lose the replies it waits for. It is not for subscriptions
// or scripts inside MULTI.
func (s *Server) Flaky(tb testing.TB) (redis.UniversalClient, *Flaky) {
	f := &Flaky{}
	return s.connect(tb, f.dial), f
}

// LoseReplies makes the connection break instead of delivering the result of a
// script (EVAL, EVALSHA), for the next n results. The scripts have run. Answers
// saying that a script failed or did not run (NOSCRIPT, MOVED) get through. It
// replaces what an earlier call asked for.
func (f *Flaky) LoseReplies(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.toLose = n
}

// Lost returns how many replies were lost so far.
func (f *Flaky) Lost() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

// Sent returns how many scripts (EVAL, EVALSHA) went out on the wire so far. An
// EVALSHA that met NOSCRIPT and the EVAL after it are two.
func (f *Flaky) Sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent
}

func (f *Flaky) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &flakyConn{Conn: conn, flaky: f}, nil
}

// flakyConn follows the conversation message by message, so that it knows which
// reply belongs to which request, in pipelines too.
type flakyConn struct {
	net.Conn
	flaky *Flaky

	mu       sync.Mutex
	request  []byte // begun and not yet complete
	awaiting []bool // for each request without a reply: is it a script?

	// Used by the reader only.
	incoming []byte // received and not yet a whole reply
	ready    []byte // whole replies for the client
	broken   bool
}

func (c *flakyConn) Write(b []byte) (int, error) {
	if err := c.noteRequests(b); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

func (c *flakyConn) noteRequests(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request = append(c.request, b...)
	for {
		n, err := messageLen(c.request)
		if n == 0 || err != nil {
			return err
		}
		script := isScript(c.request[:n])
		c.awaiting = append(c.awaiting, script)
		c.request = c.request[n:]
		if script {
			c.flaky.mu.Lock()
			c.flaky.sent++
			c.flaky.mu.Unlock()
		}
	}
}

// isScript looks at the second line after the array's header: the name.
func isScript(request []byte) bool {
	lines := strings.SplitN(string(request[:min(len(request), 64)]), "\r\n", 4)
	if len(lines) < 3 {
		return false
	}
	name := strings.ToLower(lines[2])
	return name == "eval" || name == "evalsha"
}

func (c *flakyConn) Read(b []byte) (int, error) {
	for len(c.ready) == 0 {
		if c.broken {
			return 0, io.EOF
		}
		if err := c.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// receive reads once, and moves the replies that are whole. What it holds
// survives a time-out, after which the client may read again.
func (c *flakyConn) receive() error {
	chunk := make([]byte, 32<<10)
	got, err := c.Conn.Read(chunk)
	if got == 0 && err != nil {
		return err
	}
	c.incoming = append(c.incoming, chunk[:got]...)
	for {
		n, err := messageLen(c.incoming)
		if n == 0 || err != nil {
			return err
		}
		reply := c.incoming[:n]
		c.incoming = c.incoming[n:]
		if c.loses(reply) {
			c.broken = true
			c.Close()
			return nil
		}
		c.ready = append(c.ready, reply...)
	}
}

func (c *flakyConn) loses(reply []byte) bool {
	if reply[0] == '>' { // pushed by the server: answers no request
		return false
	}
	c.mu.Lock()
	script := len(c.awaiting) > 0 && c.awaiting[0]
	if len(c.awaiting) > 0 {
		c.awaiting = c.awaiting[1:]
	}
	c.mu.Unlock()
	if !script || reply[0] == '-' || reply[0] == '!' {
		return false
	}
	c.flaky.mu.Lock()
	defer c.flaky.mu.Unlock()
	if c.flaky.toLose <= 0 {
		return false
	}
	c.flaky.toLose--
	c.flaky.lost++
	return true
}

var errNotRESP = errors.New("redistest: not the Redis protocol")

// messageLen returns the length of the first message (RESP2 or RESP3) in b, or
// 0 if it is not whole yet.
func messageLen(b []byte) (int, error) {
	at := 0
	for values := 1; values > 0; values-- {
		eol := bytes.Index(b[at:], []byte("\r\n"))
		if eol < 0 {
			return 0, nil
		}
		if eol == 0 {
			return 0, errNotRESP
		}
		kind, line := b[at], string(b[at+1:at+eol])
		at += eol + 2
		switch kind {
		case '+', '-', ':', '_', '#', ',', '(':
			continue
		}
		size, err := strconv.Atoi(line)
		if err != nil {
			return 0, errNotRESP
		}
		size = max(size, 0)
		switch kind {
		case '$', '=', '!':
			if line != "-1" {
				at += size + 2
			}
		case '*', '~', '>':
			values += size
		case '%':
			values += 2 * size
		case '|': // attributes, then the value that they describe
			values += 2*size + 1
		default:
			return 0, errNotRESP
		}
		if at > len(b) {
			return 0, nil
		}
	}
	return at, nil
}
