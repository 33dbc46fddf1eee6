package api

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
)

func TestCheckOrigin(t *testing.T) {
	for _, origin := range []string{
		"https://app.example.com",
		"https://app.example.com:8443",
		"https://xn--bcher-kva.example",
		"http://localhost:3000",
		"http://localhost",
		"http://127.0.0.1:5173",
		"http://[::1]:8080",
		"https://example.com:80",
	} {
		if err := checkOrigin(origin); err != nil {
			t.Errorf("%q: %v", origin, err)
		}
	}
	for _, origin := range []string{
		"",
		"*",
		"null",
		"https://*",
		"https://*.example.com",
		"https://app.*",
		"https://app.example.com:*",
		"https://(app|web).example.com",
		"https://.example.com/*",
		"https://",
		"https://:8443",
		"https:///path",
		"https:app.example.com",
		"app.example.com",
		"//app.example.com",
		"ftp://app.example.com",
		"file://",
		"javascript:alert(1)",
		"https://app.example.com/",
		"https://app.example.com/app",
		"https://app.example.com?",
		"https://app.example.com?x=y",
		"https://app.example.com#",
		"https://user@app.example.com",
		"https://user:password@app.example.com",
		"https://App.example.com",
		"HTTPS://app.example.com",
		"https://bücher.example",
		"https://app.example.com%2e",
		"https://app.example.com:443",
		"http://app.example.com:80",
		"https://app.example.com:",
		"https://app.example.com:0443",
		"https://app.example.com:https",
		" https://app.example.com",
		"https://app.example.com ",
		"https://app.example.com\n",
		"https://app.example.com,https://web.example.com",
		"https://app.example.com https://web.example.com",
		"https://app_1.example.com\x00",
	} {
		if err := checkOrigin(origin); err == nil {
			t.Errorf("%q was accepted", origin)
		}
	}
}

// What an operator writes must be what the service can keep.
func TestClientsCheck(t *testing.T) {
	if err := BuiltinClients("https://app.example.com").check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Client){
		"transport":                 func(c *Client) { c.Policy.Transport = "x" },
		"no transport":              func(c *Client) { c.Policy.Transport = "" },
		"no access tokens":          func(c *Client) { c.Policy.Access = 0 },
		"half a second":             func(c *Client) { c.Policy.Access = time.Second / 2 },
		"access tokens for ever":    func(c *Client) { c.Policy.Access = tokens.MaxLifetime + time.Second },
		"idle as long as access":    func(c *Client) { c.Policy.Idle = c.Policy.Access },
		"idle longer than absolute": func(c *Client) { c.Policy.Idle = c.Policy.Absolute + time.Second },
		"negative window":           func(c *Client) { c.Policy.Window = -1 },
		"long window":               func(c *Client) { c.Policy.Window = time.Minute + 1 },
		"no sessions":               func(c *Client) { c.Policy.Sessions = 0 },
		"window as long as access": func(c *Client) {
			c.Policy.Transport, c.Policy.Access = refresh.Cookie, c.Policy.Window
		},
		"origin":                   func(c *Client) { c.Origins = []string{"https://*.example.com"} },
		"other id":                 func(c *Client) { c.ID = "web" },
		"no id":                    func(c *Client) { c.ID = "" },
		"secret without its use":   func(c *Client) { c.Secrets = []ClientSecret{{1}} },
		"no secret, but its use":   func(c *Client) { c.Policy.Transport = refresh.Authenticated },
		"starts without a secret":  func(c *Client) { c.MayStart = true },
		"follows without a secret": func(c *Client) { c.MayFollow = true },
		"asks without a secret":    func(c *Client) { c.MayIntrospect = true },
		"starts without sessions": func(c *Client) {
			c.MayStart, c.Secrets, c.Policy = true, []ClientSecret{{1}}, refresh.Policy{}
		},
		"scope of two words":   func(c *Client) { c.Scopes = []string{"a b"} },
		"empty scope":          func(c *Client) { c.Scopes = []string{""} },
		"scope twice":          func(c *Client) { c.Scopes = []string{"a", "b", "a"} },
		"long scopes":          func(c *Client) { c.Scopes = []string{strings.Repeat("a", refresh.MaxScope), "b"} },
		"empty audience":       func(c *Client) { c.Audience = []string{""} },
		"audience twice":       func(c *Client) { c.Audience = []string{"a", "a"} },
		"audience with quotes": func(c *Client) { c.Audience = []string{`"a"`} },
	} {
		clients := BuiltinClients("https://app.example.com")
		client := clients["mobile"]
		change(&client)
		clients["mobile"] = client
		if err := clients.check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	good := BuiltinClients()["mobile"]
	good.Secrets, good.Policy.Transport = []ClientSecret{{1}}, refresh.Authenticated
	good.MayStart, good.MayFollow, good.MayIntrospect = true, true, true
	good.Scopes, good.Audience = []string{"a", "b:c"}, []string{"https://a.example.com", "b"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	long := strings.Repeat("m", refresh.MaxClient+1)
	for name, clients := range map[string]Clients{
		"none":    nil,
		"empty":   {},
		"long id": {long: {ID: long, Policy: BuiltinClients()["mobile"].Policy}},
	} {
		if err := clients.check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The web client keeps its refresh token in a cookie and nothing else.
func TestBuiltinClients(t *testing.T) {
	clients := BuiltinClients("https://app.example.com")
	transports := map[string]refresh.Transport{}
	for id, c := range clients {
		transports[id] = c.Policy.Transport
	}
	if want := map[string]refresh.Transport{"mobile": refresh.Body, "web": refresh.Cookie}; !maps.Equal(transports, want) {
		t.Errorf("got %v, want %v", transports, want)
	}
	if _, ok := clients.Policy(DefaultClient); !ok {
		t.Errorf("there is no default client %s", DefaultClient)
	}
}

func TestClientSecretText(t *testing.T) {
	hash := HashClientSecret("a secret of some length, made at random")
	text := hash.String()
	if got, err := ParseClientSecret(text); err != nil || got != hash {
		t.Errorf("%s became %s, %v", text, got, err)
	}
	for _, bad := range []string{
		"", "a secret of some length, made at random", strings.TrimPrefix(text, "sha256:"), "SHA256:" + text[7:], "sha512:" + text[7:],
		text + "=", text[:len(text)-1], text + "A", text[:20] + "\n" + text[20:], text[:len(text)-1] + "_", " " + text,
	} {
		if got, err := ParseClientSecret(bad); err == nil && got.String() != bad {
			t.Errorf("%q was read as %s", bad, got)
		} else if err != nil && bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("the error quotes %q", bad)
		}
	}
}
