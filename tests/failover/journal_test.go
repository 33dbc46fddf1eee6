package failover_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tests/service"
)

// way is one of the ways to revoke.
type way struct {
	name string
	// login begins what end revokes.
	login func(v *service.Service) service.Answer
	end   func(v *service.Service, a service.Answer) service.Answer
	// refused is what a refresh is answered then; "" if the session goes on.
	refused string
}

const bob, bobsPassword = "bob", "bobs-long-password"

func asAlice(v *service.Service) service.Answer { return v.Login() }

var ways = []way{
	{"logout by access token", asAlice, func(v *service.Service, a service.Answer) service.Answer {
		return v.Logout(a.Access, "")
	}, "ended"},
	{"logout by refresh token", asAlice, func(v *service.Service, a service.Answer) service.Answer {
		return v.Logout("", a.Refresh)
	}, "ended"},
	{"refresh token revoked", asAlice, func(v *service.Service, a service.Answer) service.Answer {
		return v.Send(service.Form("/oauth/revoke", "token", a.Refresh))
	}, "ended"},
	{"access token revoked", asAlice, func(v *service.Service, a service.Answer) service.Answer {
		return v.Send(service.Form("/oauth/revoke", "token", a.Access))
	}, ""},
	{"one removed", asAlice, func(v *service.Service, a service.Answer) service.Answer {
		// The sid is in the token; /me refuses once the session has ended.
		return v.Send(service.Request{Method: http.MethodDelete, Path: "/sessions/" + sid(a), Bearer: a.Access})
	}, "ended"},
	{"all removed", func(v *service.Service) service.Answer { return v.LoginAs(bob, bobsPassword) }, func(v *service.Service, a service.Answer) service.Answer {
		return v.Send(service.Request{Method: http.MethodDelete, Path: "/sessions", Bearer: a.Access})
	}, "ended"},
	{"all ended by the client", func(v *service.Service) service.Answer { return v.StartSession("shopper-1") }, func(v *service.Service, _ service.Answer) service.Answer {
		return v.Send(service.Request{Method: http.MethodDelete, Path: "/users/shopper-1/sessions"}.AsShop())
	}, "ended"},
	{"reused", asAlice, func(v *service.Service, a service.Answer) service.Answer {
		// Twice, so that a key says that it is no retry.
		next := v.Refresh(a.Refresh, "key-one-of-this-session")
		if next.Status == 200 {
			v.Refresh(next.Refresh, "key-two-of-this-session")
		}
		return v.Refresh(a.Refresh, "the-key-of-the-thief")
	}, "reused"},
}

// done reports whether the revocation has been answered.
func (w way) done(a service.Answer) bool {
	if w.name == "reused" {
		return a.Status == 401 && a.Reason == "reused"
	}
	return a.Status == 200 || a.Status == 204
}

// begun is a session that is to end in some way.
type begun struct {
	way
	tokens service.Answer
}

func begin(t *testing.T, v *service.Service) []begun {
	t.Helper()
	v.AddUser(bob, bobsPassword)
	var all []begun
	for _, w := range ways {
		all = append(all, begun{w, w.login(v).OK(t)})
	}
	return all
}

// revoke ends them all, each at the next of the instances.
func revoke(t *testing.T, all []begun, instances ...*service.Service) {
	t.Helper()
	for i, b := range all {
		if a := b.end(instances[i%len(instances)], b.tokens); !b.done(a) {
			t.Fatalf("%s: %d %s %s", b.name, a.Status, a.Error, a.Reason)
		}
	}
}

// refused waits until every access token is refused. It changes nothing.
func refused(t *testing.T, v *service.Service, all []begun) {
	t.Helper()
	for _, b := range all {
		until(t, "refused: "+b.name, func() bool { return v.Me(b.tokens.Access).Status == 401 })
	}
}

// stand checks that nothing of what was revoked can be used.
func stand(t *testing.T, v *service.Service, all []begun) {
	t.Helper()
	for _, b := range all {
		v.Me(b.tokens.Access).Is(t, 401, "invalid_token")
		request := service.RefreshRequest(b.tokens.Refresh, "")
		if b.name == "all ended by the client" {
			request = request.AsShop()
		}
		got := v.Send(request)
		if b.refused == "" {
			got.OK(t)
			continue
		}
		if got.Status != 401 || got.Error != "invalid_grant" || got.Reason != b.refused {
			t.Errorf("%s: a refresh is answered %d %s %s", b.name, got.Status, got.Error, got.Reason)
		}
	}
}

// The primary fails together with everything of the last moments. One instance
// answered the revocations and is gone; the other has only heard of them.
func TestRow34FailoverThatLosesRevocations(t *testing.T) {
	t.Parallel()
	primary, replica := redistest.RedisTCP(t), redistest.RedisTCP(t)
	link := redistest.Replicate(t, primary.Addrs()[0], replica)
	url := "sentinel://" + redistest.Sentinel(t, primary, 500*time.Millisecond) + "/mymaster"
	dies := service.Start(t, primary, service.Through(open(t, url))) // asserts nothing
	lives := service.Start(t, primary, service.Through(open(t, url)), service.Live(keyring.Schedule{}))

	kept := lives.Login().OK(t)
	all := begin(t, dies)
	until(t, "the replica knows of the sessions", func() bool {
		return len(replica.Client.Keys(t.Context(), "*:session:*").Val()) > len(all)
	})
	link.Cut()
	revoke(t, all, dies, lives)
	lost := lives.Login().OK(t)
	next := lives.Refresh(lives.Refresh(kept.Refresh, "").OK(t).Refresh, "").OK(t)
	until(t, "the other instance has heard", func() bool { return lives.Journal.Len() >= len(all) })

	primary.Pause()
	_, port, _ := net.SplitHostPort(replica.Addrs()[0])
	until(t, "the replica is promoted", func() bool {
		return strings.Contains(lives.Redis.Info(t.Context(), "server").Val(), "tcp_port:"+port)
	})
	reachable := time.Now()
	refused(t, lives, all)
	took := time.Since(reachable)
	t.Logf("asserted %v after the new primary was reachable: %+v", took, lives.Journal.Totals())
	if took > 2*time.Second+slack {
		t.Errorf("took %v", took)
	}
	stand(t, lives, all)
	if lives.Journal.Totals().Sessions == 0 {
		t.Error("nothing had to be asserted: the replica knew")
	}
	// Nobody else suffers, but who began after what is left.
	lives.Refresh(next.Refresh, "").OK(t)
	lives.Refresh(lost.Refresh, "").Is(t, 401, "invalid_grant expired")
}

// A thief is caught, and then a snapshot brings the session back.
func TestRow23SnapshotFromBeforeTheTheft(t *testing.T) {
	t.Parallel()
	s := redistest.RedisTCP(t)
	v := service.Start(t, s, service.Live(keyring.Schedule{}))
	all := begin(t, v)
	stolen := v.Login().OK(t)
	owner := v.Refresh(v.Refresh(stolen.Refresh, "key-one-of-this-session").OK(t).Refresh, "key-two-of-this-session").OK(t)
	kept := v.Login().OK(t)
	s.Snapshot()
	revoke(t, all, v)
	next := v.Refresh(kept.Refresh, "").OK(t)
	owner = v.Refresh(owner.Refresh, "key-three-of-this-session").OK(t)
	v.Refresh(stolen.Refresh, "the-key-of-the-thief").Is(t, 401, "invalid_grant reused")
	newer := v.Login().OK(t)
	v.Logout(newer.Access, "").OK(t)

	s.Restore()
	refused(t, v, append(all, begun{way{name: "newer than the snapshot"}, newer}, begun{way{name: "stolen"}, stolen}))
	stand(t, v, all)
	for range 2 {
		v.Refresh(stolen.Refresh, "the-key-of-the-thief").Is(t, 401, "invalid_grant reused")
	}
	v.Refresh(owner.Refresh, "").Is(t, 401, "invalid_grant reused")
	v.Refresh(newer.Refresh, "").Is(t, 401, "invalid_grant expired")
	v.Refresh(next.Refresh, "").OK(t)
	t.Logf("%+v", v.Journal.Totals())
}
