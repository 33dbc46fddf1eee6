// Package journal remembers, in the memory of each instance, what has been
// revoked, and asserts it again when Redis has come back without it.
//
// Call [New]; let [Journal.Ended] and [Journal.Denied] hear what this instance
// revokes, and [Journal.Source] what others do; keep [Journal.Run] running.
// [Journal.Totals] says what was asserted.
//
// Redis acknowledges writes that a failover or a snapshot then forgets. Instances
// live on: all of them hear all revocations, since they relay the feed, and what
// an instance revokes itself it knows before it answers. So a revocation is lost
// only if every instance that knew of it ended too.
//
// The journal looks whether what it knows still stands when the Redis of a
// partition may be another one than before: when it answers again after an error
// or a silence, when the feed's history has changed, when a denial of this
// instance's own does not appear in the feed; when [Journal.Doubt] is called; and every half a minute anyway. It
// looks at the newest first and at a steady pace, so that many instances with
// full journals are no burden to a Redis that everybody has just come back to.
//
// What is missing is put back as what it was: a session that lives is ended, for
// its old reason if that is known; a denial is given the life that it has left;
// a signing key is dropped. Nothing is written if nothing is missing, so
// instances may do this side by side, and hear each other's assertions in the
// feed, without end to it: an assertion changes nothing in the journal of who
// hears it.
//
// The package creates no session and undoes no end. It keeps an hour, or 50,000
// revocations (some 14 MB), of which the oldest go first; of signing keys, a
// week. It keeps nothing on disk: an instance that starts has what the feed has.
package journal

import (
	"context"
	"sync"
	"time"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/refresh"
)

const (
	// maxEntries and maxKeys bound the memory. An entry is about 250 bytes. A
	// dropped key has an entry in each partition.
	maxEntries = 50_000
	maxKeys    = 100 * partition.Count
	// maxUnheard is met only when the feed cannot be read. Then everything is
	// looked at anyway as soon as it can.
	maxUnheard = 5_000

	// keep is how long an entry stays, by a clock that nobody sets. Longer ago a
	// revocation is in every snapshot that is worth restoring.
	keep    = time.Hour
	keepKey = 7 * 24 * time.Hour

	// slack is how much later than its writing a denial is expected in the feed.
	slack = 100 * time.Millisecond
)

// Totals are how many assertions there were.
type Totals struct{ Sessions, Denials, Keys int }

// Journal is what one instance knows to be revoked. It is safe for concurrent
// use.
type Journal struct {
	began time.Time
	wake  chan struct{} // full if there is something to look at

	mu       sync.Mutex
	entries  map[key]*entry
	order    []*entry // sessions and tokens, the oldest first
	keys     []*entry // signing keys, likewise
	unheard  []*entry // own denials that the feed has not shown yet
	lost     []*entry // those of them that it should have shown by now
	doubtful [partition.Count]bool
	totals   Totals
}

type key struct {
	kind      denylist.Kind
	partition uint8
	id        string
}

type entry struct {
	key
	until   int64          // Unix seconds; 0: unknown
	why     refresh.Reason // of a session; "": unknown
	learned time.Duration  // since the journal began
	heard   bool           // the feed has shown it
	awaited bool           // it is among those that it should show
}

func (e *entry) denial() denylist.Denial {
	return denylist.Denial{Partition: int(e.partition), Kind: e.kind, ID: e.id, Until: time.Unix(e.until, 0)}
}

// New returns an empty journal.
func New() *Journal {
	return &Journal{began: time.Now(), wake: make(chan struct{}, 1), entries: map[key]*entry{}}
}

// Ended notes that this instance has ended a session. Give it to
// [refresh.Options].
func (j *Journal) Ended(sid string, why refresh.Reason, until time.Time) {
	p, ok := partition.OfSID(sid)
	if !ok {
		return
	}
	j.own(key{denylist.Session, uint8(p), sid}, why, until)
}

// Denied notes what this instance has denied. Give it to [denylist.Tell].
func (j *Journal) Denied(d denylist.Denial) {
	j.own(key{d.Kind, uint8(d.Partition), d.ID}, "", d.Until)
}

func (j *Journal) own(k key, why refresh.Reason, until time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.learn(k, until)
	if e == nil {
		return
	}
	if why != "" {
		e.why = why
	}
	// It is expected in the feed, unless it may have been there before.
	if !e.heard && !e.awaited && e.until != 0 && len(j.unheard) < maxUnheard {
		e.awaited = true
		j.unheard = append(j.unheard, e)
	}
}

// heard notes what the feed says.
func (j *Journal) heard(d denylist.Denial) {
	if d.Partition < 0 || d.Partition >= partition.Count {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if e := j.learn(key{d.Kind, uint8(d.Partition), d.ID}, d.Until); e != nil {
		e.heard = true
	}
}

// learn returns the entry of what is revoked, nil for what nobody can assert. What
// is known already keeps its age, or assertions could keep it alive for ever. The
// lock is held.
func (j *Journal) learn(k key, until time.Time) *entry {
	line := &j.order
	switch k.kind {
	case denylist.Session, denylist.Token:
	case denylist.Key:
		line = &j.keys
	default:
		return nil
	}
	e := j.entries[k]
	if e == nil {
		e = &entry{key: k, learned: time.Since(j.began)}
		j.entries[k] = e
		*line = append(*line, e)
	}
	if !until.IsZero() {
		e.until = max(e.until, until.Unix())
	}
	j.forget()
	return e
}

// forget drops what is too old or too much. The lock is held.
func (j *Journal) forget() {
	now := time.Since(j.began)
	for _, line := range []struct {
		entries *[]*entry
		most    int
		life    time.Duration
	}{{&j.order, maxEntries, keep}, {&j.keys, maxKeys, keepKey}} {
		for e := *line.entries; len(e) > line.most || len(e) > 0 && now-e[0].learned > line.life; e = *line.entries {
			delete(j.entries, e[0].key)
			e[0] = nil // or the array would keep it
			*line.entries = e[1:]
		}
	}
}

// current is told that the feed of a partition has shown everything until age
// ago.
func (j *Journal) current(p int, age time.Duration) {
	known := time.Since(j.began) - age - slack
	j.mu.Lock()
	defer j.mu.Unlock()
	kept := j.unheard[:0]
	for _, e := range j.unheard {
		switch {
		case e.heard:
		case int(e.partition) == p && e.learned < known:
			j.lost = append(j.lost, e)
			j.rouse()
		default:
			kept = append(kept, e)
		}
	}
	clear(j.unheard[len(kept):])
	j.unheard = kept
}

// Doubt makes the journal look at everything: Redis is another process than
// before, though no connection need have failed in between.
func (j *Journal) Doubt() {
	for p := range partition.Count {
		j.doubt(p)
	}
}

// doubt is told that the Redis of a partition may be another one.
func (j *Journal) doubt(p int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doubtful[p] = true
	j.rouse()
}

func (j *Journal) rouse() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Len returns how many revocations are remembered.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.entries)
}

// Totals returns what was asserted so far.
func (j *Journal) Totals() Totals {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.totals
}

// Source is a denylist that the journal listens to. It is a relay.Source.
type Source struct {
	list    *denylist.List
	journal *Journal
	doubt   func()
}

// Source lets the journal hear what the feed tells whoever follows the result.
// doubt, if not nil, is told, perhaps sixteen times in a row, that Redis may be
// another one than before.
func (j *Journal) Source(list *denylist.List, doubt func()) Source {
	if doubt == nil {
		doubt = func() {}
	}
	return Source{list, j, doubt}
}

// Follow is [denylist.List.Follow].
func (s Source) Follow(ctx context.Context,
	denied func(kind, id string, until time.Time),
	current func(partition int, age time.Duration),
	trouble func(error),
) {
	s.list.Observe(ctx, denylist.Observer{
		Denied: func(d denylist.Denial) {
			s.journal.heard(d)
			denied(string(d.Kind), d.ID, d.Until)
		},
		Current: func(p int, age time.Duration) {
			s.journal.current(p, age)
			current(p, age)
		},
		Doubt: func(p int) {
			s.journal.doubt(p)
			s.doubt()
		},
		Trouble: trouble,
	})
}
