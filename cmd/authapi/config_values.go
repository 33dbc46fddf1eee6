package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/authapi/authapi/api/clientsfile"
	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/tokens"
)

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

func (c *config) readRevocationReplicas(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > 9 {
		return fmt.Errorf("%q is not a number from 0 to 9", v)
	}
	c.revocationReplicas = n
	return nil
}

func (c *config) readClientsFile(v string) error {
	clients, err := clientsfile.Read(v)
	c.clients = clients
	return err
}

func (c *config) readTrustedProxies(v string) error {
	for text := range strings.SplitSeq(v, ",") {
		prefix, err := netip.ParsePrefix(text)
		if ip, errIP := netip.ParseAddr(text); errIP == nil && ip.Zone() == "" {
			prefix, err = ip.Prefix(ip.BitLen())
		}
		switch {
		case err != nil:
			return fmt.Errorf("%q is neither a network like 10.0.0.0/8 nor an address", text)
		case prefix.Bits() == 0:
			return fmt.Errorf("%q is everybody: then anybody could say to be anyone", text)
		case prefix != prefix.Masked():
			return fmt.Errorf("%q is not the beginning of a network; did you mean %s?", text, prefix.Masked())
		case prefix.Addr().Is4In6():
			return fmt.Errorf("%q: write the IPv4 network as such", text)
		}
		c.trustedProxies = append(c.trustedProxies, prefix)
	}
	return nil
}

func (c *config) readConnections(v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 16 || n > 1_000_000 {
		return fmt.Errorf("%q is not a number from 16 to 1000000", v)
	}
	c.connections = n
	return nil
}

func readRate(into *throttle.Rate, v string) (err error) {
	*into, err = throttle.ParseRate(v)
	return err
}

func (c *config) readPage(v string) error {
	if v != "on" && v != "off" {
		return fmt.Errorf("%q is neither on nor off", v)
	}
	c.page = v == "on"
	return nil
}

func (c *config) readSigningAlgorithm(v string) error {
	if !slices.Contains(tokens.Algorithms(), v) {
		return fmt.Errorf("%q is none of %s", v, strings.Join(tokens.Algorithms(), ", "))
	}
	c.signingAlgorithm = v
	return nil
}

func (c *config) readKeyRotation(v string) error {
	d, err := time.ParseDuration(v)
	if err != nil {
		return fmt.Errorf("%q is not a duration like 720h", v)
	}
	if d < time.Hour || d > 8760*time.Hour {
		return fmt.Errorf("%q is not within 1h to 8760h", v)
	}
	c.keyRotation = d
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
