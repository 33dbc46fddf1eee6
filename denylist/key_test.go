package denylist_test

import (
	"testing"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tokens"
)

const kid = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

func (h house) keyDenied(t *testing.T, p partition.ID, kid string) bool {
	t.Helper()
	c := claims(p.Tag()+sid[2:], jti)
	c.KeyID = kid
	denied, err := h.Denied(t.Context(), c)
	if err != nil {
		t.Error(err)
	}
	return denied
}

func TestDeniedKeysAreDeniedInEveryPartition(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		for range 2 {
			if err := h.AddKey(t.Context(), kid); err != nil {
				t.Fatal(err)
			}
		}
		for p := range partition.ID(partition.Count) {
			if !h.keyDenied(t, p, kid) {
				t.Errorf("the key is not denied in partition %d", p)
			}
			if h.keyDenied(t, p, "another") || h.keyDenied(t, p, "") {
				t.Errorf("another key is denied in partition %d", p)
			}
			if ttl := h.ttl(t, h.keys.Deny(p, kid)); !near(ttl, 7*24*time.Hour+grace) {
				t.Errorf("TTL %v", ttl)
			}
			lines, err := h.client.XRange(t.Context(), h.keys.Feed(p), "-", "+").Result()
			if err != nil || len(lines) == 0 || lines[0].Values["kind"] != "kid" || lines[0].Values["id"] != kid {
				t.Errorf("the feed of partition %d says %v, %v", p, lines, err)
			}
			// The feed keeps lines for an hour, whatever they say.
			if ttl := h.ttl(t, h.keys.Feed(p)); !near(ttl, horizon) {
				t.Errorf("the feed lives for %v", ttl)
			}
		}
		h.server.Advance(7 * 24 * time.Hour)
		if !h.keyDenied(t, 0, kid) {
			t.Error("the key is denied for less than seven days")
		}
		h.server.Advance(grace + time.Minute)
		if h.keyDenied(t, 0, kid) {
			t.Error("the key is denied for ever")
		}
	})
}

func TestAskingForTheKeyTooIsOneRoundTrip(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		asked := redistest.CommandCount(h.client)
		h.keyDenied(t, 3, kid)
		if asked.Trips() != 1 || asked.Names()["exists"] != 1 {
			t.Errorf("asked %v in %d round trips", asked.Names(), asked.Trips())
		}
	})
}

// A token without a key id is not denied by whatever has an empty name.
func TestNoKeyIDIsNotAsked(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		if err := h.AddKey(t.Context(), ""); err == nil {
			t.Error("no key at all can be denied")
		}
		p, _ := partition.OfSID(sid)
		if err := h.client.Set(t.Context(), h.keys.Deny(p, ""), "1", time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if denied, err := h.Denied(t.Context(), &tokens.Claims{SessionID: sid, ID: jti}); denied || err != nil {
			t.Errorf("denied %v, %v", denied, err)
		}
	})
}

func TestHalfDeniedKeyIsAnErrorAndCompletedNextTime(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h house) {
		// In one partition nothing can be denied.
		const broken = 5
		if err := h.client.Set(t.Context(), h.keys.Feed(broken), "no feed", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := h.AddKey(t.Context(), kid); err == nil {
			t.Fatal("half a denial is no error")
		}
		for p := range partition.ID(partition.Count) {
			if p != broken && !h.keyDenied(t, p, kid) {
				t.Errorf("not denied in partition %d because of another", p)
			}
		}
		if err := h.client.Del(t.Context(), h.keys.Feed(broken)).Err(); err != nil {
			t.Fatal(err)
		}
		if err := h.AddKey(t.Context(), kid); err != nil {
			t.Fatal(err)
		}
		if n := h.client.XLen(t.Context(), h.keys.Feed(broken)).Val(); !h.keyDenied(t, broken, kid) || n != 1 {
			t.Errorf("not completed: %d lines", n)
		}
	})
}
