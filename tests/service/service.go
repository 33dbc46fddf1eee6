// Package service starts the service as a client meets it, over HTTP, for
// tests.
//
// Call [Start] with a Redis of package redistest. The result has a typed client
// ([Service.Login], [Service.Refresh] ...), [Service.Send] for everything else,
// and the stores behind the API. Started twice with the same Redis it is two
// instances of one deployment.
//
// Two things are checked without being asked for, and fail the test. Each
// request and response is held against openapi.yaml: the status must be
// documented, headers and body must match, and a request that succeeded must
// be one that the document allows. And what the instance logged must hold no
// token, no password and no retry key that passed through it.
//
// All parts are real but the listener, which is httptest's. The server's
// limits on connections and headers belong to cmd/authapi and are not here.
// Code that is not a test must not import the package.
package service

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/crypto/argon2"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/journal"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/relay"
	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/users"
)

// What all instances have in common.
const (
	Issuer   = "https://auth.example.com"
	Audience = "https://api.example.com"
	// Origin is the only one whose pages may call the API.
	Origin = "https://app.example.com"

	// The user that exists from the start, with the role editor.
	Username = "alice"
	Password = "correct-horse-battery-staple"

	// VerifierSecret is that of the client that may follow the revocations.
	VerifierSecret = "not+so=secret/but&long-enough"

	// Introspector is a client that may introspect.
	Introspector       = "intro:spector"
	IntrospectorSecret = "another%20secret+of=some&length"

	// Shop is a client with users of its own: it may start sessions, which have
	// the scope ShopScope, and refreshes them with its secret.
	Shop       = "shop"
	ShopSecret = "the+shop's/secret-of&some=length"
	ShopScope  = "orders:read orders:write"
)

var secret = bytes.Repeat([]byte("0123456789abcdef"), 2)

// Service is one running instance. Its methods may be called concurrently.
type Service struct {
	URL string
	API *api.API
	Log *Log

	// Redis is the instance's own client. It may be given hooks.
	Redis    redis.UniversalClient
	Sessions *refresh.Store
	Denylist *denylist.List
	Keys     *keyring.Ring
	Users    *users.Directory
	Relay    *relay.Relay
	Journal  *journal.Journal
	// Subject is the one of the user that exists from the start.
	Subject string

	tb   testing.TB
	keys partition.Keys
	http *http.Client
}

// An Option changes what [Start] starts.
type Option func(*options)

type options struct {
	redis    redis.UniversalClient
	change   []func(*api.Config)
	secrets  [][]byte
	live     bool
	schedule keyring.Schedule
	replicas int
	limit    refresh.Limit
}

// Through makes the instance use the given Redis client, one that loses
// replies for example.
func Through(c redis.UniversalClient) Option { return func(o *options) { o.redis = c } }

// With changes the API's configuration before the API is made.
func With(change func(*api.Config)) Option {
	return func(o *options) { o.change = append(o.change, change) }
}

// Secrets are the instance's instead of the one that all others have.
func Secrets(secrets ...[]byte) Option { return func(o *options) { o.secrets = secrets } }

// Unlimited lets sessions be refreshed as often as a test can.
func Unlimited() Option { return func(o *options) { o.limit = refresh.Limit{} } }

// AcknowledgedBy makes revocations wait for so many replicas of Redis.
func AcknowledgedBy(replicas int) Option { return func(o *options) { o.replicas = replicas } }

// Live makes the instance do what it does in production beside the requests:
// give signs of life, relay revocations, assert them again when Redis has
// forgotten them, follow the signing keys, which change by the given schedule. Most tests can do without the noise.
func Live(keys keyring.Schedule) Option {
	return func(o *options) { o.live, o.schedule = true, keys }
}

var quietRedis sync.Once

// AddUser adds a user who may log in.
func (v *Service) AddUser(username, password string, roles ...string) {
	v.tb.Helper()
	if _, err := v.addUser(context.Background(), username, password, roles...); err != nil {
		v.tb.Fatalf("service: add %s: %v", username, err)
	}
}

// addUser adds a user who is not there yet: a second instance meets the first
// one's, and a second attempt that of the first.
func (v *Service) addUser(ctx context.Context, username, password string, roles ...string) (account users.Account, err error) {
	added := false
	err = patiently(ctx, func() error {
		account, err = v.Users.Get(ctx, username)
		if errors.Is(err, users.ErrUnknownUser) {
			added = true
			account, err = v.Users.Add(ctx, username, password, roles)
		}
		if err != nil || !added {
			return err
		}
		return v.Redis.HSet(ctx, v.keys.Account(username), "password", cheapHash(password)).Err()
	})
	return account, err
}

// patiently repeats what a test needs before it can begin: on a busy machine
// Redis may seem away for longer than the service waits for it.
func patiently(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == 5 || ctx.Err() != nil {
			return err
		}
	}
}

// cheapHash is of the form that package users reads, at the least cost that it
// accepts: tests log in hundreds of times.
func cheapHash(password string) string {
	salt := []byte("salt of the test")
	b64 := base64.RawStdEncoding.EncodeToString
	return "$argon2id$v=19$m=8,t=1,p=1$" + b64(salt) + "$" + b64(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32))
}

// Start starts an instance, which ends with the test.
func Start(tb testing.TB, s *redistest.Server, opts ...Option) *Service {
	tb.Helper()
	o := options{secrets: [][]byte{secret}, limit: refresh.Limit{N: 300, Per: 5 * time.Minute}}
	for _, opt := range opts {
		opt(&o)
	}
	// Every test that ends a Redis makes the library complain on stderr.
	quietRedis.Do(func() { redisconn.SetLogger(nil) })

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatalf("service: %v", err)
		}
	}
	var err error
	if o.redis == nil {
		must(patiently(ctx, func() error {
			o.redis, err = redisconn.Open(ctx, s.URL, redisconn.Options{})
			return err
		}))
		tb.Cleanup(func() { o.redis.Close() })
	}
	v := &Service{
		Log:   &Log{},
		Redis: o.redis,
		tb:    tb,
		keys:  partition.Keys{Prefix: s.Prefix},
	}
	v.Log.Secret(Password)
	v.Log.Secret(VerifierSecret)
	v.Log.Secret(IntrospectorSecret)
	v.Log.Secret(ShopSecret)
	// Registered before the server's end, and therefore run after it.
	tb.Cleanup(func() {
		for _, leak := range v.Log.Leaks() {
			tb.Errorf("the log shows %s", leak)
		}
	})

	clients := api.BuiltinClients(Origin)
	clients.AddVerifier([]string{VerifierSecret})
	clients[Introspector] = api.Client{
		ID: Introspector, Secrets: []api.ClientSecret{api.HashClientSecret(IntrospectorSecret)}, MayIntrospect: true,
	}
	clients[Shop] = api.Client{
		ID: Shop, Secrets: []api.ClientSecret{api.HashClientSecret(ShopSecret)}, MayStart: true,
		Policy: api.DefaultPolicy(refresh.Authenticated), Scopes: strings.Fields(ShopScope),
	}
	v.Journal = journal.New()
	v.Sessions, err = refresh.New(o.redis, refresh.Options{
		Limit:  o.limit,
		Prefix: s.Prefix, Secrets: o.secrets, Policy: clients.Policy, Replicas: o.replicas, Ended: v.Journal.Ended,
	})
	must(err)
	v.Denylist = denylist.New(o.redis, s.Prefix, denylist.AcknowledgedBy(o.replicas), denylist.Tell(v.Journal.Denied))
	must(patiently(ctx, func() error {
		v.Keys, err = keyring.Open(ctx, o.redis, keyring.Options{Prefix: s.Prefix, Secrets: o.secrets, Schedule: o.schedule})
		return err
	}))
	v.Relay = relay.New(v.Journal.Source(v.Denylist, nil), relay.Options{})
	v.Users = users.NewDirectory(o.redis, s.Prefix, users.NewHasher())
	tries, err := throttle.New(o.redis, throttle.Options{
		Prefix: s.Prefix, Secrets: o.secrets, Account: throttle.DefaultAccount, Address: throttle.DefaultAddress,
	})
	must(err)
	account, err := v.addUser(ctx, Username, Password, "editor")
	must(err)
	v.Subject = account.Subject

	config := api.Config{
		Issuer:          Issuer,
		Audience:        Audience,
		Clients:         clients,
		Sessions:        v.Sessions,
		Denylist:        v.Denylist,
		Keys:            v.Keys,
		Users:           v.Users,
		Username:        v.Users.Username,
		SetAccountRoles: v.Users.SetRolesOf,
		Throttle:        tries,
		Revocations:     v.Relay,
		Ready:           func(ctx context.Context) error { return o.redis.Ping(ctx).Err() },
		Logger:          slog.New(slog.NewJSONHandler(v.Log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, change := range o.change {
		change(&config)
	}
	v.API, err = api.New(config)
	must(err)
	server := httptest.NewServer(v.API)
	tb.Cleanup(server.Close)
	tb.Cleanup(v.Relay.Drain) // before Close, which waits for the readers
	v.URL = server.URL
	if o.live {
		v.live()
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	tb.Cleanup(transport.CloseIdleConnections)
	v.http = &http.Client{
		Transport:     &checkedTransport{service: v, next: transport},
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return v
}

// live starts what runs beside the requests.
func (v *Service) live() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	v.tb.Cleanup(func() { cancel(); running.Wait() })
	quiet := func(error) {} // tests take Redis away
	running.Go(func() { v.Denylist.Beat(ctx, quiet) })
	running.Go(func() { v.Relay.Run(ctx) })
	running.Go(func() {
		v.Journal.Run(ctx, journal.Stores{Sessions: v.Sessions, Denylist: v.Denylist, Keys: v.Keys}, func(journal.Totals, error) {})
	})
	running.Go(func() { v.Keys.Follow(ctx, 50*time.Millisecond, quiet) })
}
