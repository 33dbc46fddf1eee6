package refresh_test

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/refresh"
)

// The rotation table of docs/rotation.md, row by row. Each case is a session of
// its own; its steps bring it about, then a token is presented.

// step is something that happened before.
type step func(t *testing.T, d *device)

// refreshed presents the token of a generation, which succeeds.
func refreshed(generation int, key string) step {
	return func(t *testing.T, d *device) { d.refresh(t, generation, key) }
}

// refreshedTo refreshes in turn with the keys "key 0", "key 1", ...
func refreshedTo(generation int) step {
	return func(t *testing.T, d *device) { d.advanceTo(t, generation) }
}

func times(n int, s step) step {
	return func(t *testing.T, d *device) {
		for range n {
			s(t, d)
		}
	}
}

// passed moves Redis's clock, back if negative.
func passed(by time.Duration) step {
	return func(_ *testing.T, d *device) { d.h.server.Advance(by) }
}

func rolledBackTo(generation int) step {
	return func(t *testing.T, d *device) { d.h.restore(t, d, generation) }
}

func ended(why refresh.Reason) step {
	return func(t *testing.T, d *device) { must(t, d.h.End(t.Context(), d.sid, why)) }
}

func lost(t *testing.T, d *device) { must(t, d.h.client.Del(t.Context(), d.h.session(d.sid)).Err()) }

func after(s ...step) []step { return s }

// verdict is what must come of it.
type verdict struct {
	gives    int    // the generation of the token that is handed out
	ahead    uint32 // ... and how far Redis was behind
	repeated bool   // ... and that it was not the first time: nothing changed
	counted  bool   // ... except that the repeat was counted
	refused  error  // nothing changed
	reuse    bool   // the session was ended by this
}

func rotates(gives int) verdict             { return verdict{gives: gives} }
func heals(gives int, ahead uint32) verdict { return verdict{gives: gives, ahead: ahead} }
func again(gives int) verdict               { return verdict{gives: gives, repeated: true} }
func againCounted(gives int) verdict        { return verdict{gives: gives, repeated: true, counted: true} }
func refuses(err error) verdict             { return verdict{refused: err} }
func ends() verdict                         { return verdict{reuse: true} }

var rotationTable = []struct {
	name       string
	client     string
	before     []step
	generation int               // of the token presented
	key        string            // sent with it
	via        refresh.Transport // "": as is right for the client
	claims     string            // another client id than its own
	scope      string            // asked for
	long       bool              // the session has longScope
	want       verdict
}{
	// Missing or expired.
	{name: "no session", client: mobile, before: after(lost), want: refuses(refresh.ErrExpired)},
	{name: "idle expiry", client: mobile, before: after(passed(idle + time.Second)), want: refuses(refresh.ErrExpired)},
	{name: "just before idle expiry", client: mobile, before: after(passed(idle - time.Minute)), want: rotates(1)},
	{
		name: "idle expiry counts from the last refresh", client: mobile,
		before:     after(passed(idle-time.Minute), refreshedTo(1), passed(idle-time.Minute)),
		generation: 1, want: rotates(2),
	},
	{name: "cookie, idle expiry", client: web, before: after(passed(idle + time.Second)), want: refuses(refresh.ErrExpired)},

	// Tombstone.
	{name: "logged out", client: mobile, before: after(ended(refresh.Logout)), want: refuses(refresh.ErrEnded)},
	{name: "ended by reuse", client: mobile, before: after(ended(refresh.Reused)), want: refuses(refresh.ErrReused)},
	{
		name: "tombstone, spent token", client: mobile, before: after(refreshedTo(3), ended(refresh.Admin)),
		generation: 0, want: refuses(refresh.ErrEnded),
	},
	{
		name: "tombstone, token of the future", client: mobile,
		before:     after(refreshedTo(3), rolledBackTo(1), ended(refresh.Logout)),
		generation: 3, want: refuses(refresh.ErrEnded),
	},
	{
		name: "tombstone after 23 h", client: mobile, before: after(ended(refresh.Password), passed(23*time.Hour)),
		want: refuses(refresh.ErrEnded),
	},
	{
		name: "tombstone after 24 h", client: mobile, before: after(ended(refresh.Password), passed(24*time.Hour+time.Second)),
		want: refuses(refresh.ErrExpired),
	},

	// Wrong client or transport.
	{name: "row 28, another client", client: mobile, claims: strict, want: refuses(refresh.ErrClient)},
	{
		name: "row 28, another client, spent token", client: mobile, before: after(refreshedTo(3)), claims: strict,
		want: refuses(refresh.ErrClient),
	},
	{
		name: "row 28, another client, repeat", client: mobile, before: after(refreshedTo(1)), claims: strict, key: "key 0",
		want: refuses(refresh.ErrClient),
	},
	{name: "body token in a cookie", client: mobile, via: refresh.Cookie, want: refuses(refresh.ErrClient)},
	{name: "cookie token in a body", client: web, via: refresh.Body, want: refuses(refresh.ErrClient)},
	{
		name: "cookie token in a body, spent", client: web, before: after(passed(window), refreshedTo(1), passed(window)),
		via: refresh.Body, want: refuses(refresh.ErrClient),
	},
	{name: "no transport", client: mobile, via: "x", want: refuses(refresh.ErrClient)},
	{name: "row 28, without the client's credentials", client: shop, via: refresh.Body, want: refuses(refresh.ErrClient)},
	{
		name: "row 28, without the client's credentials, spent token", client: shop, before: after(refreshedTo(3)), via: refresh.Body,
		want: refuses(refresh.ErrClient),
	},
	{name: "row 28, another client's credentials", client: shop, claims: "other shop", want: refuses(refresh.ErrClient)},
	{name: "token of a client with credentials in a cookie", client: shop, via: refresh.Cookie, want: refuses(refresh.ErrClient)},
	{name: "cookie token with credentials", client: web, via: refresh.Authenticated, want: refuses(refresh.ErrClient)},
	{name: "credentials where none were needed", client: mobile, via: refresh.Authenticated, want: rotates(1)},
	{name: "another client's credentials where none were needed", client: mobile, via: refresh.Authenticated, claims: shop, want: refuses(refresh.ErrClient)},

	// Scope. The session has "mail calendar".
	{name: "scope, a part", client: mobile, scope: "calendar", want: rotates(1)},
	{name: "scope, all in another order", client: mobile, scope: "calendar mail", want: rotates(1)},
	{name: "row 28, wider scope", client: mobile, scope: "mail calendar contacts", want: refuses(refresh.ErrScope)},
	{name: "row 28, other scope", client: mobile, scope: "contacts", want: refuses(refresh.ErrScope)},
	{name: "row 28, a scope's beginning", client: mobile, scope: "mai", want: refuses(refresh.ErrScope)},
	{name: "row 28, a scope's end", client: mobile, scope: "endar", want: refuses(refresh.ErrScope)},
	{name: "row 28, a pattern", client: mobile, scope: "m..l", want: refuses(refresh.ErrScope)},
	{name: "row 28, wider scope, spent token", client: mobile, before: after(refreshedTo(3)), scope: "contacts", want: refuses(refresh.ErrScope)},
	{name: "wider scope, logged out", client: mobile, before: after(ended(refresh.Logout)), scope: "contacts", want: refuses(refresh.ErrEnded)},
	{name: "scope, own key", client: mobile, before: after(refreshed(0, "k")), scope: "mail", key: "k", want: again(1)},

	// Scope that fills more than one field of the hash.
	{name: "long scope, all of it", client: mobile, long: true, scope: longScope, want: rotates(1)},
	{name: "long scope, first", client: mobile, long: true, scope: strings.Fields(longScope)[0], want: rotates(1)},
	{name: "long scope, across two fields", client: mobile, long: true, scope: strings.Fields(longScope)[1], want: rotates(1)},
	{name: "long scope, last", client: mobile, long: true, scope: strings.Fields(longScope)[5], want: rotates(1)},
	{name: "long scope, a piece that ends with a field", client: mobile, long: true, scope: longScope[42:64], want: refuses(refresh.ErrScope)},
	{name: "long scope, a piece that begins with a field", client: mobile, long: true, scope: longScope[128:160], want: refuses(refresh.ErrScope)},

	// With the client's credentials nothing else is different.
	{name: "credentials, d=0", client: shop, want: rotates(1)},
	{name: "credentials, d=0, in the window", client: shop, before: after(refreshedTo(1)), generation: 1, want: rotates(2)},
	{name: "credentials, own key, after an hour", client: shop, before: after(refreshed(0, "k"), passed(time.Hour)), key: "k", want: again(1)},
	{name: "credentials, no key, in the window", client: shop, before: after(refreshed(0, ""), passed(window/2)), want: againCounted(1)},
	{name: "credentials, other key, in the window", client: shop, before: after(refreshed(0, "k")), key: "l", want: ends()},
	{name: "credentials, d=-2", client: shop, before: after(refreshedTo(2)), want: ends()},

	// d = 0.
	{name: "d=0, cookie, in the window", client: web, want: again(0)},
	{
		name: "d=0, cookie, in the window of a rotation", client: web, before: after(passed(window), refreshedTo(1), passed(window/2)),
		generation: 1, want: again(1),
	},
	{
		name: "d=0, cookie, in the window, many times", client: web,
		before: after(times(20, refreshed(0, ""))), want: again(0),
	},
	{name: "d=0, cookie, after the window", client: web, before: after(passed(window)), want: rotates(1)},
	{name: "d=0, cookie, clock went back", client: web, before: after(passed(-time.Hour)), want: rotates(1)},
	{name: "d=0", client: mobile, want: rotates(1)},
	{name: "d=0, key", client: mobile, key: "k", want: rotates(1)},
	{name: "d=0, key used before", client: mobile, before: after(refreshed(0, "k")), generation: 1, key: "k", want: rotates(2)},
	{name: "d=0, in the window", client: mobile, before: after(refreshedTo(1)), generation: 1, want: rotates(2)},
	{name: "d=0, no window", client: strict, before: after(refreshedTo(7)), generation: 7, want: rotates(8)},
	{name: "d=0, clock went back", client: mobile, before: after(refreshedTo(1), passed(-time.Hour)), generation: 1, want: rotates(2)},

	// d = -1, the rotation's own key.
	{name: "row 18, own key, at once", client: mobile, before: after(refreshed(0, "k")), key: "k", want: again(1)},
	{
		name: "row 18, own key, after an hour", client: mobile, before: after(refreshed(0, "k"), passed(time.Hour)), key: "k",
		want: again(1),
	},
	{
		name: "row 18, own key, just before idle expiry", client: mobile,
		before: after(refreshed(0, "k"), passed(idle-time.Minute)), key: "k", want: again(1),
	},
	{
		name: "own key, after idle expiry", client: mobile, before: after(refreshed(0, "k"), passed(idle+time.Second)), key: "k",
		want: refuses(refresh.ErrExpired),
	},
	{name: "own key, no window", client: strict, before: after(refreshed(0, "k"), passed(time.Hour)), key: "k", want: again(1)},
	{name: "own key, 20 times", client: mobile, before: after(times(20, refreshed(0, "k"))), key: "k", want: again(1)},
	{
		name: "row 38, own key, clock went back", client: mobile,
		before: after(refreshed(0, "k"), passed(-time.Hour)), key: "k", want: again(1),
	},
	{
		name: "cookie, own key, after an hour", client: web,
		before: after(passed(window), refreshed(0, "k"), passed(time.Hour)), key: "k", want: again(1),
	},

	// d = -1, in the window.
	{name: "d=-1, no key, at once", client: mobile, before: after(refreshed(0, "")), want: againCounted(1)},
	{name: "d=-1, no key, the first had one", client: mobile, before: after(refreshed(0, "k")), want: againCounted(1)},
	{name: "d=-1, no key, in the window", client: mobile, before: after(refreshed(0, ""), passed(window/2)), want: againCounted(1)},
	{name: "d=-1, no key, the 8th repeat", client: mobile, before: after(times(8, refreshed(0, ""))), want: againCounted(1)},
	{name: "d=-1, no key, the 9th repeat", client: mobile, before: after(times(9, refreshed(0, ""))), want: refuses(refresh.ErrOften)},
	{
		name: "d=-1, no key, repeats are counted anew after each rotation", client: mobile,
		before: after(times(9, refreshed(0, "")), times(8, refreshed(1, ""))), generation: 1, want: againCounted(2),
	},
	{
		name: "d=-1, own key after 8 repeats", client: mobile,
		before: after(refreshed(0, "k"), times(8, refreshed(0, ""))), key: "k", want: again(1),
	},
	{
		name: "d=-1, cookie, no key, in the window", client: web,
		before: after(passed(window), refreshed(0, ""), passed(window/2)), want: againCounted(1),
	},
	{
		name: "d=-1, cookie, other key, in the window", client: web,
		before: after(passed(window), refreshed(0, "k"), passed(window/2)), key: "tab 2", want: againCounted(1),
	},
	{
		name: "d=-1, cookie, the 9th repeat", client: web,
		before: after(passed(window), times(9, refreshed(0, ""))), want: refuses(refresh.ErrOften),
	},
	{
		name: "d=-1, cookie, other key, the 9th repeat", client: web,
		before: after(passed(window), times(9, refreshed(0, ""))), key: "tab 2", want: refuses(refresh.ErrOften),
	},

	// d = -1, clock went back.
	{name: "d=-1, no key, clock went back", client: mobile, before: after(refreshed(0, ""), passed(-time.Hour)), want: refuses(refresh.ErrClock)},
	{name: "d=-1, other key, clock went back", client: mobile, before: after(refreshed(0, "k"), passed(-time.Hour)), key: "l", want: refuses(refresh.ErrClock)},
	{name: "d=-1, no window, clock went back", client: strict, before: after(refreshed(0, ""), passed(-time.Hour)), want: refuses(refresh.ErrClock)},
	{
		name: "d=-1, cookie, clock went back", client: web,
		before: after(passed(window), refreshed(0, ""), passed(-time.Hour)), want: refuses(refresh.ErrClock),
	},

	// d < 0, a key among the last four.
	{name: "late duplicate, d=-2", client: mobile, before: after(refreshedTo(2)), generation: 0, key: "key 0", want: refuses(refresh.ErrLate)},
	{name: "late duplicate, d=-4", client: mobile, before: after(refreshedTo(5)), generation: 1, key: "key 1", want: refuses(refresh.ErrLate)},
	{
		name: "late duplicate, hours later", client: mobile, before: after(refreshedTo(3), passed(5*time.Hour)),
		generation: 0, key: "key 0", want: refuses(refresh.ErrLate),
	},
	{
		name: "late duplicate, clock went back", client: mobile, before: after(refreshedTo(3), passed(-5*time.Hour)),
		generation: 0, key: "key 0", want: refuses(refresh.ErrLate),
	},
	{name: "late duplicate, no window", client: strict, before: after(refreshedTo(4)), generation: 0, key: "key 0", want: refuses(refresh.ErrLate)},
	{
		name: "late duplicate, cookie", client: web,
		before: after(passed(window), refreshedTo(1), passed(window), refreshedTo(2)), key: "key 0", want: refuses(refresh.ErrLate),
	},

	// Reuse.
	{name: "row 17, d=-1, after the window", client: mobile, before: after(refreshed(0, ""), passed(window)), want: ends()},
	{name: "row 17, d=-1, own key's window does not open for no key", client: mobile, before: after(refreshed(0, "k"), passed(window)), want: ends()},
	{name: "row 17, d=-1, no window", client: strict, before: after(refreshed(0, "")), want: ends()},
	{name: "row 17, d=-1, other key, in the window", client: mobile, before: after(refreshed(0, "k")), key: "l", want: ends()},
	{name: "row 17, d=-1, other key, after the window", client: mobile, before: after(refreshed(0, "k"), passed(window)), key: "l", want: ends()},
	{name: "row 17, d=-1, first had no key, in the window", client: mobile, before: after(refreshed(0, "")), key: "l", want: ends()},
	{name: "row 17, d=-2, in the window", client: mobile, before: after(refreshed(0, ""), refreshed(1, "")), want: ends()},
	{name: "row 17, d=-2, other key", client: mobile, before: after(refreshedTo(2)), key: "l", want: ends()},
	{name: "row 17, d=-2, key of another rotation", client: mobile, before: after(refreshedTo(2)), key: "key 1", want: ends()},
	{name: "row 17, d=-2, clock went back", client: mobile, before: after(refreshedTo(2), passed(-time.Hour)), want: ends()},
	{name: "row 17, d=-5, its key is forgotten", client: mobile, before: after(refreshedTo(5)), key: "key 0", want: ends()},
	{name: "row 17, d=-9", client: mobile, before: after(refreshedTo(9)), want: ends()},
	{
		name: "row 17, d=-1, cookie, after the window", client: web,
		before: after(passed(window), refreshed(0, ""), passed(window)), want: ends(),
	},
	{
		name: "row 17, d=-2, cookie, in the window", client: web,
		before: after(passed(window), refreshedTo(1), passed(window), refreshedTo(2)), want: ends(),
	},
	{name: "row 38, clock went forward", client: mobile, before: after(refreshed(0, ""), passed(time.Hour)), want: ends()},

	// d > 0: Redis went back in time.
	{name: "row 20, rolled back by one", client: mobile, before: after(refreshedTo(1), rolledBackTo(0)), generation: 1, want: heals(2, 1)},
	{name: "row 21, rolled back by nine", client: mobile, before: after(refreshedTo(9), rolledBackTo(0)), generation: 9, want: heals(10, 9)},
	{
		name: "row 21, rolled back and clock too", client: mobile,
		before: after(refreshedTo(3), rolledBackTo(1), passed(-time.Hour)), generation: 3, want: heals(4, 2),
	},
	{
		name: "row 20, rolled back, cookie", client: web,
		before: after(passed(window), refreshedTo(1), rolledBackTo(0)), generation: 1, want: heals(2, 1),
	},
	{
		name: "row 20, rolled back, cookie, in the window of what was restored", client: web,
		before:     after(passed(window), refreshedTo(1), rolledBackTo(0), passed(-window/2)),
		generation: 1, want: heals(2, 1),
	},
	{
		name: "row 20, healed, then the older token", client: mobile,
		before: after(refreshedTo(3), rolledBackTo(1), refreshed(3, "heal")), generation: 1, want: ends(),
	},
	{
		name: "row 20, healed, then a retry", client: mobile,
		before: after(refreshedTo(3), rolledBackTo(1), refreshed(3, "heal")), generation: 3, key: "heal", want: again(4),
	},
	{
		name: "row 21, ahead of an expired session", client: mobile,
		before: after(refreshedTo(3), rolledBackTo(1), passed(idle+time.Second)), generation: 3, want: refuses(refresh.ErrExpired),
	},
	{
		name: "row 21, ahead, another client", client: mobile,
		before: after(refreshedTo(3), rolledBackTo(1)), generation: 3, claims: strict, want: refuses(refresh.ErrClient),
	},
}

// longScope is six words of 41 characters: 251 bytes, in four fields.
var longScope = strings.Join([]string{
	strings.Repeat("a", 41), strings.Repeat("b", 41), strings.Repeat("c", 41),
	strings.Repeat("d", 41), strings.Repeat("e", 41), strings.Repeat("f", 41),
}, " ")

func TestRotationTable(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		for i, row := range rotationTable {
			t.Run(row.name, func(t *testing.T) {
				has := "mail calendar"
				if row.long {
					has = longScope
				}
				d := h.loginFor(t, fmt.Sprint("user", i), row.client, has)
				for _, s := range row.before {
					s(t, d)
				}
				before := h.state(t, d)
				asked := refresh.Presented{Token: d.tokens[row.generation], Transport: d.transport, ClientID: d.client, RetryKey: row.key, Scope: row.scope}
				if row.via != "" {
					asked.Transport = row.via
				}
				if row.claims != "" {
					asked.ClientID = row.claims
				}
				g, err := h.Rotate(t.Context(), asked)
				row.want.check(t, d, row.generation, before, g, err)
				if want := cmp.Or(row.scope, has); g != nil && (g.Scope != want || g.Session.Scope != has) {
					t.Errorf("the grant is for %q of %q, want %q", g.Scope, g.Session.Scope, want)
				}
			})
		}
	})
}

func (v verdict) check(t *testing.T, d *device, presented int, before map[string]string, g *refresh.Grant, err error) {
	t.Helper()
	switch {
	case v.refused != nil:
		if !errors.Is(err, v.refused) || g != nil {
			t.Fatalf("got %+v, %v; want %v", g, err, v.refused)
		}
		unchanged(t, before, d.h.state(t, d))
	case v.reuse:
		var reuse *refresh.ReuseError
		if !errors.As(err, &reuse) || !errors.Is(err, refresh.ErrReused) || g != nil {
			t.Fatalf("got %+v, %v; want a ReuseError", g, err)
		}
		current := before["session g"]
		if reuse.SID != d.sid || reuse.Subject != d.sub || reuse.ClientID != d.client ||
			int(reuse.Presented) != presented || fmt.Sprint(reuse.Current) != current {
			t.Errorf("reported %+v, want session %s, presented %d at %s", reuse, d.sid, presented, current)
		}
		d.h.isEnded(t, d, refresh.Reused)
	default:
		if err != nil {
			t.Fatal(err)
		}
		v.checkGrant(t, d, before, g)
	}
}

func (v verdict) checkGrant(t *testing.T, d *device, before map[string]string, g *refresh.Grant) {
	t.Helper()
	token, err := d.h.Parse(g.Token)
	if err != nil || int(token.Generation()) != v.gives || token.SID() != d.sid {
		t.Fatalf("gave generation %d of %s (%v), want %d of %s", token.Generation(), token.SID(), err, v.gives, d.sid)
	}
	if g.Repeated != v.repeated || g.Ahead != v.ahead || int(g.Session.Generation) != v.gives {
		t.Errorf("repeated %v, ahead %d, generation %d; want %+v", g.Repeated, g.Ahead, g.Session.Generation, v)
	}
	if v.gives < len(d.tokens) && d.tokens[v.gives] != g.Token {
		t.Error("the successor is another one than before")
	}
	if !g.Session.EndsAt.Equal(d.first.Session.EndsAt) || g.AccessExpires.After(g.Session.EndsAt) {
		t.Errorf("session ends %v, access %v; at first %v", g.Session.EndsAt, g.AccessExpires, d.first.Session.EndsAt)
	}
	after := d.h.hash(t, d.sid)
	if after["g"] != fmt.Sprint(v.gives) {
		t.Errorf("the session is at generation %s, want %d", after["g"], v.gives)
	}
	if v.counted {
		unchanged(t, before, d.h.state(t, d), "session n")
		return
	}
	if v.repeated {
		unchanged(t, before, d.h.state(t, d))
		return
	}
	// A rotation moves these, and nothing else.
	moved := []string{"session g", "session r", "session k", "session n", "session x", "end of session"}
	unchanged(t, before, d.h.state(t, d), moved...)
	if age := g.Now.Sub(g.Session.RotatedAt); age != 0 || g.AccessExpires.Sub(g.IssuedAt) != access {
		t.Errorf("rotated %v before now; access token lives %v", age, g.AccessExpires.Sub(g.IssuedAt))
	}
	if ttl := d.h.ttl(t, d.h.session(d.sid)); !near(ttl, idle) {
		t.Errorf("the session now lives %v without a refresh, want %v", ttl, idle)
	}
}

// The table is complete only if it names every client, every kind of outcome
// and every refusal that a rotation can give.
func TestRotationTableNamesEveryOutcome(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range rotationTable {
		seen["client "+row.client] = true
		switch v := row.want; {
		case v.refused != nil:
			seen[v.refused.Error()] = true
		case v.reuse:
			seen["ends"] = true
		case v.ahead > 0:
			seen["heals"] = true
		case v.repeated:
			seen["repeats"] = true
		default:
			seen["rotates"] = true
		}
	}
	want := []string{"client " + mobile, "client " + shop, "client " + strict, "client " + web, "ends", "heals", "repeats", "rotates"}
	for _, err := range []error{
		refresh.ErrExpired, refresh.ErrEnded, refresh.ErrReused, refresh.ErrLate, refresh.ErrClient, refresh.ErrScope, refresh.ErrOften, refresh.ErrClock,
	} {
		want = append(want, err.Error())
	}
	for _, name := range want {
		if !seen[name] {
			t.Errorf("the table has no row for: %s", name)
		}
	}
}
