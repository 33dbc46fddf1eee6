package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/authapi/authapi/internal/redisconn"
)

// config is what an operator decides, and the comments are their manual. Each
// setting has an environment variable and a flag; a flag wins over its
// variable. Two settings hold secrets and can be read from a file instead:
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

	// AUTHAPI_SECRET, or AUTHAPI_SECRET_FILE, --secret-file: base64 of at least
	// 32 random bytes (openssl rand -base64 32). Several are separated by
	// commas: the first signs and seals, all verify and open. To rotate, append
	// the new one on every instance, then put it first everywhere, then remove
	// the old one. Required with a Redis URL, refused without one. No flag
	// takes the value itself.
	secrets [][]byte

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

// setting is one row of the table from which variables, flags and the help
// text are made.
type setting struct {
	env  string // the variable; the flag follows from it
	arg  string // what the help shows as the value
	def  string // the default as the help shows it; applied where fixed is set
	doc  string // for the help: one or two sentences
	file bool   // has a _FILE variable and a --...-file flag

	secret     bool // has no flag that takes the value itself
	fixed      bool // def is a value and not a description
	production bool // makes no sense without a Redis URL, and is refused then

	// read checks the value and puts it into the configuration. Its error
	// must not quote the value of a setting that has a file. Nil: reserved.
	read func(c *config, value string) error
}

func (s setting) flag() string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s.env, "AUTHAPI_")), "_", "-")
}

// settings returns the table. It is a function because the readers and the
// table refer to each other.
func settings() []setting {
	return []setting{
		{
			env: "AUTHAPI_ADDR", arg: "host:port", def: "localhost:8080", fixed: true,
			doc:  "Where to listen for HTTP. Loopback only without a Redis URL.",
			read: (*config).readAddr,
		},
		{
			env: "AUTHAPI_ISSUER", arg: "url", def: "required with a Redis URL", production: true,
			doc:  "The https URL that tokens name as their issuer, compared byte for byte.",
			read: (*config).readIssuer,
		},
		{
			env: "AUTHAPI_AUDIENCE", arg: "name", def: "the issuer",
			doc:  "For whom the tokens are.",
			read: (*config).readAudience,
		},
		{
			env: "AUTHAPI_REDIS_URL", arg: "url", def: "an embedded demo", file: true,
			doc:  "redis://, rediss://, unix:// or sentinel://. With a password: by variable or file only.",
			read: (*config).readRedisURL,
		},
		{
			env: "AUTHAPI_REDIS_PREFIX", arg: "text", def: "authapi", fixed: true, production: true,
			doc:  "Beginning of every Redis key, 1 to 32 of A-Z a-z 0-9 _ . : -",
			read: (*config).readRedisPrefix,
		},
		{
			env: "AUTHAPI_SECRET", arg: "base64[,base64...]", def: "required with a Redis URL", file: true, secret: true, production: true,
			doc:  "At least 32 random bytes in base64; the first of several signs, all verify.",
			read: (*config).readSecrets,
		},
		{
			env: "AUTHAPI_CLIENTS_FILE", arg: "path", def: "none", production: true,
			doc: "Reserved: not supported by this version.",
		},
		{
			env: "AUTHAPI_TRUSTED_PROXIES", arg: "cidr[,cidr...]", def: "none", production: true,
			doc: "Reserved: not supported by this version.",
		},
		{
			env: "AUTHAPI_LOG_FORMAT", arg: "json|text", def: "text on a terminal, else json",
			doc:  "Form of the log lines.",
			read: (*config).readLogFormat,
		},
		{
			env: "AUTHAPI_LOG_LEVEL", arg: "debug|info|warn|error", def: "info", fixed: true,
			doc:  "Log lines below this level are dropped.",
			read: (*config).readLogLevel,
		},
		{
			env: "AUTHAPI_DRAIN", arg: "duration", def: "5s", fixed: true,
			doc:  "How long /readyz says no before the listener closes, 0s to 1m. 0s in the demo.",
			read: (*config).readDrain,
		},
	}
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
		case ok && s.read == nil:
			err = fmt.Errorf("%s: not supported by this version; remove it", value.source)
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

	if c.logFormat == "" {
		c.logFormat = "json"
		if terminal {
			c.logFormat = "text"
		}
	}
	if c.embedded {
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
		if v, ok := present[s.env]; ok && s.production && s.read != nil {
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

// pick chooses among flag, flag's file, variable and variable's file.
func (s setting) pick(env, flags map[string]given, readFile func(string) ([]byte, error)) (given, bool, error) {
	for _, layer := range []map[string]given{flags, env} {
		direct, hasDirect := layer[s.env]
		file, hasFile := layer[s.env+"_FILE"]
		switch {
		case hasDirect && hasFile:
			return direct, true, fmt.Errorf("%s and %s: both are set; keep one", direct.source, file.source)
		case hasDirect && direct.value == "":
			// Often a variable that a template left empty. Taking it for
			// "not set" could turn a deployment into a demo.
			return direct, true, fmt.Errorf("%s: set, but empty; give it a value or remove it", direct.source)
		case hasDirect:
			return direct, true, nil
		case hasFile && file.value == "":
			return file, true, fmt.Errorf("%s: set, but empty; name a file or remove it", file.source)
		case hasFile:
			data, err := readFile(file.value)
			if err != nil {
				return file, true, fmt.Errorf("%s: %w", file.source, err)
			}
			value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
			if value == "" {
				return file, true, fmt.Errorf("%s: the file is empty", file.source)
			}
			return given{value, file.source}, true, nil
		}
	}
	return given{}, false, nil
}

// serviceLink matches the variables that Kubernetes puts into every container
// for a Service named authapi or authapi-something.
var serviceLink = regexp.MustCompile(`^AUTHAPI_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// isServiceLink: the short form is told from someone's guess, such as
// AUTHAPI_PORT=8080, by its value.
func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") &&
		(strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") || strings.HasPrefix(value, "sctp://"))
}

// fromEnviron collects our variables and refuses those that nobody reads: a
// misspelt name would otherwise be a setting silently lost.
func fromEnviron(table []setting, environ []string) (map[string]given, []error) {
	var names []string
	for _, s := range table {
		names = append(names, s.env)
		if s.file {
			names = append(names, s.env+"_FILE")
		}
	}
	found := make(map[string]given)
	var problems []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "AUTHAPI_") || isServiceLink(name, value) {
			continue
		}
		known := false
		for _, n := range names {
			known = known || n == name
		}
		if !known {
			problems = append(problems, fmt.Errorf("%s: there is no such setting%s", name, didYouMean(name, names)))
			continue
		}
		found[name] = given{value, name}
	}
	return found, problems
}

// fromFlags parses the arguments. The keys of the result are the names of the
// variables that the flags stand for.
func fromFlags(table []setting, args []string) (map[string]given, []string, error) {
	found := make(map[string]given)
	var problems []error
	var names []string
	fs := flag.NewFlagSet("authapi", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	add := func(env, name string) {
		names = append(names, "--"+name)
		// The function never returns an error: package flag would quote the
		// value in its message.
		fs.Func(name, "", func(value string) error {
			if _, twice := found[env]; twice {
				problems = append(problems, fmt.Errorf("--%s: given twice", name))
			}
			found[env] = given{value, "--" + name}
			return nil
		})
	}
	for _, s := range table {
		if !s.secret {
			add(s.env, s.flag())
		}
		if s.file {
			add(s.env+"_FILE", s.flag()+"-file")
		}
	}
	err := fs.Parse(args)
	if err == nil {
		return found, fs.Args(), errors.Join(problems...)
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil, nil, flag.ErrHelp
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		err = fmt.Errorf("--%s: there is no such flag%s", name, didYouMean("--"+name, names))
		for _, s := range table {
			if s.secret && name == s.flag() {
				err = fmt.Errorf("--%s: a secret does not belong on a command line, where every user of this machine can see it; use --%s-file or %s", name, name, s.env)
			}
		}
	}
	return nil, nil, errors.Join(append(problems, err)...)
}

// didYouMean suggests the nearest name if it is near.
func didYouMean(name string, names []string) string {
	best, distance := "", 4
	for _, n := range names {
		if d := editDistance(name, n); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return "; see authapi help"
	}
	return "; did you mean " + best + "?"
}

// editDistance counts the insertions, deletions and replacements of bytes that
// turn a into b (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// configUsage prints every setting with its variable, flag and default.
func configUsage(w io.Writer) {
	fmt.Fprint(w, "Settings (a flag wins over its variable):\n")
	for _, s := range settings() {
		fmt.Fprintln(w)
		if !s.secret {
			fmt.Fprintf(w, "  --%s %s\n", s.flag(), s.arg)
		}
		if s.file {
			fmt.Fprintf(w, "  --%s-file path\n", s.flag())
		}
		fmt.Fprintf(w, "      %s", s.env)
		if s.file {
			fmt.Fprintf(w, " or %s_FILE", s.env)
		}
		fmt.Fprintf(w, " (default: %s)\n      %s\n", s.def, s.doc)
	}
}

// isLoopback accepts what can only mean this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}

func (c *config) readAddr(v string) error {
	_, port, err := net.SplitHostPort(v)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port with a number as the port", v)
	}
	c.addr = v
	return nil
}

func (c *config) readIssuer(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return errors.New("is not an absolute URL like https://auth.example.com")
	}
	switch {
	case u.User != nil:
		return errors.New("must not hold a user name or password")
	case strings.ContainsAny(v, "?#"):
		return errors.New("must not have a query or fragment (RFC 8414, section 2)")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("must begin with https://")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("must be https, because whoever changes the traffic could replace the keys; http is for loopback hosts")
	case strings.HasSuffix(v, "/"):
		return fmt.Errorf("%q must not end with a slash: verifiers compare it byte for byte, and many libraries add or drop it", v)
	case u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		return fmt.Errorf("%q has an empty host or port", v)
	case u.Port() == "443" && u.Scheme == "https", u.Port() == "80" && u.Scheme == "http":
		return fmt.Errorf("%q must not name the default port: libraries drop it, and verifiers compare byte for byte", v)
	case v != u.Scheme+"://"+strings.ToLower(u.Host)+u.Path, strings.Contains(u.Path, "//"),
		strings.Contains(u.Path+"/", "/./"), strings.Contains(u.Path+"/", "/../"), !isPlain(v):
		return fmt.Errorf("%q has a form that libraries rewrite (capital letters in scheme or host, percent-encoding, dot segments, double slashes), and verifiers compare byte for byte", v)
	}
	c.issuer = v
	return nil
}

func (c *config) readAudience(v string) error {
	if len(v) > 256 || !isPlain(v) {
		return errors.New("must be at most 256 printable ASCII characters without spaces, quotes and backslashes")
	}
	c.audience = v
	return nil
}

// isPlain accepts printable ASCII but for what needs escaping in JSON, headers
// or HTML attributes.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"\\<>^`{|}", s[i]) >= 0 {
			return false
		}
	}
	return true
}

func (c *config) readRedisURL(v string) error {
	if _, err := redisconn.Redact(v); err != nil {
		return err
	}
	c.redisURL = v
	return nil
}

// A brace would open a hash tag before the partition's own and send every key
// to one slot of a Cluster.
var prefixForm = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,32}$`)

func (c *config) readRedisPrefix(v string) error {
	if !prefixForm.MatchString(v) {
		return fmt.Errorf("%q is not 1 to 32 of A-Z a-z 0-9 _ . : -", v)
	}
	c.redisPrefix = v
	return nil
}

func (c *config) readLogFormat(v string) error {
	if v != "json" && v != "text" {
		return fmt.Errorf("%q is neither json nor text", v)
	}
	c.logFormat = v
	return nil
}

func (c *config) readLogLevel(v string) error {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[v]
	if !ok {
		return fmt.Errorf("%q is none of debug, info, warn, error", v)
	}
	c.logLevel = level
	return nil
}

func (c *config) readDrain(v string) error {
	d, err := time.ParseDuration(v)
	if err != nil {
		return fmt.Errorf("%q is not a duration like 5s", v)
	}
	if d < 0 || d > time.Minute {
		return fmt.Errorf("%q is not within 0s to 1m", v)
	}
	c.drain = d
	return nil
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
		slog.Int("secrets", len(c.secrets)),
		slog.String("log_format", c.logFormat),
		slog.String("log_level", c.logLevel.String()),
		slog.String("drain", c.drain.String()),
	)
}

// String and GoString keep secrets out of %v, %+v and %#v.
func (c config) String() string   { return c.LogValue().String() }
func (c config) GoString() string { return c.String() }
