package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/refresh"
)

const (
	// every is how often everything is looked at without a reason.
	every = 30 * time.Second

	// In each round so many entries of each partition are looked at, and rounds
	// begin so far apart. That is 6,400 entries a second at most, of which the
	// newest 1,600 come at once.
	batch = 100
	pace  = 250 * time.Millisecond

	// patience bounds what one batch may take, and again is how long a partition
	// is left alone when it could not be looked at.
	patience = 2 * time.Second
	again    = time.Second

	// skew is by how much a denial's life may seem short because clocks differ.
	// An instance is not ready if its is more than 10 s from that of Redis.
	skew = 15 * time.Second
)

// Stores are where revocations are looked up and asserted.
type Stores struct {
	Sessions *refresh.Store
	Denylist *denylist.List
	Keys     *keyring.Ring
}

// Asserted is told of what was missing in Redis and is there again, and of what
// went wrong. Either may be zero.
type Asserted func(now Totals, err error)

// Run looks after what the journal knows until ctx ends.
func (j *Journal) Run(ctx context.Context, s Stores, report Asserted) {
	r := &run{journal: j, stores: s}
	// Instances that were started together do not all look at the same moment.
	routine := time.NewTimer(every/2 + rand.N(every))
	defer routine.Stop()
	round := time.NewTimer(0)
	defer round.Stop()
	for {
		idle := round.C
		if r.done() {
			idle = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-routine.C:
			routine.Reset(every)
			r.plan(true)
			continue
		case <-j.wake:
			// What is new goes first, and does not wait for the round.
			r.plan(false)
		case <-idle:
		}
		now, err := r.round(ctx)
		if ctx.Err() == nil && (now != Totals{} || err != nil) {
			j.mu.Lock()
			j.totals.Sessions += now.Sessions
			j.totals.Denials += now.Denials
			j.totals.Keys += now.Keys
			j.mu.Unlock()
			report(now, err)
		}
		round.Reset(pace)
	}
}

// run is the state of [Journal.Run].
type run struct {
	journal *Journal
	stores  Stores
	// todo is what is to be looked at, by partition, in this order.
	todo [partition.Count][]*entry
}

func (r *run) done() bool {
	for _, entries := range r.todo {
		if len(entries) > 0 {
			return false
		}
	}
	return true
}

// plan puts everything on the list of each partition in doubt, or of each that
// has nothing on it. Own denials that did not appear in the feed come first.
func (r *run) plan(all bool) {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forget()
	var fill [partition.Count]bool
	for p := range fill {
		if j.doubtful[p] || all && len(r.todo[p]) == 0 {
			fill[p], j.doubtful[p], r.todo[p] = true, false, nil
		}
	}
	if fill != [partition.Count]bool{} {
		for _, line := range [][]*entry{j.keys, j.order} {
			for _, e := range slices.Backward(line) {
				if fill[e.partition] {
					r.todo[e.partition] = append(r.todo[e.partition], e)
				}
			}
		}
	}
	for _, e := range j.lost {
		r.todo[e.partition] = append([]*entry{e}, r.todo[e.partition]...)
	}
	j.lost = nil
}

// round looks at a batch of each partition.
func (r *run) round(ctx context.Context) (now Totals, err error) {
	var errs []error
	for p, todo := range r.todo {
		if len(todo) == 0 {
			continue
		}
		n := min(batch, len(todo))
		limited, cancel := context.WithTimeout(ctx, patience)
		err := r.look(limited, todo[:n], &now)
		cancel()
		if err == nil {
			r.todo[p] = todo[n:]
			continue
		}
		errs = append(errs, fmt.Errorf("journal: partition %s: %w", partition.ID(p).Tag(), err))
		r.todo[p] = nil
		time.AfterFunc(again, func() { r.journal.doubt(p) })
	}
	return now, errors.Join(errs...)
}

// look finds out which of the entries no longer stand, and asserts them. All are
// of one partition.
func (r *run) look(ctx context.Context, entries []*entry, now *Totals) error {
	r.journal.mu.Lock()
	copies := make([]entry, len(entries))
	for i, e := range entries {
		copies[i] = *e
	}
	r.journal.mu.Unlock()

	var sids []string
	var denials []denylist.Denial
	for _, e := range copies {
		if e.kind == denylist.Session {
			sids = append(sids, e.id)
		}
		denials = append(denials, e.denial())
	}
	standings, err := r.stores.Sessions.Standings(ctx, sids)
	if err != nil {
		return err
	}
	lives, err := r.stores.Denylist.Lives(ctx, denials)
	if err != nil {
		return err
	}
	for i, e := range copies {
		if e.kind == denylist.Session {
			var s refresh.Standing
			s, standings = standings[0], standings[1:]
			if s.Lives {
				ended, err := r.stores.Sessions.EndAgain(ctx, e.id, reasonOf(e.why))
				if err != nil {
					return err
				}
				if ended {
					now.Sessions++
				}
				continue // and denied with it
			}
			r.remember(entries[i], s.Why)
		}
		// Until when is not known of a session that was denied by somebody else. What
		// is over has less than nothing left.
		left := time.Until(time.Unix(e.until, 0))
		if e.until == 0 || lives[i] >= left-skew {
			continue
		}
		if e.kind == denylist.Key {
			// First the ring, or what is signed with the key now would be refused
			// while it is signed.
			err := r.stores.Keys.Drop(ctx, e.id)
			if err != nil && !errors.Is(err, keyring.ErrUnknownKey) {
				return err
			}
			if err == nil {
				now.Keys++
			}
		}
		if err := r.stores.Denylist.Assert(ctx, denials[i]); err != nil {
			return err
		}
		now.Denials++
	}
	return nil
}

// remember takes down why a session ended, as long as Redis knows it.
func (r *run) remember(e *entry, why refresh.Reason) {
	if why == "" {
		return
	}
	r.journal.mu.Lock()
	defer r.journal.mu.Unlock()
	if e.why == "" {
		e.why = reasonOf(why)
	}
}

// reasonOf returns one of the known reasons, which share their memory.
func reasonOf(why refresh.Reason) refresh.Reason {
	known := []refresh.Reason{
		refresh.Logout, refresh.Reused, refresh.Removed, refresh.Limited, refresh.Disabled, refresh.Password, refresh.Admin,
	}
	if i := slices.Index(known, why); i >= 0 {
		return known[i]
	}
	return refresh.Asserted
}
