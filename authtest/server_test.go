package authtest_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/authapi/authapi/authtest"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// wired is a service's verifier, which has everything over HTTP.
func wired(t *testing.T, i *authtest.Issuer) *verify.Verifier {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	keys, err := verify.NewJWKS(ctx, verify.JWKSConfig{Issuer: i.URL})
	if err != nil {
		t.Fatal(err)
	}
	feed, err := verify.NewRemote(verify.RemoteConfig{
		URL: i.URL + "/revocations", ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret,
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(verify.Config{
		Issuer: i.URL, Audience: i.URL, Keys: keys, Replica: verify.Follow(ctx, feed, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// until waits for a verdict, nil for acceptance.
func until(t *testing.T, v *verify.Verifier, p verify.Policy, token string, want error) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		_, err := v.VerifyFor(context.Background(), p, token)
		if errors.Is(err, want) {
			return
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%v, want %v", err, want)
		}
	}
}

func TestServerIsTheIssuerOverHTTP(t *testing.T) {
	i := authtest.NewServer(t)
	revoked, token, later := i.Token(), i.Token(), i.Token()
	i.Revoke(revoked)
	v := wired(t, i)
	known := verify.Policy{}
	until(t, v, known, token, nil)
	until(t, v, known, revoked, verify.ErrDenied)
	i.Revoke(later)
	until(t, v, known, later, verify.ErrDenied)

	i.RotateKey()
	if err := verdict(v, i.Token()); errors.Is(err, tokens.ErrUnknownKey) {
		t.Error("the key was not published before it signed")
	}

	i.Fail()
	meanwhile := i.Token()
	until(t, v, known, token, verify.ErrUnavailable)
	i.Revoke(meanwhile)
	fresh := wired(t, i)
	until(t, fresh, verify.Policy{Otherwise: verify.AcceptUntilExpiry}, token, nil) // it has keys
	until(t, fresh, known, token, verify.ErrUnavailable)
	i.Recover()
	until(t, v, known, token, nil)
	until(t, fresh, known, token, nil)
	until(t, v, known, meanwhile, verify.ErrDenied)

	leaked := i.Token()
	i.DropKey()
	until(t, v, known, leaked, verify.ErrDenied) // although its keys are those of the beginning
	until(t, v, known, token, nil)
}

func TestServerKnowsItsClient(t *testing.T) {
	i := authtest.NewServer(t)
	for _, c := range []struct {
		id, secret string
		want       int
	}{
		{authtest.ClientID, authtest.ClientSecret, 200},
		{authtest.ClientID, "", 401},
		{authtest.ClientID, "another", 401},
		{"another", authtest.ClientSecret, 401},
		{"", "", 401},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.URL+"/revocations", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.id != "" {
			r.SetBasicAuth(c.id, c.secret)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.want || (c.want == 401) != (res.Header.Get("WWW-Authenticate") != "") {
			t.Errorf("%q, %q: %d %v", c.id, c.secret, res.StatusCode, res.Header)
		}
	}
}

// A reader that stays does not keep a test from ending.
func TestServerEndsWithTheTest(t *testing.T) {
	var url string
	ended := make(chan struct{})
	t.Run("with a reader", func(t *testing.T) {
		i := authtest.NewServer(t)
		url = i.URL
		r, err := http.NewRequest(http.MethodGet, url+"/revocations", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(authtest.ClientID, authtest.ClientSecret)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(res.Body)
		if !lines.Scan() {
			t.Fatal("no frame")
		}
		go func() {
			defer close(ended)
			defer res.Body.Close()
			for lines.Scan() { // until the server ends
			}
		}()
	})
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the stream goes on")
	}
	if res, err := http.Get(url + "/.well-known/jwks.json"); err == nil {
		res.Body.Close()
		t.Error("the server goes on")
	}
}
