package moving_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// browser is one that an application's front end runs in: it keeps the cookie
// and the access token, whichever process gave them.
type browser struct {
	t      testing.TB
	cookie *http.Cookie // nil if there is none
	access string
}

// answer is a response, with the members of all bodies that are looked at.
type answer struct {
	Status int
	Header http.Header
	Cookie *http.Cookie // as it was set by this answer; nil if it was left alone
	Body   string

	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	Error       string `json:"error"`
	User        struct {
		ID    string   `json:"id"`
		Roles []string `json:"roles"`
	} `json:"user"`
}

var plainHTTP = &http.Client{
	Timeout:       patience,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// send sends a request. The header is given as names and values in turn.
func send(t testing.TB, method, where, body string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, where, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := plainHTTP.Do(r)
	if err != nil {
		t.Errorf("%s %s: %v", method, where, err)
		return answer{}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("%s %s: %v", method, where, err)
	}
	a := answer{Status: res.StatusCode, Header: res.Header, Body: string(bytes.TrimSpace(text))}
	_ = json.Unmarshal(text, &a) // what is not JSON has no members
	for _, cookie := range res.Cookies() {
		if strings.HasSuffix(cookie.Name, "refresh") {
			a.Cookie = cookie
		}
	}
	return a
}

// is fails the test if the answer has another status.
func (a answer) is(t testing.TB, status int) answer {
	t.Helper()
	if a.Status != status {
		t.Errorf("got %d %s, want %d", a.Status, a.Body, status)
	}
	return a
}

// trouble fails the test if the answer is anything but 503 that leaves the
// cookie alone.
func (a answer) trouble(t testing.TB) {
	t.Helper()
	if a.is(t, http.StatusServiceUnavailable); a.Header.Get("Retry-After") == "" || a.Error != "temporarily_unavailable" {
		t.Errorf("trouble without Retry-After, or without a name: %v %s", a.Header, a.Body)
	}
	if a.Cookie != nil {
		t.Errorf("trouble touches the cookie: %v", a.Header["Set-Cookie"])
	}
}

// copy returns a browser that holds the same: another tab, or a thief.
func (b *browser) copy() *browser { return &browser{b.t, b.cookie, b.access} }

// post sends what the front end would send.
func (b *browser) post(p *program, path, body string, header ...string) answer {
	b.t.Helper()
	header = append([]string{"X-Requested-With", "fetch", "Sec-Fetch-Site", "same-origin"}, header...)
	if b.cookie != nil {
		header = append(header, "Cookie", b.cookie.Name+"="+b.cookie.Value)
	}
	a := send(b.t, http.MethodPost, p.url()+path, body, header...)
	if a.AccessToken != "" {
		b.access = a.AccessToken
	}
	if a.Cookie != nil {
		b.cookie = a.Cookie
		if a.Cookie.Value == "" || a.Cookie.MaxAge < 0 || !a.Cookie.Expires.IsZero() && a.Cookie.Expires.Before(time.Now()) {
			b.cookie = nil
		}
	}
	return a
}

func (b *browser) login(p *program) answer {
	b.t.Helper()
	return b.post(p, "/login", `{"username":"`+username+`","password":"`+password+`"}`)
}

func (b *browser) refresh(p *program, key string) answer {
	b.t.Helper()
	return b.post(p, "/refresh", "", "Idempotency-Key", key)
}

func (b *browser) logout(p *program) answer {
	b.t.Helper()
	return b.post(p, "/logout", "")
}

// me asks again while the process cannot tell, as it may on a busy machine.
func (b *browser) me(p *program) (a answer) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if a = b.meNow(p); a.Status != http.StatusServiceUnavailable || time.Now().After(end) {
			return a
		}
	}
}

func (b *browser) meNow(p *program) answer {
	b.t.Helper()
	return send(b.t, http.MethodGet, p.url()+"/me", "", "Authorization", "Bearer "+b.access)
}

// in returns a browser that has logged in.
func in(t testing.TB, p *program) *browser {
	t.Helper()
	b := &browser{t: t}
	if a := b.login(p).is(t, http.StatusOK); a.AccessToken == "" || b.cookie == nil {
		t.Fatalf("a login without tokens: %d %s", a.Status, a.Body)
	}
	return b
}
