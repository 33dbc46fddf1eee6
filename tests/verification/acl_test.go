package verification_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// TestReadOnlyUser: the Redis user that docs/operations.md gives to services is
// enough to follow and to ask, and for nothing else.
func TestReadOnlyUser(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("`ACL SETUSER ([^`]+)`").FindStringSubmatch(string(text))
	if line == nil {
		t.Fatal("docs/operations.md has no ACL")
	}
	s := redistest.Redis(t)
	d := deploy(t, s, keyring.Schedule{})
	words := []any{"acl", "setuser"}
	for _, word := range strings.Fields(strings.NewReplacer(">…", ">password", "authapi:", s.Prefix+":").Replace(line[1])) {
		words = append(words, word)
	}
	if err := s.Client.Do(t.Context(), words...).Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{
		Network: "unix", Addr: s.Addrs()[0], Username: "notes", Password: "password", ContextTimeoutEnabled: true,
	})
	defer client.Close()
	list := denylist.New(client, s.Prefix)
	r := verify.Follow(t.Context(), list, func(err error) { t.Error(err) })
	eventually(t, promised+slack+promised, "the service follows", func() bool { return r.Age() < promised })

	login := d.a.Login().OK(t)
	c := &tokens.Claims{SessionID: d.a.Me(login.Access).OK(t).SID, ID: "x", KeyID: "y"}
	if denied, err := list.Denied(t.Context(), c); denied || err != nil {
		t.Errorf("Denied: %v, %v", denied, err)
	}
	if err := list.AddSession(t.Context(), c.SessionID); err == nil {
		t.Error("the service may deny")
	}
	for _, key := range []string{":keyring", ":{uv}:session:x", ":{uv}:account:alice"} {
		if err := client.Get(t.Context(), s.Prefix+key).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
			t.Errorf("read %s: %v", key, err)
		}
	}
}
