package faults_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A verdict is what became of the promises in one run: a line of the table.
type verdict struct {
	row  string
	seed uint64

	operations int
	sessions   int
	thefts     int
	// Of honest owners: logged out for nothing, and for a reason that the
	// documents name: Redis came back older than their session is, or its clock
	// went back and they could not say that they asked again.
	logouts, forgotten int
	// Answered revocations, those that were lost against the promise, and those
	// that were lost as the documents say.
	revocations, lost, lostByDesign int
	forks                           int
	accepted, acceptedByDesign      int
	// late counts sessions whose owners sent no key, and whose requests were under
	// way for longer than the retry window.
	late int
	// undecided counts sessions for which porcupine ran out of time.
	undecided int
	recovery  time.Duration
	slowest   time.Duration
	problems  []string
}

// afterwards asks once more about every session when the fault is over: those
// that live must be able to go on, and those that have ended must not.
func (d *deployment) afterwards() {
	lives := d.record.all()
	// Those whose end may have been lost come first.
	slices.SortStableFunc(lives, func(a, b *life) int { return rank(a) - rank(b) })
	lives = lives[:min(len(lives), 2000)]
	next := make(chan *life)
	var workers sync.WaitGroup
	for worker := range 8 {
		workers.Go(func() {
			rnd := rand.New(rand.NewPCG(d.seed, 1<<40+uint64(worker)))
			for l := range next {
				d.lookAgain(l, rnd)
			}
		})
	}
	for _, l := range lives {
		next <- l
	}
	close(next)
	workers.Wait()
}

func rank(l *life) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.endTold.IsZero() && l.atRisk(l.endSent, l.endTold) {
		return 0
	}
	return 1
}

func (d *deployment) lookAgain(l *life, rnd *rand.Rand) {
	l.mu.Lock()
	o, over, access := l.owner, l.loggedOut != "", l.access[len(l.access)-1]
	told := l.endTold
	l.mu.Unlock()
	if o == nil { // a probe
		return
	}
	var r reply
	err := errors.New("not asked")
	for n := 0; n < 20 && (err != nil || r.status == http.StatusServiceUnavailable); n++ {
		r, err = d.ask(d.anyInstance(rnd), http.MethodGet, "/me", "", bearer(access))
	}
	switch {
	case err != nil:
		d.record.problem("GET /me after it all: %v", err)
	case r.status == http.StatusOK && !told.IsZero():
		l.mu.Lock()
		l.lost = "GET /me accepts its access token"
		l.mu.Unlock()
	case r.status == http.StatusUnauthorized:
		l.refusedAccess("GET /me", r.About)
	case r.status != http.StatusOK:
		d.record.problem("GET /me after it all: %d %s", r.status, r.Error)
	}
	if over {
		return
	}
	key, sent := o.key, true
	if key == "" {
		key = l.name + "-last"
	}
	if o.keyless {
		key, sent = l.name+"-last", false
	}
	var a answer
	for range 20 {
		_, a = d.present(l, rnd, o.token, key, sent)
		if o.tooLate() {
			l.excuse()
		}
		if !a.known || a.refusal == often {
			time.Sleep(100 * time.Millisecond)
			if !sent {
				key += "+"
			}
			continue
		}
		if a.refusal != "" {
			l.mu.Lock()
			l.loggedOut, l.loggedOutAt = a.refusal, time.Now()
			l.mu.Unlock()
		}
		return
	}
	if a.refusal == trouble && o.spentAhead() {
		l.mu.Lock()
		l.delayed = true
		l.mu.Unlock()
		return
	}
	d.record.problem("session %s gets no answer after it all", l.sid)
}

// spentAhead reports whether the owner's token may have been spent, with another
// key than the owner has, at a time that is still to come since the clock of Redis
// went back: then 503 is the answer until the clock is there (docs/rotation.md).
func (o *owner) spentAhead() bool {
	l := o.l
	l.mu.Lock()
	defer l.mu.Unlock()
	generation, err := generationOf(o.token)
	if err != nil || !o.keyless && !l.robbed {
		return false
	}
	return slices.ContainsFunc(l.record.steps, func(s step) bool {
		return time.Now().Before(s.until.Add(-s.by)) && slices.ContainsFunc(l.events, func(e event) bool {
			granted := e.known && e.refusal == ""
			return e.op == refresh && e.generationAsked() >= generation && (granted || !e.known) && e.call.Before(s.until)
		})
	})
}

// atRisk reports whether what was asked and told at these moments may have been
// lost when Redis came back older. The caller holds the lock of the life.
func (l *life) atRisk(asked, told time.Time) bool {
	return slices.ContainsFunc(l.record.losses, func(loss loss) bool {
		return l.within(loss) && (told.After(loss.savedFrom) && asked.Before(loss.backUntil) ||
			told.After(loss.splitFrom) && asked.Before(loss.splitUntil))
	})
}

// byDeposed reports whether a refusal may come from a primary that had been
// deposed and did not know it: there, a session that is newer is not.
func (l *life) byDeposed(told time.Time) bool {
	return slices.ContainsFunc(l.record.losses, func(loss loss) bool {
		return told.After(loss.splitFrom) && told.Before(loss.splitUntil)
	})
}

// unfound reports whether the end cannot have met the session: Redis had
// forgotten it, and it was one of all.
func (l *life) unfound() bool { return l.endWithAll && l.atRisk(l.asked, l.begun) }

// outlived reports whether the clock of Redis was so far ahead after the end
// that the denial of the access tokens has expired too early (docs/security.md).
// The session's tombstone lies for longer, and who ends it again changes nothing.
func (l *life) outlived() bool {
	first := l.endAsked
	for _, e := range l.events {
		if (e.refusal == reused || e.refusal == ended) && e.call.Before(first) {
			first = e.call
		}
	}
	return slices.ContainsFunc(l.record.steps, func(s step) bool {
		return s.by >= 5*time.Minute && first.Before(s.until.Add(*faultTime+time.Second))
	})
}

// verdict judges the record when nothing happens any more.
func (d *deployment) verdict(row row) *verdict {
	v := &verdict{row: row.name, seed: d.seed, slowest: d.slowest}
	r := d.record
	for _, n := range []string{"login", "refresh", "logout", "list"} {
		v.operations += r.count[n]
	}
	v.thefts = r.count["theft"]
	v.sessions = len(r.lives)
	kept := row.replicas > 0 // revocations, though sessions may be lost
	for _, l := range r.lives {
		v.judge(d, l, kept)
	}
	v.search(r.lives)
	// With this many requests whose outcome nobody knows, all orders cannot be tried.
	if v.undecided > max(6, len(r.lives)/8) {
		v.problems = append(v.problems, fmt.Sprintf("porcupine could not decide %d of %d sessions", v.undecided, len(r.lives)))
	}
	v.problems = append(v.problems, r.problems...)
	return v
}

func (v *verdict) judge(d *deployment, l *life, kept bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	bad := func(format string, args ...any) {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
	if l.excused && !l.robbed && l.loggedOut == reused {
		v.late++
	}
	if l.delayed && !l.robbed && l.endAsked.IsZero() {
		v.forgotten++
	}
	asked := !l.endAsked.IsZero() && l.endAsked.Before(l.loggedOutAt)
	if l.loggedOut != "" && !l.robbed && !l.excused && !asked {
		if l.loggedOut == expired && (l.atRisk(l.asked, l.begun) || l.byDeposed(l.loggedOutAt)) {
			v.forgotten++
		} else {
			v.logouts++
			bad("session %s was logged out for nothing: %s at %.3fs; %s", l.sid, l.loggedOut, l.loggedOutAt.Sub(l.record.began).Seconds(), l.attempts())
		}
	}
	for _, refused := range l.refusals {
		if !l.robbed && !l.excused && (l.endAsked.IsZero() || l.endAsked.After(refused.at)) {
			bad("session %s, which nobody had ended: an access token was refused at %.3fs: %s", l.sid, refused.at.Sub(l.record.began).Seconds(), refused.by)
			break
		}
	}
	if !l.endTold.IsZero() {
		v.revocations++
		for _, e := range l.events {
			if e.op == refresh && e.known && e.refusal == "" && e.call.After(l.endTold) {
				l.lost = refreshed
			}
		}
		if l.lost != "" {
			if l.atRisk(l.endSent, l.endTold) && !kept || l.unfound() || l.outlived() && l.lost != refreshed {
				v.lostByDesign++
			} else {
				v.lost++
				bad("session %s ended at %.3fs, but %s; %s", l.sid, l.endTold.Sub(l.record.began).Seconds(), l.lost, l.attempts())
			}
		}
	}
	for _, successors := range l.granted {
		if len(successors) > 1 {
			v.forks++
			bad("session %s: %d successors of one token", l.sid, len(successors))
		}
	}
	if a, was := d.accepted[l]; was {
		if l.atRisk(l.endSent, l.endTold) && !kept || l.unfound() {
			v.acceptedByDesign++
		} else {
			v.accepted++
			bad("session %s: an access token was accepted %v after the session had ended: %s", l.sid, a.after, a.by)
		}
	}
}

// search asks porcupine about each session.
func (v *verdict) search(lives []*life) {
	var mu sync.Mutex
	next := make(chan *life)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for l := range next {
				switch result := l.check(); result {
				case porcupine.Ok:
				case porcupine.Unknown:
					mu.Lock()
					v.undecided++
					mu.Unlock()
				default:
					mu.Lock()
					v.problems = append(v.problems, fmt.Sprintf("porcupine: %s: %s", result, l.explain()))
					mu.Unlock()
				}
			}
		})
	}
	for _, l := range lives {
		next <- l
	}
	close(next)
	workers.Wait()
}

const refreshed = "it was refreshed"

const tableHead = `| fault | operations | sessions | logged out for nothing | revocations answered | of these lost | chains forked | denied tokens accepted after 1 s | recovery | seed |
|---|---|---|---|---|---|---|---|---|---|`

func (v *verdict) String() string {
	byDesign := func(n, designed int) string {
		if designed == 0 {
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%d, and %d as documented", n, designed)
	}
	return "| " + strings.Join([]string{
		v.row, fmt.Sprint(v.operations), fmt.Sprint(v.sessions), byDesign(v.logouts, v.forgotten), fmt.Sprint(v.revocations),
		byDesign(v.lost, v.lostByDesign), fmt.Sprint(v.forks), byDesign(v.accepted, v.acceptedByDesign),
		fmt.Sprintf("%.1f s", v.recovery.Seconds()), fmt.Sprint(v.seed),
	}, " | ") + " |"
}
