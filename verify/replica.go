package verify

import (
	"context"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/tokens"
)

// Replica is a copy in memory of what was revoked, and knows how old it is. It
// is safe for concurrent use.
//
// It only ever adds up what its source reports, and forgets an id when the last
// token that it denies has expired. What the source has lost is still denied
// here.
type Replica struct {
	// Ids are kept as 64 bits of a keyed hash. Should two ids ever share them,
	// one token in 10^19 is refused that should not be; the other way round
	// cannot happen.
	sessions, tokens maphash.Seed
	shards           [64]shard

	keys atomic.Pointer[map[string]time.Time] // denied signing keys: a handful

	// known says, for each partition, up to which moment every denial is here.
	known [partition.Count]atomic.Pointer[time.Time]

	began time.Time
}

type shard struct {
	// Readers wait for an insertion, never for a sweep: that one builds a new
	// map beside the old one, while writing keeps others from inserting.
	writing sync.Mutex
	mu      sync.RWMutex
	until   map[uint64]int64 // Unix seconds
}

// Follow returns a replica that follows the source until ctx ends. It is out of
// date until the source has reported for the first time. What goes wrong is
// given to trouble, if that is not nil; the replica notices by itself when it
// no longer hears from the source.
func Follow(ctx context.Context, s Source, trouble func(error)) *Replica {
	if trouble == nil {
		trouble = func(error) {}
	}
	r := newReplica()
	go s.Follow(ctx, r.deny, r.confirm, trouble)
	go r.sweepUntil(ctx)
	return r
}

func newReplica() *Replica {
	r := &Replica{sessions: maphash.MakeSeed(), tokens: maphash.MakeSeed(), began: time.Now()}
	r.keys.Store(&map[string]time.Time{})
	for i := range r.shards {
		r.shards[i].until = map[uint64]int64{}
	}
	return r
}

// Age returns how long ago the replica last knew everything, in the partition
// where that is longest. If it never did, the age is that of the universe.
func (r *Replica) Age() time.Duration {
	var oldest time.Duration
	for p := range r.known {
		oldest = max(oldest, r.age(partition.ID(p)))
	}
	return oldest
}

// Len returns how many sessions and tokens are denied.
func (r *Replica) Len() int {
	n := 0
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		n += len(s.until)
		s.mu.RUnlock()
	}
	return n
}

// never is the age of what was never known.
const never = time.Duration(math.MaxInt64)

func (r *Replica) age(p partition.ID) time.Duration {
	known := r.known[p].Load()
	if known == nil {
		return never
	}
	return elapsed(*known)
}

// elapsed is the time since then. The monotonic clock stands still while a
// machine is suspended, the wall clock can be set back: both at once would be
// needed to make what is known look young.
func elapsed(then time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// ageOf is the age of what is known about a session.
func (r *Replica) ageOf(sid string) time.Duration {
	p, ok := partition.OfSID(sid)
	if !ok {
		return never
	}
	return r.age(p)
}

// denies reports whether the token is known to be revoked, however old the
// replica is: a denial is never taken back.
func (r *Replica) denies(c *tokens.Claims) bool {
	return r.has(maphash.String(r.sessions, c.SessionID)) ||
		r.has(maphash.String(r.tokens, c.ID)) ||
		r.deniesKey(c.KeyID)
}

func (r *Replica) deniesKey(kid string) bool {
	_, denied := (*r.keys.Load())[kid]
	return denied
}

func (r *Replica) shard(hash uint64) *shard { return &r.shards[hash%uint64(len(r.shards))] }

func (r *Replica) has(hash uint64) bool {
	s := r.shard(hash)
	s.mu.RLock()
	_, denied := s.until[hash]
	s.mu.RUnlock()
	return denied
}

func (r *Replica) deny(kind, id string, until time.Time) {
	var hash uint64
	switch kind {
	case "sid":
		hash = maphash.String(r.sessions, id)
	case "jti":
		hash = maphash.String(r.tokens, id)
	case "kid":
		r.denyKey(id, until)
		return
	default: // of a later version
		return
	}
	s := r.shard(hash)
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.until[hash] >= until.Unix() {
		return
	}
	s.mu.Lock()
	s.until[hash] = until.Unix()
	s.mu.Unlock()
}

// denyKey copies the map, so that readers need no lock.
func (r *Replica) denyKey(kid string, until time.Time) {
	for {
		old := r.keys.Load()
		if !until.After((*old)[kid]) {
			return
		}
		replacement := map[string]time.Time{kid: until}
		for k, u := range *old {
			if k != kid && u.After(r.now()) {
				replacement[k] = u
			}
		}
		if r.keys.CompareAndSwap(old, &replacement) {
			return
		}
	}
}

// confirm takes note that everything denied until age ago is here. What is
// known can only grow: a report that comes late takes nothing back.
func (r *Replica) confirm(p int, age time.Duration) {
	if p < 0 || p >= partition.Count || age < 0 {
		return
	}
	known := time.Now().Add(-age)
	for {
		before := r.known[p].Load()
		if before != nil && !known.After(*before) {
			return
		}
		if r.known[p].CompareAndSwap(before, &known) {
			return
		}
	}
}

// sweepEvery is how often expired ids are forgotten.
const sweepEvery = time.Minute

func (r *Replica) sweepUntil(ctx context.Context) {
	// One shard at a time, so that memory and CPU are needed in small pieces.
	ticker := time.NewTicker(sweepEvery / time.Duration(len(r.shards)))
	defer ticker.Stop()
	for i := 0; ; i = (i + 1) % len(r.shards) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.shards[i].sweep(r.now().Unix())
		}
	}
}

// now is the time by which ids expire. A wall clock that leaps ahead by mistake
// and back again must not make the replica forget in between.
func (r *Replica) now() time.Time {
	now := time.Now()
	if steady := r.began.Add(now.Sub(r.began)).Round(0); steady.Before(now.Round(0)) {
		return steady
	}
	return now
}

func (s *shard) sweep(now int64) {
	s.writing.Lock()
	defer s.writing.Unlock()
	live := 0
	for _, until := range s.until {
		if until > now {
			live++
		}
	}
	if live == len(s.until) {
		return
	}
	kept := make(map[uint64]int64, live)
	for hash, until := range s.until {
		if until > now {
			kept[hash] = until
		}
	}
	s.mu.Lock()
	s.until = kept
	s.mu.Unlock()
}
