package hostile_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// response is one as it came out of a connection.
type response struct {
	status int
	header http.Header
	body   string
}

// talk sends a text over a connection of its own, and reads responses until the
// service closes the connection. An answer of 1xx is none.
func talk(t *testing.T, addr, text string) []response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(conn, text) }() // may be refused half-way
	var got []response
	reader := bufio.NewReader(conn)
	for {
		if _, err := reader.Peek(1); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%.300q: still open after %v: %v", text, statuses(got), err)
			}
			return got
		}
		// The method only matters for HEAD, which is not sent here.
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Errorf("%.300q: what came back after %v is no response: %v", text, statuses(got), err)
			return got
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("%.300q: half an answer after %v: %v", text, statuses(got), err)
			return got
		}
		if res.StatusCode >= 200 {
			got = append(got, response{res.StatusCode, res.Header, string(body)})
		}
	}
}

func statuses(got []response) []int {
	var all []int
	for _, r := range got {
		all = append(all, r.status)
	}
	return all
}

// attack is what is sent before the request that should not be answered.
type attack struct {
	name, text string
	// want are the statuses, in order. The last one is that of the request behind
	// the attack if it may be seen as such, since the attack's end is beyond doubt.
	want []int
}

// behind ends each attack. A service that answers it has taken all before it for
// complete requests; and closes the connection, so that nobody waits.
const behind = "DELETE /sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"

func attacks() []attack {
	const (
		good    = "token=x" // 200, and nothing happens
		smaller = 3
	)
	n := len(good)
	// post is a request with these headers, which end with good if it is read right.
	post := func(headers, body string) string {
		return "POST /oauth/revoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n" + headers + "\r\n" + body
	}
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	get := func(line, headers string) string { return line + "\r\n" + headers + "\r\n" }
	const (
		chunked = "Transfer-Encoding: chunked\r\n"
		chunks  = "7\r\ntoken=x\r\n0\r\n\r\n"
		host    = "Host: localhost\r\n"
		health  = "GET /healthz HTTP/1.1"
	)
	old := func(request string) string { return strings.Replace(request, "HTTP/1.1", "HTTP/1.0", 1) }

	// Refused before a handler sees it, and nothing behind it is read.
	var all []attack
	for name, text := range map[string]string{
		"two lengths":                     post(length(n)+length(smaller), good),
		"two lengths, the other way":      post(length(smaller)+length(n), good),
		"two lengths in one":              post("Content-Length: 7, 7\r\n", good),
		"length with a sign":              post("Content-Length: +7\r\n", good),
		"negative length":                 post("Content-Length: -1\r\n", good),
		"hexadecimal length":              post("Content-Length: 0x7\r\n", good),
		"length of 2^64 and 7":            post("Content-Length: 18446744073709551623\r\n", good),
		"length of letters":               post("Content-Length: seven\r\n", good),
		"length of other digits":          post("Content-Length: \uff17\r\n", good),
		"no length":                       post("Content-Length: \r\n", good),
		"length with a space in it":       post("Content-Length: 7 7\r\n", good),
		"space before the colon":          post(length(n)+"Transfer-Encoding : chunked\r\n", chunks),
		"tab before the colon":            post(length(n)+"Transfer-Encoding\t: chunked\r\n", chunks),
		"vertical tab":                    post("Transfer-Encoding: \vchunked\r\n", chunks),
		"NUL in the encoding":             post("Transfer-Encoding: chunked\x00\r\n", chunks),
		"encoding in a bare CR":           post(length(n)+"X: y\rTransfer-Encoding: chunked\r\n", chunks),
		"forbidden trailer":               post(chunked+"Trailer: Content-Length\r\n", "7\r\ntoken=x\r\n0\r\nContent-Length: 3\r\n\r\n"),
		"NUL in a value":                  post("X: a\x00b\r\n"+length(n), good),
		"NUL in a name":                   post("X\x00: a\r\n"+length(n), good),
		"bare CR in a value":              post("X: a\rb\r\n"+length(n), good),
		"no name":                         post(": a\r\n"+length(n), good),
		"no colon":                        post("X\r\n"+length(n), good),
		"space in a name":                 post("X Y: a\r\n"+length(n), good),
		"letter in a name":                post("X\u00e9: a\r\n"+length(n), good),
		"first header folded":             get(health, " "+host),
		"no Host":                         get(health, ""),
		"two Hosts":                       get(health, host+host),
		"two other Hosts":                 get(health, host+"Host: evil.example\r\n"),
		"space in Host":                   get(health, "Host: local host\r\n"),
		"user in Host":                    get(health, "Host: localhost@evil.example\r\n"),
		"path in Host":                    get(health, "Host: localhost/evil\r\n"),
		"query in Host":                   get(health, "Host: localhost?evil\r\n"),
		"HTTP/0.9":                        get("GET /healthz", host),
		"version and more":                get(health+" x", host),
		"version in lower case":           get("GET /healthz http/1.1", host),
		"tabs in the request line":        get("GET\t/healthz\tHTTP/1.1", host),
		"two spaces in the request line":  get("GET  /healthz HTTP/1.1", host),
		"space in the target":             get("GET /health z HTTP/1.1", host),
		"NUL in the target":               get("GET /healthz\x00 HTTP/1.1", host),
		"broken escape in the target":     get("GET /healthz%zz HTTP/1.1", host),
		"no target":                       get("GET HTTP/1.1", host),
		"relative target":                 get("GET healthz HTTP/1.1", host),
		"method that is no word":          get("GE(T /healthz HTTP/1.1", host),
		"TLS":                             "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"empty lines in front":            "\r\n\r\n" + get(health, host),
		"length in the Host's bare CR":    get("GET /healthz HTTP/1.1", "Host: localhost\rContent-Length: 0\r\n"),
		"expects something else":          post("Expect: 200-ok\r\n"+length(n), good),
		"encoding that is none":           post("Transfer-Encoding: identity\r\n"+length(n), good),
		"encoding that is none, alone":    post("Transfer-Encoding: identity\r\n", ""),
		"empty encoding":                  post("Transfer-Encoding: \r\n"+length(n), good),
		"two encodings":                   post(chunked+chunked, chunks),
		"two other encodings":             post(chunked+"Transfer-Encoding: identity\r\n", chunks),
		"two encodings in one":            post("Transfer-Encoding: chunked, identity\r\n", chunks),
		"two encodings the other way":     post("Transfer-Encoding: gzip, chunked\r\n", chunks),
		"encoding that looks like chunks": post("Transfer-Encoding: xchunked\r\n", chunks),
		"encoding in quotes":              post("Transfer-Encoding: \"chunked\"\r\n", chunks),
		"HTTP/2 without an upgrade":       get("GET /healthz HTTP/2.0", host),
	} {
		want := 400
		switch {
		case strings.HasPrefix(name, "expects"):
			want = 417
		case strings.HasSuffix(strings.SplitN(name, " ", 3)[0], "mpty") && strings.Contains(text, "Transfer"), strings.Contains(name, "encoding") && !strings.Contains(name, "NUL") && !strings.Contains(name, "CR"):
			want = 501 // net/http's word for codings that it does not know
		case name == "HTTP/2 without an upgrade":
			want = 505
		}
		all = append(all, attack{name, text, []int{want}})
	}

	// Read by a handler, whose answer is the last on the connection.
	for name, a := range map[string]attack{
		"length and chunks":            {text: post(length(len(chunks))+chunked, chunks), want: []int{200}},
		"length and chunks, CL.TE":     {text: post(length(len(chunks+behind))+chunked, chunks), want: []int{200}},
		"chunks and length, TE.CL":     {text: post(chunked+length(smaller), chunks), want: []int{200}},
		"chunks in other case, length": {text: post("transfer-encoding: CHUNKED\r\n"+length(n), chunks), want: []int{200}},
		"chunks, folded, and length":   {text: post("Transfer-Encoding:\r\n chunked\r\n"+length(n), chunks), want: []int{200}},
		"chunks":                       {text: post(chunked, chunks), want: []int{200}},
		"extensions":                   {text: post(chunked, "7;a=b\r\ntoken=x\r\n0;x=\"y\"\r\n\r\n"), want: []int{200}},
		"space behind the size":        {text: post(chunked, "7 \r\ntoken=x\r\n0\r\n\r\n"), want: []int{200}},
		"trailers":                     {text: post(chunked, "7\r\ntoken=x\r\n0\r\nAuthorization: Bearer x\r\nHost: evil.example\r\n\r\n"), want: []int{200}},
		"LF in an extension":           {text: post(chunked, "7;a\nxx\r\ntoken=x\r\n0\r\n\r\n"), want: []int{400}},
		"bare LF between chunks":       {text: post(chunked, "7\ntoken=x\n0\n\n"), want: []int{400}},
		"size of 2^64 and 7":           {text: post(chunked, "10000000000000007\r\ntoken=x\r\n0\r\n\r\n"), want: []int{400}},
		"size with a prefix":           {text: post(chunked, "0x7\r\ntoken=x\r\n0\r\n\r\n"), want: []int{400}},
		"negative size":                {text: post(chunked, "-7\r\ntoken=x\r\n0\r\n\r\n"), want: []int{400}},
		"size with a sign":             {text: post(chunked, "+7\r\ntoken=x\r\n0\r\n\r\n"), want: []int{400}},
		"no size":                      {text: post(chunked, "\r\ntoken=x\r\n0\r\n\r\n"), want: []int{400}},
		"chunk longer than its size":   {text: post(chunked, "6\r\ntoken=x\r\n0\r\n\r\n"), want: []int{400}},
		"extension without an end":     {text: post(chunked, "7;"+strings.Repeat("a", 8<<10)+"\r\ntoken=x\r\n0\r\n\r\n"), want: []int{400}},
		"extensions without end":       {text: post(chunked, strings.Repeat("1;"+strings.Repeat("a", 2000)+"\r\nx\r\n", 300)), want: []int{400}},
		"HTTP/1.0 in chunks":           {text: old(post("Connection: keep-alive\r\n"+chunked, chunks)), want: []int{400}},
		"HTTP/1.0 in chunks, length":   {text: old(post("Connection: keep-alive\r\n"+chunked+length(n), good)), want: []int{200}},
		"HTTP/1.0 kept":                {text: old(post("Connection: keep-alive\r\n"+length(n), good)), want: []int{200}},
		"HTTP/1.0 without Host":        {text: "GET /healthz HTTP/1.0\r\n\r\n", want: []int{200}},
		"HTTP/2 that is known":         {text: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", want: []int{404}},
		"nothing here, waiting":        {text: "POST /nothing HTTP/1.1\r\n" + host + "Expect: 100-continue\r\n" + length(len(behind)) + "\r\n", want: []int{404}},
		"a megabyte too much":          {text: post(length(1<<20), strings.Repeat("x", 1<<20)), want: []int{413}},
		"chunks without end":           {text: post(chunked, strings.Repeat("400\r\n"+strings.Repeat("x", 1<<10)+"\r\n", 1<<10)), want: []int{413}},

		// Whose end is beyond doubt: what is behind is a request of its own.
		"a body":                       {text: post(length(n), good), want: []int{200, 401}},
		"two equal lengths":            {text: post(length(n)+length(n), good), want: []int{200, 401}},
		"length with a zero in front":  {text: post("Content-Length: 07\r\n", good), want: []int{200, 401}},
		"bare LF":                      {text: strings.ReplaceAll(post(length(n), good), "\r\n", "\n"), want: []int{200, 401}},
		"folded header":                {text: post("X: y\r\n Transfer-Encoding: chunked\r\n"+length(n), good), want: []int{200, 401}},
		"underscores":                  {text: post("Content_Length: 3\r\nTransfer_Encoding: chunked\r\n"+length(n), good), want: []int{200, 401}},
		"no body but underscores":      {text: post("Content_Length: 7\r\n", ""), want: []int{400, 401}},
		"a body that is waited for":    {text: post("Expect: 100-continue\r\n"+length(n), good), want: []int{200, 401}},
		"a refused body":               {text: post(length(20_000), strings.Repeat("x", 20_000-len(behind))+behind), want: []int{413, 401}},
		"a body of nothing":            {text: "POST /nothing HTTP/1.1\r\n" + host + length(len(behind)) + "\r\n" + behind, want: []int{404, 401}},
		"a body that is not asked for": {text: get(health, host+length(len(behind))) + behind, want: []int{200, 401}},
		"a body without a token":       {text: get("GET /me HTTP/1.1", host+length(len(behind))) + behind, want: []int{401, 401}},
		"absolute target":              {text: get("GET http://evil.example/healthz HTTP/1.1", host), want: []int{200, 401}},
		"authority for a target":       {text: get("GET localhost:80 HTTP/1.1", host), want: []int{404, 401}},
		"proxy that this is not":       {text: get("CONNECT evil.example:443 HTTP/1.1", host), want: []int{404, 401}},
		"proxy with a path":            {text: get("CONNECT /me HTTP/1.1", host), want: []int{405, 401}},
		"echo that this is not":        {text: get("TRACE /healthz HTTP/1.1", host+"Cookie: secret=to-nobody\r\n"), want: []int{405, 401}},
		"star":                         {text: get("OPTIONS * HTTP/1.1", host), want: []int{404, 401}},
		"star for GET":                 {text: get("GET * HTTP/1.1", host), want: []int{404, 401}},
		"upgrade to HTTP/2":            {text: get(health, host+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), want: []int{200, 401}},
		"upgrade to WebSocket":         {text: get(health, host+"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), want: []int{200, 401}},
		"version of later":             {text: get("GET /healthz HTTP/1.9", host), want: []int{200, 401}},
		"dots in the path":             {text: get("GET /x/../healthz HTTP/1.1", host), want: []int{404, 401}},
		"escaped path":                 {text: get("GET /%68ealthz HTTP/1.1", host), want: []int{404, 401}},
		"fragment":                     {text: get("GET /healthz#x HTTP/1.1", host), want: []int{404, 401}},
		"two slashes":                  {text: get("GET //healthz HTTP/1.1", host), want: []int{404, 401}},
		"bytes that are no text":       {text: get("GET /healthz\xff HTTP/1.1", host), want: []int{404, 401}},
		"method in lower case":         {text: get("get /healthz HTTP/1.1", host), want: []int{405, 401}},
		"connection's own headers":     {text: get("GET /me HTTP/1.1", host+"Authorization: Bearer x\r\nConnection: keep-alive, Authorization\r\n"), want: []int{401, 401}},
	} {
		all = append(all, attack{name, a.text, a.want})
	}
	return all
}

// Whatever is sent, each request has one answer, in order; whoever may have meant
// something else by it gets no further on that connection. Nothing is answered
// that was not asked, and what is refused before a handler sees it is not handled.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	p := start(t, deployment(t, redistest.Redis(t)))
	handled := atomic.Int64{}
	// At once: net/http waits half a second before it closes a connection that it
	// has refused a request on.
	var all sync.WaitGroup
	for _, a := range attacks() {
		all.Go(func() {
			got := talk(t, p.addr, a.text+behind)
			if !slices.Equal(statuses(got), a.want) {
				t.Errorf("%s: %v, want %v", a.name, statuses(got), a.want)
			}
			for i, r := range got {
				if r.header.Get("X-Request-Id") != "" {
					handled.Add(1)
				} else if i < len(got)-1 {
					t.Errorf("%s: goes on after a refusal", a.name)
				}
				if strings.Contains(r.body, "to-nobody") {
					t.Errorf("%s: echoes what it was sent: %q", a.name, r.body)
				}
			}
		})
	}
	all.Wait()
	// A request that was handled, and has no answer here, would be somebody else's.
	eventually(t, "as many requests are handled as answered", func() bool { return len(p.records("request", 0)) >= int(handled.Load()) })
	time.Sleep(50 * time.Millisecond)
	if n := len(p.records("request", 0)); n != int(handled.Load()) {
		t.Errorf("%d requests were handled, %d answered", n, handled.Load())
	}
}

func readAll(t *testing.T, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return string(body)
}
