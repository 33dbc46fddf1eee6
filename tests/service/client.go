package service

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Request is one request. What is empty is not sent.
type Request struct {
	Method  string // GET if empty
	Path    string // with the query
	Bearer  string // an access token
	Type    string // Content-Type
	Body    string
	Chunked bool        // send the body without its length
	Header  http.Header // further headers
}

// JSON is a POST of a JSON body.
func JSON(path, body string) Request {
	return Request{Method: http.MethodPost, Path: path, Type: "application/json", Body: body}
}

// Form is a POST of a form. The arguments are names and values in turn.
func Form(path string, pairs ...string) Request {
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return Request{Method: http.MethodPost, Path: path, Type: "application/x-www-form-urlencoded", Body: form.Encode()}
}

// WithHeader returns the request with one more header.
func (r Request) WithHeader(name, value string) Request {
	header := r.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Add(name, value)
	r.Header = header
	return r
}

// WithClient returns the request with a client's credentials (RFC 6749, section
// 2.3.1).
func (r Request) WithClient(id, secret string) Request {
	credentials := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	return r.WithHeader("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(credentials)))
}

// WithBearer returns the request with an access token.
func (r Request) WithBearer(access string) Request {
	r.Bearer = access
	return r
}

// AsShop returns the request with the credentials of the client [Shop].
func (r Request) AsShop() Request { return r.WithClient(Shop, ShopSecret) }

// Tokens is a token response.
type Tokens struct {
	Access           string `json:"access_token"`
	Refresh          string `json:"refresh_token"`
	Scope            string `json:"scope"`
	ExpiresIn        int64  `json:"expires_in"`
	RefreshExpiresIn int64  `json:"refresh_expires_in"`
	SessionExpiresIn int64  `json:"session_expires_in"`
	DeviceKey        string `json:"device_key"`
}

// Me is what GET /me says.
type Me struct {
	Subject  string   `json:"sub"`
	Username string   `json:"username"`
	SID      string   `json:"sid"`
	ClientID string   `json:"client_id"`
	Roles    []string `json:"roles"`
	AuthTime string   `json:"auth_time"`
}

// Session is one line of GET /sessions.
type Session struct {
	SID     string `json:"sid"`
	Device  string `json:"device"`
	Current bool   `json:"current"`
}

// Answer is a response, with the members of all bodies that the API sends.
type Answer struct {
	Status int           `json:"-"` // 0 if there was no response, which has failed the test
	Header http.Header   `json:"-"`
	Body   []byte        `json:"-"`
	Took   time.Duration `json:"-"`
	// Route is the operation of the document, "POST /login" for example; ""
	// if the document has none for the request.
	Route string `json:"-"`

	Error       string `json:"error"`
	Description string `json:"error_description"`
	Reason      string `json:"reason"`
	Tokens
	Me
	Sessions []Session `json:"sessions"`
}

// Is fails the test if the answer has another status or error code. For
// invalid_grant with a reason, code is "invalid_grant reused" for example.
func (a Answer) Is(tb testing.TB, status int, code string) {
	tb.Helper()
	got := strings.TrimSpace(a.Error + " " + a.Reason)
	if a.Status != status || got != code {
		tb.Errorf("%s: got %d %q (%s), want %d %q", a.Route, a.Status, got, a.Description, status, code)
	}
}

// OK ends the test if the answer is an error.
func (a Answer) OK(tb testing.TB) Answer {
	tb.Helper()
	if a.Status < 200 || a.Status > 299 {
		tb.Fatalf("%s: got %d %s %s (%s)", a.Route, a.Status, a.Error, a.Reason, a.Description)
	}
	return a
}

// Send sends a request. It fails the test if no response arrives.
func (v *Service) Send(r Request) Answer {
	v.tb.Helper()
	a, err := v.Try(context.Background(), r)
	if err != nil {
		v.tb.Errorf("%s %s: %v", r.Method, r.Path, err)
	}
	return a
}

// Try is Send for requests that may get no response.
func (v *Service) Try(ctx context.Context, r Request) (Answer, error) { return v.send(ctx, v.http, r) }

// Raw is Try for paths that are not those of the document.
func (v *Service) Raw(r Request) (Answer, error) {
	bare := *v.http
	bare.Transport = v.http.Transport.(*checkedTransport).next
	return v.send(context.Background(), &bare, r)
}

func (v *Service) send(ctx context.Context, client *http.Client, r Request) (Answer, error) {
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	var body io.Reader
	if r.Body != "" {
		body = strings.NewReader(r.Body)
	}
	if r.Chunked {
		body = struct{ io.Reader }{strings.NewReader(r.Body)} // hides the length
	}
	req, err := http.NewRequestWithContext(ctx, method, v.URL+r.Path, body)
	if err != nil {
		return Answer{}, err
	}
	if r.Header != nil {
		req.Header = r.Header.Clone()
	}
	if r.Type != "" {
		req.Header.Add("Content-Type", r.Type)
	}
	if r.Bearer != "" {
		req.Header.Add("Authorization", "Bearer "+r.Bearer)
	}
	res, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	a := Answer{Status: res.StatusCode, Header: res.Header, Route: res.Header.Get(routeHeader)}
	a.Took, _ = time.ParseDuration(res.Header.Get(tookHeader))
	res.Header.Del(routeHeader)
	res.Header.Del(tookHeader)
	if a.Body, err = io.ReadAll(res.Body); err != nil {
		return Answer{}, err
	}
	if bytes.HasPrefix(a.Body, []byte("{")) {
		err = json.Unmarshal(a.Body, &a)
	}
	return a, err
}

// Login logs the user in who exists from the start.
func (v *Service) Login() Answer {
	v.tb.Helper()
	return v.LoginAs(Username, Password)
}

// LoginAs logs in.
func (v *Service) LoginAs(username, password string) Answer {
	v.tb.Helper()
	body, _ := json.Marshal(map[string]string{"username": username, "password": password})
	return v.Send(JSON("/login", string(body)))
}

// StartSession starts a session of the client [Shop] for a user of its own.
func (v *Service) StartSession(sub string, roles ...string) Answer {
	v.tb.Helper()
	body, _ := json.Marshal(map[string]any{"sub": sub, "roles": append([]string{}, roles...)})
	return v.Send(JSON("/sessions", string(body)).AsShop())
}

// RefreshRequest is a refresh. Without a key there is no Idempotency-Key.
func RefreshRequest(token, key string) Request {
	r := JSON("/refresh", `{"refresh_token":"`+token+`"}`)
	if key != "" {
		r = r.WithHeader("Idempotency-Key", key)
	}
	return r
}

// Refresh refreshes.
func (v *Service) Refresh(token, key string) Answer {
	v.tb.Helper()
	return v.Send(RefreshRequest(token, key))
}

// Logout logs out by access token, by refresh token, or by both.
func (v *Service) Logout(access, refresh string) Answer {
	v.tb.Helper()
	r := Request{Method: http.MethodPost, Path: "/logout", Bearer: access}
	if refresh != "" {
		r.Type, r.Body = "application/json", `{"refresh_token":"`+refresh+`"}`
	}
	return v.Send(r)
}

// Me asks whom an access token speaks for.
func (v *Service) Me(access string) Answer {
	v.tb.Helper()
	return v.Send(Request{Path: "/me", Bearer: access})
}

// List lists the user's sessions.
func (v *Service) List(access string) []Session {
	v.tb.Helper()
	return v.Send(Request{Path: "/sessions", Bearer: access}).OK(v.tb).Sessions
}

// Introspect asks about a token, as a client that may.
func (v *Service) Introspect(token string) Answer {
	v.tb.Helper()
	return v.Send(Form("/oauth/introspect", "token", token).WithClient(Introspector, IntrospectorSecret))
}
