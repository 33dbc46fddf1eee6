package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/authapi/authapi/internal/strictjson"
	"github.com/authapi/authapi/refresh"
)

// Bounds of what a request may hold, in bytes.
const (
	maxBody     = 8 << 10
	maxRetryKey = 128
)

// field is one parameter of a request.
type field struct {
	name     string
	into     *string
	most     int // bytes
	required bool
}

func (f field) check() error {
	switch {
	case f.required && *f.into == "":
		return invalidRequest(f.name + " is missing")
	case len(*f.into) > f.most:
		return invalidRequest(f.name + " is too long")
	case !utf8.ValidString(*f.into):
		return invalidRequest(f.name + " is not UTF-8")
	}
	return nil
}

// readJSON reads the members of a JSON body into strings.
func readJSON(r *http.Request, fields ...field) error {
	into := make(map[string]any, len(fields))
	for _, f := range fields {
		into[f.name] = f.into
	}
	if err := decodeJSON(r, into); err != nil {
		return err
	}
	return check(fields)
}

func check(fields []field) error {
	for _, f := range fields {
		if err := f.check(); err != nil {
			return err
		}
	}
	return nil
}

// readOptionalJSON is readJSON for routes that can do without a body.
func readOptionalJSON(r *http.Request, fields ...field) error {
	if r.ContentLength == 0 {
		return nil
	}
	return readJSON(r, fields...)
}

// decodeJSON reads the members of a JSON body. Two members of one name, or of
// names that differ only in case, are refused: which one counts is a question
// on which a proxy and this service could differ.
func decodeJSON(r *http.Request, into map[string]any) error {
	if !hasContentType(r, "application/json") {
		return errNotJSON
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if err := strictjson.Decode(body, into); err != nil {
		var bad *strictjson.FieldError
		switch {
		case errors.As(err, &bad):
			return invalidRequest(bad.Field + " " + bad.Problem)
		case errors.Is(err, strictjson.ErrDuplicate):
			return invalidRequest("a member comes twice")
		default:
			return invalidRequest("the body is not a JSON object")
		}
	}
	return nil
}

// readForm is readJSON for the routes whose form RFC 6749 fixes. Parameters in
// the URL are refused: they end up in logs.
func readForm(r *http.Request, fields ...field) error {
	if !hasContentType(r, "application/x-www-form-urlencoded") {
		return errNotForm
	}
	if r.URL.RawQuery != "" {
		return invalidRequest("parameters belong into the body")
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return invalidRequest("the body is not a form")
	}
	// RFC 6749, section 3.2, for known and unknown parameters alike.
	for _, values := range form {
		if len(values) > 1 {
			return invalidRequest("a parameter comes twice")
		}
	}
	for _, f := range fields {
		*f.into = form.Get(f.name)
	}
	return check(fields)
}

// readBody reads what API.bounded let through.
func readBody(r *http.Request) ([]byte, error) {
	if r.Header.Get("Content-Encoding") != "" {
		return nil, invalidRequest("the body must not be encoded")
	}
	return io.ReadAll(r.Body)
}

func hasContentType(r *http.Request, want string) bool {
	values := r.Header.Values("Content-Type")
	if len(values) != 1 {
		return false
	}
	mediaType, params, err := mime.ParseMediaType(values[0])
	if err != nil || mediaType != want {
		return false
	}
	charset, given := params["charset"]
	return !given || strings.EqualFold(charset, "utf-8")
}

// retryKey reads the Idempotency-Key. It is opaque; quotes around it, which
// make it a string of structured fields (RFC 8941), are not part of it.
func retryKey(r *http.Request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", invalidRequest("there is more than one Idempotency-Key")
	}
	key := values[0]
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if key == "" || len(key) > maxRetryKey {
		return "", invalidRequest("the Idempotency-Key must have 1 to 128 bytes")
	}
	return key, nil
}

// A refresh token or an access token as a parameter. Longer ones cannot be
// genuine, but that is for the token's own package to say.
func tokenField(name string, into *string, required bool) field {
	return field{name, into, maxBody, required}
}

func clientField(into *string) field {
	return field{"client_id", into, refresh.MaxClient, false}
}

// secretField is the client's secret where RFC 6749, section 2.3.1, has it in the
// body.
func secretField(into *string) field {
	return field{"client_secret", into, 256, false}
}
