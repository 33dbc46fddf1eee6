package faults_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRow18LateRequest: an instance stands still with a request in its hands,
// the application gives up, asks another one, and goes on. What the first instance
// does when it wakes up must not end the session: by then the request looks like the
// replay of a spent token, but nobody waits for its answer any more, and so it is
// not served.
func TestRow18LateRequest(t *testing.T) {
	t.Parallel()
	d := deploy(t, 1, kept(t, 1), pace)
	a, b := d.instances[0], d.instances[1]
	for _, c := range []struct {
		name      string
		keySent   bool
		refreshes int           // at the other instance, while the first stands still
		wait      time.Duration // besides
	}{
		{"with a key, four refreshes later", true, 4, 0},
		{"with a key, after the window", true, 1, retryWindow + time.Second/2},
		{"without a key, at once", false, 1, 0},
		{"with a key, five refreshes later", true, 5, 0},
		{"without a key, after the window", false, 1, retryWindow + time.Second/2},
		{"without a key, two refreshes later", false, 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Several: on a busy machine the window may have passed by itself.
			const sessions = 8
			tokens := make([]string, sessions)
			lives := make([]*life, sessions)
			rnd := rand.New(rand.NewPCG(1, 1))
			for n := range lives {
				eventually(t, "a session begins", func() bool {
					lives[n], tokens[n] = d.begin(rnd, fmt.Sprintf("%s %d", c.name, n))
					return lives[n] != nil
				})
			}
			key := func(n, generation int) string { return fmt.Sprintf("%s-%d-%d", c.name, n, generation) }

			a.freeze()
			for n, token := range tokens {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+a.addr+"/refresh", strings.NewReader(fmt.Sprintf(`{"refresh_token":%q}`, token)))
				if lives[n].client == shopID {
					r.Header = basic(shopID, shopSecret)
				}
				r.Header.Set("Content-Type", "application/json")
				if c.keySent {
					r.Header.Set("Idempotency-Key", key(n, 0))
				}
				if res, err := d.http.Do(r); err == nil {
					res.Body.Close()
					t.Error("an instance that stands still has answered")
				}
				cancel()
			}
			refresh := func(n int, key string) bool {
				next, answered := d.presentTo(b, lives[n], tokens[n], key, c.keySent)
				if answered.known && answered.refusal == "" {
					tokens[n] = next
				}
				return answered.known && answered.refusal == ""
			}
			for n := range tokens {
				for generation := range c.refreshes {
					eventually(t, "the other instance answers", func() bool { return refresh(n, key(n, generation)) })
				}
			}
			time.Sleep(c.wait)
			a.signal(syscall.SIGCONT)
			eventually(t, "the first instance goes on", func() bool {
				_, err := d.ask(a, http.MethodGet, "/healthz", "", nil)
				return err == nil
			})
			time.Sleep(300 * time.Millisecond) // for what was in its hands

			alive := 0
			for n, l := range lives {
				var answered answer
				eventually(t, "an answer", func() bool {
					_, answered = d.presentTo(b, l, tokens[n], key(n, 100), c.keySent)
					return answered.known
				})
				if answered.refusal == "" {
					alive++
				}
			}
			t.Logf("%d of %d sessions live", alive, sessions)
			if alive < sessions {
				t.Errorf("%d of %d sessions were ended by a late request", sessions-alive, sessions)
			}
		})
	}
}
