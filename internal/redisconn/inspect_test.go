package redisconn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/redis/go-redis/v9"
)

// inspect returns the report and its findings by subject, each "level: message".
func inspect(t *testing.T, client redis.UniversalClient) (redisconn.Report, map[string]string) {
	t.Helper()
	r, err := redisconn.Inspect(t.Context(), client, redisconn.Needs{})
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	refused := 0
	for _, f := range r.Findings {
		if _, twice := found[f.Subject]; twice {
			t.Errorf("two findings about %s", f.Subject)
		}
		found[f.Subject] = f.Level.String() + ": " + f.Message
		if f.Level == redisconn.Refuse {
			refused++
			if r.Err() == nil || !strings.Contains(r.Err().Error(), f.Message) {
				t.Errorf("Err() = %v does not hold %q", r.Err(), f.Message)
			}
		}
	}
	if (r.Err() != nil) != (refused > 0) || r.Err() != nil && !errors.Is(r.Err(), redisconn.ErrRefused) {
		t.Errorf("Err() = %v with %d refusals", r.Err(), refused)
	}
	return r, found
}

func expect(t *testing.T, found map[string]string, subject, begins string, contains ...string) {
	t.Helper()
	for _, part := range contains {
		if !strings.Contains(found[subject], part) {
			t.Errorf("%s: got %q, want %q in it", subject, found[subject], part)
		}
	}
	if !strings.HasPrefix(found[subject], begins+": ") {
		t.Errorf("%s: got %q, want level %s", subject, found[subject], begins)
	}
}

func TestInspectGoodServer(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *redistest.Server{
		"standalone": redistest.Redis, "cluster": redistest.Cluster,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			r, found := inspect(t, open(t, s.URL, redisconn.Options{}))
			if r.Err() != nil {
				t.Error(r.Err())
			}
			if r.Mode != name || r.Masters != len(s.Addrs()) {
				t.Errorf("mode %q with %d masters, want %q with %d", r.Mode, r.Masters, name, len(s.Addrs()))
			}
			if !strings.HasPrefix(r.Version, "Redis ") && !strings.HasPrefix(r.Version, "Valkey ") {
				t.Errorf("version %q", r.Version)
			}
			for _, subject := range []string{"reachable", "mode", "version", "role", "maxmemory_policy", "clock"} {
				expect(t, found, subject, "ok")
			}
			expect(t, found, "persistence", "warn", "none: ", "appendonly yes")
		})
	}
}

func TestInspectSettings(t *testing.T) {
	s := redistest.Redis(t)
	client := open(t, s.URL, redisconn.Options{})
	for _, c := range []struct{ name, value, subject, level, says string }{
		{"maxmemory-policy", "allkeys-lru", "maxmemory_policy", "refuse", "allkeys-lru"},
		{"maxmemory-policy", "volatile-ttl", "maxmemory_policy", "refuse", "noeviction"},
		{"maxmemory-policy", "noeviction", "maxmemory_policy", "ok", ""},
		{"save", "3600 1", "persistence", "warn", "snapshots only"},
		{"appendonly", "yes", "persistence", "ok", ""},
		{"appendonly", "no", "persistence", "warn", "snapshots only"},
		{"save", "", "persistence", "warn", "none: "},
	} {
		if err := s.Client.ConfigSet(t.Context(), c.name, c.value).Err(); err != nil {
			t.Fatal(err)
		}
		_, found := inspect(t, client)
		expect(t, found, c.subject, c.level, c.says)
	}
	if err := s.Client.Do(t.Context(), "replicaof", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	_, found := inspect(t, client)
	expect(t, found, "role", "refuse", "sentinel://")
}

func TestInspectClock(t *testing.T) {
	s := redistest.Redis(t)
	client := open(t, s.URL, redisconn.Options{})
	var moved time.Duration
	for _, c := range []struct {
		skew  time.Duration
		level string
		says  string
	}{
		{0, "ok", ""},
		{time.Second, "ok", "ahead"},
		{5 * time.Second, "warn", "ahead"},
		{time.Minute, "refuse", "1m0"},
		{-5 * time.Second, "warn", "behind"},
		{-time.Minute, "refuse", "behind"},
	} {
		s.Advance(c.skew - moved)
		moved = c.skew
		_, found := inspect(t, client)
		expect(t, found, "clock", c.level, c.says)
	}
}

// TestInspectAsksEveryMaster spoils one master of three, each in turn.
func TestInspectAsksEveryMaster(t *testing.T) {
	s := redistest.Cluster(t)
	client := open(t, s.URL, redisconn.Options{})
	for _, addr := range s.Addrs() {
		node := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
		defer node.Close()
		if err := node.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
			t.Fatal(err)
		}
		_, found := inspect(t, client)
		if err := node.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err(); err != nil {
			t.Fatal(err)
		}
		expect(t, found, "maxmemory_policy", "refuse", addr)
	}
	s.Advance(time.Minute)
	_, found := inspect(t, client)
	expect(t, found, "clock", "refuse", "3 of 3 masters")
}

func TestInspectReportsTrouble(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *redistest.Server{
		"standalone": redistest.Redis, "cluster": redistest.Cluster,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			client := open(t, s.URL, redisconn.Options{})
			s.Pause()
			var r redisconn.Report
			err := within(t, limit, func(ctx context.Context) (err error) {
				r, err = redisconn.Inspect(ctx, client, redisconn.Needs{})
				return err
			})
			if !errors.Is(err, redisconn.ErrUnreachable) || !errors.Is(r.Err(), redisconn.ErrRefused) {
				t.Errorf("error %v, report %+v; want ErrUnreachable and a refusal", err, r)
			}
		})
	}
}

// TestInspectPermissions: managed services forbid CONFIG, and a careful
// operator grants only what is needed.
func TestInspectPermissions(t *testing.T) {
	s := redistest.Redis(t)
	for user, rules := range map[string][]any{
		"enough": {"+info", "+ping", "+time", "+echo", "+select"},
		"mute":   {"+info", "+ping", "+time", "+select"},
		"little": {"+ping", "+time", "+select"},
	} {
		if err := s.Client.Do(t.Context(), append([]any{"acl", "setuser", user, "on", ">pw-of-" + user}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	as := func(user, password string) string {
		return strings.Replace(s.URL, "unix://", "unix://"+user+":"+password+"@", 1)
	}
	_, found := inspect(t, open(t, as("enough", "pw-of-enough"), redisconn.Options{}))
	expect(t, found, "maxmemory_policy", "ok")
	expect(t, found, "persistence", "warn", "does not tell")

	for _, c := range []struct{ url, says string }{
		{as("mute", "pw-of-mute"), "+echo"},
		{as("little", "pw-of-little"), "+info"},
		{as("little", "pw-of-wrong"), "WRONGPASS"},
	} {
		_, err := redisconn.Open(t.Context(), c.url, redisconn.Options{})
		if !errors.Is(err, redisconn.ErrUnreachable) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "pw-of") {
			t.Errorf("got %v; want ErrUnreachable that says %q and no password", err, c.says)
		}
	}
}

// TestInspectOtherServers judges servers that are not at hand by their INFO.
func TestInspectOtherServers(t *testing.T) {
	for _, c := range []struct{ name, info, subject, level, says string }{
		{"old", "redis_version:6.2.14", "version", "refuse", "Redis 6.2.14 is too old"},
		{"very old", "redis_version:2.8.9", "version", "refuse", "too old"},
		{"oldest supported", "redis_version:7.0.0", "version", "ok", "Redis 7.0.0"},
		{"two digits", "redis_version:10.1.0", "version", "ok", "Redis 10.1.0"},
		{"Valkey", "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0", "version", "ok", "Valkey 8.1.0"},
		{"silent", "x:y", "version", "refuse", "does not state"},
		{"nonsense", "redis_version:new", "version", "refuse", "does not state"},
		{"no policy", "redis_version:7.2.0", "maxmemory_policy", "refuse", "does not state"},
		{"full disk", "aof_enabled:1\r\naof_last_write_status:err", "persistence", "warn", "cannot be written"},
		{"failed snapshot", "aof_enabled:0\r\nrdb_last_bgsave_status:err", "persistence", "warn", "snapshot failed"},
		{"sentinel", "redis_mode:sentinel", "role", "refuse", "sentinel://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := fakeServer(t, func(args []string) string {
				switch strings.ToLower(args[0]) {
				case "info":
					return fmt.Sprintf("$%d\r\n%s\r\n", len(c.info), c.info)
				case "ping":
					return "+PONG\r\n"
				case "time":
					return fmt.Sprintf("*2\r\n$10\r\n%d\r\n$1\r\n0\r\n", time.Now().Unix())
				default:
					return "-ERR unknown command\r\n"
				}
			})
			_, found := inspect(t, open(t, "redis://"+addr, redisconn.Options{}))
			expect(t, found, c.subject, c.level, c.says)
		})
	}
}
