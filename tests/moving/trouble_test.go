package moving_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// serviceIsDown: nobody is logged out. The guarded route goes on for the
// second that its policy allows, and then says that it cannot tell.
func serviceIsDown(t *testing.T, d *deployment) {
	b, fresh := in(t, d.a), &browser{t: t}
	b.me(d.b).is(t, http.StatusOK)
	key := "one for all attempts"

	d.service.kill()
	down := time.Now()
	answered, until := 0, time.Duration(0)
	var a answer
	for time.Since(down) < 5*time.Second {
		asked := time.Since(down)
		if a = b.meNow(d.b); a.Status != http.StatusOK {
			break
		}
		answered, until = answered+1, asked
	}
	a.trouble(t)
	if answered == 0 || until > promised+100*time.Millisecond+slack {
		t.Errorf("%d requests were let in, until %v after the service was down", answered, until)
	}
	t.Logf("let in %d requests within %v", answered, until.Round(time.Millisecond))

	for _, p := range []*program{d.a, d.b} {
		b.refresh(p, key).trouble(t)
		b.logout(p).trouble(t)
		b.login(p).trouble(t)
		fresh.login(p).trouble(t)
		// What needs nobody is answered all the same.
		fresh.refresh(p, key).is(t, http.StatusUnauthorized)
		fresh.logout(p).is(t, http.StatusOK)
	}
	if log := d.a.log.String(); !strings.Contains(log, "the token service does not answer") {
		t.Errorf("the log does not say what is wrong:\n%s", log)
	}

	if !d.service.start() {
		t.Fatalf("the service does not come back:\n%s", d.service.log)
	}
	d.wait(d.a)
	d.wait(d.b)
	b.me(d.b).is(t, http.StatusOK)
	b.refresh(d.b, key).is(t, http.StatusOK)
	b.me(d.a).is(t, http.StatusOK)
	b.logout(d.a).is(t, http.StatusOK)
}

// serviceHangs: it accepts connections and does not answer.
func serviceHangs(t *testing.T, d *deployment) {
	b := in(t, d.a)
	d.service.pause()
	since := time.Now()
	b.refresh(d.a, "key").trouble(t)
	if took := time.Since(since); took > 8*time.Second {
		t.Errorf("a refresh takes %v while the service hangs", took)
	}
	b.meNow(d.b).trouble(t) // the refresh has taken longer than a copy is good for
	d.service.resume()
	d.wait(d.b)
	// Whatever the service makes of the requests that waited for it, the
	// same key gets the same successor.
	b.refresh(d.b, "key").is(t, http.StatusOK)
	b.me(d.b).is(t, http.StatusOK)
}

// redisIsDown: the service itself answers 503 then.
func redisIsDown(t *testing.T, d *deployment) {
	b := in(t, d.a)
	d.redis.Pause()
	b.refresh(d.a, "key").trouble(t)
	b.logout(d.a).trouble(t)
	b.login(d.a).trouble(t)
	b.meNow(d.b).trouble(t)
	d.redis.Resume()
	d.wait(d.b)
	eventually(t, patience, "the service has recovered", func() bool { return b.refresh(d.b, "key").Status == http.StatusOK })
	b.me(d.b).is(t, http.StatusOK)
}

// wrongSecret: what the operator has got wrong is no reason to log anybody
// out either.
func wrongSecret(t *testing.T, d *deployment) {
	b := in(t, d.a)
	p := d.node(d.name, applications[d.name], anywhere, "CLIENT_SECRET=another")
	b.refresh(p, "key").trouble(t)
	b.login(p).trouble(t)
	b.meNow(p).trouble(t)
	b.refresh(d.a, "key").is(t, http.StatusOK)
}
