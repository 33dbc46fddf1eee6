package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/users"
)

// unlimited is for tests that try more than a client may.
var unlimited = service.With(func(c *api.Config) { c.Throttle = nil })

// counted counts the passwords that are looked at.
type counted struct {
	users.Authenticator
	n atomic.Int64
}

func (c *counted) Authenticate(ctx context.Context, username, password string) (users.Identity, error) {
	c.n.Add(1)
	return c.Authenticator.Authenticate(ctx, username, password)
}

func counting() (*counted, service.Option) {
	c := &counted{}
	return c, service.With(func(config *api.Config) { c.Authenticator, config.Users = config.Users, c })
}

func wrong(username string) service.Request {
	return service.JSON("/login", object("username", username, "password", "the-wrong-password"))
}

// Row 55: asking at once is no way around the limit, at two instances neither.
func TestRow55WrongPasswordsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		looked, count := counting()
		alsoLooked, alsoCount := counting()
		instances := []*service.Service{service.Start(t, s, count), service.Start(t, s, alsoCount)}
		var refused, slow, sent atomic.Int64
		// Once, unless the machine is so busy that all who may try get 503, which
		// gives the try back.
		for round := 0; round < 3 && refused.Load() == 0; round++ {
			var all sync.WaitGroup
			for i := range 500 {
				all.Go(func() {
					sent.Add(1)
					a, err := instances[i%2].Raw(wrong(service.Username))
					switch {
					case err != nil:
						t.Error(err)
					case a.Status == 401:
						refused.Add(1)
					case a.Status == 429:
						slow.Add(1)
					case a.Status != 503:
						t.Errorf("status %d", a.Status)
					}
				})
			}
			all.Wait()
		}
		n := looked.n.Load() + alsoLooked.n.Load()
		// If Redis does not answer in time, each instance lets a quarter through by
		// itself.
		most := int64(throttle.DefaultAccount.N + 2*(throttle.DefaultAccount.N/4))
		if refused.Load() > most || n > most+sent.Load()-refused.Load()-slow.Load() {
			t.Errorf("%d passwords were looked at, %d refused, %d put off", n, refused.Load(), slow.Load())
		}
		if slow.Load() == 0 || refused.Load() == 0 {
			t.Errorf("%d refused, %d put off: nothing was shown", refused.Load(), slow.Load())
		}
	})
}

// Row 56: an attacker can use up what strangers have, and the owner logs in all
// the same, by what an earlier login has left on the device.
func TestRow56OwnerLogsInDuringAnAttack(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		good := func(deviceKey string) service.Request {
			return service.JSON("/login", object("username", service.Username, "password", service.Password, "device_key", deviceKey))
		}
		phone := v.Login().OK(t).DeviceKey
		browser := &page{t: t, v: v}
		device := deviceCookieOf(t, browser.login())
		browser.logout().OK(t) // takes the refresh token, and not the device

		var last service.Answer
		for range 30 {
			last = v.Send(wrong(service.Username))
		}
		last.Is(t, 429, "slow_down")
		if wait, err := strconv.Atoi(last.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 90 {
			t.Errorf("Retry-After: %q", last.Header.Get("Retry-After"))
		}
		v.Send(good("")).Is(t, 429, "slow_down") // nobody knows that it is the owner
		v.Send(good("authapi_dk_"+strings.Repeat("A", 56))).Is(t, 429, "slow_down")

		if again := v.Send(good(phone)).OK(t); again.DeviceKey == "" {
			t.Error("the device key is not renewed")
		}
		inCookie := service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "web")).
			WithHeader("X-Requested-With", "fetch").WithHeader("Origin", service.Origin).WithHeader("Sec-Fetch-Site", "same-site")
		v.Send(inCookie).Is(t, 429, "slow_down")
		v.Send(inCookie.WithHeader("Cookie", "__Host-device="+device)).OK(t)
		// Two of them: one was planted, and it cannot be told which.
		v.Send(inCookie.WithHeader("Cookie", "__Host-device="+device+"; __Host-device=x")).Is(t, 429, "slow_down")
		if len(v.Log.Find("login throttled")) == 0 {
			t.Error("the log says nothing")
		}
	})
}

// deviceCookieOf checks the cookie of the device key that an answer sets.
func deviceCookieOf(t *testing.T, a service.Answer) string {
	t.Helper()
	for _, c := range (&http.Response{Header: a.Header}).Cookies() {
		if c.Name != "__Host-device" {
			continue
		}
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 180*24*3600 {
			t.Errorf("the cookie of the device: %s", c)
		}
		if strings.Contains(string(a.Body), "device_key") {
			t.Errorf("the device key is in the body too: %s", a.Body)
		}
		return c.Value
	}
	t.Fatalf("no cookie of the device in %q", a.Header)
	return ""
}

// Row 52: ten thousand invented addresses are one, and whoever really has one of
// them is not affected.
func TestRow52InventedAddressesCountAsOne(t *testing.T) {
	s := redistest.Redis(t)
	for name, c := range map[string]struct {
		option service.Option
		with   func(r service.Request, invented string) service.Request
	}{
		"nobody is trusted": {service.With(func(*api.Config) {}), func(r service.Request, invented string) service.Request {
			for _, header := range []string{"X-Forwarded-For", "X_Forwarded_For", "True-Client-IP", "X-Real-IP", "Forwarded", "CF-Connecting-IP"} {
				r = r.WithHeader(header, invented)
			}
			return r
		}},
		"behind a proxy": {trusting("127.0.0.0/8"), func(r service.Request, invented string) service.Request {
			return r.WithHeader("X-Forwarded-For", invented).WithHeader("True-Client-IP", invented).WithHeader("X-Forwarded-For", "198.51.100.7")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			looked, count := counting()
			v := service.Start(t, s, c.option, count)
			attempts := int64(10_000)
			if name == "behind a proxy" {
				attempts = 2_000
			}
			began := time.Now()
			var next atomic.Int64
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					for {
						i := next.Add(1)
						if i > attempts {
							return
						}
						invented := fmt.Sprintf("203.0.%d.%d", i/256%256, i%256)
						if a, err := v.Raw(c.with(wrong(fmt.Sprint(name, i)), invented)); err != nil || a.Status != 401 && a.Status != 429 && a.Status != 503 {
							t.Errorf("%d, %v", a.Status, err)
						}
					}
				})
			}
			all.Wait()
			// Sixty, and one more each second; and a quarter that the instance lets
			// through by itself if Redis does not answer in time.
			most := int64(throttle.DefaultAddress.N)*5/4 + int64(time.Since(began)/time.Second)*5/4 + 1
			refused := int64(len(v.Log.Find("login refused")))
			if refused > most || refused < 20 {
				t.Errorf("%d of %d were answered, %d looked at; want at most %d", refused, attempts, looked.n.Load(), most)
			}
			if name == "behind a proxy" {
				// One of the addresses that were invented.
				v.Send(service.JSON("/login", object("username", service.Username, "password", service.Password)).
					WithHeader("X-Forwarded-For", "203.0.0.77")).OK(t)
			}
		})
	}
}

// Behind a server with credentials of its own are many users with one address.
func TestServersWithCredentialsAreNotCountedByAddress(t *testing.T) {
	v := service.Start(t, redistest.Redis(t))
	for i := range 100 {
		a, err := v.Raw(wrong(fmt.Sprint("user", i)).AsShop())
		if err != nil || a.Status != 401 && a.Status != 503 {
			t.Fatalf("try %d: %d, %v", i, a.Status, err)
		}
	}
}

// What is left is told, in the same words whether there is such an account or not,
// and a right password takes nothing of it.
func TestBudgetsAreTold(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		for _, name := range []string{service.Username, "nobody"} {
			v.Send(service.JSON("/login", object("username", service.Username, "password", service.Password))).OK(t)
			a := v.Send(wrong(name))
			a.Is(t, 401, "invalid_grant")
			if got := a.Header.Get("RateLimit-Policy"); got != `"address";q=60;w=60, "account-day";q=100;w=86400, "account";q=10;w=900` {
				t.Errorf("RateLimit-Policy: %s", got)
			}
			_, account, _ := strings.Cut(a.Header.Get("RateLimit"), ", ")
			if account != `"account-day";r=99;t=864, "account";r=9;t=90` {
				t.Errorf("%s: RateLimit: %s", name, account)
			}
		}
	})
}

// A session may be refreshed 300 times at once, and then one time a second. A
// replay is noticed all the same.
func TestRefreshesOfOneSessionAreLimited(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		first := v.Login().OK(t).Refresh
		token, passed := first, 0
		began := time.Now()
		var slow service.Answer
		for range 320 {
			a, err := v.Raw(service.RefreshRequest(token, "key"))
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != 200 {
				slow = a
				break
			}
			passed++
			token = a.Refresh
		}
		if most := 300 + int(time.Since(began)/time.Second) + 1; passed < 300 || passed > most {
			t.Fatalf("%d refreshes, want 300 to %d", passed, most)
		}
		slow.Is(t, 429, "slow_down")
		if slow.Header.Get("RateLimit-Policy") != `"session";q=300;w=300` || slow.Header.Get("Retry-After") != "1" {
			t.Errorf("headers: %q", slow.Header)
		}
		other := v.Login().OK(t)
		v.Refresh(other.Refresh, "").OK(t) // another session of the same user
		s.Advance(2 * time.Second)
		v.Refresh(token, "after the wait").OK(t)
		for range 5 { // used up again
			a, _ := v.Raw(service.RefreshRequest(token, "after the wait"))
			slow = a
		}
		slow.Is(t, 429, "slow_down")
		v.Refresh(first, "").Is(t, 401, "invalid_grant reused")
	})
}

// Repeated answers count as well: each is signed anew.
func TestRepeatedRefreshesAreLimited(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		token := v.Login().OK(t).Refresh
		passed := 0
		began := time.Now()
		for range 330 {
			if a, err := v.Raw(service.RefreshRequest(token, "one key")); err == nil && a.Status != 429 {
				passed++
			}
		}
		if most := 300 + int(time.Since(began)/time.Second) + 1; passed < 300 || passed > most {
			t.Errorf("%d answers, want 300 to %d", passed, most)
		}
	})
}

// Whoever presents invented tokens all the time is told to slow down, and costs
// Redis nothing. A genuine token from the same address works.
func TestInventedRefreshTokensAreLimited(t *testing.T) {
	s := redistest.Redis(t)
	v := service.Start(t, s)
	good := v.Login().OK(t).Refresh
	invented := good[:len(good)-1] + "A"
	if invented == good {
		invented = good[:len(good)-1] + "Q"
	}
	refused, slow := 0, 0
	for range 200 {
		switch a, _ := v.Raw(service.RefreshRequest(invented, "")); a.Status {
		case 401:
			refused++
		case 429:
			slow++
		}
	}
	if refused < 60 || slow < 100 {
		t.Errorf("%d refused, %d told to slow down", refused, slow)
	}
	v.Refresh(good, "").OK(t)
}
