package faults_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/verify"
)

// A watcher is a service that verifies tokens by itself.
type watcher struct {
	name     string
	verifier *verify.Verifier
	replica  *verify.Replica

	accepted, denied, unsure atomic.Int64
}

// watch starts the services: one that follows each instance, and one that
// follows Redis.
func (d *deployment) watch(ctx context.Context) {
	add := func(name string, source verify.Source) {
		keys, err := verify.NewJWKS(ctx, verify.JWKSConfig{
			URL: "http://" + d.instances[0].proxy.addr + "/.well-known/jwks.json", Cooldown: time.Second,
		})
		if err != nil {
			d.t.Fatal(err)
		}
		w := &watcher{name: name, replica: verify.Follow(ctx, source, nil)}
		w.verifier, err = verify.New(verify.Config{Issuer: issuer, Audience: issuer, Keys: keys, Replica: w.replica})
		if err != nil {
			d.t.Fatal(err)
		}
		d.watchers = append(d.watchers, w)
	}
	for _, i := range d.instances {
		remote, err := verify.NewRemote(verify.RemoteConfig{
			URL: "http://" + i.proxy.addr + "/revocations", ClientID: followID, ClientSecret: followSecret,
			Client: &http.Client{Transport: &http.Transport{}},
		})
		if err != nil {
			d.t.Fatal(err)
		}
		add("follows "+i.addr, remote)
	}
	var client redis.UniversalClient
	eventually(d.t, "Redis is reached", func() bool {
		var err error
		client, err = redisconn.Open(ctx, d.url, redisconn.Options{PoolSize: 8})
		return err == nil
	})
	d.t.Cleanup(func() { client.Close() })
	add("follows Redis", denylist.New(client, "authapi"))
}

// verifyForever judges tokens of sessions that live, and of such that have
// ended. Whoever accepts a token says that it has heard of everything that was
// denied until a second ago: so there is no tolerance.
func (d *deployment) verifyForever(seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	for d.sleep(2 * time.Millisecond) {
		lives := d.record.all()
		if len(lives) == 0 {
			continue
		}
		// The newest are of interest, and now and then the others.
		at := len(lives) - 1 - rnd.IntN(min(len(lives), 60))
		if rnd.IntN(4) == 0 {
			at = rnd.IntN(len(lives))
		}
		d.verify(lives[at], rnd)
	}
}

func (d *deployment) verify(l *life, rnd *rand.Rand) {
	l.mu.Lock()
	token := l.access[max(0, len(l.access)-1-rnd.IntN(3))]
	told, issued := l.endTold, l.refreshed
	l.mu.Unlock()
	if rnd.IntN(10) == 0 {
		d.askService(l, token, rnd)
	}
	for _, w := range d.watchers {
		began := time.Now()
		_, err := w.verifier.Verify(context.Background(), token)
		switch {
		case err == nil:
			w.accepted.Add(1)
			if !told.IsZero() && began.Sub(told) > time.Second {
				d.acceptedDenied(l, w, began.Sub(told))
			}
		case errors.Is(err, verify.ErrDenied):
			w.denied.Add(1)
			l.refusedAccess(w.name, verify.Description(err))
		case errors.Is(err, verify.ErrUnavailable):
			w.unsure.Add(1)
		default:
			if !d.clockOff.Load() && time.Since(issued) < 4*time.Minute {
				d.record.problem("%s: %v", w.name, err)
			}
		}
	}
}

// askService sees whether the service itself takes a token. It has no second to
// hear of a revocation.
func (d *deployment) askService(l *life, token string, rnd *rand.Rand) {
	l.mu.Lock()
	told := l.endTold
	l.mu.Unlock()
	r, err := d.ask(d.anyInstance(rnd), http.MethodGet, "/me", "", bearer(token))
	switch {
	case err != nil || r.status == http.StatusServiceUnavailable:
	case r.status == http.StatusUnauthorized:
		l.refusedAccess("GET /me", r.About)
	case r.status != http.StatusOK:
		d.record.problem("GET /me: %d %s", r.status, r.Error)
	case r.SID != l.sid || r.Subject != l.sub:
		d.record.problem("GET /me with a token of %s, of %s: that is %s, of %s", l.sid, l.sub, r.SID, r.Subject)
	case !told.IsZero():
		l.mu.Lock()
		l.lost = "GET /me accepts its access token"
		l.mu.Unlock()
	}
}

// acceptedDenied counts a session once.
func (d *deployment) acceptedDenied(l *life, w *watcher, after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, counted := d.accepted[l]; !counted {
		d.accepted[l] = acceptance{w.name, after}
	}
}

// acceptance is a token that was accepted although its session had ended.
type acceptance struct {
	by    string
	after time.Duration
}
