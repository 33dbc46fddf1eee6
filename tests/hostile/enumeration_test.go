package hostile_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/users"
)

// Row 57, over HTTP and at the real cost of a hash: who does not exist, who is
// disabled and whose password is wrong are answered with the same bytes, after the
// same time. Each user and each address is tried once only, so that nothing is
// seen but that.
func TestRow57RefusedLoginsAreAlike(t *testing.T) {
	s := redistest.Redis(t)
	each := 24
	if race { // hashing takes ten times as long, and its time says nothing
		each = 5
	}
	directory := users.NewDirectory(s.Client, s.Prefix, users.NewHasher())
	var attempts [][2]string // kind, username
	for i := range each {
		for _, kind := range []string{"unknown", "wrong", "disabled"} {
			name := fmt.Sprintf("%s-%04d", kind[:3], i)
			attempts = append(attempts, [2]string{kind, name})
			if kind == "unknown" {
				continue
			}
			_, err := directory.Add(t.Context(), name, password, []string{"editor"})
			must(t, err)
			_, err = directory.SetDisabled(t.Context(), name, kind == "disabled")
			must(t, err)
		}
	}
	p := start(t, deployment(t, s, "AUTHAPI_TRUSTED_PROXIES=127.0.0.0/8"))
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()

	known := ""
	address := 0
	round := func() map[string][]time.Duration {
		rand.Shuffle(len(attempts), func(i, j int) { attempts[i], attempts[j] = attempts[j], attempts[i] })
		took := map[string][]time.Duration{}
		for _, a := range attempts {
			given := password
			if a[0] == "wrong" {
				given = strings.ToUpper(password)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.addr+"/login",
				strings.NewReader(fmt.Sprintf(`{"username":%q,"password":%q}`, a[1], given)))
			must(t, err)
			address++
			r.Header = http.Header{"Content-Type": {"application/json"}, "X-Forwarded-For": {fmt.Sprintf("203.0.%d.%d", address/250, 1+address%250)}}
			began := time.Now()
			res, err := client.Do(r)
			must(t, err)
			answer := response{status: res.StatusCode, header: res.Header, body: readAll(t, res)}
			took[a[0]] = append(took[a[0]], time.Since(began))
			answer.header.Del("X-Request-Id")
			answer.header.Del("Date")
			if answer.status != 401 {
				t.Fatalf("%s: %d %s", a[0], answer.status, answer.body)
			}
			if text := fmt.Sprint(answer); known == "" {
				known = text
			} else if text != known {
				t.Fatalf("%s: %s, and not %s", a[0], text, known)
			}
		}
		return took
	}
	// Three rounds: the machine may have had something else to do in one.
	for range 3 {
		took := round()
		apart := map[string]float64{}
		for kind := range took {
			// 0.6 is what 24 of each do by chance once in a thousand times.
			if a := advantage(took[kind], took["unknown"]); a > 0.6 || a < -0.6 {
				apart[kind] = a
			}
		}
		t.Logf("told apart: %v", apart)
		if race || len(apart) == 0 {
			return
		}
	}
	t.Error("the time tells who exists")
}

// advantage is how much more often a time of the first is longer than one of the
// second than the other way round: 0 if they are alike, 1 or -1 if they do not
// overlap.
func advantage(a, b []time.Duration) float64 {
	longer := 0
	for _, x := range a {
		for _, y := range b {
			switch {
			case x > y:
				longer++
			case x < y:
				longer--
			}
		}
	}
	return float64(longer) / float64(len(a)*len(b))
}
