package gateways_test

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// promised is how long after the answer to a logout a token may still be let in.
const promised = time.Second

// TestRow42LogoutReachesTheGateway: log out, then show the old access token to
// the gateway until it is refused, and once more.
func TestRow42LogoutReachesTheGateway(t *testing.T) {
	const atOnce = 10
	trials := 200
	if testing.Short() {
		trials = 50
	}
	each(t, func(t *testing.T, w *world, g *gateway) {
		var mu sync.Mutex
		var took []time.Duration
		atFirst := 0
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(func() {
				for range trials / atOnce {
					login := w.auth.Login().OK(t)
					for range 2 { // the second time everything there is to remember is remembered
						if r := g.ask(question{token: login.Access}); r.status != http.StatusOK {
							t.Errorf("before the logout: %v", r)
							return
						}
					}
					time.Sleep(rand.N(20 * time.Millisecond))
					w.auth.Logout(login.Access, "").OK(t)
					since := time.Now()
					var r reply
					asked := 0
					for r.status != http.StatusUnauthorized && time.Since(since) < 5*promised {
						asked++
						if r = g.ask(question{token: login.Access}); r.status != http.StatusOK && r.status != http.StatusUnauthorized {
							t.Errorf("after the logout: %v", r)
						}
					}
					late := time.Since(since)
					if late > promised+slack {
						t.Errorf("let in until %v after the logout", late)
					}
					if r := g.ask(question{token: login.Access}); r.status != http.StatusUnauthorized {
						t.Errorf("refused and then %v", r)
					}
					mu.Lock()
					took = append(took, late)
					if asked == 1 {
						atFirst++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(took) != trials {
			t.Fatalf("%d trials of %d", len(took), trials)
		}
		t.Logf("%d trials: refused after p50 %v, p99 %v, at most %v, the first request already in %d", trials, percentile(took, 50), percentile(took, 99), percentile(took, 100), atFirst)
	})
}

// percentile sorts.
func percentile(of []time.Duration, p int) time.Duration {
	slices.Sort(of)
	return of[min(len(of)-1, len(of)*p/100)].Round(10 * time.Microsecond)
}
