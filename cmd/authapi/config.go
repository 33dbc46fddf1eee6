package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/throttle"
)

// config is what an operator decides, and the comments are their manual. Each
// setting has an environment variable and a flag; a flag wins over its
// variable. Three settings hold secrets and can be read from a file instead:
// that of a variable X is named by X_FILE, and one newline at its end is
// dropped. Giving both, or a variable the empty value, is an error, and so is
// a variable AUTHAPI_* that is not listed here.
//
// Without AUTHAPI_REDIS_URL the program is a demo: it brings its own Redis in
// memory, is reachable from this machine only, and refuses to start when any
// setting of a real deployment is present. An environment file that got lost
// must not open a demo to the world.
type config struct {
	// AUTHAPI_ADDR, --addr: where to listen for HTTP, as host:port. Default
	// localhost:8080. An empty host means every address of the machine, port 0
	// any free one. Without a Redis URL only localhost, 127.0.0.0/8 and ::1.
	addr string

	// AUTHAPI_ISSUER, --issuer: the absolute https URL that the tokens name as
	// their maker (iss) and under which clients reach this service. Verifiers
	// compare it byte for byte, so forms that libraries rewrite are refused:
	// no query, fragment, user name, trailing slash, capital letters in the
	// host or default port. http is allowed for loopback hosts. Required with
	// a Redis URL, refused without one: then it is http://localhost:<port>.
	issuer string

	// AUTHAPI_AUDIENCE, --audience: for whom the tokens are (aud), up to 256
	// printable ASCII characters without spaces. Default: the issuer.
	audience string

	// AUTHAPI_REDIS_URL, --redis-url, or AUTHAPI_REDIS_URL_FILE,
	// --redis-url-file: where the state is kept. One of
	// redis://[user:password@]host[:port][,host...][/db], rediss://... (TLS),
	// unix:///path, sentinel://host:port,host:port/master. Cluster is detected
	// from the server. On the command line a URL with a password is refused:
	// every user of the machine could read it. Default: the embedded demo.
	redisURL string

	// AUTHAPI_REDIS_PREFIX, --redis-prefix: the beginning of every key, so that
	// deployments can share a Redis; 1 to 32 of A-Z a-z 0-9 _ . : -. Default
	// authapi. Changing it logs everyone out. Refused without a Redis URL.
	redisPrefix string

	// AUTHAPI_REVOCATION_REPLICAS, --revocation-replicas: how many replicas of
	// Redis must have acknowledged a revocation before it is answered, 0 to 9.
	// If too few do in time, the answer is 503 and the client asks again.
	// Default 0: a failover may lose the last revocations, which the instances
	// then assert again. Refused without a Redis URL.
	revocationReplicas int

	// AUTHAPI_SECRET, or AUTHAPI_SECRET_FILE, --secret-file: base64 of at least
	// 32 random bytes (openssl rand -base64 32). Several are separated by
	// commas: the first signs and seals, all verify and open. To rotate, append
	// the new one on every instance, then put it first everywhere, run authapi
	// keys reseal, and remove the old one when the longest idle lifetime has
	// passed. Required with a Redis URL, refused without one. No flag
	// takes the value itself.
	secrets [][]byte

	// AUTHAPI_VERIFIER_SECRET, or AUTHAPI_VERIFIER_SECRET_FILE,
	// --verifier-secret-file: what services send, with the client id verifier,
	// to follow GET /revocations: base64 of at least 32 random bytes, the text
	// as it stands. Several are separated by commas and all are good: to
	// rotate, add the new one here, hand it to the services, remove the old
	// one. Default: nobody may follow, and in the demo verifier-secret. Refused
	// without a Redis URL. No flag takes the value itself.
	verifierSecrets []string

	// AUTHAPI_CLIENTS_FILE, --clients-file: a YAML file that names the
	// applications that may ask for tokens, and only those: docs/clients.md.
	// Read once, at the start. Default: the clients mobile and web. Refused
	// without a Redis URL.
	clients api.Clients

	// AUTHAPI_TRUSTED_PROXIES, --trusted-proxies: networks (10.0.0.0/8) or
	// addresses of the proxies in front, separated by commas. What they say in
	// X-Forwarded-For (who is asking) and X-Forwarded-Proto (whether over https)
	// is believed, and what others say there is not. Default: nobody. Refused
	// without a Redis URL.
	trustedProxies []netip.Prefix

	// AUTHAPI_CONNECTIONS, --connections: how many connections there may be at
	// once, 16 to 1000000. One address may have an eighth of them, trusted proxies
	// all. Each takes about 10 KiB and a file descriptor. Default 4096.
	connections int

	// AUTHAPI_LIMIT_ACCOUNT, --limit-account: how often the password of an
	// account may be tried from devices that nobody knows, all together, and from
	// each device that is known: as a number and a time, or off. In a day it is
	// ten times as many. Tries that succeed do not count. Default 10/15m.
	accountLimit throttle.Rate

	// AUTHAPI_LIMIT_ADDRESS, --limit-address: likewise from one IPv4 address or
	// one 64-bit network of IPv6; a 48-bit network may ten times as often. The
	// same number of invented refresh tokens is refused with 401 before it is
	// 429. Default 60/1m.
	addressLimit throttle.Rate

	// AUTHAPI_LIMIT_REFRESH, --limit-refresh: how often one session may be
	// refreshed, repeated answers included. Default 300/5m.
	refreshLimit throttle.Rate

	// AUTHAPI_PAGE, --page: on or off: whether to serve the page at /, where a
	// person can log in and watch tokens and sessions. Default off, and on in the
	// demo.
	page bool

	// AUTHAPI_SIGNING_ALGORITHM, --signing-algorithm: ES256, EdDSA or RS256, of
	// the keys that are made from now on. Default ES256, which every JOSE
	// library can verify.
	signingAlgorithm string

	// AUTHAPI_KEY_ROTATION, --key-rotation: how long a key signs, with a unit;
	// 1h to 8760h. Default 720h, which is 30 days.
	keyRotation time.Duration

	// AUTHAPI_LOG_FORMAT, --log-format: json or text. Default: text on a
	// terminal, else json.
	logFormat string

	// AUTHAPI_LOG_LEVEL, --log-level: debug, info, warn or error; messages
	// below it are dropped. Default info.
	logLevel slog.Level

	// AUTHAPI_DRAIN, --drain: how long /readyz says no before the listener
	// closes at the end, so that load balancers stop sending first; 0s to 1m,
	// with a unit. Default 5s, and none in the demo.
	drain time.Duration

	// embedded reports that there is no Redis URL: the demo.
	embedded bool
	// terminal decides the default of the log's format.
	terminal bool
}

// given is a value and where it came from.
type given struct{ value, source string }

// loadConfig reads the configuration of every subcommand that needs Redis.
// args are the arguments behind the subcommand's name; the flags end at the
// first argument that is none, and what follows is returned. environ has the
// form of os.Environ. terminal says whether the log goes to one.
//
// The error holds every problem that was found and no secret. It is
// [flag.ErrHelp] alone if help was asked for.
func loadConfig(args, environ []string, readFile func(string) ([]byte, error), terminal bool) (config, []string, error) {
	table := settings()
	c := config{terminal: terminal}
	var problems []error

	env, errs := fromEnviron(table, environ)
	problems = append(problems, errs...)
	flags, rest, err := fromFlags(table, args)
	if errors.Is(err, flag.ErrHelp) {
		return config{}, nil, flag.ErrHelp
	}
	if err != nil {
		// The flags behind the broken one are unread: going on would complain
		// about settings that are there.
		return config{}, nil, errors.Join(append(problems, err)...)
	}

	present := make(map[string]given) // by variable, whatever the source
	broken := make(map[string]bool)
	for _, s := range table {
		value, ok, err := s.pick(env, flags, readFile)
		if ok || err != nil {
			present[s.env] = value
		}
		switch {
		case err != nil:
		case ok && s.env == "AUTHAPI_REDIS_URL" && value.source == "--redis-url" && redisconn.HasPassword(value.value):
			err = errors.New("--redis-url: holds a password (or cannot be read), and every user of this machine can see it here; use AUTHAPI_REDIS_URL or --redis-url-file")
		case ok:
			if err = s.read(&c, value.value); err != nil {
				err = fmt.Errorf("%s: %w", value.source, err)
			}
		case s.fixed:
			err = s.read(&c, s.def)
		}
		if err != nil {
			problems = append(problems, err)
			broken[s.env] = true
		}
	}

	_, hasRedis := present["AUTHAPI_REDIS_URL"]
	c.embedded = !hasRedis
	if c.embedded {
		problems = append(problems, c.checkDemo(table, present, broken)...)
	} else {
		for _, name := range []string{"AUTHAPI_SECRET", "AUTHAPI_ISSUER"} {
			if _, ok := present[name]; !ok {
				problems = append(problems, fmt.Errorf("%s: required when a Redis URL is given", name))
			}
		}
	}
	if len(problems) > 0 {
		return config{}, nil, errors.Join(problems...)
	}

	if c.clients == nil {
		c.clients = api.BuiltinClients()
	}
	if c.verifierSecrets != nil {
		if _, taken := c.clients[api.Verifier]; taken {
			return config{}, nil, fmt.Errorf("AUTHAPI_VERIFIER_SECRET: the clients file has a client %s of its own; keep one of the two", api.Verifier)
		}
		c.clients.AddVerifier(c.verifierSecrets)
	}
	if c.logFormat == "" {
		c.logFormat = "json"
		if terminal {
			c.logFormat = "text"
		}
	}
	if c.embedded {
		if _, ok := present["AUTHAPI_PAGE"]; !ok {
			c.page = true
		}
		// Nobody balances load onto a demo, and Ctrl-C should end it.
		if _, ok := present["AUTHAPI_DRAIN"]; !ok {
			c.drain = 0
		}
		_, port, _ := net.SplitHostPort(c.addr)
		c.issuer = "http://" + net.JoinHostPort("localhost", port)
	}
	if c.audience == "" {
		c.audience = c.issuer
	}
	return c, rest, nil
}

// checkDemo refuses everything that says that a real deployment was meant.
func (c config) checkDemo(table []setting, present map[string]given, broken map[string]bool) []error {
	var problems []error
	for _, s := range table {
		if v, ok := present[s.env]; ok && s.production {
			problems = append(problems, fmt.Errorf(
				"%s: set, but there is no AUTHAPI_REDIS_URL, and a demo does not take it; has an environment file got lost?", v.source))
		}
	}
	if !broken["AUTHAPI_ADDR"] {
		if host, _, err := net.SplitHostPort(c.addr); err != nil || !isLoopback(host) {
			source := present["AUTHAPI_ADDR"].source
			problems = append(problems, fmt.Errorf(
				"%s: without AUTHAPI_REDIS_URL this is a demo with a known password, which listens on localhost, 127.0.0.0/8 or [::1] only", source))
		}
	}
	return problems
}

// listening returns the configuration with what depends on the port that was
// really opened: the demo's issuer and the audience that follows it.
func (c config) listening(addr net.Addr) config {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !c.embedded {
		return c
	}
	issuer := "http://" + net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	if c.audience == c.issuer {
		c.audience = issuer
	}
	c.issuer = issuer
	return c
}

// LogValue is what a log may show of a configuration: no secret and no
// credentials of the Redis URL.
func (c config) LogValue() slog.Value {
	redisURL := "embedded"
	if c.redisURL != "" {
		var err error
		if redisURL, err = redisconn.Redact(c.redisURL); err != nil {
			redisURL = "malformed"
		}
	}
	return slog.GroupValue(
		slog.String("addr", c.addr),
		slog.String("issuer", c.issuer),
		slog.String("audience", c.audience),
		slog.String("redis_url", redisURL),
		slog.String("redis_prefix", c.redisPrefix),
		slog.Int("revocation_replicas", c.revocationReplicas),
		slog.Int("secrets", len(c.secrets)),
		slog.Int("verifier_secrets", len(c.verifierSecrets)),
		slog.Any("trusted_proxies", c.trustedProxies),
		slog.Any("clients", slices.Sorted(maps.Keys(c.clients))),
		slog.Int("connections", c.connections),
		slog.String("limit_account", c.accountLimit.String()),
		slog.String("limit_address", c.addressLimit.String()),
		slog.String("limit_refresh", c.refreshLimit.String()),
		slog.Bool("page", c.page),
		slog.String("signing_algorithm", c.signingAlgorithm),
		slog.String("key_rotation", c.keyRotation.String()),
		slog.String("log_format", c.logFormat),
		slog.String("log_level", c.logLevel.String()),
		slog.String("drain", c.drain.String()),
	)
}

// String and GoString keep secrets out of %v, %+v and %#v.
func (c config) String() string   { return c.LogValue().String() }
func (c config) GoString() string { return c.String() }
