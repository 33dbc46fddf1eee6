// Package upgrade_test replaces what runs while it is used: programs, secrets,
// signing keys.
//
// Two instances of the program run as processes on one Redis, behind a proxy that
// follows /readyz as load balancers do. Clients refresh without a pause, half of them
// with Idempotency-Key and half without, and do what docs/mobile.md says when an answer
// is trouble: wait, and send the same again. A service verifies each access token
// with package verify, and hears of revocations over GET /revocations. Meanwhile
// instances are stopped and started one after the other. What must hold:
//
//   - every refresh ends in 200, and no session is lost;
//   - nothing is taken for a theft that is none, and what is one still is;
//   - the service refuses no good access token, and refuses what was revoked.
//
// How often a client had to ask again is counted and shown.
//
//	go test ./tests/upgrade -v -upgrade.rounds 20
package upgrade_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tests/program"
)

var rounds = flag.Int("upgrade.rounds", 1, "how often each change is made")

func TestMain(m *testing.M) { program.Main(m) }

const (
	shopSecret = "the-secret-of-a-shop,-which-is-long-enough-4711"

	// On a busy machine a client without a key may need more than the usual ten
	// seconds to ask again.
	clientsFile = `clients:
  - id: app
    type: public
    retry_window: 1m
  - id: shop
    type: confidential
    secret: file:shop.secret
    may_start_sessions: true
    may_follow_revocations: true
    session_limit: 1000
    retry_window: 1m
`
)

// deployment is two instances behind a proxy.
type deployment struct {
	t         *testing.T
	redis     *redistest.Server
	settings  []string // but not the secret
	balancer  *balancer
	instances [2]*program.Program
	stopped   []*program.Program
}

func newSecret() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

func deploy(t *testing.T, secret string, more ...string) *deployment {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{"clients.yaml": clientsFile, "shop.secret": shopSecret} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := &deployment{t: t, redis: redistest.Redis(t), balancer: newBalancer(t)}
	// The proxy asks every 50 ms; it should know before the listener closes.
	d.settings = program.Settings(d.redis, "AUTHAPI_CLIENTS_FILE="+filepath.Join(folder, "clients.yaml"),
		"AUTHAPI_LIMIT_REFRESH=off", "AUTHAPI_TRUSTED_PROXIES=127.0.0.0/8", "AUTHAPI_DRAIN=1s")
	d.settings = append(d.settings, more...)
	d.agedRing(secret)
	for i := range d.instances {
		d.start(i, secret)
	}
	return d
}

// agedRing makes the signing keys as if the deployment had begun an hour ago: the next
// key has been published for long enough to sign.
func (d *deployment) agedRing(secret string) {
	d.t.Helper()
	raw, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		d.t.Fatal(err)
	}
	d.redis.Advance(-time.Hour)
	defer d.redis.Advance(time.Hour)
	options := keyring.Options{Prefix: d.redis.Prefix, Secrets: [][]byte{raw}}
	if _, err := keyring.Open(d.t.Context(), d.redis.Client, options); err != nil {
		d.t.Fatal(err)
	}
}

func (d *deployment) start(i int, secrets ...string) {
	d.t.Helper()
	settings := append([]string{}, d.settings...)
	for j, s := range settings {
		if strings.HasPrefix(s, "AUTHAPI_SECRET=") {
			settings[j] = "AUTHAPI_SECRET=" + strings.Join(secrets, ",")
		}
	}
	d.instances[i] = program.Start(d.t, settings)
	d.balancer.set(i, d.instances[i].URL)
	d.eventually("an instance that the proxy uses", func() bool { return d.balancer.uses(i) })
}

// replace stops the instances one after the other, and starts others.
func (d *deployment) replace(load *load, secrets ...string) {
	d.t.Helper()
	for i, old := range d.instances {
		load.some(20)
		old.Stop()
		d.stopped = append(d.stopped, old)
		d.start(i, secrets...)
	}
	load.some(20)
}

func (d *deployment) command(args ...string) string {
	d.t.Helper()
	out, err := d.instances[0].Command("", args...)
	if err != nil {
		d.t.Fatalf("authapi %v: %v\n%s", args, err, out)
	}
	return out
}

func (d *deployment) eventually(what string, holds func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// events counts lines of all instances' logs.
func (d *deployment) events(msg string) (n int) {
	for _, p := range append(d.stopped, d.instances[:]...) {
		for line := range strings.Lines(p.Log()) {
			var l struct {
				Msg string `json:"msg"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == msg {
				n++
			}
		}
	}
	return n
}

// finish stops the load, and holds against each other what the clients and the
// instances have seen.
func (d *deployment) finish(l *load) {
	d.t.Helper()
	l.stop()
	for _, a := range l.away {
		l.refreshAway(a)
	}
	thefts := l.steal()
	if n := d.events("refresh token reused, session ended"); n != thefts {
		d.t.Errorf("the instances have noticed %d thefts, and there were %d", n, thefts)
	}
	d.t.Log(l.describe(), "; the proxy had nobody to ask:", d.balancer.nobody.Load(), "times")
	if l.refreshed.Load() < 100 {
		d.t.Errorf("%d refreshes are too few to prove anything", l.refreshed.Load())
	}
}

// Row 31: each instance is restarted in turn, and nobody is logged out.
func TestRow31RollingRestart(t *testing.T) {
	t.Parallel()
	secret := newSecret()
	d := deploy(t, secret)
	l := startLoad(d)
	for range *rounds {
		d.replace(l, secret)
	}
	d.finish(l)
}

// Row 31, for a proxy that learns of it late: the listener closes at once, and the
// clients have to ask again.
func TestRow31RestartWithoutDraining(t *testing.T) {
	t.Parallel()
	secret := newSecret()
	d := deploy(t, secret, "AUTHAPI_DRAIN=0s")
	d.balancer.every.Store(int64(300 * time.Millisecond))
	l := startLoad(d)
	for range 2 * *rounds {
		d.replace(l, secret)
	}
	d.finish(l)
}

// Row 29: the steps of docs/operations.md that replace the secret.
func TestRow29SecretRotatesByRestarts(t *testing.T) {
	t.Parallel()
	old := newSecret()
	d := deploy(t, old)
	l := startLoad(d)
	for range *rounds {
		next := newSecret()
		d.replace(l, old, next) // 1: append it everywhere
		d.replace(l, next, old) // 2: put it first everywhere
		if out := d.command("check"); !strings.Contains(out, "keys reseal") {
			t.Errorf("check does not warn that the keys are sealed under the old secret:\n%s", out)
		}
		d.command("keys", "reseal") // 3
		if out := d.command("check"); strings.Contains(out, "keys reseal") {
			t.Errorf("check warns although the keys are sealed under the new secret:\n%s", out)
		}
		// 4: whoever will come back has been here since step 2.
		for i := range l.away {
			l.away[i] = l.refreshAway(l.away[i])
		}
		l.everybody()
		d.replace(l, next)
		old = next
	}
	d.finish(l)
}

// Row 13: the signing keys change by command, while a service verifies.
func TestRow13KeysRotateByCommand(t *testing.T) {
	t.Parallel()
	secret := newSecret()
	d := deploy(t, secret)
	l := startLoad(d)
	l.some(20)
	first := l.signer()

	d.command("keys", "rotate")
	d.eventually("tokens of the second key", func() bool { return l.signer() != first })
	second := l.signer()
	l.some(20)

	// The first key is found to have leaked. Its tokens are refused, and those of the second are
	// not.
	old := l.tokenOf(first)
	l.drop(first)
	d.command("keys", "drop", first)
	d.eventually("the first key's token is refused", func() bool { return l.refuses(old) })
	l.some(20)

	// The second leaks too, and signs until now. Services know the third by then: it is published,
	// and they fetch the keys more often than a key waits.
	third := l.published(first, second)
	d.eventually("a service that knows the third key", func() bool { return l.knows(third) })
	old = l.tokenOf(second)
	l.drop(second)
	d.command("keys", "drop", second)
	d.eventually("the second key's token is refused", func() bool { return l.refuses(old) })
	d.eventually("tokens of the third key", func() bool { return l.signer() == third })
	l.some(20)

	// Restarted instances hold the same keys.
	d.replace(l, secret)
	if now := l.signer(); now != third {
		t.Errorf("after the restarts the key %s signs, and not %s", now, third)
	}
	d.finish(l)
}
