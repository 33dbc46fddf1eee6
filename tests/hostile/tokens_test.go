package hostile_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tests/service"
)

// spellings are what somebody could make of a token in the hope that it is taken
// for another, or for the same again.
func spellings(token string) map[string]string {
	text := strings.TrimPrefix(token, refresh.Prefix)
	binary, _ := base64.RawURLEncoding.DecodeString(text)
	all := map[string]string{}
	for bit := range len(binary) * 8 {
		flipped := bytes.Clone(binary)
		flipped[bit/8] ^= 1 << (bit % 8)
		all[fmt.Sprint("bit ", bit)] = refresh.Prefix + base64.RawURLEncoding.EncodeToString(flipped)
	}
	for n := range len(token) {
		all[fmt.Sprint("first bytes ", n)] = token[:n]
		if lower := token[n] | 0x20; 'a' <= lower && lower <= 'z' {
			all[fmt.Sprint("case of byte ", n)] = token[:n] + string(token[n]^0x20) + token[n+1:]
		}
		all[fmt.Sprint("escaped byte ", n)] = token[:n] + fmt.Sprintf("%%%02X", token[n]) + token[n+1:]
	}
	delete(all, "first bytes 0") // no token, which is another matter
	for name, other := range map[string]string{
		"padded":             token + "=",
		"padded twice":       token + "==",
		"longer":             token + "AAAA",
		"twice":              token + token,
		"prefix twice":       refresh.Prefix + token,
		"no prefix":          text,
		"upper case":         strings.ToUpper(token),
		"lower case":         strings.ToLower(token),
		"standard base64":    refresh.Prefix + base64.StdEncoding.EncodeToString(binary),
		"base64 of the text": base64.StdEncoding.EncodeToString([]byte(token)),
		"hexadecimal":        refresh.Prefix + fmt.Sprintf("%x", binary),
		"escaped":            url.QueryEscape(token + "="),
		"space behind":       token + " ",
		"space in front":     " " + token,
		"tab behind":         token + "\t",
		"comma":              token + "," + token,
		"quoted":             `"` + token + `"`,
		"dot":                token + ".",
		"Bearer":             "Bearer " + token,
	} {
		if other != token { // one without - and _ is the same in standard base64
			all[name] = other
		}
	}
	return all
}

// trimmed is a cookie's value as any reader of the header has it: spaces around
// it are not part of it, nor are quotes (RFC 6265, section 4.1.1).
func trimmed(value string) string {
	return strings.Trim(strings.Trim(value, " \t"), `"`)
}

// Row 14, over HTTP: a refresh token that is not the one that was handed out,
// byte by byte, is refused wherever it comes in, and Redis is not asked.
func TestRow14AlteredTokensOverHTTP(t *testing.T) {
	t.Parallel()
	v := service.Start(t, redistest.Redis(t), service.With(func(c *api.Config) { c.Throttle = nil }))
	inBody := v.Login().OK(t).Refresh
	inCookie := cookieOf(t, v)
	asked := redistest.CommandCount(v.Redis)
	refused := func(name string, r service.Request, status int) {
		t.Helper()
		before := asked.Total()
		a, err := v.Raw(r) // there are a thousand
		if err != nil || a.Status != status || a.Access != "" {
			t.Errorf("%s: %d %s (%s) %v", name, a.Status, a.Error, a.Description, err)
		}
		if n := asked.Total() - before; n != 0 {
			t.Errorf("%s: Redis was asked %d times", name, n)
		}
	}
	page := func(cookie string) service.Request {
		return service.Request{Method: "POST", Path: "/refresh"}.WithHeader("X-Requested-With", "x").WithHeader("Cookie", cookie)
	}
	for name, altered := range spellings(inBody) {
		body, err := json.Marshal(map[string]string{"refresh_token": altered})
		must(t, err)
		refused(name+", /refresh", service.JSON("/refresh", string(body)), 401)
		refused(name+", /logout", service.JSON("/logout", string(body)), 401)
		refused(name+", /oauth/token", service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", altered), 400)
		refused(name+", /oauth/revoke", service.Form("/oauth/revoke", "token", altered), 200) // RFC 7009 wants that
	}
	for name, altered := range spellings(inCookie) {
		if trimmed(altered) == inCookie {
			continue
		}
		refused(name+", cookie", page(api.DefaultCookie+"="+altered), 401)
	}
	// Other names, and other things in the header, are no cookie of ours.
	for name, cookie := range map[string]string{
		"other case of the name":  "__host-refresh=" + inCookie,
		"no prefix":               "refresh=" + inCookie,
		"space in the name":       "__Host- refresh=" + inCookie,
		"NUL in the name":         "__Host-refresh%00=" + inCookie,
		"escaped name":            "__Host%2Drefresh=" + inCookie,
		"name in quotes":          `"__Host-refresh"=` + inCookie,
		"another kind of space":   "\u00a0__Host-refresh=" + inCookie,
		"in the value of another": "theme=__Host-refresh=" + inCookie,
		"in quotes of another":    `theme="; __Host-refresh=x` + inCookie + `"`,
		"separated by a comma":    "theme=dark, __Host-refresh=" + inCookie,
		"as an attribute":         "$Version=1, $__Host-refresh=" + inCookie,
	} {
		refused(name, page(cookie), 400)
	}
	// Which of two counts is not guessed, however the second one is written.
	for name, cookie := range map[string]string{
		"twice":               "__Host-refresh=" + inCookie + "; __Host-refresh=" + inCookie,
		"quoted beside":       "__Host-refresh=" + inCookie + `; __Host-refresh="` + inCookie + `"`,
		"altered in front":    "__Host-refresh=" + inCookie[:20] + "; __Host-refresh=" + inCookie,
		"altered behind":      "__Host-refresh=" + inCookie + "; __Host-refresh=" + inCookie[:20],
		"with old attributes": "$Version=1; __Host-refresh=" + inCookie + "; $Path=/; __Host-refresh=x",
	} {
		refused(name, page(cookie), 400)
	}
	if n := asked.Total(); n != 0 {
		t.Errorf("Redis was asked %d times: %v", n, asked.Names())
	}
	// Unaltered they are good, in quotes and beside attributes of old standards too.
	v.Refresh(inBody, "").OK(t)
	v.Send(page(`$Version="1"; __Host-refresh="` + inCookie + `"; $Path="/"`)).OK(t)
}

// cookieOf logs in as a page, and returns the refresh token of the cookie.
func cookieOf(t *testing.T, v *service.Service) string {
	t.Helper()
	a := v.Send(service.JSON("/login", fmt.Sprintf(`{"username":%q,"password":%q,"client_id":"web"}`, service.Username, service.Password)).
		WithHeader("X-Requested-With", "x")).OK(t)
	value, _, _ := strings.Cut(strings.TrimPrefix(a.Header.Get("Set-Cookie"), api.DefaultCookie+"="), ";")
	if !strings.HasPrefix(value, refresh.Prefix) {
		t.Fatalf("no token in %q", a.Header.Get("Set-Cookie"))
	}
	return value
}

// One parameter in two places, of another type, in another alphabet or another
// encoding: it is read in one way or refused, and Redis is not asked who is meant.
func TestParameterPollution(t *testing.T) {
	t.Parallel()
	v := service.Start(t, redistest.Redis(t))
	v.AddUser("mallory", "mallorys-own-password")
	token := v.Login().OK(t).Refresh
	asked := redistest.CommandCount(v.Redis)
	const name, word = service.Username, service.Password
	good := fmt.Sprintf(`"username":%q,"password":%q`, name, word)
	utf16 := func(s, mark string, low int) string {
		out := mark
		for i := range len(s) {
			pair := []byte{0, 0}
			pair[1-low] = s[i]
			out += string(pair)
		}
		return out
	}
	for what, body := range map[string]string{
		"two users":                 `{"username":"mallory",` + good + `}`,
		"two users, the other way":  `{` + good + `,"username":"mallory"}`,
		"two, one escaped":          `{` + good + `,"user\u006eame":"mallory"}`,
		"two, one in capitals":      `{` + good + `,"USERNAME":"mallory"}`,
		"two, with a long s":        `{` + good + `,"u` + "\u017f" + `ername":"mallory"}`,
		"two passwords":             `{` + good + `,"password":"x"}`,
		"two that nobody reads":     `{` + good + `,"admin":true,"admin":false}`,
		"list":                      `{"username":["alice"],"password":"` + word + `"}`,
		"list of two":               `{"username":["mallory","alice"],"password":"` + word + `"}`,
		"object":                    `{"username":{"alice":1},"password":"` + word + `"}`,
		"operator":                  `{"username":"alice","password":{"$ne":null}}`,
		"operator in brackets":      `{"username":"alice","password[$ne]":""}`,
		"number":                    `{"username":1,"password":2}`,
		"true":                      `{"username":true,"password":true}`,
		"null":                      `{"username":null,"password":null}`,
		"prototype":                 `{"__proto__":{` + good + `}}`,
		"constructor":               `{"constructor":{"prototype":{` + good + `}}}`,
		"nested":                    `{"user":{` + good + `}}`,
		"in a list":                 `[{` + good + `}]`,
		"two documents":             `{` + good + `}{"username":"mallory"}`,
		"lines of JSON":             "{" + good + "}\n{" + good + "}",
		"comment":                   `{/*"username":"mallory",*/` + good + `}`,
		"single quotes":             strings.ReplaceAll(`{`+good+`}`, `"`, `'`),
		"no quotes":                 `{username:"alice",password:"` + word + `"}`,
		"trailing comma":            `{` + good + `,}`,
		"byte order mark":           "\ufeff{" + good + "}",
		"UTF-16":                    utf16("{"+good+"}", "\xff\xfe", 1),
		"UTF-16, the other way":     utf16("{"+good+"}", "\xfe\xff", 0),
		"UTF-16 without a mark":     utf16("{"+good+"}", "", 0),
		"UTF-7":                     "+AHs-" + good + "+AH0-",
		"overlong slash":            `{"username":"alice` + "\xc0\xaf" + `","password":"` + word + `"}`,
		"overlong quote":            `{"username":"alice` + "\xc0\xa2" + `,"password":"` + word + `"}`,
		"surrogates in UTF-8":       `{"username":"alice` + "\xed\xa0\x80" + `","password":"` + word + `"}`,
		"NUL in the name":           "{\"username\x00\":\"alice\",\"password\":\"x\"}",
		"escaped NUL in the name":   `{"username\u0000":"alice","password":"x"}`,
		"raw NUL in the value":      "{\"username\":\"alice\x00\",\"password\":\"x\"}",
		"NaN":                       `{` + good + `,"x":NaN}`,
		"no end":                    `{` + good,
		"deep":                      `{` + good + `,"x":` + strings.Repeat("[", 7000) + `}`,
		"form":                      url.Values{"username": {name}, "password": {word}}.Encode(),
		"form that begins as JSON":  `{` + good + `,"x":"=&y="`,
		"more members than anybody": `{` + members(200) + good + `}`,
	} {
		before := asked.Total()
		a := v.Send(service.JSON("/login", body))
		a.Is(t, 400, "invalid_request")
		if n := asked.Total() - before; n != 0 || t.Failed() {
			t.Errorf("%s: %d, and Redis was asked %d times", what, a.Status, n)
		}
	}
	// Who looks like somebody else is not; who could be anybody is looked up as it is.
	for what, username := range map[string]string{
		"Cyrillic a": "\u0430lice", "full width": "\uff41lice", "capital": "Alice", "combining": "a\u0301lice", "ligature": "al\u0131ce",
		"space": "alice ", "zero width": "alice\u200b", "NUL": "alice\\u0000", "newline": "alice\\n", "soft hyphen": "al\u00adice",
		"right to left": "\u202ealice", "dot": "alice.", "slash": "../alice", "star": "*", "glob": "al?ce", "braces": "{alice}", "percent": "%61lice",
	} {
		a := v.Send(service.JSON("/login", `{"username":"`+username+`","password":"`+word+`"}`))
		if a.Status != 401 || a.Error != "invalid_grant" {
			t.Errorf("%s: %d %s", what, a.Status, a.Error)
		}
	}
	// The query counts for nothing where there is a body, and is refused where
	// OAuth says so.
	before := asked.Total()
	for _, r := range []service.Request{
		{Method: "POST", Path: "/login?username=alice&password=" + word, Type: "application/json", Body: "{}"},
		{Method: "POST", Path: "/refresh?refresh_token=" + token, Type: "application/json", Body: "{}"},
		{Method: "POST", Path: "/refresh?refresh_token=" + token},
		{Method: "POST", Path: "/logout?refresh_token=" + token},
		service.Form("/oauth/token?refresh_token="+token, "grant_type", "refresh_token"),
		service.Form("/oauth/token?grant_type=refresh_token", "refresh_token", token),
		service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token[]", token),
		service.Form("/oauth/token", "grant_type", "refresh_token", "Refresh_token", token),
		service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", token, "refresh_token", "x"),
		service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", token, "client_id", "mobile", "client_id", "web"),
		{Method: "POST", Path: "/oauth/token", Type: "application/x-www-form-urlencoded", Body: "grant_type=refresh_token;refresh_token=" + token},
		{Method: "POST", Path: "/oauth/token", Type: "application/x-www-form-urlencoded", Body: "grant_type=refresh_token&refresh_token=" + token + "&refresh%5Ftoken=x"},
	} {
		if a := v.Send(r); a.Status != 400 || a.Error != "invalid_request" {
			t.Errorf("%s, %q: %d %s", r.Path, r.Body, a.Status, a.Error)
		}
	}
	// Whom a method is for is said by the method.
	for _, header := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"} {
		v.Send(service.Request{Method: "POST", Path: "/me"}.WithHeader(header, "GET")).Is(t, 405, "method_not_allowed")
		v.Send(service.Request{Path: "/login"}.WithHeader(header, "POST")).Is(t, 405, "method_not_allowed")
	}
	for _, header := range []string{"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Prefix", "X-Forwarded-Uri", "X-Original-Uri"} {
		v.Send(service.Request{Path: "/me"}.WithHeader(header, "/healthz")).Is(t, 401, "invalid_token")
	}
	if n := asked.Total() - before; n != 0 {
		t.Errorf("Redis was asked %d times", n)
	}
	v.Refresh(token, "").OK(t)
}

// members are so many of them, with a comma behind each.
func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"x%d":0,`, i)
	}
	return b.String()
}

// What a header says twice counts once or not at all, also if one of the two
// reads otherwise to whoever takes dashes and underscores for the same.
func TestHeadersTwice(t *testing.T) {
	t.Parallel()
	v := service.Start(t, redistest.Redis(t))
	login := v.Login().OK(t)
	cookie := cookieOf(t, v)
	bearer := "Bearer " + login.Access
	me := service.Request{Path: "/me"}
	page := service.Request{Method: "POST", Path: "/refresh"}.WithHeader("Cookie", api.DefaultCookie+"="+cookie)
	asked := redistest.CommandCount(v.Redis)
	for name, c := range map[string]struct {
		r      service.Request
		status int
	}{
		"two tokens":                {me.WithHeader("Authorization", bearer).WithHeader("Authorization", bearer), 401},
		"two tokens, one empty":     {me.WithHeader("Authorization", bearer).WithHeader("Authorization", ""), 401},
		"token and a client":        {me.WithHeader("Authorization", bearer).WithHeader("Authorization", "Basic YTpi"), 401},
		"underscore":                {service.Request{Path: "/me", Header: map[string][]string{"Http_authorization": {bearer}}}, 401},
		"proxy's":                   {me.WithHeader("Proxy-Authorization", bearer), 401},
		"two types":                 {service.RefreshRequest(login.Refresh, "").WithHeader("Content-Type", "text/plain"), 415},
		"two equal types":           {service.RefreshRequest(login.Refresh, "").WithHeader("Content-Type", "application/json"), 415},
		"type with an underscore":   {service.Request{Method: "POST", Path: "/refresh", Body: `{"refresh_token":"` + login.Refresh + `"}`, Header: map[string][]string{"Content_type": {"application/json"}}}, 415},
		"two keys":                  {service.RefreshRequest(login.Refresh, "key-of-this-request").WithHeader("Idempotency-Key", "key-of-that-request"), 400},
		"two equal keys":            {service.RefreshRequest(login.Refresh, "key-of-this-request").WithHeader("Idempotency-Key", "key-of-this-request"), 400},
		"two encodings of the body": {service.RefreshRequest(login.Refresh, "").WithHeader("Content-Encoding", "identity").WithHeader("Content-Encoding", "gzip"), 400},
		"two origins, evil behind":  {page.WithHeader("X-Requested-With", "x").WithHeader("Origin", "https://evil.example").WithHeader("Origin", service.Origin), 403},
		"two cookies":               {page.WithHeader("X-Requested-With", "x").WithHeader("Cookie", api.DefaultCookie+"="+cookie), 400},
		"page with an underscore":   {page.WithHeader("X_requested_with", "x"), 403},
	} {
		if a := v.Send(c.r); a.Status != c.status || a.Access != "" {
			t.Errorf("%s: %d %s, want %d", name, a.Status, a.Error, c.status)
		}
	}
	if n := asked.Total(); n != 0 {
		t.Errorf("Redis was asked %d times: %v", n, asked.Names())
	}
}
