package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/users"
)

// bad is a request that must be refused.
type bad struct {
	name    string
	request service.Request
	status  int
	code    string
}

func invalid(name string, r service.Request) bad { return bad{name, r, 400, "invalid_request"} }

// object is a JSON object of strings. Later members replace earlier ones.
func object(pairs ...string) string {
	members := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		members[pairs[i]] = pairs[i+1]
	}
	text, _ := json.Marshal(members)
	return string(text)
}

// TestBadInput sends what must be refused before anything is done: no answer
// may cost a single Redis command, so nothing can have changed.
func TestBadInput(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)

		var all []bad
		all = append(all, badJSON("/login", "username", service.Username, "password", service.Password)...)
		all = append(all, badJSON("/refresh", "refresh_token", login.Refresh)...)
		for _, b := range badJSON("/logout", "refresh_token", login.Refresh) {
			if strings.HasPrefix(b.name, "without ") {
				continue // /logout may do without
			}
			all = append(all, b)
			if b.name == "empty" {
				continue // nothing is missing beside an access token
			}
			// A good access token beside it does not help.
			b.name += ", with an access token"
			b.request.Bearer = login.Access
			all = append(all, b)
		}
		all = append(all, badForms("/oauth/token", "grant_type", "refresh_token", "refresh_token", login.Refresh)...)
		all = append(all, badForms("/oauth/revoke", "token", login.Refresh)...)
		all = append(all, badClients(login.Refresh)...)
		all = append(all, badRetryKeys(login.Refresh)...)
		all = append(all, tooLong(login.Refresh)...)
		all = append(all, badOAuth(login.Refresh)...)

		commands := redistest.CommandCount(v.Redis)
		for _, b := range all {
			before := commands.Total()
			a := v.Send(b.request)
			if a.Status != b.status || a.Error != b.code {
				t.Errorf("%s: %s: got %d %s (%s), want %d %s", b.request.Path, b.name, a.Status, a.Error, a.Description, b.status, b.code)
			}
			if n := commands.Total() - before; n != 0 {
				t.Errorf("%s: %s: %d Redis commands: %v", b.request.Path, b.name, n, commands.Names())
			}
		}
		v.Me(login.Access).OK(t)
		if g := generation(t, v, login.Refresh); g != 0 {
			t.Errorf("the session was refreshed %d times", g)
		}
	})
}

// badJSON spoils a body in every way that has nothing to do with its meaning.
// The arguments are the required members.
func badJSON(path string, pairs ...string) []bad {
	good := object(pairs...)
	inner := good[1 : len(good)-1]
	post := func(body string) service.Request { return service.JSON(path, body) }
	name, value := pairs[0], pairs[1]
	all := []bad{
		invalid("empty", post("")),
		invalid("no braces", post(inner)),
		invalid("unclosed", post("{"+inner)),
		invalid("trailing comma", post("{"+inner+",}")),
		invalid("trailing garbage", post(good+"x")),
		invalid("trailing NUL", post(good+"\x00")),
		invalid("two objects", post(good+good)),
		invalid("array", post("["+good+"]")),
		invalid("null", post("null")),
		invalid("string", post(`"`+name+`"`)),
		invalid("byte order mark", post("\ufeff"+good)),
		invalid("not UTF-8", post("{\"x\":\"\xff\","+inner+"}")),
		invalid("repeated member", post("{"+inner+","+inner+"}")),
		invalid("repeated, with an escape", post(fmt.Sprintf(`{%s,"\u%04x%s":%q}`, inner, name[0], name[1:], value))),
		invalid("repeated unknown member", post("{"+inner+`,"x":1,"x":1}`)),
		invalid("repeated but for case", post("{"+inner+","+fmt.Sprintf("%q:%q", strings.ToUpper(name), value)+"}")),
		invalid("a form", post(url.Values{name: {value}}.Encode())),
		{"too large", post(good[:len(good)-1] + `,"x":"` + strings.Repeat("x", 8<<10) + `"}`), 413, "invalid_request"},
		{"a byte too large", post(good + strings.Repeat(" ", 8<<10+1-len(good))), 413, "invalid_request"},
		{"too large, without its length", service.Request{
			Method: "POST", Path: path, Type: "application/json", Chunked: true,
			Body: good + strings.Repeat(" ", 64<<10),
		}, 413, "invalid_request"},
		{"no type", service.Request{Method: "POST", Path: path, Body: good}, 415, "invalid_request"},
		{"two types", post(good).WithHeader("Content-Type", "application/json"), 415, "invalid_request"},
	}
	for _, mediaType := range []string{
		"text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json", "*/*", "json",
		"application/json; charset=latin1", "application/json; charset", "application/json, application/json", "multipart/form-data; boundary=x",
	} {
		r := post(good)
		r.Type = mediaType
		all = append(all, bad{"type " + mediaType, r, 415, "invalid_request"})
	}
	for _, encoding := range []string{"gzip", "identity", "br"} {
		all = append(all, invalid("encoding "+encoding, post(good).WithHeader("Content-Encoding", encoding)))
	}
	for i := 0; i < len(pairs); i += 2 {
		name, rest := pairs[i], ""
		for j := 0; j < len(pairs); j += 2 {
			if j != i {
				rest += fmt.Sprintf(",%q:%q", pairs[j], pairs[j+1])
			}
		}
		for _, value := range []string{"null", "1", "true", `["x"]`, `{"x":"y"}`, `"\ud800"`} {
			all = append(all, invalid(name+" is "+value, post(fmt.Sprintf("{%q:%s%s}", name, value, rest))))
		}
		all = append(
			all,
			invalid("without "+name, post("{"+strings.TrimPrefix(rest, ",")+"}")),
			invalid("without a "+name, post(fmt.Sprintf(`{%q:""%s}`, name, rest))),
			invalid(name+" in other letter case", post(fmt.Sprintf("{%q:%q%s}", strings.ToUpper(name[:1])+name[1:], pairs[i+1], rest))),
		)
	}
	return all
}

// badForms is badJSON for forms.
func badForms(path string, pairs ...string) []bad {
	good := service.Form(path, pairs...)
	with := func(body string) service.Request {
		r := good
		r.Body = body
		return r
	}
	at := func(suffix string) service.Request {
		r := good
		r.Path += suffix
		return r
	}
	last := len(pairs) - 2
	all := []bad{
		invalid("empty", with("")),
		invalid("bad escape", with(good.Body+"&x=%zz")),
		invalid("semicolon", with(good.Body+";x=y")),
		invalid("not UTF-8", with(good.Body+"&client_id=%ff")),
		invalid("JSON", with(object(pairs...))),
		invalid("repeated parameter", with(good.Body+"&"+good.Body)),
		invalid("repeated unknown parameter", with(good.Body+"&x=1&x=1")),
		invalid("parameter without a value, repeated", with(good.Body+"&"+pairs[0])),
		invalid("without "+pairs[last], service.Form(path, pairs[:last]...)),
		invalid("other letter case", service.Form(path, append(pairs[:last:last], strings.ToUpper(pairs[last]), pairs[last+1])...)),
		invalid("parameter in the URL", at("?client_id=mobile")),
		invalid("all parameters in the URL", service.Request{Method: "POST", Path: path + "?" + good.Body, Type: good.Type}),
		invalid("something in the URL", at("?x")),
		{"too large", with(good.Body + "&x=" + strings.Repeat("x", 8<<10)), 413, "invalid_request"},
		{"no type", service.Request{Method: "POST", Path: path, Body: good.Body}, 415, "invalid_request"},
		{"two types", good.WithHeader("Content-Type", good.Type), 415, "invalid_request"},
		invalid("encoding gzip", good.WithHeader("Content-Encoding", "gzip")),
	}
	for _, mediaType := range []string{"application/json", "text/plain", "application/x-www-form-urlencoded; charset=utf-16"} {
		r := good
		r.Type = mediaType
		all = append(all, bad{"type " + mediaType, r, 415, "invalid_request"})
	}
	return all
}

// badClients: there is no such client, or its tokens do not travel like this.
func badClients(token string) []bad {
	all := []bad{
		{"cookie client, form", service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", token, "client_id", "web"), 400, "unauthorized_client"},
		{"cookie client, revoking", service.Form("/oauth/revoke", "token", token, "client_id", "web"), 400, "unauthorized_client"},
		{"cookie client, body", service.JSON("/refresh", object("refresh_token", token, "client_id", "web")), 401, "invalid_grant"},
		{"cookie client, no cookie", service.JSON("/refresh", object("client_id", "web")), 401, "invalid_grant"},
		{"cookie client, a form's login", service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "web")), 403, "access_denied"},
	}
	for id, code := range map[string]string{
		"nobody": "invalid_client", "Mobile": "invalid_client",
		"mobile ": "invalid_client", "mobile\x00": "invalid_client", strings.Repeat("m", refresh.MaxClient): "invalid_client",
	} {
		name := fmt.Sprintf("client %q", id)
		all = append(
			all,
			bad{name, service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", id)), 400, code},
			bad{name, service.JSON("/refresh", object("refresh_token", token, "client_id", id)), 400, code},
			bad{name, service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", token, "client_id", id), 400, code},
			bad{name, service.Form("/oauth/revoke", "token", token, "client_id", id), 400, code},
		)
	}
	return all
}

func badRetryKeys(token string) []bad {
	var all []bad
	for _, r := range []service.Request{
		service.RefreshRequest(token, ""),
		service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", token),
	} {
		all = append(
			all,
			invalid("empty key", r.WithHeader("Idempotency-Key", "")),
			invalid("empty key in quotes", r.WithHeader("Idempotency-Key", `""`)),
			invalid("key of 129 bytes", r.WithHeader("Idempotency-Key", strings.Repeat("k", 129))),
			invalid("key of 129 bytes in quotes", r.WithHeader("Idempotency-Key", `"`+strings.Repeat("k", 129)+`"`)),
			invalid("two keys", r.WithHeader("Idempotency-Key", "one-key-of-two").WithHeader("Idempotency-Key", "one-key-of-two")),
		)
	}
	return all
}

// tooLong has each field one byte over its limit, in letters of two bytes where
// that shows that bytes are counted.
func tooLong(token string) []bad {
	over := func(limit int) string { return strings.Repeat("é", limit/2) + "x" }
	login := func(name, value string) service.Request {
		return service.JSON("/login", object("username", service.Username, "password", service.Password, name, value))
	}
	return []bad{
		invalid("long username", login("username", over(users.MaxUsername))),
		invalid("long password", login("password", over(users.MaxPassword))),
		invalid("long device", login("device", over(refresh.MaxDevice))),
		invalid("long client_id", login("client_id", over(refresh.MaxClient))),
		invalid("long client_id", service.JSON("/refresh", object("refresh_token", token, "client_id", over(refresh.MaxClient)))),
		invalid("long client_id", service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", token, "client_id", over(refresh.MaxClient))),
		invalid("long client_id", service.Form("/oauth/revoke", "token", token, "client_id", over(refresh.MaxClient))),
		invalid("long grant_type", service.Form("/oauth/token", "grant_type", over(64), "refresh_token", token)),
		invalid("long token_type_hint", service.Form("/oauth/revoke", "token", token, "token_type_hint", over(64))),
		{"long refresh_token", service.JSON("/refresh", object("refresh_token", token+over(7000))), 401, "invalid_grant"},
	}
}

func badOAuth(token string) []bad {
	grant := func(pairs ...string) service.Request {
		return service.Form("/oauth/token", append([]string{"refresh_token", token}, pairs...)...)
	}
	return []bad{
		invalid("no grant_type", grant()),
		invalid("empty grant_type", grant("grant_type", "")),
		{"password grant", grant("grant_type", "password", "username", service.Username), 400, "unsupported_grant_type"},
		{"grant_type in other letter case", grant("grant_type", "Refresh_Token"), 400, "unsupported_grant_type"},
		{"two spaces in a scope", grant("grant_type", "refresh_token", "scope", "a  b"), 400, "invalid_scope"},
		{"a quote in a scope", grant("grant_type", "refresh_token", "scope", `a"b`), 400, "invalid_scope"},
		{"a scope that is a space", grant("grant_type", "refresh_token", "scope", " "), 400, "invalid_scope"},
		{"a long scope", grant("grant_type", "refresh_token", "scope", strings.Repeat("admin ", 100)), 400, "invalid_scope"},
	}
}

// What is unusual and still right.
func TestGoodInput(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		good := object("username", service.Username, "password", service.Password)
		typed := func(mediaType string) service.Request {
			r := service.JSON("/login", good)
			r.Type = mediaType
			return r
		}
		chunked := service.JSON("/login", good)
		chunked.Chunked = true
		for name, r := range map[string]service.Request{
			"charset":           typed("application/json; charset=UTF-8"),
			"case of type":      typed("Application/JSON"),
			"unknown member":    service.JSON("/login", good[:len(good)-1]+`,"remember_me":[null]}`),
			"white space":       service.JSON("/login", "\r\n\t "+good+"\n"),
			"8 KiB":             service.JSON("/login", good+strings.Repeat(" ", 8<<10-len(good))),
			"without length":    chunked,
			"longest device":    service.JSON("/login", object("username", service.Username, "password", service.Password, "device", strings.Repeat("é", 32))),
			"client named":      service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "mobile")),
			"client left empty": service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "")),
			"URL parameter":     service.JSON("/login?x=y", good),
		} {
			if a := v.Send(r); a.Status != 200 {
				t.Errorf("%s: %d %s (%s)", name, a.Status, a.Error, a.Description)
			}
		}
		// The longest name and password are looked up, and found wrong.
		v.LoginAs(strings.Repeat("é", users.MaxUsername/2), strings.Repeat("é", users.MaxPassword/2)).Is(t, 401, "invalid_grant")

		login := v.Login().OK(t)
		next := v.Send(service.JSON("/refresh", object("refresh_token", login.Refresh, "client_id", ""))).OK(t)
		next = v.Send(service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", next.Refresh,
			"client_id", "mobile", "scope", "", "unknown", "parameter")).OK(t)
		next = v.Send(service.RefreshRequest(next.Refresh, strings.Repeat("k", 128))).OK(t)
		next = v.Send(service.RefreshRequest(next.Refresh, `"`+strings.Repeat("k", 128)+`"`)).OK(t)
		v.Send(service.JSON("/logout", object("refresh_token", "")).WithBearer(next.Access)).OK(t)
		v.Me(next.Access).Is(t, 401, "invalid_token")
	})
}

// With two Authorization headers it is anyone's guess who is asking.
func TestAmbiguousAuthorization(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		for _, header := range [][]string{
			{"Bearer " + login.Access, "Bearer " + login.Access},
			{"Bearer " + login.Access, "Basic YTpi"},
			{"Basic YTpi"},
			{login.Access},
			{"Bearer"},
			{"Bearer  " + login.Access},
			{"Bearer " + login.Access + " " + login.Access},
			{"Bearer " + login.Access + ", Bearer " + login.Access},
			{"Bearer " + login.Refresh},
			{"DPoP " + login.Access},
			{""},
		} {
			for _, r := range []service.Request{
				{Path: "/me"}, {Method: http.MethodDelete, Path: "/sessions"}, {Method: http.MethodPost, Path: "/logout"},
			} {
				r.Header = http.Header{"Authorization": header}
				if a := v.Send(r); a.Status != 401 || a.Error != "invalid_token" {
					t.Errorf("%s %s: %d %s", r.Method, r.Path, a.Status, a.Error)
				}
			}
		}
		// Tokens elsewhere do not count.
		v.Send(service.Request{Path: "/me?access_token=" + login.Access}).Is(t, 401, "invalid_token")
		v.Send(service.Request{Path: "/me", Header: http.Header{"Cookie": {"access_token=" + login.Access}}}).Is(t, 401, "invalid_token")
		v.Send(service.Request{Path: "/me", Header: http.Header{"Authorization": {"bearer " + login.Access}}}).OK(t)
	})
}
