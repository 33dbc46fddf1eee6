// Package failover_test takes Redis away from running instances and gives them
// another one: a replica that has not heard of everything, the same with an older
// state, or one that answers nothing but errors. What instances have answered must
// hold all the same.
package failover_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

func TestMain(m *testing.M) {
	redisconn.SetLogger(nil)
	redistest.Main(m)
}

func open(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	var client redis.UniversalClient
	// Opening tries once, and a machine that does other things too may be slow.
	until(t, "Redis is reached", func() (is bool) {
		var err error
		client, err = redisconn.Open(t.Context(), url, redisconn.Options{})
		return err == nil
	})
	t.Cleanup(func() { client.Close() })
	return client
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happened that %s", what)
		}
	}
}

// trouble is what must be answered instead of anything that would make a client
// drop its tokens.
func trouble(t *testing.T, a service.Answer) {
	t.Helper()
	a.Is(t, 503, "temporarily_unavailable")
	if a.Header.Get("Retry-After") == "" {
		t.Errorf("%s: no Retry-After", a.Route)
	}
	if a.Took > 2*time.Second+slack {
		t.Errorf("%s: took %v", a.Route, a.Took)
	}
}

// slack is for a machine that does other things too.
const slack = 2 * time.Second

// sid reads the session's id from an access token.
func sid(a service.Answer) string {
	_, rest, _ := strings.Cut(a.Access, ".")
	body, _, _ := strings.Cut(rest, ".")
	claims, _ := base64.RawURLEncoding.DecodeString(body)
	var c struct{ SID string }
	_ = json.Unmarshal(claims, &c)
	return c.SID
}
