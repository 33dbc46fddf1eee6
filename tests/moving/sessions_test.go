package moving_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func login(t *testing.T, d *deployment) {
	b := in(t, d.a)
	for _, p := range []*program{d.a, d.b} {
		if a := b.me(p).is(t, http.StatusOK); a.User.ID != subject || strings.Join(a.User.Roles, " ") != "user" {
			t.Errorf("/me says %s", a.Body)
		}
	}
	a := b.login(d.b).is(t, http.StatusOK)
	if a.ExpiresIn != 300 || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a login says %v %s", a.Header, a.Body)
	}
	if strings.Contains(a.Body, "authapi_rt_") {
		t.Errorf("scripts can read the refresh token: %s", a.Body)
	}

	stranger := &browser{t: t}
	var said []string
	for _, body := range []string{
		`{"username":"rohit","password":"wrong"}`,
		`{"username":"nobody","password":"wrong"}`,
		`{"username":"__proto__","password":"wrong"}`,
		`{"username":"rohit"}`,
		`{"username":{"length":5},"password":["a"]}`,
		`[]`,
	} {
		a := stranger.post(d.a, "/login", body).is(t, http.StatusUnauthorized)
		if a.Cookie != nil {
			t.Errorf("%s: a cookie for a stranger", body)
		}
		said = append(said, a.Body)
	}
	for i := range said {
		if said[i] != said[0] {
			t.Errorf("a refusal tells why: %s, and %s", said[0], said[i])
		}
	}
}

func noGoodToken(t *testing.T, d *deployment) {
	b := in(t, d.a)
	good := strings.Split(b.access, ".")
	encode := base64.RawURLEncoding.EncodeToString
	header, _ := base64.RawURLEncoding.DecodeString(good[0])
	payload, _ := base64.RawURLEncoding.DecodeString(good[1])
	if !bytes.Contains(payload, []byte(`"user"`)) {
		t.Fatalf("there is nothing to forge in %s", payload)
	}
	admin := encode(bytes.Replace(payload, []byte(`"user"`), []byte(`"admin"`), 1))
	none := encode(bytes.Replace(header, []byte("ES256"), []byte("none"), 1))
	for name, token := range map[string]string{
		"empty":           "",
		"garbage":         "garbage",
		"forged roles":    good[0] + "." + admin + "." + good[2],
		"no signature":    good[0] + "." + good[1] + ".",
		"alg none":        none + "." + good[1] + ".",
		"another's":       good[0] + "." + good[1] + "." + strings.Split(in(t, d.a).access, ".")[2],
		"a refresh token": b.cookie.Value,
	} {
		for _, p := range []*program{d.a, d.b} {
			a := (&browser{t: t, access: token}).me(p)
			if a.Status != http.StatusUnauthorized || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: %d %s", name, a.Status, a.Body)
			}
		}
	}
	send(t, http.MethodGet, d.a.url()+"/me", "").is(t, http.StatusUnauthorized)
	b.me(d.a).is(t, http.StatusOK)
}

func refreshElsewhere(t *testing.T, d *deployment) {
	b := in(t, d.a)
	first := b.copy()
	a := b.refresh(d.b, "1").is(t, http.StatusOK)
	if b.access == first.access || b.cookie.Value == first.cookie.Value || a.ExpiresIn != 300 {
		t.Errorf("a refresh changes nothing: %s", a.Body)
	}
	b.me(d.a).is(t, http.StatusOK)
	first.me(d.b).is(t, http.StatusOK) // calls under way go on
	b.refresh(d.a, "2").is(t, http.StatusOK)

	if a := (&browser{t: t}).refresh(d.a, "1").is(t, http.StatusUnauthorized); a.Error != "login_required" {
		t.Errorf("without a cookie: %s", a.Body)
	}
}

func lostAnswer(t *testing.T, d *deployment) {
	b := in(t, d.a)
	lost := b.copy()
	lost.refresh(d.a, "the key").is(t, http.StatusOK)
	// b has not heard of it, and asks at the other process.
	a := b.refresh(d.b, "the key").is(t, http.StatusOK)
	if b.cookie.Value != lost.cookie.Value {
		t.Error("the same key gets another successor")
	}
	b.me(d.a).is(t, http.StatusOK)
	b.refresh(d.a, "the next").is(t, http.StatusOK)
	if a.Cookie == nil {
		t.Error("no cookie with the second answer")
	}
}

// tabs: ten of them find out at once that the access token has expired. They
// share the cookie, and the key that the front end has stored.
func tabs(t *testing.T, d *deployment) {
	b := in(t, d.a)
	all := make([]*browser, 10)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = b.copy()
		wg.Go(func() {
			all[i].refresh([]*program{d.a, d.b}[i%2], "a key of all").is(t, http.StatusOK)
		})
	}
	wg.Wait()
	for _, tab := range all {
		if tab.cookie == nil || tab.cookie.Value != all[0].cookie.Value {
			t.Fatal("tabs have got different cookies")
		}
		tab.me(d.b).is(t, http.StatusOK)
	}
	all[3].refresh(d.b, "the next").is(t, http.StatusOK)
}

// stolenCookie: a thief has a copy, and uses it when its owner has gone on.
func stolenCookie(t *testing.T, d *deployment) {
	owner := in(t, d.a)
	thief := owner.copy()
	owner.refresh(d.a, "1").is(t, http.StatusOK)
	owner.refresh(d.b, "2").is(t, http.StatusOK)
	owner.me(d.a).is(t, http.StatusOK)

	if a := thief.refresh(d.b, "3").is(t, http.StatusUnauthorized); a.AccessToken != "" || thief.cookie != nil {
		t.Errorf("the thief gets %s", a.Body)
	}
	if owner.refresh(d.a, "4").is(t, http.StatusUnauthorized); owner.cookie != nil {
		t.Error("the cookie of a session that was ended stays")
	}
	for _, p := range []*program{d.a, d.b} {
		eventually(t, promised+slack, "the access token is refused", func() bool { return owner.me(p).Status == http.StatusUnauthorized })
	}
	in(t, d.a)
}

func loginReplaces(t *testing.T, d *deployment) {
	b := in(t, d.a)
	old := b.copy()
	b.login(d.b).is(t, http.StatusOK)
	if b.cookie.Value == old.cookie.Value || sid(t, b.access) == sid(t, old.access) {
		t.Error("the session is the same after a login")
	}
	for _, p := range []*program{d.a, d.b} {
		eventually(t, promised+slack, "the old access token is refused", func() bool { return old.me(p).Status == http.StatusUnauthorized })
		b.me(p).is(t, http.StatusOK)
	}
	old.refresh(d.a, "1").is(t, http.StatusUnauthorized)
	b.refresh(d.a, "1").is(t, http.StatusOK)

	// A wrong password is not a login.
	b.post(d.a, "/login", `{"username":"rohit","password":"wrong"}`).is(t, http.StatusUnauthorized)
	b.refresh(d.a, "2").is(t, http.StatusOK)
}

func logoutAgain(t *testing.T, d *deployment) {
	b := in(t, d.a)
	before := b.copy()
	b.logout(d.b).is(t, http.StatusOK)
	if b.cookie != nil {
		t.Error("the cookie is there after a logout")
	}
	b.logout(d.a).is(t, http.StatusOK)
	if before.copy().logout(d.a).is(t, http.StatusOK); before.cookie == nil {
		t.Fatal("no cookie to begin with")
	}
	before.refresh(d.a, "1").is(t, http.StatusUnauthorized)
	// Whoever has logged out can log in, with the old cookie too.
	before.copy().login(d.a).is(t, http.StatusOK)
}

// later is about what happens minutes and days later, by the clock of Redis.
func later(t *testing.T, d *deployment) {
	d.redis.Advance(-6 * time.Minute)
	b := in(t, d.a) // its access token has been over for a minute
	d.redis.Advance(6 * time.Minute)
	for _, p := range []*program{d.a, d.b} {
		if a := b.me(p).is(t, http.StatusUnauthorized); !strings.Contains(a.Body, "expired") {
			t.Errorf("an expired token: %s", a.Body)
		}
	}
	// Being expired is no reason to log anybody out.
	before := b.copy()
	b.refresh(d.b, "first").is(t, http.StatusOK)
	b.me(d.a).is(t, http.StatusOK)

	// The answer did not arrive, and the laptop was shut for five hours.
	d.redis.Advance(5 * time.Hour)
	a := before.refresh(d.a, "first").is(t, http.StatusOK)
	if before.cookie == nil || before.cookie.Value != b.cookie.Value || a.ExpiresIn != 0 {
		t.Errorf("five hours later the same key gets other tokens, or some that live: %d %d s", a.Status, a.ExpiresIn)
	}
	before.refresh(d.a, "second").is(t, http.StatusOK)

	// Two weeks without a refresh end a session by themselves.
	d.redis.Advance(15 * 24 * time.Hour)
	if a := before.refresh(d.a, "third").is(t, http.StatusUnauthorized); a.Cookie == nil || before.cookie != nil {
		t.Errorf("the cookie of a session that is over stays: %v", a.Header)
	}
}

// claim reads a member of an access token's payload.
func claim(t *testing.T, access, name string) any {
	t.Helper()
	parts := strings.Split(access, ".")
	if len(parts) != 3 {
		t.Fatal("not a JWT")
	}
	var all map[string]any
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all[name]
}

func sid(t *testing.T, access string) any { return claim(t, access, "sid") }
