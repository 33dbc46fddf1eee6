package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/keyring"
)

// check says in plain words whether the service would start, and changes
// nothing.
func check(ctx context.Context, p program) error {
	c, _, err := p.config(0, 0)
	if err != nil {
		return err
	}
	say := func(level redisconn.Level, subject, message string) {
		fmt.Fprintf(p.stdout, "%-6s  %-16s  %s\n", level, subject, message)
	}
	if c.embedded {
		say(redisconn.Warn, "configuration", "no AUTHAPI_REDIS_URL: authapi would start as a demo, with a known password, on "+c.addr)
		return nil
	}
	say(redisconn.OK, "configuration", fmt.Sprintf("complete; issuer %s, %d secret(s), clients %s",
		c.issuer, len(c.secrets), strings.Join(slices.Sorted(maps.Keys(c.clients)), " ")))

	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	client, err := redisconn.Open(ctx, c.redisURL, redisconn.Options{})
	if err != nil {
		say(redisconn.Refuse, "reachable", err.Error())
		return errNotReady
	}
	defer client.Close()
	report, err := redisconn.Inspect(ctx, client, c.needs())
	for _, f := range report.Findings {
		say(f.Level, f.Subject, f.Message)
	}
	if err != nil {
		return errNotReady
	}

	bad := report.Err() != nil
	keys, err := keyring.Read(ctx, client, c.ring())
	switch {
	case errors.Is(err, keyring.ErrNone):
		say(redisconn.OK, "keys", "none yet; the first start creates them")
	case err != nil:
		say(redisconn.Refuse, "keys", err.Error())
		bad = true
	case !keys.SealedUnderFirst():
		say(redisconn.Warn, "keys", "sealed under a secret that is not the first; before you remove it, run: authapi keys reseal")
	default:
		say(redisconn.OK, "keys", "opened with the secret; "+keys.Signer().Algorithm()+" key "+keys.Signer().ID()+" signs")
	}
	if bad {
		return errNotReady
	}
	return nil
}

var errNotReady = errors.New("the service would not start; see the lines marked refuse")
