package verify_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/relay"
	"github.com/authapi/authapi/verify"
)

const clientID, clientSecret = "veri:fier", "s+cret/of=the&client"

// relayed is an issuer's /revocations, and the source behind it.
func relayed(t testing.TB) (*relay.Relay, *source) {
	t.Helper()
	s := newSource()
	r := relay.New(s, relay.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	<-s.started
	return r, s
}

// heard is what a Remote reports.
type heard struct {
	mu      sync.Mutex
	denied  map[string]time.Time // by kind and id
	current [partition.Count]time.Time
	trouble []string
}

func (h *heard) has(kind, id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.denied[kind+" "+id]
	return ok
}

func (h *heard) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.denied)
}

// age is that of the oldest partition.
func (h *heard) age() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	var oldest time.Duration
	for _, at := range h.current {
		oldest = max(oldest, time.Since(at))
	}
	return oldest
}

func (h *heard) troubles() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.trouble, "\n")
}

// listen follows a URL until the test ends.
func listen(t testing.TB, url string) *heard {
	t.Helper()
	remote, err := verify.NewRemote(verify.RemoteConfig{URL: url, ClientID: clientID, ClientSecret: clientSecret})
	if err != nil {
		t.Fatal(err)
	}
	h := &heard{denied: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		remote.Follow(ctx, func(kind, id string, until time.Time) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.denied[kind+" "+id] = until
		}, func(p int, age time.Duration) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if at := time.Now().Add(-age); at.After(h.current[p]) {
				h.current[p] = at
			}
		}, func(err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.trouble = append(h.trouble, err.Error())
		})
	})
	t.Cleanup(func() {
		cancel()
		following.Wait()
		if text := h.troubles(); strings.Contains(text, clientSecret) || strings.Contains(text, "s%2Bcret") {
			t.Errorf("the secret is in the trouble: %s", text)
		}
	})
	return h
}

func within(d time.Duration, holds func() bool) bool {
	for end := time.Now().Add(d); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

func eventually(t testing.TB, d time.Duration, what string, holds func() bool) {
	t.Helper()
	if !within(d, holds) {
		t.Fatalf("not within %v: %s", d, what)
	}
}

func TestRemoteReports(t *testing.T) {
	r, s := relayed(t)
	var asked atomic.Pointer[http.Request]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Store(req)
		r.ServeHTTP(w, req)
	}))
	defer server.Close()
	defer r.Drain()
	end := time.Now().Add(time.Hour)
	s.denied("sid", "before", end)
	h := listen(t, server.URL)
	eventually(t, 5*time.Second, "what was denied before", func() bool { return h.has("sid", "before") })
	s.denied("jti", "after", end)
	s.denied("kid", "key", end)
	eventually(t, time.Second, "what is denied now", func() bool { return h.has("jti", "after") && h.has("kid", "key") })
	h.mu.Lock()
	if got := h.denied["jti after"]; got.Unix() != end.Unix() {
		t.Errorf("denied until %v, want %v", got, end)
	}
	h.mu.Unlock()
	if h.age() < time.Hour {
		t.Error("current without a sign of life")
	}
	s.alive(300 * time.Millisecond)
	eventually(t, time.Second, "a sign of life", func() bool { return h.age() < time.Minute })
	if age := h.age(); age < 300*time.Millisecond || age > 1500*time.Millisecond {
		t.Errorf("age %v, the source said 300 ms", age)
	}
	// RFC 6749, section 2.3.1: form-encoded, so that a colon can be part of it.
	if id, secret, _ := asked.Load().BasicAuth(); id != "veri%3Afier" || secret != "s%2Bcret%2Fof%3Dthe%26client" {
		t.Errorf("credentials %q, %q", id, secret)
	}
	if text := h.troubles(); text != "" {
		t.Errorf("trouble: %s", text)
	}
}

// The connection is cut over and over while ids are denied: none is missed, and
// the mark makes sure that not everything is sent each time.
func TestRemoteMissesNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r, s := relayed(t)
	server := httptest.NewUnstartedServer(r)
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateNew {
			conns[c] = true
		}
	}
	server.Start()
	defer server.Close()
	defer r.Drain()
	h := listen(t, server.URL)
	const total, cuts = 3000, 12
	end := time.Now().Add(time.Hour)
	for i := range total {
		s.denied("jti", fmt.Sprint(i), end)
		if i%10 == 0 {
			s.alive(0)
			time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond)
		}
		if i%(total/cuts) == 0 {
			mu.Lock()
			for c := range conns {
				c.Close()
				delete(conns, c)
			}
			mu.Unlock()
		}
	}
	eventually(t, 15*time.Second, "all of them", func() bool { return h.len() == total })
	s.alive(0)
	eventually(t, 5*time.Second, "up to date", func() bool { return h.age() < time.Second })
}

// hold is a proxy that lets a stream through some time later.
type hold struct {
	http.Handler
	delay time.Duration
}

func (h hold) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reader, writer := io.Pipe()
	go func() {
		h.Handler.ServeHTTP(piped{writer}, r)
		writer.Close()
	}()
	type chunk struct {
		data []byte
		at   time.Time
	}
	chunks := make(chan chunk, 10_000)
	go func() {
		defer close(chunks)
		for first := true; ; first = false {
			buffer := make([]byte, 64<<10)
			n, err := reader.Read(buffer)
			if err != nil {
				return
			}
			at := time.Now()
			if !first { // what comes at once says when the clock began
				at = at.Add(h.delay)
			}
			chunks <- chunk{buffer[:n], at}
		}
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	for c := range chunks {
		time.Sleep(time.Until(c.at))
		if _, err := w.Write(c.data); err != nil {
			break
		}
		_ = http.NewResponseController(w).Flush()
	}
	reader.Close()
}

// piped is a response of which only the body counts.
type piped struct{ io.Writer }

func (piped) Header() http.Header { return http.Header{} }
func (piped) WriteHeader(int)     {}
func (piped) Flush()              {}

// What was held up on its way is as old as it is, and not as young as it looks.
func TestRemoteNoticesDelay(t *testing.T) {
	const delay = 1500 * time.Millisecond
	r, s := relayed(t)
	server := httptest.NewServer(hold{r, delay})
	defer server.Close()
	defer r.Drain()
	keepAlive(t, s)
	h := listen(t, server.URL)
	eventually(t, 5*time.Second, "something arrives", func() bool { return h.age() < time.Minute })
	for range 100 {
		if age := h.age(); age < delay {
			t.Fatalf("age %v, and everything is held up for %v", age, delay)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A server that is no relay, or none any more, is not listened to; the next one
// is.
func TestRemoteRecovers(t *testing.T) {
	r, s := relayed(t)
	keepAlive(t, s)
	event := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
	ages := strings.TrimSuffix(strings.Repeat("0,", partition.Count), ",")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with Authorization %v", r.Header["Authorization"] != nil)
	}))
	defer elsewhere.Close()
	var all sync.WaitGroup
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		trouble string
	}{
		"unauthorized": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "refuses the client's credentials"},
		"forbidden":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "refuses the client's credentials"},
		"busy": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "cannot answer now"},
		"broken": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "answers 500"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "answers 307"},
		"a page":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hello</html>") }, "no event stream"},
		"empty":    {func(w http.ResponseWriter, _ *http.Request) { event(w, "") }, "broke off"},
		"no JSON":  {func(w http.ResponseWriter, _ *http.Request) { event(w, "data: {\n\n") }, "broke off"},
		"cut off":  {func(w http.ResponseWriter, _ *http.Request) { event(w, `data: {"clock":1,"ages":[`+ages+`]}`+"\n") }, "broke off"},
		"too long": {func(w http.ResponseWriter, _ *http.Request) { event(w, "data: "+strings.Repeat(" ", 2<<20)) }, "broke off"},
		"backwards": {func(w http.ResponseWriter, _ *http.Request) {
			event(w, "data: {\"clock\":5}\n\ndata: {\"clock\":4,\"ages\":["+ages+"]}\n\n")
		}, "clock leapt"},
		"leaping": {func(w http.ResponseWriter, _ *http.Request) {
			event(w, "data: {\"clock\":5}\n\ndata: {\"clock\":9000000000000000000,\"ages\":["+ages+"]}\n\n")
		}, "clock leapt"},
		"ancient": {func(w http.ResponseWriter, _ *http.Request) {
			event(w, "data: {\"clock\":5,\"ages\":["+strings.ReplaceAll(ages, "0", "9223372036854775807")+"]}\n\ndata: {")
			panic(http.ErrAbortHandler)
		}, "broke off"},
		"silent": {func(w http.ResponseWriter, r *http.Request) {
			event(w, "data: {\"clock\":5}\n\n")
			<-r.Context().Done()
		}, "fell silent"},
		"hangs up": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "no answer"},
	} {
		// All at once: mostly they wait.
		server := httptest.NewUnstartedServer(nil)
		all.Go(func() { recovers(t, name, server, c.answer, c.trouble, r) })
	}
	all.Wait()
}

func recovers(t *testing.T, name string, server *httptest.Server, answer http.HandlerFunc, trouble string, r *relay.Relay) {
	var asked atomic.Int64
	var mended atomic.Bool
	began := time.Now()
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		if mended.Load() {
			r.ServeHTTP(w, req)
			return
		}
		answer(w, req)
	})
	server.Start()
	t.Cleanup(server.Close)
	h := listen(t, server.URL)
	t.Cleanup(server.CloseClientConnections)
	if !within(8*time.Second, func() bool { return strings.Contains(h.troubles(), trouble) }) {
		t.Errorf("%s: no trouble, but %q", name, h.troubles())
	}
	if h.age() < time.Hour {
		t.Errorf("%s: current all the same", name)
	}
	time.Sleep(time.Second)
	// 100 ms, 200 ms, 400 ms ... with the latter half at random.
	if n, most := asked.Load(), 4+int64(time.Since(began)/(500*time.Millisecond)); n > most {
		t.Errorf("%s: asked %d times in %v", name, n, time.Since(began))
	}
	if name == "busy" && asked.Load() > 3 {
		t.Errorf("asked %d times in %v, against Retry-After", asked.Load(), time.Since(began))
	}
	mended.Store(true)
	if !within(10*time.Second, func() bool { return h.age() < time.Second }) {
		t.Errorf("%s: not up to date", name)
	}
}

func TestRemoteIgnoresWhatItDoesNotKnow(t *testing.T) {
	ages := strings.TrimSuffix(strings.Repeat("7,", partition.Count), ",")
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("Last-Event-ID")
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": a comment\r\n\r\nevent: whatever\r\nretry: 5\r\nid: 17\r\n"+
			`data: {"clock":1,"ages":[`+ages+"],\r\n"+
			`data: "later":{"a":[]},"denied":[{"kind":"sid","id":"x","until":99,"why":"?"}]}`+"\r\n\r\nid: 18\ndata: {")
	}))
	defer server.Close()
	h := listen(t, server.URL)
	if first, second := <-asked, <-asked; first != "" || second != "17" {
		t.Errorf("marks %q, %q: what was cut off has not been read", first, second)
	}
	if !h.has("sid", "x") || h.age() > time.Minute {
		t.Error("the frame was not understood")
	}
}

func TestNewRemoteRefuses(t *testing.T) {
	good := verify.RemoteConfig{URL: "https://auth.example.com/revocations", ClientID: "a", ClientSecret: "b"}
	if _, err := verify.NewRemote(good); err != nil {
		t.Fatal(err)
	}
	inside := good
	inside.URL, inside.AllowHTTP = "http://authapi.internal:8080/revocations", true
	if _, err := verify.NewRemote(inside); err != nil {
		t.Errorf("http that was allowed: %v", err)
	}
	for name, change := range map[string]func(*verify.RemoteConfig){
		"ftp, allowed or not": func(c *verify.RemoteConfig) { c.URL, c.AllowHTTP = "ftp://authapi.internal/", true },
		"no URL":              func(c *verify.RemoteConfig) { c.URL = "" },
		"http":                func(c *verify.RemoteConfig) { c.URL = "http://auth.example.com/revocations" },
		"a user":              func(c *verify.RemoteConfig) { c.URL = "https://a:b@auth.example.com/revocations" },
		"no id":               func(c *verify.RemoteConfig) { c.ClientID = "" },
		"no secret":           func(c *verify.RemoteConfig) { c.ClientSecret = "" },
		"a time-out":          func(c *verify.RemoteConfig) { c.Client = &http.Client{Timeout: time.Minute} },
		"everything":          func(c *verify.RemoteConfig) { *c = verify.RemoteConfig{} },
		"another scheme":      func(c *verify.RemoteConfig) { c.URL = "ftp://localhost/" },
		"not a URL":           func(c *verify.RemoteConfig) { c.URL = "://" },
		"loopback's name":     func(c *verify.RemoteConfig) { c.URL = "http://localhost.example.com/" },
	} {
		c := good
		change(&c)
		if r, err := verify.NewRemote(c); r != nil || err == nil || strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestJWKSOverHTTPMustBeAllowed(t *testing.T) {
	for _, c := range []verify.JWKSConfig{
		{URL: "http://authapi.internal:8080/keys"}, {Issuer: "http://authapi.internal:8080"},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := verify.NewJWKS(ctx, c); err == nil {
			t.Errorf("%+v: allowed", c)
		}
		c.AllowHTTP = true
		if _, err := verify.NewJWKS(ctx, c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A Verifier with everything over HTTP, in a word: see the examples. Here: the
// replica of a Remote answers like any other.
func TestReplicaOnARemote(t *testing.T) {
	r, s := relayed(t)
	server := httptest.NewServer(r)
	defer server.Close()
	defer r.Drain()
	keepAlive(t, s)
	remote, err := verify.NewRemote(verify.RemoteConfig{URL: server.URL, ClientID: clientID, ClientSecret: clientSecret})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	k := newKeys(t)
	c := config(k)
	c.Denied, c.Now = nil, nil
	c.Replica = verify.Follow(ctx, remote, func(err error) { t.Error(err) })
	v := newVerifier(t, c)
	eventually(t, 5*time.Second, "ready", func() bool { return v.Ready() == nil })
	token := k.sign(t, fresh())
	if _, err := v.Verify(ctx, token); err != nil {
		t.Fatal(err)
	}
	s.denied("sid", claims().SessionID, time.Now().Add(time.Hour))
	eventually(t, time.Second, "refused", func() bool {
		_, err := v.Verify(ctx, token)
		return errors.Is(err, verify.ErrDenied)
	})
}
