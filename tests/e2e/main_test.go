// Package e2e_test uses the service as clients do, over HTTP and on real
// storage, in good times and in bad ones. Everything said to the service here
// is also held against openapi.yaml, and its log is searched for secrets (see
// tests/service).
package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/tokens"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// each runs a test on the embedded server and on a real one at the same time.
func each(t *testing.T, f func(t *testing.T, s *redistest.Server)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		t.Parallel()
		f(t, s)
	})
}

// generation asks storage, behind the API's back, how often a session has been
// refreshed.
func generation(t *testing.T, v *service.Service, token string) uint32 {
	t.Helper()
	parsed, err := v.Sessions.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	s, err := v.Sessions.Get(context.Background(), parsed.SID())
	if err != nil {
		t.Fatal(err)
	}
	return s.Generation
}

// eventually waits for what happens a moment later.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 5 s", what)
		}
	}
}

// claimsOf are those of a user's access token, for tests that sign their own.
func claimsOf(me service.Answer) tokens.Claims {
	now := time.Now()
	return tokens.Claims{
		Issuer:    service.Issuer,
		Audience:  []string{service.Audience},
		Subject:   me.Subject,
		SessionID: me.SID,
		ClientID:  me.ClientID,
		ID:        "aRCTNcWoh5fRsekaupDQ_A",
		IssuedAt:  now,
		ExpiresAt: now.Add(5 * time.Minute),
		AuthTime:  now,
	}
}

func sign(t *testing.T, key *tokens.SigningKey, c tokens.Claims) string {
	t.Helper()
	token, err := key.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
