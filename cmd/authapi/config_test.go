package main

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

// testSecret returns 32 bytes that look random, different for each seed.
func testSecret(seed byte) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i)*byte(i)*7 + byte(i)*31 + seed*13
	}
	return b
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// production is an environment that is complete.
func production(more ...string) []string {
	return append([]string{
		"PATH=/bin",
		"AUTHAPI_REDIS_URL=redis://:redis-password@redis:6379/0",
		"AUTHAPI_SECRET=" + b64(testSecret(1)),
		"AUTHAPI_ISSUER=https://auth.example.com",
	}, more...)
}

func without(environ []string, name string) []string {
	var out []string
	for _, e := range environ {
		if !strings.HasPrefix(e, name+"=") {
			out = append(out, e)
		}
	}
	return out
}

type files map[string]string

func (f files) read(name string) ([]byte, error) {
	text, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return []byte(text), nil
}

func TestConfigValues(t *testing.T) {
	two := b64(testSecret(1)) + "," + b64(testSecret(2))
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
		files   files
		field   func(config) any
		want    any
	}{
		{"address", nil, production(), nil, func(c config) any { return c.addr }, "localhost:8080"},
		{"any address", nil, production("AUTHAPI_ADDR=:80"), nil, func(c config) any { return c.addr }, ":80"},
		{"flag wins", []string{"--addr", ":2"}, production("AUTHAPI_ADDR=:1"), nil, func(c config) any { return c.addr }, ":2"},
		{"flag with equals sign", []string{"--addr=:2"}, production(), nil, func(c config) any { return c.addr }, ":2"},
		{"flag with one dash", []string{"-addr=:2"}, production(), nil, func(c config) any { return c.addr }, ":2"},
		{"audience is the issuer", nil, production(), nil, func(c config) any { return c.audience }, "https://auth.example.com"},
		{"audience", nil, production("AUTHAPI_AUDIENCE=api"), nil, func(c config) any { return c.audience }, "api"},
		{"not embedded", nil, production(), nil, func(c config) any { return c.embedded }, false},
		{"prefix", nil, production(), nil, func(c config) any { return c.redisPrefix }, "authapi"},
		{"other prefix", nil, production("AUTHAPI_REDIS_PREFIX=eu.auth-2:x_"), nil, func(c config) any { return c.redisPrefix }, "eu.auth-2:x_"},
		{"URL", nil, production(), nil, func(c config) any { return c.redisURL }, "redis://:redis-password@redis:6379/0"},
		{"URL by flag", []string{"--redis-url=redis://other"}, production(), nil, func(c config) any { return c.redisURL }, "redis://other"},
		{
			"URL by file", nil, append(without(production(), "AUTHAPI_REDIS_URL"), "AUTHAPI_REDIS_URL_FILE=/u"),
			files{"/u": "redis://:p@other\n"},
			func(c config) any { return c.redisURL }, "redis://:p@other",
		},
		{
			"flag's file wins over the variable",
			[]string{"--redis-url-file", "/u"},
			production(),
			files{"/u": "redis://:p@other"},
			func(c config) any { return c.redisURL }, "redis://:p@other",
		},
		{"secret", nil, production(), nil, func(c config) any { return c.secrets }, [][]byte{testSecret(1)}},
		{
			"two secrets", nil, append(without(production(), "AUTHAPI_SECRET"), "AUTHAPI_SECRET="+two), nil,
			func(c config) any { return c.secrets },
			[][]byte{testSecret(1), testSecret(2)},
		},
		{
			"verifier's secrets", nil, production("AUTHAPI_VERIFIER_SECRET=" + two), nil,
			func(c config) any { return c.verifierSecrets }, strings.Split(two, ","),
		},
		{"no verifier", nil, production(), nil, func(c config) any { return len(c.verifierSecrets) }, 0},
		{
			"secret by file", nil, append(without(production(), "AUTHAPI_SECRET"), "AUTHAPI_SECRET_FILE=/s"),
			files{"/s": two + "\r\n"},
			func(c config) any { return c.secrets },
			[][]byte{testSecret(1), testSecret(2)},
		},
		{
			"secret by flag's file",
			[]string{"--secret-file=/s"},
			production(),
			files{"/s": b64(testSecret(3)) + "\n"},
			func(c config) any { return c.secrets },
			[][]byte{testSecret(3)},
		},
		{"log level", nil, production(), nil, func(c config) any { return c.logLevel }, slog.LevelInfo},
		{"other log level", nil, production("AUTHAPI_LOG_LEVEL=debug"), nil, func(c config) any { return c.logLevel }, slog.LevelDebug},
		{"log format", nil, production("AUTHAPI_LOG_FORMAT=text"), nil, func(c config) any { return c.logFormat }, "text"},
		{"drain", nil, production(), nil, func(c config) any { return c.drain }, 5 * time.Second},
		{"no drain", nil, production("AUTHAPI_DRAIN=0"), nil, func(c config) any { return c.drain }, time.Duration(0)},
		{"longest drain", nil, production("AUTHAPI_DRAIN=60s"), nil, func(c config) any { return c.drain }, time.Minute},

		{
			"trusted proxies", nil, production("AUTHAPI_TRUSTED_PROXIES=10.0.0.0/8,192.0.2.7,2001:db8::/32"), nil,
			func(c config) any { return fmt.Sprint(c.trustedProxies) }, "[10.0.0.0/8 192.0.2.7/32 2001:db8::/32]",
		},
		{"no trusted proxies", nil, production(), nil, func(c config) any { return len(c.trustedProxies) }, 0},
		{"no page", nil, production(), nil, func(c config) any { return c.page }, false},
		{"page", nil, production("AUTHAPI_PAGE=on"), nil, func(c config) any { return c.page }, true},

		{"embedded", nil, nil, nil, func(c config) any { return c.embedded }, true},
		{"embedded page", nil, nil, nil, func(c config) any { return c.page }, true},
		{"embedded without a page", nil, []string{"AUTHAPI_PAGE=off"}, nil, func(c config) any { return c.page }, false},
		{"embedded issuer", nil, nil, nil, func(c config) any { return c.issuer }, "http://localhost:8080"},
		{"embedded audience", nil, nil, nil, func(c config) any { return c.audience }, "http://localhost:8080"},
		{"embedded issuer follows the port", []string{"--addr=127.0.0.9:99"}, nil, nil, func(c config) any { return c.issuer }, "http://localhost:99"},
		{"embedded on IPv6", []string{"--addr=[::1]:99"}, nil, nil, func(c config) any { return c.issuer }, "http://localhost:99"},
		{"embedded prefix", nil, nil, nil, func(c config) any { return c.redisPrefix }, "authapi"},
		{"embedded secrets", nil, nil, nil, func(c config) any { return c.secrets }, [][]byte(nil)},
		{"embedded with harmless settings", nil, []string{"AUTHAPI_LOG_LEVEL=warn", "AUTHAPI_AUDIENCE=api"}, nil, func(c config) any { return c.audience }, "api"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, rest, err := loadConfig(c.args, c.environ, c.files.read, false)
			if err != nil {
				t.Fatal(err)
			}
			if len(rest) != 0 {
				t.Errorf("arguments %q are left", rest)
			}
			if v := c.field(got); !reflect.DeepEqual(v, c.want) {
				t.Errorf("got %#v, want %#v", v, c.want)
			}
		})
	}
}

func TestConfigMistakes(t *testing.T) {
	prod := production
	fs := files{"/empty": "\n", "/secret": b64(testSecret(1))}
	for _, c := range []struct {
		name    string
		args    []string
		environ []string
		says    []string
	}{
		{"address without port", nil, prod("AUTHAPI_ADDR=localhost"), []string{"AUTHAPI_ADDR", "host:port"}},
		{"address with port name", nil, prod("AUTHAPI_ADDR=:http"), []string{"AUTHAPI_ADDR"}},
		{"no issuer", nil, without(prod(), "AUTHAPI_ISSUER"), []string{"AUTHAPI_ISSUER: required"}},
		{"no secret", nil, without(prod(), "AUTHAPI_SECRET"), []string{"AUTHAPI_SECRET: required"}},
		{"audience with a space", nil, prod("AUTHAPI_AUDIENCE=a b"), []string{"AUTHAPI_AUDIENCE", "printable"}},
		{"prefix with a brace", nil, prod("AUTHAPI_REDIS_PREFIX=a{b"), []string{"AUTHAPI_REDIS_PREFIX"}},
		{"prefix with a line break", nil, prod("AUTHAPI_REDIS_PREFIX=ab\n"), []string{"AUTHAPI_REDIS_PREFIX"}},
		{"long prefix", nil, prod("AUTHAPI_REDIS_PREFIX=" + strings.Repeat("a", 33)), []string{"AUTHAPI_REDIS_PREFIX"}},
		{"Redis URL", nil, append(without(prod(), "AUTHAPI_REDIS_URL"), "AUTHAPI_REDIS_URL=localhost:6379"), []string{"AUTHAPI_REDIS_URL", "redis://"}},
		{"password in a flag", []string{"--redis-url=redis://:pw@a"}, nil, []string{"--redis-url:", "--redis-url-file"}},
		{"secret as a flag", []string{"--secret", "x"}, prod(), []string{"--secret:", "--secret-file"}},
		{"secret as a flag with equals sign", []string{"--secret=x"}, prod(), []string{"--secret:", "--secret-file"}},
		{"variable and file", nil, prod("AUTHAPI_SECRET_FILE=/secret"), []string{"AUTHAPI_SECRET and AUTHAPI_SECRET_FILE"}},
		{"flag and file", []string{"--redis-url=redis://a", "--redis-url-file=/u"}, prod(), []string{"--redis-url and --redis-url-file"}},
		{"missing file", nil, append(without(prod(), "AUTHAPI_SECRET"), "AUTHAPI_SECRET_FILE=/none"), []string{"AUTHAPI_SECRET_FILE", "/none"}},
		{"empty file", nil, append(without(prod(), "AUTHAPI_SECRET"), "AUTHAPI_SECRET_FILE=/empty"), []string{"AUTHAPI_SECRET_FILE", "empty"}},
		{"file without a name", nil, append(without(prod(), "AUTHAPI_SECRET"), "AUTHAPI_SECRET_FILE="), []string{"AUTHAPI_SECRET_FILE", "empty"}},
		{"clients file", nil, prod("AUTHAPI_CLIENTS_FILE=/x"), []string{"AUTHAPI_CLIENTS_FILE: open /x: no such file"}},
		{"proxy by name", []string{"--trusted-proxies=proxy"}, prod(), []string{`--trusted-proxies: "proxy" is neither a network`}},
		{"proxies with a space", nil, prod("AUTHAPI_TRUSTED_PROXIES=10.0.0.0/8, 10.1.0.0/16"), []string{`" 10.1.0.0/16" is neither`}},
		{"everybody", nil, prod("AUTHAPI_TRUSTED_PROXIES=0.0.0.0/0"), []string{"is everybody"}},
		{"everybody, IPv6", nil, prod("AUTHAPI_TRUSTED_PROXIES=10.0.0.1,::/0"), []string{`"::/0" is everybody`}},
		{"host bits", nil, prod("AUTHAPI_TRUSTED_PROXIES=10.0.0.1/8"), []string{"did you mean 10.0.0.0/8?"}},
		{"mapped proxy", nil, prod("AUTHAPI_TRUSTED_PROXIES=::ffff:10.0.0.1"), []string{"write the IPv4 network as such"}},
		{"page", nil, prod("AUTHAPI_PAGE=yes"), []string{`AUTHAPI_PAGE: "yes" is neither on nor off`}},
		{"log format", nil, prod("AUTHAPI_LOG_FORMAT=JSON"), []string{"AUTHAPI_LOG_FORMAT"}},
		{"log level", nil, prod("AUTHAPI_LOG_LEVEL=INFO"), []string{"AUTHAPI_LOG_LEVEL"}},
		{"drain without unit", nil, prod("AUTHAPI_DRAIN=5"), []string{"AUTHAPI_DRAIN"}},
		{"negative drain", nil, prod("AUTHAPI_DRAIN=-1s"), []string{"AUTHAPI_DRAIN"}},
		{"long drain", nil, prod("AUTHAPI_DRAIN=61s"), []string{"AUTHAPI_DRAIN"}},

		{"misspelt variable", nil, prod("AUTHAPI_ISUER=x"), []string{"AUTHAPI_ISUER", "did you mean AUTHAPI_ISSUER?"}},
		{"singular for plural", nil, prod("AUTHAPI_SECRETS=x"), []string{"did you mean AUTHAPI_SECRET?"}},
		{"misspelt file", nil, prod("AUTHAPI_SECRETFILE=x"), []string{"did you mean AUTHAPI_SECRET_FILE?"}},
		{"foreign variable", nil, prod("AUTHAPI_SOMETHING_ELSE=x"), []string{"AUTHAPI_SOMETHING_ELSE", "authapi help"}},
		{"guessed port", nil, prod("AUTHAPI_PORT=8080"), []string{"AUTHAPI_PORT"}},
		{"file for a setting without one", nil, prod("AUTHAPI_ISSUER_FILE=x"), []string{"AUTHAPI_ISSUER_FILE"}},
		{"misspelt flag", []string{"--adr=:1"}, prod(), []string{"--adr", "did you mean --addr?"}},
		{"flag twice", []string{"--addr=:1", "--addr=:2"}, prod(), []string{"--addr", "twice"}},
		{"flag without value", []string{"--addr"}, prod(), []string{"-addr"}},

		{"lost environment: open address", []string{"--addr=:8080"}, nil, []string{"--addr", "demo"}},
		{"lost environment: other address", nil, []string{"AUTHAPI_ADDR=192.168.0.1:80"}, []string{"AUTHAPI_ADDR", "demo"}},
		{"lost environment: name", nil, []string{"AUTHAPI_ADDR=localhost.example.com:80"}, []string{"AUTHAPI_ADDR", "demo"}},
		{"lost environment: secret", nil, []string{"AUTHAPI_SECRET=" + b64(testSecret(1))}, []string{"AUTHAPI_SECRET: set, but there is no AUTHAPI_REDIS_URL"}},
		{"lost environment: secret file", []string{"--secret-file=/secret"}, nil, []string{"--secret-file: set, but there is no AUTHAPI_REDIS_URL"}},
		{"verifier's secret that is none", nil, prod("AUTHAPI_VERIFIER_SECRET=password"), []string{"AUTHAPI_VERIFIER_SECRET: value 1"}},
		{"verifier's secret empty", nil, prod("AUTHAPI_VERIFIER_SECRET="), []string{"AUTHAPI_VERIFIER_SECRET: set, but empty"}},
		{"lost environment: verifier's secret", nil, []string{"AUTHAPI_VERIFIER_SECRET=" + b64(testSecret(1))}, []string{"AUTHAPI_VERIFIER_SECRET: set, but there is no AUTHAPI_REDIS_URL"}},
		{"lost environment: unreadable secret", nil, []string{"AUTHAPI_SECRET_FILE=/none"}, []string{"AUTHAPI_SECRET_FILE: set, but there is no AUTHAPI_REDIS_URL"}},
		{"lost environment: issuer", nil, []string{"AUTHAPI_ISSUER=http://localhost:8080"}, []string{"AUTHAPI_ISSUER: set, but there is no AUTHAPI_REDIS_URL"}},
		{"lost environment: prefix", nil, []string{"AUTHAPI_REDIS_PREFIX=x"}, []string{"AUTHAPI_REDIS_PREFIX: set, but there is no AUTHAPI_REDIS_URL"}},
		{"lost environment: proxies", nil, []string{"AUTHAPI_TRUSTED_PROXIES=10.0.0.0/8"}, []string{"AUTHAPI_TRUSTED_PROXIES: set, but there is no AUTHAPI_REDIS_URL"}},
		{"lost environment: clients", nil, []string{"AUTHAPI_CLIENTS_FILE=/x"}, []string{"AUTHAPI_CLIENTS_FILE: set, but there is no AUTHAPI_REDIS_URL"}},

		{
			"all at once", nil,
			[]string{"AUTHAPI_REDIS_URL=redis://a", "AUTHAPI_LOG_LEVEL=x", "AUTHAPI_DRAIN=x", "AUTHAPI_SECRET=x", "AUTHAPI_ADR=x"},
			[]string{"AUTHAPI_LOG_LEVEL", "AUTHAPI_DRAIN", "AUTHAPI_SECRET: value 1", "AUTHAPI_ADR", "AUTHAPI_ISSUER: required"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := loadConfig(c.args, c.environ, fs.read, false)
			if err == nil {
				t.Fatalf("no error; configuration %v", got)
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

// TestConfigEmptyValues: a template that lost its variable must not change a
// deployment into a demo, nor a setting into its default.
func TestConfigEmptyValues(t *testing.T) {
	for _, s := range settings() {
		environ := append(without(production(), s.env), s.env+"=")
		if _, _, err := loadConfig(nil, environ, files{}.read, false); err == nil || !strings.Contains(err.Error(), s.env) {
			t.Errorf("%s set to nothing: %v; want an error that names it", s.env, err)
		}
	}
	_, _, err := loadConfig(nil, []string{"AUTHAPI_REDIS_URL="}, files{}.read, false)
	if err == nil || !strings.Contains(err.Error(), "AUTHAPI_REDIS_URL: set, but empty") {
		t.Errorf("empty Redis URL: %v", err)
	}
}

func TestConfigIssuer(t *testing.T) {
	for issuer, ok := range map[string]bool{
		"https://auth.example.com":           true,
		"https://auth.example.com/tenant-a":  true,
		"https://auth.example.com:8443/a/b":  true,
		"https://[2001:db8::1]":              true,
		"http://localhost":                   true,
		"http://localhost:8080":              true,
		"http://127.1.2.3:8080/x":            true,
		"http://[::1]:8080":                  true,
		"http://auth.example.com":            false,
		"http://localhost.example.com":       false,
		"http://192.168.0.1":                 false,
		"ftp://auth.example.com":             false,
		"auth.example.com":                   false,
		"//auth.example.com":                 false,
		"https:auth.example.com":             false,
		"https://":                           false,
		"https:///path":                      false,
		"https://:8443":                      false,
		"https://auth.example.com:":          false,
		"https://auth.example.com:443":       false,
		"http://localhost:80":                false,
		"https://auth.example.com/":          false,
		"https://auth.example.com/a/":        false,
		"https://auth.example.com?":          false,
		"https://auth.example.com?a=b":       false,
		"https://auth.example.com#":          false,
		"https://auth.example.com#a":         false,
		"https://user:pw@auth.example.com":   false,
		"https://user@auth.example.com":      false,
		"https://@auth.example.com":          false,
		"HTTPS://auth.example.com":           false,
		"https://Auth.example.com":           false,
		"https://auth.example.com/a//b":      false,
		"https://auth.example.com/a/../b":    false,
		"https://auth.example.com/./b":       false,
		"https://auth.example.com/a/..":      false,
		"https://auth.example.com/%41":       false,
		"https://auth.example.com/a b":       false,
		" https://auth.example.com":          false,
		"https://auth.example.com\n":         false,
		"https://auth.example.com/\u00e9":    false,
		"https://m\u00fcnchen.example":       false,
		"https://auth.example.com/\"onload=": false,
	} {
		c, _, err := loadConfig([]string{"--issuer", issuer}, production(), files{}.read, false)
		if (err == nil) != ok {
			t.Errorf("issuer %q: %v; want accepted: %v", issuer, err, ok)
		}
		if err == nil && (c.issuer != issuer || c.audience != issuer) {
			t.Errorf("issuer %q became %q, audience %q", issuer, c.issuer, c.audience)
		}
		if err != nil && strings.Contains(err.Error(), "user:pw") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
}

func TestConfigSecretForms(t *testing.T) {
	random := testSecret(7)
	random[0], random[1], random[2] = 0xfb, 0xff, 0xfe // makes + and / in base64
	same := make([]byte, 32)
	counter, down := make([]byte, 32), make([]byte, 64)
	for i := range 64 {
		if i < 32 {
			counter[i] = byte(i + 1)
		}
		down[i] = byte(200 - 3*i)
	}
	for name, c := range map[string]struct {
		value string
		says  string // empty: accepted
	}{
		"standard":            {base64.StdEncoding.EncodeToString(random), ""},
		"standard, no pads":   {base64.RawStdEncoding.EncodeToString(random), ""},
		"URL":                 {base64.URLEncoding.EncodeToString(random), ""},
		"URL, no pads":        {base64.RawURLEncoding.EncodeToString(random), ""},
		"longer":              {b64(append(testSecret(1), testSecret(2)...)), ""},
		"three":               {b64(testSecret(1)) + "," + b64(testSecret(2)) + "," + b64(random), ""},
		"short":               {b64(random[:31]), "value 1 is 31 bytes"},
		"second is short":     {b64(random) + "," + b64(random[:16]), "value 2 is 16 bytes"},
		"long":                {b64([]byte(strings.Repeat("x", 1025))), "1025 bytes"},
		"not base64":          {"!" + b64(random), "not base64"},
		"wrong padding":       {b64(random) + "=", "not base64"},
		"line break inside":   {b64(random)[:20] + "\n" + b64(random)[20:], "not base64"},
		"space":               {b64(random) + ", " + b64(testSecret(1)), "value 2 is not base64"},
		"comma at the end":    {b64(random) + ",", "value 2 is empty"},
		"same twice":          {b64(random) + "," + b64(random), "value 2 is the same as value 1"},
		"same, other base64":  {base64.StdEncoding.EncodeToString(random) + "," + base64.RawURLEncoding.EncodeToString(random), "the same"},
		"all bytes equal":     {b64(same), "not random"},
		"two bytes":           {b64([]byte(strings.Repeat("\x01\xf0", 20))), "not random"},
		"counter":             {b64(counter), "not random"},
		"steps":               {b64(down), "not random"},
		"phrase":              {b64([]byte("The quick brown fox jumps over the lazy dog")), "not random"},
		"placeholder":         {b64([]byte(strings.Repeat("changeme", 4))), "not random"},
		"one good, one wrong": {b64(random) + "," + b64(same), "value 2 is not random"},
	} {
		got, _, err := loadConfig(nil, append(without(production(), "AUTHAPI_SECRET"), "AUTHAPI_SECRET="+c.value), files{}.read, false)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says == "" && len(got.secrets) != strings.Count(c.value, ",")+1:
			t.Errorf("%s: %d secrets", name, len(got.secrets))
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v; want an error that says %q", name, err, c.says)
		}
	}
}

// TestConfigShowsNoSecrets looks for pieces of secrets in everything that is
// printed, however broken the values are.
func TestConfigShowsNoSecrets(t *testing.T) {
	hidden := []string{"redis-password", b64(testSecret(1)), b64(testSecret(1))[4:20], string(testSecret(1))}
	check := func(what, text string) {
		t.Helper()
		for _, h := range hidden {
			if strings.Contains(text, h) {
				t.Errorf("%s shows a secret: %s", what, text)
			}
		}
	}
	c, _, err := loadConfig(nil, production(), files{}.read, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		check(verb, fmt.Sprintf(verb, c))
		check(verb+" of a pointer", fmt.Sprintf(verb, &c))
	}
	for name, handler := range map[string]func(*strings.Builder) slog.Handler{
		"text": func(b *strings.Builder) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *strings.Builder) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b strings.Builder
		slog.New(handler(&b)).Info("start", "config", c)
		check("slog "+name, b.String())
		if !strings.Contains(b.String(), "redis://redis:6379/0") || !strings.Contains(b.String(), "https://auth.example.com") {
			t.Errorf("slog %s does not show the rest: %s", name, b.String())
		}
	}

	secret, redisURL := b64(testSecret(1)), "redis://:redis-password@redis:6379/0"
	for _, args := range [][]string{
		{"--secret=" + secret},
		{"--secret", secret},
		{"--redis-url=" + redisURL},
		{"--redis-url", redisURL + "x"},
		{"--redis-url=" + redisURL, "--redis-url=" + redisURL},
		{"--no-such-flag=" + secret},
	} {
		if _, _, err := loadConfig(args, production(), files{}.read, false); err == nil {
			t.Errorf("%q: no error", args)
		} else {
			check("error", err.Error())
		}
	}
	for _, entry := range []string{
		"AUTHAPI_SECRET=" + secret + "," + secret,
		"AUTHAPI_SECRET=" + secret + "!",
		"AUTHAPI_SECRET=" + secret[:30],
		"AUTHAPI_SECRETS=" + secret,
		"AUTHAPI_VERIFIER_SECRET=" + secret + "," + secret,
		"AUTHAPI_VERIFIER_SECRET=" + secret + "!",
		"AUTHAPI_REDIS_URL=" + redisURL + "x",
		"AUTHAPI_REDIS_URL=x" + redisURL,
		"AUTHAPI_REDIS_URL=redis://user:redis-password/@redis",
	} {
		name, _, _ := strings.Cut(entry, "=")
		if _, _, err := loadConfig(nil, append(without(production(), name), entry), files{}.read, false); err == nil {
			t.Errorf("%s: no error", entry)
		} else {
			check("error", err.Error())
		}
	}
}

func TestConfigLogFormatFollowsTerminal(t *testing.T) {
	for terminal, want := range map[bool]string{true: "text", false: "json"} {
		c, _, err := loadConfig(nil, nil, files{}.read, terminal)
		if err != nil || c.logFormat != want {
			t.Errorf("terminal %v: %q, %v; want %q", terminal, c.logFormat, err, want)
		}
		c, _, err = loadConfig([]string{"--log-format=text"}, nil, files{}.read, terminal)
		if err != nil || c.logFormat != "text" {
			t.Errorf("terminal %v, asked for text: %q, %v", terminal, c.logFormat, err)
		}
	}
}

func TestConfigRest(t *testing.T) {
	_, rest, err := loadConfig([]string{"--log-level=warn", "add", "alice", "--admin"}, production(), files{}.read, false)
	if err != nil || !reflect.DeepEqual(rest, []string{"add", "alice", "--admin"}) {
		t.Errorf("rest = %q, %v", rest, err)
	}
	for _, help := range []string{"-h", "--help"} {
		// Help is most wanted when something is wrong.
		if _, _, err := loadConfig([]string{help}, []string{"AUTHAPI_ADR=x"}, files{}.read, false); err != flag.ErrHelp {
			t.Errorf("%s: %v, want flag.ErrHelp", help, err)
		}
	}
}

// TestConfigKubernetes: a Service named authapi puts variables with our prefix
// into every container of its namespace.
func TestConfigKubernetes(t *testing.T) {
	environ := production(
		"AUTHAPI_SERVICE_HOST=10.0.0.7",
		"AUTHAPI_SERVICE_PORT=8080",
		"AUTHAPI_SERVICE_PORT_HTTP=8080",
		"AUTHAPI_PORT=tcp://10.0.0.7:8080",
		"AUTHAPI_PORT_8080_TCP=tcp://10.0.0.7:8080",
		"AUTHAPI_PORT_8080_TCP_PROTO=tcp",
		"AUTHAPI_PORT_8080_TCP_PORT=8080",
		"AUTHAPI_PORT_8080_TCP_ADDR=10.0.0.7",
		"AUTHAPI_REDIS_SERVICE_HOST=10.0.0.8",
		"AUTHAPI_REDIS_PORT=tcp://10.0.0.8:6379",
		"AUTHAPI_REDIS_PORT_6379_TCP_ADDR=10.0.0.8",
	)
	if _, _, err := loadConfig(nil, environ, files{}.read, false); err != nil {
		t.Error(err)
	}
}

func TestConfigListening(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4321}
	demo, _, err := loadConfig([]string{"--addr=localhost:0"}, nil, files{}.read, false)
	if err != nil {
		t.Fatal(err)
	}
	demo = demo.listening(addr)
	if demo.issuer != "http://localhost:4321" || demo.audience != demo.issuer {
		t.Errorf("issuer %q, audience %q", demo.issuer, demo.audience)
	}
	named, _, err := loadConfig([]string{"--audience=api"}, nil, files{}.read, false)
	if err != nil {
		t.Fatal(err)
	}
	if named = named.listening(addr); named.audience != "api" || named.issuer != "http://localhost:4321" {
		t.Errorf("issuer %q, audience %q", named.issuer, named.audience)
	}
	real, _, err := loadConfig(nil, production(), files{}.read, false)
	if err != nil {
		t.Fatal(err)
	}
	if real = real.listening(addr); real.issuer != "https://auth.example.com" {
		t.Errorf("issuer %q", real.issuer)
	}
}

// TestConfigTable: every row has a variable, a flag and a text that really
// work, and the comments of the struct agree with it.
func TestConfigTable(t *testing.T) {
	var help strings.Builder
	configUsage(&help)
	comments := fieldComments(t)
	for _, s := range settings() {
		if s.doc == "" || s.arg == "" || s.def == "" {
			t.Errorf("%s: an empty column in %+v", s.env, s)
		}
		variables, flags := []string{s.env}, []string{}
		if !s.secret {
			flags = append(flags, "--"+s.flag())
		}
		if s.file {
			variables = append(variables, s.env+"_FILE")
			flags = append(flags, "--"+s.flag()+"-file")
		}
		if len(flags) == 0 {
			t.Errorf("%s has no flag", s.env)
		}
		for _, part := range append(append([]string{s.doc, s.def}, variables...), flags...) {
			if !strings.Contains(help.String(), part) {
				t.Errorf("the help lacks %q", part)
			}
		}
		// A value that no setting takes shows that the name is read, and by
		// whom: \x00 is wrong everywhere, and no such file exists.
		for _, v := range variables {
			environ := append(without(production(), s.env), v+"=\x00")
			if _, _, err := loadConfig(nil, environ, files{}.read, false); err == nil || !strings.Contains(err.Error(), v+": ") || strings.Contains(err.Error(), "no such setting") {
				t.Errorf("%s is not read: %v", v, err)
			}
		}
		for _, f := range flags {
			if _, _, err := loadConfig([]string{f, "\x00"}, production(), files{}.read, false); err == nil || !strings.Contains(err.Error(), f+": ") || strings.Contains(err.Error(), "no such flag") {
				t.Errorf("%s is not read: %v", f, err)
			}
		}
		if s.read == nil {
			continue // reserved: no field
		}
		found := false
		for _, text := range comments {
			if !strings.HasPrefix(text, s.env+",") {
				continue
			}
			found = true
			for _, part := range append(variables, flags...) {
				if !strings.Contains(text, part) {
					t.Errorf("the comment on %s lacks %s", s.env, part)
				}
			}
			if s.fixed && !strings.Contains(text, "efault "+s.def) {
				t.Errorf("the comment on %s lacks its default %s", s.env, s.def)
			}
			if s.production && !strings.Contains(text, "efused without") {
				t.Errorf("the comment on %s does not say that it is refused without a Redis URL", s.env)
			}
		}
		if !found {
			t.Errorf("no field of config has a comment that begins with %s", s.env)
		}
	}
}

// fieldComments returns the comments on the fields of config, each on one line.
func fieldComments(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "config" {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			texts = append(texts, strings.Join(strings.Fields(field.Doc.Text()), " "))
		}
		return false
	})
	if len(texts) == 0 {
		t.Fatal(errors.New("config.go has no struct config"))
	}
	return texts
}
