package verification_test

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
)

// promised is how long after the answer to a logout a token may still be
// accepted by a verifier that is up to date.
const promised = time.Second

// TestRow42LogoutReachesEveryService: log out at one instance, then show the
// old access token elsewhere until it is refused, and once more.
func TestRow42LogoutReachesEveryService(t *testing.T) {
	const trials, atOnce = 200, 10
	d := deploy(t, redistest.Redis(t), keyring.Schedule{})
	for name, ask := range map[string]func(access string) int{
		"another instance": func(access string) int { return d.b.Me(access).Status },
		"a service on Redis": func() func(string) int {
			n := d.service(t, d.overRedis(t))
			return func(access string) int { return n.ask(t, "/", access) }
		}(),
		"a service on /revocations": func() func(string) int {
			n := d.service(t, d.overHTTP(t))
			return func(access string) int { return n.ask(t, "/", access) }
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var took []time.Duration
			var wg sync.WaitGroup
			for range atOnce {
				wg.Go(func() {
					for range trials / atOnce {
						login := d.a.Login().OK(t)
						if status := ask(login.Access); status/100 != 2 {
							t.Errorf("before the logout: %d", status)
							return
						}
						// Not in step with the polls that the one before waited for.
						time.Sleep(rand.N(250 * time.Millisecond))
						d.a.Logout(login.Access, "").OK(t)
						since := time.Now()
						status := 0
						for status != http.StatusUnauthorized && time.Since(since) < 5*promised {
							if status = ask(login.Access); status/100 != 2 && status != http.StatusUnauthorized {
								t.Errorf("after the logout: %d", status)
							}
						}
						late := time.Since(since)
						if late > promised+slack {
							t.Errorf("accepted until %v after the logout", late)
						}
						if status := ask(login.Access); status != http.StatusUnauthorized {
							t.Errorf("refused and then %d", status)
						}
						mu.Lock()
						took = append(took, late)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if len(took) > 0 {
				t.Logf("%d trials: refused after p50 %v, p99 %v, at most %v", len(took), percentile(took, 50), percentile(took, 99), percentile(took, 100))
			}
		})
	}
}
