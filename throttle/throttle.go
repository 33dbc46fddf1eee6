// Package throttle says how often a password may be tried.
//
// Call [New], then [Throttle.Reserve] before a password is checked, and
// [Reservation.Refund] when it turned out to be right, or was not checked after
// all. [Throttle.DeviceKey] makes what a user's device shows at its next login,
// and [Throttle.Failed] counts what an address gets wrong that is not a password.
//
// How it works. A try is taken from several budgets before the password is
// hashed, so that a thousand tries at once are a thousand tries: one of the
// account that is named, or of the device if it shows that the user has logged in
// on it before, and one of the address. Each budget is a single time in Redis, by
// the clock of Redis (GCRA, the generic cell rate algorithm): when it will be full
// again. Those of one try that share a partition are decided by one script.
//
// Nobody can lock an account's owner out. Who guesses without end uses up what
// devices share that nobody knows. The owner's devices have budgets of their own.
//
// A name that no account has is counted like any other: that it is not counted
// would tell. Names stand in Redis as keyed hashes, since people type passwords
// into the wrong field.
//
// When Redis cannot be asked, or is full, a table in memory counts, with a quarter of the
// allowance: it knows only of this process. The table has a fixed size, and two
// names that fall into one place share its allowance.
//
// A script that runs twice, because a reply was lost, charges twice. That errs on
// the safe side. A refund that runs twice gives one try too many, to somebody who
// knows the password.
//
// The package checks no password, and knows nothing of HTTP. How often a session
// may be refreshed is for package refresh to say.
package throttle

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/script"
	"github.com/authapi/authapi/internal/secret"
)

var (
	//go:embed reserve.lua
	reserveLua string
	//go:embed refund.lua
	refundLua string

	// A full Redis takes no new keys: then this process counts by itself.
	reserveScript = script.New(reserveLua)
	refundScript  = script.New(refundLua, script.OnFullRedis)
)

// patience bounds what asking Redis may take. The login itself needs Redis too, but
// perhaps another node of it.
const patience = 400 * time.Millisecond

// Options configure a [Throttle].
type Options struct {
	// Prefix opens all key names.
	Prefix string
	// Secrets are the deployment's, at least 32 random bytes each. The first
	// makes device keys and names budgets, all recognise device keys. When the
	// first changes, all budgets are full again.
	Secrets [][]byte
	// Account is how often the password of an account may be tried from devices
	// that nobody knows, all together, and how often from each device that is
	// known. In a day it is at most ten times as many. The zero Rate: no limit.
	Account Rate
	// Address is how often one address may try: an IPv4 address, or the 64-bit
	// network of an IPv6 address. A 48-bit network may ten times as often. The
	// zero Rate: no limit.
	Address Rate
}

// DefaultAccount and DefaultAddress suit a service for people. Tries that succeed
// do not count.
var (
	DefaultAccount = Rate{N: 10, Per: 15 * time.Minute}
	DefaultAddress = Rate{N: 60, Per: time.Minute}
)

// Throttle counts tries. It is safe for concurrent use, by many processes at once.
type Throttle struct {
	client           redis.UniversalClient
	keys             partition.Keys
	devices          *secret.Opaque
	names            []byte // keys the hashes of what is counted
	account, address Rate
	local, failures  *table
	patience         time.Duration // what asking Redis may take
}

// New returns a throttle. It does not ask Redis anything.
func New(c redis.UniversalClient, o Options) (*Throttle, error) {
	devices, err := secret.NewOpaque(DevicePrefix, "device-mac/v1", o.Secrets)
	if err != nil {
		return nil, fmt.Errorf("throttle: %w", err)
	}
	names, err := secret.Derive(o.Secrets[0], "throttle-names/v1")
	if err != nil {
		return nil, fmt.Errorf("throttle: %w", err)
	}
	for _, r := range []Rate{o.Account, o.Address} {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("throttle: %w", err)
		}
	}
	return &Throttle{
		client: c, keys: partition.Keys{Prefix: o.Prefix}, devices: devices, names: names,
		account: o.Account, address: o.Address,
		local: newTable(), failures: newTable(), patience: patience,
	}, nil
}

// Try is one attempt to log in.
type Try struct {
	// Account is the name that is tried, whether there is such an account or not.
	Account string
	// DeviceKey is what the device shows, "" if nothing. One that is not genuine,
	// or is of another account, counts as none.
	DeviceKey string
	// Address is where it comes from. The zero Addr is a place too: all who come
	// from nowhere share its budget.
	Address netip.Addr
	// Trusted says that a server with credentials of its own passes it on. Its
	// address is that of all its users, and is not counted.
	Trusted bool
}

// Reserve takes one try from each budget that it concerns, or says that one of
// them is used up, with a *[Refusal]. There are no other errors: without Redis
// it counts by itself.
func (t *Throttle) Reserve(ctx context.Context, try Try) (*Reservation, error) {
	r := &Reservation{throttle: t}
	// The address first: a flood from one place should not cost the account that
	// it names anything.
	if !try.Trusted {
		if err := r.take(ctx, t.ofAddress(try.Address)); err != nil {
			return r, err
		}
	}
	return r, r.take(ctx, t.ofAccount(try.Account, try.DeviceKey))
}

// Reservation is a try that was taken from its budgets.
type Reservation struct {
	throttle *Throttle
	taken    []group
	// Budgets are what is left of those that were asked, the narrowest last.
	Budgets []Budget
}

// Budget is what is left of an allowance.
type Budget struct {
	Name string // "account", "device", "address" ...
	Rate Rate
	Left int
	Full time.Duration // until nothing is missing from it
}

// Refusal says that a budget is used up.
type Refusal struct {
	Wait   time.Duration // until one more try is there
	Budget Budget
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("throttle: the %s has used up its tries for the next %s", r.Budget.Name, r.Wait)
}

func (r *Reservation) take(ctx context.Context, g group) error {
	if len(g.budgets) == 0 {
		return nil
	}
	t := r.throttle
	asking, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	levels, err := t.reserve(asking, g)
	if err != nil {
		g = g.locally()
		levels = t.local.take(g)
	}
	var refusal *Refusal
	for i, b := range g.budgets {
		at := Budget{Name: b.name, Rate: b.rate, Left: levels[i].left, Full: levels[i].full}
		r.Budgets = append(r.Budgets, at)
		if levels[i].wait > 0 && (refusal == nil || levels[i].wait > refusal.Wait) {
			refusal = &Refusal{Wait: levels[i].wait, Budget: at}
		}
	}
	if refusal != nil {
		return refusal
	}
	r.taken = append(r.taken, g)
	return nil
}

// Refund gives the try back, also if ctx has ended. It is called once, and may fail
// silently: then one try too many was counted.
func (r *Reservation) Refund(ctx context.Context) {
	// A login that took longer than its request may has used up ctx. Its right password
	// would count as a wrong one, and ten such, on a busy machine or in a flood, would
	// keep an owner out who has done nothing wrong.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.throttle.patience)
	defer cancel()
	for _, g := range r.taken {
		if g.local {
			r.throttle.local.refund(g)
			continue
		}
		keys, args := r.throttle.arguments(g)
		_, _ = refundScript.Run(ctx, r.throttle.client, keys, args...)
	}
	r.taken = nil
}

// Failed counts something that an address got wrong, an invented token for
// example, and refuses with a *[Refusal] when it does that all the time. It asks
// nobody: what is wrong in itself must not cost Redis anything. So it knows of
// this process only.
func (t *Throttle) Failed(address netip.Addr) error {
	if t.address == (Rate{}) {
		return nil
	}
	g := t.ofAddress(address)
	level := t.failures.take(g)
	for i, l := range level {
		if l.wait > 0 {
			return &Refusal{Wait: l.wait, Budget: Budget{Name: g.budgets[i].name, Rate: g.budgets[i].rate, Left: l.left, Full: l.full}}
		}
	}
	return nil
}

// level is how a budget stands.
type level struct {
	wait time.Duration // 0: the try was taken from it
	left int
	full time.Duration
}

func (t *Throttle) reserve(ctx context.Context, g group) ([]level, error) {
	keys, args := t.arguments(g)
	reply, err := reserveScript.Run(ctx, t.client, keys, args...)
	if err != nil {
		return nil, err
	}
	if len(reply) != 3*len(keys) {
		return nil, script.ErrReply
	}
	levels := make([]level, len(keys))
	for i := range levels {
		var n [3]int64
		for j := range n {
			var ok bool
			if n[j], ok = reply[3*i+j].(int64); !ok {
				return nil, script.ErrReply
			}
		}
		levels[i] = level{wait: time.Duration(n[0]) * time.Millisecond, left: int(n[1]), full: time.Duration(n[2]) * time.Millisecond}
	}
	return levels, nil
}

func (t *Throttle) arguments(g group) (keys []string, args []any) {
	for _, b := range g.budgets {
		keys = append(keys, t.keys.Tries(g.partition, b.id))
		args = append(args, b.rate.interval().Milliseconds(), b.rate.N)
	}
	return keys, args
}
