// Package phone_test lives the life of many phones: requests are lost, answers
// are lost, the application is killed at any moment, the clock is wrong, and the
// phone sleeps for hours. Nobody may be logged out by that, and a stolen token
// must be noticed all the same.
//
//	go test ./tests/phone -v -run Phones -phones 10000
//
// prints what happened, beside the same life under the rule of plain rotation.
package phone_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tests/service"
)

var (
	phones = flag.Int("phones", 500, "how many phones there are")
	rounds = flag.Int("rounds", 8, "how often each refreshes, at least")
	seed   = flag.Uint64("seed", 0, "repeat the run of this seed; 0 draws one")
)

func TestMain(m *testing.M) { redistest.Main(m) }

// What happens to a phone, as a share of its requests.
const (
	requestLost = 0.02
	answerLost  = 0.05
	killed      = 0.02
	stolen      = 0.01 // of the rounds of a session
	putAway     = 0.3  // of the times that no answer comes: the phone sleeps on it
)

// phone is one installation of an application. What is in kept survives its
// death; docs/mobile.md says the same in words.
type phone struct {
	world *world
	rule  rule
	rnd   *rand.Rand
	kept  struct{ token, key string } // in the keychain
	stats *stats

	thief string // a copy of a token that somebody has
	over  bool
}

// rule is how an application goes about a refresh.
type rule int

const (
	withKey  rule = iota // makes a key, keeps it, and retries with it
	plainOld             // sends the token that it has
)

func (r rule) String() string { return []string{"with a kept key", "plain rotation, no retry"}[r] }

type stats struct {
	refreshes, lostRequests, lostAnswers, asleep, deaths, thefts, caught, falseLogouts, undetected atomic.Int64
}

var (
	errNoAnswer = errors.New("no answer")
	errKilled   = errors.New("killed")
	errPutAway  = errors.New("put away")
)

// refresh is what the application does until it has a token or knows that it is
// logged out. It returns errKilled if the application died on the way, and
// errPutAway if its user has put the phone away before an answer came.
func (p *phone) refresh() error {
	for {
		err := p.attempt()
		switch {
		case !errors.Is(err, errNoAnswer):
			return err
		case p.rnd.Float64() < putAway:
			return errPutAway
		}
	}
}

// insist is refresh by a user who wants to go on.
func (p *phone) insist() error {
	for {
		err := p.refresh()
		if !errors.Is(err, errKilled) && !errors.Is(err, errPutAway) {
			return err
		}
	}
}

func (p *phone) attempt() error {
	if p.rule == withKey && p.kept.key == "" {
		p.kept.key = fmt.Sprintf("%016x%016x", p.rnd.Uint64(), p.rnd.Uint64())
	}
	if p.dies() {
		return errKilled // between keeping the key and sending
	}
	next, err := p.world.send(p, p.kept.token, p.kept.key)
	if err != nil {
		return err
	}
	if p.dies() {
		return errKilled // between hearing and keeping
	}
	p.kept.token, p.kept.key = next, ""
	return nil
}

func (p *phone) dies() bool {
	if p.rnd.Float64() >= killed/2 {
		return false
	}
	p.stats.deaths.Add(1)
	return true
}

// world is the service and the network before it.
type world struct {
	t      *testing.T
	v      *service.Service
	client *http.Client
}

// refusal is an answer that means that the session is over.
type refusal struct{ reason string }

func (r refusal) Error() string { return "invalid_grant " + r.reason }

// send refreshes over a network that loses requests and answers.
func (w *world) send(p *phone, token, key string) (string, error) {
	if p.rnd.Float64() < requestLost {
		p.stats.lostRequests.Add(1)
		return "", errNoAnswer
	}
	next, err := w.refresh(token, key)
	if p.rnd.Float64() < answerLost {
		p.stats.lostAnswers.Add(1)
		return "", errNoAnswer
	}
	return next, err
}

// refresh is one request that arrives. Trouble is asked again, as the answer says.
func (w *world) refresh(token, key string) (string, error) {
	for {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.v.URL+"/refresh", strings.NewReader(`{"refresh_token":"`+token+`"}`))
		if err != nil {
			return "", err
		}
		r.Header.Set("Content-Type", "application/json")
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		res, err := w.client.Do(r)
		if err != nil {
			return "", err
		}
		var body struct {
			Error, Reason string
			Refresh       string `json:"refresh_token"`
		}
		err = json.NewDecoder(res.Body).Decode(&body)
		res.Body.Close()
		switch {
		case err != nil:
			return "", err
		case res.StatusCode == http.StatusOK:
			return body.Refresh, nil
		case res.StatusCode == http.StatusUnauthorized && body.Error == "invalid_grant":
			return "", refusal{body.Reason}
		case res.StatusCode != http.StatusServiceUnavailable && res.StatusCode != http.StatusTooManyRequests:
			return "", fmt.Errorf("answered %d %s", res.StatusCode, body.Error)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// live is one round of a phone's life.
func (p *phone) live() {
	if p.over {
		return
	}
	if p.thief == "" && p.rnd.Float64() < stolen {
		p.thief = p.kept.token
		p.stats.thefts.Add(1)
	} else if p.thief != "" && p.rnd.IntN(3) == 0 {
		// With a key of their own: the phone's never left it.
		next, err := p.world.refresh(p.thief, "the thief's own key")
		if err == nil {
			p.thief = next // they were first; the owner's next refresh will show it
		} else {
			p.end(err)
			return
		}
	}
	err := p.refresh()
	for errors.Is(err, errKilled) {
		err = p.refresh() // started again by its user
	}
	switch {
	case err == nil:
		p.stats.refreshes.Add(1)
	case errors.Is(err, errPutAway):
		p.stats.asleep.Add(1) // to be asked again hours later
	default:
		p.end(err)
	}
}

// end is when a session turns out to be over.
func (p *phone) end(err error) {
	p.over = true
	var r refusal
	switch {
	case !errors.As(err, &r):
		p.world.t.Errorf("%v", err)
	case p.thief != "":
		p.stats.caught.Add(1)
	default:
		p.stats.falseLogouts.Add(1)
	}
}

// TestPhones: 10,000 sessions under -phones 10000. No false logout with a key,
// and every theft caught; under plain rotation the same life logs people out.
func TestPhones(t *testing.T) {
	drawn := *seed
	if drawn == 0 {
		drawn = rand.Uint64()
	}
	t.Logf("-seed %d (the order of requests of different phones is not fixed by it)", drawn)
	s := redistest.Redis(t)
	v := service.Start(t, s, service.With(func(c *api.Config) {
		plain := c.Clients["mobile"]
		plain.ID, plain.Policy.Window = "plain", 0
		c.Clients["plain"] = plain
	}))
	w := &world{t: t, v: v, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 20 * time.Second,
	}}
	results := map[rule]*stats{withKey: {}, plainOld: {}}
	for r, st := range results {
		all := make([]*phone, *phones)
		for i := range all {
			all[i] = &phone{world: w, rule: r, rnd: rand.New(rand.NewPCG(drawn, uint64(i))), stats: st}
		}
		each(all, func(i int, p *phone) {
			client := map[rule]string{withKey: "mobile", plainOld: "plain"}[r]
			g, err := v.Sessions.Create(context.Background(), refresh.Login{Subject: fmt.Sprintf("%s-%d", client, i), ClientID: client})
			if err != nil {
				t.Error(err)
				return
			}
			p.kept.token = g.Token
		})
		clock := rand.New(rand.NewPCG(drawn, 1<<63))
		for range *rounds {
			each(all, func(_ int, p *phone) { p.live() })
			// Asleep: from a minute to eight hours.
			s.Advance(time.Minute + time.Duration(clock.Int64N(int64(8*time.Hour))))
		}
		// What was stolen and not yet used is used now, and then the owners come.
		each(all, func(_ int, p *phone) {
			if p.over || p.thief == "" {
				return
			}
			_, err := w.refresh(p.thief, "the thief's own key")
			if err == nil {
				err = p.insist()
			}
			if err == nil {
				p.stats.undetected.Add(1)
				return
			}
			p.end(err)
		})
		t.Logf("%-26s %d phones, %d refreshes, %d requests and %d answers lost, %d of them asked again hours later, killed %d times: %d false logouts; %d tokens stolen, %d caught",
			r.String()+":", *phones, st.refreshes.Load(), st.lostRequests.Load(), st.lostAnswers.Load(), st.asleep.Load(), st.deaths.Load(),
			st.falseLogouts.Load(), st.thefts.Load(), st.caught.Load())
	}
	kept, plain := results[withKey], results[plainOld]
	if n := kept.falseLogouts.Load(); n != 0 {
		t.Errorf("%d phones were logged out for nothing", n)
	}
	if kept.caught.Load() != kept.thefts.Load() || kept.undetected.Load() != 0 {
		t.Errorf("%d of %d thefts were caught", kept.caught.Load(), kept.thefts.Load())
	}
	if kept.lostAnswers.Load() == 0 || kept.asleep.Load() == 0 || kept.deaths.Load() == 0 || kept.thefts.Load() == 0 || plain.falseLogouts.Load() == 0 {
		t.Errorf("too little happened for this to mean anything")
	}
}

// each does something for all phones, many at a time.
func each(all []*phone, do func(i int, p *phone)) {
	var workers sync.WaitGroup
	next := make(chan int)
	for range 32 {
		workers.Go(func() {
			for i := range next {
				do(i, all[i])
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	workers.Wait()
}
