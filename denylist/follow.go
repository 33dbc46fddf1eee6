package denylist

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/script"
)

const (
	pollEvery = 200 * time.Millisecond

	// page is how many lines of each partition are read at once. If all have as
	// many, Redis does nothing else for some milliseconds.
	page = 1000

	// ahead is how far a beat may lie in the future of the server that it is
	// read from: a replica's clock, or one that was just set back a little.
	ahead = 500 * time.Millisecond

	// silence is how long there may be no new beat before that is reported.
	silence = 2 * time.Second
)

// ErrHistory is wrapped by the trouble that [List.Follow] reports when the last
// line it has read is gone, or is another one: after a failover that lost
// denials, on a snapshot, after FLUSHALL. The feed is then read again from its
// beginning. It is reported each time.
var ErrHistory = errors.New("the feed's history changed, read again")

var (
	errLine   = errors.New("lines of the feed cannot be understood")
	errSilent = errors.New("no new beats: nobody is writing them, or this Redis is no longer the one they are written to")
)

// Follow reports what is denied, now and from now on, until ctx ends; it
// satisfies verify.Source. It calls the functions from several goroutines.
//
// denied is told of each line of the feed: an id of a kind, and until when it is
// denied. After a start or a change of history that is everything of the last
// hour; the same may come several times.
//
// current is told that everything that was denied in a partition until age ago
// has been given to denied. It rests on a new beat (see [List.Beat]): a Redis
// that answers but is written to no more, such as a primary that was deposed
// unawares, is not current. On a replica, age has the replica's lag in it, as
// far as the servers' clocks agree.
//
// trouble is told what goes wrong, the same in a partition not more than once in
// ten seconds, except for [ErrHistory]. There is nothing to do about it here:
// while a partition is in trouble it is not current.
//
// The client must heed the deadlines of contexts (ContextTimeoutEnabled).
func (l *List) Follow(ctx context.Context,
	denied func(kind, id string, until time.Time),
	current func(partition int, age time.Duration),
	trouble func(error),
) {
	l.Observe(ctx, Observer{
		Denied:  func(d Denial) { denied(string(d.Kind), d.ID, d.Until) },
		Current: current,
		Doubt:   func(int) {},
		Trouble: trouble,
	})
}

// Observer is told what [List.Observe] learns. The functions are called from
// several goroutines; all are needed.
type Observer struct {
	// Denied, Current and Trouble are those of [List.Follow].
	Denied  func(Denial)
	Current func(partition int, age time.Duration)
	Trouble func(error)

	// Doubt is told that the Redis of a partition answers, and that it may be
	// another one than before, or may have forgotten something: it answers for
	// the first time after an error or a silence, or the feed's history changed.
	Doubt func(partition int)
}

// Observe is [List.Follow] for those who want to know more.
func (l *List) Observe(ctx context.Context, o Observer) {
	var followers [partition.Count]*follower
	for p := range followers {
		followers[p] = &follower{
			list: l, partition: partition.ID(p),
			denied: func(kind, id string, until time.Time) {
				o.Denied(Denial{p, Kind(kind), id, until})
			},
			current: func(age time.Duration) { o.Current(p, age) },
			doubt:   func() { o.Doubt(p) },
			trouble: troubleOf(partition.ID(p), o.Trouble),
			heard:   time.Now(),
		}
	}
	l.rounds(ctx, pollEvery, func(ctx context.Context, node redis.UniversalClient, there []partition.ID) {
		var asking []*follower
		for _, p := range there {
			asking = append(asking, followers[p])
		}
		// While one partition has much to read, the others stay up to date.
		for more := true; more && ctx.Err() == nil; {
			more = poll(ctx, node, asking)
		}
	}, func(p partition.ID, err error) { followers[p].failed(ctx, err) })
}

// A follower reads the feed of one partition.
type follower struct {
	list      *List
	partition partition.ID
	denied    func(kind, id string, until time.Time)
	current   func(age time.Duration)
	doubt     func()
	trouble   *trouble

	failing bool // the last poll failed

	last  redis.XMessage // the last line that was read; no id: none yet
	beat  string         // the last beat that was read
	heard time.Time      // when that was new
}

// answer is what a server says to one follower.
type answer struct {
	beat *redis.StringCmd
	feed *redis.XMessageSliceCmd
}

// poll lets followers of partitions on one server read a page each. It reports
// whether there is more to read at once.
func poll(ctx context.Context, node redis.UniversalClient, followers []*follower) (more bool) {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := time.Now()
	var clock *redis.TimeCmd
	answers := make([]answer, len(followers))
	err := script.Ask(limited, node, func(pipe redis.Pipeliner) {
		clock = pipe.Time(limited)
		for i, f := range followers {
			answers[i] = f.ask(limited, pipe)
		}
	})
	err = cmp.Or(err, clock.Err())
	for i, f := range followers {
		unread, err := false, err
		if err == nil {
			unread, err = f.take(answers[i], sent, clock.Val())
		}
		switch {
		case err != nil:
			f.failed(ctx, err)
		case f.failing:
			f.failing = false
			f.doubt()
		}
		more = more || unread
	}
	return more
}

func (f *follower) failed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.failing = true
		f.trouble.report(fmt.Errorf("follow the feed: %w", err))
		f.list.reload(ctx)
	}
}

// ask asks for the beat first: what was denied before it is then in the range.
//
// The range begins with the last line of the page before. Ids only grow in a
// stream: as long as this very line is there, nothing was put in before it,
// whatever clocks and failovers did. So an error need not start the reading
// anew.
func (f *follower) ask(ctx context.Context, pipe redis.Pipeliner) answer {
	return answer{
		beat: pipe.Get(ctx, f.list.keys.Beat(f.partition)),
		feed: pipe.XRangeN(ctx, f.list.keys.Feed(f.partition), cmp.Or(f.last.ID, "-"), "+", page),
	}
}

// take reports whether there is more to read at once.
func (f *follower) take(a answer, sent, clock time.Time) (more bool, err error) {
	if err := a.beat.Err(); err != nil && !errors.Is(err, redis.Nil) {
		return false, err
	}
	if err := a.feed.Err(); err != nil {
		return false, err
	}
	beat, lines := a.beat.Val(), a.feed.Val()
	full := len(lines) == page

	// The first beat is not known to be new: after a clock was set back, one that
	// nobody has followed up for long can look young.
	if f.beat == "" {
		f.beat = beat
	}
	if f.last.ID != "" {
		if len(lines) == 0 || !same(lines[0], f.last) {
			if !outlived(f.last.ID, clock) {
				f.trouble.report(ErrHistory)
				f.doubt()
			}
			f.last = redis.XMessage{}
			return true, nil
		}
		lines = lines[1:]
	}
	bad, lastBad := 0, ""
	for _, line := range lines {
		if !f.read(line) {
			bad, lastBad = bad+1, line.ID
		}
		f.last = line
	}
	switch {
	case bad > 0:
		return false, fmt.Errorf("%w: %d, the last is %s", errLine, bad, lastBad)
	case full:
		return true, nil
	}
	return false, f.listen(beat, sent, clock)
}

// read reports whether the line was understood. If it says whom it denies but
// not until when, that is denied for as long as anything can be.
func (f *follower) read(line redis.XMessage) bool {
	kind, _ := line.Values["kind"].(string)
	id, _ := line.Values["id"].(string)
	exp, _ := line.Values["exp"].(string)
	if kind == "" || id == "" {
		return false
	}
	// The script counts in floating point, which is exact up to 53 bits.
	until, err := strconv.ParseUint(exp, 10, 53)
	if err != nil {
		f.denied(kind, id, time.Now().Add(keyTerm+grace))
		return false
	}
	f.denied(kind, id, time.Unix(int64(until), 0))
	return true
}

// listen reports that the partition is current if the beat is a new one.
func (f *follower) listen(beat string, sent, clock time.Time) error {
	if beat == "" || beat == f.beat {
		if elapsed(f.heard) > silence {
			return errSilent
		}
		return nil
	}
	ms, err := strconv.ParseUint(beat, 10, 53)
	if err != nil {
		return errors.New("the beat is not a time")
	}
	f.beat, f.heard = beat, time.Now()
	behind := clock.Sub(time.UnixMilli(int64(ms)))
	if behind < -ahead {
		return fmt.Errorf("the beat is %v ahead of the clock of the Redis it was read from", -behind)
	}
	f.current(elapsed(sent) + max(0, behind))
	return nil
}

// outlived reports whether a line is so old that its feed has expired or was
// trimmed in the ordinary course.
func outlived(id string, now time.Time) bool {
	ms, _, _ := strings.Cut(id, "-")
	at, err := strconv.ParseInt(ms, 10, 64)
	return err == nil && now.Sub(time.UnixMilli(at)) > horizon-time.Second
}

func same(a, b redis.XMessage) bool { return a.ID == b.ID && maps.Equal(a.Values, b.Values) }

// elapsed is the time since t. The monotonic clock stands still while a machine
// is suspended, the wall clock can be set back: the longer one counts.
func elapsed(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}
