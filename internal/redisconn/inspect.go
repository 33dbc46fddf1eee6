package redisconn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/ack"
)

// Level says how bad a [Finding] is.
type Level uint8

const (
	OK     Level = iota // as it should be
	Warn                // works, but a promise is weaker than it should be
	Refuse              // do not serve with this Redis
)

func (l Level) String() string {
	switch l {
	case OK:
		return "ok"
	case Warn:
		return "warn"
	default:
		return "refuse"
	}
}

// Finding is the result of one check.
type Finding struct {
	Level Level
	// Subject is one of reachable, mode, version, role, maxmemory_policy,
	// persistence, clock and, if replicas are needed, replicas.
	Subject string
	// Message is for the operator: what was found and, unless OK, what to do.
	Message string
}

// Report is what [Inspect] found, one finding for each subject.
type Report struct {
	Mode     string // "standalone", "sentinel" or "cluster"
	Masters  int    // how many masters hold data: 1 unless Mode is "cluster"
	Version  string // for example "Redis 7.0.15"; on a Cluster the oldest
	Runs     string // names the processes that were asked: another text means other ones
	Findings []Finding
}

// ErrRefused is wrapped by [Report.Err].
var ErrRefused = errors.New("this Redis must not be used as it is")

// Err returns nil unless a finding's level is [Refuse]. The error holds the
// messages of all that are.
func (r Report) Err() error {
	var errs []error
	for _, f := range r.Findings {
		if f.Level == Refuse {
			errs = append(errs, errors.New(f.Subject+": "+f.Message))
		}
	}
	if errs == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrRefused, errors.Join(errs...))
}

// Limits of the clock check. Verifiers forgive 15 s (tokens.Leeway); the
// refusal comes before that is used up, because their clocks are off too.
const (
	skewWarn   = 2 * time.Second
	skewRefuse = 10 * time.Second
)

// Needs are what a deployment asks of its Redis beyond what all do.
type Needs struct {
	// Replicas is how many must acknowledge a revocation.
	Replicas int
}

// Inspect checks whether the Redis behind client keeps the service's promises.
// On a Cluster it asks every master and reports the worst. It needs the
// commands PING, INFO, TIME and ECHO, and uses CONFIG GET where that is allowed. It
// changes nothing.
//
// The error is not nil only when a server could not be asked; it wraps
// [ErrUnreachable], and the report then has a finding "reachable" that refuses.
// What the servers answered is judged by [Report.Err].
//
// Do not use it on the embedded miniredis, which lacks nearly all of INFO and
// would be refused.
func Inspect(ctx context.Context, client redis.UniversalClient, needs Needs) (Report, error) {
	r := Report{Mode: "standalone", Masters: 1}
	var nodes []node
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		r.Mode = "cluster"
		var mu sync.Mutex
		err = c.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			n, err := ask(ctx, master)
			n.addr = master.Options().Addr
			mu.Lock()
			defer mu.Unlock()
			nodes = append(nodes, n)
			if err != nil {
				return fmt.Errorf("%s: %w", n.addr, err)
			}
			return nil
		})
		r.Masters = len(nodes)
	default:
		// The library gives the client that follows Sentinels this address.
		if c, ok := client.(*redis.Client); ok && c.Options().Addr == "FailoverClient" {
			r.Mode = "sentinel"
		}
		var n node
		n, err = ask(ctx, client)
		nodes = []node{n}
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnreachable, masked(err))
		r.Findings = []Finding{{Refuse, "reachable", err.Error() + "; check the URL, the network and the credentials"}}
		return r, err
	}

	slices.SortFunc(nodes, func(a, b node) int { return cmp.Compare(a.addr, b.addr) })
	r.Findings = []Finding{{OK, "reachable", "answers"}, r.mode()}
	checks := []func(node) Finding{node.version, node.role, node.policy, node.persistence, node.clock}
	if needs.Replicas > 0 {
		checks = append(checks, needs.replicas)
	}
	for _, check := range checks {
		r.Findings = append(r.Findings, worst(nodes, check))
	}
	oldest := slices.MinFunc(nodes, func(a, b node) int {
		return slices.Compare(numbers(a.info["redis_version"]), numbers(b.info["redis_version"]))
	})
	r.Version = oldest.name()
	var runs []string
	for _, n := range nodes {
		runs = append(runs, n.info["run_id"])
	}
	slices.Sort(runs)
	r.Runs = strings.Join(runs, " ")
	return r, nil
}

func (r Report) mode() Finding {
	msg := r.Mode
	if r.Mode == "cluster" {
		msg += fmt.Sprintf(" of %d masters", r.Masters)
	}
	return Finding{OK, "mode", msg}
}

// worst runs one check on every node and says at which node it is worst.
func worst(nodes []node, check func(node) Finding) Finding {
	var found Finding
	same := 0
	for i, n := range nodes {
		f := check(n)
		if i > 0 && f.Level == found.Level {
			same++
		}
		if i == 0 || f.Level > found.Level {
			found, same = f, 1
			if n.addr != "" && f.Level > OK {
				found.Message = n.addr + ": " + f.Message
			}
		}
	}
	if found.Level > OK && same > 1 {
		found.Message += fmt.Sprintf(" (the same level on %d of %d masters)", same, len(nodes))
	}
	return found
}

// node is what one server told.
type node struct {
	addr string // empty unless there are several
	info map[string]string
	// save is the schedule of snapshots; nil if CONFIG is forbidden.
	save *string
	skew time.Duration // Redis's clock minus ours
}

func ask(ctx context.Context, c redis.Cmdable) (node, error) {
	var n node
	if err := c.Ping(ctx).Err(); err != nil {
		return n, masked(err)
	}
	var err error
	if n.info, err = info(ctx, c); err != nil {
		return n, err
	}
	if n.info["redis_mode"] == "sentinel" {
		return n, nil // knows neither TIME nor CONFIG, and is refused anyway
	}
	if n.skew, err = skew(ctx, c); err != nil {
		return n, masked(err)
	}
	// Managed services forbid CONFIG; then the schedule stays unknown.
	if values, err := c.ConfigGet(ctx, "save").Result(); err == nil {
		if s, ok := values["save"]; ok {
			n.save = &s
		}
	}
	return n, nil
}

// skew compares the clocks. The answer was made somewhere within the round
// trip, so the middle is the best guess and half the round trip the error;
// of three tries the quickest is the most exact.
func skew(ctx context.Context, c redis.Cmdable) (time.Duration, error) {
	var offset, quickest time.Duration
	for i := range 3 {
		sent := time.Now()
		theirs, err := c.Time(ctx).Result()
		took := time.Since(sent)
		if err != nil {
			return 0, err
		}
		if i == 0 || took < quickest {
			quickest, offset = took, theirs.Sub(sent.Add(took/2))
		}
	}
	return offset, nil
}

func (n node) name() string {
	if v := n.info["valkey_version"]; v != "" {
		return "Valkey " + v
	}
	return strings.TrimSpace("Redis " + n.info["redis_version"])
}

// version: scripts use what Redis 7.0 brought (flags in the first line).
// Valkey and the managed services state in redis_version what they match.
func (n node) version() Finding {
	v := n.info["redis_version"]
	switch nums := numbers(v); {
	case len(nums) == 0:
		return Finding{Refuse, "version", "the server does not state its version (INFO server); use Redis 7.0 or newer, or Valkey"}
	case nums[0] < 7:
		return Finding{Refuse, "version", n.name() + " is too old; use Redis 7.0 or newer, or Valkey"}
	default:
		return Finding{OK, "version", n.name()}
	}
}

// role: someone may have named a replica, or the port of a Sentinel.
func (n node) role() Finding {
	switch {
	case n.info["redis_mode"] == "sentinel":
		return Finding{Refuse, "role", "this is a Sentinel, not a Redis; use sentinel://host:port/mymaster"}
	case n.info["role"] == "slave":
		return Finding{Refuse, "role", "this is a replica, which cannot be written to; name its master, or use sentinel://"}
	default:
		return Finding{OK, "role", "master"}
	}
}

// policy: evicting a denylist entry would make a revoked token valid again,
// and evicting a tombstone a stolen one unnoticed.
func (n node) policy() Finding {
	switch p := n.info["maxmemory_policy"]; p {
	case "noeviction":
		return Finding{OK, "maxmemory_policy", p}
	case "":
		return Finding{Refuse, "maxmemory_policy", "the server does not state it (INFO memory), so it may evict denylist entries; use one that does, with noeviction"}
	default:
		return Finding{Refuse, "maxmemory_policy", p + " lets a full Redis evict denylist entries, which makes revoked tokens valid again; set maxmemory-policy noeviction"}
	}
}

func (n node) persistence() Finding {
	const advice = "; set appendonly yes"
	warn := func(msg string) Finding { return Finding{Warn, "persistence", msg} }
	switch {
	case n.info["aof_enabled"] == "1" && n.info["aof_last_write_status"] == "err":
		return warn("the append-only file cannot be written; look at Redis's log and its disk")
	case n.info["aof_enabled"] == "1":
		return Finding{OK, "persistence", "append-only file"}
	case n.save != nil && *n.save == "":
		return warn("none: a restart logs everyone out and forgets revocations" + advice)
	case n.info["rdb_last_bgsave_status"] == "err":
		return warn("the append-only file is off and the last snapshot failed; look at Redis's log and its disk" + advice)
	case n.save != nil:
		return warn("snapshots only: a restart forgets the logins and revocations since the last one" + advice)
	default:
		return warn("the append-only file is off, and the server does not tell whether it takes snapshots: a restart may forget logins and revocations" + advice)
	}
}

// replicas: with too few of them every revocation is answered 503. That is a
// warning, because it is what was asked for, and logging in and refreshing go on.
func (needs Needs) replicas(n node) Finding {
	online := ack.Online(n.info)
	msg := fmt.Sprintf("%d connected, and %d must acknowledge a revocation", online, needs.Replicas)
	if online < needs.Replicas {
		return Finding{Warn, "replicas", msg + ": logging out and everything else that revokes is answered 503 until there are enough"}
	}
	return Finding{OK, "replicas", msg}
}

// clock: expiry times come from Redis's clock and are judged by others.
func (n node) clock() Finding {
	off, side := n.skew.Round(time.Millisecond), "ahead of"
	if off < 0 {
		off, side = -off, "behind"
	}
	msg := fmt.Sprintf("Redis is %v %s this machine", off, side)
	switch {
	case off > skewRefuse:
		return Finding{Refuse, "clock", msg + ", and verifiers forgive 15s only: tokens would be refused or live too long; synchronise both clocks (NTP)"}
	case off > skewWarn:
		return Finding{Warn, "clock", msg + "; synchronise both clocks (NTP)"}
	default:
		return Finding{OK, "clock", msg}
	}
}

// numbers reads the leading numbers of a version, so that 7.0.9 sorts before
// 7.0.15. It returns nil if the first part is none.
func numbers(version string) []int {
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		out = append(out, n)
	}
	return out
}
