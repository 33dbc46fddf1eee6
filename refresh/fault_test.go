package refresh_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

func TestRow36FullRedisRefreshesAndEndsButTakesNoLogins(t *testing.T) {
	eachReal(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		phone, laptop, stolen := h.login(t, "alice", mobile), h.login(t, "alice", web), h.login(t, "alice", mobile)
		h.login(t, "alice", mobile)
		stolen.advanceTo(t, 3)
		flushScripts(t, h.client) // so that the flags must work when scripts are sent in full, too
		h.server.SetFull(true)
		for i := range 2 { // unknown scripts, then known ones
			before := h.names(t)
			if g, err := h.Create(ctx, refresh.Login{Subject: "bob", ClientID: mobile}); err == nil || isRefusal(err) || !strings.Contains(err.Error(), "OOM") {
				t.Errorf("login: %+v, %v", g, err)
			}
			if after := h.names(t); !slices.Equal(before, after) {
				t.Errorf("a refused login left %v of %v", after, before)
			}
			phone.refresh(t, i, "k")
			phone.refresh(t, i, "k")
			phone.refresh(t, i, "")
			must(t, h.SetRoles(ctx, "alice", words(256)))
			if _, err := h.List(ctx, "alice"); err != nil {
				t.Errorf("list: %v", err)
			}
		}
		if _, err := stolen.ask(ctx, 0, "thief"); !errors.Is(err, refresh.ErrReused) {
			t.Errorf("reuse: %v", err)
		}
		h.isEnded(t, stolen, refresh.Reused)
		must(t, h.End(ctx, laptop.sid, refresh.Logout))
		h.isEnded(t, laptop, refresh.Logout)
		if n, err := h.EndAll(ctx, "alice", "", refresh.Admin); err != nil || n != 2 {
			t.Errorf("ended %d, %v", n, err)
		}
		h.isEnded(t, phone, refresh.Admin)
		const lostOne = "iy.6-87sI8aT1qFBEDh2dhfgw"
		if err := h.End(ctx, lostOne, refresh.Logout); err != nil || !h.denied(t, lostOne) {
			t.Errorf("end of a lost session: %v", err)
		}
		h.server.SetFull(false)
		h.login(t, "bob", mobile)
	})
}

// operations are all that ask Redis.
func operations(h *house, d *device) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"create": func(ctx context.Context) error {
			_, err := h.Create(ctx, refresh.Login{Subject: "alice", ClientID: mobile})
			return err
		},
		"rotate":    func(ctx context.Context) error { _, err := d.ask(ctx, 1, "k"); return err },
		"spent":     func(ctx context.Context) error { _, err := d.ask(ctx, 0, "k"); return err },
		"get":       func(ctx context.Context) error { _, err := h.Get(ctx, d.sid); return err },
		"list":      func(ctx context.Context) error { _, err := h.List(ctx, "alice"); return err },
		"end":       func(ctx context.Context) error { return h.End(ctx, d.sid, refresh.Logout) },
		"end all":   func(ctx context.Context) error { _, err := h.EndAll(ctx, "alice", "", refresh.Logout); return err },
		"set roles": func(ctx context.Context) error { return h.SetRoles(ctx, "alice", nil) },
	}
}

// inTrouble fails the test unless every operation fails in time, and not with a
// refusal: nobody must be told that a good token is bad.
func inTrouble(t *testing.T, h *house, d *device, deadline, within time.Duration) {
	t.Helper()
	for name, do := range operations(h, d) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		began := time.Now()
		err := do(ctx)
		took := time.Since(began)
		cancel()
		if err == nil || isRefusal(err) {
			t.Errorf("%s: %v", name, err)
		}
		if took > within {
			t.Errorf("%s took %v, its deadline was %v", name, took, deadline)
		}
	}
	// What needs no Redis still works.
	if _, err := h.Rotate(t.Context(), refresh.Presented{Token: "garbage", Transport: refresh.Body}); !errors.Is(err, refresh.ErrToken) {
		t.Errorf("garbage: %v", err)
	}
}

func TestRow32DeadRedisIsTroubleAndNotARefusal(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 1)
		h.server.Kill()
		inTrouble(t, h, d, time.Second, 2*time.Second)
	})
}

func TestRow39HangingRedisIsTroubleWithinTheDeadlineAndPassesUnaided(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 1)
		before := h.state(t, d)
		h.server.Pause()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := d.ask(ctx, 1, "k")
		cancel()
		if err == nil || isRefusal(err) {
			t.Errorf("rotate: %v", err)
		}
		h.server.Resume()
		// Redis may or may not have rotated by now. The retry gets the one
		// successor either way.
		d.refresh(t, 1, "k")
		if hash := h.hash(t, d.sid); hash["g"] != "2" {
			t.Errorf("generation %s, was %s", hash["g"], before["session g"])
		}
	})
}

func TestRow39EveryOperationOnAHangingRedisKeepsItsDeadline(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 1)
		h.server.Pause()
		inTrouble(t, h, d, 50*time.Millisecond, 500*time.Millisecond)
	})
}

// A client that is gone must not leave its session in doubt, and its retry gets
// what it missed.
func TestRow40DisconnectedClientsRetrySuccessfully(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		devices := make([]*device, 20)
		for i := range devices {
			devices[i] = h.login(t, "alice", strict)
		}
		together(len(devices), func(i int) {
			ctx, cancel := context.WithCancel(t.Context())
			if i%2 == 0 {
				time.AfterFunc(time.Duration(i)*50*time.Microsecond, cancel)
			}
			defer cancel()
			if _, err := devices[i].ask(ctx, 0, "k"); err != nil && isRefusal(err) {
				t.Errorf("disconnected: %v", err)
			}
		})
		for _, d := range devices {
			if g := d.refresh(t, 0, "k"); g.Session.Generation != 1 {
				t.Errorf("generation %d", g.Session.Generation)
			}
		}
	})
}

// A Redis whose replicas have gone takes no writes (min-replicas-to-write). That a
// session lives can be read there all the same.
func TestSessionsAreReadWhenRedisTakesNoWrites(t *testing.T) {
	s := redistest.Redis(t)
	h := newHouse(t, s)
	d := h.login(t, "alice", mobile)
	must(t, s.Client.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
	defer s.Client.ConfigSet(context.Background(), "min-replicas-to-write", "0")
	if err := h.End(t.Context(), d.sid, refresh.Logout); err == nil {
		t.Fatal("it takes writes")
	}
	if _, err := h.Get(t.Context(), d.sid); err != nil {
		t.Error(err)
	}
}
