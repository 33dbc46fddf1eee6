package refresh_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

func TestCreatedSessionSaysWhatTheLoginSaid(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		earlier := h.server.Now().Add(-time.Hour).Truncate(time.Second).UTC()
		before := h.server.Now()
		l := refresh.Login{
			Subject: "alice", ClientID: web, Roles: []string{"a", "b:c"}, Scope: "mail calendar", AMR: []string{"pwd", "otp"},
			Device: "Ünïcode phone", AuthTime: earlier,
		}
		g, err := h.Create(t.Context(), l)
		must(t, err)
		s := g.Session
		if s.Subject != l.Subject || s.ClientID != l.ClientID || !slices.Equal(s.Roles, l.Roles) || s.Scope != l.Scope ||
			!slices.Equal(s.AMR, l.AMR) || s.Device != l.Device || !s.AuthTime.Equal(earlier) || s.Generation != 0 {
			t.Errorf("session %+v of login %+v", s, l)
		}
		if s.Policy != (refresh.Policy{Transport: refresh.Cookie, Window: window, Idle: idle, Access: access}) {
			t.Errorf("policy %+v", s.Policy)
		}
		if s.RotatedAt.Before(before.Truncate(time.Millisecond)) || s.RotatedAt.After(h.server.Now()) ||
			!s.CreatedAt.Equal(s.RotatedAt.Truncate(time.Second)) || !s.EndsAt.Equal(s.CreatedAt.Add(absolute)) {
			t.Errorf("created %v, rotated %v, ends %v; it is %v", s.CreatedAt, s.RotatedAt, s.EndsAt, h.server.Now())
		}
		if !s.ExpiresAt().Equal(s.RotatedAt.Add(idle)) {
			t.Errorf("without a refresh it expires at %v", s.ExpiresAt())
		}
		if !g.IssuedAt.Equal(s.CreatedAt) || !g.AccessExpires.Equal(s.CreatedAt.Add(access)) || !g.Now.Equal(s.RotatedAt) || g.Repeated || g.Ahead != 0 {
			t.Errorf("grant %+v", g)
		}
		if ttl := h.ttl(t, h.session(s.SID)); !near(ttl, idle) {
			t.Errorf("the hash lives for %v", ttl)
		}
		got, err := h.Get(t.Context(), s.SID)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(s) {
			t.Errorf("Get: %+v, %v\nwant %+v", got, err, s)
		}

		bare, err := h.Create(t.Context(), refresh.Login{Subject: "alice", ClientID: mobile})
		must(t, err)
		s = bare.Session
		if len(s.Roles)+len(s.AMR)+len(s.Scope)+len(s.Device) != 0 || !s.AuthTime.Equal(s.CreatedAt) {
			t.Errorf("bare session %+v", s)
		}
		if bare.JTI == g.JTI || bare.Token == g.Token || s.SID == g.Session.SID {
			t.Error("two sessions share an id")
		}
	})
}

func TestRefusedLoginsAskNothing(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.configure("none", func(p *refresh.Policy) { *p = h.policies[mobile]; p.Sessions = 0 })
		asked := redistest.CommandCount(h.client)
		long := strings.Repeat("x", 65)
		for name, l := range map[string]refresh.Login{
			"no subject":   {ClientID: mobile},
			"no client":    {Subject: "alice"},
			"no sessions":  {Subject: "alice", ClientID: "none"},
			"long subject": {Subject: long, ClientID: mobile},
			"long client":  {Subject: "alice", ClientID: long},
			"long device":  {Subject: "alice", ClientID: mobile, Device: long},
			"long amr":     {Subject: "alice", ClientID: mobile, AMR: []string{long[:33], long[:31]}},
			"long scope":   {Subject: "alice", ClientID: mobile, Scope: strings.Repeat("x", 257)},
			"long roles":   {Subject: "alice", ClientID: mobile, Roles: append(words(256), "x")},
		} {
			if g, err := h.Create(t.Context(), l); err == nil || isRefusal(err) {
				t.Errorf("%s: %+v, %v", name, g, err)
			}
		}
		if _, err := h.Create(t.Context(), refresh.Login{Subject: "alice", ClientID: "nobody"}); !errors.Is(err, refresh.ErrClient) {
			t.Errorf("unknown client: %v", err)
		}
		if err := h.SetRoles(t.Context(), "alice", append(words(256), "x")); err == nil {
			t.Error("roles of 258 bytes were set")
		}
		if asked.Total() != 0 {
			t.Errorf("asked %v", asked.Names())
		}
	})
}

func TestRow27RefreshingNeverMovesTheAbsoluteEnd(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		h.configure(mobile, func(p *refresh.Policy) { p.Idle, p.Absolute = time.Hour, 3*time.Hour })
		d := h.login(t, "alice", mobile)
		end := d.first.Session.EndsAt
		if !end.Equal(d.first.Session.CreatedAt.Add(3 * time.Hour)) {
			t.Fatalf("ends %v after its creation", end.Sub(d.first.Session.CreatedAt))
		}
		// Neither does another policy.
		h.configure(mobile, func(p *refresh.Policy) { p.Idle, p.Absolute = 2*time.Hour, 30*time.Hour })
		for generation, minutes := range []time.Duration{50, 50, 50, 27} { // 177 in all
			h.server.Advance(minutes * time.Minute)
			g := d.refresh(t, generation, "")
			if !g.Session.EndsAt.Equal(end) || g.AccessExpires.After(end) || g.Session.ExpiresAt().After(end) {
				t.Errorf("after refresh %d: ends %v, access %v, expires %v; at first %v",
					generation, g.Session.EndsAt, g.AccessExpires, g.Session.ExpiresAt(), end)
			}
			if ttl := h.ttl(t, h.session(d.sid)); ttl > end.Sub(h.server.Now())+time.Second {
				t.Errorf("after refresh %d the hash lives for %v, the session for %v", generation, ttl, end.Sub(h.server.Now()))
			}
			if generation == 3 && !g.AccessExpires.Equal(end) {
				t.Errorf("the last access token ends at %v, the session at %v", g.AccessExpires, end)
			}
			if hash := h.hash(t, d.sid); hash["x"] > hash["a"] {
				t.Errorf("after refresh %d access until %s, session until %s", generation, hash["x"], hash["a"])
			}
		}
		h.server.Advance(3*time.Minute + time.Second)
		for generation := range d.tokens {
			if _, err := d.ask(t.Context(), generation, ""); !errors.Is(err, refresh.ErrExpired) {
				t.Errorf("token %d after the end: %v", generation, err)
			}
		}
		if _, err := h.Get(t.Context(), d.sid); !errors.Is(err, refresh.ErrExpired) {
			t.Errorf("Get after the end: %v", err)
		}
	})
}

func TestListShowsLiveSessionsAndForgetsTheRest(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		var all []*device
		for i := range 6 {
			h.server.Advance(time.Second)
			all = append(all, h.login(t, "alice", []string{mobile, web}[i%2]))
		}
		h.login(t, "bob", mobile)
		h.server.Advance(idle / 2)
		stays := []*device{all[1], all[3], all[4]}
		for _, d := range stays {
			d.refresh(t, 0, "")
		}
		must(t, h.End(t.Context(), all[5].sid, refresh.Logout))
		h.server.Advance(idle/2 + time.Second) // 0 and 2 expire
		// These the index still names, and their hashes are there.
		h.restore(t, all[2], 0)
		must(t, h.client.ZAdd(t.Context(), h.keys.User("alice"), redis.Z{Score: 1, Member: all[5].sid}).Err())
		list, err := h.List(t.Context(), "alice")
		must(t, err)
		if len(list) != len(stays) {
			t.Fatalf("%d sessions, want %d", len(list), len(stays))
		}
		for i, s := range list {
			want, err := h.Get(t.Context(), stays[i].sid)
			if err != nil || s.SID != stays[i].sid || fmt.Sprint(s) != fmt.Sprint(want) || s.Generation != 1 {
				t.Errorf("session %d is %+v, want %+v, %v", i, s, want, err)
			}
		}
		if index := h.index(t, "alice"); len(index) != len(stays) {
			t.Errorf("the index still names %d sessions", len(index))
		}
		if list, err = h.List(t.Context(), "nobody"); err != nil || len(list) != 0 {
			t.Errorf("nobody's sessions: %v, %v", list, err)
		}
	})
}

func TestOneSessionTooManyEndsTheOldest(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		var all []*device
		for range limit {
			all = append(all, h.login(t, "alice", mobile))
			h.server.Advance(time.Second)
		}
		all[0].refresh(t, 0, "") // the oldest is the first to have been created, not to be used
		for extra := range 3 {
			all = append(all, h.login(t, "alice", mobile))
			h.server.Advance(time.Second)
			h.isEnded(t, all[extra], refresh.Limited)
			if n := len(h.index(t, "alice")); n != limit {
				t.Errorf("%d sessions", n)
			}
		}
		for _, d := range all[3:] {
			d.refresh(t, 0, "")
		}
		// A lower limit ends as many as are too many.
		h.configure(mobile, func(p *refresh.Policy) { p.Sessions = 5 })
		all = append(all, h.login(t, "alice", mobile))
		list, err := h.List(t.Context(), "alice")
		must(t, err)
		if len(list) != 5 || list[4].SID != all[len(all)-1].sid || list[0].SID != all[len(all)-5].sid {
			t.Errorf("%d sessions left", len(list))
		}
	})
}

func TestExpiredSessionsDoNotCountAgainstTheLimit(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		for range limit / 2 {
			h.login(t, "alice", mobile)
		}
		h.server.Advance(idle / 2)
		var live []*device
		for range limit / 2 {
			live = append(live, h.login(t, "alice", mobile))
		}
		h.server.Advance(idle/2 + time.Second)
		for range limit / 2 {
			live = append(live, h.login(t, "alice", mobile))
		}
		for _, d := range live {
			d.refresh(t, 0, "")
		}
		if n := len(h.index(t, "alice")); n != limit {
			t.Errorf("the index names %d sessions, want %d", n, limit)
		}
	})
}

func TestParallelLoginsAllSucceedAndLeaveTheNewest(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		for range limit {
			h.login(t, "alice", mobile)
		}
		before := h.index(t, "alice")
		h.server.Advance(time.Second)
		var got tally
		together(50, func(int) {
			got.add(h.Create(t.Context(), refresh.Login{Subject: "alice", ClientID: mobile}))
		})
		if len(got.errs) != 0 {
			t.Errorf("%d of 50 logins failed, the first with %v", len(got.errs), got.errs[0])
		}
		live, err := h.List(t.Context(), "alice")
		must(t, err)
		if len(live) != limit {
			t.Errorf("%d sessions live, want %d", len(live), limit)
		}
		for _, sid := range before {
			if hash := h.hash(t, sid); hash["why"] != string(refresh.Limited) {
				t.Errorf("a session older than all others is %v", hash)
			}
		}
	})
}

// After a failover to a server whose clock is slow, what is new looks old.
func TestLoginAfterTheClockWentBackIsNotTheOneThatEnds(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		h.configure(mobile, func(p *refresh.Policy) { p.Sessions = 2 })
		for range 2 {
			h.login(t, "alice", mobile)
			h.server.Advance(time.Second)
		}
		first := h.server.Now()
		h.server.Advance(-time.Hour)
		var before time.Time
		for range 3 {
			d := h.login(t, "alice", mobile)
			d.refresh(t, 0, "")
			// Last, but not later than it must be.
			at := h.indexedAt(t, d)
			if !at.After(before) || at.Sub(first) > time.Second {
				t.Errorf("in the index at %v, the one before at %v", at, before)
			}
			before = at
			if index := h.index(t, "alice"); len(index) != 2 || index[1] != d.sid {
				t.Errorf("sessions %v, want two and %s last", index, d.sid)
			}
		}
	})
}

// indexedAt is the instant under which the index names a session.
func (h *house) indexedAt(t *testing.T, d *device) time.Time {
	t.Helper()
	ms, err := h.client.ZScore(t.Context(), h.keys.User(d.sub), d.sid).Result()
	must(t, err)
	return time.UnixMilli(int64(ms))
}

func TestIndexNamesSessionsByCreation(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for range 3 {
			h.server.Advance(time.Minute)
			d := h.login(t, "alice", mobile)
			if at := h.indexedAt(t, d); !near(h.server.Now().Sub(at), 0) {
				t.Errorf("in the index at %v, created at %v", at, h.server.Now())
			}
		}
	})
}

func TestRolesShowAtTheNextRefresh(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		phone, laptop := h.login(t, "alice", mobile), h.login(t, "alice", strict)
		bob := h.login(t, "bob", mobile)
		gone := h.login(t, "alice", mobile)
		must(t, h.End(t.Context(), gone.sid, refresh.Logout))
		for generation, roles := range [][]string{
			{"admin"}, words(64), words(256), words(128), words(72), words(200), words(192), {"a", "b", "c"}, nil, {"last"},
		} {
			must(t, h.SetRoles(t.Context(), "alice", roles))
			for _, d := range []*device{phone, laptop} {
				if g := d.refresh(t, generation, ""); !slices.Equal(g.Session.Roles, roles) {
					t.Errorf("roles %v, want %v", g.Session.Roles, roles)
				}
				if s, err := h.Get(t.Context(), d.sid); err != nil || !slices.Equal(s.Roles, roles) {
					t.Errorf("stored roles %v (%v), want %v", s.Roles, err, roles)
				}
			}
			for name, value := range h.hash(t, phone.sid) {
				if strings.HasPrefix(name, "ro") && value == "" || len(value) > 64 {
					t.Errorf("field %s has %d bytes", name, len(value))
				}
			}
		}
		if g := bob.refresh(t, 0, ""); !slices.Equal(g.Session.Roles, []string{"reader", "writer"}) {
			t.Errorf("another user's roles became %v", g.Session.Roles)
		}
		h.isEnded(t, gone, refresh.Logout)
	})
}

// The index may name a session that has gone, or that has just been ended.
func TestNewRolesMoveNoEnd(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.configure(strict, func(p *refresh.Policy) { p.Absolute = time.Hour })
		for client, life := range map[string]time.Duration{mobile: idle, strict: time.Hour} {
			d := h.login(t, "alice", client)
			must(t, h.SetRoles(t.Context(), "alice", []string{"admin"}))
			if ttl := h.ttl(t, h.session(d.sid)); !near(ttl, life) {
				t.Errorf("%s: the session lives for %v, want %v", client, ttl, life)
			}
		}
	})
}

func TestSetRolesBringsNothingBack(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ended, lost := h.login(t, "alice", mobile), h.login(t, "alice", mobile)
		cut := h.login(t, "alice", mobile) // its end was cut off after the tombstone
		must(t, h.client.HSet(t.Context(), h.session(cut.sid), "end", "1", "why", "logout").Err())
		before := h.state(t, cut)
		must(t, h.End(t.Context(), ended.sid, refresh.Logout))
		must(t, h.client.Del(t.Context(), h.session(lost.sid)).Err())
		for _, d := range []*device{ended, lost} {
			must(t, h.client.ZAdd(t.Context(), h.keys.User("alice"), redis.Z{Score: 1, Member: d.sid}).Err())
		}
		must(t, h.SetRoles(t.Context(), "alice", []string{"admin"}))
		if hash := h.hash(t, ended.sid); len(hash) != 2 {
			t.Errorf("the tombstone became %v", hash)
		}
		unchanged(t, before, h.state(t, cut), "index", "feed", "end of feed")
		if hash := h.hash(t, lost.sid); len(hash) != 0 {
			t.Errorf("a lost session became %v", hash)
		}
	})
}

func TestChangedPolicyIsTakenOverAtTheNextRefresh(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 2)
		for i, p := range []refresh.Policy{
			{Window: time.Minute, Idle: 2 * idle, Access: 3 * access}, // longer
			{Window: 2 * window, Idle: 2 * idle, Access: 3 * access},  // one of them
			{Window: 2 * window, Idle: 2 * idle, Access: 3 * access, Audience: "https://a.example https://b.example"},
			{Window: 2 * window, Idle: 2 * idle, Access: 3 * access, Audience: "https://c.example"},
			{Window: 0, Idle: time.Hour, Access: time.Minute}, // shorter
			{Window: window, Idle: idle, Access: access},      // as at first
		} {
			generation := 2 + 2*i
			before := h.hash(t, d.sid)
			h.configure(mobile, func(now *refresh.Policy) {
				now.Window, now.Idle, now.Access, now.Absolute, now.Audience = p.Window, p.Idle, p.Access, 2*absolute, p.Audience
			})
			g := d.refresh(t, generation, "k")
			if life := g.AccessExpires.Sub(g.IssuedAt); fmt.Sprint(int(life.Seconds())) != before["l"] {
				t.Errorf("change %d: the refresh that brings it grants %v, not what was agreed before (%s s)", i, life, before["l"])
			}
			hash := h.hash(t, d.sid)
			if hash["w"] != fmt.Sprint(p.Window.Milliseconds()) || hash["i"] != fmt.Sprint(int(p.Idle.Seconds())) ||
				hash["l"] != fmt.Sprint(int(p.Access.Seconds())) || hash["a"] != before["a"] || hash["au"] != p.Audience {
				t.Errorf("change %d: %v", i, hash)
			}
			if ttl := h.ttl(t, h.session(d.sid)); !near(ttl, p.Idle) {
				t.Errorf("change %d: the session lives for %v, want %v", i, ttl, p.Idle)
			}
			again := d.refresh(t, generation, "k")
			for _, granted := range []*refresh.Grant{g, again} {
				if highest, err := strconv.ParseInt(hash["x"], 10, 64); err != nil || granted.AccessExpires.Unix() > highest {
					t.Errorf("change %d: granted until %d, the session knows of %s", i, granted.AccessExpires.Unix(), hash["x"])
				}
			}
			next := d.refresh(t, generation+1, "")
			if life := next.AccessExpires.Sub(next.IssuedAt); life != p.Access || !next.Session.EndsAt.Equal(d.first.Session.EndsAt) {
				t.Errorf("change %d: the next refresh grants %v, want %v; it ends %v", i, life, p.Access, next.Session.EndsAt)
			}
		}
	})
}

// A client that is given credentials needs them as soon as it has shown them;
// nothing else moves a session from one transport to another.
func TestTransportChangesOnlyTowardsCredentials(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for _, change := range []struct {
			client    string
			to        refresh.Transport
			via       refresh.Transport
			then      string
			refusedBy refresh.Transport
		}{
			{mobile, refresh.Authenticated, refresh.Authenticated, "a", refresh.Body},
			{mobile, refresh.Authenticated, refresh.Body, "b", refresh.Cookie},
			{mobile, refresh.Cookie, refresh.Body, "b", refresh.Cookie},
			{web, refresh.Authenticated, refresh.Cookie, "c", refresh.Authenticated},
			{shop, refresh.Body, refresh.Authenticated, "a", refresh.Body},
		} {
			d := h.login(t, "alice", change.client)
			h.server.Advance(window)
			was := d.transport
			h.configure(change.client, func(p *refresh.Policy) { p.Transport = change.to })
			d.transport = change.via
			d.refresh(t, 0, "k")
			if got := h.hash(t, d.sid)["t"]; got != change.then {
				t.Errorf("%s, from %s to %s: the session now says %s", change.client, was, change.to, got)
			}
			d.transport = change.refusedBy
			if _, err := d.ask(t.Context(), 1, "l"); !errors.Is(err, refresh.ErrClient) {
				t.Errorf("%s, from %s to %s, presented as %s: %v", change.client, was, change.to, change.refusedBy, err)
			}
			d.transport = change.via
			h.server.Advance(window)
			d.refresh(t, 1, "m")
			h.configure(change.client, func(p *refresh.Policy) { p.Transport = was })
		}
	})
}

func TestPolicyIsRenewedOnce(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 1)
		h.configure(mobile, func(p *refresh.Policy) { p.Access = time.Minute })
		asked := redistest.CommandCount(h.client)
		for generation := 1; generation < 5; generation++ {
			g, err := d.ask(t.Context(), generation, "")
			must(t, err)
			d.tokens = append(d.tokens, g.Token)
		}
		// Four rotations and the renewal, whose script the server does not know yet.
		if n := asked.Names()["evalsha"]; n != 5 {
			t.Errorf("asked %v", asked.Names())
		}
	})
}

// Instances are updated one after the other: this one may not know a client yet,
// or no longer.
func TestSessionOfAnUnknownClientIsRefreshedAsItIs(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		h.mu.Lock()
		delete(h.policies, mobile)
		h.mu.Unlock()
		before := h.hash(t, d.sid)
		d.advanceTo(t, 2)
		after := h.hash(t, d.sid)
		for _, field := range []string{"w", "i", "l", "a"} {
			if before[field] != after[field] {
				t.Errorf("%s was %s, is %s", field, before[field], after[field])
			}
		}
		if ttl := h.ttl(t, h.session(d.sid)); !near(ttl, idle) {
			t.Errorf("it lives for %v", ttl)
		}
	})
}

func TestLoginThatRacesAChangeOfItsAccountLoses(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		guard := refresh.Guard{Key: h.keys.Account("alice"), Field: "epoch", Value: "7"}
		login := refresh.Login{Subject: "alice", ClientID: mobile, Guard: guard}
		refused := func(what string) {
			t.Helper()
			before := h.names(t)
			if g, err := h.Create(t.Context(), login); !errors.Is(err, refresh.ErrGuard) || g != nil {
				t.Errorf("%s: %+v, %v", what, g, err)
			}
			if after := h.names(t); !slices.Equal(before, after) {
				t.Errorf("%s: keys were %v, are %v", what, before, after)
			}
		}
		refused("no account")
		must(t, h.client.HSet(t.Context(), guard.Key, "other", "7").Err())
		refused("no epoch")
		must(t, h.client.HSet(t.Context(), guard.Key, "epoch", "7").Err())
		if _, err := h.Create(t.Context(), login); err != nil {
			t.Errorf("unchanged account: %v", err)
		}
		must(t, h.client.HIncrBy(t.Context(), guard.Key, "epoch", 1).Err())
		refused("changed account")
		must(t, h.client.Del(t.Context(), guard.Key).Err())
		refused("removed account")
	})
}

// An access token ends with its session, and the session knows when.
func TestLoginWritesExactlyWhatWasGranted(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.configure(strict, func(p *refresh.Policy) { p.Absolute = access / 2 })
		for client, life := range map[string]time.Duration{mobile: access, strict: access / 2} {
			d := h.login(t, "alice", client)
			x, err := strconv.ParseInt(h.hash(t, d.sid)["x"], 10, 64)
			if err != nil || x != d.first.AccessExpires.Unix() || !near(time.Unix(x, 0).Sub(h.server.Now()), life) {
				t.Errorf("%s: x is %d, granted until %d, %v", client, x, d.first.AccessExpires.Unix(), err)
			}
		}
	})
}

// What is written at a rotation is what docs/redis-keys.md says, and no more.
func TestRotationWritesExactlyWhatWasGranted(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		d := h.login(t, "alice", mobile)
		for generation := range 6 {
			h.server.Advance(time.Hour)
			g := d.refresh(t, generation, fmt.Sprint(generation))
			hash := h.hash(t, d.sid)
			// Too high an expiry would keep the denial of the session for days.
			if want := strconv.FormatInt(g.AccessExpires.Unix(), 10); hash["x"] != want {
				t.Errorf("x is %s, want %s", hash["x"], want)
			}
			if n := min(generation+1, 4) * 8; len(hash["k"]) != n {
				t.Errorf("%d bytes of retry keys after %d rotations, want %d", len(hash["k"]), generation+1, n)
			}
		}
	})
}

func TestLargestSessionStaysCompact(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		h := newHouse(t, s)
		const client = "a-client-with-a-name-of-sixty-four-bytes-which-is-the-most-it-may"
		id := client[:refresh.MaxClient]
		h.configure(id, func(p *refresh.Policy) {
			*p = refresh.Policy{
				Transport: refresh.Body, Window: time.Hour, Idle: 400 * 24 * time.Hour, Absolute: 4000 * 24 * time.Hour,
				Access: time.Hour, Sessions: limit,
			}
		})
		sub := strings.Repeat("é", refresh.MaxSubject/2)
		g, err := h.Create(t.Context(), refresh.Login{
			Subject: sub, ClientID: id, Roles: words(refresh.MaxRoles), Scope: strings.Join(words(refresh.MaxScope), " "),
			AMR: words(refresh.MaxAMR), Device: strings.Repeat("d", refresh.MaxDevice),
		})
		must(t, err)
		d := &device{h: h, st: h.Store, sid: g.Session.SID, sub: sub, client: id, transport: refresh.Body, first: g, tokens: []string{g.Token}}
		compact := func(when string) {
			t.Helper()
			for name, value := range h.hash(t, d.sid) {
				if len(value) > 64 {
					t.Errorf("%s: field %s has %d bytes", when, name, len(value))
				}
			}
			if !s.Real() {
				return
			}
			encoding, err := h.client.ObjectEncoding(t.Context(), h.session(d.sid)).Result()
			if err != nil || encoding != "listpack" {
				t.Errorf("%s: the session is a %s, %v", when, encoding, err)
			}
		}
		compact("created")
		for generation := range 6 {
			d.refresh(t, generation, strings.Repeat("k", 128))
		}
		for range 8 {
			d.refresh(t, 5, "")
		}
		must(t, h.SetRoles(t.Context(), sub, words(refresh.MaxRoles)))
		compact("refreshed")
		if s, err := h.Get(t.Context(), d.sid); err != nil || len(strings.Join(s.Roles, " ")) != refresh.MaxRoles || len(s.Scope) != refresh.MaxScope ||
			len(s.Subject) != refresh.MaxSubject || len(s.ClientID) != refresh.MaxClient || len(s.Device) != refresh.MaxDevice {
			t.Errorf("%+v, %v", s, err)
		}
		t.Logf("%d fields", len(h.hash(t, d.sid)))
		must(t, h.End(t.Context(), d.sid, refresh.Logout))
		compact("ended")
	})
}

func TestEveryKeyExpires(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		h.configure(mobile, func(p *refresh.Policy) { p.Sessions = 3 })
		ctx := t.Context()
		var a, b *device
		for _, op := range []struct {
			name string
			do   func()
		}{
			{"create", func() { a = h.login(t, "alice", mobile) }},
			{"create another", func() { b = h.login(t, "alice", web) }},
			{"rotate", func() { a.advanceTo(t, 3) }},
			{"repeat", func() { a.refresh(t, 2, "key 2"); a.refresh(t, 2, "") }},
			{"renew the policy", func() {
				h.configure(mobile, func(p *refresh.Policy) { p.Access++; p.Idle += time.Second })
				a.advanceTo(t, 5)
			}},
			{"set roles", func() { must(t, h.SetRoles(ctx, "alice", words(256))) }},
			{"clock back", func() { h.server.Advance(-time.Hour); a.advanceTo(t, 6); h.login(t, "carol", mobile) }},
			{"list", func() { _, err := h.List(ctx, "alice"); must(t, err) }},
			{"make room", func() {
				for range 5 {
					h.login(t, "alice", mobile)
				}
			}},
			{"end again", func() { must(t, h.End(ctx, a.sid, refresh.Logout)); must(t, h.End(ctx, b.sid, refresh.Logout)) }},
			{"end of a lost one", func() {
				d := h.login(t, "bob", mobile)
				lost(t, d)
				must(t, h.End(ctx, d.sid, refresh.Logout))
			}},
			{"reuse", func() {
				d := h.login(t, "bob", strict)
				d.advanceTo(t, 3)
				if _, err := d.ask(ctx, 0, ""); !errors.Is(err, refresh.ErrReused) {
					t.Error(err)
				}
			}},
			{"rollback", func() {
				d := h.login(t, "bob", strict)
				d.advanceTo(t, 3)
				h.restore(t, d, 1)
				d.refresh(t, 3, "")
			}},
			{"end all but one", func() {
				_, err := h.EndAll(ctx, "alice", h.index(t, "alice")[0], refresh.Removed)
				must(t, err)
			}},
			{"end all", func() { _, err := h.EndAll(ctx, "alice", "", refresh.Admin); must(t, err) }},
		} {
			op.do()
			for _, key := range h.names(t) {
				if h.ttl(t, key) == -1 {
					t.Errorf("after %s, %s never expires", op.name, key)
				}
			}
		}
		h.server.Advance(absolute + 2*time.Hour)
		if left := h.names(t); len(left) != 0 {
			t.Errorf("after %v these are left: %v", absolute, left)
		}
	})
}

func TestIndexLivesAsLongAsTheLastSession(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.configure(strict, func(p *refresh.Policy) { p.Idle, p.Absolute = time.Hour, time.Hour })
		index := h.keys.User("alice")
		h.login(t, "alice", strict)
		if ttl := h.ttl(t, index); !near(ttl, time.Hour) {
			t.Errorf("with a short session it lives for %v", ttl)
		}
		h.login(t, "alice", mobile)
		h.login(t, "alice", strict)
		if ttl := h.ttl(t, index); !near(ttl, absolute) {
			t.Errorf("with a long session it lives for %v", ttl)
		}
	})
}

// The key's own time to live is not what ends a session: it may be late, and after
// a step of the clock it says something else.
func TestSessionExpiresByItsOwnFields(t *testing.T) {
	h := newHouse(t, redistest.Miniredis(t)) // whose clock stands still
	h.configure(strict, func(p *refresh.Policy) { p.Absolute = time.Hour })
	for client, life := range map[string]time.Duration{mobile: idle, strict: time.Hour} {
		d := h.login(t, "alice", client)
		left := d.first.Session.EndsAt.Sub(h.server.Now())
		if client == mobile {
			left = life
		}
		lasts := func() bool {
			must(t, h.client.Persist(t.Context(), h.session(d.sid)).Err())
			must(t, h.client.ZAdd(t.Context(), h.keys.User("alice"), redis.Z{Member: d.sid}).Err())
			list, err := h.List(t.Context(), "alice")
			must(t, err)
			return len(list) == 1
		}
		h.server.Advance(left - time.Millisecond)
		if !lasts() {
			t.Errorf("%s: a millisecond before its end it is not listed", client)
		}
		h.server.Advance(time.Millisecond)
		if lasts() {
			t.Errorf("%s: at its end it is listed", client)
		}
		must(t, h.client.Persist(t.Context(), h.session(d.sid)).Err())
		if _, err := d.ask(t.Context(), 0, ""); !errors.Is(err, refresh.ErrExpired) {
			t.Errorf("%s: at its end it is refreshed: %v", client, err)
		}
	}
}

func TestUsersSpreadOverPartitions(t *testing.T) {
	h := newHouse(t, redistest.Miniredis(t))
	seen := map[partition.ID]bool{}
	for i := range 100 {
		sub := fmt.Sprint("user", i)
		p, ok := partition.OfSID(h.login(t, sub, mobile).sid)
		if !ok || p != partition.Of(sub) {
			t.Errorf("%s is in partition %v, their session in %v", sub, partition.Of(sub), p)
		}
		seen[p] = true
	}
	if len(seen) != partition.Count {
		t.Errorf("100 users in %d partitions", len(seen))
	}
}
