package gateways_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// question is a request as its bytes, so that it may be one that no HTTP library
// would send.
type question struct {
	method  string   // GET if empty
	target  string   // / if empty
	version string   // HTTP/1.1 if empty
	host    string   // the service's if empty
	token   string   // none if empty
	early   []string // headers before the host is known
	header  []string
	body    string
	chunked bool
	trailer string // after a chunked body
}

func (q question) bytes() []byte {
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("%s %s %s", or(q.method, "GET"), or(q.target, "/"), or(q.version, "HTTP/1.1"))
	for _, h := range q.early {
		line("%s", h)
	}
	line("Host: %s", or(q.host, appHost))
	if q.token != "" {
		line("Authorization: Bearer %s", q.token)
	}
	for _, h := range q.header {
		line("%s", h)
	}
	switch {
	case q.chunked:
		line("Transfer-Encoding: chunked")
		line("")
		for rest := q.body; rest != ""; {
			n := min(len(rest), 1000)
			line("%x", n)
			line("%s", rest[:n])
			rest = rest[n:]
		}
		line("0")
		if q.trailer != "" {
			line("%s", q.trailer)
		}
		line("")
	case q.body != "":
		line("Content-Length: %d", len(q.body))
		line("")
		b.WriteString(q.body)
	default:
		line("")
	}
	return b.Bytes()
}

// reply is a response. Its status is 0 if there was none.
type reply struct {
	status int
	header http.Header
	body   string
	took   time.Duration
	err    error
}

func (r reply) String() string {
	if r.err != nil {
		return r.err.Error()
	}
	return fmt.Sprintf("%d %q", r.status, r.body)
}

// patience is how long an answer is waited for. A gateway has three seconds for
// authapi.
const patience = 7 * time.Second

// ask sends a question on a connection of its own.
func (g *gateway) ask(q question) reply {
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		return reply{err: err}
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	began := time.Now()
	if _, err := c.Write(q.bytes()); err != nil {
		return reply{err: err}
	}
	r := read(bufio.NewReader(c), q.method)
	r.took = time.Since(began)
	return r
}

func read(from *bufio.Reader, method string) reply {
	request := &http.Request{Method: strings.ToUpper(method)}
	res, err := http.ReadResponse(from, request)
	for err == nil && res.StatusCode == http.StatusContinue {
		res, err = http.ReadResponse(from, request)
	}
	if err != nil {
		return reply{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return reply{status: res.StatusCode, header: res.Header, body: string(body), err: err}
}
