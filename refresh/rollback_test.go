package refresh_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/refresh"
)

func TestRow20SnapshotHealsAndThenStillNoticesReplay(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 5)
		h.restore(t, d, 2)

		g := d.refresh(t, 5, "k") // of the future, seen from the snapshot
		if g.Session.Generation != 6 || g.Ahead != 3 || g.Repeated {
			t.Errorf("healed to %+v", g)
		}
		if !g.Session.EndsAt.Equal(d.first.Session.EndsAt) {
			t.Errorf("the absolute end moved to %v", g.Session.EndsAt)
		}
		next := d.refresh(t, 6, "l")
		if next.Ahead != 0 || next.Session.Generation != 7 {
			t.Errorf("after healing: %+v", next)
		}
		// Also the generations that the snapshot never had are spent.
		if _, err := d.ask(t.Context(), 4, "thief"); !errors.Is(err, refresh.ErrReused) {
			t.Errorf("replay: %v", err)
		}
		h.isEnded(t, d, refresh.Reused)
	})
}

// The rotation was lost together with the answer to it, so the client retries
// with the token that the snapshot takes for current.
func TestRow20RetryAfterRollback(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		lost := d.refresh(t, 0, "k")
		h.restore(t, d, 0)
		again := d.refresh(t, 0, "k")
		if again.Token != lost.Token || again.JTI != lost.JTI || again.Repeated {
			t.Errorf("first %+v, then %+v", lost, again)
		}
	})
}

func TestRow21AndRow22AbsentSessionIsNeverCreated(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 2)
		lost(t, d)
		seed := [16]byte{1, 2, 3}
		never := h.Encode(refresh.TokenOf(partition.Of("alice"), seed, 4))
		before := h.names(t)
		for _, token := range append(slices.Clone(d.tokens), never) {
			for _, key := range []string{"", "key 1"} {
				for _, via := range []refresh.Transport{refresh.Body, refresh.Cookie} {
					_, err := h.Rotate(t.Context(), refresh.Presented{Token: token, Transport: via, RetryKey: key})
					if !errors.Is(err, refresh.ErrExpired) {
						t.Errorf("token of no session: %v", err)
					}
				}
			}
		}
		if after := h.names(t); !slices.Equal(before, after) {
			t.Errorf("keys were %v, are %v", before, after)
		}
	})
}

func TestRow23ReplayAfterRollbackIsNoticedAtTheLatestByItsSecondUse(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 4)
		h.restore(t, d, 1)
		// What the thief holds is the current token of the snapshot.
		stolen, err := d.ask(t.Context(), 1, "thief")
		must(t, err)
		if g := d.refresh(t, 4, "k"); g.Ahead != 2 {
			t.Errorf("the owner was %d ahead", g.Ahead)
		}
		_, err = h.Rotate(t.Context(), refresh.Presented{Token: stolen.Token, Transport: refresh.Body, RetryKey: "thief 2"})
		if !errors.Is(err, refresh.ErrReused) {
			t.Errorf("the thief's next use: %v", err)
		}
		h.isEnded(t, d, refresh.Reused)
	})
}
