package gateways_test

import (
	"strings"
	"testing"
)

// change is something that an operator could do to a file by mistake, and the
// check that must notice.
type change struct {
	notices   string
	old, with string
}

// changes take out or spoil, one at a time, the lines on which something rests.
var changes = map[string][]change{
	"nginx": {
		{"every path", "auth_request /_authapi;", ""},
		{"every path", "location = /_authapi {\n\t\tinternal;", "location = /_authapi {"},
		{"forged headers", "underscores_in_headers off;", "underscores_in_headers on;"},
		{"forged headers", "ignore_invalid_headers on;", "ignore_invalid_headers off;"},
		{"forged headers", "proxy_set_header X-Auth-Subject    $authapi_subject;", ""},
		{"forged headers", "proxy_set_header X-Auth-Client-Id  $authapi_client;", ""},
		{"forged headers", "proxy_set_header X-Auth-Session-Id $authapi_session;", ""},
		{"forged headers", "proxy_set_header X-Auth-Roles      $authapi_roles;", ""},
		{"forged headers", "proxy_set_header X-Auth-Scope      $authapi_scope;", ""},
		{"identity", "proxy_set_header X-Auth-Roles      $authapi_roles;", `proxy_set_header X-Auth-Roles "";`},
		{"identity", "$upstream_http_x_auth_subject;", "$http_x_auth_subject;"},
		{"identity", "$upstream_http_x_auth_client_id;", "$http_x_auth_client_id;"},
		{"identity", "$upstream_http_x_auth_session_id;", "$http_x_auth_session_id;"},
		{"identity", "$upstream_http_x_auth_roles;", "$http_x_auth_roles;"},
		{"identity", "$upstream_http_x_auth_scope;", "$http_x_auth_scope;"},
		{"identity", `proxy_set_header Authorization     "";`, ""},
		{"Connection and Upgrade", `proxy_set_header Connection        ""; #`, "proxy_set_header Connection $http_connection; proxy_set_header Upgrade $http_upgrade; #"},
		{"trouble", "\t\"\"      \"\";\n", ""},
		{"trouble", "error_page 500 = @trouble;", ""},
		{"trouble", "\t\tadd_header Retry-After 1 always;\n\t\treturn 503 '{\"error\":\"temporarily_unavailable\",\"error_description\":\"it", "\t\treturn 503 '{\"error\":\"temporarily_unavailable\",\"error_description\":\"it"},
		{"slow", "proxy_read_timeout 3s;", ""},
		{"refusals", "error_page 401 = @refused;", ""},
		{"refusals", "auth_request_set $authapi_challenge $upstream_http_www_authenticate;", `set $authapi_challenge "";`},
		{"refusals", "\t\tadd_header Cache-Control no-store always;\n\t\treturn 401", "\t\treturn 401"},
		{"bodies", `proxy_set_header Content-Length "";`, ""},
		{"what authapi is asked", "proxy_pass_request_headers off;", ""},
		{"what authapi is asked", "proxy_set_header Host localhost;", ""},
		{"what authapi is asked", "keepalive 32;\n\tkeepalive_timeout 50s;", ""},
		{"what authapi is asked", "http://authapi/verify;", "http://authapi/verify?$args;"},
		{"the service's own answers", "proxy_intercept_errors off;", "proxy_intercept_errors on;"},
		{"blocked routes", "if ($authapi_public = 0) {", "if ($authapi_public = 2) {"},
		{"blocked routes", `map "$request_method $request_uri"`, `map "$request_method $uri"`},
		{"public routes", "\tproxy_set_header Host              $host;\n\tproxy_set_header X-Forwarded-For   $remote_addr;\n\tproxy_set_header X-Forwarded-Proto $scheme;\n\tproxy_cache", "\tproxy_set_header Host $host;\n\tproxy_cache"},
	},
	"caddy": {
		{"every path", "\t\tforward_auth 127.0.0.1:8080 {", "\t\t@some path /api*\n\t\tforward_auth @some 127.0.0.1:8080 {"},
		{"forged headers", "request_header -*Auth*", "request_header -Authorization"},
		{"forged headers", "request_header -*Auth*", "request_header -X-Auth-*\n\t\trequest_header -X_Auth_*\n\t\trequest_header -Authorization"},
		{"identity", "request_header -*Auth*", ""},
		{"Connection and Upgrade", "\t\trequest_header -Connection\n", ""},
		{"identity", "X-Auth-Subject X-Auth-Client-Id X", "X-Auth-Subject X"},
		{"identity", "X-Auth-Roles X-Auth-Scope", "X-Auth-Roles"},
		{"identity", "X-Auth-Roles X-Auth-Scope", "X-Auth-Scope"},
		{"identity", "X-Auth-Session-Id X", "X"},
		{"refusals", "uri /verify?", "uri /verify"},
		{"what authapi is asked", "uri /verify?", "uri /verify"},
		{"what authapi is asked", "header_up -*\n", "\n"},
		{"what authapi is asked", "header_up -X-Forwarded-*", ""},
		{"what authapi is asked", "keepalive 50s # authapi", "keepalive off # authapi"},
		{"refusals", "\t\t\t\tcopy_response\n", "\t\t\t\trespond 401\n"},
		{"trouble", "\t\t\thandle_response {\n\t\t\t\terror 503\n\t\t\t}\n", ""},
		{"trouble", "error @nobody 503", ""},
		{"trouble", "@undecided not header X-Auth-Subject *", "@undecided header X-Auth-Subject *"},
		{"the service's own answers", "handle @undecided {", "handle {"},
		{"trouble", "\t\t\theader Retry-After 1\n", ""},
		{"slow", "response_header_timeout 3s", "response_header_timeout 1h"},
		{"blocked routes", "handle @public {", "handle {"},
	},
}

// TestEveryLineCounts: with a line taken out, the check that it is there for
// finds something. This is also what shows that the checks are not blind.
func TestEveryLineCounts(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.need(t)
			w := newWorld(t)
			for _, c := range changes[k.name] {
				t.Run(c.notices, func(t *testing.T) {
					g := k.start(t, w, func(o *options) {
						o.edit = func(config string) string {
							if !strings.Contains(config, c.old) {
								t.Fatalf("%s has no %q", k.file, c.old)
							}
							return strings.ReplaceAll(config, c.old, c.with)
						}
					})
					c.mustBeNoticed(t, w, g)
				})
			}
		})
	}
}

// TestHostileSurroundings: nginx hands settings down into what is included, and
// some of them would let everybody in.
func TestHostileSurroundings(t *testing.T) {
	k := kindOf("nginx")
	k.need(t)
	w := newWorld(t)
	around := `
	satisfy any;
	allow all;
	underscores_in_headers on;
	ignore_invalid_headers off;
	proxy_intercept_errors on;
	error_page 401 403 404 500 502 503 504 =200 /fine.html;
	proxy_cache_path ` + t.TempDir() + ` keys_zone=all:1m;
	proxy_cache all;
	proxy_cache_key same;
	proxy_cache_valid any 1h;
	proxy_cache_methods GET HEAD POST;
	proxy_ignore_headers Cache-Control Expires X-Accel-Buffering Set-Cookie Vary;
	proxy_set_header X-Auth-Subject forged;
	gzip on;
	gzip_types *;
	gzip_proxied any;
	gzip_min_length 0;
	`
	start := func(t *testing.T, c change) *gateway {
		return k.start(t, w, func(o *options) {
			o.around = around
			o.edit = func(config string) string {
				// This one would not be handed down, but be put here.
				config = strings.Replace(config, "server_name", "error_page 502 504 =200 /fine.html; server_name", 1)
				if !strings.Contains(config, c.old) {
					t.Fatalf("%s has no %q", k.file, c.old)
				}
				return strings.ReplaceAll(config, c.old, c.with)
			}
		})
	}
	g := start(t, change{})
	for _, c := range checks {
		if c.name == "the service's own answers" {
			continue // without the service, the operator wants /fine.html
		}
		t.Run(c.name, func(t *testing.T) {
			for _, problem := range c.find(w, g) {
				t.Error(problem)
			}
		})
	}
	// The lines that are against it, and the check that misses them.
	for _, c := range []change{
		{"trouble", "\t\"\"      \"\";\n", ""},
		{"refusals", "\tsatisfy all;\n", ""},
		{"what authapi is asked", "\tproxy_cache off;\n\n\t# auth_request", "\n\t# auth_request"},
		{"the service's own answers", "proxy_intercept_errors off;", ""},
		{"forged headers", "\tunderscores_in_headers off;\n", ""},
		{"forged headers", "\tignore_invalid_headers on;\n", ""},
		{"stream", "\t\tgzip off;\n", ""},
		{"public routes", "\tproxy_cache off;\n\terror_page 502", "\terror_page 502"},
	} {
		t.Run("without/"+c.notices, func(t *testing.T) { c.mustBeNoticed(t, w, start(t, c)) })
	}
}

func (c change) mustBeNoticed(t *testing.T, w *world, g *gateway) {
	t.Helper()
	found := checkOf(c.notices).find(w, g)
	w.authapi.mend()
	w.app.mend()
	if len(found) == 0 {
		t.Errorf("%q became %q, and nothing was noticed", c.old, c.with)
		return
	}
	t.Logf("%q became %q. Noticed: %.300s", c.old, c.with, found[0])
}
