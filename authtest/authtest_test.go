package authtest_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authapi/authapi/authtest"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// claims returns what the issuer's verifier reads out of a token.
func claims(t *testing.T, i *authtest.Issuer, options ...authtest.Option) *tokens.Claims {
	t.Helper()
	c, err := i.Verifier().Verify(t.Context(), i.Token(options...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// verdict is the error of a verifier about a token.
func verdict(v *verify.Verifier, token string) error {
	_, err := v.Verify(context.Background(), token)
	return err
}

func TestATokenIsThatOfAFreshLogin(t *testing.T) {
	i := authtest.New(t)
	c := claims(t, i)
	if c.Issuer != i.URL || !slices.Equal(c.Audience, []string{i.Audience}) || c.Subject != "alice" || c.ClientID != "mobile" ||
		len(c.Roles) > 0 || c.Scope != "" || len(c.AMR) == 0 {
		t.Errorf("%+v", c)
	}
	if age := time.Since(c.IssuedAt); age < 0 || age > 10*time.Second || !c.AuthTime.Equal(c.IssuedAt) || c.ExpiresAt.Sub(c.IssuedAt) != 5*time.Minute {
		t.Errorf("issued at %v, until %v; login at %v", c.IssuedAt, c.ExpiresAt, c.AuthTime)
	}
	if p, ok := partition.OfSID(c.SessionID); !ok || p != partition.Of("alice") {
		t.Errorf("sid %q", c.SessionID)
	}
	if again := claims(t, i); again.ID == c.ID || again.SessionID == c.SessionID {
		t.Errorf("two logins: %+v and %+v", c, again)
	}
}

func TestOptionsSayWhatATokenSays(t *testing.T) {
	i := authtest.New(t)
	const sid = "uv.2F5uQdw0khr5SaFjY0mKKQ"
	for _, c := range []struct {
		name   string
		option authtest.Option
		is     func(*tokens.Claims) bool
	}{
		{"subject", authtest.Subject("bob"), func(c *tokens.Claims) bool {
			p, ok := partition.OfSID(c.SessionID)
			return c.Subject == "bob" && ok && p == partition.Of("bob")
		}},
		{"session", authtest.Session(sid), func(c *tokens.Claims) bool { return c.SessionID == sid }},
		{"client", authtest.Client("web"), func(c *tokens.Claims) bool { return c.ClientID == "web" }},
		{"roles", authtest.Roles("editor", "admin"), func(c *tokens.Claims) bool { return slices.Equal(c.Roles, []string{"editor", "admin"}) }},
		{"scope", authtest.Scope("notes:read", "notes:write"), func(c *tokens.Claims) bool { return c.Scope == "notes:read notes:write" }},
		{"audiences", authtest.Audience("https://a.example", i.Audience), func(c *tokens.Claims) bool { return len(c.Audience) == 2 }},
		{"any other", func(c *tokens.Claims) { c.AMR = []string{"hwk"} }, func(c *tokens.Claims) bool { return slices.Equal(c.AMR, []string{"hwk"}) }},
	} {
		if got := claims(t, i, c.option); !c.is(got) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if c := claims(t, i, authtest.Roles("editor"), authtest.Client("web")); c.ClientID != "web" || len(c.Roles) != 1 {
		t.Errorf("two options: %+v", c)
	}
}

func TestTheServicesAudienceIsTheTests(t *testing.T) {
	i := authtest.New(t)
	i.Audience = "https://notes.example.com"
	v, err := verify.New(verify.Config{Issuer: i.URL, Audience: "https://notes.example.com", Keys: i, Denied: i.Config().Denied})
	if err != nil {
		t.Fatal(err)
	}
	if err := verdict(v, i.Token()); err != nil {
		t.Error(err)
	}
	if err := verdict(i.Verifier(), i.Token()); err != nil {
		t.Error(err)
	}
}

func TestBadTokensAreRefusedForTheReasonTheyWereMadeFor(t *testing.T) {
	i := authtest.New(t)
	const sid, jti = "uv.2F5uQdw0khr5SaFjY0mKKQ", "aRCTNcWoh5fRsekaupDQ_A"
	same := func(c *tokens.Claims) { c.SessionID, c.ID = sid, jti }
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"expired", i.Token(authtest.Expired()), tokens.ErrExpired},
		{"for another audience", i.Token(authtest.Audience("https://elsewhere.example")), tokens.ErrClaims},
		{"forged", i.Forge(), tokens.ErrSignature},
		{"forged, with the claims of a good one", i.Forge(same), tokens.ErrSignature},
		{"another issuer's of the same name", authtest.New(t).Token(), tokens.ErrUnknownKey},
	} {
		if err := verdict(i.Verifier(), c.token); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := verdict(i.Verifier(), i.Token(same)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestRevokeEndsTheSessionAtOnce(t *testing.T) {
	i := authtest.New(t)
	v := i.Verifier()
	const sid = "uv.2F5uQdw0khr5SaFjY0mKKQ"
	first, second, other := i.Token(authtest.Session(sid)), i.Token(authtest.Session(sid)), i.Token()
	for _, token := range []string{first, second, other} {
		if err := verdict(v, token); err != nil {
			t.Fatal(err)
		}
	}
	i.Revoke(first)
	for name, token := range map[string]string{"the token": first, "one before": second, "one after": i.Token(authtest.Session(sid))} {
		if err := verdict(v, token); !errors.Is(err, verify.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verdict(v, other); err != nil {
		t.Errorf("of another session: %v", err)
	}
}

func TestFailLeavesNobodyWhoCanTell(t *testing.T) {
	i := authtest.New(t)
	v := i.Verifier()
	token, revoked, later := i.Token(), i.Token(), i.Token()
	i.Revoke(revoked)
	i.Fail()
	for name, token := range map[string]string{"a good one": token, "a revoked one": revoked, "one issued meanwhile": i.Token()} {
		if err := verdict(v, token); !errors.Is(err, verify.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := v.VerifyFor(t.Context(), verify.Policy{Otherwise: verify.AcceptUntilExpiry}, token); err != nil {
			t.Errorf("%s, where the policy accepts it: %v", name, err)
		}
	}
	if err := verdict(v, i.Token(authtest.Expired())); !errors.Is(err, tokens.ErrExpired) {
		t.Errorf("an expired one: %v", err)
	}
	i.Revoke(later)
	i.Recover()
	if err := verdict(v, token); err != nil {
		t.Errorf("recovered: %v", err)
	}
	for _, token := range []string{revoked, later} {
		if err := verdict(v, token); !errors.Is(err, verify.ErrDenied) {
			t.Errorf("revoked, and recovered: %v", err)
		}
	}
}

func TestRotatedKeysStayGoodAndDroppedOnesDoNot(t *testing.T) {
	i := authtest.New(t)
	v := i.Verifier()
	published := i.Config()
	published.Keys = fixed{i.KeySet()}
	early, err := verify.New(published)
	if err != nil {
		t.Fatal(err)
	}
	before := i.Token()
	c := claims(t, i)
	i.RotateKey()
	after := i.Token()
	if again := claims(t, i); again.KeyID == c.KeyID {
		t.Error("the same key signs")
	}
	for name, v := range map[string]*verify.Verifier{"now": v, "who has the keys of before": early} {
		if verdict(v, before) != nil || verdict(v, after) != nil {
			t.Errorf("%s: %v, %v", name, verdict(v, before), verdict(v, after))
		}
	}
	dropped := claims(t, i).KeyID
	i.DropKey()
	if err := verdict(v, after); !errors.Is(err, tokens.ErrUnknownKey) {
		t.Errorf("of the dropped key: %v", err)
	}
	if err := verdict(early, after); !errors.Is(err, verify.ErrDenied) {
		t.Errorf("of the dropped key, where it is still known: %v", err)
	}
	for _, v := range []*verify.Verifier{v, early} {
		if err := verdict(v, before); err != nil {
			t.Errorf("of the key before: %v", err)
		}
	}
	if now := claims(t, i).KeyID; now == dropped || now == c.KeyID {
		t.Errorf("%s signs", now)
	}
	for range 100 {
		i.RotateKey()
	}
	if err := verdict(v, i.Token()); err != nil {
		t.Errorf("after a hundred rotations: %v", err)
	}
}

// fixed is a key set that nobody fetches again.
type fixed struct{ keys *tokens.KeySet }

func (f fixed) KeySet() *tokens.KeySet { return f.keys }

// In a bubble nothing needs to be waited for but what is meant to take time.
func TestReplicaFollowsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := authtest.New(t)
		token, revoked, later := i.Token(), i.Token(), i.Token()
		i.Revoke(revoked)
		var mu sync.Mutex
		var troubles []error
		c := i.Config()
		c.Denied = nil
		c.Replica = verify.Follow(t.Context(), i, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			troubles = append(troubles, err)
		})
		v, err := verify.New(c)
		if err != nil {
			t.Fatal(err)
		}
		is := func(when string, wants ...error) {
			t.Helper()
			synctest.Wait()
			for n, token := range []string{token, revoked, later} {
				if err := verdict(v, token); !errors.Is(err, wants[n]) {
					t.Errorf("%s, token %d: %v", when, n, err)
				}
			}
		}
		denied, unavailable := verify.ErrDenied, verify.ErrUnavailable
		is("at first", nil, denied, nil)
		time.Sleep(time.Minute)
		is("a minute on", nil, denied, nil)
		if age := c.Replica.Age(); age > 200*time.Millisecond {
			t.Errorf("a replica of age %v", age)
		}
		i.Fail()
		is("failing", nil, denied, nil)
		i.Revoke(later)
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if err := verdict(v, later); errors.Is(err, denied) {
			t.Error("a replica hears of what was revoked while the issuer fails")
		}
		time.Sleep(200 * time.Millisecond)
		is("a second on", unavailable, denied, unavailable)
		time.Sleep(time.Minute)
		if len(troubles) != 1 {
			t.Errorf("trouble: %v", troubles)
		}
		i.Recover()
		is("recovered", nil, denied, denied)
		// A replica forgets a denial, but only after the last token has expired.
		young := i.Token(func(c *tokens.Claims) { c.ExpiresAt = c.IssuedAt.Add(time.Hour) })
		i.Revoke(young)
		time.Sleep(time.Hour + tokens.Leeway)
		synctest.Wait()
		if c.Replica.Len() == 0 {
			t.Error("forgotten while the token may still be accepted")
		}
		time.Sleep(3 * time.Minute)
		if n := c.Replica.Len(); n > 0 {
			t.Errorf("%d denied for ever", n)
		}
	})
}

// mistaken is a test that makes a mistake.
type mistaken struct {
	testing.TB
	fatal bool
}

func (m *mistaken) Fatalf(string, ...any) {
	m.fatal = true
	runtime.Goexit()
}

func TestMistakesEndTheTest(t *testing.T) {
	for name, mistake := range map[string]func(*authtest.Issuer){
		"revoke what is no token":    func(i *authtest.Issuer) { i.Revoke("") },
		"revoke a stranger's token":  func(i *authtest.Issuer) { i.Revoke(authtest.New(t).Token()) },
		"revoke a forged token":      func(i *authtest.Issuer) { i.Revoke(i.Forge()) },
		"an ill-formed session":      func(i *authtest.Issuer) { i.Token(authtest.Session("my session")) },
		"no subject":                 func(i *authtest.Issuer) { i.Token(authtest.Subject("")) },
		"no audience":                func(i *authtest.Issuer) { i.Token(authtest.Audience()) },
		"a life of more than 1 hour": func(i *authtest.Issuer) { i.Token(func(c *tokens.Claims) { c.ExpiresAt = c.ExpiresAt.Add(time.Hour) }) },
		"a verifier for nobody":      func(i *authtest.Issuer) { i.Audience = ""; i.Verifier() },
	} {
		m := &mistaken{TB: t}
		i := authtest.New(m)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			mistake(i)
		}()
		<-ended
		if !m.fatal {
			t.Errorf("%s: the test goes on", name)
		}
		i.Audience = i.URL
		i.Revoke(i.Token()) // no lock is held
	}
}

// The race detector looks on.
func TestConcurrentUse(t *testing.T) {
	i := authtest.New(t)
	replica := verify.Follow(t.Context(), i, nil)
	v := i.Verifier()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				token := i.Token(authtest.Roles("editor"))
				i.Fail()
				i.Recover()
				i.RotateKey()
				i.Revoke(token)
				if err := verdict(v, token); err == nil {
					t.Error("a revoked token is good")
				}
				i.DropKey()
				i.Forge()
				replica.Age()
			}
		})
	}
	all.Wait()
}

func TestMiddlewareAnswersAsItIsTold(t *testing.T) {
	i := authtest.New(t)
	handler := i.Verifier().Require(verify.Policy{Roles: []string{"editor"}, Strict: true})(http.NotFoundHandler())
	get := func(token string) int {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	token := i.Token(authtest.Roles("editor"))
	got := []int{get(token), get(i.Token()), get(strings.ToUpper(token))}
	i.Fail()
	got = append(got, get(token))
	i.Recover()
	got = append(got, get(token))
	i.Revoke(token)
	got = append(got, get(token))
	if want := []int{404, 403, 401, 503, 404, 401}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
