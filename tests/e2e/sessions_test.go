package e2e_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

func remove(access, path string) service.Request {
	return service.Request{Method: http.MethodDelete, Path: path, Bearer: access}
}

func TestListOfSessions(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		old := v.Send(service.JSON("/login", object("username", service.Username, "password", service.Password, "device", "Pixel 9"))).OK(t)
		s.Advance(2 * time.Second) // apart, and not so far that the token is of the future
		login := v.Login().OK(t)
		ended := v.Login().OK(t)
		v.Logout(ended.Access, "").OK(t)

		list := v.List(login.Access)
		want := []service.Session{
			{SID: v.Me(login.Access).OK(t).SID, Current: true},
			{SID: v.Me(old.Access).OK(t).SID, Device: "Pixel 9"},
		}
		if len(list) != 2 || list[0] != want[0] || list[1] != want[1] {
			t.Errorf("got %+v, want %+v", list, want)
		}
	})
}

func TestEndSessions(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a, b, c := v.Login().OK(t), v.Login().OK(t), v.Login().OK(t)
		sidOf := func(x service.Answer) string { return v.Me(x.Access).OK(t).SID }

		sid := sidOf(b)
		v.Send(remove(a.Access, "/sessions/"+sid)).OK(t)
		v.Me(b.Access).Is(t, 401, "invalid_token")
		v.Refresh(b.Refresh, "").Is(t, 401, "invalid_grant ended")
		v.Send(remove(a.Access, "/sessions/"+sid)).Is(t, 404, "not_found")

		v.Send(remove(a.Access, "/sessions?except=current")).OK(t)
		v.Me(c.Access).Is(t, 401, "invalid_token")
		v.Me(a.Access).OK(t)
		v.Send(remove(a.Access, "/sessions?except=current")).OK(t)

		d := v.Login().OK(t)
		v.Send(remove(a.Access, "/sessions")).OK(t)
		for _, x := range []service.Answer{a, d} {
			v.Me(x.Access).Is(t, 401, "invalid_token")
			v.Refresh(x.Refresh, "").Is(t, 401, "invalid_grant ended")
		}

		e := v.Login().OK(t)
		v.Send(remove(e.Access, "/sessions/"+sidOf(e))).OK(t) // one's own
		v.Me(e.Access).Is(t, 401, "invalid_token")
	})
}

// Whoever wants to keep a session and misspells that must not lose it.
func TestEndSessionsMisspelled(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		a, b := v.Login().OK(t), v.Login().OK(t)
		for _, query := range []string{
			"except=", "except", "except=Current", "except=current&except=current", "except=current;x", "except=%zz", "%zz=current", "except=current%00",
		} {
			v.Send(remove(a.Access, "/sessions?"+query)).Is(t, 400, "invalid_request")
		}
		v.Me(a.Access).OK(t)
		v.Me(b.Access).OK(t)
	})
}

// Redis came back from before the login and knows nothing of the session. Its
// access tokens still open doors, and their owner must be able to shut them.
func TestEndSessionThatRedisLost(t *testing.T) {
	for name, request := range map[string]func(service.Answer) service.Request{
		"by id":          func(me service.Answer) service.Request { return remove("", "/sessions/"+me.SID) },
		"all":            func(service.Answer) service.Request { return remove("", "/sessions") },
		"by logging out": func(service.Answer) service.Request { return service.Request{Method: http.MethodPost, Path: "/logout"} },
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *redistest.Server) {
				v := service.Start(t, s)
				login := v.Login().OK(t)
				me := v.Me(login.Access).OK(t)
				p, _ := partition.OfSID(me.SID)
				keys := partition.Keys{Prefix: s.Prefix}
				if n, err := v.Redis.Del(context.Background(), keys.Session(p, me.SID), keys.User(v.Subject)).Result(); n != 2 || err != nil {
					t.Fatalf("removed %d keys, %v", n, err)
				}
				v.Me(login.Access).OK(t)
				v.Refresh(login.Refresh, "").Is(t, 401, "invalid_grant expired")
				v.Send(request(me).WithBearer(login.Access)).OK(t)
				v.Me(login.Access).Is(t, 401, "invalid_token")
			})
		})
	}
}

// Sessions of other users are not there.
func TestSessionsOfOthers(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		v.AddUser("mallory", "a-password-of-her-own")
		alice := v.Login().OK(t)
		mallory := v.LoginAs("mallory", "a-password-of-her-own").OK(t)
		sid := v.Me(alice.Access).OK(t).SID

		theirs := v.Send(remove(mallory.Access, "/sessions/"+sid))
		theirs.Is(t, 404, "not_found")
		for _, unknown := range []string{
			sid[:len(sid)-1] + "A", sid + "A", "x", "..%2fsessions", "%00", "q6.%7Bx%7Daaaaaaaaaaaaaaaaaaa", "*",
		} {
			none := v.Send(remove(mallory.Access, "/sessions/"+unknown))
			if string(none.Body) != string(theirs.Body) || none.Status != theirs.Status {
				t.Errorf("%s: %d %s", unknown, none.Status, none.Body)
			}
		}
		if list := v.List(mallory.Access); len(list) != 1 {
			t.Errorf("mallory sees %d sessions", len(list))
		}
		v.Send(remove(mallory.Access, "/sessions")).OK(t)
		v.Me(alice.Access).OK(t)
		v.Me(mallory.Access).Is(t, 401, "invalid_token")
	})
}
