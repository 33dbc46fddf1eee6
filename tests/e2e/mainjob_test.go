package e2e_test

import (
	"testing"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

func TestMainJob(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		other := v.Login().OK(t)

		first := v.Login().OK(t)
		if first.ExpiresIn != 300 || first.RefreshExpiresIn != 14*24*3600 || first.SessionExpiresIn != 30*24*3600 {
			t.Errorf("a new session expires in %d, %d and %d s", first.ExpiresIn, first.RefreshExpiresIn, first.SessionExpiresIn)
		}
		me := v.Me(first.Access).OK(t)
		if me.Username != service.Username || me.Subject != v.Subject || me.ClientID != "mobile" {
			t.Errorf("/me: %s", me.Body)
		}
		second := v.Refresh(first.Refresh, "key-1-of-this-session").OK(t)
		third := v.Refresh(second.Refresh, "key-2-of-this-session").OK(t)
		v.Me(first.Access).OK(t) // a refresh does not break calls in flight
		v.Me(third.Access).OK(t)

		// A thief shows up. Nobody knows who of the two it is.
		v.Refresh(first.Refresh, "key-3-of-somebody-else").Is(t, 401, "invalid_grant reused")
		for _, access := range []string{first.Access, second.Access, third.Access} {
			v.Me(access).Is(t, 401, "invalid_token")
		}
		v.Refresh(third.Refresh, "key-4-of-this-session").Is(t, 401, "invalid_grant reused")
		v.Logout("", third.Refresh).OK(t) // of a session that is over

		// The other device does not notice.
		v.Me(other.Access).OK(t)
		renewed := v.Refresh(other.Refresh, "").OK(t)
		v.Logout(renewed.Access, "").OK(t)
		v.Refresh(renewed.Refresh, "").Is(t, 401, "invalid_grant ended")
		v.Me(renewed.Access).Is(t, 401, "invalid_token")
		v.Me(other.Access).Is(t, 401, "invalid_token")

		alarms := v.Log.Find("refresh token reused, session ended")
		if len(alarms) != 1 || alarms[0]["level"] != "WARN" || alarms[0]["sid"] != me.SID ||
			alarms[0]["sub"] != v.Subject || alarms[0]["client_id"] != "mobile" ||
			alarms[0]["presented"] != 0.0 || alarms[0]["current"] != 2.0 {
			t.Errorf("the audit log of the reuse: %v", alarms)
		}
	})
}

// Instances share nothing but Redis and the secret.
func TestTwoInstances(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		a, b := service.Start(t, s), service.Start(t, s)
		login := a.Login().OK(t)
		b.Me(login.Access).OK(t)
		next := b.Refresh(login.Refresh, "key-1-of-this-session").OK(t)
		if retry := a.Refresh(login.Refresh, "key-1-of-this-session").OK(t); retry.Refresh != next.Refresh {
			t.Error("a retry at the other instance got another successor")
		}
		a.Me(next.Access).OK(t)
		a.Logout(next.Access, "").OK(t)
		for _, v := range []*service.Service{a, b} {
			v.Me(next.Access).Is(t, 401, "invalid_token")
			v.Me(login.Access).Is(t, 401, "invalid_token")
			v.Refresh(next.Refresh, "").Is(t, 401, "invalid_grant ended")
		}
	})
}

func TestOldestSessionMakesRoom(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.With(func(c *api.Config) {
			mobile := c.Clients["mobile"]
			mobile.Policy.Sessions = 2
			c.Clients["mobile"] = mobile
		}))
		var logins []service.Answer
		for range 3 {
			logins = append(logins, v.Login().OK(t))
			s.Advance(10 * time.Millisecond) // of two of one millisecond neither is the oldest
		}
		first, second, third := logins[0], logins[1], logins[2]
		v.Me(first.Access).Is(t, 401, "invalid_token")
		v.Refresh(first.Refresh, "").Is(t, 401, "invalid_grant ended")
		v.Me(second.Access).OK(t)
		if n := len(v.List(third.Access)); n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
	})
}
