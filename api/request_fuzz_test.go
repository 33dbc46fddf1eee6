package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/users"
)

// The targets here send bodies through the whole handler. There is no Redis:
// what they can say is refused before one is asked, or by the directory below.

// nobody refuses everybody, and remembers who it was.
type nobody struct{ username, password, asked string }

func (n *nobody) Authenticate(_ context.Context, username, password string) (users.Identity, error) {
	n.username, n.password, n.asked = username, password, "asked"
	return users.Identity{}, users.ErrCredentials
}

type oneKey struct{ key *tokens.SigningKey }

func (k oneKey) Signer() *tokens.SigningKey { return k.key }

func (k oneKey) KeySet() *tokens.KeySet {
	set, _ := tokens.NewKeySet(k.key.Public())
	return set
}

const shopSecret = "kK2q1mXlD9cT7vR0wZs5yB8nHf3gUjLp"

// offline is the API without a Redis, and its directory.
func offline(tb testing.TB) (*API, *nobody) {
	tb.Helper()
	must := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	tb.Cleanup(func() { client.Close() })
	clients := BuiltinClients()
	clients["shop"] = Client{ID: "shop", Policy: DefaultPolicy(refresh.Authenticated), Secrets: []ClientSecret{HashClientSecret(shopSecret)}}
	clients["gate"] = Client{ID: "gate", Secrets: []ClientSecret{HashClientSecret(shopSecret)}, MayIntrospect: true}
	clients["page"] = Client{ID: "page"}
	sessions, err := refresh.New(client, refresh.Options{Prefix: "x", Secrets: [][]byte{bytes.Repeat([]byte("0123456789abcdef"), 2)}, Policy: clients.Policy})
	must(err)
	key, err := tokens.GenerateKey("ES256")
	must(err)
	who := &nobody{}
	a, err := New(Config{
		Issuer: "https://auth.example.com", Audience: "https://auth.example.com", Clients: clients,
		Sessions: sessions, Denylist: denylist.New(client, "x"), Keys: oneKey{key}, Users: who,
		Ready: func(context.Context) error { return nil },
	})
	must(err)
	return a, who
}

// reply is what an answer says: its status and its error.
type reply struct {
	Status int
	Code   string `json:"error"`
}

// post sends a body, with its length or without.
func post(tb testing.TB, a *API, path, contentType string, body []byte, sized bool) reply {
	tb.Helper()
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	if !sized {
		r.ContentLength = -1
	}
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	v := reply{Status: w.Code}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || len(w.Header()["Set-Cookie"]) > 0 {
		tb.Fatalf("%d %q %v: %v", w.Code, w.Body, w.Header(), err)
	}
	return v
}

var malformed = reply{400, "invalid_request"}

// loginAs is what a login with this body must come to, by a reading that knows
// only the tokens of encoding/json: the directory is asked about these two, or
// it is not asked.
func loginAs(body []byte) (username, password string, v reply) {
	if len(body) > 8<<10 {
		return "", "", reply{413, "invalid_request"}
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return "", "", malformed
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return "", "", malformed
	}
	most := map[string]int{"username": 64, "password": 1024, "device": 64, "client_id": 64}
	got := map[string]string{}
	var names []string
	for d.More() {
		name, ok := nextText(d, body)
		if !ok || len(names) == 128 {
			return "", "", malformed
		}
		for _, other := range names {
			if strings.EqualFold(name, other) {
				return "", "", malformed
			}
		}
		names = append(names, name)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return "", "", malformed
		}
		for known, limit := range most {
			if !strings.EqualFold(name, known) {
				continue
			}
			value := json.NewDecoder(bytes.NewReader(raw))
			text, ok := nextText(value, raw)
			if !ok || name != known || len(text) > limit {
				return "", "", malformed
			}
			got[known] = text
		}
	}
	username, password = got["username"], got["password"]
	switch client := cmp.Or(got["client_id"], "mobile"); {
	case username == "" || password == "":
		return "", "", malformed
	case client == "mobile":
		return username, password, reply{401, "invalid_grant"}
	case client == "web":
		return "", "", reply{403, "access_denied"} // no page sends this
	case client == "shop" || client == "gate":
		return "", "", reply{401, "invalid_client"}
	case client == "page":
		return "", "", reply{400, "unauthorized_client"}
	}
	return "", "", reply{400, "invalid_client"}
}

// nextText reads one string of JSON, unless it stands for no text: the decoder
// puts U+FFFD where an unpaired surrogate was.
func nextText(d *json.Decoder, data []byte) (string, bool) {
	before := d.InputOffset()
	token, err := d.Token()
	text, ok := token.(string)
	if err != nil || !ok {
		return "", false
	}
	meant := 0
	raw := string(data[before:d.InputOffset()])
	for raw = raw[strings.IndexByte(raw, '"'):]; raw != ""; {
		switch {
		case len(raw) >= 6 && raw[0] == '\\' && strings.EqualFold(raw[1:6], "ufffd"):
			meant++
			raw = raw[6:]
		case raw[0] == '\\':
			raw = raw[2:]
		default:
			r, size := utf8.DecodeRuneInString(raw)
			if r == utf8.RuneError {
				meant++
			}
			raw = raw[size:]
		}
	}
	return text, strings.Count(text, "\ufffd") == meant
}

// FuzzJSONBody: a login is understood as a strict reader understands it, or
// refused; and no body is trouble.
func FuzzJSONBody(f *testing.F) {
	for _, body := range []string{
		`{"username":"alice","password":"correct horse"}`,
		`{"username":"alice","password":"correct horse","device":"\ud83d\ude00","client_id":"mobile","x":[{"username":1}]}`,
		`{"username":"alice","password":"x","client_id":"web"}`,
		`{"username":"alice","password":"x","client_id":"shop"}`,
		`{"username":"alice","password":"x","client_id":"page"}`,
		`{"username":"alice","username":"bob","password":"x"}`,
		`{"username":"alice","u\u0073ername":"bob","password":"x"}`,
		`{"username":"alice","u` + "\u017f" + `ername":"bob","password":"x"}`,
		`{"username":"alice","Username":"bob","password":"x"}`,
		`{"USERNAME":"alice","password":"x"}`,
		`{"username":["alice"],"password":{"$ne":null}}`,
		`{"__proto__":{"username":"bob"},"username":"alice","password":"x"}`,
		`{"username":"\ud800","password":"x"}`,
		`{"username":"\ufffd\\ufffd","password":"\u0000"}`,
		`{"username":"alice","password":"x","\udc00":1}`,
		"\ufeff" + `{"username":"alice","password":"x"}`,
		"{\"username\":\"al\xc0\xafice\",\"password\":\"x\"}",
		"{\x00\"\x00u\x00\"\x00:\x001\x00}\x00",
		`+AHsAIg-username+ACI-:1}`,
		`{"username":"alice","password":"x"}{"username":"bob","password":"x"}`,
		`[]`, `null`, ``, `{`,
	} {
		f.Add([]byte(body), true)
	}
	f.Add([]byte(`{"username":"alice","password":"x"}`+strings.Repeat(" ", 8<<10)), false)
	a, who := offline(f)
	f.Fuzz(func(t *testing.T, body []byte, sized bool) {
		*who = nobody{}
		got := post(t, a, "/login", "application/json", body, sized)
		username, password, want := loginAs(body)
		if got != want || who.username != username || who.password != password || (who.asked != "") != (username != "") {
			t.Fatalf("%q: %+v as %+v, want %+v as %q, %q", body, got, *who, want, username, password)
		}
	})
}

// unescape undoes the encoding of forms (URL Standard, 5.1), but takes no
// percent sign for itself.
func unescape(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			b.WriteByte(' ')
		case '%':
			if i+3 > len(s) {
				return "", false
			}
			const digits = "0123456789abcdef"
			high, low := strings.IndexByte(digits, s[i+1]|0x20), strings.IndexByte(digits, s[i+2]|0x20)
			// A digit has that bit already; what gets to be one by it does not count.
			if high < 0 || low < 0 || s[i+1] < '0' || s[i+2] < '0' {
				return "", false
			}
			b.WriteByte(byte(high<<4 | low))
			i += 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), true
}

// refreshing is what the refresh grant with this form must come to. No token that
// it may hold is genuine.
func refreshing(body []byte) reply {
	if len(body) > 8<<10 {
		return reply{413, "invalid_request"}
	}
	form := map[string]string{}
	for pair := range strings.SplitSeq(string(body), "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, okName := unescape(name)
		value, okValue := unescape(value)
		if _, twice := form[name]; twice || !okName || !okValue || strings.Contains(pair, ";") {
			return malformed
		}
		form[name] = value
	}
	for name, most := range map[string]int{"grant_type": 64, "refresh_token": 8 << 10, "client_id": 64, "client_secret": 256, "scope": 8 << 10} {
		if len(form[name]) > most || !utf8.ValidString(form[name]) {
			return malformed
		}
	}
	id, secret := form["client_id"], form["client_secret"]
	switch {
	case form["grant_type"] == "":
		return malformed
	case form["grant_type"] != "refresh_token":
		return reply{400, "unsupported_grant_type"}
	case form["refresh_token"] == "":
		return malformed
	case secret != "" && (secret != shopSecret || id != "shop" && id != "gate"):
		return reply{401, "invalid_client"}
	case secret == "" && (id == "shop" || id == "gate"):
		return reply{401, "invalid_client"}
	case !slices.Contains([]string{"", "mobile", "web", "shop", "gate", "page"}, id):
		return reply{400, "invalid_client"}
	case id == "web" || id == "gate" || id == "page":
		return reply{400, "unauthorized_client"}
	}
	if scope := form["scope"]; scope != "" {
		for word := range strings.SplitSeq(scope, " ") {
			odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
			if word == "" || strings.ContainsFunc(word, odd) || len(scope) > 256 {
				return reply{400, "invalid_scope"}
			}
		}
	}
	return reply{400, "invalid_grant"}
}

// FuzzFormBody is FuzzJSONBody for the forms of OAuth.
func FuzzFormBody(f *testing.F) {
	for _, body := range []string{
		"grant_type=refresh_token&refresh_token=x",
		"grant_type=refresh%5Ftoken&refresh_token=%78&client_id=mobile&scope=a+b&other",
		"grant_type=refresh_token&refresh_token=x&client_id=shop&client_secret=" + shopSecret,
		"grant_type=refresh_token&refresh_token=x&client_id=gate&client_secret=" + shopSecret,
		"grant_type=refresh_token&refresh_token=x&client_id=web",
		"grant_type=refresh_token&refresh_token=x&client_id=page",
		"grant_type=refresh_token&grant_type=refresh_token&refresh_token=x",
		"grant_type=refresh_token&grant%5ftype=password&refresh_token=x",
		"grant_type[]=refresh_token&refresh_token=x",
		"grant_type=password&username=alice&password=x",
		"grant_type=refresh_token;refresh_token=x",
		"grant_type=refresh_token&refresh_token=%",
		"grant_type=refresh_token&refresh_token=%ff",
		"grant_type=refresh_token&refresh_token=%c0%af",
		"grant_type=refresh_token&refresh_token=x%00",
		"grant_type=refresh_token&refresh_token=x&scope=%22",
		"&&=&grant_type=refresh_token&&refresh_token==x",
		`{"grant_type":"refresh_token"}`,
		"",
	} {
		f.Add([]byte(body), true)
	}
	f.Add([]byte("grant_type=refresh_token&refresh_token=x&x="+strings.Repeat("x", 8<<10)), false)
	a, who := offline(f)
	f.Fuzz(func(t *testing.T, body []byte, sized bool) {
		got := post(t, a, "/oauth/token", "application/x-www-form-urlencoded", body, sized)
		if want := refreshing(body); got != want || who.asked != "" {
			t.Fatalf("%q: %+v, want %+v", body, got, want)
		}
	})
}
