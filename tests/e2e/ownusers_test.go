package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/tokens"
)

// start is POST /sessions with a body as it stands.
func start(body string) service.Request { return service.JSON("/sessions", body).AsShop() }

func endAll(sub string) service.Request {
	return service.Request{Method: "DELETE", Path: "/users/" + url.PathEscape(sub) + "/sessions"}.AsShop()
}

func setRoles(sub string, roles ...string) service.Request {
	body, _ := json.Marshal(map[string][]string{"roles": append([]string{}, roles...)})
	r := service.JSON("/users/"+url.PathEscape(sub)+"/roles", string(body)).AsShop()
	r.Method = "PUT"
	return r
}

// claims are those of an access token, without asking whether it is good.
func claims(t *testing.T, v *service.Service, token string) *tokens.Claims {
	t.Helper()
	for _, audience := range []string{service.Audience, "https://orders.example.com"} {
		verifier, err := tokens.NewVerifier(tokens.Config{Issuer: service.Issuer, Audience: audience})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := verifier.VerifyAnyTime(token, v.Keys.KeySet()); err == nil {
			return c
		}
	}
	t.Fatalf("not an access token of this service")
	return nil
}

// An application that has users of its own starts sessions for them, which are
// sessions like any other.
func TestOwnUsers(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		first := v.Send(start(`{"sub":"user/42","roles":["buyer","buyer","vip"],"amr":["pwd","otp"],"device":"Firefox",
			"auth_time":"` + s.Now().Add(-time.Hour).UTC().Format(time.RFC3339) + `"}`)).OK(t)
		me := v.Me(first.Access).OK(t)
		if me.Subject != "user/42" || me.ClientID != service.Shop || !slices.Equal(me.Roles, []string{"buyer", "vip"}) || me.Username != "" {
			t.Errorf("%+v", me)
		}
		c := claims(t, v, first.Access)
		if !slices.Equal(c.AMR, []string{"pwd", "otp"}) || c.Scope != service.ShopScope || first.Scope != service.ShopScope {
			t.Errorf("amr %q, scope %q and %q", c.AMR, c.Scope, first.Scope)
		}
		if ago := c.IssuedAt.Sub(c.AuthTime); ago < time.Hour-5*time.Second || ago > time.Hour+5*time.Second {
			t.Errorf("authenticated %v before", ago)
		}
		second := v.StartSession("user/42").OK(t)
		devices := v.List(second.Access)
		if len(devices) != 2 || devices[1].Device != "Firefox" || !devices[0].Current {
			t.Errorf("%+v", devices)
		}
		refresh := service.RefreshRequest(first.Refresh, "k").AsShop()
		next := v.Send(refresh).OK(t)
		if c := claims(t, v, next.Access); c.AuthTime.IsZero() || c.Subject != "user/42" || !slices.Equal(c.Roles, []string{"buyer", "vip"}) {
			t.Errorf("after a refresh: %+v", c)
		}
		if again := v.Send(refresh).OK(t); again.Refresh != next.Refresh {
			t.Error("a retry got another successor")
		}
		v.Logout("", next.Refresh).OK(t)
		v.Send(service.RefreshRequest(next.Refresh, "").AsShop()).Is(t, 401, "invalid_grant ended")
		v.Me(next.Access).Is(t, 401, "invalid_token")
		v.Me(second.Access).OK(t)
	})
}

func TestBadOwnUsers(t *testing.T) {
	v := service.Start(t, redistest.Redis(t))
	commands := redistest.CommandCount(v.Redis)
	tomorrow := time.Now().Add(24 * time.Hour).UTC().Format(time.RFC3339)
	all := badJSON("/sessions", "sub", "42")
	for i := range all {
		all[i].request = all[i].request.AsShop()
	}
	for _, sub := range []string{"", " ", "a b", "a\n", "a\x00", "ü", `a"b`, `a\b`, ".", "..", strings.Repeat("a", 65)} {
		body, _ := json.Marshal(map[string]string{"sub": sub})
		all = append(all, invalid(fmt.Sprintf("sub %q", sub), start(string(body))))
		if sub != "" {
			all = append(all, invalid(fmt.Sprintf("end sub %q", sub), endAll(sub)), invalid(fmt.Sprintf("roles of %q", sub), setRoles(sub)))
		}
	}
	for _, more := range []string{
		`"sub":42`, `"roles":"editor"`, `"roles":["a b"]`, `"roles":[""]`, `"roles":[1]`, `"roles":null`, `"roles":{"a":1}`,
		`"roles":["` + strings.Repeat("a", 65) + `"]`, `"roles":["` + strings.Join([]string{strings.Repeat("a", 60), strings.Repeat("b", 60), strings.Repeat("c", 60), strings.Repeat("d", 60), strings.Repeat("e", 60)}, `","`) + `"]`,
		`"amr":["p w d"]`, `"amr":"pwd"`, `"amr":["` + strings.Repeat("a", 40) + `","` + strings.Repeat("b", 40) + `"]`,
		`"auth_time":"yesterday"`, `"auth_time":1763950000`, `"auth_time":"` + tomorrow + `"`, `"auth_time":"1960-01-01T00:00:00Z"`, `"auth_time":"2026-11-25"`,
		`"device":"` + strings.Repeat("d", 65) + `"`, `"SUB":"42"`,
	} {
		all = append(all, invalid(more, start(`{"sub":"42",`+strings.TrimPrefix(more, `"sub":42`)+`}`)))
	}
	for _, scope := range []string{"admin", "orders:read admin", " ", "orders:read  orders:write", strings.Repeat("a", 300)} {
		all = append(all, bad{"scope " + scope, start(`{"sub":"42","scope":"` + scope + `"}`), 400, "invalid_scope"})
	}
	put := func(body string) service.Request {
		r := service.JSON("/users/42/roles", body).AsShop()
		r.Method = "PUT"
		return r
	}
	for _, body := range []string{`{}`, `{"roles":null}`, `{"roles":"a"}`, `{"roles":["a b"]}`, `{"roles":[],"roles":["admin"]}`, `{"roles":[],"Roles":["admin"]}`, `[]`} {
		all = append(all, invalid("roles "+body, put(body)))
	}
	for _, b := range all {
		a := v.Send(b.request)
		if a.Status != b.status || a.Error != b.code {
			t.Errorf("%s: got %d %s (%s), want %d %s", b.name, a.Status, a.Error, a.Description, b.status, b.code)
		}
	}
	if n := commands.Total(); n != 0 {
		t.Errorf("%d Redis commands: %v", n, commands.Names())
	}
}

// Ending a user's sessions ends those of every client, and of nobody else.
func TestEndSessionsOfAUser(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		own, other := v.StartSession(v.Subject).OK(t), v.StartSession("somebody else").Status
		if other != 400 {
			t.Errorf("a subject with a space: %d", other)
		}
		bystander := v.StartSession("bystander").OK(t)
		login := v.Login().OK(t)
		v.Send(endAll(v.Subject)).OK(t)
		v.Send(endAll(v.Subject)).OK(t)
		v.Send(endAll("nobody")).OK(t)
		if why, err := v.Redis.HGet(t.Context(), sessionKey(s, own), "why").Result(); err != nil || why != "admin" {
			t.Errorf("ended because of %q, %v", why, err)
		}
		for _, access := range []string{own.Access, login.Access} {
			v.Me(access).Is(t, 401, "invalid_token")
		}
		v.Refresh(login.Refresh, "").Is(t, 401, "invalid_grant ended")
		v.Send(service.RefreshRequest(own.Refresh, "").AsShop()).Is(t, 401, "invalid_grant ended")
		v.Me(bystander.Access).OK(t)
		v.Login().OK(t) // ending is not disabling

		for _, sub := range []string{"a/b", "a%2Fb", "...", "%", "ann@example.com", "{x}", "*", "a+b", "~", "a?b#c"} {
			odd := v.StartSession(sub).OK(t)
			if got := v.Me(odd.Access).OK(t).Subject; got != sub {
				t.Errorf("%q became %q", sub, got)
			}
			v.Send(setRoles(sub, "r")).OK(t)
			odd = v.Send(service.RefreshRequest(odd.Refresh, "").AsShop()).OK(t)
			if got := v.Me(odd.Access).OK(t).Roles; !slices.Equal(got, []string{"r"}) {
				t.Errorf("%q has the roles %q", sub, got)
			}
			v.Send(endAll(sub)).OK(t)
			v.Me(odd.Access).Is(t, 401, "invalid_token")
		}
		v.Me(bystander.Access).OK(t)
	})
}

// sessionKey is where the session of an answer lies.
func sessionKey(s *redistest.Server, a service.Answer) string {
	payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(a.Access, ".")[1])
	var c struct{ SID string }
	_ = json.Unmarshal(payload, &c)
	p, _ := partition.OfSID(c.SID)
	return partition.Keys{Prefix: s.Prefix}.Session(p, c.SID)
}

// Row 44: all that was there ends, and what is started after the answer lives.
func TestRow44EndAllAndStartInTheSameSecond(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		for range 20 {
			before := v.StartSession("42").OK(t)
			v.Send(endAll("42")).OK(t)
			after := v.StartSession("42").OK(t)
			v.Me(before.Access).Is(t, 401, "invalid_token")
			v.Me(after.Access).OK(t)
		}
	})
}

// A change of roles shows in all sessions at their next refresh, and in those
// that a user of the directory begins later.
func TestChangeRoles(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		shop, login := v.StartSession(v.Subject, "buyer").OK(t), v.Login().OK(t)
		v.Send(setRoles(v.Subject, "auditor", "reader", "auditor")).OK(t)
		want := []string{"auditor", "reader"}
		shop = v.Send(service.RefreshRequest(shop.Refresh, "").AsShop()).OK(t)
		login = v.Refresh(login.Refresh, "").OK(t)
		for _, access := range []string{shop.Access, login.Access, v.Login().OK(t).Access} {
			if got := v.Me(access).OK(t).Roles; !slices.Equal(got, want) {
				t.Errorf("roles %q, want %q", got, want)
			}
		}
		v.Send(setRoles(v.Subject)).OK(t)
		if got := v.Me(v.Login().OK(t).Access).OK(t).Roles; len(got) != 0 {
			t.Errorf("roles %q, want none", got)
		}
		v.Send(setRoles("nobody", "reader")).OK(t)
		if a := v.StartSession("nobody").OK(t); len(v.Me(a.Access).OK(t).Roles) != 0 {
			t.Error("roles of an earlier change came back")
		}
	})
}

// The same limit as at a login.
func TestSessionLimitOfOwnUsers(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		first := v.StartSession("42").OK(t)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { v.StartSession("42").OK(t) })
		}
		all.Wait()
		eventually(t, "the first session is ended", func() bool { return v.Me(first.Access).Status == 401 })
		last := v.StartSession("42").OK(t)
		if n := len(v.List(last.Access)); n != 20 {
			t.Errorf("%d sessions, want 20", n)
		}
	})
}
