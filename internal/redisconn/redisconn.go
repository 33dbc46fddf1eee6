// Package redisconn opens the Redis that the service keeps its state in, and
// checks that this Redis can be trusted with it.
//
// Call [Open] with the operator's URL, then [Inspect] before serving, and
// refuse to start if the report's Err is not nil. Call [SetLogger] once at the
// beginning of the program. Give every command a context with a deadline of at
// most [Budget].
//
// Open finds out from the server whether it is a Cluster, so the operator need
// not say. All time-outs and pool sizes are set here, each for a reason, so
// that a Redis which is down, hanging or out of connections costs a request at
// most its deadline. The library's defaults would hold it for many seconds.
// A reply that belongs to another request makes all connections be replaced, and
// what was asked is asked again; it is known by the commands that repeat in their
// reply what they were asked, ECHO and the scripts of package script.
//
// Inspect asks for what would quietly break a promise: an eviction policy that
// forgets denylist entries, a server too old for the scripts, a clock that
// disagrees, data that does not survive a restart. On a Cluster it asks every
// master.
//
// The package runs no scripts and knows no keys. It does not notice when a
// client goes away: a context that is cancelled, unlike one whose deadline
// passes, does not stop a command that has been sent.
package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/authapi/authapi/internal/script"
)

// Budget is the longest deadline a request may give its Redis commands, all
// together. It leaves half a second of the two in which every request must be
// answered. The time-outs of one attempt are shorter than this, but a command
// is tried several times: without a deadline a hanging Redis costs about 2.5 s
// for each command, and a hanging Cluster 3.6 s.
const Budget = 1500 * time.Millisecond

// The time-outs of one attempt.
const (
	// dialTimeout covers TCP and TLS. A connection inside one region takes a
	// few milliseconds; half a second lets one lost SYN-ACK pass but not two.
	dialTimeout = 500 * time.Millisecond
	// readTimeout is what a hanging Redis costs one attempt. It is far above
	// what any script of this service needs, and still lets a second attempt
	// (on another master after a failover, say) fit into Budget.
	readTimeout = 600 * time.Millisecond
	// writeTimeout is met only when the peer stops reading.
	writeTimeout = 600 * time.Millisecond
	// poolTimeout is what waiting for a free connection may cost: longer than
	// readTimeout, so that those who hold the connections of a hanging Redis
	// give them up before the waiting give up.
	poolTimeout = 700 * time.Millisecond
)

var (
	// ErrUnreachable is wrapped by errors of [Open] and [Inspect] when no
	// server answered, or none that accepts the credentials.
	ErrUnreachable = errors.New("cannot reach Redis")
	// ErrTopology is wrapped by errors of [Open] when the URL asks for
	// something that the servers are not.
	ErrTopology = errors.New("the Redis URL does not match the servers")
)

// Options are the choices that the URL does not make. The zero value is good.
type Options struct {
	// PoolSize limits the connections to each Redis node. The default (0) is
	// 16 for each processor the program may use, and at least 32.
	PoolSize int
	// TLS is the base of the configuration for rediss:// and tls=1. Nil trusts
	// the system's roots. Versions before TLS 1.2 are refused in any case.
	TLS *tls.Config
	// Connected, if set, is told of each new connection, whatever it is for. A
	// server that took another's place between two commands shows in nothing
	// else. It must return at once.
	Connected func()
	// Shifted, if set, is told that a reply belonged to another request than its
	// own, and that all connections are therefore being replaced. It must return
	// at once.
	Shifted func()

	trust *trust
}

// Open connects to the Redis that rawURL names and asks it for its mode. Forms:
//
//	redis://[user:password@]host[:port][,host2[:port2]...][/db]
//	rediss://...                        the same over TLS 1.2 or newer
//	unix://[user:password@]/path[?db=0]
//	sentinel://[user:password@]host[:port][,...]/master[?db=0&tls=1&sentinel_username=..&sentinel_password=..]
//
// Ports default to 6379 and 26379. Special characters of user names and
// passwords are percent-encoded. Unknown parameters are errors. Several hosts
// of redis:// must be nodes of one Cluster; a Cluster has only database 0.
// Certificates must be valid for the names or addresses by which the nodes are
// reached, on a Cluster and behind Sentinels for those that they announce.
//
// Errors wrap [ErrURL], [ErrTopology] or [ErrUnreachable] and never contain a
// password. The caller closes the client, which is safe for concurrent use.
//
// On a Cluster, a command without a key goes to any one node, possibly a
// replica; commands with a key always go to its master.
func Open(ctx context.Context, rawURL string, opts Options) (redis.UniversalClient, error) {
	t, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	remember(t.password, t.sentinelPassword)
	opts.trust = &trust{lost: opts.Shifted}
	client, err := t.open(ctx, opts)
	if err != nil {
		return nil, err
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		// Those who ask a node by itself are watched too.
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(watcher{opts.trust}) })
	} else {
		client.AddHook(watcher{opts.trust})
	}
	return client, nil
}

func (t target) open(ctx context.Context, opts Options) (redis.UniversalClient, error) {
	if t.scheme == "sentinel" {
		client := redis.NewFailoverClient(t.failover(opts))
		if _, err := info(ctx, client); err != nil {
			_ = client.Close()
			return nil, fmt.Errorf("%w master %q through the Sentinels %s: %w", ErrUnreachable, t.master, strings.Join(t.addrs, ","), err)
		}
		return client, nil
	}

	isCluster, err := t.probe(ctx, opts)
	switch {
	case err != nil:
		return nil, err
	case !isCluster && len(t.addrs) > 1:
		return nil, fmt.Errorf("%w: several hosts are given, but they are not a Cluster; "+
			"for a master and replicas use sentinel://host:port,host:port/mymaster, else name one host", ErrTopology)
	case isCluster && t.scheme == "unix":
		return nil, fmt.Errorf("%w: a Cluster's other nodes cannot be reached through a unix socket; use redis://", ErrTopology)
	case isCluster && t.db != 0:
		return nil, fmt.Errorf("%w: a Cluster has only database 0", ErrTopology)
	case isCluster:
		return redis.NewClusterClient(t.cluster(opts)), nil
	default:
		return redis.NewClient(t.standalone(t.addrs[0], opts)), nil
	}
}

// probe asks the first host that answers whether it belongs to a Cluster.
func (t target) probe(ctx context.Context, opts Options) (isCluster bool, err error) {
	var errs []error
	for _, addr := range t.addrs {
		o := t.standalone(addr, opts)
		// One attempt and one connection: a wrong address should be reported
		// at once, and there may be more hosts to ask.
		o.MaxRetries, o.PoolSize, o.MinIdleConns = -1, 1, 0
		o.DB = 0 // a database that does not exist is worth its own message
		o.OnConnect = nil
		client := redis.NewClient(o)
		fields, err := info(ctx, client)
		if err == nil && t.db != 0 && fields["cluster_enabled"] != "1" {
			err = masked(client.Do(ctx, "select", t.db).Err())
		}
		_ = client.Close()
		if err == nil {
			return fields["cluster_enabled"] == "1", nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return false, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(errs...))
}

// info reads all of INFO in one round trip. Sections are not named, because
// the embedded miniredis refuses names that it does not know; the fields that
// it lacks are absent, and it counts as standalone.
func info(ctx context.Context, c redis.Cmdable) (map[string]string, error) {
	var answer *redis.StringCmd
	asked := script.Ask(ctx, c, func(pipe redis.Pipeliner) { answer = pipe.Info(ctx) })
	text, err := answer.Result()
	switch {
	case errors.Is(asked, script.ErrReply):
		return nil, asked
	case err == nil && redis.HasErrorPrefix(asked, "NOPERM"):
		return nil, fmt.Errorf("the Redis user may not run ECHO, by which replies are known to be the right ones: ACL SETUSER ... +echo (%w)", masked(asked))
	case redis.HasErrorPrefix(err, "NOPERM"):
		return nil, fmt.Errorf("the Redis user may not run INFO, which the checks at the start need: ACL SETUSER ... +info +ping +time +echo (%w)", masked(err))
	case err != nil:
		return nil, masked(err)
	}
	// A Sentinel knows no ECHO, and is told by its INFO.
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			fields[name] = value
		}
	}
	return fields, nil
}

func (o Options) poolSize() int {
	if o.PoolSize > 0 {
		return o.PoolSize
	}
	// A request holds a connection for one round trip, far below a
	// millisecond, so this carries tens of thousands of requests a second. It
	// is a fixed sum that an operator can hold against Redis's maxclients.
	return max(32, 16*runtime.GOMAXPROCS(0))
}

func (o Options) onConnect() func(context.Context, *redis.Conn) error {
	if o.Connected == nil {
		return nil
	}
	return func(context.Context, *redis.Conn) error {
		o.Connected()
		return nil
	}
}

func (o Options) tls(on bool) *tls.Config {
	if !on {
		return nil
	}
	c := o.TLS.Clone() // of nil is nil
	if c == nil {
		c = new(tls.Config)
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

const (
	// maxRetries may be above zero although a lost reply then runs a script
	// again: every script of this service may be run twice. Four attempts ride
	// out connections that a restarted Redis has closed.
	maxRetries = 3
	// The back-off is short because the deadline is: the library's default
	// maximum of one second would be most of it.
	minRetryBackoff = 5 * time.Millisecond
	maxRetryBackoff = 50 * time.Millisecond
	// dialerRetries counts attempts: the default of 5 multiplies with
	// maxRetries and holds a request for 1.7 s when the port is closed.
	dialerRetries = 1
	// pipelinePoolSize: no second pool for pipelines, so that PoolSize is all
	// there is, and a pipeline waits its turn like everything else.
	pipelinePoolSize = -1
	// minIdleConns keeps the first requests after a quiet time from paying for
	// a TLS handshake.
	minIdleConns = 2
	// connMaxIdleTime stays below the idle time-outs of the usual load
	// balancers and of managed Redis (5 min and more).
	connMaxIdleTime = 5 * time.Minute
	// protocol is RESP3, the library's default, stated because some replies
	// have other types in RESP2.
	protocol = 3
)

func (t target) standalone(addr string, opts Options) *redis.Options {
	network := "tcp"
	if t.scheme == "unix" {
		network = "unix"
	}
	o := &redis.Options{
		Network:  network,
		Addr:     addr,
		Username: t.username,
		Password: t.password,
		DB:       t.db,
		Protocol: protocol,

		TLSConfig: opts.tls(t.tls),
		OnConnect: opts.onConnect(),

		DialTimeout:  dialTimeout,
		ReadTimeout:  readTimeout,
		WriteTimeout: writeTimeout,
		PoolTimeout:  poolTimeout,
		// Without this the library ignores the deadlines of contexts.
		ContextTimeoutEnabled: true,

		MaxRetries:      maxRetries,
		MinRetryBackoff: minRetryBackoff,
		MaxRetryBackoff: maxRetryBackoff,
		DialerRetries:   dialerRetries,

		PoolSize:         opts.poolSize(),
		PipelinePoolSize: pipelinePoolSize,
		MinIdleConns:     minIdleConns,
		ConnMaxIdleTime:  connMaxIdleTime,

		// Both would send commands on every new connection that old servers,
		// proxies and strict ACLs refuse, and neither is of use here.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	o.Dialer = opts.trust.dial(redis.NewDialer(o))
	return o
}

func (t target) failover(opts Options) *redis.FailoverOptions {
	s := t.standalone("", opts)
	return &redis.FailoverOptions{
		MasterName:       t.master,
		SentinelAddrs:    t.addrs,
		SentinelUsername: t.sentinelUsername,
		SentinelPassword: t.sentinelPassword,
		// A replica may not have heard of a revocation yet.
		ReplicaOnly: false,

		Username:  s.Username,
		Password:  s.Password,
		DB:        s.DB,
		Protocol:  s.Protocol,
		TLSConfig: s.TLSConfig,
		Dialer:    s.Dialer,
		OnConnect: s.OnConnect,

		DialTimeout:           s.DialTimeout,
		ReadTimeout:           s.ReadTimeout,
		WriteTimeout:          s.WriteTimeout,
		PoolTimeout:           s.PoolTimeout,
		ContextTimeoutEnabled: s.ContextTimeoutEnabled,

		MaxRetries:      s.MaxRetries,
		MinRetryBackoff: s.MinRetryBackoff,
		MaxRetryBackoff: s.MaxRetryBackoff,
		DialerRetries:   s.DialerRetries,

		PoolSize:         s.PoolSize,
		PipelinePoolSize: s.PipelinePoolSize,
		MinIdleConns:     s.MinIdleConns,
		ConnMaxIdleTime:  s.ConnMaxIdleTime,

		DisableIdentity: s.DisableIdentity,
		// The library has no maintenance notifications for this client.
	}
}

func (t target) cluster(opts Options) *redis.ClusterOptions {
	s := t.standalone("", opts)
	return &redis.ClusterOptions{
		Addrs: t.addrs,

		// The attempts of a command, redirections included: two for a slot
		// that has just moved (ASK after MOVED), the others for failures.
		MaxRedirects: 5,
		// The redirection loop tries again by itself; retries of the node's
		// client would multiply with it.
		MaxRetries: -1,
		// A replica may not have heard of a revocation yet: the denylist is
		// read from masters only.
		ReadOnly:       false,
		RouteByLatency: false,
		RouteRandomly:  false,
		// Routing by policy sends COMMAND ahead of the first command, with a
		// deadline of its own of 5 s: a hanging node would break the budget.
		// It also turns keyless commands into one for every node.
		DisableRoutingPolicies: true,

		Username:  s.Username,
		Password:  s.Password,
		Protocol:  s.Protocol,
		TLSConfig: s.TLSConfig,
		Dialer:    s.Dialer,
		OnConnect: s.OnConnect,

		DialTimeout:           s.DialTimeout,
		ReadTimeout:           s.ReadTimeout,
		WriteTimeout:          s.WriteTimeout,
		PoolTimeout:           s.PoolTimeout,
		ContextTimeoutEnabled: s.ContextTimeoutEnabled,

		MinRetryBackoff: s.MinRetryBackoff,
		MaxRetryBackoff: s.MaxRetryBackoff,
		DialerRetries:   s.DialerRetries,

		PoolSize:         s.PoolSize,
		PipelinePoolSize: s.PipelinePoolSize,
		MinIdleConns:     s.MinIdleConns,
		ConnMaxIdleTime:  s.ConnMaxIdleTime,

		DisableIdentity:          s.DisableIdentity,
		MaintNotificationsConfig: s.MaintNotificationsConfig,
	}
}
