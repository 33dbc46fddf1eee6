package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/authapi/authapi/internal/strictjson"
	"github.com/authapi/authapi/tokens"
)

const (
	// maxKeySetAge is how long a set is used after the issuer has confirmed it
	// for the last time. An issuer that is out of reach has not withdrawn its
	// keys: for a day nobody is refused because of that. But a key that leaked
	// is withdrawn by publishing a set without it, and whoever is cut off from
	// that would believe the thief for ever. Such a key is also denied on the
	// feed, for 7 days. A set of a day is gone long before that denial is; an
	// eternal one would outlive it.
	maxKeySetAge = 24 * time.Hour

	fetchTime   = 5 * time.Second // for all of a fetch: names, dialling, TLS, one or two documents
	maxDocument = 64 << 10        // bytes; tokens.ParseKeySet takes no more
	firstRetry  = time.Second     // doubled with each failure
	reportEvery = time.Hour       // for trouble that stays the same

	// lookEvery is how often the clocks are looked at. Timers stand still while
	// a machine is suspended; what was due meanwhile is noticed this soon.
	lookEvery = time.Second
)

// JWKSConfig says where the issuer publishes its keys. Exactly one of Issuer
// and URL is needed; the zero value of the other fields is good.
//
// A URL is https, so that nobody on the way can put in keys of their own, or
// http to a loopback host; see AllowHTTP. It has no user info and no fragment.
// Redirects are not followed.
type JWKSConfig struct {
	// Issuer is the iss of the tokens, byte for byte. The keys are found by its
	// metadata (RFC 8414).
	Issuer string
	// URL is where the JWKS document itself lies, for issuers without metadata.
	URL string
	// Client makes the requests, for whoever needs certificates or proxies of
	// their own. Its transport must heed the context of a request. The default
	// uses the proxies of the environment.
	Client *http.Client
	// AllowHTTP lets URLs be http to any host. It is for networks that protect
	// what they carry, such as a service mesh: anywhere else, whoever sits on the
	// way becomes the issuer.
	AllowHTTP bool
	// Every is how often the keys are fetched, or up to a tenth sooner: default
	// 5 minutes, less than 24 hours. An issuer publishes a key before it signs;
	// Every should be shorter than that (here: 15 minutes).
	Every time.Duration
	// Cooldown is the shortest time from the end of a fetch to the next one:
	// default 10 seconds, at most Every.
	Cooldown time.Duration
	// Report is told what goes wrong, for a log: what is new at once, what
	// stays the same every hour. It must not block for long, since no keys are
	// fetched meanwhile.
	Report func(error)
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// JWKS is the key set of an issuer, fetched again and again in the background.
// It is a [KeySource], and safe for concurrent use.
type JWKS struct {
	config JWKSConfig
	client http.Client
	origin *url.URL // of the metadata, or of the keys if there is none

	set     atomic.Pointer[tokens.KeySet]
	lacking atomic.Pointer[error] // why there is no set, if there is none
	wanted  chan struct{}         // full if somebody has asked for a fetch

	// What follows belongs to the goroutine.
	confirmed  moment // when the request for the set was sent
	reported   string
	reportedAt moment
}

// NewJWKS begins to fetch the keys, at once and until ctx ends. It waits for
// nothing: [JWKS.Err] tells when the first set is there. It fails only if the
// configuration is wrong.
//
// While the issuer is out of reach, or publishes a document that
// [tokens.ParseKeySet] refuses, the last good set stays for 24 hours. The
// same goes for the end of ctx.
func NewJWKS(ctx context.Context, c JWKSConfig) (*JWKS, error) {
	if (c.Issuer == "") == (c.URL == "") {
		return nil, errors.New("verify: keys: exactly one of Issuer and URL is needed")
	}
	origin, err := parseURL(c.Issuer+c.URL, c.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("verify: keys: the URL %w", err)
	}
	if c.Issuer != "" {
		if origin, err = metadataURL(c.Issuer, origin); err != nil {
			return nil, fmt.Errorf("verify: keys: %w", err)
		}
	}
	c.Every = cmp.Or(c.Every, 5*time.Minute)
	c.Cooldown = cmp.Or(c.Cooldown, 10*time.Second)
	if c.Cooldown < 0 || c.Cooldown > c.Every || c.Every >= maxKeySetAge {
		return nil, fmt.Errorf("verify: keys: Cooldown, Every and %v must be in this order", maxKeySetAge)
	}
	if c.Report == nil {
		c.Report = func(error) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	j := &JWKS{config: c, origin: origin, wanted: make(chan struct{}, 1)}
	j.client.Transport = transport
	if c.Client != nil {
		j.client = *c.Client
	}
	// Whoever can make the issuer's server redirect could choose the keys.
	j.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	pending := errors.New("verify: keys: not fetched yet")
	j.lacking.Store(&pending)
	go j.follow(ctx)
	return j, nil
}

// KeySet returns the keys, nil while none are known. As long as the issuer
// publishes the same keys the pointer is the same. It waits for nothing.
func (j *JWKS) KeySet() *tokens.KeySet { return j.set.Load() }

// Err says why KeySet returns nil. It returns nil if there are keys.
func (j *JWKS) Err() error {
	if j.set.Load() != nil {
		return nil
	}
	return *j.lacking.Load()
}

// Refresh asks for a fetch soon, because a token names a key that is not in
// the set. Anybody can make such tokens, so it may be called for each of them:
// it waits for nothing and costs nanoseconds.
//
// The fetch comes as soon as the cool-down since the end of the last one is
// over, whatever that one was made for. Mostly it is over, and a new key is
// known at once. Under a flood of invented keys the issuer is asked once per
// cool-down, and a new key is known that much later at most. What is asked for
// meanwhile is put off and not dropped: the fetch before may have come just too
// soon for the key.
func (j *JWKS) Refresh() {
	select {
	case j.wanted <- struct{}{}:
	default:
	}
}

// follow fetches the keys until ctx ends.
func (j *JWKS) follow(ctx context.Context) {
	// Handlers may go on for a while. But should ctx have ended by mistake, and
	// nobody fetches any more, the set must not be eternal.
	defer func() { time.AfterFunc(maxKeySetAge-j.now().since(j.confirmed), j.expire) }()

	retry := firstRetry
	for {
		pause := j.config.Every
		if j.update(ctx) {
			retry = firstRetry
		} else {
			pause = min(pause, retry)
			retry = 2 * pause
		}
		// Services that were started, or lost the issuer, in the same second
		// must not come back in the same second.
		pause -= rand.N(pause/10 + 1)
		// Without keys everything is refused: that is worth some more requests.
		if j.set.Load() != nil {
			pause = max(pause, j.config.Cooldown)
		}
		if !j.await(ctx, pause) {
			return
		}
	}
}

// await returns when the next fetch is due: after the pause, or after the
// cool-down if that is shorter and somebody asks. It reports false if ctx ended.
func (j *JWKS) await(ctx context.Context, pause time.Duration) bool {
	ended := j.now()
	for {
		j.expire()
		passed := j.now().since(ended)
		if passed >= pause {
			return true
		}
		look := min(lookEvery, pause-passed)
		wanted := j.wanted
		// What is wanted is left in its place meanwhile, where it makes all
		// further calls of Refresh cheap.
		if cool := j.config.Cooldown - passed; cool > 0 {
			look, wanted = min(look, cool), nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-wanted:
			pause = 0
		case <-time.After(look):
		}
	}
}

// update reports whether it could fetch the keys.
func (j *JWKS) update(ctx context.Context) bool {
	select {
	case <-j.wanted: // this fetch is for all who asked until now
	default:
	}
	began := j.now()
	set, err := j.fetch(ctx)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		j.trouble(err)
		return false
	}
	j.confirmed, j.reported = began, ""
	// Verdicts are tied to the pointer.
	if !equal(set, j.set.Load()) {
		j.set.Store(set)
	}
	return true
}

func equal(a, b *tokens.KeySet) bool {
	x, errX := a.MarshalJSON()
	y, errY := b.MarshalJSON()
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// expire drops a set that is too old.
func (j *JWKS) expire() {
	if j.set.Load() == nil || j.now().since(j.confirmed) < maxKeySetAge {
		return
	}
	j.set.Store(nil) // first of all: who is told of it may take its time
	j.trouble(fmt.Errorf("those known were dropped, since they were not confirmed for %v", maxKeySetAge))
}

func (j *JWKS) trouble(err error) {
	err = fmt.Errorf("verify: keys: %w", err)
	j.lacking.Store(&err)
	now := j.now()
	if err.Error() == j.reported && now.since(j.reportedAt) < reportEvery {
		return
	}
	j.reported, j.reportedAt = err.Error(), now
	j.config.Report(err)
}

// moment is a time on two clocks. The steady one stands still while the machine
// is suspended, and the wall clock can be set back.
type moment struct{ steady, wall time.Time }

func (j *JWKS) now() moment { return moment{time.Now(), j.config.Now().Round(0)} }

// since returns the time that has passed by the clock that says more.
func (m moment) since(earlier moment) time.Duration {
	return max(m.steady.Sub(earlier.steady), m.wall.Sub(earlier.wall))
}

// transport bounds what a request's context does not: after that has ended,
// package net/http goes on dialling in the background. A connection is closed
// after use, since one that has lain idle for minutes is often dead.
var transport = &http.Transport{
	Proxy:                  http.ProxyFromEnvironment,
	DialContext:            (&net.Dialer{Timeout: fetchTime}).DialContext,
	TLSHandshakeTimeout:    fetchTime,
	MaxResponseHeaderBytes: maxDocument,
	DisableKeepAlives:      true,
}

// fetch asks the issuer for its keys. The metadata is read each time too, so
// that a key set that has moved is found. Errors hold nothing that a server has
// said but the status: a log is no place for what a stranger may write.
func (j *JWKS) fetch(ctx context.Context) (*tokens.KeySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	from := j.origin
	if j.config.Issuer != "" {
		document, err := j.get(ctx, from)
		if err == nil {
			from, err = j.parseMetadata(document)
		}
		if err != nil {
			return nil, fmt.Errorf("metadata: %w", err)
		}
	}
	document, err := j.get(ctx, from)
	if err != nil {
		return nil, err
	}
	return tokens.ParseKeySet(document)
}

func (j *JWKS) get(ctx context.Context, from *url.URL) ([]byte, error) {
	response, err := j.client.Do((&http.Request{Method: http.MethodGet, URL: from}).WithContext(ctx))
	if err != nil {
		return nil, cause(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %d", response.StatusCode)
	}
	document, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err != nil {
		return nil, cause(ctx, err)
	}
	if len(document) > maxDocument {
		return nil, fmt.Errorf("the document is larger than %d bytes", maxDocument)
	}
	return document, nil
}

// cause says what went wrong between here and the server. Of errors that may
// quote the server only the kind is left. Local ports and times are left out
// too: the same trouble would look new each time.
func cause(ctx context.Context, err error) error {
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var network *net.OpError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("no complete answer within %v", fetchTime)
	case errors.As(err, &certificate):
		return fmt.Errorf("the certificate is refused (%T)", certificate.Err)
	case errors.As(err, &name) && name.IsNotFound:
		return errors.New("no such host")
	case errors.As(err, &name):
		return errors.New("the name of the host cannot be looked up")
	case errors.As(err, &network):
		return fmt.Errorf("%s: %w", network.Op, network.Err)
	}
	return errors.New("no answer, or none that is HTTP")
}

// metadataURL is where an issuer publishes its metadata: the well-known path is
// put between host and path (RFC 8414, section 3.1).
func metadataURL(issuer string, u *url.URL) (*url.URL, error) {
	if strings.Contains(issuer, "?") {
		return nil, errors.New("an issuer has no query (RFC 8414, section 2)")
	}
	return url.Parse(u.Scheme + "://" + u.Host + "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.EscapedPath(), "/"))
}

// parseMetadata returns where the keys lie.
func (j *JWKS) parseMetadata(document []byte) (*url.URL, error) {
	var issuer, keys string
	if err := strictjson.Decode(document, map[string]any{"issuer": &issuer, "jwks_uri": &keys}); err != nil {
		return nil, err
	}
	// Where several issuers share a host, one must not speak for another
	// (RFC 8414, section 3.3).
	if issuer != j.config.Issuer {
		return nil, errors.New("it is of another issuer")
	}
	u, err := parseURL(keys, j.config.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("jwks_uri %w", err)
	}
	// The exception for loopback hosts is for issuers there. Of any other, http
	// would reach into this machine.
	if j.origin.Scheme == "https" && u.Scheme != "https" {
		return nil, errors.New("jwks_uri is not https, although the issuer is")
	}
	return u, nil
}

// parseURL accepts what keys may be fetched from. Errors do not quote it.
func parseURL(text string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return nil, errors.New("is not an absolute URL")
	case u.User != nil:
		return nil, errors.New("holds a user name")
	case strings.Contains(text, "#"):
		return nil, errors.New("has a fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !allowHTTP && !isLoopback(u.Hostname())):
		return nil, errors.New("is not https; http is for loopback hosts, or needs AllowHTTP")
	}
	return u, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}
