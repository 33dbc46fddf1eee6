package faults_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/program"
)

const (
	instances = 2
	users     = 2 // of the built-in directory
	secret    = "AUTHAPI_SECRET=ylcAPTPreeDKLs0W4DbUPKdKUxy8dqI7ESMEiVqNYmY="
)

// A deployment is a Redis of some kind, instances of the service on it, people
// who use it, and services that verify their tokens.
type deployment struct {
	t    *testing.T
	seed uint64
	// url is what the instances are told; proxies are between them and Redis.
	url     string
	proxies []*proxy
	redis   topology

	instances []*instance
	watchers  []*watcher
	record    *record
	http      *http.Client
	pace      time.Duration // between two refreshes of one session

	done   chan struct{} // closed when the actors should come to an end
	ending sync.Once
	actors sync.WaitGroup
	// clockOff: the clock of Redis is not that of the services. Tokens then
	// expire at the wrong time, which is nobody's fault.
	clockOff atomic.Bool

	mu       sync.Mutex
	accepted map[*life]acceptance
	slowest  time.Duration
	probes   []*owner
}

// A topology is a kind of Redis.
type topology interface {
	// url and proxies are the way to it.
	way() (url string, proxies []*proxy)
}

func deploy(t *testing.T, seed uint64, redis topology, pace time.Duration, environ ...string) *deployment {
	t.Helper()
	d := &deployment{
		t: t, seed: seed, redis: redis, pace: pace,
		done: make(chan struct{}), accepted: map[*life]acceptance{},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	d.url, d.proxies = redis.way()
	environ = append([]string{
		"AUTHAPI_ISSUER=" + issuer, "AUTHAPI_REDIS_URL=" + d.url, secret, "AUTHAPI_DRAIN=0s",
		"AUTHAPI_CLIENTS_FILE=" + clientsFile(t), "AUTHAPI_LOG_FORMAT=json", "AUTHAPI_LOG_LEVEL=warn",
		// Sessions live faster here, and people log in more often.
		"AUTHAPI_LIMIT_REFRESH=off", "AUTHAPI_LIMIT_ACCOUNT=off", "AUTHAPI_LIMIT_ADDRESS=off",
		// Under the race detector an end would take a second more.
		"GORACE=atexit_sleep_ms=0",
	}, environ...)
	for n := range instances {
		d.instances = append(d.instances, startInstance(t, seed+uint64(n), environ))
	}
	for n := range users {
		// On a busy machine Redis may seem away.
		eventually(t, "a user is added", func() bool {
			out, err := program.Run(t, environ, userPassword+"\n", "user", "add", fmt.Sprint("user", n))
			return err == nil || strings.Contains(out, "exists")
		})
	}
	d.record = newRecord()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	t.Cleanup(d.end)
	d.watch(ctx)
	d.addProbes()
	if !d.untilAllWorks(2 * patience) {
		t.Fatal("it does not even work without a fault")
	}
	return d
}

// people begins to use the service: so many sessions at a time.
func (d *deployment) people(lanes int) {
	for lane := range lanes {
		d.actors.Go(func() {
			for n := 0; ; n++ {
				rnd := rand.New(rand.NewPCG(d.seed, uint64(lane)<<32|uint64(n)))
				l, token := d.begin(rnd, fmt.Sprintf("%d.%d", lane, n))
				if l != nil {
					o := &owner{d: d, l: l, rnd: rnd, token: token, keyless: rnd.IntN(5) == 0}
					o.live()
				}
				if !d.sleep(time.Duration(rnd.Int64N(int64(d.pace)))) {
					return
				}
			}
		})
	}
	d.actors.Go(func() { d.verifyForever(d.seed) })
}

// end waits until everybody has stopped.
func (d *deployment) end() {
	d.ending.Do(func() { close(d.done) })
	d.actors.Wait()
}

// sleep reports false if the run is over.
func (d *deployment) sleep(t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-d.done:
		return false
	case <-timer.C:
		return true
	}
}

// addProbes begins one session in each partition, by which it is seen whether
// everything works.
func (d *deployment) addProbes() {
	have := map[byte]bool{}
	for n := 0; len(have) < 16; n++ {
		sub := fmt.Sprint("probe-", n)
		p := sha256.Sum256([]byte(sub))[0] & 15
		if have[p] {
			continue
		}
		have[p] = true
		name := fmt.Sprint("probe.", p)
		l := &life{record: d.record, name: name, sub: sub, client: shopID, granted: map[string]map[string]bool{}}
		var call time.Time
		var a reply
		var err error
		d.t.Cleanup(func() {
			if d.t.Failed() && n == 0 {
				d.t.Logf("first session: %v %d %s", err, a.status, a.refusal())
			}
		})
		eventually(d.t, "a session is started", func() bool {
			call = time.Now()
			a, err = d.ask(d.instances[0], http.MethodPost, "/sessions", fmt.Sprintf(`{"sub":%q}`, sub), basic(shopID, shopSecret))
			return err == nil && a.status == http.StatusOK
		})
		l.sid, _ = idsOf(a.Access)
		l.partition, l.asked, l.begun, l.access = l.sid[:2], call, time.Now(), []string{a.Access}
		l.add(event{request: request{op: login}, answer: answer{known: true}, call: call, back: l.begun})
		d.record.lives = append(d.record.lives, l)
		d.probes = append(d.probes, &owner{d: d, l: l, rnd: rand.New(rand.NewPCG(d.seed, uint64(n))), token: a.Refresh})
	}
}

// untilAllWorks waits until each instance has refreshed a session in each
// partition without a failure in between, and every service is sure again.
func (d *deployment) untilAllWorks(atMost time.Duration) bool {
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if d.allWorks() {
			return true
		}
	}
	return false
}

func (d *deployment) allWorks() bool {
	for _, w := range d.watchers {
		if w.verifier.Ready() != nil {
			return false
		}
	}
	for _, i := range d.instances {
		for _, o := range d.probes {
			if o.over() {
				return false
			}
			if o.key == "" {
				o.keys++
				o.key = fmt.Sprintf("%s-%d", o.l.name, o.keys)
			}
			next, a := d.presentTo(i, o.l, o.token, o.key, true)
			switch {
			case !a.known:
				return false
			case a.refusal != "":
				o.l.mu.Lock()
				o.l.loggedOut, o.l.loggedOutAt = a.refusal, time.Now()
				o.l.mu.Unlock()
				return false
			}
			o.token, o.key = next, ""
		}
	}
	return true
}

// somethingHappened reports whether there was a theft, and an end that was answered.
func (d *deployment) somethingHappened() bool {
	d.record.mu.Lock()
	thefts := d.record.count["theft"]
	d.record.mu.Unlock()
	return thefts > 0 && slices.ContainsFunc(d.record.all(), func(l *life) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.endTold.IsZero()
	})
}

func (o *owner) over() bool {
	o.l.mu.Lock()
	defer o.l.mu.Unlock()
	return o.l.loggedOut != ""
}
