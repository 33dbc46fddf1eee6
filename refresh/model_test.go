package refresh_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/authapi/authapi/refresh"
)

// This file is what a session should do, written from the table of rotations
// (docs/rotation.md) and from nothing else. The histories of history_test.go
// are checked against it.
//
// Its time is in whole minutes, and every limit lies half a minute after one.
// So the seconds that a test takes on a server whose clock runs decide nothing.

const (
	windowMinutes    = 5
	idleMinutes      = 90
	absoluteMinutes  = 600
	tombstoneMinutes = 24 * 60 // exactly: the store's own, which no policy can move

	retryKeysKept  = 4
	repeatsAllowed = 8
)

const (
	bodyClient   = "app"
	cookieClient = "spa"
)

func modelPolicy(client string) (refresh.Policy, bool) {
	p := refresh.Policy{
		Transport: refresh.Body,
		Window:    windowMinutes*time.Minute + 30*time.Second,
		Idle:      idleMinutes*time.Minute + 30*time.Second,
		Absolute:  absoluteMinutes*time.Minute + 30*time.Second,
		Access:    5 * time.Minute,
		Sessions:  5,
	}
	if client == cookieClient {
		p.Transport = refresh.Cookie
	}
	return p, client == bodyClient || client == cookieClient
}

// A request is what happens to a session.
type request struct {
	op     operation
	sid    string
	minute int // by the server's clock

	// For rotate.
	generation  uint32
	key         string // unlike that of any other request, except its retries
	keySent     bool
	cookie      bool // also for create
	wrongClient bool

	why   refresh.Reason // for end
	roles string         // for create and setRoles
}

type operation string

const (
	create   operation = "create"
	rotate   operation = "rotate"
	end      operation = "end"
	setRoles operation = "set roles"
	read     operation = "read"

	// What happens to the server.
	tick    operation = "tick"    // time has passed, or gone back
	save    operation = "save"    // a snapshot is taken
	restore operation = "restore" // and comes back
)

// An answer is what the one who asked is told. For a grant the refusal is nil.
type answer struct {
	refusal    error
	repeated   bool
	generation uint32 // of the token granted
	ahead      uint32
	roles      string
}

// errReuse is the verdict that a spent token was presented. It changes nothing
// by itself: ending the session is a second step, and others may come between.
var errReuse = errors.New("reuse")

// An outcome is what is known of a request.
type outcome struct {
	answer
	known certainty
}

type certainty int

const (
	answered  certainty = iota
	unheard             // it was done, but the answer was lost
	undecided           // it was done, or not
)

// A session is all that its rotations depend on.
type session struct {
	exists     bool
	created    int // minute
	ended      refresh.Reason
	at         int // minute of the last rotation, or of the end
	generation uint32
	keys       [retryKeysKept]string // of the last rotations, the newest first
	repeats    int
	cookie     bool
	roles      string
}

func (s session) rotate(q request) (session, answer) {
	refused := func(why error) (session, answer) { return s, answer{refusal: why} }
	granted := func(a answer) answer {
		a.generation, a.roles = s.generation, s.roles
		return a
	}

	switch {
	case !s.exists:
		return refused(refresh.ErrExpired)
	case s.ended == refresh.Reused:
		return refused(refresh.ErrReused)
	case s.ended != "":
		return refused(refresh.ErrEnded)
	case q.wrongClient || q.cookie != s.cookie:
		return refused(refresh.ErrClient)
	}

	d := int64(q.generation) - int64(s.generation)
	age := q.minute - s.at
	windowOpen := age >= 0 && age <= windowMinutes
	switch {
	case d == 0 && s.cookie && windowOpen:
		return s, granted(answer{repeated: true})

	case d >= 0:
		s.generation = q.generation + 1
		s.at = q.minute
		s.keys = [retryKeysKept]string{q.key, s.keys[0], s.keys[1], s.keys[2]}
		s.repeats = 0
		return s, granted(answer{ahead: uint32(d)})

	case d == -1 && q.key == s.keys[0]:
		return s, granted(answer{repeated: true})

	case d == -1 && windowOpen && (s.cookie || !q.keySent):
		if s.repeats == repeatsAllowed {
			return refused(refresh.ErrOften)
		}
		s.repeats++
		return s, granted(answer{repeated: true})

	case d == -1 && age < 0:
		return refused(refresh.ErrClock)
	}
	for _, key := range s.keys {
		if key == q.key {
			return refused(refresh.ErrLate)
		}
	}
	return refused(errReuse)
}

func (s session) end(q request) session {
	if !s.exists || s.ended != "" {
		return s
	}
	return session{exists: true, ended: q.why, at: q.minute}
}

// expire forgets the session if its time is over. A clock that steps back
// afterwards does not bring it back.
func (s session) expire(minute int) session {
	over := minute-s.at > idleMinutes || minute-s.created > absoluteMinutes
	if s.ended != "" {
		over = minute-s.at >= tombstoneMinutes
	}
	if over {
		return session{}
	}
	return s
}

func (s session) read() answer {
	switch {
	case !s.exists:
		return answer{refusal: refresh.ErrExpired}
	case s.ended != "":
		return answer{refusal: refresh.ErrEnded}
	}
	return answer{generation: s.generation, roles: s.roles}
}

// A world is a session and the snapshot that its server may come back with.
type world struct{ now, saved session }

func (w world) step(q request) (world, answer) {
	var a answer
	switch q.op {
	case create:
		w.now = session{exists: true, created: q.minute, at: q.minute, cookie: q.cookie, roles: q.roles}
	case rotate:
		w.now, a = w.now.rotate(q)
	case end:
		w.now = w.now.end(q)
	case setRoles:
		if w.now.exists && w.now.ended == "" {
			w.now.roles = q.roles
		}
	case read:
		a = w.now.read()
	case tick:
		w.now = w.now.expire(q.minute)
	case save:
		w.saved = w.now
	case restore:
		w.now = w.saved.expire(q.minute)
	}
	return w, a
}

// sessionModel is the model as porcupine wants it: one partition a session,
// and every state that may follow.
var sessionModel = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var parts [][]porcupine.Operation
		place := map[string]int{}
		for _, op := range history {
			sid := op.Input.(request).sid
			i, known := place[sid]
			if !known {
				i = len(parts)
				place[sid] = i
				parts = append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() []any { return []any{world{}} },
	Step: func(state, input, output any) []any {
		before, seen := state.(world), output.(outcome)
		after, want := before.step(input.(request))
		switch {
		case seen.known == undecided:
			return []any{before, after}
		case seen.known == answered && seen.answer != want:
			return nil
		}
		return []any{after}
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%v -> %v", input, output)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state.(world).now) },
}).ToModel()

func (q request) String() string {
	text := fmt.Sprintf("%s at %d min", q.op, q.minute)
	switch q.op {
	case rotate:
		text += fmt.Sprintf(": generation %d, key %s", q.generation, q.key)
		if !q.keySent {
			text += " (the service's)"
		}
		if q.cookie {
			text += ", cookie"
		}
		if q.wrongClient {
			text += ", wrong client"
		}
	case end:
		text += ": " + string(q.why)
	case create, setRoles:
		text += ": " + q.roles
	}
	return text
}

func (o outcome) String() string {
	switch {
	case o.known == unheard:
		return "answer lost"
	case o.known == undecided:
		return "perhaps"
	case o.refusal != nil:
		return o.refusal.Error()
	case o.answer == answer{}:
		return "done"
	}
	text := fmt.Sprintf("generation %d, roles %s", o.generation, o.roles)
	if o.repeated {
		text += ", repeated"
	}
	if o.ahead > 0 {
		text += fmt.Sprintf(", ahead by %d", o.ahead)
	}
	return text
}
