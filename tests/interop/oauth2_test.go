package interop_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// mobile is a public client: it has a name and no secret.
func mobile(v *service.Service, style oauth2.AuthStyle) *oauth2.Config {
	return &oauth2.Config{
		ClientID: "mobile",
		Endpoint: oauth2.Endpoint{TokenURL: v.URL + "/oauth/token", AuthStyle: style},
	}
}

// shop is a confidential client.
func shop(v *service.Service, style oauth2.AuthStyle) *oauth2.Config {
	return &oauth2.Config{
		ClientID:     service.Shop,
		ClientSecret: service.ShopSecret,
		Endpoint:     oauth2.Endpoint{TokenURL: v.URL + "/oauth/token", AuthStyle: style},
	}
}

// kept is what a client has in its store the next day.
func kept(a service.Answer) *oauth2.Token {
	return &oauth2.Token{AccessToken: a.Access, RefreshToken: a.Refresh, Expiry: time.Now().Add(-time.Hour)}
}

// impatient refreshes at each call. One without this does so when the access
// token has ten seconds left.
func impatient(source oauth2.TokenSource) oauth2.TokenSource {
	return oauth2.ReuseTokenSourceWithExpiry(nil, source, time.Hour)
}

// is fails the test if the error is not a response with this status and code.
func is(t *testing.T, err error, status int, code string) {
	t.Helper()
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		t.Errorf("%v (%T), want %d %s", err, err, status, code)
	} else if refused.Response.StatusCode != status || refused.ErrorCode != code || refused.ErrorDescription == "" {
		t.Errorf("%s: %v, want %d %s", refused.Response.Status, err, status, code)
	}
}

// The client of a user's program: it calls an API, and the rest happens by
// itself.
func TestOAuth2Client(t *testing.T) {
	v := start(t, redistest.Redis(t))
	login := v.Login().OK(t)
	client := mobile(v, oauth2.AuthStyleInParams).Client(t.Context(), kept(login))
	for range 3 {
		res, err := client.Get(v.URL + "/me")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("GET /me: %s", res.Status)
		}
	}
	if g := generation(t, v, login.Refresh); g != 1 {
		t.Errorf("%d refreshes, want 1", g)
	}
}

// A chain of refreshes, in every style in which a client may authenticate. A
// public client that is left to find its style tries an empty secret first; that
// must spend nothing.
func TestOAuth2Refreshes(t *testing.T) {
	v := start(t, redistest.Redis(t))
	for name, c := range map[string]struct {
		config *oauth2.Config
		login  service.Answer
		scope  string
	}{
		"public":                {mobile(v, oauth2.AuthStyleInParams), v.Login(), ""},
		"public, auto-detected": {mobile(v, oauth2.AuthStyleAutoDetect), v.Login(), ""},
		"secret in the header":  {shop(v, oauth2.AuthStyleInHeader), v.StartSession("42"), service.ShopScope},
		"secret in the body":    {shop(v, oauth2.AuthStyleInParams), v.StartSession("42"), service.ShopScope},
		"secret, auto-detected": {shop(v, oauth2.AuthStyleAutoDetect), v.StartSession("42"), service.ShopScope},
	} {
		t.Run(name, func(t *testing.T) {
			const refreshes = 5
			source := impatient(c.config.TokenSource(t.Context(), kept(c.login.OK(t))))
			seen := map[string]bool{c.login.Access: true, c.login.Refresh: true}
			for range refreshes {
				token, err := source.Token()
				if err != nil {
					t.Fatal(err)
				}
				if seen[token.AccessToken] || seen[token.RefreshToken] {
					t.Error("a token came twice")
				}
				seen[token.AccessToken], seen[token.RefreshToken] = true, true
				if lives := time.Until(token.Expiry); token.Type() != "Bearer" || lives < 4*time.Minute || lives > 5*time.Minute {
					t.Errorf("%s for %v, want Bearer for 5m", token.Type(), lives)
				}
				if scope := token.Extra("scope"); scope != c.scope {
					t.Errorf("scope %q, want %q", scope, c.scope)
				}
				if id := v.Me(token.AccessToken).OK(t).ClientID; id != c.config.ClientID {
					t.Errorf("client_id %q", id)
				}
			}
			if g := generation(t, v, c.login.Refresh); g != refreshes {
				t.Errorf("%d refreshes, want %d", g, refreshes)
			}
		})
	}
}

// One process, many goroutines: one refresh serves all.
func TestOAuth2Goroutines(t *testing.T) {
	v := start(t, redistest.Redis(t))
	login := v.Login().OK(t)
	source := mobile(v, oauth2.AuthStyleInParams).TokenSource(t.Context(), kept(login))
	tokens := together(t, 20, func(int) (*oauth2.Token, error) { return source.Token() })
	for _, token := range tokens {
		if token.AccessToken != tokens[0].AccessToken || token.AccessToken == login.Access {
			t.Error("not one new token for all")
		}
	}
	v.Me(tokens[0].AccessToken).OK(t)
	if g := generation(t, v, login.Refresh); g != 1 {
		t.Errorf("%d refreshes, want 1", g)
	}
}

// Two processes have the same refresh token and use it at the same moment. The
// second one gets the same successor, not an alarm, while the retry window lasts.
// After that the token counts as stolen: processes that go on for long must share
// what they get.
func TestOAuth2Processes(t *testing.T) {
	s := redistest.Redis(t)
	v := start(t, s)
	const sessions, rounds = 5, 3
	var sources [2]oauth2.TokenSource
	for range sessions {
		login := v.Login().OK(t)
		for i := range sources {
			sources[i] = impatient(mobile(v, oauth2.AuthStyleInParams).TokenSource(t.Context(), kept(login)))
		}
		for range rounds {
			tokens := together(t, len(sources), func(i int) (*oauth2.Token, error) { return sources[i].Token() })
			if tokens[0].RefreshToken != tokens[1].RefreshToken {
				t.Error("two successors")
			}
			for _, token := range tokens {
				v.Me(token.AccessToken).OK(t)
			}
		}
		if g := generation(t, v, login.Refresh); g != rounds {
			t.Errorf("%d refreshes, want %d", g, rounds)
		}
	}

	if _, err := sources[0].Token(); err != nil {
		t.Fatal(err)
	}
	s.Advance(time.Minute)
	_, err := sources[1].Token()
	is(t, err, http.StatusBadRequest, "invalid_grant")
	_, err = sources[0].Token()
	is(t, err, http.StatusBadRequest, "invalid_grant")
}

// invalid_grant means that the session is over, and nothing else looks like it.
func TestOAuth2Errors(t *testing.T) {
	s := redistest.Redis(t)
	v := start(t, s)
	login := v.StartSession("42").OK(t)
	good := shop(v, oauth2.AuthStyleInHeader)

	wrong := *good
	wrong.ClientSecret = "not " + service.ShopSecret
	_, err := wrong.TokenSource(t.Context(), kept(login)).Token()
	is(t, err, http.StatusUnauthorized, "invalid_client")

	source := impatient(good.TokenSource(t.Context(), kept(login)))
	s.Pause()
	_, err = source.Token()
	is(t, err, http.StatusServiceUnavailable, "temporarily_unavailable")
	s.Resume()
	// The same source goes on: it has kept its refresh token.
	token, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}

	v.Logout(token.AccessToken, "").OK(t)
	_, err = source.Token()
	is(t, err, http.StatusBadRequest, "invalid_grant")
	// Why it is over is in the body.
	if refused := (*oauth2.RetrieveError)(nil); !errors.As(err, &refused) || !strings.Contains(string(refused.Body), `"reason":"ended"`) {
		t.Errorf("%v", err)
	}
}

// The service has refreshed and the answer is lost: no response, so no
// RetrieveError, and the next attempt gets what was lost.
func TestOAuth2LostAnswer(t *testing.T) {
	v := start(t, redistest.Redis(t))
	login := v.Login().OK(t)
	network := &lossy{}
	network.lose.Store(1)
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: network})
	source := mobile(v, oauth2.AuthStyleInParams).TokenSource(ctx, kept(login))
	if _, err := source.Token(); !errors.Is(err, errLost) || errors.As(err, new(*oauth2.RetrieveError)) {
		t.Fatalf("%v, want %v", err, errLost)
	}
	if g := generation(t, v, login.Refresh); g != 1 {
		t.Fatalf("%d refreshes, want 1", g)
	}
	token, err := source.Token()
	if err != nil {
		t.Fatal(err)
	}
	v.Me(token.AccessToken).OK(t)
	if g := generation(t, v, login.Refresh); g != 1 {
		t.Errorf("%d refreshes, want 1", g)
	}
}

// together calls f n times at the same moment, and ends the test if one fails.
func together(t *testing.T, n int, f func(i int) (*oauth2.Token, error)) []*oauth2.Token {
	t.Helper()
	tokens, begin := make([]*oauth2.Token, n), make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-begin
			var err error
			if tokens[i], err = f(i); err != nil {
				t.Error(err)
			}
		})
	}
	close(begin)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return tokens
}

// lossy loses the answers to the first requests.
type lossy struct{ lose atomic.Int64 }

var errLost = errors.New("the answer was lost")

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && l.lose.Add(-1) >= 0 {
		res.Body.Close()
		return nil, errLost
	}
	return res, err
}
