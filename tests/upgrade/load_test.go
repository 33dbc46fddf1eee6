package upgrade_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// session is what a client keeps of one.
type session struct {
	spent, token, access string
	keyed                bool
}

const (
	keyed, plain = 3, 3 // clients that refresh, with and without Idempotency-Key
	leavers      = 1    // clients that log in and out
	away         = 10   // clients that stay away until the end

	pause    = 10 * time.Millisecond // between two refreshes of a client
	patience = time.Minute           // until a client gives up
)

// load is the clients, and the service that they use.
type load struct {
	t        *testing.T
	d        *deployment
	client   *http.Client
	verifier *verify.Verifier
	keys     *verify.JWKS

	stop      func()
	refreshed atomic.Int64
	again     sync.Map // how often a client had to ask again, *atomic.Int64 by what it saw
	turns     [keyed + plain]atomic.Int64
	sessions  [keyed + plain]session
	away      []session
	verified  atomic.Int64
	unknown   atomic.Int64 // verdicts that the service could not give at once
	revoked   atomic.Int64 // logouts that the service has heard of
	dropped   atomic.Int64 // access tokens of a dropped key

	mu      sync.Mutex
	leaked  map[string]bool   // keys
	byKey   map[string]string // the last access token of each key
	current string            // the key that signed the last token
}

func startLoad(d *deployment) *load {
	d.t.Helper()
	l := &load{
		t: d.t, d: d, leaked: map[string]bool{}, byKey: map[string]string{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 10 * time.Second},
	}
	d.t.Cleanup(l.client.CloseIdleConnections)
	ctx, cancel := context.WithCancel(context.Background())
	d.t.Cleanup(cancel)
	l.startService(ctx)
	for range away {
		l.away = append(l.away, l.begin("away"))
	}
	working, done := context.WithCancel(ctx)
	var all sync.WaitGroup
	for i := range l.sessions {
		all.Go(func() {
			s := l.begin("stays")
			s.keyed = i < keyed
			for working.Err() == nil {
				s = l.use(l.refresh(s))
				l.turns[i].Add(1)
				time.Sleep(pause)
			}
			l.sessions[i] = s
		})
	}
	for range leavers {
		all.Go(func() {
			for working.Err() == nil {
				l.leave()
				time.Sleep(pause)
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		done()
		all.Wait()
	})
	d.t.Cleanup(l.stop)
	return l
}

// startService starts what a service that verifies has. It fetches the keys more often
// than the fifteen minutes for which a key waits, as it should.
func (l *load) startService(ctx context.Context) {
	l.t.Helper()
	var err error
	l.keys, err = verify.NewJWKS(ctx, verify.JWKSConfig{
		URL: l.d.balancer.url + "/.well-known/jwks.json", Every: time.Second, Cooldown: 100 * time.Millisecond,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	feed, err := verify.NewRemote(verify.RemoteConfig{URL: l.d.balancer.url + "/revocations", ClientID: "shop", ClientSecret: shopSecret})
	if err != nil {
		l.t.Fatal(err)
	}
	const issuer = "https://auth.example.com"
	l.verifier, err = verify.New(verify.Config{Issuer: issuer, Audience: issuer, Keys: l.keys, Replica: verify.Follow(ctx, feed, nil)})
	if err != nil {
		l.t.Fatal(err)
	}
	l.d.eventually("a service that is ready", func() bool { return l.verifier.Ready() == nil })
}

type answer struct {
	status  int
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
	Reason  string `json:"reason"`
}

func (l *load) once(method, path, body string, headers ...string) (a answer, err error) {
	req, err := http.NewRequest(method, l.d.balancer.url+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := l.client.Do(req)
	if err != nil {
		return a, errors.New("no answer")
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return a, errors.New("half an answer")
	}
	a.status = res.StatusCode
	if a.status == 429 || a.status >= 500 {
		return a, fmt.Errorf("%d", a.status)
	}
	if len(text) > 0 {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}

// ask asks until the answer is none of trouble.
func (l *load) ask(method, path, body string, headers ...string) answer {
	began := time.Now()
	for {
		a, err := l.once(method, path, body, headers...)
		if err == nil {
			return a
		}
		n, _ := l.again.LoadOrStore(path+" "+err.Error(), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		if time.Since(began) > patience {
			l.t.Errorf("%s: %v for %v", path, err, patience)
			return answer{}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

var asShop = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("shop:"+url.QueryEscape(shopSecret)))}

func (l *load) begin(sub string) session {
	a := l.ask(http.MethodPost, "/sessions", `{"sub":"`+sub+`"}`, asShop...)
	if a.status/100 != 2 {
		l.t.Errorf("start a session: %d %s", a.status, a.Error)
	}
	return session{token: a.Refresh, access: a.Access}
}

// refresh refreshes, for as long as it takes.
func (l *load) refresh(s session) session {
	headers := asShop
	if s.keyed {
		headers = append([]string{"Idempotency-Key", fmt.Sprint("key ", l.refreshed.Load(), s.token[len(s.token)-8:])}, asShop...)
	}
	a := l.ask(http.MethodPost, "/refresh", `{"refresh_token":"`+s.token+`"}`, headers...)
	if a.status != 200 {
		l.t.Errorf("a refresh (key: %v) is answered %d %s %s", s.keyed, a.status, a.Error, a.Reason)
		return l.begin("stays")
	}
	l.refreshed.Add(1)
	return session{spent: s.token, token: a.Refresh, access: a.Access, keyed: s.keyed}
}

func keyOf(access string) string {
	header, _, _ := strings.Cut(access, ".")
	text, _ := base64.RawURLEncoding.DecodeString(header)
	var h struct {
		Kid string `json:"kid"`
	}
	_ = json.Unmarshal(text, &h)
	return h.Kid
}

// use uses an access token at the service and at the instances. That of a dropped key
// is refreshed, as clients do after a 401.
func (l *load) use(s session) session {
	for began := time.Now(); ; s = l.refresh(s) {
		kid := keyOf(s.access)
		err := l.verdict(s.access)
		a := l.ask(http.MethodGet, "/me", "", "Authorization", "Bearer "+s.access)
		if err == nil && a.status == 200 {
			l.verified.Add(1)
			l.mu.Lock()
			l.byKey[kid], l.current = s.access, kid
			l.mu.Unlock()
			return s
		}
		if !l.isLeaked(kid) {
			l.t.Errorf("a good access token of the key %s: the service says %v, /me %d %s", kid, err, a.status, a.Error)
			return s
		}
		l.dropped.Add(1)
		if time.Since(began) > patience {
			l.t.Errorf("a dropped key still signs")
			return s
		}
	}
}

// verdict asks the service, until it can tell.
func (l *load) verdict(access string) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		_, err := l.verifier.Verify(context.Background(), access)
		if !errors.Is(err, verify.ErrUnavailable) || time.Since(began) > patience {
			return err
		}
		l.unknown.Add(1)
	}
}

func (l *load) refuses(access string) bool {
	_, err := l.verifier.Verify(context.Background(), access)
	return errors.Is(err, verify.ErrDenied) || errors.Is(err, tokens.ErrUnknownKey)
}

// leave begins a session and ends it. The service has to hear of it.
func (l *load) leave() {
	s := l.begin("leaves")
	if a := l.ask(http.MethodPost, "/logout", `{"refresh_token":"`+s.token+`"}`); a.status != 204 {
		l.t.Errorf("logout: %d %s", a.status, a.Error)
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		_, err := l.verifier.Verify(context.Background(), s.access)
		if errors.Is(err, verify.ErrDenied) || errors.Is(err, tokens.ErrUnknownKey) {
			break
		}
		if time.Since(began) > patience {
			l.t.Errorf("the service does not hear of a logout: %v", err)
			return
		}
	}
	l.revoked.Add(1)
	if a := l.ask(http.MethodPost, "/refresh", `{"refresh_token":"`+s.token+`"}`, asShop...); a.status != 401 || a.Reason != "ended" {
		l.t.Errorf("a refresh after the logout: %d %s %s", a.status, a.Error, a.Reason)
	}
}

func (l *load) refreshAway(s session) session { return l.use(l.refresh(s)) }

// some waits until there were so many more refreshes, however slow the machine is.
func (l *load) some(n int64) {
	l.t.Helper()
	before := l.refreshed.Load()
	l.d.eventually("refreshes", func() bool { return l.refreshed.Load() >= before+n })
}

// everybody waits until each client has refreshed, wholly after the call.
func (l *load) everybody() {
	l.t.Helper()
	for i := range l.turns {
		before := l.turns[i].Load()
		l.d.eventually("a refresh of each client", func() bool { return l.turns[i].Load() >= before+2 })
	}
}

// steal uses the spent token of each client that refreshes, under another key.
func (l *load) steal() (thefts int) {
	for _, s := range l.sessions {
		a := l.ask(http.MethodPost, "/refresh", `{"refresh_token":"`+s.spent+`"}`, append([]string{"Idempotency-Key", "a thief's"}, asShop...)...)
		if a.status != 401 || a.Reason != "reused" {
			l.t.Errorf("a theft is answered %d %s %s", a.status, a.Error, a.Reason)
		}
		thefts++
	}
	return thefts
}

func (l *load) signer() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

func (l *load) tokenOf(kid string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byKey[kid]
}

func (l *load) drop(kid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaked[kid] = true
}

func (l *load) isLeaked(kid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaked[kid]
}

// published is the key of `authapi keys list` that is none of the others.
func (l *load) published(others ...string) string {
	l.t.Helper()
	for line := range strings.Lines(l.d.command("keys", "list")) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "next" && !strings.Contains(strings.Join(others, " "), f[0]) {
			return f[0]
		}
	}
	l.t.Fatal("no next key")
	return ""
}

func (l *load) knows(kid string) bool {
	set := l.keys.KeySet()
	if set == nil {
		return false
	}
	text, err := set.MarshalJSON()
	return err == nil && strings.Contains(string(text), `"`+kid+`"`)
}

func (l *load) describe() string {
	var again strings.Builder
	l.again.Range(func(what, n any) bool {
		fmt.Fprintf(&again, " %s: %d,", what, n.(*atomic.Int64).Load())
		return true
	})
	if again.Len() == 0 {
		again.WriteString(" nothing")
	}
	return fmt.Sprintf("%d refreshes, %d access tokens verified, %d verdicts had to wait, %d logouts heard of, %d tokens of a dropped key; asked again because of%s",
		l.refreshed.Load(), l.verified.Load(), l.unknown.Load(), l.revoked.Load(), l.dropped.Load(), strings.TrimSuffix(again.String(), ","))
}
