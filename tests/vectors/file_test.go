// Package vectors_test holds the verifiers, the one in Go and the one for Node,
// to the same verdicts.
//
// access-tokens.json is a list of key sets, tokens and streams of revocations,
// each with what a verifier must make of it. It is open to verifiers in any
// other language: file says what its members mean. The tests here run it
// against packages tokens and internal/wire; those of clients/verify run the
// same file. Beyond that, both verifiers are given the same tokens with random
// changes, and the one for Node follows an issuer that is written in Go.
//
// To write the file anew, after the list has changed:
//
//	go test ./tests/vectors -run TestAccessTokens -update
//
// The keys are always the same, those printed in RFCs. Signatures by ES256 are
// not, so the file differs each time.
package vectors_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/authapi/authapi/tokens"
)

const path = "access-tokens.json"

// file is what access-tokens.json holds.
type file struct {
	About string `json:"about"`
	// Issuer and Audience are what all tokens are verified for.
	Issuer   string `json:"issuer"`
	Audience string `json:"audience"`
	// Sets are JWKS documents by name, for the tokens.
	Sets    map[string]json.RawMessage `json:"sets"`
	KeySets []keySetVector             `json:"keySets"`
	Tokens  []tokenVector              `json:"tokens"`
	Streams []streamVector             `json:"streams"`
}

// keySetVector is a JWKS document. One that is refused is refused as a whole.
type keySetVector struct {
	Name string `json:"name"`
	// Document is the text; Base64 holds it instead if it is not UTF-8.
	Document string `json:"document,omitempty"`
	Base64   []byte `json:"base64,omitempty"`
	// Pad is how many spaces follow it.
	Pad int `json:"pad,omitempty"`
	// Keys are the ids of the keys that can be used, sorted; none if the
	// document is refused.
	Keys []string `json:"keys"`
}

func (v *keySetVector) document() []byte {
	document := v.Base64
	if document == nil {
		document = []byte(v.Document)
	}
	return append(bytes.Clone(document), bytes.Repeat([]byte(" "), v.Pad)...)
}

// tokenVector is an access token, and the verdict at some time about it.
type tokenVector struct {
	Name string `json:"name"`
	Set  string `json:"set"`
	// Now is the verifier's clock, in Unix milliseconds.
	Now   int64  `json:"now"`
	Token string `json:"token"`
	// Repeat, if it is there, is how many times the text is to be repeated.
	Repeat int `json:"repeat,omitempty"`
	// Accepted are the claims of a token that is accepted.
	Accepted *claims `json:"accepted,omitempty"`
	// Refused is why a token is refused: malformed, unknown_key, signature,
	// claims or expired.
	Refused string `json:"refused,omitempty"`
}

func (v *tokenVector) token() string { return strings.Repeat(v.Token, max(1, v.Repeat)) }

// claims are those of an accepted token. Times are in Unix seconds, 0 if absent.
type claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  []string `json:"aud"`
	ExpiresAt int64    `json:"exp"`
	IssuedAt  int64    `json:"iat"`
	ID        string   `json:"jti"`
	ClientID  string   `json:"client_id"`
	SessionID string   `json:"sid"`
	AuthTime  int64    `json:"auth_time"`
	Scope     string   `json:"scope"`
	Roles     []string `json:"roles"`
	AMR       []string `json:"amr"`
	KeyID     string   `json:"kid"`
}

func claimsOf(c *tokens.Claims) *claims {
	var authTime int64
	if !c.AuthTime.IsZero() {
		authTime = c.AuthTime.Unix()
	}
	return &claims{
		c.Issuer, c.Subject, c.Audience, c.ExpiresAt.Unix(), c.IssuedAt.Unix(), c.ID, c.ClientID, c.SessionID, authTime,
		c.Scope, append([]string{}, c.Roles...), append([]string{}, c.AMR...), c.KeyID,
	}
}

// streamVector is an event stream as it comes from GET /revocations.
type streamVector struct {
	Name   string `json:"name"`
	Stream string `json:"stream"`
	// Repeat, if it is there, is how many times the text is to be repeated.
	Repeat int `json:"repeat,omitempty"`
	// Frames are what is read.
	Frames []frame `json:"frames"`
	// Broken says that the stream is not of the known form after those frames.
	Broken bool `json:"broken,omitempty"`
}

type frame struct {
	Clock  int64    `json:"clock"`
	Ages   [16]int  `json:"ages"`
	Denied []denial `json:"denied"`
	// Mark is the id by which one can go on after this frame: its own or, if it
	// has none, that of the last one that had.
	Mark string `json:"mark"`
}

type denial struct {
	Kind  string `json:"kind"`
	ID    string `json:"id"`
	Until int64  `json:"until"`
}

func readFile(t *testing.T) *file {
	t.Helper()
	text, err := os.ReadFile(path)
	check(t, err)
	f := new(file)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	check(t, decoder.Decode(f))
	return f
}

func (f *file) write(t *testing.T) {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	check(t, encoder.Encode(f))
	check(t, os.WriteFile(path, text.Bytes(), 0o644))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
