package faults_test

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// This file is what a session should do, as its clients see it over HTTP. It is
// written from docs/rotation.md and docs/security.md. A history is checked
// session by session: nothing that happens to one depends on another, but for
// what happens to the whole of Redis, which is in the history of each.

// retryWindow is that of all clients here.
const retryWindow = 2 * time.Second

const keysKept = 4

// request is what was asked, or what happened to Redis.
type request struct {
	op         operation
	generation uint32 // of the token presented
	key        string // unlike that of any other request, except its retries
	keySent    bool
	// From and until are when the request was under way, in milliseconds by the
	// clock of Redis: it may step, so they are not those of the test.
	from, until int64
}

type operation string

const (
	login   operation = "login"
	refresh operation = "refresh"
	logout  operation = "logout" // in any of its forms
	list    operation = "list"   // the user's sessions

	// What happens to the session's Redis.
	save    operation = "save"    // the state that will come back
	restore operation = "restore" // it has come back
	assert  operation = "assert"  // ended sessions are ended once more, perhaps
	split   operation = "split"   // the primary with the state before has come back too
	heal    operation = "heal"    // and has been told that it is none
)

// answer is what the client was told.
type answer struct {
	known      bool   // false: nothing, or that there is trouble
	generation uint32 // of the token granted
	refusal    string // the error, with its reason; for list "absent"; trouble if not known
}

const (
	expired = "invalid_grant expired"
	ended   = "invalid_grant ended"
	reused  = "invalid_grant reused"
	late    = "invalid_grant"
	often   = "slow_down"
	absent  = "absent"
	trouble = "503"
)

// session is all that a session's answers depend on.
type session struct {
	exists bool
	over   string // "", ended or reused
	// overUntil is when the request that ended it was answered.
	overUntil  int64
	generation uint32
	keys       [keysKept]string // of the last rotations, the newest first
	// When the last rotation was, at the earliest and the latest.
	rotatedFrom, rotatedUntil int64
}

// world is a session, and the state that may come back.
type world struct {
	now, saved session
	endTried   bool // somebody has asked to end it
	// While there are two primaries, other is what the one knows that will be
	// forgotten.
	two   bool
	other session
}

// result is one way that a request can go.
type result struct {
	session session
	refusal string // "" for a grant of the session's generation
}

// rotate returns all ways in which a refresh can go: the clocks say only
// roughly how old the last rotation is.
func (s session) rotate(q request) []result {
	refused := func(why string) result { return result{s, why} }
	switch {
	case !s.exists:
		return []result{refused(expired)}
	case s.over == ended && q.from <= s.overUntil:
		// That a spent token was presented is found out first, and ends the session
		// then. Somebody else may have ended it in between.
		return []result{refused(ended), refused(reused)}
	case s.over != "":
		return []result{refused(s.over)}
	}
	d := int64(q.generation) - int64(s.generation)
	switch {
	case d >= 0:
		s.generation = q.generation + 1
		s.keys = [keysKept]string{q.key, s.keys[0], s.keys[1], s.keys[2]}
		s.rotatedFrom, s.rotatedUntil = q.from, q.until
		return []result{{session: s}}
	case d == -1 && q.key == s.keys[0]:
		return []result{{session: s}}
	}

	var all []result
	// Age is by whole milliseconds, rounded down twice.
	least, most := minus(q.from, s.rotatedUntil)-1, minus(q.until, s.rotatedFrom)+1
	if d == -1 {
		window := retryWindow.Milliseconds()
		if !q.keySent && most >= 0 && least < window {
			all = append(all, result{session: s}, refused(often))
		}
		if least < 0 {
			// 503 is also an answer, but one that is not recorded as such.
			all = append(all, refused("nothing"))
		}
		if most < 0 || !q.keySent && least >= 0 && most < window {
			return all
		}
	}
	if slices.Contains(s.keys[:], q.key) {
		return append(all, refused(late))
	}
	s.over, s.overUntil = reused, q.until
	return append(all, result{s, reused})
}

// minus is a-b, where the largest number means that nothing is known.
func minus(a, b int64) int64 {
	switch {
	case b == math.MaxInt64:
		return math.MinInt64 / 2
	case a == math.MaxInt64:
		return math.MaxInt64 / 2
	}
	return a - b
}

func (w world) step(q request, a answer) []any {
	if w.two && slices.Contains([]operation{login, refresh, logout, list}, q.op) {
		// Either may be asked.
		after := w.alone(q, a)
		w.now, w.other = w.other, w.now
		for _, state := range w.alone(q, a) {
			next := state.(world)
			next.now, next.other = next.other, next.now
			after = append(after, next)
		}
		return after
	}
	return w.alone(q, a)
}

// alone is step as the one primary takes it that is now.
func (w world) alone(q request, a answer) []any {
	switch q.op {
	case login:
		w.now = session{exists: true, rotatedFrom: q.from, rotatedUntil: q.until}
		return []any{w}

	case refresh:
		var after []any
		if !a.known {
			after = append(after, w)
		}
		for _, r := range w.now.rotate(q) {
			fits := r.refusal == a.refusal && (a.refusal != "" || r.session.generation == a.generation)
			if !a.known || fits {
				next := w
				next.now = r.session
				// An end that a replay has brought about is asserted like any other.
				next.endTried = w.endTried || r.refusal == reused
				after = append(after, next)
			}
		}
		return after

	case logout:
		w.endTried = true
		before := w
		w.now = w.now.end(q)
		if !a.known {
			return []any{before, w}
		}
		return []any{w}

	case list:
		if a.known && (a.refusal == absent) != (!w.now.exists || w.now.over != "") {
			return nil
		}
		return []any{w}

	case save:
		w.saved = w.now
		return []any{w}

	case restore:
		kept := w
		kept.now = w.saved
		// What was ended may stay so, or be ended again soon, by an instance that
		// knew of it or a replica that had heard of it.
		if w.now.over != "" {
			again := kept
			again.now.over, again.now.overUntil = w.now.over, w.now.overUntil
			return []any{kept, again}
		}
		return []any{kept}

	case split:
		w.two, w.other = true, w.saved
		return []any{w}

	case heal:
		w.two, w.other = false, session{}
		return []any{w}

	case assert:
		again := w
		if w.endTried {
			again.now = w.now.end(q)
		}
		return []any{w, again}
	}
	panic("no such operation: " + string(q.op))
}

func (s session) end(q request) session {
	if s.exists && s.over == "" {
		s.over, s.overUntil = ended, q.until
	}
	return s
}

// model is what porcupine is given, for the history of one session.
var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{world{}} },
	Step: func(state, input, output any) []any {
		return state.(world).step(input.(request), output.(answer))
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v -> %v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state.(world).now) },
}).ToModel()

func (q request) String() string {
	if q.op != refresh {
		return string(q.op)
	}
	text := fmt.Sprintf("%s generation %d, key %s", q.op, q.generation, q.key)
	if !q.keySent {
		text += " (the service's)"
	}
	return text
}

func (a answer) String() string {
	switch {
	case !a.known && a.refusal == "":
		return "unknown"
	case a.refusal != "":
		return a.refusal
	}
	return fmt.Sprintf("generation %d", a.generation)
}
