package hostile_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// Row 53, continued: connections that say nothing, and clients that ask for much
// and read none of it, are closed, and meanwhile everybody else is served.
func TestRow53SilentAndDeafClients(t *testing.T) {
	t.Parallel()
	p := start(t, deployment(t, redistest.Redis(t)))
	const silent, deaf = 300, 20
	var all sync.WaitGroup
	began := time.Now()
	// closed waits until the service has ended a connection. It may have sent
	// something before; what a client does not read does not hold it up.
	closed := func(kind, sent string, before time.Duration) {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, sent)
		all.Go(func() {
			defer conn.Close()
			for {
				// Writing is how to find out without reading.
				if _, err := io.WriteString(conn, sent); err != nil {
					return
				}
				if time.Since(began) > before {
					t.Errorf("%s: still open after %v", kind, before)
					return
				}
				_ = conn.SetWriteDeadline(time.Now().Add(before))
				time.Sleep(100 * time.Millisecond)
				if sent == "" {
					_ = conn.SetReadDeadline(began.Add(before))
					if _, err := conn.Read(make([]byte, 1)); err == nil {
						t.Errorf("%s: an answer to nothing", kind)
					}
					if time.Since(began) > before {
						t.Errorf("%s: still open after %v", kind, before)
					}
					return
				}
			}
		})
	}
	for range silent {
		closed("silent", "", 15*time.Second)
	}
	pages := strings.Repeat("GET /openapi.yaml HTTP/1.1\r\nHost: localhost\r\n\r\n", 300)
	for range deaf {
		closed("deaf", pages, 40*time.Second)
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		res, err := client.Get("http://" + p.addr + "/readyz")
		must(t, err)
		if body := readAll(t, res); res.StatusCode != 200 {
			t.Errorf("%d %s", res.StatusCode, body)
		}
	}
	all.Wait()
}
