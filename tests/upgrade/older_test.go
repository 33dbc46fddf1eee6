package upgrade_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/program"
)

// older is what an earlier version of the program has left in Redis, recorded from a
// running one. Its times are moved to the present when it is put back. In the texts of
// Keys each character is a byte.
type older struct {
	WrittenBy string `json:"written_by"`
	At        int64  `json:"at"` // ms
	Secret    string `json:"secret"`
	User      string `json:"user"`
	Password  string `json:"password"`
	Sessions  map[string]struct {
		Token string `json:"token"`
		Spent string `json:"spent"` // the token before
		Key   string `json:"key"`   // with which it was spent
	} `json:"sessions"`
	Keys map[string]struct {
		Type  string          `json:"type"`
		TTL   int64           `json:"ttl"` // ms, -1: for ever
		Value json.RawMessage `json:"value"`
	} `json:"keys"`
}

// The fields of a session that hold a time, in ms and in s.
const timesMS, timesS = " r end ", " o u a x "

func (o older) restore(t *testing.T, s *redistest.Server) {
	t.Helper()
	ctx := t.Context()
	later := time.Now().UnixMilli() - o.At
	for name, k := range o.Keys {
		name = s.Prefix + strings.TrimPrefix(name, "authapi")
		var err error
		switch k.Type {
		case "string":
			var value string
			_ = json.Unmarshal(k.Value, &value)
			err = s.Client.Set(ctx, name, octets(value), 0).Err()
		case "zset":
			var members map[string]float64
			_ = json.Unmarshal(k.Value, &members)
			for member, score := range members {
				err = s.Client.ZAdd(ctx, name, redis.Z{Member: member, Score: score + float64(later)}).Err()
			}
		case "hash":
			var fields map[string]string
			_ = json.Unmarshal(k.Value, &fields)
			if fields["q"] != "" {
				t.Fatalf("%s is not old: it has the field q", name)
			}
			for f, v := range fields {
				if strings.Contains(name, ":session:") {
					v = moved(f, v, later)
				}
				if err == nil {
					err = s.Client.HSet(ctx, name, f, octets(v)).Err()
				}
			}
		default:
			t.Fatalf("%s is a %s", name, k.Type)
		}
		if err == nil && k.TTL > 0 {
			err = s.Client.PExpire(ctx, name, time.Duration(k.TTL)*time.Millisecond).Err()
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func octets(text string) (b []byte) {
	for _, r := range text {
		b = append(b, byte(r))
	}
	return b
}

func moved(field, value string, later int64) string {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err != nil:
		return value
	case strings.Contains(timesMS, " "+field+" "):
		return strconv.FormatInt(n+later, 10)
	case strings.Contains(timesS, " "+field+" "):
		return strconv.FormatInt(n+later/1000, 10)
	}
	return value
}

// Row 31: sessions, accounts and signing keys that earlier versions have written are
// used by this one. Nobody is logged out, and no replay goes unnoticed.
func TestRow31SessionsOfEarlierVersions(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("recordings: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			var o older
			text, err := os.ReadFile(file)
			if err == nil {
				err = json.Unmarshal(text, &o)
			}
			if err != nil {
				t.Fatal(err)
			}
			s := redistest.Redis(t)
			o.restore(t, s)
			keys := s.Client.Get(context.Background(), s.Prefix+":keyring").Val()
			p := program.Start(t, program.Settings(s, "AUTHAPI_SECRET="+o.Secret))
			if now := s.Client.Get(t.Context(), s.Prefix+":keyring").Val(); keys == "" || !strings.HasPrefix(now, keys[:12]) {
				t.Errorf("the signing keys %.12q have become %.12q", keys, now)
			}
			c := asker{t, p.URL}
			token := func(name string) string { return o.Sessions[name].Token }

			// What was never refreshed, and what was, goes on; twice, since the first refresh
			// writes the fields of today.
			for _, name := range []string{"new", "keyed", "repeated"} {
				next := c.refresh(token(name), "").is(200, "").Refresh
				again := c.refresh(next, "a key").is(200, "").Refresh
				c.refresh(next, "a key").is(200, "").same(again)
			}

			// An answer that was lost before the upgrade: the same successor, hours later too.
			e := c.fresh(o, s)
			keyed := o.Sessions["keyed"]
			e.refresh(keyed.Spent, keyed.Key).is(200, "").same(keyed.Token)
			e.refresh(keyed.Token, "").is(200, "")

			// A token that was spent before the upgrade, used by another: noticed.
			stolen := o.Sessions["stolen"]
			e.refresh(stolen.Spent, "another key").is(401, "reused")
			e.refresh(stolen.Token, "").is(401, "reused")

			// What had ended stays ended, and says why.
			e.refresh(token("loggedout"), "").is(401, "ended")
			e.refresh(token("caught"), "").is(401, "reused")

			// A cookie's session, which a body cannot use. The first version had none.
			if cookie := token("cookie"); cookie != "" {
				e.refresh(cookie, "").is(401, "")
				e.send("/refresh", `{}`, "Cookie", "__Host-refresh="+cookie, "X-Requested-With", "authapi",
					"Origin", "https://auth.example.com", "Sec-Fetch-Site", "same-origin").is(200, "")
			}

			// The account: a login, all sessions seen, all ended.
			login := e.send("/login", `{"username":"`+o.User+`","password":"`+o.Password+`"}`).is(200, "")
			out, err := p.Command("", "sessions", "list", o.User)
			if err != nil || strings.Count(out, "a phone") < 2 {
				t.Errorf("sessions list: %v\n%s", err, out)
			}
			if out, err := p.Command("", "sessions", "end", o.User); err != nil {
				t.Errorf("sessions end: %v\n%s", err, out)
			}
			for _, t := range []string{login.Refresh, token("new"), token("repeated")} {
				e.refresh(t, "").is(401, "ended")
			}
		})
	}
}

// fresh puts everything back as it was recorded.
func (c asker) fresh(o older, s *redistest.Server) asker {
	c.t.Helper()
	for name := range o.Keys {
		name = s.Prefix + strings.TrimPrefix(name, "authapi")
		if strings.Contains(name, ":session:") {
			if err := s.Client.Del(c.t.Context(), name).Err(); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	o.restore(c.t, s)
	return c
}

type asker struct {
	t   *testing.T
	url string
}

type told struct {
	answer
	t *testing.T
}

func (c asker) send(path, body string, headers ...string) told {
	c.t.Helper()
	req, err := http.NewRequest(http.MethodPost, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	a := told{t: c.t}
	_ = json.NewDecoder(res.Body).Decode(&a.answer)
	a.status = res.StatusCode
	return a
}

func (c asker) refresh(token, key string) told {
	c.t.Helper()
	var headers []string
	if key != "" {
		headers = []string{"Idempotency-Key", key}
	}
	return c.send("/refresh", `{"refresh_token":"`+token+`"}`, headers...)
}

func (a told) is(status int, reason string) told {
	a.t.Helper()
	if a.status != status || reason != "" && a.Reason != reason {
		a.t.Errorf("got %d %s %s, want %d %s", a.status, a.Error, a.Reason, status, reason)
	}
	return a
}

func (a told) same(token string) {
	a.t.Helper()
	if a.Refresh != token {
		a.t.Errorf("the successor is %s, and was %s", a.Refresh, token)
	}
}
