package faults_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A life is one session and everything that was asked about it. Its owner and
// a thief may use it at the same time.
type life struct {
	record *record
	name   string // lane and number, from which everything at random follows
	sid    string
	sub    string
	client string
	// partition is the tag, by which a Cluster decides where it lies.
	partition string

	mu     sync.Mutex
	owner  *owner
	events []event
	// access tokens, the newest last.
	access    []string
	refreshed time.Time
	// granted is what came for each token that was presented.
	granted map[string]map[string]bool
	// The login was asked for and answered at these times.
	asked, begun time.Time
	// robbed: somebody has a copy of a token. excused: its owner has left the
	// rules that the promises are made under.
	robbed, excused bool
	// endAsked is when somebody first asked to end it, endTold when that was first
	// known to be done, by a request that was sent at endSent.
	endAsked, endSent, endTold time.Time
	// endWithAll: that was a request to end all sessions of the user. One that
	// Redis has forgotten is not among them, and its access tokens stay good.
	endWithAll bool
	// loggedOut is the refusal that its owner got.
	loggedOut   string
	loggedOutAt time.Time
	refusals    []refusal // of its access tokens
	// delayed: its owner was told in the end that it has to wait until the clock of
	// Redis is where it was.
	delayed bool
	// lost is how an ended session was found to be alive.
	lost string
}

type event struct {
	request
	answer
	call, back time.Time // back is zero if no answer came
}

// record is all lives of one run, and what happened to Redis.
type record struct {
	began time.Time

	mu       sync.Mutex
	lives    []*life
	ends     []*endOfAll
	losses   []loss
	steps    []step
	problems []string
	count    map[string]int
}

// A loss is that Redis has come back in an older state.
type loss struct {
	// The state that came back is one between savedFrom and savedUntil; from some
	// moment between backFrom and backUntil on it is the state that counts.
	savedFrom, savedUntil, backFrom, backUntil time.Time
	// From splitFrom on the primary that had gone is there again and does not know
	// that it is deposed; by splitUntil it knows. What it has answered is lost.
	splitFrom, splitUntil time.Time
	// where tells which partitions are concerned; nil means all.
	where func(partition string) bool
}

// A step is that the clock of Redis was moved, between two moments.
type step struct {
	from, until time.Time
	by          time.Duration
}

func newRecord() *record { return &record{began: time.Now(), count: map[string]int{}} }

func (r *record) problem(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.problems) < 50 {
		r.problems = append(r.problems, fmt.Sprintf("%8.3fs ", time.Since(r.began).Seconds())+fmt.Sprintf(format, args...))
	}
}

func (r *record) note(what string) {
	r.mu.Lock()
	r.count[what]++
	r.mu.Unlock()
}

func (r *record) lost(l loss) {
	r.mu.Lock()
	r.losses = append(r.losses, l)
	r.mu.Unlock()
}

// stepped notes that the clock of Redis is about to be moved. What it returns is
// called when it has been.
func (r *record) stepped(by time.Duration) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, from := len(r.steps), time.Now()
	r.steps = append(r.steps, step{from: from, until: from.Add(time.Hour), by: by})
	return func() {
		r.mu.Lock()
		r.steps[n].until = time.Now().Add(5 * time.Millisecond)
		r.mu.Unlock()
	}
}

func (r *record) all() []*life {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lives)
}

// An endOfAll is one request to end all sessions of a user.
type endOfAll struct {
	sub  string
	call time.Time
	over time.Time // zero while it is under way
}

// endAll notes the request and returns the sessions that it must meet.
func (r *record) endAll(e *endOfAll) []*life {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = append(r.ends, e)
	var of []*life
	for _, l := range r.lives {
		if l.sub == e.sub {
			of = append(of, l)
		}
	}
	return of
}

func (r *record) endedAll(e *endOfAll, over time.Time) {
	r.mu.Lock()
	e.over = over
	r.mu.Unlock()
}

// begun notes a session whose login has just been answered. A request to end all
// of its user's that was under way at the same time may have met it, even if it
// was answered first.
func (r *record) begun(l *life) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lives = append(r.lives, l)
	for _, e := range r.ends {
		if e.sub == l.sub && (e.over.IsZero() || e.over.After(l.asked)) {
			l.mu.Lock()
			if l.endAsked.IsZero() {
				l.endAsked = e.call
			}
			l.mu.Unlock()
			l.add(event{request: request{op: logout}, call: e.call})
		}
	}
}

func (l *life) add(e event) {
	l.mu.Lock()
	l.events = append(l.events, e)
	l.mu.Unlock()
}

// clock returns the time of Redis at a moment: the earliest and the latest that
// it can have been.
func (r *record) clock(at time.Time) (earliest, latest int64) {
	base := at.UnixMilli()
	var before, after time.Duration
	for _, s := range r.steps {
		if !at.Before(s.from) {
			after += s.by
		}
		if !at.Before(s.until) {
			before += s.by
		}
	}
	return base + min(before, after).Milliseconds(), base + max(before, after).Milliseconds()
}

// span returns between which times of Redis a request was under way.
func (r *record) span(call, back time.Time) (from, until int64) {
	from, _ = r.clock(call)
	if back.IsZero() {
		// It may be done at any time. Only a step back makes it be done earlier
		// than it was asked, by that clock.
		for _, s := range r.steps {
			if s.until.After(call) && s.by < 0 {
				from += s.by.Milliseconds()
			}
		}
		return from, math.MaxInt64
	}
	_, until = r.clock(back)
	for _, s := range r.steps {
		if s.from.Before(back) && s.until.After(call) {
			// Where the clock stood last before a step back is later than where it
			// stands now; right after it, earlier than where it stood first.
			back := max(-s.by, 0).Milliseconds()
			from, until = from-back, until+back
		}
	}
	return from, until
}

// elapsed is the most that can have passed by the clock of Redis since a moment.
// It steps ahead, and retry windows close, whatever time it is elsewhere.
func (r *record) elapsed(since time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	passed := time.Since(since)
	for _, s := range r.steps {
		if s.until.After(since) {
			passed += max(s.by, 0)
		}
	}
	return passed
}

func (l *life) within(loss loss) bool { return loss.where == nil || loss.where(l.partition) }

// operations is the history of the life as porcupine wants it.
//
// All attempts of one refresh, with one token and one key, are one operation,
// from the first request to the answer: the script may have run once or several
// times, and which run decides cannot be told apart. If the answer is a refusal
// an earlier run may have rotated all the same, which is then an operation of
// its own; and so it is if Redis has come back older in between.
func (l *life) operations() []porcupine.Operation {
	r := l.record
	l.mu.Lock()
	events := slices.Clone(l.events)
	l.mu.Unlock()
	slices.SortStableFunc(events, func(a, b event) int { return a.call.Compare(b.call) })

	type attempt struct {
		generation uint32
		key        string
	}
	var merged []event
	open := map[attempt]int{}
	for _, e := range events {
		if e.op != refresh {
			merged = append(merged, e)
			continue
		}
		// 429 changes nothing and tells nothing that is not known.
		a := attempt{e.generationAsked(), e.key}
		i, begun := open[a]
		switch {
		case !begun && !e.known:
			open[a] = len(merged)
			merged = append(merged, e)
		case !begun:
			merged = append(merged, e)
			if e.refusal != "" {
				maybe := e
				maybe.answer, maybe.back = answer{}, time.Time{}
				merged = append(merged, maybe)
			}
		case !e.known:
			// Nothing new, unless Redis has come back older meanwhile.
			if l.lossBetween(merged[i].call, e.call) {
				open[a] = len(merged)
				merged = append(merged, e)
			}
		default:
			if e.refusal == "" && !l.lossBetween(merged[i].call, e.back) {
				merged[i].answer, merged[i].back = e.answer, e.back
			} else {
				merged = append(merged, e)
			}
			delete(open, a)
		}
	}

	var ops []porcupine.Operation
	add := func(e event) {
		e.from, e.until = r.span(e.call, e.back)
		back := int64(math.MaxInt64)
		if !e.back.IsZero() {
			back = e.back.Sub(r.began).Nanoseconds()
		}
		ops = append(ops, porcupine.Operation{
			ClientId: len(ops), Input: e.request, Call: e.call.Sub(r.began).Nanoseconds(), Output: e.answer, Return: back,
		})
	}
	for _, e := range merged {
		add(e)
	}
	for _, loss := range r.losses {
		if !l.within(loss) {
			continue
		}
		add(event{request: request{op: save}, answer: answer{known: true}, call: loss.savedFrom, back: loss.savedUntil})
		add(event{request: request{op: restore}, answer: answer{known: true}, call: loss.backFrom, back: loss.backUntil})
		add(event{request: request{op: assert}, call: loss.backFrom})
		if !loss.splitFrom.IsZero() {
			add(event{request: request{op: split}, answer: answer{known: true}, call: loss.splitFrom, back: loss.splitFrom.Add(time.Microsecond)})
			add(event{request: request{op: heal}, answer: answer{known: true}, call: loss.splitUntil, back: loss.splitUntil.Add(time.Microsecond)})
		}
	}
	return ops
}

func (e event) generationAsked() uint32 { return e.request.generation }

func (l *life) lossBetween(a, b time.Time) bool {
	return slices.ContainsFunc(l.record.losses, func(loss loss) bool {
		return l.within(loss) && (loss.backUntil.After(a) && loss.savedFrom.Before(b) || loss.splitUntil.After(a) && loss.splitFrom.Before(b))
	})
}

// check asks porcupine. The question is hard in theory, so it has a limit; a
// history that takes so long is a fault of the test.
func (l *life) check() porcupine.CheckResult {
	result, _ := porcupine.CheckOperationsVerbose(model, l.operations(), 20*time.Second)
	return result
}

// attempts is every request about the session as it was sent. The caller holds
// the lock.
func (l *life) attempts() string {
	var text strings.Builder
	fmt.Fprintf(&text, "session %s (%s, client %s, robbed %t), request by request:\n", l.sid, l.name, l.client, l.robbed)
	for _, e := range l.events {
		back := "         -"
		if !e.back.IsZero() {
			back = fmt.Sprintf("%10.3f", float64(e.back.Sub(l.record.began).Microseconds())/1e3)
		}
		fmt.Fprintf(&text, "  %10.3f %s  %v -> %v\n", float64(e.call.Sub(l.record.began).Microseconds())/1e3, back, e.request, e.answer)
	}
	return text.String()
}

func (l *life) explain() string {
	ops := l.operations()
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call/1000 - b.Call/1000) })
	var text strings.Builder
	fmt.Fprintf(&text, "session %s (%s, client %s, robbed %t):\n", l.sid, l.name, l.client, l.robbed)
	for _, op := range ops {
		back := "          "
		if op.Return != math.MaxInt64 {
			back = fmt.Sprintf("%10.3f", float64(op.Return)/1e6)
		}
		fmt.Fprintf(&text, "  %10.3f %s  %s\n", float64(op.Call)/1e6, back, model.DescribeOperation(op.Input, op.Output))
	}
	return text.String()
}
