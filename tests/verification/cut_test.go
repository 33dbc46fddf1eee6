package verification_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// TestFeedIsCut: a service loses the feed, people log out meanwhile, the feed
// comes back. While it is cut each route does what its policy says; afterwards
// nothing has been missed.
func TestFeedIsCut(t *testing.T) {
	d := deploy(t, redistest.Redis(t), keyring.Schedule{})
	list := denylist.New(d.client(t, &line{}), d.redis.Prefix)
	services := map[string]*notes{
		"on Redis":        d.service(t, d.overRedis(t)),
		"on /revocations": d.service(t, d.overHTTP(t)),
	}
	// One that can still ask the denylist itself.
	asking := d.service(t, d.overHTTP(t), func(c *verify.Config) {
		c.Denied = func(ctx context.Context, c *tokens.Claims) (bool, error) { return list.Denied(ctx, c) }
	})
	var stay, leave []string
	for range 10 {
		stay = append(stay, d.a.Login().OK(t).Access)
		leave = append(leave, d.a.Login().OK(t).Access)
	}
	expect := func(when, who string, n *notes, path, access string, want int) {
		t.Helper()
		if got := n.ask(t, path, access); got != want {
			t.Errorf("%s, a service %s, route %s: %d, want %d", when, who, path, got, want)
		}
	}
	// Also those that are in the cache of verified tokens must be found out.
	for who, n := range services {
		for _, access := range append(stay, leave...) {
			for path := range routes {
				expect("before", who, n, path, access, http.StatusNoContent)
			}
		}
	}

	asking.line.cut()
	for _, n := range services {
		n.line.cut()
	}
	began := time.Now()
	for i, access := range leave {
		time.Sleep(time.Until(began.Add(*cutFor * time.Duration(i) / time.Duration(len(leave)))))
		d.a.Logout(access, "").OK(t)
		if time.Since(began) < 1200*time.Millisecond {
			continue
		}
		for who, n := range services {
			expect("cut", who, n, "/", stay[i], http.StatusServiceUnavailable)
			expect("cut", who, n, "/", access, http.StatusServiceUnavailable)
			expect("cut", who, n, "/accept", access, http.StatusNoContent)
			if *cutFor < time.Minute {
				expect("cut", who, n, "/patient", access, http.StatusNoContent)
			}
		}
		expect("cut", "that can ask", asking, "/", stay[i], http.StatusNoContent)
		expect("cut", "that can ask", asking, "/", access, http.StatusUnauthorized)
		expect("cut", "that can ask", asking, "/accept", access, http.StatusUnauthorized)
	}
	time.Sleep(time.Until(began.Add(*cutFor)))

	mended := time.Now()
	asking.line.mend()
	for _, n := range services {
		n.line.mend()
	}
	for who, n := range services {
		eventually(t, 15*time.Second, "a service "+who+" is up to date again", func() bool { return n.Ready() == nil })
		t.Logf("a service %s is up to date %v after the feed is back", who, time.Since(mended).Round(time.Millisecond))
		for i := range leave {
			for path := range routes {
				expect("mended", who, n, path, leave[i], http.StatusUnauthorized)
				expect("mended", who, n, path, stay[i], http.StatusNoContent)
			}
		}
	}
}

// TestOneHangingInstanceIsNoticed: the relay that a service reads from loses
// Redis. It goes on sending, but what it sends says how old it is.
func TestRelayWithoutRedisIsNoticed(t *testing.T) {
	s := redistest.Redis(t)
	d := deploy(t, s, keyring.Schedule{})
	n := d.service(t, d.overHTTP(t))
	access := d.a.Login().OK(t).Access
	if got := n.ask(t, "/", access); got != http.StatusNoContent {
		t.Fatalf("before: %d", got)
	}
	s.Pause()
	eventually(t, promised+slack+time.Second, "the service knows that it does not know", func() bool {
		return n.ask(t, "/", access) == http.StatusServiceUnavailable
	})
	if got := n.ask(t, "/accept", access); got != http.StatusNoContent {
		t.Errorf("a route that may accept: %d", got)
	}
	s.Resume()
	eventually(t, 5*time.Second, "the service recovers", func() bool { return n.ask(t, "/", access) == http.StatusNoContent })
}

// TestReplicaOfManyIDs prints what a copy of the denylist takes.
func TestReplicaOfManyIDs(t *testing.T) {
	s := redistest.Redis(t)
	d := deploy(t, s, keyring.Schedule{})
	until := s.Now().Add(30 * time.Minute).Unix()
	// As the script writes them, but in bulk, and only what is read here.
	pipe := s.Client.Pipeline()
	for i := range *ids {
		p := i % 16
		feed := fmt.Sprintf("%s:{%s}:feed", s.Prefix, tag(p))
		pipe.Do(t.Context(), "XADD", feed, "*", "kind", "sid", "id", fmt.Sprintf("%s.%022d", tag(p), i), "exp", until)
		if pipe.Len() == 2000 || i == *ids-1 {
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, follow := range map[string]func(context.Context, *line) verify.Source{
		"Redis": d.overRedis(t), "/revocations": d.overHTTP(t),
	} {
		before := memory()
		ctx, cancel := context.WithCancel(t.Context())
		l := &line{}
		began := time.Now()
		r := verify.Follow(ctx, follow(ctx, l), func(err error) { t.Logf("%s: %v", name, err) })
		eventually(t, 2*time.Minute, "the replica has it all", func() bool { return r.Len() == *ids && r.Age() < promised })
		took := time.Since(began)
		bytes := float64(memory()-before) / float64(*ids)
		t.Logf("%d ids over %s: up to date after %v, %.0f bytes an id", r.Len(), name, took.Round(time.Millisecond), bytes)
		if bytes > 100 && *ids >= 100_000 { // of fewer, connections and goroutines are the larger part
			t.Errorf("%.0f bytes an id", bytes)
		}
		cancel()
		l.cut()
	}
}
