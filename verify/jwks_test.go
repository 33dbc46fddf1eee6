package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// jwksIssuer is a real HTTP server that publishes keys, reached by a real HTTP
// client through pipes instead of sockets: so all of it runs on the clock of a
// synctest bubble.
type jwksIssuer struct {
	client *http.Client
	conns  chan net.Conn
	closed chan struct{}
	answer atomic.Pointer[http.HandlerFunc]

	mu   sync.Mutex
	asks []jwksAsk
}

// jwksAsk is one request.
type jwksAsk struct {
	path string
	at   time.Time
}

func newJWKSIssuer(t testing.TB, answer http.HandlerFunc) *jwksIssuer {
	i := &jwksIssuer{conns: make(chan net.Conn), closed: make(chan struct{})}
	i.answers(answer)
	i.client = &http.Client{Transport: &http.Transport{DialContext: i.dial, DisableKeepAlives: true}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.asks = append(i.asks, jwksAsk{r.URL.EscapedPath(), time.Now()})
		i.mu.Unlock()
		(*i.answer.Load())(w, r)
	})}
	go server.Serve(i) //nolint:errcheck // it always ends with an error
	t.Cleanup(func() {
		server.Close()
		time.Sleep(time.Minute) // until sleeping handlers have ended
	})
	return i
}

func (i *jwksIssuer) Accept() (net.Conn, error) {
	select {
	case conn := <-i.conns:
		return conn, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

func (i *jwksIssuer) Close() error {
	close(i.closed)
	return nil
}

func (i *jwksIssuer) Addr() net.Addr { return &net.TCPAddr{} }

func (i *jwksIssuer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case i.conns <- there:
		return here, nil
	case <-i.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (i *jwksIssuer) answers(answer http.HandlerFunc) { i.answer.Store(&answer) }

// publishes makes the issuer answer with these keys.
func (i *jwksIssuer) publishes(t testing.TB, keys ...*tokens.SigningKey) {
	i.answers(jwksAnswer(jwksDocument(t, keys...)))
}

func (i *jwksIssuer) fetches() []time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	var at []time.Time
	for _, ask := range i.asks {
		at = append(at, ask.at)
	}
	return at
}

func (i *jwksIssuer) paths() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var paths []string
	for _, ask := range i.asks {
		paths = append(paths, ask.path)
	}
	return paths
}

// jwksTransport is a server for whatever host.
type jwksTransport func(*http.Request) (*http.Response, error)

func (f jwksTransport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func jwksAnswer(document string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, document) }
}

func jwksStatus(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func jwksHangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func jwksKey(t testing.TB) *tokens.SigningKey {
	t.Helper()
	key, err := tokens.GenerateKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func jwksDocument(t testing.TB, keys ...*tokens.SigningKey) string {
	t.Helper()
	var public []tokens.PublicKey
	for _, key := range keys {
		public = append(public, key.Public())
	}
	set, err := tokens.NewKeySet(public...)
	if err != nil {
		t.Fatal(err)
	}
	document, err := set.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(document)
}

// jwksReports collects what was reported.
type jwksReports struct {
	mu   sync.Mutex
	errs []error
}

func (r *jwksReports) report(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

// take returns what was reported since the last call.
func (r *jwksReports) take() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := r.errs
	r.errs = nil
	return errs
}

// jwksAt makes a JWKS of what a server in the bubble publishes, with the rest
// of the configuration as given.
func jwksAt(t testing.TB, i *jwksIssuer, c verify.JWKSConfig) *verify.JWKS {
	t.Helper()
	if c.Issuer == "" && c.URL == "" {
		c.URL = "http://localhost/keys"
	}
	c.Client = i.client
	j, err := verify.NewJWKS(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// jwksSettled waits until nothing happens any more at this moment.
func jwksSettled(j *verify.JWKS) *tokens.KeySet {
	synctest.Wait()
	return j.KeySet()
}

// jwksWait waits, on the real clock, for something that should take no time.
func jwksWait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not yet", what)
		}
	}
}

// jwksVerifies reports whether a key of the set signed what the key signs.
func jwksVerifies(t testing.TB, set *tokens.KeySet, key *tokens.SigningKey) bool {
	t.Helper()
	v, err := tokens.NewVerifier(tokens.Config{Issuer: "i", Audience: "a"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := key.Sign(tokens.Claims{
		Issuer: "i", Audience: []string{"a"}, Subject: "s", SessionID: "uv.2F5uQdw0khr5SaFjY0mKKQ", ClientID: "c", ID: "j",
		IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(token, set)
	return err == nil
}

func TestJWKSRefusesAWrongConfiguration(t *testing.T) {
	for _, c := range []verify.JWKSConfig{
		{},
		{Issuer: "https://auth.example.com", URL: "https://auth.example.com/keys"},
		{Issuer: "https://auth.example.com?tenant=a"},
		{Issuer: "https://auth.example.com?"},
		{URL: "https://auth.example.com/keys", Every: -time.Minute},
		{URL: "https://auth.example.com/keys", Cooldown: -time.Second},
		{URL: "https://auth.example.com/keys", Every: 24 * time.Hour},
		{URL: "https://auth.example.com/keys", Every: 9 * time.Second}, // the cool-down is 10
	} {
		if j, err := verify.NewJWKS(t.Context(), c); j != nil || err == nil {
			t.Errorf("%+v: %v, %v", c, j, err)
		}
	}
}

// jwksURLs tells which may be fetched from.
var jwksURLs = map[string]bool{
	"https://keys.example.com":              true,
	"HTTPS://keys.example.com:8443/a?b=c":   true,
	"https://10.0.0.1/keys":                 true,
	"http://localhost/keys":                 true,
	"http://LOCALHOST:8080/keys":            true,
	"http://127.0.0.1:8080/keys":            true,
	"http://127.1.2.3/keys":                 true,
	"http://[::1]/keys":                     true,
	"":                                      false,
	"keys":                                  false,
	"/keys":                                 false,
	"//keys.example.com":                    false,
	"https:keys":                            false,
	"https:///keys":                         false,
	"https://:443/keys":                     false,
	"https://keys.example.com:https":        false,
	"https://keys.example.com/%zz":          false,
	"http://keys.example.com":               false,
	"http://10.0.0.1/keys":                  false,
	"http://0.0.0.0/keys":                   false,
	"http://localhost.example.com":          false,
	"http://127.0.0.1.example.com":          false,
	"http://[::1%25lo]/keys":                false,
	"ftp://localhost/keys":                  false,
	"file:///etc/keys":                      false,
	"https://secret@keys.example.com":       false,
	"https://@keys.example.com":             false,
	"https://u:secret@localhost/keys":       false,
	"http://localhost@keys.example.com":     false,
	"https://keys.example.com/keys#secret":  false,
	"https://keys.example.com/#":            false,
	"https://keys.example.com\x00.evil.com": false,
}

func TestJWKSFetchesOverHTTPSOrFromThisMachine(t *testing.T) {
	refused := jwksTransport(func(*http.Request) (*http.Response, error) { return nil, errors.New("no") })
	for address, good := range jwksURLs {
		c := verify.JWKSConfig{URL: address, Client: &http.Client{Transport: refused}}
		j, err := verify.NewJWKS(t.Context(), c)
		if (j != nil) != good || (err == nil) != good {
			t.Errorf("%q: %v, %v", address, j, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error has it all: %v", address, err)
		}
	}
}

// TestJWKSOverTLS goes through real sockets, to a verdict.
func TestJWKSOverTLS(t *testing.T) {
	key := jwksKey(t)
	server := httptest.NewUnstartedServer(jwksAnswer(jwksDocument(t, key)))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of a handshake that fails on purpose
	server.StartTLS()
	defer server.Close()

	trouble := make(chan error, 1)
	stranger, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{URL: server.URL, Report: func(err error) { trouble <- err }})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-trouble; stranger.KeySet() != nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a certificate that nobody knows: %v, %v", stranger.KeySet(), err)
	}

	j, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{URL: server.URL, Client: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	jwksWait(t, "the keys", func() bool { return j.KeySet() != nil })
	if j.Err() != nil || !jwksVerifies(t, j.KeySet(), key) || jwksVerifies(t, j.KeySet(), jwksKey(t)) {
		t.Error("the set is not the server's")
	}
}

func TestJWKSSaysWhyThereAreNoKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newJWKSIssuer(t, jwksHangs)
		j := jwksAt(t, i, verify.JWKSConfig{})
		if set := jwksSettled(j); set != nil || j.Err() == nil {
			t.Errorf("before the first answer: %v, %v", set, j.Err())
		}
		i.answers(jwksStatus(http.StatusTeapot))
		time.Sleep(10 * time.Second)
		if set := jwksSettled(j); set != nil || j.Err() == nil || !strings.Contains(j.Err().Error(), "418") {
			t.Errorf("after a failure: %v, %v", set, j.Err())
		}
		i.publishes(t, jwksKey(t))
		time.Sleep(10 * time.Second)
		if set := jwksSettled(j); set == nil || j.Err() != nil {
			t.Errorf("with keys: %v, %v", set, j.Err())
		}
		i.answers(jwksStatus(http.StatusTeapot))
		time.Sleep(10 * time.Minute)
		if set := jwksSettled(j); set == nil || j.Err() != nil {
			t.Errorf("with old keys: %v, %v", set, j.Err())
		}
	})
}

// RFC 8414, section 3.1.
func TestJWKSFindsTheKeysByTheIssuer(t *testing.T) {
	for issuer, metadata := range map[string]string{
		"http://localhost":           "/.well-known/oauth-authorization-server",
		"http://localhost/":          "/.well-known/oauth-authorization-server",
		"http://localhost/tenants/a": "/.well-known/oauth-authorization-server/tenants/a",
		"http://localhost/tenant/":   "/.well-known/oauth-authorization-server/tenant",
		"http://localhost/a%2Fb":     "/.well-known/oauth-authorization-server/a%2Fb",
	} {
		synctest.Test(t, func(t *testing.T) {
			key := jwksKey(t)
			i := newJWKSIssuer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/the/keys" && r.URL.RawQuery == "q" {
					io.WriteString(w, jwksDocument(t, key))
					return
				}
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://127.0.0.1/the/keys?q","token_endpoint":7}`, issuer)
			})
			j := jwksAt(t, i, verify.JWKSConfig{Issuer: issuer})
			if set := jwksSettled(j); set == nil || !jwksVerifies(t, set, key) {
				t.Errorf("%s: no keys: %v", issuer, j.Err())
			}
			if got := i.paths(); !slices.Equal(got, []string{metadata, "/the/keys"}) {
				t.Errorf("%s: asked for %q", issuer, got)
			}
		})
	}
}

// What metadata says decides whom tokens are believed. Whatever is wrong with
// it, no keys are asked for.
func TestJWKSRefusesMetadata(t *testing.T) {
	const issuer = "https://auth.example.com/tenant"
	documents := map[string]string{
		"another issuer":      `{"issuer":"https://auth.example.com/secret","jwks_uri":"https://auth.example.com/keys"}`,
		"a slash more":        `{"issuer":"https://auth.example.com/tenant/","jwks_uri":"https://auth.example.com/keys"}`,
		"a default port":      `{"issuer":"https://auth.example.com:443/tenant","jwks_uri":"https://auth.example.com/keys"}`,
		"capital letters":     `{"issuer":"https://AUTH.example.com/tenant","jwks_uri":"https://auth.example.com/keys"}`,
		"no issuer":           `{"jwks_uri":"https://auth.example.com/keys"}`,
		"no keys":             `{"issuer":"https://auth.example.com/tenant"}`,
		"two issuers":         `{"issuer":"https://secret.example.com","issuer":"https://auth.example.com/tenant","jwks_uri":"https://auth.example.com/keys"}`,
		"two places":          `{"issuer":"https://auth.example.com/tenant","jwks_uri":"https://auth.example.com/keys","jwks_uri":"https://auth.example.com/keys"}`,
		"two spellings":       `{"issuer":"https://auth.example.com/tenant","jwks_uri":"https://auth.example.com/keys","JWKS_URI":"https://secret.example.com"}`,
		"a list":              `{"issuer":["https://auth.example.com/tenant"],"jwks_uri":"https://auth.example.com/keys"}`,
		"not JSON":            `<html>secret`,
		"too large":           `{"issuer":"https://auth.example.com/tenant","jwks_uri":"https://auth.example.com/keys"}` + strings.Repeat(" ", 64<<10),
		"http to this server": `{"issuer":"https://auth.example.com/tenant","jwks_uri":"http://localhost/keys"}`,
	}
	for address, good := range jwksURLs {
		if !good {
			document, err := json.Marshal(map[string]string{"issuer": issuer, "jwks_uri": address})
			if err != nil {
				t.Fatal(err)
			}
			documents[fmt.Sprintf("%q", address)] = string(document)
		}
	}
	for name, document := range documents {
		var asked []string
		transport := jwksTransport(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.String())
			w := httptest.NewRecorder()
			io.WriteString(w, document)
			return w.Result(), nil
		})
		trouble := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		j, err := verify.NewJWKS(ctx, verify.JWKSConfig{
			Issuer: issuer, Client: &http.Client{Transport: transport},
			Report: func(err error) { trouble <- err; <-ctx.Done() },
		})
		if err != nil {
			t.Fatal(err)
		}
		err = <-trouble
		if !strings.Contains(err.Error(), "metadata") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		if want := []string{"https://auth.example.com/.well-known/oauth-authorization-server/tenant"}; !slices.Equal(asked, want) {
			t.Errorf("%s: asked %q", name, asked)
		}
		if j.KeySet() != nil || j.Err() == nil {
			t.Errorf("%s: there are keys", name)
		}
		cancel()
	}
}

// FuzzJWKSMetadata: whatever metadata says, keys are fetched only from where
// they may be, and only if a lenient reader finds the same place in it.
func FuzzJWKSMetadata(f *testing.F) {
	const issuer = "https://auth.example.com"
	f.Add([]byte(`{"issuer":"https://auth.example.com","jwks_uri":"https://auth.example.com/keys"}`))
	f.Add([]byte(`{"jwks_uri":"https:\/\/\u0061.example:1\/?b","x":[{}],"issuer":"https://auth.example.com"}`))
	f.Add([]byte(`{"issuer":"https://auth.example.com","jwks_uri":"http://[::1]:80"}`))
	f.Add([]byte(`{"issuer":"https://auth.example.com","jwks_uri":"https://a@b/#c"}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		asked := make(chan *url.URL, 2)
		done := make(chan struct{})
		_, err := verify.NewJWKS(ctx, verify.JWKSConfig{
			Issuer: issuer,
			Client: &http.Client{Transport: jwksTransport(func(r *http.Request) (*http.Response, error) {
				asked <- r.URL
				w := httptest.NewRecorder()
				w.Write(document)
				return w.Result(), nil
			})},
			Report: func(error) { close(done); <-ctx.Done() },
		})
		if err != nil {
			t.Fatal(err)
		}
		<-done // no document is both: the keys cannot be had
		<-asked
		select {
		case u := <-asked:
			var lenient struct {
				Issuer string `json:"issuer"`
				Keys   string `json:"jwks_uri"`
			}
			if err := json.Unmarshal(document, &lenient); err != nil || lenient.Issuer != issuer {
				t.Fatalf("believed %q: %v", document, err)
			}
			if other, err := url.Parse(lenient.Keys); err != nil || *other != *u {
				t.Fatalf("went to %s, not to %s", u, lenient.Keys)
			}
			if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
				t.Fatalf("went to %s", u)
			}
		default:
		}
	})
}

func TestRow11RefusedDocumentsLeaveTheOldSet(t *testing.T) {
	t.Parallel()
	a, b := jwksKey(t), jwksKey(t)
	one, both := jwksDocument(t, a), jwksDocument(t, a, b)
	replace := func(old, replacement string) string {
		changed := strings.Replace(both, old, replacement, 1)
		if changed == both {
			t.Fatalf("no %s in %s", old, both)
		}
		return changed
	}
	rename := strings.Replace(both, b.ID(), a.ID(), 1)
	for name, document := range map[string]string{
		"duplicate kid":     rename,
		"alg of no curve":   replace(`"ES256"`, `"RS256"`),
		"curve of no alg":   replace(`"P-256"`, `"P-384"`),
		"for encryption":    replace(`"use":"sig"`, `"use":"enc"`),
		"without alg":       replace(`"alg":"ES256",`, ``),
		"a private key":     replace(`"crv"`, `"d":"secret","crv"`),
		"no keys":           `{"keys":[]}`,
		"only unknown keys": `{"keys":[{"kty":"secret","alg":"secret"}]}`,
		"metadata":          `{"issuer":"secret","jwks_uri":"secret"}`,
		"half of it":        both[:len(both)/2],
		"nothing":           ``,
		"a page":            `<html>secret</html>`,
		"too large":         strings.Repeat(" ", 64<<10+1-len(both)) + both,
	} {
		synctest.Test(t, func(t *testing.T) {
			var reports jwksReports
			i := newJWKSIssuer(t, jwksAnswer(one))
			j := jwksAt(t, i, verify.JWKSConfig{Report: reports.report})
			old := jwksSettled(j)
			i.answers(jwksAnswer(document))
			time.Sleep(20 * time.Minute)
			if set := jwksSettled(j); set != old || old == nil || j.Err() != nil {
				t.Errorf("%s: the set is another: %v", name, j.Err())
			}
			errs := reports.take()
			if len(errs) != 1 || strings.Contains(errs[0].Error(), "secret") {
				t.Errorf("%s: reported %v", name, errs)
			}

			i.answers(jwksAnswer(strings.Repeat(" ", 64<<10-len(both)) + both)) // the largest that may be
			time.Sleep(5 * time.Minute)
			if set := jwksSettled(j); set == old || !jwksVerifies(t, set, b) {
				t.Errorf("%s: a good set did not follow: %v", name, reports.take())
			}
		})
	}
}

// Whoever keeps verdicts ties them to the pointer: that must mean the keys, and
// not the text of the document.
func TestJWKSPointerChangesWithTheKeysOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := jwksKey(t), jwksKey(t)
		i := newJWKSIssuer(t, jwksAnswer(jwksDocument(t, a, b)))
		j := jwksAt(t, i, verify.JWKSConfig{})
		old := jwksSettled(j)
		if old == nil {
			t.Fatal(j.Err())
		}

		var document struct {
			Keys []map[string]any `json:"keys"`
		}
		if err := json.Unmarshal([]byte(jwksDocument(t, a, b)), &document); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(document.Keys)
		document.Keys = append(document.Keys, map[string]any{"kty": "new", "alg": "new"})
		other, err := json.MarshalIndent(document, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		i.answers(jwksAnswer(string(other)))
		before := len(i.fetches())
		time.Sleep(time.Hour)
		if set := jwksSettled(j); set != old || len(i.fetches()) < before+12 {
			t.Errorf("the same keys have another pointer, or were not fetched: %d", len(i.fetches()))
		}

		i.publishes(t, a)
		time.Sleep(5 * time.Minute)
		fewer := jwksSettled(j)
		if fewer == old || !jwksVerifies(t, fewer, a) || jwksVerifies(t, fewer, b) {
			t.Error("a withdrawn key stays")
		}
		// Another key under the same id.
		i.answers(jwksAnswer(strings.Replace(jwksDocument(t, b), b.ID(), a.ID(), 1)))
		time.Sleep(5 * time.Minute)
		if set := jwksSettled(j); set == fewer || jwksVerifies(t, set, a) {
			t.Error("a replaced key stays")
		}
	})
}

func jwksGaps(at []time.Time) []time.Duration {
	var gaps []time.Duration
	for n := 1; n < len(at); n++ {
		gaps = append(gaps, at[n].Sub(at[n-1]))
	}
	return gaps
}

func TestJWKSFetchesEveryFewMinutesButNotInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		i := newJWKSIssuer(t, jwksAnswer(jwksDocument(t, jwksKey(t))))
		jwksAt(t, i, verify.JWKSConfig{})
		time.Sleep(time.Hour)
		synctest.Wait()
		at := i.fetches()
		if !at[0].Equal(start) {
			t.Errorf("the first fetch came after %v", at[0].Sub(start))
		}
		gaps := jwksGaps(at)
		for _, gap := range gaps {
			if gap > 5*time.Minute || gap < 4*time.Minute+30*time.Second {
				t.Errorf("%v between two fetches", gap)
			}
		}
		if slices.Sort(gaps); len(gaps) < 12 || gaps[0] == gaps[len(gaps)-1] {
			t.Errorf("in step: %v", gaps)
		}
	})
}

// A service that starts together with its issuer should not wait minutes, and
// an issuer that is down should not be hammered.
func TestJWKSRetriesLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newJWKSIssuer(t, jwksStatus(http.StatusServiceUnavailable))
		j := jwksAt(t, i, verify.JWKSConfig{})
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		gaps := jwksGaps(i.fetches())
		for n, gap := range gaps {
			if want := min(time.Second<<n, 5*time.Minute); gap > want || gap < want-want/10 {
				t.Errorf("retry %d came after %v, want %v", n+1, gap, want)
			}
		}
		if len(gaps) < 13 {
			t.Errorf("only %d retries", len(gaps))
		}

		// With keys there is no hurry: the cool-down holds for retries too.
		i.publishes(t, jwksKey(t))
		time.Sleep(5 * time.Minute)
		if jwksSettled(j) == nil {
			t.Fatal(j.Err())
		}
		before := len(i.fetches())
		i.answers(jwksStatus(http.StatusServiceUnavailable))
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		gaps = jwksGaps(i.fetches()[before-1:])[1:]
		for n, gap := range gaps {
			want := min(time.Second<<n, 5*time.Minute)
			if gap > max(want, 10*time.Second) || gap < max(want-want/10, 10*time.Second) {
				t.Errorf("with keys, retry %d came after %v, want %v", n+1, gap, want)
			}
		}
		if len(gaps) < 10 {
			t.Errorf("with keys, only %d retries", len(gaps))
		}
	})
}

// jwksFlood calls Refresh 10,000 times a second.
func jwksFlood(j *verify.JWKS, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for range 100 {
			j.Refresh()
		}
	}
}

func TestRow12RefreshFloodFetchesOncePerCooldown(t *testing.T) {
	t.Parallel()
	t.Run("healthy issuer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := jwksKey(t), jwksKey(t)
			const slow = 2 * time.Second
			published := jwksDocument(t, a)
			var mu sync.Mutex
			i := newJWKSIssuer(t, func(w http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				document := published
				mu.Unlock()
				time.Sleep(slow)
				io.WriteString(w, document)
			})
			j := jwksAt(t, i, verify.JWKSConfig{})
			jwksFlood(j, time.Minute)
			// The new key comes at the worst moment: just after a fetch has been
			// answered from what was there before.
			n := len(i.fetches())
			for len(i.fetches()) == n {
				jwksFlood(j, 10*time.Millisecond)
			}
			mu.Lock()
			published = jwksDocument(t, a, b)
			mu.Unlock()
			began := time.Now()
			for !jwksVerifies(t, j.KeySet(), b) {
				jwksFlood(j, 10*time.Millisecond)
			}
			if took := time.Since(began); took > slow+10*time.Second+slow+50*time.Millisecond {
				t.Errorf("the new key was known after %v", took)
			}
			for _, gap := range jwksGaps(i.fetches()) {
				if gap != slow+10*time.Second {
					t.Errorf("%v between two fetches", gap)
				}
			}
		})
	})
	// Neither keys that are there nor trouble open a way around the cool-down.
	for name, answer := range map[string]http.HandlerFunc{
		"failing issuer": jwksStatus(http.StatusInternalServerError),
		"hanging issuer": jwksHangs,
		"wrong document": jwksAnswer(`{}`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newJWKSIssuer(t, jwksAnswer(jwksDocument(t, jwksKey(t))))
				j := jwksAt(t, i, verify.JWKSConfig{})
				if jwksSettled(j) == nil {
					t.Fatal(j.Err())
				}
				i.answers(answer)
				jwksFlood(j, 5*time.Minute)
				at := i.fetches()
				for _, gap := range jwksGaps(at) {
					if gap < 10*time.Second {
						t.Errorf("%v between two fetches", gap)
					}
				}
				if len(at) < 19 {
					t.Errorf("only %d fetches in 5 minutes", len(at))
				}
			})
		})
	}
	t.Run("no keys yet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			i := newJWKSIssuer(t, jwksStatus(http.StatusInternalServerError))
			j := jwksAt(t, i, verify.JWKSConfig{})
			jwksFlood(j, 5*time.Minute)
			// The back-off of the start (1, 2, 4, 8 s) goes on as it would, and
			// what it leaves out is asked for once per cool-down.
			gaps := jwksGaps(i.fetches())
			for n, gap := range gaps {
				want := min(time.Second<<n, 10*time.Second)
				if gap < want-want/10 || gap > want {
					t.Errorf("%v before fetch %d, want %v", gap, n+2, want)
				}
			}
			if len(gaps) < 30 {
				t.Errorf("only %d retries", len(gaps))
			}
		})
	})
}

// A key that appears out of turn (an emergency) is known with the first token
// that names it.
func TestRefreshFetchesAtOnceWhenNobodyAskedLately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := jwksKey(t), jwksKey(t)
		i := newJWKSIssuer(t, jwksAnswer(jwksDocument(t, a)))
		j := jwksAt(t, i, verify.JWKSConfig{})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		i.publishes(t, b)
		began := time.Now()
		j.Refresh()
		if set := jwksSettled(j); !jwksVerifies(t, set, b) || time.Since(began) != 0 {
			t.Errorf("the new key is not known after %v", time.Since(began))
		}
	})
}

// The fetch in progress may have been answered before the key was published.
func TestRefreshDuringAFetchOrCooldownIsPutOff(t *testing.T) {
	for name, after := range map[string]time.Duration{
		"during the fetch":     time.Second,
		"right after it":       3 * time.Second,
		"late in the cooldown": 12 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := jwksKey(t), jwksKey(t)
			old := jwksDocument(t, a)
			i := newJWKSIssuer(t, func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(3 * time.Second)
				io.WriteString(w, old)
			})
			began := time.Now()
			j := jwksAt(t, i, verify.JWKSConfig{Cooldown: 9750 * time.Millisecond})
			time.Sleep(after)
			synctest.Wait()
			i.publishes(t, b)
			j.Refresh()
			for !jwksVerifies(t, jwksSettled(j), b) && time.Since(began) < time.Minute {
				time.Sleep(50 * time.Millisecond)
			}
			if took := time.Since(began); took != 12750*time.Millisecond {
				t.Errorf("%s: known after %v, want 3 s and the cool-down", name, took)
			}
			// One fetch was enough for who asked.
			time.Sleep(4 * time.Minute)
			synctest.Wait()
			if n := len(i.fetches()); n != 2 {
				t.Errorf("%s: %d fetches", name, n)
			}
		})
	}
}

// Who has asked is content with the next fetch, whatever it was made for.
func TestRefreshIsAnsweredByARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newJWKSIssuer(t, jwksStatus(http.StatusInternalServerError))
		j := jwksAt(t, i, verify.JWKSConfig{})
		synctest.Wait()
		j.Refresh()
		i.publishes(t, jwksKey(t))
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if gaps := jwksGaps(i.fetches()); len(gaps) != 1 || gaps[0] > time.Second {
			t.Errorf("fetched again after %v", gaps)
		}
	})
}

// The verifier calls both for each request.
func TestRefreshAndKeySetAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newJWKSIssuer(t, jwksAnswer(jwksDocument(t, jwksKey(t))))
		j := jwksAt(t, i, verify.JWKSConfig{})
		set := jwksSettled(j)
		i.answers(jwksHangs)
		began := time.Now()
		time.Sleep(10 * time.Second)
		j.Refresh()
		synctest.Wait() // the fetch hangs
		if n := len(i.fetches()); n != 2 {
			t.Fatalf("%d fetches", n)
		}
		allocs := testing.AllocsPerRun(1000, func() {
			j.Refresh()
			if j.KeySet() != set || set == nil {
				t.Error("the set is gone")
			}
		})
		if allocs != 0 || time.Since(began) != 10*time.Second {
			t.Errorf("%v allocations, %v", allocs, time.Since(began))
		}
	})
}

// A slow answer is an error after 5 seconds in all, however it is slow.
func TestJWKSBoundsTheTimeOfAFetch(t *testing.T) {
	key := jwksKey(t)
	for name, answer := range map[string]http.HandlerFunc{
		"nothing": jwksHangs,
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"keys":[`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"a trickle": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				time.Sleep(100 * time.Millisecond)
			}
		},
		"two documents": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(3 * time.Second)
			if r.URL.Path == "/keys" {
				io.WriteString(w, jwksDocument(t, key))
				return
			}
			io.WriteString(w, `{"issuer":"http://localhost","jwks_uri":"http://localhost/keys"}`)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			i := newJWKSIssuer(t, answer)
			began := time.Now()
			trouble := make(chan error, 10)
			c := verify.JWKSConfig{Report: func(err error) { trouble <- err }}
			if name == "two documents" {
				c.Issuer = "http://localhost"
			}
			jwksAt(t, i, c)
			err := <-trouble
			if took := time.Since(began); took != 5*time.Second || !strings.Contains(err.Error(), "within 5s") {
				t.Errorf("%s: after %v: %v", name, took, err)
			}
		})
	}
}

// A connection is not kept for the next fetch. A handshake that nobody answers
// ends too, although package net/http goes on dialling when a request has been
// given up.
func TestJWKSLeavesNoConnectionBehind(t *testing.T) {
	t.Parallel()
	closes := make(chan bool, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		closes <- r.Close
		io.WriteString(w, jwksDocument(t, jwksKey(t))) // so that nothing is asked again
	}))
	defer server.Close()
	if _, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{URL: server.URL, Every: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if !<-closes {
		t.Error("the connection is kept")
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if _, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{URL: "https://" + listener.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(9 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
}

// jwksCounter counts what is read of an endless document.
type jwksCounter struct{ read atomic.Int64 }

func (c *jwksCounter) Read(p []byte) (int, error) {
	c.read.Add(int64(len(p)))
	return copy(p, bytes.Repeat([]byte(" "), len(p))), nil
}

func (*jwksCounter) Close() error { return nil }

func TestJWKSBoundsTheSizeOfAnAnswer(t *testing.T) {
	var endless jwksCounter
	trouble := make(chan error, 1)
	report := func(err error) {
		select {
		case trouble <- err:
		default:
		}
	}
	_, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{
		URL: "https://auth.example.com/keys", Report: report, Every: time.Hour,
		Client: &http.Client{Transport: jwksTransport(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: &endless, Request: r}, nil
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = <-trouble
	if n := endless.read.Load(); n > 64<<10+1 || !strings.Contains(err.Error(), "larger than 65536 bytes") {
		t.Errorf("read %d bytes: %v", n, err)
	}

	// Headers count too.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Filler", strings.Repeat("secret ", 20<<10))
		io.WriteString(w, jwksDocument(t, jwksKey(t)))
	}))
	defer server.Close()
	j, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{URL: server.URL, Report: report})
	if err != nil {
		t.Fatal(err)
	}
	jwksWait(t, "an answer", func() bool { return j.KeySet() != nil || len(trouble) > 0 })
	if j.KeySet() != nil {
		t.Error("took 140 KB of headers")
	} else if err := <-trouble; strings.Contains(err.Error(), "secret") {
		t.Errorf("reported %v", err)
	}
}

func TestJWKSTakesNoOtherStatusAndFollowsNoRedirect(t *testing.T) {
	for _, status := range []int{201, 202, 203, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 500, 503} {
		for _, location := range []string{"/secret", "http://localhost/secret", "http://secret %zz"} {
			synctest.Test(t, func(t *testing.T) {
				document := jwksDocument(t, jwksKey(t))
				i := newJWKSIssuer(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/keys" {
						w.Header().Set("Location", location)
						w.WriteHeader(status)
					}
					io.WriteString(w, document)
				})
				// The rule of a caller's client does not count.
				i.client.CheckRedirect = func(*http.Request, []*http.Request) error { return nil }
				var reports jwksReports
				j := jwksAt(t, i, verify.JWKSConfig{Report: reports.report})
				if set := jwksSettled(j); set != nil || !slices.Equal(i.paths(), []string{"/keys"}) {
					t.Errorf("%d to %s: %v, asked for %q", status, location, set, i.paths())
				}
				errs := reports.take()
				if len(errs) != 1 || strings.Contains(errs[0].Error(), "secret") {
					t.Errorf("%d to %s: reported %v", status, location, errs)
				}
			})
		}
	}
}

func TestJWKSKeepsTheSetForADayOfTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var reports jwksReports
		key := jwksKey(t)
		i := newJWKSIssuer(t, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(4 * time.Second)
			io.WriteString(w, jwksDocument(t, key))
		})
		var known atomic.Pointer[verify.JWKS]
		j := jwksAt(t, i, verify.JWKSConfig{Report: func(err error) {
			if strings.Contains(err.Error(), "24h") && known.Load().KeySet() != nil {
				t.Error("the old set is used until it was reported")
			}
			reports.report(err)
		}})
		known.Store(j)
		time.Sleep(time.Hour)
		set := jwksSettled(j)
		i.answers(jwksStatus(http.StatusInternalServerError))
		time.Sleep(10 * time.Second)
		at := i.fetches()
		confirmed := at[len(at)-1] // what was asked then may have been put together then

		time.Sleep(time.Until(confirmed.Add(24*time.Hour - time.Second)))
		if got := jwksSettled(j); got != set || set == nil || j.Err() != nil {
			t.Errorf("gone before the day was over: %v", j.Err())
		}
		reports.take()
		time.Sleep(time.Until(confirmed.Add(24*time.Hour + time.Second)))
		if got := jwksSettled(j); got != nil || j.Err() == nil {
			t.Error("a set of more than a day is used")
		}
		if errs := reports.take(); len(errs) == 0 || !strings.Contains(errs[0].Error(), "24h") {
			t.Errorf("reported %v", errs)
		}

		i.publishes(t, key)
		time.Sleep(5*time.Minute + 5*time.Second)
		if got := jwksSettled(j); got == nil || j.Err() != nil {
			t.Errorf("no keys although the issuer is back: %v", j.Err())
		}
	})
}

// While a machine is suspended its timers stand still, and the wall clock may
// be set back. Here the wall clock moves by itself.
func TestJWKSCountsBySteadyAndWallClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		i := newJWKSIssuer(t, jwksAnswer(jwksDocument(t, jwksKey(t))))
		j := jwksAt(t, i, verify.JWKSConfig{Now: now})
		time.Sleep(time.Second)
		set := jwksSettled(j)

		ahead.Add(int64(6 * time.Minute)) // the lid was closed for a moment
		time.Sleep(time.Second)
		if jwksSettled(j) != set || len(i.fetches()) != 2 {
			t.Errorf("%d fetches after 6 minutes", len(i.fetches()))
		}

		i.answers(jwksHangs)
		ahead.Add(int64(8 * 24 * time.Hour)) // a week's holiday
		time.Sleep(time.Second)
		if jwksSettled(j) != nil || len(i.fetches()) != 3 {
			t.Errorf("a set of last week is used; %d fetches", len(i.fetches()))
		}

		i.publishes(t, jwksKey(t))
		time.Sleep(6 * time.Second)
		if jwksSettled(j) == nil {
			t.Fatal(j.Err())
		}
		i.answers(jwksStatus(http.StatusInternalServerError))
		for range 24 {
			ahead.Add(-int64(time.Hour)) // by this clock no time passes at all
			time.Sleep(time.Hour)
		}
		time.Sleep(10 * time.Second)
		if jwksSettled(j) != nil {
			t.Error("a set of more than a day is used")
		}
	})
}

func TestJWKSAfterItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		i := newJWKSIssuer(t, jwksAnswer(jwksDocument(t, jwksKey(t))))
		var reports jwksReports
		j, err := verify.NewJWKS(ctx, verify.JWKSConfig{URL: "http://localhost/keys", Client: i.client, Report: reports.report})
		if err != nil {
			t.Fatal(err)
		}
		set := jwksSettled(j)
		i.answers(jwksHangs)
		time.Sleep(10 * time.Second)
		j.Refresh()
		synctest.Wait() // a fetch is on its way
		cancel()
		j.Refresh()
		time.Sleep(23 * time.Hour)
		j.Refresh()
		if jwksSettled(j) != set || set == nil || len(i.fetches()) != 2 || len(reports.take()) != 0 {
			t.Errorf("after ctx: %d fetches, %v", len(i.fetches()), j.Err())
		}
		time.Sleep(time.Hour)
		if jwksSettled(j) != nil || j.Err() == nil {
			t.Error("the set is eternal")
		}
	})
}

func TestJWKSReportsWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reports jwksReports
		i := newJWKSIssuer(t, jwksStatus(http.StatusInternalServerError))
		jwksAt(t, i, verify.JWKSConfig{Report: reports.report})
		expect := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			errs := reports.take()
			ok := len(errs) == len(want)
			for n := range want {
				ok = ok && strings.Contains(errs[n].Error(), want[n])
			}
			if !ok {
				t.Errorf("%s: reported %v, want %q", what, errs, want)
			}
		}
		expect("the first failure", "500")
		time.Sleep(55 * time.Minute)
		expect("the same")
		time.Sleep(10 * time.Minute)
		expect("the same after an hour", "500")
		i.answers(jwksStatus(http.StatusBadGateway))
		time.Sleep(10 * time.Minute)
		expect("another", "502")
		i.publishes(t, jwksKey(t))
		time.Sleep(10 * time.Minute)
		expect("none")
		i.answers(jwksStatus(http.StatusBadGateway))
		time.Sleep(10 * time.Minute)
		expect("again", "502")
	})
}

// Connections fail with local ports and with whatever the server sent. Neither
// belongs into a report: the one makes old trouble look new, the other is for a
// stranger to choose.
func TestJWKSReportsNeitherPortsNorAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer string // what comes instead of HTTP; nothing, and the connection is reset
		url    string
	}{
		"reset":     {"", "http://%s/keys"},
		"no HTTP":   {"secret\r\n\r\n", "http://%s/keys"},
		"no header": {"HTTP/1.1 200 OK\r\nsecret\r\n\r\n", "http://%s/keys"},
		"no length": {"HTTP/1.1 200 OK\r\nContent-Length: secret\r\n\r\n", "http://%s/keys"},
		"chunks":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n", "http://%s/keys"},
		"no TLS":    {"secret secret secret\r\n\r\n", "https://%s/keys"},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				io.ReadAtLeast(conn, make([]byte, 1<<10), 20)
				io.WriteString(conn, c.answer)
				if c.answer == "" {
					conn.(*net.TCPConn).SetLinger(0)
				}
				conn.Close()
			}
		}()
		var texts []string
		for range 2 {
			trouble := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			_, err := verify.NewJWKS(ctx, verify.JWKSConfig{URL: fmt.Sprintf(c.url, listener.Addr()), Report: func(err error) { trouble <- err }})
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, (<-trouble).Error())
			cancel()
		}
		if texts[0] != texts[1] || strings.Contains(texts[0], "secret") || strings.Contains(texts[0], "127.0.0.1") {
			t.Errorf("%s: reported %q", name, texts)
		}
		listener.Close()
	}

	// Host names come from the metadata, the other names from a certificate.
	server := httptest.NewUnstartedServer(jwksAnswer(""))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail on purpose
	server.StartTLS()
	defer server.Close()
	misdirected := server.Client().Transport.(*http.Transport).Clone()
	misdirected.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	for want, transport := range map[string]http.RoundTripper{
		"the certificate is refused (x509.HostnameError)": misdirected,
		"no such host": &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "secret", IsNotFound: true}}
		}},
		"the name of the host cannot be looked up": &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "read udp 10.0.0.1:4711->10.0.0.2:53: i/o timeout", Name: "secret"}}
		}},
	} {
		trouble := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := verify.NewJWKS(ctx, verify.JWKSConfig{
			URL: "https://secret.example.org", Client: &http.Client{Transport: transport}, Report: func(err error) { trouble <- err },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-trouble; err.Error() != "verify: keys: "+want {
			t.Errorf("reported %v, want %s", err, want)
		}
		cancel()
	}
}

// TestJWKSUnderRequests is for the race detector: requests, fetches and
// changing keys all at once, through real sockets.
func TestJWKSUnderRequests(t *testing.T) {
	t.Parallel()
	a, b := jwksKey(t), jwksKey(t)
	documents := []string{jwksDocument(t, a), jwksDocument(t, a, b), `{}`}
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, documents[n.Add(1)%3])
	}))
	defer server.Close()
	j, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{
		URL: server.URL, Every: time.Millisecond, Cooldown: time.Millisecond, Report: func(error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	jwksWait(t, "the keys", func() bool { return j.KeySet() != nil })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n.Load() < 100 {
				for range 100 {
					j.Refresh()
				}
				if j.KeySet() == nil || j.Err() != nil {
					t.Error("a set was lost")
					return
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	wg.Wait()
	if !jwksVerifies(t, j.KeySet(), a) {
		t.Error("the set is another")
	}
}

func BenchmarkRefresh(b *testing.B) {
	server := httptest.NewServer(jwksAnswer(jwksDocument(b, jwksKey(b))))
	defer server.Close()
	j, err := verify.NewJWKS(b.Context(), verify.JWKSConfig{URL: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	jwksWait(b, "the keys", func() bool { return j.KeySet() != nil })
	b.Run("Refresh", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				j.Refresh()
			}
		})
	})
	b.Run("KeySet", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if j.KeySet() == nil {
					b.Fail()
				}
			}
		})
	})
}
