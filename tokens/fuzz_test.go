package tokens_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/authapi/authapi/tokens"
)

// FuzzVerify: nothing panics, every refusal is ErrInvalid, and what verifies
// has exactly one text for its three parts.
func FuzzVerify(f *testing.F) {
	forgers, keys := mixed(f)
	for _, forger := range forgers {
		valid, err := forger.key.Sign(claims())
		check(f, err)
		f.Add(valid)
		f.Add(valid + "\n")
		f.Add(valid[:len(valid)-1])
		f.Add(strings.Replace(valid, ".", "..", 1))
		f.Add(forger.forge(f, forger.header(), payload(f, map[string]string{"exp": "1"})))
		f.Add(forger.forge(f, `{"alg":"none"}`, `{}`))
	}
	f.Add("..")
	verifier := verifierAt(f, now)
	f.Fuzz(func(t *testing.T, token string) {
		c, err := verifier.Verify(token, keys)
		if err != nil {
			if !errors.Is(err, tokens.ErrInvalid) || c != nil {
				t.Fatalf("%v, %v", c, err)
			}
			return
		}
		segments := strings.Split(token, ".")
		for i, s := range segments {
			decoded, err := base64.RawURLEncoding.DecodeString(s)
			if err != nil || base64.RawURLEncoding.EncodeToString(decoded) != s {
				t.Fatalf("segment %d has another text", i)
			}
		}
		if len(segments) != 3 {
			t.Fatalf("%d segments", len(segments))
		}
	})
}

// FuzzClaims signs whatever payload comes: if it is accepted, then
// encoding/json, which is far more lenient, reads the same claims in it.
func FuzzClaims(f *testing.F) {
	forger := newForger(f, "ES256")
	f.Add(payload(f, nil))
	f.Add(payload(f, map[string]string{"aud": `["a","https://api.example"]`, "nbf": "1767323045"}))
	f.Add(with(payload(f, nil), `"SUB":"x"`))
	f.Add(with(payload(f, nil), `"s\u0075b":"x"`))
	f.Add(with(payload(f, nil), `"x":[[{}]]`))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := forger.verifier.Verify(forger.forge(t, forger.header(), text), forger.keys)
		if err != nil {
			if !errors.Is(err, tokens.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		var want struct {
			Iss, Sub, Jti, Sid, Scope string
			ClientID                  string `json:"client_id"`
			Aud                       any
			Exp, Iat                  int64
			Roles, AMR                []string
		}
		check(t, json.Unmarshal([]byte(text), &want))
		if c.Issuer != want.Iss || c.Subject != want.Sub || c.ID != want.Jti || c.SessionID != want.Sid ||
			c.Scope != want.Scope || c.ClientID != want.ClientID || c.ExpiresAt.Unix() != want.Exp ||
			c.IssuedAt.Unix() != want.Iat || !slices.Equal(c.Roles, want.Roles) || !slices.Equal(c.AMR, want.AMR) {
			t.Fatalf("got %+v, want %+v", c, want)
		}
		if one, ok := want.Aud.(string); ok && !slices.Equal(c.Audience, []string{one}) {
			t.Fatalf("aud %q, want %q", c.Audience, one)
		}
	})
}

// FuzzParseKeySet: nothing panics, and a set that is accepted publishes itself
// as a document that is accepted and says the same.
func FuzzParseKeySet(f *testing.F) {
	for _, alg := range tokens.Algorithms() {
		f.Add(set(exampleJWK(alg, "a")))
		f.Add(set(exampleJWK("ES256", "b"), exampleJWK(alg, "a")))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		keys, err := tokens.ParseKeySet(document)
		if err != nil {
			return
		}
		once, err := keys.MarshalJSON()
		check(t, err)
		keys, err = tokens.ParseKeySet(once)
		check(t, err)
		twice, err := keys.MarshalJSON()
		check(t, err)
		if string(once) != string(twice) {
			t.Fatalf("%s became %s", once, twice)
		}
	})
}
