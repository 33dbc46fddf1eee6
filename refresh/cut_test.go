package refresh_test

import (
	"context"
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

// cutter cuts one script off in the middle, as a server does that crashes.
type cutter struct {
	writes int  // how many writes a script may make; the first to make more is cut
	again  bool // the script is then run again whole, as by a client that lost the reply
	spare  int  // how many scripts go first and are not cut
	done   bool // a script has been cut, or none is to be
}

const cutMessage = "cut off here"

// under returns the source of a script that runs under another one: calls of
// Redis go through a function that it defines.
func under(source, call string) string {
	flags := ""
	if strings.HasPrefix(source, "#!") {
		flags, source, _ = strings.Cut(source, "\n")
		flags += "\n"
	}
	return flags + "local server = redis\n" + call + "local redis = {call = call}\n" + source
}

// cut returns the source of a script that fails before its write number n, counted
// from 0. The writes before it stay.
func cut(source string, n int) string {
	return under(source, fmt.Sprintf(`
local writes, reads = 0, {}
for _, name in ipairs({'TIME', 'GET', 'HGETALL', 'HMGET', 'HGET', 'HEXISTS', 'HKEYS', 'ZRANGE', 'ZCARD', 'PTTL'}) do
  reads[name] = true
end
local function call(name, ...)
  if not reads[name] then
    if writes == %d then
      error('%s')
    end
    writes = writes + 1
  end
  return server.call(name, ...)
end
`, n, cutMessage))
}

func (*cutter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *cutter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if c.done {
			return next(ctx, cmd)
		}
		args := cmd.Args()
		switch cmd.Name() {
		case "evalsha":
			args[1] = strings.Repeat("0", 40) // unknown, so that the source is sent
			return next(ctx, cmd)
		case "eval":
			source := args[1].(string)
			if c.spare > 0 {
				err := next(ctx, cmd)
				if err == nil { // the embedded server refuses a source with flags first
					c.spare--
				}
				return err
			}
			args[1] = cut(source, c.writes)
			err := next(ctx, cmd)
			if err == nil || !strings.Contains(err.Error(), cutMessage) {
				return err
			}
			c.done = true
			if !c.again {
				return err
			}
			args[1] = source
		}
		return next(ctx, cmd)
	}
}

func (*cutter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// settled is what is stored about a user's only session, in a form in which two
// sessions can be compared.
func (h *house) settled(t *testing.T, d *device) map[string]string {
	t.Helper()
	got := map[string]string{}
	now := h.server.Now()
	for field, value := range h.hash(t, d.sid) {
		// Instants are compared as they lie before or after the present one.
		number, _ := strconv.ParseInt(value, 10, 64)
		switch field {
		case "r", "end":
			value = time.UnixMilli(number).Sub(now).Round(time.Minute).String()
		case "a", "x", "u", "o":
			value = time.Unix(number, 0).Sub(now).Round(time.Minute).String()
		}
		got["session "+field] = value
	}
	for i, sid := range h.index(t, d.sub) {
		got[fmt.Sprint("index ", i)] = strings.Replace(sid, d.sid, "the session", 1)
	}
	for _, line := range h.feed(t, d.sid) { // repeated lines count as one
		got[fmt.Sprintf("feed %v", line["kind"])] = "there"
	}
	entry, err := h.client.Get(t.Context(), h.denyKey(d.sid, d.sid)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	got["deny"] = entry
	for name, key := range map[string]string{
		"session": h.session(d.sid), "index": h.keys.User(d.sub), "deny": h.denyKey(d.sid, d.sid),
	} {
		got["life of "+name] = h.ttl(t, key).Round(time.Minute).String()
	}
	return got
}

// auditor makes scripts fail that touch a key which they were not given. On a
// Cluster such a script works until the key's slot moves, and may then fail
// between two writes.
type auditor struct{ scripts map[string]bool }

func (*auditor) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *auditor) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		switch cmd.Name() {
		case "evalsha":
			args[1] = strings.Repeat("0", 40) // unknown, so that the source is sent
		case "eval":
			source := args[1].(string)
			a.scripts[source] = true
			args[1] = under(source, `
local declared = {}
for _, key in ipairs(KEYS) do
  declared[key] = true
end
local function call(name, key, ...)
  if name == 'TIME' then
    return server.call(name)
  end
  if not declared[key] then
    error('undeclared key ' .. tostring(key))
  end
  return server.call(name, key, ...)
end
`)
		}
		return next(ctx, cmd)
	}
}

func (*auditor) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestScriptsTouchOnlyKeysTheyDeclare(t *testing.T) {
	h := newHouse(t, redistest.Redis(t))
	client, _ := h.server.Flaky(t) // a second client, which loses nothing here
	audit := &auditor{scripts: map[string]bool{}}
	client.AddHook(audit)
	h.Store = h.over(t, client, newSecret)
	ctx := t.Context()
	h.configure(mobile, func(p *refresh.Policy) { p.Sessions = 3 })
	must(t, h.client.HSet(ctx, h.keys.Account("alice"), "epoch", "1").Err())
	_, err := h.Create(ctx, refresh.Login{
		Subject: "alice", ClientID: mobile, Guard: refresh.Guard{Key: h.keys.Account("alice"), Field: "epoch", Value: "1"},
	})
	must(t, err)
	var d *device
	for range 5 {
		d = h.login(t, "alice", mobile)
	}
	d.advanceTo(t, 3)
	d.refresh(t, 2, "key 2")
	h.configure(mobile, func(p *refresh.Policy) { p.Access = time.Minute })
	d.advanceTo(t, 4)
	must(t, h.SetRoles(ctx, "alice", words(256)))
	must(t, h.SetRoles(ctx, "alice", nil))
	_, err = h.List(ctx, "alice")
	must(t, err)
	if _, err := d.ask(ctx, 0, "thief"); !errors.Is(err, refresh.ErrReused) {
		t.Error(err)
	}
	gone := h.login(t, "bob", mobile)
	lost(t, gone)
	must(t, h.End(ctx, gone.sid, refresh.Logout))
	_, err = h.EndAll(ctx, "alice", "", refresh.Admin)
	must(t, err)
	if n := len(audit.scripts); n != 8 { // create, rotate, end, list, amend, deny, session, index
		t.Errorf("%d scripts ran", n)
	}
}

// The operations to cut. Each brings its session about, does what is to be cut,
// and says whether it succeeded in the sense of its caller.
var operationsToCut = []struct {
	name   string
	before func(t *testing.T, d *device)
	do     func(t *testing.T, d *device) error
	// atLeast is how many writes there must be: fewer would mean that the cuts
	// were not where they are thought to be.
	atLeast int
	// clientOnly: another call is another operation.
	clientOnly bool
}{
	{
		name:    "end",
		do:      func(t *testing.T, d *device) error { return d.st.End(t.Context(), d.sid, refresh.Logout) },
		atLeast: 8,
	},
	{
		name: "end all",
		do: func(t *testing.T, d *device) error {
			if _, err := d.st.EndAll(t.Context(), d.sub, "", refresh.Logout); err != nil {
				return err
			}
			// The session may have left the index before the cut; what is then
			// missing is only to drop its fields.
			return d.st.End(t.Context(), d.sid, refresh.Logout)
		},
		atLeast: 8,
	},
	{
		name:   "reuse",
		before: func(t *testing.T, d *device) { d.advanceTo(t, 3) },
		do: func(t *testing.T, d *device) error {
			_, err := d.ask(t.Context(), 0, "thief")
			if errors.Is(err, refresh.ErrReused) {
				// Nobody tidies up after the tombstone has been written, but
				// ending the session again does.
				return d.st.End(t.Context(), d.sid, refresh.Logout)
			}
			if isRefusal(err) {
				t.Errorf("cut, it refuses with %v", err)
			}
			return err
		},
		atLeast: 8,
	},
	{
		name: "rotate with a key",
		before: func(t *testing.T, d *device) {
			d.refresh(t, 0, "j")
			d.refresh(t, 0, "") // a repeat, to be forgotten
			d.h.server.Advance(time.Hour)
		},
		do: func(t *testing.T, d *device) error {
			_, err := d.ask(t.Context(), 1, "k")
			return err
		},
		atLeast: 3,
	},
	{
		name:   "rotate",
		before: func(t *testing.T, d *device) { d.h.server.Advance(time.Hour) },
		do: func(t *testing.T, d *device) error {
			_, err := d.ask(t.Context(), 0, "")
			return err
		},
		atLeast: 3, clientOnly: true,
	},
	{
		name: "heal",
		before: func(t *testing.T, d *device) {
			d.advanceTo(t, 3)
			d.h.restore(t, d, 1)
			d.h.server.Advance(time.Hour)
		},
		do: func(t *testing.T, d *device) error {
			_, err := d.ask(t.Context(), 3, "k")
			return err
		},
		atLeast: 3,
	},
	{
		name: "set roles",
		do: func(t *testing.T, d *device) error {
			return d.st.SetRoles(t.Context(), d.sub, words(200))
		},
		atLeast: 5,
	},
	{
		name: "fewer roles",
		before: func(t *testing.T, d *device) {
			must(t, d.h.SetRoles(t.Context(), d.sub, words(256)))
		},
		do: func(t *testing.T, d *device) error {
			return d.st.SetRoles(t.Context(), d.sub, []string{"x"})
		},
		atLeast: 5,
	},
}

func TestScriptsCutAfterAnyWriteAndRunAgainReachTheSameState(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		client, _ := h.server.Flaky(t) // a second client, which loses nothing here
		scissors := &cutter{}
		client.AddHook(scissors)
		cutting := h.over(t, client, newSecret)
		users := 0
		session := func(t *testing.T, before func(*testing.T, *device)) *device {
			users++
			d := h.login(t, fmt.Sprint("user", users), mobile)
			if before != nil {
				before(t, d)
			}
			return d
		}
		for _, op := range operationsToCut {
			t.Run(op.name, func(t *testing.T) {
				whole := session(t, op.before)
				must(t, op.do(t, whole))
				want := h.settled(t, whole)
				want["session s"] = ""

				for _, again := range []bool{true, false} {
					if op.clientOnly && !again {
						continue
					}
					for n := 0; ; n++ {
						d := session(t, op.before)
						d.st = cutting
						*scissors = cutter{writes: n, again: again}
						err := op.do(t, d)
						wasCut := scissors.done
						if (err != nil) != (wasCut && !again) {
							t.Fatalf("cut after %d writes: %v", n, err)
						}
						if err != nil {
							if isRefusal(err) {
								t.Errorf("cut after %d writes, it is refused: %v", n, err)
							}
							if err := op.do(t, d); err != nil {
								t.Fatalf("again: %v", err)
							}
						}
						got := h.settled(t, d)
						got["session s"] = ""
						if op.name == "rotate" { // the key is random
							want["session k"], got["session k"] = "", ""
						}
						unchanged(t, want, got)
						if t.Failed() {
							t.Fatalf("this was after %d writes, run again by the client: %v", n, again)
						}
						if !wasCut {
							if n < op.atLeast {
								t.Errorf("only %d writes were cut", n)
							}
							break
						}
					}
				}
			})
		}
	})
}

func TestCreateCutAfterAnyWriteAndRunAgainMakesOneSession(t *testing.T) {
	eachWithCluster(t, func(t *testing.T, h *house) {
		h.configure(mobile, func(p *refresh.Policy) { p.Sessions = 1 }) // a leftover must not take the only place
		client, _ := h.server.Flaky(t)
		scissors := &cutter{done: true}
		client.AddHook(scissors)
		cutting := h.over(t, client, newSecret)
		login := refresh.Login{ClientID: mobile, Roles: words(200), Scope: strings.Join(words(200), " "), Device: "x"}
		h.configure(strict, func(p *refresh.Policy) { p.Sessions, p.Absolute = 1, time.Hour })
		for i, again := range []bool{true, false, true, false} {
			login.ClientID = []string{mobile, strict}[i/2]
			life, indexLife := idle, absolute
			if login.ClientID == strict {
				life, indexLife = time.Hour, time.Hour
			}
			for n, wasCut := 0, true; wasCut; n++ {
				login.Subject = fmt.Sprint("user", i, n)
				*scissors = cutter{writes: n, again: again}
				g, err := cutting.Create(t.Context(), login)
				wasCut = scissors.done
				if (err != nil) != (wasCut && !again) || isRefusal(err) {
					t.Fatalf("cut after %d writes: %v", n, err)
				}
				if err != nil {
					g, err = cutting.Create(t.Context(), login)
					must(t, err)
				}
				if index := h.index(t, login.Subject); len(index) != 1 || index[0] != g.Session.SID {
					t.Errorf("cut after %d writes: index %v, want only %s", n, index, g.Session.SID)
				}
				for key, want := range map[string]time.Duration{h.session(g.Session.SID): life, h.keys.User(login.Subject): indexLife} {
					if ttl := h.ttl(t, key); !near(ttl, want) {
						t.Errorf("cut after %d writes: %s lives %v, want %v", n, key, ttl, want)
					}
				}
				got, err := h.Get(t.Context(), g.Session.SID)
				if err != nil || !slices.Equal(got.Roles, login.Roles) || got.Scope != login.Scope || got.Subject != login.Subject {
					t.Errorf("cut after %d writes: %+v, %v", n, got, err)
				}
				if list, err := h.List(t.Context(), login.Subject); err != nil || len(list) != 1 {
					t.Errorf("cut after %d writes: %d sessions, %v", n, len(list), err)
				}
			}
		}
	})
}

// A crash between the two must leave what a verifier learns from the feed in
// Redis too, and a session that is out of the index dead.
func TestEndWritesInASafeOrder(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		client, _ := h.server.Flaky(t)
		scissors := &cutter{}
		client.AddHook(scissors)
		cutting := h.over(t, client, newSecret)
		for n := 0; ; n++ {
			d := h.login(t, fmt.Sprint("user", n), mobile)
			*scissors = cutter{writes: n}
			p, _ := partition.OfSID(d.sid)
			h.client.Persist(t.Context(), h.keys.Feed(p)) // as if this were its first line
			err := cutting.End(t.Context(), d.sid, refresh.Logout)
			// A second run writes nothing if the entry says that it is all done.
			entry := h.client.Get(t.Context(), h.denyKey(d.sid, d.sid)).Val()
			if ttl := h.ttl(t, h.keys.Feed(p)); entry == "1" && ttl <= 0 {
				t.Errorf("after %d writes: denied, and the feed lives for %v", n, ttl)
			}
			if ttl := h.ttl(t, h.denyKey(d.sid, d.sid)); entry != "" && ttl <= 0 {
				t.Errorf("after %d writes: the entry lives for %v", n, ttl)
			}
			denied, told := h.denied(t, d.sid), len(h.feed(t, d.sid)) > 0
			tomb := h.hash(t, d.sid)["end"] != ""
			indexed := slices.Contains(h.index(t, d.sub), d.sid)
			if told && !denied || tomb && !told || !indexed && !tomb {
				t.Errorf("after %d writes: denied %v, told %v, tombstone %v, in the index %v", n, denied, told, tomb, indexed)
			}
			list, listErr := h.List(t.Context(), d.sub)
			if listErr != nil || tomb != (len(list) == 0) {
				t.Errorf("after %d writes: tombstone %v, %d sessions listed, %v", n, tomb, len(list), listErr)
			}
			_, refused := d.ask(t.Context(), 0, "")
			if tomb != errors.Is(refused, refresh.ErrEnded) {
				t.Errorf("after %d writes: tombstone %v, refresh %v", n, tomb, refused)
			}
			if err == nil {
				return
			}
		}
	})
}

// Also a cut renewal of the policy is made up for, by the next refresh.
func TestPolicyRenewalCutAfterAnyWrite(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		client, _ := h.server.Flaky(t)
		scissors := &cutter{done: true}
		client.AddHook(scissors)
		cutting := h.over(t, client, newSecret)
		for n, wasCut := 0, true; wasCut; n++ {
			h.configure(mobile, func(p *refresh.Policy) { p.Window, p.Idle, p.Access = window, idle, access })
			d := h.login(t, fmt.Sprint("user", n), mobile)
			h.configure(mobile, func(p *refresh.Policy) { p.Window, p.Idle, p.Access = time.Minute, 2*idle, 3*access })
			d.st = cutting
			*scissors = cutter{writes: n, spare: 1} // the rotation itself
			g, err := d.ask(t.Context(), 0, "k")
			wasCut = scissors.done
			if err != nil {
				t.Fatalf("renewal cut after %d writes: %v", n, err)
			}
			d.st, d.tokens = h.Store, append(d.tokens, g.Token)
			last := d.refresh(t, 1, "l")
			hash := h.hash(t, d.sid)
			if hash["w"] != "60000" || hash["i"] != fmt.Sprint(int(2*idle/time.Second)) || hash["l"] != fmt.Sprint(int(3*access/time.Second)) {
				t.Errorf("cut after %d writes, after the next refresh: %v", n, hash)
			}
			if x, granted := hash["x"], last.AccessExpires.Unix(); x < fmt.Sprint(granted) {
				t.Errorf("cut after %d writes: highest expiry %s, granted %d", n, x, granted)
			}
			if ttl := h.ttl(t, h.session(d.sid)); !near(ttl, 2*idle) {
				t.Errorf("cut after %d writes: the session lives for %v", n, ttl)
			}
			if !wasCut && n < 4 {
				t.Errorf("only %d writes were cut", n)
			}
		}
	})
}
