package service

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/authapi/authapi"
)

// Document returns openapi.yaml, read and found to be valid OpenAPI 3.1, its
// examples included.
func Document() (*openapi3.T, error) {
	c, err := theContract()
	if err != nil {
		return nil, err
	}
	return c.doc, nil
}

type contract struct {
	doc    *openapi3.T
	router routers.Router
	// passed holds the errors that were found good, by all that was looked at.
	// Hundreds of requests get the same one, and a check takes longer than the
	// request.
	passed sync.Map
}

var theContract = sync.OnceValues(func() (*contract, error) {
	doc, err := openapi3.NewLoader().LoadFromData(authapi.OpenAPI)
	if err != nil {
		return nil, err
	}
	// The document is served from everywhere; its server is "/".
	doc.Servers = nil
	router, err := legacy.NewRouter(doc, openapi3.IsOpenAPI31OrLater(), openapi3.EnableExamplesValidation())
	return &contract{doc: doc, router: router}, err
})

// exchange is a request and its response.
type exchange struct {
	request  *http.Request
	sent     []byte
	response *http.Response
	received []byte
}

// check holds an exchange against the document and returns its operation.
func (c *contract) check(x exchange) (string, error) {
	// Preflights belong to the fetch standard, not to the document.
	if x.request.Method == http.MethodOptions && x.request.Header.Get("Access-Control-Request-Method") != "" {
		if x.response.StatusCode != http.StatusOK || len(x.received) > 0 {
			return "", fmt.Errorf("a preflight was answered %d with %d bytes", x.response.StatusCode, len(x.received))
		}
		return "", nil
	}
	request := x.request.Clone(context.Background())
	request.Body = io.NopCloser(bytes.NewReader(x.sent))
	head := request.Method == http.MethodHead
	if head {
		request.Method = http.MethodGet // HEAD is GET without the body
		if len(x.received) > 0 {
			return "", errors.New("HEAD was answered with a body")
		}
	}
	// By the path as it was sent: an encoded slash does not end a segment.
	encoded := request.Clone(context.Background())
	encoded.URL.Path, encoded.URL.RawPath = request.URL.EscapedPath(), ""
	route, params, err := c.router.FindRoute(encoded)
	for name, value := range params {
		params[name], _ = url.PathUnescape(value)
	}
	// This router overlooks a last slash; the service does not.
	if err != nil || strings.HasSuffix(request.URL.Path, "/") {
		return "", c.checkUnknown(x)
	}
	name := route.Method + " " + route.Path
	if !requestID.MatchString(x.response.Header.Get("X-Request-Id")) {
		return name, errors.New("X-Request-Id is missing or malformed")
	}
	known := ""
	if x.response.StatusCode >= 400 {
		header := x.response.Header.Clone()
		header.Del("X-Request-Id")
		header.Del("Date")
		known = fmt.Sprintln(name, head, x.response.StatusCode, header, string(x.received))
		if _, ok := c.passed.Load(known); ok {
			return name, nil
		}
	}

	options := &openapi3filter.Options{
		IncludeResponseStatus: true,
		ExcludeResponseBody:   head,
		AuthenticationFunc:    openapi3filter.NoopAuthenticationFunc,
		SkipSettingDefaults:   true,
	}
	input := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: params, Route: route, Options: options,
	}
	// What the service accepts the document must allow. What it refuses is
	// often just what the document forbids.
	if x.response.StatusCode < 300 {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			return name, fmt.Errorf("accepted a request that the document does not allow: %w", err)
		}
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input,
		Status:                 x.response.StatusCode,
		Header:                 x.response.Header,
		Body:                   io.NopCloser(bytes.NewReader(x.received)),
		Options:                options,
	})
	if err != nil {
		return name, fmt.Errorf("answered %d, not as documented: %w", x.response.StatusCode, err)
	}
	documented := route.Operation.Responses.Status(x.response.StatusCode).Value
	if len(documented.Content) == 0 && len(x.received) > 0 {
		return name, fmt.Errorf("answered %d with a body that is not documented", x.response.StatusCode)
	}
	if known != "" {
		c.passed.Store(known, nil)
	}
	return name, nil
}

var requestID = regexp.MustCompile(`^[!-~]{1,128}$`)

// checkUnknown checks the two answers that routes outside the document have.
func (c *contract) checkUnknown(x exchange) error {
	want := map[int]string{http.StatusNotFound: "not_found", http.StatusMethodNotAllowed: "method_not_allowed"}[x.response.StatusCode]
	if want == "" {
		return fmt.Errorf("answered %d, but the document does not know the route", x.response.StatusCode)
	}
	if !requestID.MatchString(x.response.Header.Get("X-Request-Id")) {
		return errors.New("X-Request-Id is missing or malformed")
	}
	if x.response.StatusCode == http.StatusMethodNotAllowed && x.response.Header.Get("Allow") == "" {
		return errors.New("405 without Allow")
	}
	if x.request.Method == http.MethodHead {
		return nil
	}
	var body any
	if err := json.Unmarshal(x.received, &body); err != nil {
		return fmt.Errorf("answered %d: %w", x.response.StatusCode, err)
	}
	schema := c.doc.Components.Schemas["Error"].Value
	if err := schema.VisitJSON(body, openapi3.EnableJSONSchema2020()); err != nil {
		return fmt.Errorf("answered %d, not in the shape of errors: %w", x.response.StatusCode, err)
	}
	if got := body.(map[string]any)["error"]; got != want {
		return fmt.Errorf("answered %d with the code %q, want %q", x.response.StatusCode, got, want)
	}
	return nil
}

// What the transport tells the client: the operation, and how long it took
// without the checks.
const (
	routeHeader = "Test-Route"
	tookHeader  = "Test-Took"
)

// checkedTransport checks what passes through, and collects its secrets.
type checkedTransport struct {
	service *Service
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *checkedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c, err := theContract()
	if err != nil {
		return nil, err
	}
	x := exchange{request: r}
	if r.Body != nil {
		if x.sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(x.sent))
	}
	t.collect(r.Header, x.sent)
	began := time.Now()
	x.response, err = t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer x.response.Body.Close()
	if x.received, err = io.ReadAll(x.response.Body); err != nil {
		return nil, err
	}
	took := time.Since(began)
	t.collect(nil, x.received)
	x.response.Body = io.NopCloser(bytes.NewReader(x.received))
	operation, err := c.check(x)
	if err != nil {
		t.service.tb.Errorf("%s: %v", cmp.Or(operation, r.Method+" "+r.URL.Path), err)
	}
	x.response.Header.Set(routeHeader, operation)
	x.response.Header.Set(tookHeader, took.String())
	return x.response, nil
}

// collect makes the log forbid the secrets of a message.
func (t *checkedTransport) collect(header http.Header, body []byte) {
	forbid := t.service.Log.Secret
	for _, key := range header.Values("Idempotency-Key") {
		forbid(strings.Trim(key, `"`))
	}
	members := map[string]any{}
	if json.Unmarshal(body, &members) != nil {
		if form, err := url.ParseQuery(string(body)); err == nil {
			for name := range form {
				members[name] = form.Get(name)
			}
		}
	}
	for _, name := range []string{"password", "access_token", "refresh_token", "token"} {
		value, _ := members[name].(string)
		// A part of a token is as bad as the whole.
		for part := range strings.SplitSeq(strings.TrimPrefix(value, "authapi_rt_"), ".") {
			forbid(part)
		}
	}
}
