// Package faults_test breaks everything around the service that can break, and
// holds what its clients saw against what they are promised.
//
//	go test ./tests/faults -v -run Table -faults 60s
//
// prints a table, a line for each fault: -faults says how long each lasts. To
// repeat one line, add its seed and its name:
//
//	go test ./tests/faults -v -run 'Table/Faults/Row33' -faults 60s -seed 1234
//
// A seed decides what each client and each proxy does. How their requests
// interleave it does not decide, so a failure prints the session's history too.
//
// # How it works
//
// Real processes of the service run on a real Redis: one server, a primary with
// a replica and three Sentinels, or a Cluster of six. Proxies stand between
// people and the service, and between the service and every Redis, whose
// announced addresses are those of the proxies. People log in, refresh, repeat
// a refresh whose answer was lost, log out, and steal from each other, while a
// row of the table does its damage; services verify their tokens all the while.
//
// Then everything that was asked and answered is judged twice. Porcupine looks
// for an order of each session's requests that the model (model_test.go)
// agrees with. And the promises are counted one by one (verdict_test.go).
//
// What a fault may lose by design is part of the model, as the state that comes
// back and the moments between which it was taken: whatever was answered
// before is not excused.
package faults_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/program"
)

var (
	faultTime = flag.Duration("faults", 1500*time.Millisecond, "how long each fault lasts")
	firstSeed = flag.Uint64("seed", 0, "of the first row, or of the only one; 0 draws one")
	lanes     = flag.Int("lanes", 16, "how many sessions there are at a time")
	atOnce    = flag.Int("at.once", 3, "how many faults happen at a time, each to a deployment of its own")
	withRace  = flag.Bool("service.race", false, "build the service with the race detector")
	keepLogs  = flag.String("logs", "", "keep the logs of the instances in this `folder`")
)

func TestMain(m *testing.M) {
	flag.Parse()
	program.Race = *withRace
	program.Main(m)
}

// A row is a fault.
type row struct {
	// number is that of the check, 0 if it has none.
	number int
	name   string
	// on starts the Redis that it happens to.
	on func(t *testing.T, seed uint64) topology
	// happen brings the fault about, and ends it.
	happen func(f *fault)
	// replicas is how many of Redis's replicas must have a revocation before it
	// is answered.
	replicas int
}

// fault is what a row may use while it happens.
type fault struct {
	t   *testing.T
	d   *deployment
	rnd *rand.Rand
	// lasts is how long.
	lasts time.Duration
	// since is when the damage was done from which people wait for recovery; if a
	// row does not say so it is when its fault has ended.
	since time.Time
	// later puts back what recovery does not wait for.
	later func()
}

// tidy does what was put off.
func (f *fault) tidy() {
	if f.later != nil {
		f.later()
		f.later = nil
	}
}

// happened fails the test unless the fault has done something: what never
// happens proves nothing.
func (f *fault) happened(what string, yes bool) {
	f.t.Helper()
	if !yes {
		f.t.Errorf("it never happened: %s", what)
	}
}

// pace is what passes between two refreshes of a session.
const pace = 100 * time.Millisecond

func TestTable(t *testing.T) {
	t.Parallel()
	seed := *firstSeed
	if seed == 0 {
		seed = 1 + rand.Uint64N(1e6)
	}
	verdicts := make([]*verdict, len(rows))
	t.Run("Faults", func(t *testing.T) {
		// A row mostly waits, so there are more at a time than processors.
		next := make(chan int)
		var workers sync.WaitGroup
		for range *atOnce {
			workers.Go(func() {
				for n := range next {
					own := seed + uint64(n)
					if strings.Count(flag.Lookup("test.run").Value.String(), "/") >= 2 && *firstSeed != 0 {
						own = seed // of the only row
					}
					t.Run(rows[n].title(), func(t *testing.T) {
						verdicts[n] = rows[n].play(t, own)
					})
				}
			})
		}
		for n := range rows {
			next <- n
		}
		close(next)
		workers.Wait()
	})
	var table strings.Builder
	for _, v := range verdicts {
		if v != nil {
			fmt.Fprintln(&table, v)
		}
	}
	t.Logf("%s per fault\n%s\n%s", *faultTime, tableHead, table.String())
}

func (r row) title() string {
	title := strings.NewReplacer(" ", "_", ",", "").Replace(r.name)
	if r.number > 0 {
		title = fmt.Sprintf("Row%d_%s", r.number, title)
	}
	return title
}

// play lets a fault happen and judges what came of it.
func (r row) play(t *testing.T, seed uint64) *verdict {
	var environ []string
	if r.replicas > 0 {
		environ = append(environ, fmt.Sprint("AUTHAPI_REVOCATION_REPLICAS=", r.replicas))
	}
	d := deploy(t, seed, r.on(t, seed), pace, environ...)
	d.people(*lanes)
	f := &fault{t: t, d: d, rnd: rand.New(rand.NewPCG(seed, 3)), lasts: *faultTime}
	time.Sleep(min(*faultTime/4, 2*time.Second)) // as things are without a fault
	r.happen(f)
	if f.since.IsZero() {
		f.since = time.Now()
	}
	if !d.untilAllWorks(max(patience, 2**faultTime)) {
		t.Errorf("%v after the fault it does not work again", time.Since(f.since))
	}
	took := time.Since(f.since)
	f.tidy()
	if w, ok := d.redis.(*watched); ok {
		w.onlyOurs(t)
	}
	// A second, for services to be wrong in, and more where so few act that nobody
	// has stolen or logged out.
	time.Sleep(1200 * time.Millisecond)
	for end := time.Now().Add(patience); !d.somethingHappened() && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	d.end()
	d.afterwards()
	v := d.verdict(r)
	v.recovery = took

	for _, p := range v.problems[:min(len(v.problems), 12)] {
		t.Error(p)
	}
	if n := len(v.problems); n > 12 {
		t.Errorf("and %d more", n-12)
	}
	var accepted, denied, unsure int64
	for _, w := range d.watchers {
		accepted, denied, unsure = accepted+w.accepted.Load(), denied+w.denied.Load(), unsure+w.unsure.Load()
	}
	if v.revocations == 0 || v.thefts == 0 || accepted == 0 || denied == 0 {
		t.Errorf("too little happened for this to mean anything: %d revocations, %d thefts, %d tokens accepted, %d denied", v.revocations, v.thefts, accepted, denied)
	}
	var counts []string
	for name, n := range d.record.count {
		counts = append(counts, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(counts)
	if v.late > 0 {
		t.Logf("%d sessions of owners without a key were ended by a request that came later than the window", v.late)
	}
	if v.undecided > 0 {
		t.Logf("porcupine could not decide about %d sessions in time", v.undecided)
	}
	t.Logf("seed %d; %s; tokens accepted %d, denied %d, unsure %d; slowest answer %v", seed, strings.Join(counts, ", "), accepted, denied, unsure, v.slowest.Round(time.Millisecond))
	return v
}
