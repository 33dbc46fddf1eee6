package verify_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// source is a Source that reports what a test lets happen.
type source struct {
	denied  func(kind, id string, until time.Time)
	current func(partition int, age time.Duration)
	trouble func(error)
	started chan struct{}
}

func newSource() *source { return &source{started: make(chan struct{})} }

func (s *source) Follow(ctx context.Context, denied func(kind, id string, until time.Time), current func(partition int, age time.Duration), trouble func(error)) {
	s.denied, s.current, s.trouble = denied, current, trouble
	close(s.started)
	<-ctx.Done()
}

// alive is a sign of life in every partition.
func (s *source) alive(age time.Duration) {
	for p := range partition.Count {
		s.current(p, age)
	}
}

// following returns a replica and the source that it follows.
func following(t testing.TB) (*verify.Replica, *source) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	s := newSource()
	r := verify.Follow(ctx, s, nil)
	<-s.started
	return r, s
}

// sidIn returns a session id of a partition.
func sidIn(p int) string { return partition.ID(p).Tag() + ".2F5uQdw0khr5SaFjY0mKKQ" }

// replicated is a verifier on a replica and on nothing else.
func replicated(t testing.TB, change ...func(*verify.Config)) (*verify.Verifier, *source, keys) {
	t.Helper()
	k := newKeys(t)
	r, s := following(t)
	c := config(k)
	c.Denied, c.Replica, c.Now = nil, r, nil
	for _, f := range change {
		f(&c)
	}
	return newVerifier(t, c), s, k
}

// fresh makes a token of the present, since a replica has no other clock.
func fresh(more ...func(*tokens.Claims)) func(*tokens.Claims) {
	return func(c *tokens.Claims) {
		c.IssuedAt, c.ExpiresAt = time.Now(), time.Now().Add(5*time.Minute)
		for _, f := range more {
			f(c)
		}
	}
}

func TestReplicaRefusesWhatWasDenied(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []string{"sid", "jti", "kid"} {
		v, s, k := replicated(t)
		s.alive(0)
		token, other := k.sign(t, fresh()), k.sign(t, fresh(func(c *tokens.Claims) {
			c.SessionID, c.ID = sidIn(3), "another"
		}))
		c, err := v.Verify(ctx, token)
		if err != nil {
			t.Fatal(err)
		}
		id := map[string]string{"sid": c.SessionID, "jti": c.ID, "kid": c.KeyID}[kind]
		// An id denies as what it is, and nothing else that is called the same.
		for _, wrong := range []string{"sid", "jti", "kid", "of a later version"} {
			if wrong != kind {
				s.denied(wrong, id, time.Now().Add(time.Hour))
			}
		}
		if _, err := v.Verify(ctx, token); err != nil {
			t.Fatalf("%s denied as something else: %v", kind, err)
		}
		s.denied(kind, id, time.Now().Add(time.Hour))
		if _, err := v.Verify(ctx, token); !errors.Is(err, verify.ErrDenied) {
			t.Errorf("%s denied: %v", kind, err)
		}
		if _, err := v.Verify(ctx, other); (kind == "kid") != errors.Is(err, verify.ErrDenied) {
			t.Errorf("%s denied, another token of the same key: %v", kind, err)
		}
	}
}

// What a replica knows must be at most a second old, in the token's partition.
func TestReplicaKnowsHowOldItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, s, k := replicated(t)
		ctx := context.Background()
		here := k.sign(t, fresh(func(c *tokens.Claims) { c.SessionID = sidIn(3) }))
		there := k.sign(t, fresh(func(c *tokens.Claims) { c.SessionID = sidIn(4) }))
		expect := func(when, token string, want error) {
			t.Helper()
			if _, err := v.Verify(ctx, token); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", when, err, want)
			}
		}
		expect("before the first report", here, verify.ErrUnavailable)
		if err := v.Ready(); !errors.Is(err, verify.ErrUnavailable) {
			t.Errorf("ready before the first report: %v", err)
		}
		s.current(3, 0)
		expect("reported", here, nil)
		expect("another partition, which was not", there, verify.ErrUnavailable)
		if err := v.Ready(); err == nil {
			t.Error("ready although a partition is unknown")
		}
		s.alive(0)
		if err := v.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		time.Sleep(time.Second)
		expect("a second later", here, nil)
		time.Sleep(time.Millisecond)
		expect("over a second later", here, verify.ErrUnavailable)
		expect("over a second later", there, verify.ErrUnavailable)

		s.current(3, 700*time.Millisecond)
		expect("reported with an age", here, nil)
		// A report that was overtaken says less than is known, and takes
		// nothing back.
		s.current(3, time.Minute)
		expect("then an old report", here, nil)
		time.Sleep(301 * time.Millisecond)
		expect("the age counts", here, verify.ErrUnavailable)
		s.current(3, 2*time.Second)
		expect("reported as too old", here, verify.ErrUnavailable)
		// What is not a partition, or not an age, is no sign of life.
		s.current(-1, 0)
		s.current(partition.Count, 0)
		s.current(3, -time.Hour)
		expect("nonsense", here, verify.ErrUnavailable)
		s.denied("sid", sidIn(4), time.Now().Add(time.Hour))
		expect("a denial is no sign of life", here, verify.ErrUnavailable)
		expect("but it counts, however old the rest", there, verify.ErrDenied)
	})
}

func TestReplicaCannotPlaceAForeignSession(t *testing.T) {
	v, s, k := replicated(t)
	s.alive(0)
	for _, sid := range []string{"a", "xx.2F5uQdw0khr5SaFjY0mKKQ", sidIn(3) + "A", sidIn(3)[:24]} {
		token := k.sign(t, fresh(func(c *tokens.Claims) { c.SessionID = sid }))
		if _, err := v.Verify(context.Background(), token); !errors.Is(err, verify.ErrUnavailable) {
			t.Errorf("%q: %v", sid, err)
		}
	}
}

// A denial lasts until it ends, also if it is reported again with another end,
// and then makes room.
func TestReplicaForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, s := following(t)
		end := time.Now().Add(10 * time.Minute)
		s.denied("jti", "short", end)
		s.denied("jti", "long", end)
		s.denied("jti", "long", end.Add(10*time.Minute))
		s.denied("jti", "long", end.Add(-5*time.Minute))
		for i := range 1000 {
			s.denied("sid", fmt.Sprint("session ", i), end)
		}
		if n := r.Len(); n != 1002 {
			t.Errorf("%d ids, want 1002", n)
		}
		time.Sleep(time.Until(end) - time.Second)
		if n := r.Len(); n != 1002 {
			t.Errorf("before the end: %d ids, want 1002", n)
		}
		time.Sleep(2 * time.Minute)
		if n := r.Len(); n != 1 {
			t.Errorf("after the first end: %d ids, want 1", n)
		}
		time.Sleep(10 * time.Minute)
		if n := r.Len(); n != 0 {
			t.Errorf("after the last end: %d ids, want 0", n)
		}
	})
}

// A key's denial outlives key sets that are out of date, and room is made for
// further ones.
func TestReplicaForgetsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, s, k := replicated(t)
		kid := k.Public().ID()
		s.denied("kid", kid, time.Now().Add(7*24*time.Hour))
		s.denied("kid", kid, time.Now().Add(time.Hour)) // shorter: no effect
		for i := range 100 {
			s.denied("kid", fmt.Sprint("key ", i), time.Now().Add(time.Minute))
		}
		time.Sleep(7*24*time.Hour - time.Second)
		s.denied("kid", "one more", time.Now().Add(time.Hour))
		if _, err := v.Verify(context.Background(), k.sign(t, fresh())); !errors.Is(err, verify.ErrDenied) {
			t.Errorf("after almost seven days: %v", err)
		}
	})
}

func TestReplicaReportsTrouble(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := newSource()
	failed := make(chan error, 1)
	verify.Follow(ctx, s, func(err error) { failed <- err })
	<-s.started
	s.trouble(context.DeadlineExceeded)
	if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("trouble: %v", err)
	}
}

// Reports, questions and sweeps at once: for the race detector, and nothing
// that was denied may be missing at the end.
func TestReplicaConcurrently(t *testing.T) {
	v, s, k := replicated(t)
	token := k.sign(t, fresh())
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 2000 {
				s.denied("jti", fmt.Sprint(i, "/", n), time.Now().Add(time.Hour))
				s.denied("kid", fmt.Sprint(n%8), time.Now().Add(time.Duration(n)*time.Minute))
				s.alive(0)
			}
		})
		wg.Go(func() {
			for range 2000 {
				_, _ = v.Verify(context.Background(), token)
			}
		})
	}
	wg.Wait()
	for i := range 4 {
		for n := range 2000 {
			if n%500 != 0 {
				continue
			}
			denied := k.sign(t, fresh(func(c *tokens.Claims) { c.ID = fmt.Sprint(i, "/", n) }))
			if _, err := v.Verify(context.Background(), denied); !errors.Is(err, verify.ErrDenied) {
				t.Errorf("%d/%d: %v", i, n, err)
			}
		}
	}
}

// Row 46: who is asked, and what each policy does when nobody can tell.
func TestRow46PolicyInTrouble(t *testing.T) {
	down := errors.New("down")
	for _, c := range []struct {
		name      string
		age       time.Duration // of the replica; negative: none
		denied    string        // what the function Denied says; "": there is none
		policy    verify.Policy
		want      int
		by        verify.Witness
		wasAsked  bool
		wasCached bool
	}{
		{name: "fresh replica", want: 200, by: verify.ByReplica},
		{name: "fresh replica, Denied is not asked", denied: "no", want: 200, by: verify.ByReplica},
		{name: "stale replica", age: 2 * time.Second, want: 503, by: verify.Nobody},
		{name: "stale replica, Denied helps", age: 2 * time.Second, denied: "no", want: 200, by: verify.ByDenied, wasAsked: true},
		{name: "stale replica, Denied refuses", age: 2 * time.Second, denied: "yes", want: 401, by: verify.ByDenied, wasAsked: true},
		{name: "stale replica, Denied is down", age: 2 * time.Second, denied: "down", want: 503, by: verify.Nobody, wasAsked: true},
		{name: "no replica", age: -1, denied: "no", want: 200, by: verify.ByDenied, wasAsked: true},
		{name: "no replica, Denied is down", age: -1, denied: "down", want: 503, by: verify.Nobody, wasAsked: true},
		{
			name: "a route that may accept", age: 2 * time.Second, denied: "down",
			policy: verify.Policy{Otherwise: verify.AcceptUntilExpiry}, want: 200, by: verify.Nobody, wasAsked: true,
		},
		{
			name: "a route that may accept, nobody to ask", age: 2 * time.Second,
			policy: verify.Policy{Otherwise: verify.AcceptUntilExpiry}, want: 200, by: verify.Nobody,
		},
		{
			name: "a route that may accept what was denied", age: 2 * time.Second, denied: "yes",
			policy: verify.Policy{Otherwise: verify.AcceptUntilExpiry}, want: 401, by: verify.ByDenied, wasAsked: true,
		},
		{
			name: "a patient route", age: 2 * time.Second, denied: "yes",
			policy: verify.Policy{Freshness: 3 * time.Second}, want: 200, by: verify.ByReplica,
		},
		{
			name: "an impatient route", age: 600 * time.Millisecond,
			policy: verify.Policy{Freshness: 500 * time.Millisecond}, want: 503, by: verify.Nobody,
		},
		{
			name: "a strict route", denied: "yes",
			policy: verify.Policy{Strict: true}, want: 401, by: verify.ByDenied, wasAsked: true,
		},
		{
			name: "a strict route, Denied is down", denied: "down",
			policy: verify.Policy{Strict: true}, want: 503, by: verify.Nobody, wasAsked: true,
		},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			asked := false
			var last verify.Verdict
			v, s, k := replicated(t, func(config *verify.Config) {
				if c.age < 0 {
					config.Replica = nil
				}
				config.Observe = func(v verify.Verdict) { last = v }
				if c.denied != "" {
					config.Denied = func(context.Context, *tokens.Claims) (bool, error) {
						asked = true
						if c.denied == "down" {
							return true, down // the error counts, whatever stands beside it
						}
						return c.denied == "yes", nil
					}
				}
			})
			if c.age >= 0 {
				s.alive(c.age)
			}
			g := askFor(v, c.policy, request("Bearer "+k.sign(t, fresh())))
			if g.Code != c.want || g.reached != (c.want == 200) || asked != c.wasAsked {
				t.Errorf("%d, reached %v, Denied was asked: %v", g.Code, g.reached, asked)
			}
			if last.By != c.by || (last.Err == nil) != (c.want == 200) || last.Cached {
				t.Errorf("observed %+v", last)
			}
			if c.want == 503 && (g.Header().Get("Retry-After") == "" || g.Header().Get("WWW-Authenticate") != "" || !errors.Is(last.Err, verify.ErrUnavailable)) {
				t.Errorf("headers %v, error %v", g.Header(), last.Err)
			}
		})
	}
}

// A function that does not come back must not hold the request for longer than
// the issuer promises to need.
func TestDeniedIsWaitedForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _, k := replicated(t, func(c *verify.Config) {
			c.Denied = func(ctx context.Context, _ *tokens.Claims) (bool, error) {
				<-ctx.Done()
				return false, ctx.Err()
			}
		})
		began := time.Now()
		if g := ask(v, request("Bearer "+k.sign(t, fresh()))); g.Code != http.StatusServiceUnavailable {
			t.Errorf("%d", g.Code)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
	})
}
