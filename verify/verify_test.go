package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

const (
	issuer   = "https://auth.example.com"
	audience = "https://api.example.com"
)

// keys are an issuer's.
type keys struct {
	*tokens.SigningKey
	set *tokens.KeySet
}

func newKeys(t testing.TB) keys {
	t.Helper()
	key, err := tokens.GenerateKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	set, err := tokens.NewKeySet(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return keys{key, set}
}

func (k keys) KeySet() *tokens.KeySet { return k.set }

var now = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

func claims() tokens.Claims {
	return tokens.Claims{
		Issuer:    issuer,
		Audience:  []string{audience},
		Subject:   "cxN4MSP5Lke7ODNv",
		SessionID: "uv.2F5uQdw0khr5SaFjY0mKKQ",
		ClientID:  "mobile",
		ID:        "aRCTNcWoh5fRsekaupDQ_A",
		Roles:     []string{"editor"},
		IssuedAt:  now,
		ExpiresAt: now.Add(5 * time.Minute),
	}
}

func (k keys) sign(t testing.TB, change ...func(*tokens.Claims)) string {
	t.Helper()
	c := claims()
	for _, f := range change {
		f(&c)
	}
	token, err := k.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func expired(c *tokens.Claims) {
	c.IssuedAt, c.ExpiresAt = now.Add(-10*time.Minute), now.Add(-5*time.Minute)
}

func nobody(context.Context, *tokens.Claims) (bool, error) { return false, nil }

func config(k keys) verify.Config {
	return verify.Config{
		Issuer: issuer, Audience: audience, Keys: k, Denied: nobody,
		Now: func() time.Time { return now },
	}
}

func newVerifier(t testing.TB, c verify.Config) *verify.Verifier {
	t.Helper()
	v, err := verify.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// guarded is what a request to a guarded handler led to.
type guarded struct {
	*httptest.ResponseRecorder
	reached bool
	claims  *tokens.Claims
}

func ask(v *verify.Verifier, r *http.Request) guarded {
	g := guarded{ResponseRecorder: httptest.NewRecorder()}
	v.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		g.reached = true
		g.claims, _ = verify.Claims(r.Context())
	})).ServeHTTP(g, r)
	return g
}

func request(authorization ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, value := range authorization {
		r.Header.Add("Authorization", value)
	}
	return r
}

// A service that leaves something out must not start, instead of letting
// everybody in.
func TestNewRefusesAnIncompleteConfiguration(t *testing.T) {
	k := newKeys(t)
	for name, change := range map[string]func(*verify.Config){
		"everything": func(c *verify.Config) { *c = verify.Config{} },
		"issuer":     func(c *verify.Config) { c.Issuer = "" },
		"audience":   func(c *verify.Config) { c.Audience = "" },
		"keys":       func(c *verify.Config) { c.Keys = nil },
		"denied":     func(c *verify.Config) { c.Denied = nil },
	} {
		c := config(k)
		change(&c)
		if v, err := verify.New(c); v != nil || err == nil {
			t.Errorf("without %s: %v, %v", name, v, err)
		}
	}
	c := config(k)
	c.Now = nil
	v := newVerifier(t, c)
	fresh := k.sign(t, func(c *tokens.Claims) { c.IssuedAt, c.ExpiresAt = time.Now(), time.Now().Add(time.Minute) })
	if g := ask(v, request("Bearer "+fresh)); !g.reached {
		t.Errorf("without a clock of its own: %d %s", g.Code, g.Body)
	}
}

func TestMiddlewareLetsThrough(t *testing.T) {
	k := newKeys(t)
	v := newVerifier(t, config(k))
	token := k.sign(t)
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER ", "bEaReR "} {
		g := ask(v, request(scheme+token))
		if !g.reached || g.Code != http.StatusOK {
			t.Fatalf("%q: %d %s", scheme, g.Code, g.Body)
		}
		if want := claims(); g.claims == nil || g.claims.Subject != want.Subject || g.claims.SessionID != want.SessionID ||
			g.claims.ID != want.ID || g.claims.ClientID != want.ClientID || !g.claims.ExpiresAt.Equal(want.ExpiresAt) {
			t.Errorf("claims in the context: %+v", g.claims)
		}
	}
}

func TestMiddlewareRefuses(t *testing.T) {
	k := newKeys(t)
	denied := config(k)
	asked := 0
	denied.Denied = func(_ context.Context, c *tokens.Claims) (bool, error) {
		asked++
		return c.ID == "revoked", nil
	}
	v := newVerifier(t, denied)
	good := k.sign(t)
	segments := strings.Split(good, ".")

	const absent, invalid, old, revoked = "", "the access token is not valid", "the access token has expired", "the access token was revoked"
	for _, c := range []struct {
		name        string
		header      []string
		description string // in the challenge
	}{
		{"no header", nil, absent},
		{"empty header", []string{""}, absent},
		{"two headers", []string{"Bearer " + good, "Bearer " + good}, absent},
		{"two headers of two schemes", []string{"Basic YTpi", "Bearer " + good}, absent},
		{"scheme only", []string{"Bearer"}, absent},
		{"scheme and space", []string{"Bearer "}, absent},
		{"token only", []string{good}, absent},
		{"Basic", []string{"Basic " + good}, absent},
		{"DPoP", []string{"DPoP " + good}, absent},
		{"Bearer:", []string{"Bearer: " + good}, absent},
		{"tab", []string{"Bearer\t" + good}, absent},
		{"two spaces", []string{"Bearer  " + good}, invalid},
		{"trailing space", []string{"Bearer " + good + " "}, invalid},
		{"two tokens", []string{"Bearer " + good + " " + good}, invalid},
		{"a list", []string{"Bearer " + good + ",Bearer " + good}, invalid},
		{"quoted", []string{`Bearer "` + good + `"`}, invalid},
		{"no signature", []string{"Bearer " + segments[0] + "." + segments[1] + "."}, invalid},
		{"another's key", []string{"Bearer " + newKeys(t).sign(t)}, invalid},
		{"another issuer", []string{"Bearer " + k.sign(t, func(c *tokens.Claims) { c.Issuer = "https://evil.example" })}, invalid},
		{"another audience", []string{"Bearer " + k.sign(t, func(c *tokens.Claims) { c.Audience = []string{issuer} })}, invalid},
		{"of the future", []string{"Bearer " + k.sign(t, func(c *tokens.Claims) { c.IssuedAt, c.ExpiresAt = now.Add(time.Minute), now.Add(2*time.Minute) })}, invalid},
		{"expired", []string{"Bearer " + k.sign(t, expired)}, old},
		{"expired and revoked", []string{"Bearer " + k.sign(t, expired, func(c *tokens.Claims) { c.ID = "revoked" })}, old},
		{"revoked", []string{"Bearer " + k.sign(t, func(c *tokens.Claims) { c.ID = "revoked" })}, revoked},
	} {
		asked = 0
		g := ask(v, request(c.header...))
		if g.reached || g.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d, the handler was reached: %v", c.name, g.Code, g.reached)
		}
		challenge := "Bearer"
		if c.description != absent {
			challenge += ` error="invalid_token", error_description="` + c.description + `"`
		}
		if got := g.Header().Values("WWW-Authenticate"); len(got) != 1 || got[0] != challenge {
			t.Errorf("%s: WWW-Authenticate: %q, want %q", c.name, got, challenge)
		}
		checkError(t, c.name, g, "invalid_token")
		// Only of good tokens is it asked whether they were revoked: the answer
		// may cost a round trip.
		if (asked > 0) != (c.description == revoked) {
			t.Errorf("%s: asked %d times for revocation", c.name, asked)
		}
	}
}

// checkError checks the one shape of errors.
func checkError(t *testing.T, name string, g guarded, code string) {
	t.Helper()
	var body map[string]string
	if err := json.Unmarshal(g.Body.Bytes(), &body); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if len(body) != 2 || body["error"] != code || body["error_description"] == "" {
		t.Errorf("%s: %s", name, g.Body)
	}
	if got := g.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: Content-Type: %s", name, got)
	}
}

// Trouble says nothing about the token: a client that got 401 would refresh, or
// log its user out.
func TestTroubleIsNotARefusal(t *testing.T) {
	k := newKeys(t)
	c := config(k)
	down := errors.New("redis at 10.0.0.7 is down")
	c.Denied = func(context.Context, *tokens.Claims) (bool, error) { return false, down }
	for _, answer := range []bool{false, true} { // what comes with an error does not count
		c.Denied = func(context.Context, *tokens.Claims) (bool, error) { return answer, down }
		v := newVerifier(t, c)
		g := ask(v, request("Bearer "+k.sign(t)))
		if g.reached || g.Code != http.StatusServiceUnavailable {
			t.Errorf("%d, the handler was reached: %v", g.Code, g.reached)
		}
		if g.Header().Get("Retry-After") == "" || g.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("headers: %v", g.Header())
		}
		checkError(t, "trouble", g, "temporarily_unavailable")
		if strings.Contains(g.Body.String(), "10.0.0.7") {
			t.Errorf("the body tells of our inside: %s", g.Body)
		}
		_, err := v.Verify(context.Background(), k.sign(t))
		if !errors.Is(err, verify.ErrUnavailable) || !errors.Is(err, down) || errors.Is(err, tokens.ErrInvalid) || errors.Is(err, verify.ErrDenied) {
			t.Errorf("Verify: %v", err)
		}
		// A token that is no good anyway is refused all the same.
		if g := ask(v, request("Bearer "+k.sign(t, expired))); g.Code != http.StatusUnauthorized {
			t.Errorf("expired during trouble: %d", g.Code)
		}
	}
}

func TestTokensElsewhereDoNotCount(t *testing.T) {
	k := newKeys(t)
	v := newVerifier(t, config(k))
	token := k.sign(t)
	form := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("access_token="+token))
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	cookie := request()
	cookie.AddCookie(&http.Cookie{Name: "access_token", Value: token})
	proxy := request()
	proxy.Header.Set("Proxy-Authorization", "Bearer "+token)
	for name, r := range map[string]*http.Request{
		"query": httptest.NewRequest(http.MethodGet, "/?access_token="+token, nil),
		"form":  form, "cookie": cookie, "proxy": proxy,
	} {
		if g := ask(v, r); g.reached || g.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, g.Code)
		}
	}
	// The body is left for the handler.
	if rest, _ := io.ReadAll(form.Body); !strings.Contains(string(rest), token) {
		t.Error("the body was read")
	}
}

func TestDeniedIsAskedAboutTheTokenInTheRequestsContext(t *testing.T) {
	type mark struct{}
	k := newKeys(t)
	c := config(k)
	var asked *tokens.Claims
	c.Denied = func(ctx context.Context, claims *tokens.Claims) (bool, error) {
		asked = claims
		return ctx.Value(mark{}) == nil, nil
	}
	r := request("Bearer " + k.sign(t))
	g := ask(newVerifier(t, c), r.WithContext(context.WithValue(r.Context(), mark{}, true)))
	if !g.reached || asked == nil || asked.ID != claims().ID || asked.SessionID != claims().SessionID {
		t.Errorf("%d, asked about %+v", g.Code, asked)
	}
}

func TestVerify(t *testing.T) {
	k := newKeys(t)
	c := config(k)
	c.Denied = func(_ context.Context, c *tokens.Claims) (bool, error) { return c.ID == "revoked", nil }
	v := newVerifier(t, c)
	revoked := k.sign(t, func(c *tokens.Claims) { c.ID = "revoked" })
	ctx := context.Background()
	if got, err := v.Verify(ctx, k.sign(t)); err != nil || got.Subject != claims().Subject {
		t.Errorf("good: %v, %v", got, err)
	}
	if got, err := v.Verify(ctx, revoked); got != nil || !errors.Is(err, verify.ErrDenied) || errors.Is(err, tokens.ErrInvalid) {
		t.Errorf("revoked: %v, %v", got, err)
	}
	if got, err := v.Verify(ctx, k.sign(t, expired)); got != nil || !errors.Is(err, tokens.ErrExpired) {
		t.Errorf("expired: %v, %v", got, err)
	}

	// To end what a token stands for, it needs to be genuine and no more.
	for name, token := range map[string]string{"good": k.sign(t), "expired": k.sign(t, expired), "revoked": revoked} {
		if got, err := v.VerifyAnyTime(token); err != nil || got.SessionID != claims().SessionID {
			t.Errorf("ignoring expiry, %s: %v, %v", name, got, err)
		}
	}
	for name, token := range map[string]string{"another's key": newKeys(t).sign(t), "nothing": "", "malformed": "a.b.c"} {
		if got, err := v.VerifyAnyTime(token); got != nil || !errors.Is(err, tokens.ErrInvalid) {
			t.Errorf("ignoring expiry, %s: %v, %v", name, got, err)
		}
	}
}

// rotating is a source whose keys change while it is in use.
type rotating struct{ current *tokens.KeySet }

func (r *rotating) KeySet() *tokens.KeySet { return r.current }

func TestKeysAreAskedForEachTime(t *testing.T) {
	before, after := newKeys(t), newKeys(t)
	source := &rotating{before.set}
	c := config(before)
	c.Keys = source
	v := newVerifier(t, c)
	token := before.sign(t)
	if g := ask(v, request("Bearer "+token)); !g.reached {
		t.Fatalf("%d %s", g.Code, g.Body)
	}
	source.current = after.set
	if g := ask(v, request("Bearer "+token)); g.reached {
		t.Error("a key that is gone still opens the door")
	}
	if g := ask(v, request("Bearer "+after.sign(t))); !g.reached {
		t.Errorf("new key: %d %s", g.Code, g.Body)
	}
}

func TestClaimsWithoutMiddleware(t *testing.T) {
	if c, ok := verify.Claims(context.Background()); c != nil || ok {
		t.Errorf("claims out of nowhere: %v", c)
	}
}

// FuzzMiddleware: without a token that was signed for it, nothing gets through,
// and the answer is always a refusal.
func FuzzMiddleware(f *testing.F) {
	k := newKeys(f)
	v := newVerifier(f, config(k))
	good := k.sign(f)
	f.Add("Bearer " + good[1:])
	f.Add("Bearer " + newKeys(f).sign(f))
	f.Add("Bearer " + k.sign(f, expired))
	f.Add("Bearer ..")
	f.Add("")
	f.Fuzz(func(t *testing.T, header string) {
		g := ask(v, &http.Request{Method: http.MethodGet, Header: http.Header{"Authorization": {header}}})
		if g.reached || g.Code != http.StatusUnauthorized {
			t.Errorf("%q: %d, the handler was reached: %v", header, g.Code, g.reached)
		}
		if strings.ContainsAny(g.Header().Get("WWW-Authenticate"), "\r\n") {
			t.Errorf("%q: WWW-Authenticate: %q", header, g.Header().Get("WWW-Authenticate"))
		}
	})
}
