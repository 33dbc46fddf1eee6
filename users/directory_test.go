package users_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/users"
)

var _ users.Authenticator = (*users.Directory)(nil)

const password = "correct horse"

func TestMain(m *testing.M) { redistest.Main(m) }

// house is a directory on one backend.
type house struct {
	*users.Directory
	server *redistest.Server
	client redis.UniversalClient
	keys   partition.Keys
	hasher *users.Hasher
}

func (h house) field(t *testing.T, username, field string) string {
	t.Helper()
	v, err := h.client.HGet(t.Context(), h.keys.Account(username), field).Result()
	if err != nil {
		t.Fatalf("field %s of %s: %v", field, username, err)
	}
	return v
}

func (h house) add(t *testing.T, username string, roles ...string) users.Account {
	t.Helper()
	a, err := h.Add(t.Context(), username, password, roles)
	if err != nil {
		t.Fatalf("add %s: %v", username, err)
	}
	return a
}

// stored returns all keys of the house, on all masters.
func (h house) stored(t *testing.T) []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	one := func(ctx context.Context, c *redis.Client) error {
		keys, err := c.Keys(ctx, h.keys.Prefix+":*").Result()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, keys...)
		return err
	}
	var err error
	switch c := h.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(t.Context(), one)
	case *redis.Client:
		err = one(t.Context(), c)
	}
	if err != nil {
		t.Fatalf("keys: %v", err)
	}
	return all
}

func newHouse(c redis.UniversalClient, prefix string) house {
	h := users.NewCheapHasher(users.HasherConfig{})
	return house{users.NewDirectory(c, prefix, h), nil, c, partition.Keys{Prefix: prefix}, h}
}

func each(t *testing.T, f func(t *testing.T, h house)) {
	t.Helper()
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		h := newHouse(s.Client, s.Prefix)
		h.server = s
		f(t, h)
	})
}

func TestAddedAccountLogsIn(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		before := h.server.Now().Truncate(time.Second)
		a := h.add(t, "alice", "admin", "reports:read", "admin")
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{16}$`).MatchString(a.Subject) {
			t.Errorf("subject %q", a.Subject)
		}
		if a.Username != "alice" || a.Disabled || !slices.Equal(a.Roles, []string{"admin", "reports:read"}) {
			t.Errorf("added %+v", a)
		}
		if a.CreatedAt.Before(before) || a.CreatedAt.After(h.server.Now()) || a.CreatedAt.Location() != time.UTC {
			t.Errorf("created at %v", a.CreatedAt)
		}
		got, err := h.Get(t.Context(), "alice")
		if err != nil || !sameAccount(got, a) {
			t.Errorf("got %+v, %v", got, err)
		}

		id, err := h.Authenticate(t.Context(), "alice", password)
		if err != nil {
			t.Fatal(err)
		}
		if id.Subject != a.Subject || id.Username != "alice" || !slices.Equal(id.Roles, a.Roles) || !slices.Equal(id.AMR, []string{"pwd"}) {
			t.Errorf("identity %+v", id)
		}
		want := users.Guard{Key: h.keys.Account("alice"), Field: "epoch", Value: "1"}
		if id.Guard != want {
			t.Errorf("guard %+v, want %+v", id.Guard, want)
		}
		if got := h.field(t, "alice", "epoch"); got != want.Value {
			t.Errorf("the guard's field holds %q", got)
		}
	})
}

// Other programs may read these records: their form is a contract.
func TestWhatLiesInRedis(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		a := h.add(t, "alice", "admin", "reports:read")
		key := h.keys.Account("alice")
		fields, err := h.client.HGetAll(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		for field, form := range map[string]string{
			"sub":        regexp.QuoteMeta(a.Subject),
			"password":   `\$argon2id\$v=19\$m=8,t=1,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}`,
			"roles":      "admin reports:read",
			"disabled":   "0",
			"epoch":      "1",
			"created_at": "[0-9]{10}",
		} {
			if !regexp.MustCompile("^" + form + "$").MatchString(fields[field]) {
				t.Errorf("field %s is %q", field, fields[field])
			}
		}
		if len(fields) != 6 {
			t.Errorf("fields %v", slices.Sorted(maps.Keys(fields)))
		}
		if name, err := h.client.Get(t.Context(), h.keys.Name(a.Subject)).Result(); name != "alice" || err != nil {
			t.Errorf("name %q, %v", name, err)
		}
		for _, k := range []string{key, h.keys.Name(a.Subject)} {
			if ttl, err := h.client.TTL(t.Context(), k).Result(); ttl != -1 || err != nil {
				t.Errorf("%s lives for %v, %v", k, ttl, err)
			}
		}
	})
}

func TestSubjectFallsIntoTheNamesPartition(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		seen := map[partition.ID]bool{}
		for i := range 60 {
			name := fmt.Sprintf("user-%d", i)
			a := h.add(t, name)
			if partition.Of(a.Subject) != partition.Of(name) {
				t.Errorf("%s is in %s, its subject in %s", name, partition.Of(name).Tag(), partition.Of(a.Subject).Tag())
			}
			seen[partition.Of(name)] = true
		}
		if len(seen) < 8 {
			t.Errorf("the names fell into %d partitions only", len(seen))
		}
	})
}

func TestUnknownWrongAndDisabledLookAlike(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		h.add(t, "alice")
		h.add(t, "mallory")
		if _, err := h.SetDisabled(t.Context(), "mallory", true); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var calls []users.HashCall
		h.hasher.OnHash(func(c users.HashCall) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, c)
		})
		attempt := func(username, password string) (users.Identity, []users.HashCall, error) {
			calls = nil
			id, err := h.Authenticate(t.Context(), username, password)
			return id, calls, err
		}
		_, work, err := attempt("alice", password)
		if err != nil || len(work) != 1 {
			t.Fatalf("right password: %v, work %v", err, work)
		}
		for _, c := range []struct{ what, username, password string }{
			{"wrong password", "alice", "correct horsf"},
			{"empty password", "alice", ""},
			{"over-long password", "alice", strings.Repeat("x", users.MaxPassword+1)},
			{"over-long right password", "alice", password + strings.Repeat("\x00", users.MaxPassword)},
			{"unknown user", "bob", password},
			{"unknown user, over-long password", "bob", strings.Repeat("x", users.MaxPassword+1)},
			{"other case", "Alice", password},
			{"disabled", "mallory", password},
			{"disabled and wrong", "mallory", "correct horsf"},
			{"impossible name", "al ice", password},
			{"empty name", "", password},
			{"over-long name", strings.Repeat("a", 1<<16), password},
			{"pattern", "*", password},
		} {
			id, got, err := attempt(c.username, c.password)
			if err != users.ErrCredentials { //nolint:errorlint // wrapping would make a difference visible
				t.Errorf("%s: %v", c.what, err)
			}
			if id.Subject != "" || id.Username != "" || id.Roles != nil || id.Guard != (users.Guard{}) {
				t.Errorf("%s: identity %+v", c.what, id)
			}
			if !slices.Equal(got, work) {
				t.Errorf("%s: work %v, want %v", c.what, got, work)
			}
		}
	})
}

func TestEachChangeMovesTheEpochOn(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		added := h.add(t, "alice", "admin")
		epoch := 1
		for _, c := range []struct {
			what   string
			change func() (users.Account, error)
			want   users.Account
		}{
			{"disable", func() (users.Account, error) { return h.SetDisabled(t.Context(), "alice", true) }, users.Account{Disabled: true, Roles: []string{"admin"}}},
			{"disable again", func() (users.Account, error) { return h.SetDisabled(t.Context(), "alice", true) }, users.Account{Disabled: true, Roles: []string{"admin"}}},
			{"roles", func() (users.Account, error) {
				return h.SetRoles(t.Context(), "alice", []string{"b", "a", "b"})
			}, users.Account{Disabled: true, Roles: []string{"b", "a"}}},
			{"password", func() (users.Account, error) {
				return h.SetPassword(t.Context(), "alice", "battery staple")
			}, users.Account{Disabled: true, Roles: []string{"b", "a"}}},
			{"enable", func() (users.Account, error) { return h.SetDisabled(t.Context(), "alice", false) }, users.Account{Roles: []string{"b", "a"}}},
			{"no roles", func() (users.Account, error) { return h.SetRoles(t.Context(), "alice", nil) }, users.Account{Roles: []string{}}},
		} {
			c.want.Username, c.want.Subject, c.want.CreatedAt = "alice", added.Subject, added.CreatedAt
			got, err := c.change()
			if err != nil || !sameAccount(got, c.want) {
				t.Errorf("%s: %+v, %v; want %+v", c.what, got, err, c.want)
			}
			if stored, err := h.Get(t.Context(), "alice"); err != nil || !sameAccount(stored, c.want) {
				t.Errorf("%s: stored %+v, %v; want %+v", c.what, stored, err, c.want)
			}
			epoch++
			if got := h.field(t, "alice", "epoch"); got != fmt.Sprint(epoch) {
				t.Errorf("%s: epoch %s, want %d", c.what, got, epoch)
			}
		}
		if _, err := h.Authenticate(t.Context(), "alice", password); !errors.Is(err, users.ErrCredentials) {
			t.Errorf("old password: %v", err)
		}
		id, err := h.Authenticate(t.Context(), "alice", "battery staple")
		if err != nil || id.Guard.Value != fmt.Sprint(epoch) || len(id.Roles) != 0 {
			t.Errorf("new password: %+v, %v", id, err)
		}
	})
}

// While a password is being checked, the account changes. The login's guard
// must be the epoch from before: then the session is refused.
func TestLoginThatRacesAChangeLoses(t *testing.T) {
	for what, change := range map[string]func(context.Context, house) error{
		"disable": func(ctx context.Context, h house) error {
			_, err := h.SetDisabled(ctx, "alice", true)
			return err
		},
		"roles": func(ctx context.Context, h house) error {
			_, err := h.SetRoles(ctx, "alice", []string{"guest"})
			return err
		},
		"password": func(ctx context.Context, h house) error {
			_, err := h.SetPassword(ctx, "alice", "battery staple")
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			each(t, func(t *testing.T, h house) {
				h.add(t, "alice", "admin")
				racing := newHouse(h.client, h.keys.Prefix)
				racing.hasher.OnHash(func(users.HashCall) {
					if err := change(t.Context(), h); err != nil {
						t.Errorf("change: %v", err)
					}
				})
				id, err := racing.Authenticate(t.Context(), "alice", password)
				if err != nil {
					t.Fatal(err)
				}
				if now := h.field(t, "alice", "epoch"); id.Guard.Value != "1" || now != "2" {
					t.Errorf("guard %q, epoch %q", id.Guard.Value, now)
				}
			})
		})
	}
}

func TestConcurrentChangesAllCount(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		h.add(t, "alice")
		const changes = 12
		var wg sync.WaitGroup
		for i := range changes {
			wg.Go(func() {
				if _, err := h.SetRoles(t.Context(), "alice", []string{fmt.Sprintf("r%d", i)}); err != nil {
					t.Errorf("change %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if got := h.field(t, "alice", "epoch"); got != fmt.Sprint(changes+1) {
			t.Errorf("epoch %s after %d changes", got, changes)
		}
	})
}

// The network can deliver a command long after its caller gave up on it and
// sent it again.
func TestLateDuplicateOfAChangeUndoesNothing(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		h.add(t, "alice")
		enabledAt := h.field(t, "alice", "epoch")
		for _, disabled := range []bool{false, true} {
			if _, err := h.SetDisabled(t.Context(), "alice", disabled); err != nil {
				t.Fatal(err)
			}
		}
		key := h.keys.Account("alice")
		reply, err := users.ChangeScript.Run(t.Context(), h.client, []string{key}, "disabled", "0", enabledAt)
		if err != nil || len(reply) != 1 || reply[0] != "stale" {
			t.Errorf("the late duplicate was answered %q, %v", reply, err)
		}
		if h.field(t, "alice", "disabled") != "1" {
			t.Error("the account is enabled again")
		}
		// Nor does it make half an account, whatever became of the whole one.
		key = h.keys.Account("nobody")
		reply, err = users.ChangeScript.Run(t.Context(), h.client, []string{key}, "disabled", "0", 1)
		if err != nil || len(reply) != 1 || reply[0] != "unknown" {
			t.Errorf("a change of what is not there was answered %q, %v", reply, err)
		}
	})
}

// The second run of a change, after its reply was lost, learns that it was done.
// If anything was done meanwhile it learns that.
func TestChangeThatRunsTwiceIsDoneOnce(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		h.add(t, "alice")
		change := func(field, value string, epoch int, want string) {
			t.Helper()
			reply, err := users.ChangeScript.Run(t.Context(), h.client, []string{h.keys.Account("alice")}, field, value, epoch)
			if err != nil || reply[0] != want {
				t.Errorf("%s to %s at epoch %d was answered %q, %v, want %s", field, value, epoch, reply, err, want)
			}
		}
		change("roles", "x", 1, "changed")
		change("roles", "x", 1, "changed")
		change("roles", "y", 1, "stale") // another's change came first
		if got := h.field(t, "alice", "epoch"); got != "2" {
			t.Errorf("epoch %s, want 2", got)
		}
		change("disabled", "1", 2, "changed")
		change("roles", "x", 1, "stale") // nobody can tell whose it is now
		change("disabled", "0", 4, "stale")
		if got := h.field(t, "alice", "disabled") + h.field(t, "alice", "epoch"); got != "13" {
			t.Errorf("disabled and epoch are %s", got)
		}
	})
}

func TestConcurrentAddsOfOneName(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		var won atomic.Pointer[users.Account]
		var winner atomic.Int64
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				a, err := h.Add(t.Context(), "alice", fmt.Sprintf("password-%d", i), nil)
				switch {
				case errors.Is(err, users.ErrExists):
				case err != nil:
					t.Errorf("add: %v", err)
				case !won.CompareAndSwap(nil, &a):
					t.Error("two adds won")
				default:
					winner.Store(int64(i))
				}
			})
		}
		wg.Wait()
		if won.Load() == nil {
			t.Fatal("no add won")
		}
		id, err := h.Authenticate(t.Context(), "alice", fmt.Sprintf("password-%d", winner.Load()))
		if err != nil || id.Subject != won.Load().Subject {
			t.Errorf("the winner's password: %+v, %v", id, err)
		}
		if keys := h.stored(t); len(keys) != 2 {
			t.Errorf("keys %v; want the account and one name", keys)
		}
	})
}

func TestUsername(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		a := h.add(t, "alice")
		for sub, want := range map[string]string{a.Subject: "alice", "someone-else": "", "": ""} {
			if got, err := h.Username(t.Context(), sub); got != want || err != nil {
				t.Errorf("subject %q: %q, %v", sub, got, err)
			}
		}
	})
}

func TestList(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		if got, err := h.List(t.Context()); len(got) != 0 || err != nil {
			t.Errorf("empty: %v, %v", got, err)
		}
		var want []users.Account
		for i := range 30 {
			want = append(want, h.add(t, fmt.Sprintf("user-%02d", (i*7)%30), "member"))
		}
		want = append(want, h.add(t, "a:b}c{d*[é]?"), h.add(t, "}:account:x"))
		slices.SortFunc(want, func(a, b users.Account) int { return strings.Compare(a.Username, b.Username) })

		// None of these is an account of this directory.
		h.add(t, "zoe")
		if err := h.client.Rename(t.Context(), h.keys.Account("zoe"), h.keys.Account("zoe")+" x").Err(); err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{partition.ID(0).Tag(), partition.ID(1).Tag(), "zz"} {
			key := h.keys.Prefix + ":{" + tag + "}:account:" // "user-00" is in one partition at most
			if got := h.keys.Account("user-00"); got != key+"user-00" {
				if err := h.client.HSet(t.Context(), key+"user-00", "sub", "stray").Err(); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.client.HSet(t.Context(), key+"no body", "sub", "stray").Err(); err != nil {
				t.Fatal(err)
			}
		}
		newHouse(h.client, h.keys.Prefix+"2").add(t, "neighbour")

		got, err := h.List(t.Context())
		if err != nil || !slices.EqualFunc(got, want, sameAccount) {
			t.Errorf("list %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func TestUnknownUser(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		for _, name := range []string{"nobody", "", "no body", strings.Repeat("n", 65)} {
			_, err1 := h.Get(t.Context(), name)
			_, err2 := h.SetPassword(t.Context(), name, password)
			_, err3 := h.SetRoles(t.Context(), name, nil)
			_, err4 := h.SetDisabled(t.Context(), name, true)
			for i, err := range []error{err1, err2, err3, err4} {
				if !errors.Is(err, users.ErrUnknownUser) {
					t.Errorf("%q, method %d: %v", name, i, err)
				}
			}
		}
		if keys := h.stored(t); len(keys) != 0 {
			t.Errorf("left behind: %v", keys)
		}
	})
}

func TestWhatAddRefuses(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		for _, c := range []struct {
			what, username, password string
			roles                    []string
			want                     error
		}{
			{"empty name", "", password, nil, users.ErrUsername},
			{"65 bytes", strings.Repeat("a", 65), password, nil, users.ErrUsername},
			{"33 letters of 2 bytes", strings.Repeat("é", 33), password, nil, users.ErrUsername},
			{"64 bytes", strings.Repeat("é", 32), password, nil, nil},
			{"space", "a b", password, nil, users.ErrUsername},
			{"no-break space", "a\u00a0b", password, nil, users.ErrUsername},
			{"line separator", "a\u2028b", password, nil, users.ErrUsername},
			{"newline", "ab\n", password, nil, users.ErrUsername},
			{"NUL", "a\x00b", password, nil, users.ErrUsername},
			{"DEL", "a\x7fb", password, nil, users.ErrUsername},
			{"C1 control", "a\u0085b", password, nil, users.ErrUsername},
			{"not UTF-8", "a\xffb", password, nil, users.ErrUsername},
			{"e-mail address", "ann@example.com", password, nil, nil},
			{"7 characters", "u1", "1234567", nil, users.ErrWeakPassword},
			{"7 characters of 4 bytes", "u2", strings.Repeat("🦊", 7), nil, users.ErrWeakPassword},
			{"8 characters", "u3", "12345678", nil, nil},
			{"8 characters of 4 bytes", "u4", strings.Repeat("🦊", 8), nil, nil},
			{"spaces in the password", "u5", "  a b c  ", nil, nil},
			{"1024 bytes", "u6", strings.Repeat("p", 1024), nil, nil},
			{"1025 bytes", "u7", strings.Repeat("p", 1025), nil, users.ErrLongPassword},
			{"empty role", "u8", password, []string{"a", ""}, users.ErrRoles},
			{"role with a space", "u9", password, []string{"a b"}, users.ErrRoles},
			{"role with a letter beyond ASCII", "u10", password, []string{"é"}, users.ErrRoles},
			{"role that is not UTF-8", "u11", password, []string{"a\xff"}, users.ErrRoles},
			{"role of 65", "u12", password, []string{strings.Repeat("r", 65)}, users.ErrRoles},
			{"all characters", "u13", password, []string{"Az09._:-"}, nil},
			{"256 bytes of roles", "u14", password, rolesOf(64, 64, 64, 61), nil},
			{"257 bytes of roles", "u15", password, rolesOf(64, 64, 64, 62), users.ErrRoles},
		} {
			_, err := h.Add(t.Context(), c.username, c.password, c.roles)
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.what, err, c.want)
			}
			if err != nil {
				continue
			}
			id, err := h.Authenticate(t.Context(), c.username, c.password)
			if err != nil || !slices.Equal(id.Roles, c.roles) {
				t.Errorf("%s: login %+v, %v", c.what, id, err)
			}
		}
		h.add(t, "alice")
		if _, err := h.SetPassword(t.Context(), "alice", "1234567"); !errors.Is(err, users.ErrWeakPassword) {
			t.Errorf("weak password set: %v", err)
		}
		if _, err := h.SetPassword(t.Context(), "alice", strings.Repeat("p", 1025)); !errors.Is(err, users.ErrLongPassword) {
			t.Errorf("long password set: %v", err)
		}
		if _, err := h.SetRoles(t.Context(), "alice", []string{"a b"}); !errors.Is(err, users.ErrRoles) {
			t.Errorf("bad role set: %v", err)
		}
		if got := h.field(t, "alice", "epoch"); got != "1" {
			t.Errorf("a refused change moved the epoch to %s", got)
		}
	})
}

// A record that lost a field lets nobody in, and is not taken for a wrong
// password: the user could do nothing about it.
func TestDamagedAccount(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		for _, field := range []string{"sub", "password", "epoch", "created_at"} {
			name := "lost-" + field
			h.add(t, name)
			if err := h.client.HDel(t.Context(), h.keys.Account(name), field).Err(); err != nil {
				t.Fatal(err)
			}
			refusesAsTrouble(t, h, name)
		}
		h.add(t, "odd-hash")
		if err := h.client.HSet(t.Context(), h.keys.Account("odd-hash"), "password", "$argon2id$v=19$m=262145,t=2,p=1$"+salt16+"$"+hash32).Err(); err != nil {
			t.Fatal(err)
		}
		refusesAsTrouble(t, h, "odd-hash")
		if err := h.client.Set(t.Context(), h.keys.Account("no-hash"), "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
		refusesAsTrouble(t, h, "no-hash")

		h.add(t, "no-mark")
		if err := h.client.HDel(t.Context(), h.keys.Account("no-mark"), "disabled").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Authenticate(t.Context(), "no-mark", password); !errors.Is(err, users.ErrCredentials) {
			t.Errorf("account without the disabled field: %v", err)
		}
	})
}

func refusesAsTrouble(t *testing.T, h house, name string) {
	t.Helper()
	_, err := h.Authenticate(t.Context(), name, password)
	if err == nil || errors.Is(err, users.ErrCredentials) || errors.Is(err, users.ErrUnknownUser) {
		t.Errorf("%s: %v", name, err)
	} else if strings.Contains(err.Error(), "$") {
		t.Errorf("%s: the error quotes the hash: %v", name, err)
	}
}

func TestRedisTroubleIsNotAWrongPassword(t *testing.T) {
	dead := redis.NewClient(&redis.Options{
		Dialer:     func(context.Context, string, string) (net.Conn, error) { return nil, errNoRedis },
		MaxRetries: -1, DialerRetries: 1,
	})
	defer dead.Close() //nolint:errcheck // nothing was opened
	h := newHouse(dead, "authapi")
	const secret = "a-very-secret-password"
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"authenticate": func() error { _, err := h.Authenticate(ctx, "alice", secret); return err },
		"add":          func() error { _, err := h.Add(ctx, "alice", secret, nil); return err },
		"get":          func() error { _, err := h.Get(ctx, "alice"); return err },
		"list":         func() error { _, err := h.List(ctx); return err },
		"username":     func() error { _, err := h.Username(ctx, "sub"); return err },
		"set password": func() error { _, err := h.SetPassword(ctx, "alice", secret); return err },
		"set roles":    func() error { _, err := h.SetRoles(ctx, "alice", nil); return err },
		"set disabled": func() error { _, err := h.SetDisabled(ctx, "alice", true); return err },
	} {
		err := call()
		if !errors.Is(err, errNoRedis) || errors.Is(err, users.ErrCredentials) || errors.Is(err, users.ErrUnknownUser) {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "argon2")) {
			t.Errorf("%s: the error gives a secret away: %v", what, err)
		}
	}
}

var errNoRedis = errors.New("no route to Redis")

// The Redis client sends a script again when its reply was lost. Then an Add
// finds the account that it made itself.
func TestLostReplies(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		client, flaky := h.server.Flaky(t)
		d := newHouse(client, h.keys.Prefix)

		flaky.LoseReplies(2)
		a, err := d.Add(t.Context(), "alice", password, []string{"admin"})
		if err != nil || flaky.Lost() != 2 {
			t.Fatalf("add: %v after %d lost replies", err, flaky.Lost())
		}
		if got, err := h.Get(t.Context(), "alice"); err != nil || !sameAccount(got, a) {
			t.Errorf("added %+v, got %+v, %v", a, got, err)
		}
		if keys := h.stored(t); len(keys) != 2 {
			t.Errorf("keys %v; want the account and one name", keys)
		}

		flaky.LoseReplies(2)
		changed, err := d.SetDisabled(t.Context(), "alice", true)
		if err != nil || !changed.Disabled || flaky.Lost() != 4 {
			t.Errorf("disable: %+v, %v after %d lost replies", changed, err, flaky.Lost())
		}
		if got := h.field(t, "alice", "epoch"); got == "1" {
			t.Error("the epoch did not move")
		}
	})
}

// Locking someone out cannot wait until Redis has room.
func TestFullRedis(t *testing.T) {
	s := redistest.Redis(t)
	h := newHouse(s.Client, s.Prefix)
	h.add(t, "alice", "admin")
	if err := s.Client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Add(t.Context(), "bob", password, nil); err == nil || errors.Is(err, users.ErrExists) {
		t.Errorf("add: %v", err)
	}
	if keys := h.stored(t); len(keys) != 2 {
		t.Errorf("a refused add left %v", keys)
	}
	if _, err := h.SetRoles(t.Context(), "alice", nil); err != nil {
		t.Errorf("set roles: %v", err)
	}
	if _, err := h.SetPassword(t.Context(), "alice", "battery staple"); err != nil {
		t.Errorf("set password: %v", err)
	}
	if id, err := h.Authenticate(t.Context(), "alice", "battery staple"); err != nil || len(id.Roles) != 0 {
		t.Errorf("login: %+v, %v", id, err)
	}
	if a, err := h.SetDisabled(t.Context(), "alice", true); err != nil || !a.Disabled {
		t.Errorf("disable: %+v, %v", a, err)
	}
}

func sameAccount(a, b users.Account) bool {
	return a.Username == b.Username && a.Subject == b.Subject && slices.Equal(a.Roles, b.Roles) &&
		a.Disabled == b.Disabled && a.CreatedAt.Equal(b.CreatedAt)
}

// rolesOf makes different role names of the given lengths.
func rolesOf(lengths ...int) []string {
	var roles []string
	for i, n := range lengths {
		roles = append(roles, strings.Repeat(string(rune('a'+i)), n))
	}
	return roles
}

// Whoever logs in must not get the account of somebody who does at the same time,
// nor be refused because their password is another.
func TestRow41ShiftedReplyIsNoOtherAccount(t *testing.T) {
	each(t, func(t *testing.T, h house) {
		subjects := map[string]string{}
		for _, name := range []string{"alice", "bob"} {
			subjects[name] = h.add(t, name).Subject
		}
		client, lags := h.server.Lagging(t)
		d := users.NewDirectory(client, h.server.Prefix, h.hasher)
		troubles := 0
		for i := range 12 {
			lags.Store(i > 1)
			name := []string{"alice", "bob"}[i%2]
			id, err := d.Authenticate(t.Context(), name, password)
			got, nameErr := d.Username(t.Context(), subjects[name])
			switch {
			case errors.Is(err, users.ErrCredentials), err == nil && id.Subject != subjects[name]:
				t.Errorf("%s logged in: %+v, %v", name, id, err)
			case nameErr == nil && got != name:
				t.Errorf("the name of %s is %q", name, got)
			case err != nil:
				troubles++
			}
		}
		if troubles == 0 {
			t.Error("nothing failed: did replies shift?")
		}
	})
}

// A Redis whose replicas have gone, or that cannot save, takes no writes
// (min-replicas-to-write). Whoever reads need not care.
func TestAccountsAreReadWhenRedisTakesNoWrites(t *testing.T) {
	s := redistest.Redis(t)
	h := newHouse(s.Client, s.Prefix)
	sub := h.add(t, "alice").Subject
	if err := s.Client.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	defer s.Client.ConfigSet(context.Background(), "min-replicas-to-write", "0")
	if _, err := h.SetDisabled(t.Context(), "alice", true); err == nil {
		t.Fatal("it takes writes")
	}
	if _, err := h.Get(t.Context(), "alice"); err != nil {
		t.Error(err)
	}
	if name, err := h.Username(t.Context(), sub); name != "alice" || err != nil {
		t.Errorf("the name is %q, %v", name, err)
	}
	if _, err := h.Authenticate(t.Context(), "alice", password); err != nil {
		t.Error(err)
	}
	if _, err := h.Authenticate(t.Context(), "alice", "wrong password"); !errors.Is(err, users.ErrCredentials) {
		t.Errorf("a wrong password is %v", err)
	}
}
