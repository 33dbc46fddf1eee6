package faults_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/authapi/authapi/verify"
)

// reply is a response that has arrived whole.
type reply struct {
	status int
	header http.Header
	took   time.Duration

	Error    string `json:"error"`
	Reason   string `json:"reason"`
	About    string `json:"error_description"`
	Access   string `json:"access_token"`
	Refresh  string `json:"refresh_token"`
	SID      string `json:"sid"`
	Subject  string `json:"sub"`
	Sessions []struct {
		SID string `json:"sid"`
	} `json:"sessions"`
}

func (r reply) refusal() string { return strings.TrimSpace(r.Error + " " + r.Reason) }

// ask sends a request to an instance. An error means that no whole response
// came; what was asked may have been done.
func (d *deployment) ask(i *instance, method, path, body string, header http.Header) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), leastPatience+time.Duration(rand.Int64N(int64(mostPatience-leastPatience))))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+i.proxy.addr+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	// Or the library sends again by itself what has a key, when the connection
	// breaks, and its owner does not know that the first may be under way still.
	r.GetBody = nil
	r.Header = header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	began := time.Now()
	res, err := d.http.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{}, err
	}
	a := reply{status: res.StatusCode, header: res.Header, took: time.Since(began)}
	if bytes.HasPrefix(text, []byte("{")) {
		if err := json.Unmarshal(text, &a); err != nil {
			return reply{}, err
		}
	}
	d.judge(method+" "+path, a)
	return a, nil
}

// Some applications give up soon, and others wait for longer than any answer may
// take.
const (
	leastPatience = 700 * time.Millisecond
	mostPatience  = 4 * time.Second
)

// judge looks at what no answer may be, whatever has happened.
func (d *deployment) judge(what string, a reply) {
	d.record.note(fmt.Sprint(a.status))
	switch {
	case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "":
		d.record.problem("%s: 503 without Retry-After", what)
	case a.status >= 500 && a.status != http.StatusServiceUnavailable:
		d.record.problem("%s: %d %s", what, a.status, a.Error)
	}
	if c := a.header.Get("Set-Cookie"); c != "" {
		d.record.problem("%s: a cookie was set or cleared: %s", what, c)
	}
	d.mu.Lock()
	d.slowest = max(d.slowest, a.took)
	d.mu.Unlock()
}

// anyInstance is what a load balancer without health checks does.
func (d *deployment) anyInstance(rnd *rand.Rand) *instance {
	return d.instances[rnd.IntN(len(d.instances))]
}

func basic(id, secret string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))}}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// generationOf reads the generation that a refresh token stands for
// (docs/rotation.md has the form).
func generationOf(token string) (uint32, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "authapi_rt_"))
	if err != nil || len(raw) != 42 {
		return 0, fmt.Errorf("not a refresh token: %q", token)
	}
	return binary.BigEndian.Uint32(raw[22:]), nil
}

// idsOf reads the session and the subject of an access token.
func idsOf(access string) (sid, sub string) {
	var claims struct {
		SID string `json:"sid"`
		Sub string `json:"sub"`
	}
	if parts := strings.Split(access, "."); len(parts) == 3 {
		text, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(text, &claims)
	}
	return claims.SID, claims.Sub
}

// begin logs somebody in. It returns nil if that did not work.
func (d *deployment) begin(rnd *rand.Rand, name string) (*life, string) {
	l := &life{record: d.record, name: name, granted: map[string]map[string]bool{}}
	call := time.Now()
	var a reply
	var err error
	if rnd.IntN(6) == 0 {
		l.client = mobileID
		user := fmt.Sprintf("user%d", rnd.IntN(users))
		a, err = d.ask(d.anyInstance(rnd), http.MethodPost, "/login",
			fmt.Sprintf(`{"username":%q,"password":%q,"client_id":%q}`, user, userPassword, mobileID), nil)
	} else {
		l.client = shopID
		l.sub = fmt.Sprintf("sub-%d", rnd.IntN(40))
		a, err = d.ask(d.anyInstance(rnd), http.MethodPost, "/sessions",
			fmt.Sprintf(`{"sub":%q}`, l.sub), basic(shopID, shopSecret))
	}
	back := time.Now()
	d.record.note("login")
	switch {
	case err != nil || a.status == http.StatusServiceUnavailable:
		return nil, ""
	case a.status != http.StatusOK:
		d.record.problem("login: %d %s", a.status, a.refusal())
		return nil, ""
	}
	d.record.note("login granted")
	sid, sub := idsOf(a.Access)
	if sid == "" || l.sub != "" && sub != l.sub {
		d.record.problem("login: an access token for %q of %q, asked for %q", sid, sub, l.sub)
		return nil, ""
	}
	l.sid, l.sub, l.partition = sid, sub, sid[:2]
	l.asked, l.begun, l.refreshed, l.access = call, back, back, []string{a.Access}
	l.add(event{request: request{op: login}, answer: answer{known: true}, call: call, back: back})
	d.record.begun(l)
	return l, a.Refresh
}

// present is one request to refresh, at any instance.
func (d *deployment) present(l *life, rnd *rand.Rand, token, key string, keySent bool) (next string, a answer) {
	return d.presentTo(d.anyInstance(rnd), l, token, key, keySent)
}

func (d *deployment) presentTo(i *instance, l *life, token, key string, keySent bool) (next string, a answer) {
	g, err := generationOf(token)
	if err != nil {
		d.record.problem("%v", err)
		return "", answer{}
	}
	header := http.Header{}
	if l.client == shopID {
		header = basic(shopID, shopSecret)
	}
	if keySent {
		header.Set("Idempotency-Key", key)
	}
	e := event{request: request{op: refresh, generation: g, key: key, keySent: keySent}, call: time.Now()}
	r, err := d.ask(i, http.MethodPost, "/refresh", fmt.Sprintf(`{"refresh_token":%q}`, token), header)
	d.record.note("refresh")
	back := time.Now()
	switch {
	case err != nil || r.status == http.StatusServiceUnavailable:
		d.record.note("refresh in trouble")
		if err == nil {
			e.refusal = trouble
		}
		l.add(e)
		return "", e.answer
	case r.status == http.StatusOK:
		next = r.Refresh
		if e.answer.generation, err = generationOf(next); err != nil {
			d.record.problem("%v", err)
		}
		if sid, sub := idsOf(r.Access); sid != l.sid || sub != l.sub {
			d.record.problem("refresh of session %s, of %s: an access token for %s, of %s", l.sid, l.sub, sid, sub)
		}
		l.mu.Lock()
		if l.granted[token] == nil {
			l.granted[token] = map[string]bool{}
		}
		l.granted[token][next] = true
		if !slices.Contains(l.access, r.Access) {
			l.access, l.refreshed = append(l.access, r.Access), back
		}
		l.mu.Unlock()
	case r.status == http.StatusUnauthorized && r.Error == "invalid_grant" || r.status == http.StatusTooManyRequests:
		e.refusal = r.refusal()
	default:
		d.record.problem("refresh: %d %s", r.status, r.refusal())
		l.add(e)
		return "", answer{}
	}
	if next != "" {
		d.record.note("refresh granted")
	}
	e.answer.known, e.back = true, back
	l.add(e)
	return next, e.answer
}

// An owner is an application that follows docs/mobile.md, or one that does the
// same but sends no key.
type owner struct {
	d     *deployment
	l     *life
	rnd   *rand.Rand
	token string
	key   string // of a refresh that has no answer yet
	keys  int
	// keyless owners have the retry window and no more.
	keyless bool
	// unanswered is when the last request was sent that got no answer, and since
	// how many refreshes were answered after it.
	unanswered time.Time
	since      int
	asked      time.Time // when the refresh that has no answer was first sent
}

// refresh goes on until there is an answer that ends the matter. It reports
// false if the session is over, or the run.
func (o *owner) refresh() bool {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 400*time.Millisecond) {
		if o.key == "" {
			o.keys++
			o.key = fmt.Sprintf("%s-%d", o.l.name, o.keys)
			o.asked = time.Now()
		}
		key := o.key
		if o.keyless {
			// The service makes a key for each request.
			o.keys++
			key = fmt.Sprintf("%s-%d", o.l.name, o.keys)
		}
		next, a := o.d.present(o.l, o.rnd, o.token, key, !o.keyless)
		if o.tooLate() {
			o.l.excuse() // what has come now, and what will
		}
		switch {
		case a.known && a.refusal == "":
			if o.rnd.IntN(25) == 0 {
				o.d.record.note("died")
				continue // The application died before it could keep the answer.
			}
			o.token, o.key = next, ""
			o.since++
			return true
		case a.known && a.refusal != often:
			o.l.mu.Lock()
			o.l.loggedOut, o.l.loggedOutAt = a.refusal, time.Now()
			o.l.mu.Unlock()
			return false
		}
		if !a.known {
			o.unanswered, o.since = time.Now(), 0
		}
		if !o.d.sleep(wait/2 + time.Duration(o.rnd.Int64N(int64(wait)))) {
			return false
		}
	}
}

func (l *life) excuse() {
	l.mu.Lock()
	l.excused = true
	l.mu.Unlock()
}

// lateness is how long a request without an answer may still be under way: in a
// process that stands still, in the network, before a busy Redis.
const lateness = 6 * time.Second

// tooLate reports whether the owner has no key and the retry window of a request
// without an answer may have closed.
func (o *owner) tooLate() bool {
	closed := func(since time.Time) bool { return o.d.record.elapsed(since) >= retryWindow }
	return o.keyless && (o.key != "" && closed(o.asked) || !o.unanswered.IsZero() && closed(o.unanswered))
}

// rest is what passes between two refreshes. It is minutes in life and less
// here. But a request that arrives when its session has gone on by more than
// four refreshes is taken for a thief's: where a request may be late, this many
// must take longer than that, as they do in life.
func (o *owner) rest() bool {
	if !o.d.sleep(o.d.pace/2 + time.Duration(o.rnd.Int64N(int64(o.d.pace)))) {
		return false
	}
	switch {
	case o.unanswered.IsZero():
	case o.keyless && o.since >= 1:
		// Without a key it is taken for a thief's as soon as the window is over.
		if !o.d.sleep(time.Until(o.unanswered.Add(retryWindow))) {
			return false
		}
		o.l.excuse()
	case o.since >= keysKept-1:
		return o.d.sleep(time.Until(o.unanswered.Add(lateness + *faultTime)))
	}
	return true
}

// live is the whole life of a session.
func (o *owner) live() {
	d, l := o.d, o.l
	l.mu.Lock()
	l.owner = o
	l.mu.Unlock()
	rounds := 2 + o.rnd.IntN(10)
	theft := -1
	if o.rnd.IntN(5) == 0 {
		theft = o.rnd.IntN(rounds)
	}
	for n := range rounds {
		if !o.rest() {
			return
		}
		if n == theft {
			l.mu.Lock()
			l.robbed = true
			l.mu.Unlock()
			d.record.note("theft")
			thief := &thief{d: d, l: l, rnd: rand.New(rand.NewPCG(o.rnd.Uint64(), 1)), token: o.token}
			d.actors.Go(thief.live)
		}
		if o.rnd.IntN(12) == 0 {
			o.list()
		}
		if !o.refresh() {
			return
		}
	}
	if n := o.rnd.IntN(10); n < 7 { // The others stay, and are looked at in the end.
		o.logout(n)
	}
}

// logout ends the session in one of the ways that there are, and asks again
// until that is answered.
func (o *owner) logout(how int) {
	d, l := o.d, o.l
	l.mu.Lock()
	access := l.access[len(l.access)-1]
	l.mu.Unlock()
	method, path, body, header := http.MethodPost, "/logout", "", http.Header{}
	concerns := []*life{l}
	switch {
	case how < 2: // by the access token
		header = bearer(access)
	case how < 4:
		method, path, header = http.MethodDelete, "/sessions/"+l.sid, bearer(access)
	case how < 5: // all devices
		method, path, header = http.MethodDelete, "/sessions", bearer(access)
	default: // by the refresh token
		body = fmt.Sprintf(`{"refresh_token":%q}`, o.token)
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 400*time.Millisecond) {
		call := time.Now()
		var all *endOfAll
		if path == "/sessions" {
			all = &endOfAll{sub: l.sub, call: call}
			concerns = d.record.endAll(all)
		}
		for _, c := range concerns {
			c.mu.Lock()
			if c.endAsked.IsZero() {
				c.endAsked = call
			}
			c.mu.Unlock()
		}
		r, err := d.ask(d.anyInstance(o.rnd), method, path, body, header)
		d.record.note("logout")
		back := time.Now()
		done := err == nil && r.status == http.StatusNoContent
		if all != nil {
			over := back
			if err != nil {
				// It may still be under way.
				over = back.Add(lateness + *faultTime)
			}
			d.record.endedAll(all, over)
		}
		for _, c := range concerns {
			// Whose login was not answered when this began may have been missed.
			e := event{request: request{op: logout}, call: call}
			c.mu.Lock()
			if done && (c == l || c.begun.Before(call)) {
				e.answer.known, e.back = true, back
				if c.endTold.IsZero() {
					c.endSent, c.endTold, c.endWithAll = call, back, c != l
				}
			}
			c.mu.Unlock()
			c.add(e)
		}
		switch {
		case done:
			return
		case err == nil && r.status == http.StatusUnauthorized && r.Error == "invalid_token" && path != "/logout":
			// Somebody has ended it already, or an earlier attempt has, whose answer
			// was lost.
			return
		case err == nil && r.status != http.StatusServiceUnavailable:
			d.record.problem("%s %s: %d %s", method, path, r.status, r.refusal())
			return
		}
		if !d.sleep(wait/2 + time.Duration(o.rnd.Int64N(int64(wait)))) {
			return
		}
	}
}

// list asks for the user's sessions.
func (o *owner) list() {
	o.l.mu.Lock()
	access := o.l.access[len(o.l.access)-1]
	o.l.mu.Unlock()
	e := event{request: request{op: list}, call: time.Now()}
	r, err := o.d.ask(o.d.anyInstance(o.rnd), http.MethodGet, "/sessions", "", bearer(access))
	o.d.record.note("list")
	e.back = time.Now()
	switch {
	case err == nil && r.status == http.StatusUnauthorized:
		o.l.refusedAccess("GET /sessions", r.About)
		return
	case err != nil || r.status == http.StatusServiceUnavailable:
		return
	case r.status != http.StatusOK:
		o.d.record.problem("GET /sessions: %d %s", r.status, r.Error)
		return
	}
	e.answer = answer{known: true, refusal: absent}
	for _, s := range r.Sessions {
		if s.SID == o.l.sid {
			e.answer.refusal = ""
		}
	}
	o.l.add(e)
}

// refusedAccess takes note that a session's access token was refused: that is
// judged when it is known who else had asked to end the session.
func (l *life) refusedAccess(by, why string) {
	if why != verify.Description(verify.ErrDenied) {
		return // It has expired.
	}
	l.mu.Lock()
	l.refusals = append(l.refusals, refusal{by, time.Now()})
	l.mu.Unlock()
}

// refusal is that an access token was refused as revoked.
type refusal struct {
	by string
	at time.Time
}

// A thief has a copy of a token, and uses it some time later, with a key of
// their own or with none.
type thief struct {
	d     *deployment
	l     *life
	rnd   *rand.Rand
	token string
}

func (t *thief) live() {
	d := t.d
	if !d.sleep(time.Duration(t.rnd.Int64N(int64(4 * d.pace)))) {
		return
	}
	keySent := t.rnd.IntN(2) == 0
	for n := range 4 {
		key := fmt.Sprintf("%s-thief-%d", t.l.name, n)
		next, a := d.present(t.l, t.rnd, t.token, key, keySent)
		switch {
		case a.known && a.refusal == "":
			t.token = next
		case a.known && a.refusal != often:
			return
		}
		if !d.sleep(d.pace) {
			return
		}
	}
}
