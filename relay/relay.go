// Package relay passes revocations on to services that have no Redis, as
// Server-Sent Events to any number of readers.
//
// Call [New] with the source, a *denylist.List, keep [Relay.Run] running, and
// let [Relay.ServeHTTP] answer those who may know: who that is, is the caller's
// business. [Relay.Drain] ends all streams before a shutdown.
//
// The relay keeps a log of everything that is denied now. A reader first gets
// that log, or what was added since the mark that it brings along, and then,
// five times a second, a frame with what is new and with how old the relay's
// knowledge is. A frame is made once for all readers. Signs of life are passed
// on, never invented: a relay that has lost its source goes on sending, and its
// readers see the ages grow.
//
// No reader waits for another. For one that does not read fast enough nothing
// is kept: it is sent the log from where it was, and if it takes nothing at all
// for some seconds it is cut off, to come back with its mark.
//
// The package does not decide what is denied, and forgets it when it ends.
package relay

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/wire"
)

// Source tells what is denied, as package verify describes it.
type Source interface {
	Follow(ctx context.Context,
		denied func(kind, id string, until time.Time),
		current func(partition int, age time.Duration),
		trouble func(error))
}

// Options are for whoever needs other limits; the zero value is good.
type Options struct {
	// MaxReaders is how many may read at the same time; default 10,000. A
	// further one is answered 503.
	MaxReaders int
	// Lifetime is how long a stream lasts, up to a tenth less; default 15
	// minutes. Readers compare clocks once for each stream, and clocks drift.
	Lifetime time.Duration
	// Trouble is told what goes wrong at the source, for a log.
	Trouble func(error)
}

const (
	frameEvery = 200 * time.Millisecond
	// batch is how long a denial waits for others.
	batch = 20 * time.Millisecond
	// queue is how many frames are kept for a reader: about three seconds, after
	// which it is not up to date anyway.
	queue = 16
	// patience is how long a reader may take to accept what is written.
	patience = 5 * time.Second
	// overlap is how much further back than its mark a reader is served: the
	// mark may be of another instance, whose clock goes differently. Instances
	// are not ready if theirs are more than 10 s from that of Redis.
	overlap = time.Minute
	// sweepEvery is how often what has expired is dropped from the log.
	sweepEvery = time.Minute
)

// Relay passes one source on. It is safe for concurrent use.
type Relay struct {
	source  Source
	options Options
	began   time.Time
	news    chan struct{} // full if there are denials to send

	mu       sync.Mutex
	log      []entry       // in the order of learning; what is in it never changes
	sent     int           // how much of the log the readers have been sent
	until    map[key]int64 // the end of each denial in the log, the latest one
	learned  uint64
	current  [partition.Count]time.Time
	serving  int // streams, those included that have not caught up
	readers  map[*reader]struct{}
	draining bool
}

// entry is a denial in the log. An id that was denied again, for longer, has
// two.
type entry struct {
	key
	until   int64 // Unix seconds
	number  uint64
	learned time.Duration // since the relay began; a wall clock may be set
}

type key struct{ kind, id string }

// reader is a stream that has caught up. Its channel is closed by whoever
// removes it.
type reader struct{ frames chan frame }

// frame is an event as it is sent, and up to which entry it goes.
type frame struct {
	event []byte
	last  uint64
}

// New returns a relay that has nothing to pass on until [Relay.Run].
func New(s Source, o Options) *Relay {
	o.MaxReaders = cmp.Or(o.MaxReaders, 10_000)
	o.Lifetime = cmp.Or(o.Lifetime, 15*time.Minute)
	if o.Trouble == nil {
		o.Trouble = func(error) {}
	}
	return &Relay{
		source: s, options: o, began: time.Now(),
		news:    make(chan struct{}, 1),
		until:   map[key]int64{},
		readers: map[*reader]struct{}{},
	}
}

// Run follows the source until ctx ends, and then ends all streams.
func (r *Relay) Run(ctx context.Context) {
	defer r.Drain()
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { r.source.Follow(ctx, r.learn, r.confirm, r.options.Trouble) })

	tick, sweep := time.NewTicker(frameEvery), time.NewTicker(sweepEvery)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			r.sweep(r.now())
			continue
		case <-tick.C:
		case <-r.news:
			time.Sleep(batch)
		}
		r.send()
	}
}

// Drain ends all streams and begins no more.
func (r *Relay) Drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for reader := range r.readers {
		r.remove(reader)
	}
}

// Readers returns how many streams there are.
func (r *Relay) Readers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.serving
}

// Len returns how many ids are denied.
func (r *Relay) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.until)
}

func (r *Relay) learn(kind, id string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := key{kind, id}
	if last, known := r.until[k]; known && last >= until.Unix() {
		return
	}
	r.learned++
	r.until[k] = until.Unix()
	r.log = append(r.log, entry{k, until.Unix(), r.learned, time.Since(r.began)})
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *Relay) confirm(p int, age time.Duration) {
	if p < 0 || p >= partition.Count || age < 0 {
		return
	}
	at := time.Now().Add(-age)
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.After(r.current[p]) {
		r.current[p] = at
	}
}

// state says how old the relay's knowledge is. The mark is a moment up to which
// everything has been passed on, zero if there is none. The lock is held.
func (r *Relay) state() (f wire.Frame, mark time.Time) {
	now := time.Now()
	f.Clock = now.Sub(r.began).Milliseconds()
	mark = now
	for p, at := range r.current {
		if at.IsZero() {
			f.Ages[p] = wire.Unknown
			mark = time.Time{}
			continue
		}
		// Rounded up, and by both clocks: one stands still while the machine is
		// suspended, the other can be set back.
		age := max(now.Sub(at), now.Round(0).Sub(at.Round(0)))
		f.Ages[p] = age.Milliseconds() + 1
		if !mark.IsZero() && now.Add(-age).Before(mark) {
			mark = now.Add(-age)
		}
	}
	return f, mark
}

// send makes one frame, or several if much is new, and gives it to all readers.
func (r *Relay) send() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		f, mark := r.state()
		news := r.log[r.sent:]
		more := len(news) > wire.MaxDenials
		if more {
			news = news[:wire.MaxDenials]
			incomplete(&f, &mark)
		}
		r.sent += len(news)
		if len(r.readers) > 0 {
			next := frame{encode(&f, mark, news), r.lastSent()}
			for reader := range r.readers {
				select {
				case reader.frames <- next:
				default: // too slow: it has to catch up
					r.remove(reader)
				}
			}
		}
		if !more {
			return
		}
	}
}

// lastSent is the number of the last entry that the readers have been sent. The
// lock is held.
func (r *Relay) lastSent() uint64 {
	if r.sent == 0 {
		return 0
	}
	return r.log[r.sent-1].number
}

// incomplete makes a frame claim nothing: more follows.
func incomplete(f *wire.Frame, mark *time.Time) {
	for p := range f.Ages {
		f.Ages[p] = wire.Unknown
	}
	*mark = time.Time{}
}

func encode(f *wire.Frame, mark time.Time, news []entry) []byte {
	f.Denied = make([]wire.Denial, len(news))
	for i, e := range news {
		f.Denied[i] = wire.Denial{Kind: e.kind, ID: e.id, Until: e.until}
	}
	event, err := wire.Event(f, mark)
	if err != nil {
		panic(err) // it consists of numbers and strings
	}
	return event
}

// remove ends a stream. The lock is held.
func (r *Relay) remove(reader *reader) {
	if _, there := r.readers[reader]; there {
		delete(r.readers, reader)
		close(reader.frames)
	}
}

// now is the time by which denials expire. A wall clock that leaps ahead by
// mistake and back again must not make the relay forget in between.
func (r *Relay) now() time.Time {
	now := time.Now()
	if steady := r.began.Add(now.Sub(r.began)).Round(0); steady.Before(now.Round(0)) {
		return steady
	}
	return now
}

// sweep makes a new log without what has expired, and without what was denied
// again for longer.
func (r *Relay) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var kept []entry
	sent := 0
	for i, e := range r.log {
		if e.until <= now.Unix() {
			if r.until[e.key] == e.until {
				delete(r.until, e.key)
			}
			continue
		}
		if e.until < r.until[e.key] {
			continue
		}
		kept = append(kept, e)
		if i < r.sent {
			sent++
		}
	}
	r.log, r.sent = kept, sent
}
