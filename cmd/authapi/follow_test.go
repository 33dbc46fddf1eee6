package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// follow opens /revocations and returns what has come so far, and a channel
// that is closed when the stream has ended in order.
func (i *instance) follow(secret string) (*output, <-chan struct{}) {
	i.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	i.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url+"/revocations", nil)
	must(i.t, err)
	r.SetBasicAuth("verifier", secret)
	res, err := http.DefaultTransport.RoundTrip(r)
	must(i.t, err)
	if res.StatusCode != http.StatusOK {
		i.t.Fatalf("follow: %d", res.StatusCode)
	}
	got, ended := &output{}, make(chan struct{})
	go func() {
		defer res.Body.Close()
		if _, err := io.Copy(got, res.Body); err == nil {
			close(ended)
		} else if !errors.Is(err, context.Canceled) {
			i.t.Errorf("the stream broke off: %v", err)
		}
	}()
	return got, ended
}

// Services follow an instance, across what ends there and elsewhere, for longer
// than any request may take, until it shuts down.
func TestFollow(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	addAlice(t, deployment(s))
	old, newer := b64(testSecret(5)), b64(testSecret(6))
	here := start(t, deployment(s, "AUTHAPI_VERIFIER_SECRET="+old+","+newer))
	there := start(t, deployment(s))
	basic := func(secret string) string { return "Authorization: Basic " + b64([]byte("verifier:"+secret)) }
	here.send("GET", "/revocations", basic(b64(testSecret(7)))).is(t, 401, "invalid_client")
	there.send("GET", "/revocations", basic(old)).is(t, 401, "invalid_client")

	began := time.Now()
	a, endA := here.follow(old)
	b, endB := here.follow(newer)
	tokens := there.login("alice", alicesPassword).is(t, 200, "")
	sid := claims(t, tokens.Access)["sid"].(string)
	there.send("POST", "/logout", bearer(tokens.Access)).is(t, 204, "")
	loggedOut := time.Now()
	admin := &admin{t: t, environ: deployment(s)}
	for _, got := range []*output{a, b} {
		eventually(t, "the session", func() bool { return strings.Contains(got.String(), sid) })
	}
	if took := time.Since(loggedOut); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	dropped := admin.key("current")
	admin.run("", "keys", "drop", dropped).says(t, 0, "Dropped")
	eventually(t, "the key", func() bool { return strings.Contains(a.String(), dropped) })
	// Dropped already: whoever is in doubt whether all were told may say it again.
	admin.run("", "keys", "drop", dropped).says(t, 1, "no key of that id", "told to refuse it")

	// The server's time-outs for reading and writing a request are 10 s and 15 s.
	time.Sleep(time.Until(began.Add(16 * time.Second)))
	before := len(a.String())
	eventually(t, "more frames", func() bool { return len(a.String()) > before })

	here.stop()
	for _, ended := range []<-chan struct{}{endA, endB} {
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("a stream did not end in order")
		}
	}
	for _, secret := range []string{old, newer} {
		if strings.Contains(here.stderr.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// Redis is away: sixteen partitions have trouble five times a second, and the
// log says so now and then.
func TestTroubleDoesNotFloodTheLog(t *testing.T) {
	t.Parallel()
	s := redistest.Redis(t)
	service := start(t, deployment(s))
	eventually(t, "readyz to say yes", func() bool { return service.send("GET", "/readyz").status == 200 })
	s.Pause()
	time.Sleep(3 * time.Second)
	s.Resume()
	for _, what := range []string{"cannot give signs of life", "cannot follow the revocations"} {
		if n := strings.Count(service.stderr.String(), what); n != 1 {
			t.Errorf("%q is logged %d times in 3 s", what, n)
		}
	}
	service.stop()
}
