package redisconn

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ErrURL is wrapped by every error about the form of a Redis URL.
var ErrURL = errors.New("redis URL")

// target is a parsed Redis URL.
type target struct {
	scheme   string
	addrs    []string // host:port of Redis or of the Sentinels; for unix, one path
	username string
	password string
	db       int
	tls      bool

	master           string // sentinel only
	sentinelUsername string
	sentinelPassword string
}

// Redact returns what may be logged of a Redis URL: scheme, hosts, database
// and master, without user names and passwords. It asks no server. The error
// wraps [ErrURL] and says what is wrong with the form, without quoting any
// part that could belong to a password.
func Redact(rawURL string) (string, error) {
	t, err := parse(rawURL)
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

// HasPassword reports whether a URL holds a password, for callers that must
// not take one from a place where others can read it. It reports true for a
// URL that cannot be parsed: what it holds is then anyone's guess.
func HasPassword(rawURL string) bool {
	t, err := parse(rawURL)
	return err != nil || t.password != "" || t.sentinelPassword != ""
}

func (t target) String() string {
	var b strings.Builder
	b.WriteString(t.scheme)
	b.WriteString("://")
	b.WriteString(strings.Join(t.addrs, ","))
	switch t.scheme {
	case "sentinel":
		b.WriteString("/" + url.PathEscape(t.master) + "?db=" + strconv.Itoa(t.db))
		if t.tls {
			b.WriteString("&tls=1")
		}
	case "unix":
		b.WriteString("?db=" + strconv.Itoa(t.db))
	default:
		b.WriteString("/" + strconv.Itoa(t.db))
	}
	return b.String()
}

// parse reads a Redis URL. It does not use url.Parse, for two reasons: that
// function refuses several hosts, and its errors quote the URL with the
// password in it.
//
// Nothing that parse itself quotes can be a piece of a password: a password
// with a raw slash, question mark or hash would be cut in two there, and the
// @ that ends it then lies behind the authority, which is refused first.
func parse(raw string) (target, error) {
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] >= 0x7f {
			return target{}, urlError("contains white space, a control character or a character outside ASCII: percent-encode it")
		}
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || !slices.Contains([]string{"redis", "rediss", "unix", "sentinel"}, scheme) {
		return target{}, urlError("must begin with redis://, rediss://, unix:// or sentinel://")
	}
	if strings.Contains(rest, "#") {
		return target{}, urlError("contains a #: write it as %%23")
	}

	t := target{scheme: scheme, tls: scheme == "rediss"}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if strings.Contains(path, "@") || strings.Contains(query, "@") {
		return target{}, urlError("contains an @ behind the host: in user names and passwords write / as %%2F, ? as %%3F and @ as %%40")
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if err := t.credentials(authority[:at]); err != nil {
			return target{}, err
		}
		authority = authority[at+1:]
	}

	var err error
	switch scheme {
	case "redis", "rediss":
		t.addrs, err = hosts(authority, "6379")
		if err == nil && path != "" {
			t.db, err = database(path)
		}
	case "sentinel":
		t.addrs, err = hosts(authority, "26379")
		if err == nil {
			t.master, err = url.PathUnescape(path)
			if err != nil || t.master == "" || strings.Contains(path, "/") {
				err = urlError("needs the master's name behind the Sentinels: sentinel://host:port/mymaster")
			}
		}
	case "unix":
		if authority != "" || path == "" {
			return target{}, urlError("needs an absolute path, with three slashes: unix:///run/redis.sock")
		}
		var p string
		if p, err = url.PathUnescape("/" + path); err != nil {
			err = urlError("has a path with a broken percent-encoding")
		}
		t.addrs = []string{p}
	}
	if err != nil {
		return target{}, err
	}
	if err := t.parameters(query); err != nil {
		return target{}, err
	}
	return t, nil
}

// credentials reads user:password.
func (t *target) credentials(userinfo string) error {
	user, pass, ok := strings.Cut(userinfo, ":")
	// Redis has no use for a name alone. Most often such a URL means a
	// password, and the client would silently connect without it.
	if !ok || pass == "" {
		return urlError("has a user name without a password: write user:password@host, or :password@host for the default user")
	}
	var err, err2 error
	t.username, err = url.PathUnescape(user)
	t.password, err2 = url.PathUnescape(pass)
	if err != nil || err2 != nil {
		return urlError("has a broken percent-encoding in the user name or password: write %% as %%25")
	}
	return nil
}

func hosts(list, defaultPort string) ([]string, error) {
	var addrs []string
	for i, item := range strings.Split(list, ",") {
		host, port, err := net.SplitHostPort(item)
		if err != nil {
			if host, port, err = net.SplitHostPort(item + ":" + defaultPort); err != nil {
				return nil, urlError("has a malformed host at position %d: write host:port, an IPv6 address in brackets", i+1)
			}
		}
		if host == "" || strings.ContainsAny(host, "[]%") {
			return nil, urlError("has no valid host name at position %d: write host:port", i+1)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, urlError("has a port at position %d that is not a number from 1 to 65535", i+1)
		}
		addr := net.JoinHostPort(host, port)
		if slices.Contains(addrs, addr) {
			return nil, urlError("names the host at position %d twice", i+1)
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

func database(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, urlError("has a database that is not a number: write redis://host:port/0")
	}
	return int(n), nil
}

// parameters reads the query. What it does not know is an error: a misspelt
// tls=1 must not become a connection in plain text.
func (t *target) parameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return urlError("has a malformed query")
	}
	for name, vs := range values {
		known := t.scheme == "unix" && name == "db" ||
			t.scheme == "sentinel" && slices.Contains([]string{"db", "tls", "sentinel_username", "sentinel_password"}, name)
		if !known {
			// Not quoted: it is what follows a raw & in a Sentinel password.
			return urlError("has an unknown parameter; %s:// takes %s", t.scheme, parametersOf[t.scheme])
		}
		if len(vs) != 1 || vs[0] == "" {
			return urlError("has the parameter %q twice or without a value", name)
		}
		switch v := vs[0]; name {
		case "db":
			if t.db, err = database(v); err != nil {
				return err
			}
		case "tls":
			if v != "0" && v != "1" {
				return urlError("has the parameter tls with a value other than 0 or 1")
			}
			t.tls = v == "1"
		case "sentinel_username":
			t.sentinelUsername = v
		case "sentinel_password":
			t.sentinelPassword = v
		}
	}
	if t.sentinelUsername != "" && t.sentinelPassword == "" {
		return urlError("has sentinel_username without sentinel_password")
	}
	return nil
}

var parametersOf = map[string]string{
	"redis":    "none",
	"rediss":   "none",
	"unix":     "db",
	"sentinel": "db, tls, sentinel_username and sentinel_password",
}

func urlError(format string, args ...any) error {
	return fmt.Errorf("%w "+format, append([]any{ErrURL}, args...)...)
}
