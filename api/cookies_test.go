package api

import (
	"net/url"
	"strings"
	"testing"

	"github.com/authapi/authapi/refresh"
)

// A name that does not protect the cookie is refused at the start, as are two
// clients that would overwrite each other's.
func TestBadCookieNames(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no prefix":     func(c *Config) { rename(c, "refresh") },
		"other case":    func(c *Config) { rename(c, "__host-refresh") },
		"not a word":    func(c *Config) { rename(c, "__Host-re fresh") },
		"semicolon":     func(c *Config) { rename(c, "__Host-;") },
		"long":          func(c *Config) { rename(c, "__Host-"+strings.Repeat("x", 64)) },
		"same as other": func(c *Config) { addCookieClient(c, "") },
	} {
		c := Config{Clients: BuiltinClients()}
		change(&c)
		if err := c.Clients.checkCookies(&url.URL{Scheme: "https", Host: "auth.example.com"}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := Config{Clients: BuiltinClients()}
	rename(&c, "refresh")
	addCookieClient(&c, "other")
	if err := c.Clients.checkCookies(&url.URL{Scheme: "http", Host: "localhost:8080"}); err != nil {
		t.Error(err)
	}
}

func rename(c *Config, name string) {
	web := c.Clients["web"]
	web.Cookie = name
	c.Clients["web"] = web
}

func addCookieClient(c *Config, name string) {
	c.Clients["other"] = Client{ID: "other", Cookie: name, Policy: DefaultPolicy(refresh.Cookie)}
}
