package failover_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// With AUTHAPI_REVOCATION_REPLICAS no revocation is answered that a replica has
// not acknowledged, and none that was answered is lost with the primary, even if
// all instances are lost with it.
func TestRow34RevocationsWaitForReplicas(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.RedisTCP(t), redistest.RedisTCP(t)
	link := redistest.Replicate(t, primary.Addrs()[0], replica)
	v := service.Start(t, primary, service.AcknowledgedBy(1))
	kept := v.Login().OK(t)
	all := begin(t, v)

	phone, laptop := v.StartSession("shopper-2").OK(t), v.StartSession("shopper-2").OK(t)
	link.Hold(time.Minute)
	for round := range 2 {
		var ends sync.WaitGroup
		for _, b := range all {
			// The second time all has ended, and still nobody has heard of it.
			if round == 1 && needsAccess(b.way) {
				continue // which is refused by now
			}
			ends.Go(func() { trouble(t, b.end(v, b.tokens)) })
		}
		ends.Wait()
	}
	remove := service.Request{Method: http.MethodDelete, Path: "/sessions/" + sid(phone), Bearer: laptop.Access}
	for range 2 {
		trouble(t, v.Send(remove))
	}
	// Who revokes nothing does not wait.
	kept = v.Refresh(kept.Refresh, "").OK(t)
	v.Login().OK(t)
	if took := v.Me(kept.Access).OK(t).Took; took > time.Second {
		t.Errorf("/me took %v", took)
	}
}

func needsAccess(w way) bool { return w.name == "one removed" || w.name == "all removed" }

// What was answered is there when the primary and every instance are gone.
func TestRow34AcknowledgedRevocationsOutliveThePrimary(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.RedisTCP(t), redistest.RedisTCP(t)
	link := redistest.Replicate(t, primary.Addrs()[0], replica)
	link.Hold(50 * time.Millisecond) // so that waiting makes a difference
	v := service.Start(t, primary, service.AcknowledgedBy(1))
	kept := v.Login().OK(t)
	all := begin(t, v)
	for _, b := range all {
		if a := b.end(v, b.tokens); !b.done(a) {
			t.Fatalf("%s: %d %s %s", b.name, a.Status, a.Error, a.Reason)
		}
	}
	link.Cut()
	primary.Kill()
	if err := replica.Client.Do(t.Context(), "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	replica.Prefix = primary.Prefix
	after := service.Start(t, replica)
	stand(t, after, all)
	after.Refresh(kept.Refresh, "").OK(t)
}

// There are not as many replicas as are asked for: that is said at once, not at
// the end of the time that a request has.
func TestTooFewReplicas(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.RedisTCP(t), redistest.RedisTCP(t)
	redistest.Replicate(t, primary.Addrs()[0], replica)
	v := service.Start(t, primary, service.AcknowledgedBy(2))
	for _, b := range begin(t, v) {
		a := b.end(v, b.tokens)
		trouble(t, a)
		if a.Took > time.Second {
			t.Errorf("%s: took %v", b.name, a.Took)
		}
	}
}
