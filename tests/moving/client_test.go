package moving_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strconv"
	"sync"
	"testing"
)

// tokens are those that the sessions client of an example returns.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"` // Refused or Trouble
}

// call calls a method of the sessions client, see client.mjs.
func (d *deployment) call(issuer, method string, args ...any) tokens {
	d.t.Helper()
	return d.calls(issuer, method, args)[0]
}

// calls calls a method several times.
func (d *deployment) calls(issuer, method string, each ...[]any) (results []tokens) {
	d.t.Helper()
	argv := []string{"client.mjs", d.name, issuer, clientID, clientSecret}
	for _, args := range each {
		encoded, err := json.Marshal(args)
		if err != nil {
			d.t.Fatal(err)
		}
		argv = append(argv, method, string(encoded))
	}
	out, err := exec.Command("node", argv...).CombinedOutput()
	for line := range bytes.Lines(out) {
		var result tokens
		if err == nil {
			err = json.Unmarshal(line, &result)
		}
		results = append(results, result)
	}
	if err != nil || len(results) != len(each) {
		d.t.Fatalf("%s: %v\n%s", method, err, out)
	}
	return results
}

// lossyLine is a way to the service that loses the first answer to each path.
type lossyLine struct {
	mu    sync.Mutex
	asked map[string]int
	to    *httputil.ReverseProxy
}

func (l *lossyLine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.asked[r.URL.Path]++
	first := l.asked[r.URL.Path] == 1
	l.mu.Unlock()
	if first {
		l.to.ServeHTTP(httptest.NewRecorder(), r) // the service has done it
		panic(http.ErrAbortHandler)
	}
	l.to.ServeHTTP(w, r)
}

// lostOnTheWay: between the application and the service answers get lost, too.
func lostOnTheWay(t *testing.T, d *deployment) {
	service, err := url.Parse(d.service.url())
	if err != nil {
		t.Fatal(err)
	}
	line := &lossyLine{asked: map[string]int{}, to: httputil.NewSingleHostReverseProxy(service)}
	server := httptest.NewServer(line)
	defer server.Close()

	begun := d.call(d.service.url(), "start", subject, map[string]any{"roles": []string{"user"}})
	if begun.Access == "" || begun.Refresh == "" {
		t.Fatal("no session to begin with")
	}
	next := d.call(server.URL, "refresh", begun.Refresh, "a key")
	if again := d.call(d.service.url(), "refresh", begun.Refresh, "a key"); next.Refresh == "" || again.Refresh != next.Refresh {
		t.Errorf("after a lost answer: %q, and then %q", next.Error, again.Error)
	}
	if end := d.call(server.URL, "end", next.Refresh); end.Error != "" {
		t.Errorf("a logout whose answer is lost: %s", end.Error)
	}
	if gone := d.call(d.service.url(), "refresh", next.Refresh, "another"); gone.Error != "Refused" {
		t.Errorf("after the logout: %q", gone.Error)
	}
	// A second attempt would begin a second session.
	if twice := d.call(server.URL, "start", subject); twice.Error != "Trouble" || line.asked["/sessions"] != 1 {
		t.Errorf("a login whose answer is lost: %q after %d attempts", twice.Error, line.asked["/sessions"])
	}
	if line.asked["/refresh"] != 2 || line.asked["/logout"] != 2 {
		t.Errorf("attempts: %v", line.asked)
	}
}

// oddAnswers are those of a proxy in between, or of a service that has changed
// its mind: none is a refusal, and none is taken for tokens.
func oddAnswers(t *testing.T, d *deployment) {
	answers := []struct {
		status int
		body   string
	}{
		{200, `{}`},
		{200, `null`},
		{200, `<html>Welcome to the network</html>`},
		{204, ``},
		{302, ``},
		{400, `{"error":"invalid_grant"}`},
		{401, `{"error":"invalid_client"}`},
		{401, `null`},
		{401, `<html>`},
		{403, `{"error":"unauthorized_client"}`},
		{429, `{"error":"slow_down"}`},
		{500, `"invalid_grant"`},
		{502, `<html>`},
		{503, `{"error":"invalid_grant"}`},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Which string `json:"refresh_token"`
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			return // what a redirect leads to
		}
		i, _ := strconv.Atoi(asked.Which)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(answers[i].status)
		_, _ = w.Write([]byte(answers[i].body))
	}))
	defer server.Close()

	var each [][]any
	for i := range answers {
		each = append(each, []any{strconv.Itoa(i), "a key"})
	}
	for i, result := range d.calls(server.URL, "refresh", each...) {
		if result.Error != "Trouble" {
			t.Errorf("%d %s is taken for %+v", answers[i].status, answers[i].body, result)
		}
	}
}
