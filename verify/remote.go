package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/authapi/authapi/internal/wire"
)

// RemoteConfig says where the issuer publishes its revocations. The URL and the
// client's id and secret are needed.
type RemoteConfig struct {
	// URL is the issuer's /revocations: https, or http to a loopback host, see
	// AllowHTTP.
	// Redirects are not followed, since they could carry the secret elsewhere.
	URL string
	// AllowHTTP lets the URL be http to any host. It is for networks that protect
	// what they carry, such as a service mesh.
	AllowHTTP bool
	// ClientID and ClientSecret are those of a client that may follow.
	ClientID, ClientSecret string
	// Client makes the requests, for whoever needs certificates or proxies of
	// their own. It must have no time-out for the whole of a request: the answer
	// is meant to last. The default has none.
	Client *http.Client
}

// Remote is the [Source] for services that have no Redis: it follows the
// issuer's GET /revocations (Server-Sent Events).
type Remote struct {
	config RemoteConfig
	client http.Client
}

var errCredentials = errors.New("the issuer refuses the client's credentials")

const (
	// frameTimeout is how long there may be no frame before the connection is
	// given up; five should come each second.
	frameTimeout = 2 * time.Second
	// answerTimeout is how long a connection may take to bring the first frame.
	answerTimeout = 5 * time.Second

	// behind is how late a frame may be, and maxLate how often in a row it may be
	// later, before the connection is made anew to measure again.
	behind  = 400 * time.Millisecond
	maxLate = 25

	// forgotten is an age in ms that is as good as none.
	forgotten = int64(24 * time.Hour / time.Millisecond)

	// While a service waits, it does not know what is revoked: better many
	// attempts than a long silence after the issuer is back.
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 2 * time.Second
	// sameTrouble is how long trouble that stays the same is kept back.
	sameTrouble = 10 * time.Second
)

// NewRemote returns the source. It fails only if the configuration is wrong.
func NewRemote(c RemoteConfig) (*Remote, error) {
	if _, err := parseURL(c.URL, c.AllowHTTP); err != nil {
		return nil, fmt.Errorf("verify: revocations: the URL %w", err)
	}
	if c.ClientID == "" || c.ClientSecret == "" {
		return nil, errors.New("verify: revocations: a client id and a secret are needed")
	}
	r := &Remote{config: c}
	r.client.Transport = transport
	if c.Client != nil {
		r.client = *c.Client
	}
	if r.client.Timeout != 0 {
		return nil, errors.New("verify: revocations: the HTTP client's time-out would end the stream")
	}
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return r, nil
}

// Follow implements [Source]. A connection that ends is made again, and goes on
// a little before the point that was reached.
func (r *Remote) Follow(ctx context.Context,
	denied func(kind, id string, until time.Time),
	current func(partition int, age time.Duration),
	trouble func(error),
) {
	s := &stream{remote: r, denied: denied, current: current}
	backoff := firstBackoff
	var last string
	var reported time.Time
	for ctx.Err() == nil {
		began := time.Now()
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxBackoff {
			backoff = firstBackoff
		}
		var wait retryAfter
		errors.As(err, &wait)
		// The issuer ends each stream after a while; that is no trouble.
		if err != nil && (err.Error() != last || time.Since(reported) > sameTrouble) {
			last, reported = err.Error(), time.Now()
			trouble(fmt.Errorf("verify: revocations: %w", err))
		}
		// Thousands that lost the same instance must not come back as one.
		pause(ctx, max(time.Duration(wait), backoff/2+rand.N(backoff/2)))
		backoff = min(2*backoff, maxBackoff)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// retryAfter is an answer that says when to come back.
type retryAfter time.Duration

func (retryAfter) Error() string { return "the issuer cannot answer now" }

// stream is what outlives a connection, and what belongs to the present one.
type stream struct {
	remote  *Remote
	denied  func(kind, id string, until time.Time)
	current func(partition int, age time.Duration)
	mark    string
	frames  int // of the present connection
}

// follow reads one connection to its end. It returns nil if the issuer ended it
// in order.
func (s *stream) follow(ctx context.Context) error {
	s.frames = 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.remote.config.URL, nil)
	if err != nil {
		return err
	}
	// RFC 6749, section 2.3.1, wants both parts encoded.
	req.SetBasicAuth(url.QueryEscape(s.remote.config.ClientID), url.QueryEscape(s.remote.config.ClientSecret))
	req.Header.Set("Accept", "text/event-stream")
	// Compressing means collecting.
	req.Header.Set("Accept-Encoding", "identity")
	if s.mark != "" {
		req.Header.Set("Last-Event-ID", s.mark)
	}

	var silent atomic.Bool
	watch := time.AfterFunc(answerTimeout, func() { silent.Store(true); cancel() })
	defer watch.Stop()
	sent := time.Now()
	// The time that dialling takes, four round trips or a lost packet's second,
	// would count as age for as long as the stream lasts.
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent = time.Now() },
	}))
	res, err := s.remote.client.Do(req)
	if err != nil {
		if silent.Load() {
			return errors.New("the issuer does not answer")
		}
		return cause(ctx, err)
	}
	defer res.Body.Close()
	if err := acceptable(res); err != nil {
		return err
	}

	frames := wire.NewReader(res.Body)
	var first int64
	late := 0
	for {
		f, err := frames.Next()
		switch {
		case silent.Load():
			return errors.New("the issuer fell silent")
		case errors.Is(err, io.EOF) && s.frames > 0:
			return nil
		case err != nil:
			return errors.New("the stream broke off, or is none")
		}
		watch.Reset(frameTimeout)
		if s.frames == 0 {
			first = f.Clock
		}
		s.frames++
		for _, d := range f.Denied {
			s.denied(d.Kind, d.ID, time.Unix(d.Until, 0))
		}
		if m := frames.Mark(); m != "" {
			s.mark = m
		}
		// The first frame was made after the request was sent. So this one was
		// made no earlier than that much after it as lies between the two on
		// the issuer's clock; what has passed since comes on top, wherever the
		// frame has been waiting.
		// (The clock's milliseconds are cut off; the two clocks may drift apart by
		// some 100 ms while a connection lasts.)
		took := time.Since(sent)
		passed := f.Clock - first - 1
		if f.Clock < first || passed > (took+time.Second).Milliseconds() {
			return errors.New("the issuer's clock leapt")
		}
		// After a suspension, what lay in the socket looks young. Another request
		// measures anew, which is right too if the wall clock was just set.
		if elapsed(sent) > took+time.Second {
			return errors.New("this machine was suspended, or its clock was set")
		}
		since := took - time.Duration(passed)*time.Millisecond
		// Perhaps the first frame was slow and the others are not.
		if since > behind {
			late++
		} else {
			late = 0
		}
		if late > maxLate {
			return errors.New("what the issuer sends arrives late")
		}
		for p, age := range f.Ages {
			if age >= 0 && age < forgotten {
				s.current(p, max(0, since)+time.Duration(age)*time.Millisecond)
			}
		}
	}
}

func acceptable(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return errCredentials
	case res.StatusCode == http.StatusServiceUnavailable, res.StatusCode == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return retryAfter(min(time.Duration(max(seconds, 0))*time.Second, maxBackoff))
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("the issuer answers %d", res.StatusCode)
	}
	if t := res.Header.Get("Content-Type"); t != "text/event-stream" {
		return errors.New("the issuer's answer is no event stream")
	}
	return nil
}
