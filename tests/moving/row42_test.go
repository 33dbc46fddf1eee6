package moving_test

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// promised is how long after the answer to a logout a token may still be
// accepted.
const promised = time.Second

// TestRow42LogoutReachesTheOtherProcess: log out at one process, then show the
// old access token to the other until it is refused, and once more.
func TestRow42LogoutReachesTheOtherProcess(t *testing.T) {
	const trials, atOnce = 200, 10
	each(t, func(t *testing.T, d *deployment) {
		var mu sync.Mutex
		var took []time.Duration
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(func() {
				for range trials / atOnce {
					b := &browser{t: t}
					b.login(d.a).is(t, http.StatusOK)
					b.me(d.a).is(t, http.StatusOK)
					if a := b.me(d.b).is(t, http.StatusOK); a.User.ID != subject {
						t.Errorf("the other process says %s", a.Body)
						return
					}
					// Not in step with what the one before waited for.
					time.Sleep(rand.N(250 * time.Millisecond))
					b.logout(d.a).is(t, http.StatusOK)
					since := time.Now()
					status := 0
					for ; status != http.StatusUnauthorized && time.Since(since) < 5*promised; time.Sleep(2 * time.Millisecond) {
						if status = b.me(d.b).Status; status != http.StatusOK && status != http.StatusUnauthorized {
							t.Errorf("after the logout: %d", status)
						}
					}
					late := time.Since(since)
					if late > promised+slack {
						t.Errorf("accepted until %v after the logout", late)
					}
					b.me(d.b).is(t, http.StatusUnauthorized)
					mu.Lock()
					took = append(took, late)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		ms := func(q float64) time.Duration { return quantile(took, q).Round(time.Millisecond) }
		t.Logf("%d trials: refused after p50 %v, p99 %v, at most %v", len(took), ms(0.5), ms(0.99), ms(1))
	})
}
