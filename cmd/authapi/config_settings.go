package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/authapi/authapi/throttle"
)

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
	// must not quote the value of a setting that has a file.
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
			env: "AUTHAPI_REVOCATION_REPLICAS", arg: "number", def: "0", fixed: true, production: true,
			doc:  "How many replicas of Redis must have a revocation before it is answered, 0 to 9.",
			read: (*config).readRevocationReplicas,
		},
		{
			env: "AUTHAPI_SECRET", arg: "base64[,base64...]", def: "required with a Redis URL", file: true, secret: true, production: true,
			doc:  "At least 32 random bytes in base64; the first of several signs, all verify.",
			read: (*config).readSecrets,
		},
		{
			env: "AUTHAPI_VERIFIER_SECRET", arg: "base64[,base64...]", def: "none: nobody may follow", file: true, secret: true, production: true,
			doc:  "Of the client verifier, which may follow /revocations; at least 32 random bytes in base64, all of several are good.",
			read: (*config).readVerifierSecrets,
		},
		{
			env: "AUTHAPI_CLIENTS_FILE", arg: "path", def: "the clients mobile and web", production: true,
			doc:  "YAML file of the applications that may ask for tokens; see docs/clients.md.",
			read: (*config).readClientsFile,
		},
		{
			env: "AUTHAPI_TRUSTED_PROXIES", arg: "cidr[,cidr...]", def: "none", production: true,
			doc:  "Whose X-Forwarded-For and X-Forwarded-Proto are believed; nobody's otherwise.",
			read: (*config).readTrustedProxies,
		},
		{
			env: "AUTHAPI_CONNECTIONS", arg: "number", def: "4096", fixed: true,
			doc:  "How many connections there may be at once, 16 to 1000000; from one address an eighth.",
			read: (*config).readConnections,
		},
		{
			env: "AUTHAPI_LIMIT_ACCOUNT", arg: "n/duration|off", def: throttle.DefaultAccount.String(), fixed: true,
			doc:  "How often an account's password may be tried, and refused, from devices that nobody knows, and from each that is known.",
			read: func(c *config, v string) error { return readRate(&c.accountLimit, v) },
		},
		{
			env: "AUTHAPI_LIMIT_ADDRESS", arg: "n/duration|off", def: throttle.DefaultAddress.String(), fixed: true,
			doc:  "How often one address (of IPv6: 64-bit network) may try passwords, and be refused.",
			read: func(c *config, v string) error { return readRate(&c.addressLimit, v) },
		},
		{
			env: "AUTHAPI_LIMIT_REFRESH", arg: "n/duration|off", def: "300/5m", fixed: true,
			doc:  "How often one session may be refreshed.",
			read: func(c *config, v string) error { return readRate(&c.refreshLimit, v) },
		},
		{
			env: "AUTHAPI_PAGE", arg: "on|off", def: "off; on in the demo",
			doc:  "Whether to serve the page at / where a person can log in and watch.",
			read: (*config).readPage,
		},
		{
			env: "AUTHAPI_SIGNING_ALGORITHM", arg: "name", def: "ES256", fixed: true,
			doc:  "Of new signing keys: ES256, EdDSA or RS256.",
			read: (*config).readSigningAlgorithm,
		},
		{
			env: "AUTHAPI_KEY_ROTATION", arg: "duration", def: "720h", fixed: true,
			doc:  "How long a key signs, 1h to 8760h.",
			read: (*config).readKeyRotation,
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
