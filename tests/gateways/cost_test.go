package gateways_test

import (
	"bufio"
	"flag"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	costFor = flag.Duration("cost", 200*time.Millisecond, "how long each turn of the measurement of costs takes")
	rounds  = flag.Int("rounds", 3, "how many turns")
)

// TestWhatTheGuardCosts prints what asking authapi adds to a request, in turns
// with a gateway that does not ask. Everything is on one machine, the client
// included; what is worth something is the comparison.
func TestWhatTheGuardCosts(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			k.need(t)
			w := newWorld(t)
			// Not the taps, which remember everything.
			auth := httptest.NewServer(w.auth.API)
			defer auth.Close()
			app := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("ok")) }))
			defer app.Close()
			w.app = &tap{addr: app.Listener.Addr().String()}
			w.authapi = &tap{addr: auth.Listener.Addr().String()}
			guarded := k.start(t, w)
			open := k.start(t, w, func(o *options) { o.edit = func(config string) string { return withoutGuard(t, k, config) } })

			if r := open.ask(question{}); r.status != http.StatusOK {
				t.Fatalf("without the guard: %v", r)
			}
			if r := guarded.ask(question{}); r.status != http.StatusUnauthorized {
				t.Fatalf("with the guard: %v", r)
			}
			for _, atOnce := range []int{1, 16} {
				var with, without []time.Duration
				for range *rounds {
					without = append(without, load(t, open, w.editor, atOnce)...)
					with = append(with, load(t, guarded, w.editor, atOnce)...)
				}
				perSecond := func(of []time.Duration) float64 {
					return float64(len(of)) / (*costFor * time.Duration(*rounds)).Seconds()
				}
				t.Logf("%2d at once: without the guard %5.0f requests/s, p50 %v, p99 %v; with it %5.0f requests/s, p50 %v, p99 %v; ratio %.2f",
					atOnce, perSecond(without), percentile(without, 50), percentile(without, 99),
					perSecond(with), percentile(with, 50), percentile(with, 99), perSecond(with)/perSecond(without))
				if perSecond(with) < perSecond(without)/20 {
					t.Errorf("the guard takes more than nineteen of twenty requests")
				}
			}
		})
	}
}

// withoutGuard takes the question to authapi out of a file.
func withoutGuard(t *testing.T, k kind, config string) string {
	t.Helper()
	if k.name == "nginx" {
		config = replaceOnce(t, config, "auth_request /_authapi;", "auth_request off;")
		return replaceOnce(t, config, "http://$authapi_app;", "http://app;")
	}
	before, rest, ok := strings.Cut(config, "\t\tforward_auth ")
	_, after, ok2 := strings.Cut(rest, "error @nobody 503\n")
	if !ok || !ok2 {
		t.Fatalf("%s has no guard", k.file)
	}
	return before + "\n" + after + "\n# " + shippedAuthapi
}

// load asks over connections that are kept, and returns how long each answer
// took.
func load(t *testing.T, g *gateway, token string, atOnce int) []time.Duration {
	t.Helper()
	bytes := question{token: token, header: []string{"User-Agent: test", "Accept: */*"}}.bytes()
	end := time.Now().Add(*costFor)
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			var c net.Conn
			var from *bufio.Reader
			var took []time.Duration
			for n := 0; time.Now().Before(end); n++ {
				if n%500 == 0 { // nginx ends a connection after a thousand
					var err error
					if c, err = net.Dial("tcp", g.addr); err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					c.SetDeadline(end.Add(patience))
					from = bufio.NewReader(c)
				}
				began := time.Now()
				c.Write(bytes)
				if r := read(from, "GET"); r.status != http.StatusOK {
					t.Errorf("%s: %v", g.name, r)
					return
				}
				took = append(took, time.Since(began))
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(all) == 0 {
		t.Fatal("no answers")
	}
	return all
}
