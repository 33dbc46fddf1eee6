package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/keyring"
)

// shutdownTimeout is how long requests under way may take to finish.
const shutdownTimeout = 10 * time.Second

// serve runs the service until ctx ends.
func serve(ctx context.Context, p program) error {
	c, _, err := p.config(0, 0)
	if err != nil {
		return err
	}
	logger := newLogger(c, p)
	redisconn.SetLogger(logger)

	// Before anything else: an address that is taken is the likeliest mistake.
	listener, err := net.Listen("tcp", c.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", c.addr, err)
	}
	defer listener.Close()
	c = c.listening(listener.Addr())

	clients := api.BuiltinClients()
	if c.embedded {
		embedded, err := startEmbedded()
		if err != nil {
			return err
		}
		defer embedded.stop()
		c.redisURL, c.secrets = embedded.url, [][]byte{embedded.secret}
		clients = api.BuiltinClients(developmentOrigins...)
	}

	client, err := redisconn.Open(ctx, c.redisURL, redisconn.Options{})
	if err != nil {
		return fmt.Errorf("open Redis: %w", err)
	}
	defer client.Close()
	if !c.embedded {
		if err := inspect(ctx, client, logger); err != nil {
			return err
		}
	}

	s, err := newStores(c, client, clients)
	if err != nil {
		return err
	}
	if c.embedded {
		if err := addDemoUser(ctx, s.users); err != nil {
			return err
		}
	}
	keys, err := keyring.Open(ctx, client, s.ring)
	if err != nil {
		return err
	}
	go keys.Follow(ctx, followEvery, func(err error) { logger.Error("signing keys", "error", err) })
	guard := &watch{client: client, logger: logger}
	if !c.embedded {
		go guard.run(ctx)
	}
	denied := denylist.New(client, c.redisPrefix)
	var admit func(http.Handler) http.Handler
	if c.embedded {
		admit = loopbackOnly
	}
	a, err := api.New(api.Config{
		Issuer:   c.issuer,
		Audience: c.audience,
		Clients:  clients,
		Sessions: s.sessions,
		Denylist: denied,
		Keys:     keys,
		Users:    s.users,
		Username: s.users.Username,
		Ready: func(ctx context.Context) error {
			if err := guard.err(); err != nil {
				return err
			}
			return denied.Reachable(ctx)
		},
		Admit:  admit,
		Logger: logger,
	})
	if err != nil {
		return err
	}
	logger.Info("serving", "version", version(), "listening", listener.Addr().String(), "config", c)
	if c.embedded {
		greet(p.stdout, c.issuer)
	}
	return serveHTTP(ctx, listener, a, c.drain, logger)
}

// Signing keys are looked at often: an instance that holds other keys than the
// rest refuses tokens that are good. What an operator or a failover can change
// about Redis is looked at now and then.
const (
	followEvery  = time.Second
	inspectEvery = 30 * time.Second
)

// inspect refuses a Redis that breaks a promise, and warns of one that weakens
// it.
func inspect(ctx context.Context, client redis.UniversalClient, logger *slog.Logger) error {
	report, err := redisconn.Inspect(ctx, client)
	if err != nil {
		return err
	}
	for _, f := range report.Findings {
		if f.Level == redisconn.Warn {
			logger.Warn("Redis: "+f.Message, "subject", f.Subject)
		}
	}
	return report.Err()
}

// watch repeats the inspection while the service runs: a failover may lead to
// a server with another policy, and clocks drift. An instance whose Redis does
// not pass is not ready.
type watch struct {
	client redis.UniversalClient
	logger *slog.Logger
	last   atomic.Pointer[error]
}

func (w *watch) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(inspectEvery):
		}
		limited, cancel := context.WithTimeout(ctx, redisconn.Budget)
		err := inspect(limited, w.client, w.logger)
		cancel()
		// Whether Redis answers is asked at each /readyz, and better there.
		if errors.Is(err, redisconn.ErrUnreachable) {
			continue
		}
		w.last.Store(&err)
		if err != nil {
			w.logger.Error("Redis", "error", err)
		}
	}
}

func (w *watch) err() error {
	if p := w.last.Load(); p != nil {
		return *p
	}
	return nil
}

// serveHTTP serves until ctx ends, then drains: first /readyz says no while
// everything still works, so that load balancers look elsewhere; then the
// listener closes and the requests under way are finished.
func serveHTTP(ctx context.Context, l net.Listener, a *api.API, drain time.Duration, logger *slog.Logger) error {
	server := &http.Server{
		Handler: a,
		// Against clients that send, or read, a byte a minute.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		// Go would answer OPTIONS * itself, without a request id.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	logger.Info("draining", "for", drain.String())
	a.Drain()
	select {
	case err := <-failed:
		return err
	case <-time.After(drain):
	}
	finish, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(finish); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	logger.Info("stopped")
	return nil
}

func newLogger(c config, p program) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "text" {
		return slog.New(slog.NewTextHandler(p.stderr, o))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, o))
}
