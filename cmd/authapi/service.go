package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/journal"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/users"
)

// stores is what a configuration leads to.
type stores struct {
	redis    redis.UniversalClient
	ring     keyring.Options
	journal  *journal.Journal
	sessions *refresh.Store
	denied   *denylist.List
	users    *users.Directory
	throttle *throttle.Throttle
}

func newStores(c config, client redis.UniversalClient, hasher *users.Hasher) (stores, error) {
	past := journal.New()
	sessions, err := refresh.New(client, refresh.Options{
		Prefix:   c.redisPrefix,
		Secrets:  c.secrets,
		Limit:    refresh.Limit(c.refreshLimit),
		Policy:   c.clients.Policy,
		Replicas: c.revocationReplicas,
		Ended:    past.Ended,
	})
	if err != nil {
		return stores{}, err
	}
	tries, err := throttle.New(client, throttle.Options{
		Prefix:  c.redisPrefix,
		Secrets: c.secrets,
		Account: c.accountLimit,
		Address: c.addressLimit,
	})
	if err != nil {
		return stores{}, err
	}
	return stores{
		redis:    client,
		ring:     c.ring(),
		journal:  past,
		sessions: sessions,
		denied:   denylist.New(client, c.redisPrefix, denylist.AcknowledgedBy(c.revocationReplicas), denylist.Tell(past.Denied)),
		users:    users.NewDirectory(client, c.redisPrefix, hasher),
		throttle: tries,
	}, nil
}

// ring says where the signing keys lie and when they change.
func (c config) ring() keyring.Options {
	return keyring.Options{
		Prefix:   c.redisPrefix,
		Secrets:  c.secrets,
		Schedule: keyring.Schedule{Algorithm: c.signingAlgorithm, Every: c.keyRotation},
		Replicas: c.revocationReplicas,
	}
}

// needs are what is asked of Redis beyond what every deployment asks.
func (c config) needs() redisconn.Needs { return redisconn.Needs{Replicas: c.revocationReplicas} }

// commandTimeout bounds an administrative command, but for the time in which
// it waits for its user.
const commandTimeout = 30 * time.Second

// administer opens the stores for one administrative command.
func (p program) administer(ctx context.Context, least, most int, do func(ctx context.Context, s stores, args []string) error) error {
	return p.withStores(ctx, least, most, func(s stores, args []string) error {
		ctx, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		return do(ctx, s, args)
	})
}

// administerPassword is administer for the commands that set a password. It
// asks for the password when Redis is known to answer.
func (p program) administerPassword(ctx context.Context, least, most int, do func(ctx context.Context, s stores, args []string, password string) error) error {
	return p.withStores(ctx, least, most, func(s stores, args []string) error {
		password, err := p.askHidden(ctx, "password", users.MaxPassword)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		return do(ctx, s, args, password)
	})
}

func (p program) withStores(ctx context.Context, least, most int, do func(s stores, args []string) error) error {
	c, args, err := p.config(least, most)
	if err != nil {
		return err
	}
	if c.embedded {
		return errors.New("AUTHAPI_REDIS_URL is not set; the embedded Redis of a demo lives inside the demo and cannot be administered")
	}
	opening, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	client, err := redisconn.Open(opening, c.redisURL, redisconn.Options{})
	if err != nil {
		return fmt.Errorf("open Redis: %w", err)
	}
	defer client.Close()
	s, err := newStores(c, client, users.NewHasher())
	if err != nil {
		return err
	}
	return do(s, args)
}
