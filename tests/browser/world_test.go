package browser_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/nodetest"
	"github.com/authapi/authapi/tests/program"
)

// The hosts, all of which are this machine.
const (
	authHost = "auth.example.test" // the service
	appHost  = "app.example.test"  // an application of another origin, but the same site
)

const chromium = "/usr/bin/chromium"

// world is a deployment, its neighbours, and what went over the wire.
type world struct {
	program *program.Program
	redis   *redistest.Server
	port    string
	control string

	mu  sync.Mutex
	all []exchange
}

// exchange is a request to the service and what came of it.
type exchange struct {
	method, path, origin string
	status               int
	cookie               string // the refresh token that was set
	allowed              string // Access-Control-Allow-Origin
}

// newWorld starts everything. clients is a clients file in which %s is the
// application's origin, or empty for the built-in clients.
func newWorld(t *testing.T, clients string) *world {
	t.Helper()
	nodetest.Need(t, chromium, "node_modules/playwright-core")
	w := &world{redis: redistest.Redis(t)}

	front := httptest.NewUnstartedServer(nil)
	_, w.port, _ = net.SplitHostPort(front.Listener.Addr().String())
	// Browsers close connections in the middle of a handshake.
	front.Config.ErrorLog = log.New(io.Discard, "", 0)

	environ := []string{"AUTHAPI_PAGE=on", "AUTHAPI_ISSUER=" + w.origin(authHost), "AUTHAPI_TRUSTED_PROXIES=127.0.0.0/8"}
	if clients != "" {
		file := filepath.Join(t.TempDir(), "clients.yaml")
		must(t, os.WriteFile(file, fmt.Appendf(nil, clients, w.origin(appHost)), 0o600))
		environ = append(environ, "AUTHAPI_CLIENTS_FILE="+file)
	}
	w.program = startProgram(t, w.redis, environ)

	behind := w.proxy()
	front.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		switch {
		case host == authHost:
			behind.ServeHTTP(rw, r)
		case strings.HasPrefix(r.URL.Path, "/client/"):
			http.ServeFile(rw, r, filepath.Join("../../web/static/client", path.Base(r.URL.Path)))
		default: // an empty page, which the tests fill
			rw.Header().Set("Content-Type", "text/html")
			io.WriteString(rw, "<!doctype html><title>"+host+"</title>")
		}
	})
	front.StartTLS()
	t.Cleanup(front.Close)

	control := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(rw).Encode(w.generations(r.Context()))
	}))
	t.Cleanup(control.Close)
	w.control = control.URL
	return w
}

func (w *world) origin(host string) string { return "https://" + host + ":" + w.port }

func (w *world) environ(more ...string) []string {
	return append(more, "CHROMIUM="+chromium, "PORT="+w.port, "CONTROL="+w.control, "USERNAME="+username, "PASSWORD="+password)
}

// proxy is what stands in front of the service, and writes down what passes.
func (w *world) proxy() http.Handler {
	target, _ := url.Parse(w.program.URL)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		ErrorLog: log.New(io.Discard, "", 0), // tabs are closed while they wait
		ModifyResponse: func(r *http.Response) error {
			e := exchange{
				method: r.Request.Method, path: r.Request.URL.Path, origin: r.Request.Header.Get("Origin"),
				status: r.StatusCode, allowed: r.Header.Get("Access-Control-Allow-Origin"),
			}
			for _, c := range r.Cookies() {
				if c.Name == "__Host-refresh" {
					e.cookie = c.Value
				}
			}
			w.mu.Lock()
			w.all = append(w.all, e)
			w.mu.Unlock()
			return nil
		},
	}
}

func (w *world) exchanges() []exchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]exchange(nil), w.all...)
}

func (w *world) refreshes() int {
	n := 0
	for _, e := range w.exchanges() {
		if e.path == "/refresh" && e.method == "POST" && e.status == 200 {
			n++
		}
	}
	return n
}

// generations asks Redis for the generation of each session that lives.
func (w *world) generations(ctx context.Context) map[string]uint32 {
	found := map[string]uint32{}
	keys := w.redis.Client.Scan(ctx, 0, w.redis.Prefix+":*:session:*", 1000).Iterator()
	for keys.Next(ctx) {
		if g, err := w.redis.Client.HGet(ctx, keys.Val(), "g").Uint64(); err == nil {
			found[keys.Val()[strings.LastIndex(keys.Val(), ":")+1:]] = uint32(g)
		}
	}
	return found
}

// soundChains fails the test if a session has ever had two tokens of one
// generation, or if Redis is not where the last token is.
func (w *world) soundChains(t *testing.T) {
	t.Helper()
	type link struct {
		seed       string
		generation uint32
	}
	texts := map[link]string{}
	last := map[string]uint32{}
	for _, e := range w.exchanges() {
		if e.cookie == "" {
			continue
		}
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(e.cookie, "authapi_rt_"))
		if err != nil || len(raw) != 42 {
			t.Fatalf("a cookie that is no refresh token: %v, %d bytes", err, len(raw))
		}
		l := link{string(raw[6:22]), binary.BigEndian.Uint32(raw[22:26])}
		if before, ok := texts[l]; ok && before != e.cookie {
			t.Errorf("two tokens of generation %d", l.generation)
		}
		texts[l] = e.cookie
		last[l.seed] = max(last[l.seed], l.generation)
	}
	issued := map[uint32]int{}
	for _, g := range last {
		issued[g]++
	}
	for sid, g := range w.generations(t.Context()) {
		if issued[g] == 0 {
			t.Errorf("session %s is at generation %d in Redis, and no last token is", sid, g)
		}
	}
	if len(texts) == 0 {
		t.Error("no cookie has been set: nothing was tested")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
