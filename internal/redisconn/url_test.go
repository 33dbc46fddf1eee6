package redisconn_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/authapi/authapi/internal/redisconn"
)

func TestURLForms(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"redis://localhost:6379", "redis://localhost:6379/0"},
		{"redis://localhost", "redis://localhost:6379/0"},
		{"redis://localhost:6380/", "redis://localhost:6380/0"},
		{"redis://localhost:6380/3", "redis://localhost:6380/3"},
		{"redis://:pass@localhost/3", "redis://localhost:6379/3"},
		{"redis://user:pass@localhost", "redis://localhost:6379/0"},
		{"redis://user:p%40%2F%3f%23@localhost", "redis://localhost:6379/0"},
		{"redis://user:a:b@c@localhost", "redis://localhost:6379/0"},
		{"redis://a:1,b:2,c", "redis://a:1,b:2,c:6379/0"},
		{"redis://u:p@a:1,b:2", "redis://a:1,b:2/0"},
		{"redis://[::1]:7000,[fe80::1]", "redis://[::1]:7000,[fe80::1]:6379/0"},
		{"rediss://cache.example.com:6380/0", "rediss://cache.example.com:6380/0"},
		{"unix:///run/redis.sock", "unix:///run/redis.sock?db=0"},
		{"unix://u:p@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"},
		{"sentinel://a:1,b/mymaster", "sentinel://a:1,b:26379/mymaster?db=0"},
		{"sentinel://u:p@a/m?db=4&tls=1&sentinel_username=x&sentinel_password=y", "sentinel://a:26379/m?db=4&tls=1"},
		{"sentinel://a/m?tls=0", "sentinel://a:26379/m?db=0"},
	} {
		got, err := redisconn.Redact(c.url)
		if err != nil || got != c.want {
			t.Errorf("Redact(%q) = %q, %v; want %q", c.url, got, err, c.want)
		}
	}
}

func TestURLMistakes(t *testing.T) {
	for _, c := range []struct{ url, says string }{
		{"", "must begin with"},
		{"localhost:6379", "must begin with"},
		{"http://localhost", "must begin with"},
		{"REDIS://localhost", "must begin with"},
		{"redis:localhost", "must begin with"},
		{"redis://", "position 1"},
		{"redis://,b", "position 1"},
		{"redis://a,", "position 2"},
		{"redis://a,a:6379", "twice"},
		{"redis://[a]b", "malformed host at position 1"},
		{"redis://a:", "port at position 1"},
		{"redis://a:0", "port at position 1"},
		{"redis://a:65536", "port at position 1"},
		{"redis://a:1:2", "malformed host at position 1"},
		{"redis://::1:6379", "malformed host at position 1"},
		{"redis://[::1", "malformed host at position 1"},
		{"redis://a/x", "database"},
		{"redis://a/-1", "database"},
		{"redis://a/0/1", "database"},
		{"redis://a?db=1", "unknown parameter; redis:// takes none"},
		{"redis://a?read_timeout=5s", "unknown parameter"},
		{"rediss://a?skip_verify=true", "unknown parameter"},
		{"redis://a/0#x", "#"},
		{"redis://a b", "white space"},
		{"redis://a\n", "white space"},
		{"redis://a\u00e9", "ASCII"},
		{"redis://user@a", "without a password"},
		{"redis://user:@a", "without a password"},
		{"redis://@a", "without a password"},
		{"redis://u:%zz@a", "percent-encoding"},
		{"unix://run/redis.sock", "three slashes"},
		{"unix://", "three slashes"},
		{"unix:///s?db=x", "database"},
		{"unix:///s?tls=1", "unknown parameter"},
		{"sentinel://a", "master's name"},
		{"sentinel://a/", "master's name"},
		{"sentinel://a/m/0", "master's name"},
		{"sentinel://a/m?tls=yes", "0 or 1"},
		{"sentinel://a/m?tls=1&tls=1", "twice"},
		{"sentinel://a/m?db=", "without a value"},
		{"sentinel://a/m?TLS=1", "unknown parameter"},
		{"sentinel://a/m?sentinel_username=x", "without sentinel_password"},
		{"sentinel://a/m?x;y", "malformed query"},
	} {
		_, err := redisconn.Redact(c.url)
		if !errors.Is(err, redisconn.ErrURL) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Redact(%q): %v; want ErrURL that says %q", c.url, err, c.says)
		}
		if _, openErr := redisconn.Open(t.Context(), c.url, redisconn.Options{}); !errors.Is(openErr, redisconn.ErrURL) {
			t.Errorf("Open(%q): %v; want ErrURL", c.url, openErr)
		}
	}
}

// TestPasswordNeverShown puts every character raw into passwords, as people do
// who paste them. Whatever the URL then means, no part of it may be shown.
func TestPasswordNeverShown(t *testing.T) {
	forms := []string{
		"redis://user:%s@127.0.0.1:1/0",
		"redis://:%s@127.0.0.1:1",
		"redis://%s@127.0.0.1:1",
		"redis://user:%s@127.0.0.1:1,127.0.0.1:2?x=y",
		"rediss://user:%s@127.0.0.1:1/0",
		"unix://user:%s@/nowhere/s",
		"sentinel://user:%s@127.0.0.1:1/m",
		"sentinel://127.0.0.1:1/m?sentinel_password=%s",
		"redsi://user:%s@127.0.0.1:1/0",
		"user:%s@127.0.0.1:1",
	}
	check := func(t *testing.T, rawURL, text string) {
		t.Helper()
		if strings.Contains(text, "hunter") {
			t.Errorf("the password of %q is shown in: %s", rawURL, text)
		}
	}
	for _, form := range forms {
		for char := range 256 {
			rawURL := fmt.Sprintf(form, "hunter2"+string([]byte{byte(char)})+"hunter3")
			shown, err := redisconn.Redact(rawURL)
			check(t, rawURL, shown)
			if err != nil {
				check(t, rawURL, err.Error())
			}
		}
		rawURL := fmt.Sprintf(form, "hunter2hunter3")
		if _, err := redisconn.Open(t.Context(), rawURL, redisconn.Options{}); err == nil {
			t.Errorf("Open(%q) succeeded", rawURL)
		} else {
			check(t, rawURL, err.Error())
		}
		if !redisconn.HasPassword(rawURL) {
			t.Errorf("HasPassword(%q) = false", rawURL)
		}
	}
	for _, rawURL := range []string{"redis://a:1,b:2/0", "unix:///s", "sentinel://a/m?tls=1"} {
		if redisconn.HasPassword(rawURL) {
			t.Errorf("HasPassword(%q) = true", rawURL)
		}
	}
}
