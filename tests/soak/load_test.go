package soak_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	appUsers  = []string{"ann", "bob", "cem", "dan"}
	pageUsers = []string{"pia", "pip"}
)

// act is something that happens so often in a second. Ten thousand people who refresh
// every five minutes do so 33 times a second; this is twice that, and more of the rest than
// usual, since it is there where things are begun and not ended.
type act struct {
	name      string
	perSecond float64
	do        func(*load) outcome
	hashes    bool // it makes the service hash a password
}

var acts = []act{
	{"login", 1.5, (*load).login, true},
	{"login of a page", 0.5, (*load).loginOfPage, true},
	{"start", 10, (*load).begin, false},
	{"refresh", 55, (*load).refresh, false},
	{"refresh, answer lost", 6, (*load).refreshLost, false},
	{"logout", 6, (*load).logout, false},
	{"replay", 1, (*load).replay, false},
	{"all sessions of a user", 0.5, (*load).endAll, false},
	{"wrong password", 1.5, (*load).wrongPassword, true},
	{"invented token", 4, (*load).inventedToken, false},
	{"access", 20, (*load).access, false},
	{"introspect", 3, (*load).introspect, false},
	{"abandoned login", 0.5, (*load).abandonedLogin, true},
	{"revocations", 2, (*load).revocations, false},
	{"connection", 6, (*load).connection, false},
}

// outcome is what an act came to.
type outcome string

const (
	done     outcome = "done"
	idleAct  outcome = "nothing to do"
	trouble  outcome = "trouble" // 429, 5xx or no answer, again and again
	offended outcome = "WRONG"   // an answer that must not be
)

// session is one that the load uses. Sessions are left to themselves when they are half
// as old as they may become.
type session struct {
	token, access, sub string
	began, refreshed   time.Time
	keyed              bool // refreshes with Idempotency-Key
	verified           bool // the access token was used
}

type load struct {
	t      *testing.T
	url    string
	client *http.Client

	mu       sync.Mutex
	sessions []session
	counts   map[string]int
	wrong    []string

	verified atomic.Int64 // access tokens that were used

	passwords sync.RWMutex // read by acts that hash
}

// withoutPasswords calls f while no password is being checked.
func (l *load) withoutPasswords(f func()) {
	l.passwords.Lock()
	defer l.passwords.Unlock()
	time.Sleep(500 * time.Millisecond) // for one whose client has gone
	f()
}

func newLoad(t *testing.T, url string) *load {
	l := &load{t: t, url: url, counts: map[string]int{}, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 32, DisableCompression: true}, Timeout: 20 * time.Second,
	}}
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

func (l *load) run(d time.Duration) {
	stop := l.start()
	time.Sleep(d)
	stop()
}

// start starts the load. The result ends it, when all that has begun has ended.
func (l *load) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, a := range acts {
		all.Go(func() {
			ticker := time.NewTicker(time.Duration(float64(time.Second) / (a.perSecond * *scale)))
			defer ticker.Stop()
			var under atomic.Int64
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				// On a machine that cannot keep up the load is less, and not a pile.
				if under.Load() >= 32 {
					l.count(a.name, "put off")
					continue
				}
				under.Add(1)
				all.Go(func() {
					defer under.Add(-1)
					if a.hashes {
						l.passwords.RLock()
						defer l.passwords.RUnlock()
					}
					l.count(a.name, a.do(l))
				})
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		l.client.CloseIdleConnections()
	}
}

func (l *load) count(name string, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[name+": "+string(o)]++
}

// report says what was done, and fails the test if something was answered that must not
// be, or too little happened to prove anything. What is seldom may fail in a short run on
// a busy machine.
func (l *load) report(d time.Duration, long bool) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Logf("load in %v: %s", d.Round(time.Second), sorted(l.counts))
	for _, w := range l.wrong[:min(len(l.wrong), 10)] {
		l.t.Error(w)
	}
	for _, a := range acts {
		if l.counts[a.name+": "+string(done)] == 0 && (long || a.perSecond >= 3) {
			l.t.Errorf("%s: it never succeeded", a.name)
		}
	}
}

func (l *load) offend(format string, args ...any) outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
	return offended
}

// draw takes a session out that is good for a while. The others are left to expire.
func (l *load) draw() (session, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = slices.DeleteFunc(l.sessions, func(s session) bool {
		return time.Since(s.began) > absolute/2 || time.Since(s.refreshed) > idle/3
	})
	if len(l.sessions) == 0 {
		return session{}, false
	}
	i := rand.N(len(l.sessions))
	s := l.sessions[i]
	l.sessions = slices.Delete(l.sessions, i, i+1)
	return s, true
}

func (l *load) put(s session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions = append(l.sessions, s)
}

type answer struct {
	status  int
	err     error
	cookies []*http.Cookie

	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Reason  string `json:"reason"`
	Active  bool   `json:"active"`
}

func (a answer) String() string { return fmt.Sprintf("%d %s (%v)", a.status, a.Reason, a.err) }

// troubled says whether the answer says nothing about the session.
func (a answer) troubled() bool { return a.err != nil || a.status == 429 || a.status >= 500 }

func (l *load) send(ctx context.Context, method, path, body string, headers ...string) answer {
	req, err := http.NewRequestWithContext(ctx, method, l.url+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("%d.%d.%d.%d", 1+rand.N(126), rand.N(256), rand.N(256), rand.N(256)))
	req.Header.Set("X-Forwarded-Proto", "https")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := l.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	a := answer{status: res.StatusCode, err: err, cookies: res.Cookies()}
	if err == nil && strings.HasPrefix(string(text), "{") {
		a.err = json.Unmarshal(text, &a)
	}
	if a.troubled() {
		l.count(path, outcome(strconv.Itoa(a.status)))
	}
	return a
}

func (l *load) post(path, body string, headers ...string) answer {
	return l.send(context.Background(), http.MethodPost, path, body, headers...)
}

// shopCredentials are encoded before they are joined (RFC 6749, section 2.3.1).
var shopCredentials = "Basic " + base64.StdEncoding.EncodeToString([]byte("shop:"+url.QueryEscape(shopSecret)))

func (l *load) asShop(method, path, body string) answer {
	return l.send(context.Background(), method, path, body, "Authorization", shopCredentials)
}

func (l *load) login() outcome {
	body := object("username", appUsers[rand.N(len(appUsers))], "password", password, "client_id", "app", "device", "a phone")
	switch a := l.post("/login", body); {
	case a.troubled():
		return trouble
	case a.status != 200:
		return l.offend("login: %v", a)
	default:
		l.put(session{token: a.Refresh, access: a.Access, began: time.Now(), refreshed: time.Now(), keyed: true})
		return done
	}
}

// loginOfPage logs in by cookie, refreshes once and leaves. The user's oldest session ends
// for it.
func (l *load) loginOfPage() outcome {
	page := []string{"Origin", "https://auth.example.com", "X-Requested-With", "authapi", "Sec-Fetch-Site", "same-origin"}
	a := l.post("/login", object("username", pageUsers[rand.N(len(pageUsers))], "password", password, "client_id", "page"), page...)
	if a.troubled() {
		return trouble
	}
	if a.status != 200 {
		return l.offend("login of a page: %v", a)
	}
	var cookies []string
	for _, c := range a.cookies {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	a = l.post("/refresh", `{"client_id":"page"}`, append(page, "Cookie", strings.Join(cookies, "; "))...)
	switch {
	case a.troubled():
		return trouble
	// Others of the same user may have logged in meanwhile, three times.
	case a.status == 200, a.status == 401 && a.Reason == "ended":
		return done
	}
	return l.offend("refresh of a page: %v", a)
}

func (l *load) begin() outcome {
	sub := fmt.Sprint("customer-", rand.N(2000))
	switch a := l.asShop(http.MethodPost, "/sessions", object("sub", sub, "roles", []string{"buyer"})); {
	case a.troubled():
		return trouble
	case a.status != 200 && a.status != 201:
		return l.offend("start: %v", a)
	default:
		// The tokens of a confidential client are refreshed by it.
		l.put(session{token: a.Refresh, access: a.Access, sub: sub, began: time.Now(), refreshed: time.Now(), keyed: rand.N(2) == 0})
		return done
	}
}

// exchange sends a refresh, and sends it again as long as it is answered with trouble.
func (l *load) exchange(s *session, key string) (answer, outcome) {
	body := object("refresh_token", s.token)
	headers := []string{}
	if key != "" {
		headers = append(headers, "Idempotency-Key", key)
	}
	if s.sub != "" {
		headers = append(headers, "Authorization", shopCredentials)
	}
	began := time.Now()
	for {
		a := l.post("/refresh", body, headers...)
		if !a.troubled() {
			return a, done
		}
		// Without a key a retry is good for ten seconds, and then a replay.
		if time.Since(began) > 5*time.Second {
			return a, trouble
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (l *load) refreshed(s session, a answer, o outcome) outcome {
	switch {
	case o == trouble:
		return trouble
	// Somebody may have ended all sessions of the user.
	case a.status == 401 && a.Reason == "ended" && s.sub != "":
		return done
	case a.status != 200:
		return l.offend("refresh: %v of a session %v old, refreshed %v ago", a, time.Since(s.began), time.Since(s.refreshed))
	}
	s.token, s.access, s.refreshed, s.verified = a.Refresh, a.Access, time.Now(), false
	l.put(s)
	return done
}

func newKey(keyed bool) string {
	if !keyed {
		return ""
	}
	return fmt.Sprintf("key-%016x", rand.Uint64())
}

func (l *load) refresh() outcome {
	s, ok := l.draw()
	if !ok {
		return idleAct
	}
	a, o := l.exchange(&s, newKey(s.keyed))
	return l.refreshed(s, a, o)
}

// refreshLost hangs up at once or a little later, and asks again.
func (l *load) refreshLost() outcome {
	s, ok := l.draw()
	if !ok {
		return idleAct
	}
	key := newKey(true)
	ctx, cancel := context.WithTimeout(context.Background(), rand.N(4*time.Millisecond))
	headers := []string{"Idempotency-Key", key}
	if s.sub != "" {
		headers = append(headers, "Authorization", shopCredentials)
	}
	l.send(ctx, http.MethodPost, "/refresh", object("refresh_token", s.token), headers...)
	cancel()
	a, o := l.exchange(&s, key)
	return l.refreshed(s, a, o)
}

func (l *load) logout() outcome {
	s, ok := l.draw()
	if !ok {
		return idleAct
	}
	switch a := l.post("/logout", object("refresh_token", s.token)); {
	case a.troubled():
		return trouble
	case a.status != 204 && s.sub == "":
		return l.offend("logout: %v", a)
	}
	return done
}

// replay uses a token that was spent two rotations ago.
func (l *load) replay() outcome {
	s, ok := l.draw()
	if !ok {
		return idleAct
	}
	spent := s
	for range 2 {
		a, o := l.exchange(&s, newKey(true))
		if o == trouble {
			return trouble
		}
		if a.status == 401 && a.Reason == "ended" && s.sub != "" {
			return done
		}
		if a.status != 200 {
			return l.offend("refresh before a replay: %v", a)
		}
		s.token = a.Refresh
	}
	a, o := l.exchange(&spent, newKey(true))
	switch {
	case o == trouble:
		return trouble
	case a.status == 401 && (a.Reason == "reused" || a.Reason == "ended" && s.sub != ""):
		return done
	}
	return l.offend("replay: %v", a)
}

func (l *load) endAll() outcome {
	switch a := l.asShop(http.MethodDelete, fmt.Sprint("/users/customer-", rand.N(2000), "/sessions"), ""); {
	case a.troubled():
		return trouble
	case a.status/100 != 2:
		return l.offend("all sessions: %v", a)
	}
	return done
}

func (l *load) wrongPassword() outcome {
	name := appUsers[rand.N(len(appUsers))]
	if rand.N(10) > 0 {
		name = fmt.Sprint("nobody-", rand.N(500))
	} else {
		name = strings.ToUpper(name) // so that the others' budgets last
	}
	switch a := l.post("/login", object("username", name, "password", "a guess", "client_id", "app")); {
	case a.status == 401, a.status == 429:
		return done
	case a.troubled():
		return trouble
	default:
		return l.offend("wrong password: %v", a)
	}
}

func (l *load) inventedToken() outcome {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	token := []byte("authapi_rt_A")
	for len(token) < 11+56 {
		token = append(token, alphabet[rand.N(len(alphabet))])
	}
	switch a := l.post("/refresh", object("refresh_token", string(token))); {
	case a.status == 401:
		return done
	case a.troubled():
		return trouble
	default:
		return l.offend("invented token: %v", a)
	}
}

func (l *load) access() outcome {
	s, ok := l.draw()
	if !ok {
		return idleAct
	}
	if !s.verified {
		s.verified = true
		l.verified.Add(1)
	}
	l.put(s)
	path := [...]string{"/me", "/verify", "/sessions"}[rand.N(3)]
	a := l.send(context.Background(), http.MethodGet, path, "", "Authorization", "Bearer "+s.access)
	switch {
	// It is good for ten seconds, and its session may be ended meanwhile.
	case a.status/100 == 2, a.status == 401:
		return done
	case a.troubled():
		return trouble
	}
	return l.offend("%s: %v", path, a)
}

func (l *load) introspect() outcome {
	s, ok := l.draw()
	if !ok {
		return idleAct
	}
	l.put(s)
	a := l.post("/oauth/introspect", "token="+s.token,
		"Authorization", shopCredentials, "Content-Type", "application/x-www-form-urlencoded")
	switch {
	case a.status == 200:
		return done
	case a.troubled():
		return trouble
	}
	return l.offend("introspect: %v", a)
}

// abandonedLogin hangs up while the password is hashed.
func (l *load) abandonedLogin() outcome {
	ctx, cancel := context.WithTimeout(context.Background(), rand.N(30*time.Millisecond))
	defer cancel()
	l.send(ctx, http.MethodPost, "/login", object("username", appUsers[0], "password", password, "client_id", "app"))
	return done
}

// revocations reads the stream for a while and hangs up.
func (l *load) revocations() outcome {
	ctx, cancel := context.WithTimeout(context.Background(), rand.N(4*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url+"/revocations", nil)
	if err != nil {
		return l.offend("%v", err)
	}
	req.Header.Set("Authorization", shopCredentials)
	res, err := l.client.Do(req)
	if err != nil {
		return idleAct // hung up before the answer
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		return l.offend("revocations: %d", res.StatusCode)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return done
}

// connection connects, and says nothing, half a request, or a body that never comes.
func (l *load) connection() outcome {
	c, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
	if err != nil {
		return l.offend("connect: %v", err)
	}
	defer c.Close()
	begun := [...]string{
		"", "POST /refresh HTTP/1.1\r\nHost: auth", "GET /healthz HTTP/1.1\r\nHost: auth.example.com\r\n\r\n", "\x16\x03\x01 no TLS here\r\n\r\n",
		"POST /refresh HTTP/1.1\r\nHost: auth.example.com\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
	}
	fmt.Fprint(c, begun[rand.N(len(begun))])
	time.Sleep(rand.N(3 * time.Second))
	return done
}
