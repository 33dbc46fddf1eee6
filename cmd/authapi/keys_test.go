package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// listed returns the ids of the keys that are in a state, the oldest first.
func (a *admin) listed(state string) []string {
	a.t.Helper()
	o := a.run("", "keys", "list").says(a.t, 0, "KEY", "ALGORITHM", "STATE", "PUBLISHED", "SIGNS FROM", "SIGNED UNTIL")
	var ids []string
	for line := range strings.Lines(o.stdout) {
		if row := strings.Fields(line); len(row) == 6 && row[2] == state {
			ids = append(ids, row[0])
		}
	}
	return ids
}

// key returns the only key in a state.
func (a *admin) key(state string) string {
	a.t.Helper()
	ids := a.listed(state)
	if len(ids) != 1 {
		a.t.Fatalf("%d keys are %s", len(ids), state)
	}
	return ids[0]
}

// signedBy returns the head of an access token, which names the key, as text.
func signedBy(t *testing.T, access string) string {
	t.Helper()
	head, _, _ := strings.Cut(access, ".")
	return fmt.Sprint(claims(t, "."+head+"."))
}

var instantForm = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

func TestKeys(t *testing.T) {
	t.Parallel()
	for name, backend := range map[string]func(testing.TB) *redistest.Server{
		"redis": redistest.Redis, "cluster": redistest.Cluster,
	} {
		t.Run(name, func(t *testing.T) {
			s := backend(t)
			a := &admin{t: t, environ: deployment(s)}
			for _, args := range []string{"list", "rotate", "drop x", "reseal"} {
				a.run("", append([]string{"keys"}, strings.Fields(args)...)...).says(t, 1, "no signing keys in Redis yet")
			}
			if got := snapshot(t, s.Client); name == "redis" && len(got) > 0 {
				t.Errorf("a command made %q", got)
			}
			administerKeys(t, s, a)
		})
	}
}

func administerKeys(t *testing.T, s *redistest.Server, a *admin) {
	addAlice(t, a.environ)
	one, two := launch(t, a.environ), launch(t, a.environ)
	one.up()
	two.up()
	began := s.Now()
	tokens := one.login("alice", alicesPassword).is(t, 200, "")
	a.secrets = append(a.secrets, tokens.Access, tokens.Refresh)
	current, next := a.key("current"), a.key("next")
	if !strings.Contains(signedBy(t, tokens.Access), current) {
		t.Errorf("%s did not sign %s", current, signedBy(t, tokens.Access))
	}
	jwks := one.send("GET", "/.well-known/jwks.json").body
	if !strings.Contains(jwks, current) || !strings.Contains(jwks, next) {
		t.Errorf("published %s", jwks)
	}

	// A new ring's next key is as young as the ring.
	o := a.run("", "keys", "rotate").says(t, 0, "A new key signs from ", "The old one verifies until")
	from, err := time.Parse(time.RFC3339, instantForm.FindString(o.stdout))
	must(t, err)
	if ahead := from.Sub(began); ahead < 14*time.Minute || ahead > 15*time.Minute+2*time.Second {
		t.Errorf("signs in %v: %s", ahead, o.stdout)
	}
	if a.key("current") != current || a.key("next") != next {
		t.Error("signs before every verifier can know it")
	}
	two.me(tokens.Access).is(t, 200, "")

	// The emergency.
	a.run("", "keys", "drop", "no-such-key").says(t, 1, "no key of that id")
	a.run("", "keys", "drop").says(t, 2, "number of arguments")
	a.run("", "keys", "rotate", "now").says(t, 2, "number of arguments")
	a.run("", "keys", "drop", current).says(t, 0, "Dropped.", "The key "+next+" signs now.")
	dropped := time.Now()
	for _, i := range []*instance{one, two} {
		eventually(t, "the token of the dropped key is refused", func() bool { return i.me(tokens.Access).status == 401 })
		i.me(tokens.Access).is(t, 401, "invalid_token")
	}
	if took := time.Since(dropped); took > 3*time.Second {
		t.Errorf("believed for %v", took)
	}
	for _, i := range []*instance{one, two} {
		tokens = i.refresh(tokens.Refresh).is(t, 200, "")
		if !strings.Contains(signedBy(t, tokens.Access), next) {
			t.Errorf("%s did not sign %s", next, signedBy(t, tokens.Access))
		}
		for _, at := range []*instance{one, two} {
			at.me(tokens.Access).is(t, 200, "")
		}
	}
	a.secrets = append(a.secrets, tokens.Access, tokens.Refresh)
	if a.key("current") != next || slices.Contains(a.listed("next"), next) || len(a.listed("next")) != 1 || len(a.listed("previous")) != 0 {
		t.Error("the ring is not what a drop leaves")
	}
	a.run("", "keys", "drop", current).says(t, 1, "no key of that id")
	a.run("", "keys", "reseal").says(t, 0, "sealed under the first secret")
	if a.key("current") != next {
		t.Error("resealing changed the key")
	}
	for _, i := range []*instance{one, two} {
		i.me(tokens.Access).is(t, 200, "")
		i.stop()
		noSecrets(t, i.stdout.String()+i.stderr.String(), a.secrets...)
	}
}

// The whole way from one secret to another, with nobody logged out.
func TestSecretIsReplaced(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	older, newer := b64(testSecret(1)), b64(testSecret(2))
	with := func(secrets string) *admin {
		return &admin{t: t, environ: deployment(s, "AUTHAPI_SECRET="+secrets)}
	}
	first, both, last := with(older), with(newer+","+older), with(newer)
	addAlice(t, first.environ)
	service := start(t, first.environ)
	tokens := service.login("alice", alicesPassword).is(t, 200, "")
	current := first.key("current")
	service.stop()
	first.run("", "check").says(t, 0, "opened with the secret")

	const warning = "sealed under a secret that is not the first; before you remove it, run: authapi keys reseal"
	service = start(t, both.environ)
	tokens = service.refresh(tokens.Refresh).is(t, 200, "")
	both.run("", "check").says(t, 0, "warn", warning)
	last.run("", "check").says(t, 1, "refuse  keys")
	last.run("", "keys", "reseal").says(t, 1, "sealed under another secret")
	both.run("", "keys", "reseal").says(t, 0, "They no longer need the others.")
	if o := both.run("", "check").says(t, 0, "opened with the secret"); strings.Contains(o.stdout, warning) {
		t.Errorf("still warns:\n%s", o.stdout)
	}
	service.me(tokens.Access).is(t, 200, "")
	service.stop()

	last.run("", "check").says(t, 0, "1 secret(s)", "opened with the secret")
	service = start(t, last.environ)
	service.me(tokens.Access).is(t, 200, "")
	tokens = service.refresh(tokens.Refresh).is(t, 200, "")
	service.me(tokens.Access).is(t, 200, "")
	if got := last.key("current"); got != current {
		t.Errorf("%s signs, and no longer %s", got, current)
	}
	first.run("", "keys", "list").says(t, 1, "sealed under another secret")
}

func TestSigningAlgorithms(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	addAlice(t, deployment(s))
	for _, alg := range []string{"EdDSA", "RS256"} {
		environ := deployment(s, "AUTHAPI_REDIS_PREFIX="+s.Prefix+alg, "AUTHAPI_SIGNING_ALGORITHM="+alg)
		addAlice(t, environ)
		service := start(t, environ)
		tokens := service.login("alice", alicesPassword).is(t, 200, "")
		if head := signedBy(t, tokens.Access); !strings.Contains(head, "alg:"+alg) {
			t.Errorf("%s: header %s", alg, head)
		}
		service.me(tokens.Access).is(t, 200, "")
		tokens = service.refresh(tokens.Refresh).is(t, 200, "")
		service.me(tokens.Access).is(t, 200, "")
		if jwks := service.send("GET", "/.well-known/jwks.json").body; strings.Count(jwks, `"alg":"`+alg+`"`) != 2 {
			t.Errorf("published %s", jwks)
		}
		execute(t, environ, "", "check").says(t, 0, "opened with the secret; "+alg+" key ")
		service.stop()
	}
}

func TestConfigOfKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, value string
		want        string // what is wrong; empty if nothing is
	}{
		{"AUTHAPI_SIGNING_ALGORITHM", "ES256", ""},
		{"AUTHAPI_SIGNING_ALGORITHM", "EdDSA", ""},
		{"AUTHAPI_SIGNING_ALGORITHM", "RS256", ""},
		{"AUTHAPI_SIGNING_ALGORITHM", "es256", "is none of ES256, EdDSA, RS256"},
		{"AUTHAPI_SIGNING_ALGORITHM", "none", "is none of"},
		{"AUTHAPI_SIGNING_ALGORITHM", "HS256", "is none of"},
		{"AUTHAPI_SIGNING_ALGORITHM", "ES256,RS256", "is none of"},
		{"AUTHAPI_SIGNING_ALGORITHM", "", "set, but empty"},
		{"AUTHAPI_KEY_ROTATION", "1h", ""},
		{"AUTHAPI_KEY_ROTATION", "8760h", ""},
		{"AUTHAPI_KEY_ROTATION", "59m59.999s", "not within 1h to 8760h"},
		{"AUTHAPI_KEY_ROTATION", "8760h0m1s", "not within 1h to 8760h"},
		{"AUTHAPI_KEY_ROTATION", "0", "not within"},
		{"AUTHAPI_KEY_ROTATION", "-720h", "not within"},
		{"AUTHAPI_KEY_ROTATION", "30", "not a duration"},
		{"AUTHAPI_KEY_ROTATION", "30d", "not a duration"},
		{"AUTHAPI_KEY_ROTATION", "", "set, but empty"},
	} {
		flag := "--" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(c.name, "AUTHAPI_"), "_", "-"))
		for source, given := range map[string]struct{ args, environ []string }{
			c.name: {nil, production(c.name + "=" + c.value)},
			flag:   {[]string{flag + "=" + c.value}, production()},
		} {
			got, _, err := loadConfig(given.args, given.environ, files{}.read, false)
			switch {
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), source+": ") || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s %q: %v", source, c.value, err)
				}
			case err != nil:
				t.Errorf("%s %q: %v", source, c.value, err)
			case c.name == "AUTHAPI_KEY_ROTATION":
				if want, _ := time.ParseDuration(c.value); got.ring().Schedule.Every != want {
					t.Errorf("%s %q: %v", source, c.value, got.ring().Schedule)
				}
			case got.ring().Schedule.Algorithm != c.value:
				t.Errorf("%s %q: %v", source, c.value, got.ring().Schedule)
			}
		}
	}
	c, _, err := loadConfig(nil, production(), files{}.read, false)
	if err != nil || c.signingAlgorithm != "ES256" || c.keyRotation != 720*time.Hour {
		t.Errorf("defaults %q and %v, %v", c.signingAlgorithm, c.keyRotation, err)
	}
}
