package e2e_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/users"
)

// Whoever guesses names must learn nothing: not from the body, and not from a
// header either.
func TestRefusedLoginsLookTheSame(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		ctx := context.Background()
		v.AddUser("disabled", "the-right-password")
		if _, err := v.Users.SetDisabled(ctx, "disabled", true); err != nil {
			t.Fatal(err)
		}
		wrong := v.LoginAs(service.Username, "the-wrong-password")
		wrong.Is(t, 401, "invalid_grant")
		want := comparable(wrong)
		for name, a := range map[string]service.Answer{
			"unknown user":           v.LoginAs("nobody", "the-wrong-password"),
			"impossible user":        v.LoginAs("a b\n", "the-wrong-password"),
			"disabled user":          v.LoginAs("disabled", "the-right-password"),
			"disabled, wrong":        v.LoginAs("disabled", "the-wrong-password"),
			"name in other case":     v.LoginAs("Alice", service.Password),
			"password in other case": v.LoginAs(service.Username, "CORRECT-horse-battery-staple"),
		} {
			if got := comparable(a); got.status != want.status || got.body != want.body || !maps.EqualFunc(got.header, want.header, slices.Equal) {
				t.Errorf("%s: %+v\nwrong password: %+v", name, got, want)
			}
		}
	})
}

type response struct {
	status int
	body   string
	header map[string][]string
}

// comparable leaves out what differs between any two responses.
func comparable(a service.Answer) response {
	header := a.Header.Clone()
	header.Del("X-Request-Id")
	header.Del("Date")
	header.Del("RateLimit") // how often this client has tried; throttle_test.go compares it
	return response{a.Status, string(a.Body), header}
}

// An account is changed in the way the command line does it: first the
// account, then its sessions.
func TestPasswordChange(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		ctx := context.Background()
		login := v.Login().OK(t)
		if _, err := v.Users.SetPassword(ctx, service.Username, "another-long-password"); err != nil {
			t.Fatal(err)
		}
		if n, err := v.Sessions.EndAll(ctx, v.Subject, "", refresh.Password); n != 1 || err != nil {
			t.Fatalf("ended %d, %v", n, err)
		}
		v.Refresh(login.Refresh, "").Is(t, 401, "invalid_grant ended")
		v.Me(login.Access).Is(t, 401, "invalid_token")
		v.Login().Is(t, 401, "invalid_grant")
		v.Me(v.LoginAs(service.Username, "another-long-password").OK(t).Access).OK(t)
	})
}

func TestDisabledAndEnabled(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		ctx := context.Background()
		login := v.Login().OK(t)
		if _, err := v.Users.SetDisabled(ctx, service.Username, true); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Sessions.EndAll(ctx, v.Subject, "", refresh.Disabled); err != nil {
			t.Fatal(err)
		}
		v.Refresh(login.Refresh, "").Is(t, 401, "invalid_grant ended")
		v.Me(login.Access).Is(t, 401, "invalid_token")
		v.Login().Is(t, 401, "invalid_grant")
		if _, err := v.Users.SetDisabled(ctx, service.Username, false); err != nil {
			t.Fatal(err)
		}
		again := v.Login().OK(t)
		v.Me(again.Access).OK(t)
		v.Refresh(login.Refresh, "").Is(t, 401, "invalid_grant ended") // not revived
	})
}

func TestChangedRolesShowAtTheNextRefresh(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		ctx := context.Background()
		login := v.Login().OK(t)
		account, err := v.Users.SetRoles(ctx, service.Username, []string{"admin", "auditor"})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Sessions.SetRoles(ctx, account.Subject, account.Roles); err != nil {
			t.Fatal(err)
		}
		if got := v.Me(login.Access).OK(t).Roles; !slices.Equal(got, []string{"editor"}) {
			t.Errorf("roles of a token from before: %q", got)
		}
		next := v.Refresh(login.Refresh, "").OK(t)
		for name, access := range map[string]string{"refresh": next.Access, "login": v.Login().OK(t).Access} {
			if got := v.Me(access).OK(t).Roles; !slices.Equal(got, []string{"admin", "auditor"}) {
				t.Errorf("roles after the next %s: %q", name, got)
			}
		}
	})
}

// again runs the first script twice, as the Redis client does when a reply is
// lost, and something else in between.
type again struct {
	meanwhile func()
	done      bool
}

func (h *again) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *again) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *again) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if name := cmd.Name(); h.meanwhile == nil || h.done || err != nil || name != "evalsha" && name != "eval" ||
			!strings.Contains(cmd.Args()[3].(string), ":session:") {
			return err
		}
		h.done = true
		h.meanwhile()
		return next(ctx, cmd)
	}
}

// The password was right, but the session is gone before its tokens are out.
// Neither a token of it nor "wrong password" would be true.
func TestSessionEndedBeforeTheLoginIsAnswered(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v, elsewhere := service.Start(t, s, unlimited), service.Start(t, s)
		other := elsewhere.Login().OK(t)
		hook := &again{meanwhile: func() {
			elsewhere.Send(service.Request{Method: http.MethodDelete, Path: "/sessions", Bearer: other.Access}).OK(t)
		}}
		v.Redis.AddHook(hook)
		a := v.Login()
		if !hook.done {
			t.Fatal("nothing was run twice")
		}
		trouble(t, a)
		v.Me(v.Login().OK(t).Access).OK(t)
	})
}

// racing changes the account after the password was found right, and before
// the session is made.
type racing struct {
	users.Authenticator
	meanwhile func()
}

func (r *racing) Authenticate(ctx context.Context, username, password string) (users.Identity, error) {
	who, err := r.Authenticator.Authenticate(ctx, username, password)
	if err == nil {
		r.meanwhile()
	}
	return who, err
}

func TestLoginThatRacesAChangeLoses(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(d *users.Directory) error{
		"disable": func(d *users.Directory) error {
			_, err := d.SetDisabled(ctx, service.Username, true)
			return err
		},
		"password": func(d *users.Directory) error {
			_, err := d.SetPassword(ctx, service.Username, "another-long-password")
			return err
		},
		"roles": func(d *users.Directory) error {
			_, err := d.SetRoles(ctx, service.Username, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s *redistest.Server) {
				var v *service.Service
				race := &racing{}
				v = service.Start(t, s, service.With(func(c *api.Config) {
					race.Authenticator, c.Users = c.Users, race
				}))
				wrong := v.LoginAs(service.Username, "the-wrong-password")
				race.meanwhile = func() {
					if err := change(v.Users); err != nil {
						t.Error(err)
					}
				}
				lost := v.Login()
				lost.Is(t, 401, "invalid_grant")
				if comparable(lost).body != comparable(wrong).body {
					t.Errorf("it shows that the password had been right: %s", lost.Body)
				}
				sessions, err := v.Sessions.List(ctx, v.Subject)
				if err != nil || len(sessions) != 0 {
					t.Errorf("%d sessions, %v", len(sessions), err)
				}
			})
		})
	}
}
