package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/journal"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/relay"
	"github.com/authapi/authapi/web"
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

	if c.embedded {
		embedded, err := startEmbedded()
		if err != nil {
			return err
		}
		defer embedded.stop()
		c.redisURL, c.secrets = embedded.url, [][]byte{embedded.secret}
		c.clients = demoClients()
	}

	health := &watch{needs: c.needs(), logger: logger, doubts: make(chan struct{}, 1)}
	client, err := redisconn.Open(ctx, c.redisURL, redisconn.Options{Connected: health.doubt, Shifted: health.shifted})
	if err != nil {
		return fmt.Errorf("open Redis: %w", err)
	}
	defer client.Close()
	// What runs beside the requests goes on until the last of them is answered:
	// services that follow this instance must not lose it before it is gone.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	health.client = client
	if !c.embedded {
		if err := health.inspect(ctx); err != nil {
			return err
		}
	}

	hasher, close := hashApart(logger)
	defer close()
	s, err := newStores(c, client, hasher)
	if err != nil {
		return err
	}
	if c.embedded {
		if err := addDemoUser(ctx, s.users); err != nil {
			return err
		}
	}
	if !c.embedded {
		health.another = s.journal.Doubt
		go health.run(running, inspectEvery)
	}
	// The instance itself drops no key but one that was dropped before.
	s.ring.Replicas = 0
	keys, err := keyring.Open(ctx, client, s.ring)
	if err != nil {
		return err
	}
	go keys.Follow(running, followEvery, func(err error) { logger.Error("signing keys", "error", err) })
	go s.denied.Beat(running, seldom(func(err error) { logger.Error("cannot give signs of life to verifiers", "error", err) }))
	go s.journal.Run(running, journal.Stores{Sessions: s.sessions, Denylist: s.denied, Keys: keys}, asserted(logger))
	revocations := relay.New(s.journal.Source(s.denied, health.doubt), relay.Options{
		Trouble: seldom(func(err error) { logger.Error("cannot follow the revocations", "error", err) }),
	})
	go revocations.Run(running)
	var page http.Handler
	if c.page {
		page = web.Page()
	}
	var admit func(http.Handler) http.Handler
	if c.embedded {
		admit = loopbackOnly
	}
	a, err := api.New(api.Config{
		Issuer:          c.issuer,
		Audience:        c.audience,
		Clients:         c.clients,
		Sessions:        s.sessions,
		Denylist:        s.denied,
		Keys:            keys,
		Users:           s.users,
		Username:        s.users.Username,
		SetAccountRoles: s.users.SetRolesOf,
		Throttle:        s.throttle,
		Revocations:     revocations,
		TrustedProxies:  c.trustedProxies,
		Page:            page,
		Docs:            web.Docs(),
		Ready: func(ctx context.Context) error {
			if err := health.err(); err != nil {
				return err
			}
			return s.denied.Reachable(ctx)
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
	return serveHTTP(ctx, limitConnections(listener, c.connections, c.trustedProxies), a, revocations, c.drain, logger)
}

// Signing keys are looked at often: an instance that holds other keys than the
// rest refuses tokens that are good, or signs with a key that was dropped. What an operator or a failover can change
// about Redis is looked at now and then.
const (
	followEvery  = 200 * time.Millisecond
	inspectEvery = 30 * time.Second
)

// seldom passes on one error in ten seconds: when Redis is away, sixteen
// partitions have the same to say. That a feed's history has changed is passed
// on each time, since something has been lost then.
func seldom(report func(error)) func(error) {
	var mu sync.Mutex
	var last time.Time
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) < 10*time.Second && !errors.Is(err, denylist.ErrHistory) {
			return
		}
		last = time.Now()
		report(err)
	}
}

// asserted logs what Redis had forgotten and was told again.
func asserted(logger *slog.Logger) journal.Asserted {
	trouble := seldom(func(err error) { logger.Error("cannot look whether the revocations stand", "error", err) })
	return func(now journal.Totals, err error) {
		if now != (journal.Totals{}) {
			logger.Warn("Redis had forgotten revocations, asserted again",
				"sessions", now.Sessions, "denials", now.Denials, "keys", now.Keys, "event", true)
		}
		if err != nil {
			trouble(err)
		}
	}
}

// watch repeats the inspection of Redis while the service runs: a failover may
// lead to a server with another policy, and clocks drift. An instance whose
// Redis does not pass is not ready. What is found is logged when it changes,
// not each time.
type watch struct {
	client redis.UniversalClient
	needs  redisconn.Needs
	logger *slog.Logger
	doubts chan struct{} // full if Redis may be another one than before
	// another is told when it is.
	another func()
	runs    string // which one it was at the last inspection
	warned  string // by the last inspection
	last    atomic.Pointer[error]

	lastShift atomic.Int64 // Unix nanoseconds
}

func (w *watch) inspect(ctx context.Context) error {
	report, err := redisconn.Inspect(ctx, w.client, w.needs)
	if err != nil {
		return err
	}
	if report.Runs != w.runs && w.runs != "" && w.another != nil {
		w.another()
	}
	w.runs = report.Runs
	var warned strings.Builder
	for _, f := range report.Findings {
		if f.Level == redisconn.Warn {
			fmt.Fprintf(&warned, "%s ", f.Subject)
		}
	}
	if warned.String() != w.warned {
		w.warned = warned.String()
		for _, f := range report.Findings {
			if f.Level == redisconn.Warn {
				w.logger.Warn("Redis: "+f.Message, "subject", f.Subject)
			}
		}
	}
	return report.Err()
}

// doubt makes the next inspection come at once.
func (w *watch) doubt() {
	select {
	case w.doubts <- struct{}{}:
	default:
	}
}

// shifted is told that a reply of Redis belonged to another request.
func (w *watch) shifted() {
	now := time.Now().UnixNano()
	if last := w.lastShift.Load(); now-last < int64(shiftsEvery) || !w.lastShift.CompareAndSwap(last, now) {
		return
	}
	w.logger.Error("a reply of Redis belonged to another request, and all connections are replaced; something between here and Redis does not keep replies in order")
}

// shiftsEvery is how often shifted replies are worth a line at most.
const shiftsEvery = 10 * time.Second

// settle is how long after an inspection the next one comes at the earliest: a
// Redis that comes and goes gives reason for many.
const settle = time.Second

func (w *watch) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-w.doubts:
		}
		limited, cancel := context.WithTimeout(ctx, redisconn.Budget)
		err := w.inspect(limited)
		cancel()
		w.note(err)
		if errors.Is(err, redisconn.ErrUnreachable) && w.doubts != nil {
			w.doubt()
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(every, settle)):
		}
	}
}

// note keeps what an inspection has found. Whether Redis answers is asked at each
// /readyz, and better there.
func (w *watch) note(err error) {
	if errors.Is(err, redisconn.ErrUnreachable) {
		return
	}
	before := w.err()
	w.last.Store(&err)
	switch {
	case err != nil && before == nil:
		w.logger.Error("Redis no longer keeps the promises", "error", err)
	case err == nil && before != nil:
		w.logger.Info("Redis keeps the promises again")
	}
}

// err is what the last inspection found.
func (w *watch) err() error {
	if p := w.last.Load(); p != nil {
		return *p
	}
	return nil
}

// serveHTTP serves until ctx ends, then drains: first /readyz says no while
// everything still works, so that load balancers look elsewhere; then the
// listener closes and the requests under way are finished.
func serveHTTP(ctx context.Context, l *connections, a *api.API, revocations *relay.Relay, drain time.Duration, logger *slog.Logger) error {
	server := &http.Server{
		Handler:     a,
		ConnState:   l.watch,
		ConnContext: api.ConnContext,
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
	// Those who follow the revocations would never finish by themselves.
	server.RegisterOnShutdown(revocations.Drain)
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
