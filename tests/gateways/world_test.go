package gateways_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/tokens"
)

// world is what a gateway stands between: authapi on a real Redis, and a
// service that believes the headers it gets.
type world struct {
	tb      testing.TB
	redis   *redistest.Server
	auth    *service.Service
	authapi *tap
	app     *tap

	// Access tokens: of an editor, of somebody without roles, and of the editor
	// but with a scope, expired, or for another audience.
	editor, plain, scoped, expired, foreign string
	me, plainMe                             service.Answer
}

const (
	// elsewhere is another audience that authapi issues tokens for.
	elsewhere = "https://elsewhere.example.com"
	scope     = "notes:read notes:write"
)

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{tb: tb, redis: redistest.Redis(tb)}
	w.auth = service.Start(tb, w.redis, service.Live(keyring.Schedule{}), service.With(func(c *api.Config) {
		c.Clients["elsewhere"] = api.Client{ID: "elsewhere", Audience: []string{elsewhere}}
	}))
	w.authapi = newTap(tb, w.auth.API)
	w.app = newTap(tb, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// What a service answers is its own business.
		switch r.URL.Query().Get("answer") {
		case "401":
			rw.Header().Set("WWW-Authenticate", `Basic realm="the service's own"`)
			http.Error(rw, "the service's own", http.StatusUnauthorized)
		case "500":
			http.Error(rw, "the service's own", http.StatusInternalServerError)
		default:
			io.WriteString(rw, "the service's own")
		}
	}))

	w.editor = w.auth.Login().OK(tb).Access
	w.me = w.auth.Me(w.editor).OK(tb)
	w.auth.AddUser("bob", service.Password)
	w.plain = w.auth.LoginAs("bob", service.Password).OK(tb).Access
	w.plainMe = w.auth.Me(w.plain).OK(tb)
	now := time.Now()
	w.expired = w.sign(func(c *tokens.Claims) { c.IssuedAt, c.ExpiresAt = now.Add(-time.Hour), now.Add(-time.Minute) })
	w.foreign = w.sign(func(c *tokens.Claims) { c.Audience = []string{elsewhere} })
	w.scoped = w.sign(func(c *tokens.Claims) { c.Scope = scope })
	return w
}

// sign makes a token like the editor's, but for what change changes.
func (w *world) sign(change func(*tokens.Claims)) string {
	w.tb.Helper()
	now := time.Now()
	c := tokens.Claims{
		Issuer: service.Issuer, Audience: []string{service.Audience},
		Subject: w.me.Subject, SessionID: w.me.SID, ClientID: w.me.ClientID, Roles: w.me.Roles,
		ID: "aRCTNcWoh5fRsekaupDQ_A", IssuedAt: now, ExpiresAt: now.Add(5 * time.Minute), AuthTime: now,
	}
	change(&c)
	token, err := w.auth.Keys.Signer().Sign(c)
	if err != nil {
		w.tb.Fatal(err)
	}
	return token
}

// identityOf is what the service must be told of a user: the headers that are
// not empty.
func identityOf(me service.Answer) map[string]string {
	id := map[string]string{
		"X-Auth-Subject":    me.Subject,
		"X-Auth-Client-Id":  me.ClientID,
		"X-Auth-Session-Id": me.SID,
	}
	if len(me.Roles) > 0 {
		id["X-Auth-Roles"] = strings.Join(me.Roles, " ")
	}
	return id
}

// tap is a server that remembers what it was asked.
type tap struct {
	addr string

	mu    sync.Mutex
	seen  []seen
	conns int
	// instead, if set, answers instead of the handler behind.
	instead http.HandlerFunc
	down    bool
	open    map[net.Conn]struct{}
}

// seen is a request as it arrived.
type seen struct {
	method, target, host string
	header, trailer      http.Header
	body                 string
}

func newTap(tb testing.TB, behind http.Handler) *tap {
	p := &tap{open: map[net.Conn]struct{}{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s := seen{r.Method, r.RequestURI, r.Host, r.Header.Clone(), r.Trailer.Clone(), string(body)}
		r.Body = io.NopCloser(strings.NewReader(s.body))
		p.mu.Lock()
		p.seen = append(p.seen, s)
		instead := p.instead
		p.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	server.Config.ConnState = p.track
	server.Start()
	tb.Cleanup(func() { p.mend(); server.CloseClientConnections(); server.Close() })
	p.addr = server.Listener.Addr().String()
	return p
}

// track counts connections, and ends those that come while the server is down.
func (p *tap) track(c net.Conn, state http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch state {
	case http.StateNew:
		p.conns++
		p.open[c] = struct{}{}
		if p.down {
			c.Close()
		}
	case http.StateClosed, http.StateHijacked:
		delete(p.open, c)
	}
}

// cut ends all connections, and those that come until mend: they are accepted
// and closed, as a process that is killed again and again does.
func (p *tap) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	for c := range p.open {
		c.Close()
	}
}

// answer makes the server answer with something else.
func (p *tap) answer(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = h
}

func (p *tap) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.instead = false, nil
}

// take returns what was asked since it was last called.
func (p *tap) take() []seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen
	p.seen = nil
	return s
}

func (p *tap) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns
}

// identity returns what a backend could take for an identity: all headers whose
// names are those of the identity once everything that is neither letter nor
// digit is read as one character, as CGI and its heirs do.
func (s seen) identity() map[string]string {
	id := map[string]string{}
	for name, values := range s.header {
		if strings.HasPrefix(folded(name), "x_auth_") {
			if v := strings.Join(values, ""); v != "" {
				id[name] = v
			}
		}
	}
	return id
}

func folded(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(name))
}
