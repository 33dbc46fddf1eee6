package refresh_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

// Four at once, and one more every ten minutes: however slow the machine, none comes
// back unless the clock is moved.
const (
	burst    = 4
	interval = 10 * time.Minute
	whole    = burst * interval
)

func eachLimited(t *testing.T, f func(t *testing.T, h *house)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		h := newHouse(t, s)
		h.Store = h.limited(t, refresh.Limit{N: burst, Per: whole})
		f(t, h)
	})
}

func (h *house) limited(t *testing.T, limit refresh.Limit) *refresh.Store {
	t.Helper()
	st, err := refresh.New(h.client, refresh.Options{
		Prefix: h.keys.Prefix, Secrets: [][]byte{newSecret}, Limit: limit,
		Policy: func(client string) (refresh.Policy, bool) { p, ok := h.policies[client]; return p, ok },
	})
	must(t, err)
	return st
}

// useUp refreshes until no more is allowed, and returns how often that was.
func (d *device) useUp(t *testing.T, ask func() error) int {
	t.Helper()
	for n := range 100 {
		before := d.h.state(t, d)
		err := ask()
		if errors.Is(err, refresh.ErrLimit) {
			unchanged(t, before, d.h.state(t, d))
			return n
		}
		must(t, err)
	}
	t.Fatal("no end to it")
	return 0
}

// rotate presents the newest token.
func (d *device) rotate(t *testing.T) func() error {
	return func() error {
		newest := len(d.tokens) - 1
		g, err := d.ask(t.Context(), newest, "")
		if err == nil && g.Token != d.tokens[newest] {
			d.tokens = append(d.tokens, g.Token)
		}
		return err
	}
}

// repeat presents a token of which the successor is known.
func (d *device) repeat(t *testing.T, generation int, key string) func() error {
	return func() error {
		g, err := d.ask(t.Context(), generation, key)
		if err == nil && !g.Repeated {
			t.Error("not a repeat")
		}
		return err
	}
}

func TestEveryGrantCountsAgainstTheLimit(t *testing.T) {
	eachLimited(t, func(t *testing.T, h *house) {
		for name, c := range map[string]struct {
			client string
			before func(d *device) // takes one, if anything
			takes  int
			ask    func(d *device) func() error
		}{
			"rotations": {client: mobile, ask: func(d *device) func() error { return d.rotate(t) }},
			"repeats": {
				client: mobile, takes: 1,
				before: func(d *device) { d.refresh(t, 0, "k") },
				ask:    func(d *device) func() error { return d.repeat(t, 0, "k") },
			},
			"repeats without a key": {
				client: mobile, takes: 1,
				before: func(d *device) { d.refresh(t, 0, "") },
				ask:    func(d *device) func() error { return d.repeat(t, 0, "") },
			},
			"reloads with a cookie": {client: web, ask: func(d *device) func() error { return d.repeat(t, 0, "") }},
		} {
			d := h.login(t, name, c.client)
			if c.before != nil {
				c.before(d)
			}
			if n := c.takes + d.useUp(t, c.ask(d)); n != burst {
				t.Errorf("%s: %d grants at once, want %d", name, n, burst)
			}
		}
	})
}

func TestTheLimitComesBackOneByOne(t *testing.T) {
	eachLimited(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.useUp(t, d.rotate(t))
		for _, c := range []struct {
			wait time.Duration
			want int
		}{{interval / 2, 0}, {interval / 2, 1}, {2 * interval, 2}, {10 * whole, burst}, {interval, 1}} {
			h.server.Advance(c.wait)
			if n := d.useUp(t, d.rotate(t)); n != c.want {
				t.Errorf("%v later: %d grants, want %d", c.wait, n, c.want)
			}
		}
		// One that is not used up fills up while nobody asks, and so with repeats.
		d = h.login(t, "bob", mobile)
		d.refresh(t, 0, "k")
		must(t, d.repeat(t, 0, "k")())
		h.server.Advance(interval)
		if n := d.useUp(t, d.repeat(t, 0, "k")); n != burst-1 {
			t.Errorf("%d repeats, want %d", n, burst-1)
		}
		h.server.Advance(interval)
		if n := d.useUp(t, d.rotate(t)); n != 1 {
			t.Errorf("after repeats: %d rotations, want 1", n)
		}
	})
}

func TestRefusalsDoNotCountAgainstTheLimit(t *testing.T) {
	eachLimited(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		refuse := func(want error, p refresh.Presented) {
			t.Helper()
			before := h.state(t, d)
			for range 3 * burst {
				if _, err := h.Rotate(context.Background(), p); !errors.Is(err, want) {
					t.Fatalf("%v, want %v", err, want)
				}
			}
			unchanged(t, before, h.state(t, d))
		}
		refuse(refresh.ErrClient, refresh.Presented{Token: d.tokens[0], Transport: refresh.Cookie})
		refuse(refresh.ErrScope, refresh.Presented{Token: d.tokens[0], Transport: refresh.Body, Scope: "contacts"})
		d.refresh(t, 0, "0")
		d.refresh(t, 1, "1")
		late := refresh.Presented{Token: d.tokens[0], Transport: refresh.Body, RetryKey: "0"}
		refuse(refresh.ErrLate, late)
		if n := d.useUp(t, d.rotate(t)); n != burst-2 {
			t.Errorf("%d grants, want %d", n, burst-2)
		}
		// The limit is no cover: what is refused anyway is refused for its own reason.
		refuse(refresh.ErrLate, late)
		if _, err := d.ask(t.Context(), 0, "thief"); !errors.Is(err, refresh.ErrReused) {
			t.Errorf("a replay beyond the limit: %v", err)
		}
		h.isEnded(t, d, refresh.Reused)
	})
}

// A token ahead of the session (Redis came back older) is limited like any.
func TestTheLimitHoldsAfterARollback(t *testing.T) {
	eachLimited(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, burst)
		h.restore(t, d, burst-1)
		if n := d.useUp(t, d.rotate(t)); n != 1 {
			t.Errorf("%d grants, want 1", n)
		}
		h.restore(t, d, 2)
		if n := d.useUp(t, d.rotate(t)); n != 2 {
			t.Errorf("%d grants, want 2", n)
		}
	})
}

// Whatever the clock of Redis does, nobody waits longer than it takes to fill.
func TestClockThatStepsLocksNoSessionOut(t *testing.T) {
	eachLimited(t, func(t *testing.T, h *house) {
		for name, used := range map[string]int{"used up": burst, "used once": 1} {
			for _, back := range []time.Duration{interval, whole, 6 * time.Hour} {
				d := h.login(t, name+back.String(), mobile)
				for range used {
					must(t, d.rotate(t)())
				}
				h.server.Advance(-back)
				granted := d.useUp(t, d.rotate(t))
				if granted > burst {
					t.Errorf("%s, %v back: %d grants at once", name, back, granted)
				}
				h.server.Advance(whole)
				if n := d.useUp(t, d.rotate(t)); n != burst {
					t.Errorf("%s, %v back, %v later: %d grants, want %d", name, back, whole, n, burst)
				}
			}
		}
		// Repeats do not move the instant of rotation, and are counted all the same.
		d := h.login(t, "repeats", mobile)
		d.refresh(t, 0, "k")
		h.server.Advance(-6 * time.Hour)
		if n := d.useUp(t, d.repeat(t, 0, "k")); n != burst {
			t.Errorf("%d repeats at a clock that went back, want %d", n, burst)
		}
		h.server.Advance(interval)
		if n := d.useUp(t, d.repeat(t, 0, "k")); n != 1 {
			t.Errorf("%v later %d repeats, want 1", interval, n)
		}
	})
}

func TestWithoutALimitNothingIsCounted(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		limited := h.limited(t, refresh.Limit{N: burst, Per: whole})
		d.advanceTo(t, 50)
		for range 50 {
			d.refresh(t, 49, "key 49")
		}
		if q, there := h.hash(t, d.sid)["q"]; there {
			t.Errorf("q is %q", q)
		}
		d.st = limited
		if n := d.useUp(t, d.rotate(t)); n != burst {
			t.Errorf("with a limit from now on: %d grants, want %d", n, burst)
		}
		d.st = h.Store
		must(t, d.rotate(t)())
	})
}

// The shortest interval there is.
func TestLimitOfOneInAMillisecond(t *testing.T) {
	h := newHouse(t, redistest.Miniredis(t)) // whose clock stands still
	h.Store = h.limited(t, refresh.Limit{N: burst, Per: burst * time.Millisecond})
	d := h.login(t, "alice", mobile)
	if n := d.useUp(t, d.rotate(t)); n != burst {
		t.Errorf("%d grants, want %d", n, burst)
	}
	h.server.Advance(time.Millisecond)
	if n := d.useUp(t, d.repeat(t, burst-1, "")); n != 1 {
		t.Errorf("a millisecond later: %d repeats, want 1", n)
	}
}

// The limit costs a session one number that is no longer than the limit.
func TestTheLimitTakesLittleRoom(t *testing.T) {
	eachLimited(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		small := func() {
			t.Helper()
			q, err := strconv.Atoi(h.hash(t, d.sid)["q"])
			if err != nil || q <= 0 || q > int((whole+time.Minute).Milliseconds()) {
				t.Errorf("q is %d, %v", q, err)
			}
		}
		for range 3 {
			d.useUp(t, d.rotate(t))
			small()
			h.server.Advance(time.Hour)
		}
		must(t, d.rotate(t)())
		d.useUp(t, d.repeat(t, len(d.tokens)-2, ""))
		small()
	})
}
