package tokens_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/authapi/authapi/tokens"
)

// FuzzVerify: nothing panics, every refusal is ErrInvalid, asking twice gives
// the same answer, and what verifies has exactly one text for its three parts, a
// header that names its key and a signature that the standard library finds good.
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
		agreesWithAnyTime(t, verifier, token, keys, c, err)
		if err != nil {
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
		signedByOneOf(t, token, forgers)
	})
}

// agreesWithAnyTime holds the two ways to verify against each other: they may
// differ by the clock and by the audience, and by nothing else.
func agreesWithAnyTime(t *testing.T, v *tokens.Verifier, token string, keys *tokens.KeySet, c *tokens.Claims, err error) {
	t.Helper()
	if (c == nil) == (err == nil) || err != nil && !errors.Is(err, tokens.ErrInvalid) {
		t.Fatalf("%v, %v", c, err)
	}
	always, alwaysErr := v.VerifyAnyTime(token, keys)
	switch {
	case err == nil:
		if alwaysErr != nil || !reflect.DeepEqual(always, c) {
			t.Fatalf("now %+v, at any time %+v, %v", c, always, alwaysErr)
		}
	case errors.Is(err, tokens.ErrExpired):
		if alwaysErr != nil {
			t.Fatalf("expired, but at any time %v", alwaysErr)
		}
	case !errors.Is(err, tokens.ErrClaims):
		if alwaysErr == nil || alwaysErr.Error() != err.Error() {
			t.Fatalf("now %v, at any time %v", err, alwaysErr)
		}
	}
}

// signedByOneOf verifies without the package under test.
func signedByOneOf(t *testing.T, token string, forgers []*forger) {
	t.Helper()
	text, signature := cut(t, token)
	head, _, _ := strings.Cut(token, ".")
	var header struct{ Alg, Typ, Kid string }
	check(t, json.Unmarshal(decode(t, head), &header))
	for _, f := range forgers {
		if f.key.ID() != header.Kid {
			continue
		}
		digest := sha256.Sum256([]byte(text))
		good := false
		switch public := f.private.Public().(type) {
		case *ecdsa.PublicKey:
			r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
			good = ecdsa.Verify(public, digest[:], r, s)
		case ed25519.PublicKey:
			good = ed25519.Verify(public, []byte(text), signature)
		case *rsa.PublicKey:
			good = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
		}
		if !good || header.Alg != f.alg || !strings.HasSuffix(header.Typ, "at+jwt") {
			t.Fatalf("accepted with the header %+v and a signature that is good: %v", header, good)
		}
		return
	}
	t.Fatalf("accepted with the header %+v", header)
}

// FuzzClaims signs whatever payload comes: if it is accepted, then
// encoding/json, which is far more lenient, reads the same claims in it, they
// are in order at this time, and the issuer could have written them.
func FuzzClaims(f *testing.F) {
	forger := newForger(f, "ES256")
	f.Add(payload(f, nil))
	f.Add(payload(f, map[string]string{"aud": `["a","https://api.example"]`, "nbf": "1767323045"}))
	f.Add(payload(f, map[string]string{"aud": `["https://api.example"]`, "auth_time": "", "scope": "", "roles": "", "amr": ""}))
	f.Add(payload(f, map[string]string{"exp": "1767323059", "iat": "1767323058"}))
	f.Add(payload(f, map[string]string{"roles": `["user","admin"]`, "amr": `["pwd","otp"]`}))
	f.Add(payload(f, map[string]string{"sub": `"\ud83d\ude00\u0000\\\"<"`, "roles": `[]`}))
	f.Add(with(payload(f, nil), `"SUB":"x"`))
	f.Add(with(payload(f, nil), `"s\u0075b":"x"`))
	f.Add(with(payload(f, nil), `"x":[[{}]]`))
	f.Add(with(payload(f, nil), `"x":1e999`))
	f.Fuzz(func(t *testing.T, text string) {
		token := forger.forge(t, forger.header(), text)
		c, err := forger.verifier.Verify(token, forger.keys)
		agreesWithAnyTime(t, forger.verifier, token, forger.keys, c, err)
		if err != nil {
			return
		}
		var want struct {
			Iss, Sub, Jti, Sid, Scope string
			ClientID                  string `json:"client_id"`
			Aud                       any
			Exp, Iat, Nbf             int64
			AuthTime                  int64 `json:"auth_time"`
			Roles, AMR                []string
		}
		check(t, json.Unmarshal([]byte(text), &want))
		var authTime int64
		if !c.AuthTime.IsZero() {
			authTime = c.AuthTime.Unix()
		}
		if c.Issuer != want.Iss || c.Subject != want.Sub || c.ID != want.Jti || c.SessionID != want.Sid ||
			c.Scope != want.Scope || c.ClientID != want.ClientID || c.ExpiresAt.Unix() != want.Exp ||
			c.IssuedAt.Unix() != want.Iat || authTime != want.AuthTime ||
			!slices.Equal(c.Roles, want.Roles) || !slices.Equal(c.AMR, want.AMR) || c.KeyID != forger.key.ID() {
			t.Fatalf("got %+v, want %+v", c, want)
		}
		var audience []any
		for _, one := range c.Audience {
			audience = append(audience, one)
		}
		if !reflect.DeepEqual(want.Aud, any(audience)) && !(len(audience) == 1 && want.Aud == audience[0]) {
			t.Fatalf("aud %q, want %q", c.Audience, want.Aud)
		}

		// By numbers, not by the times that Verify compares.
		lifetime, since := want.Exp-want.Iat, now.Unix()
		if want.Iss != issuer || want.Sub == "" || want.Jti == "" || want.Sid == "" || want.ClientID == "" ||
			lifetime < 1 || lifetime > 3600 || want.Exp+15 <= since || want.Iat-15 > since || want.Nbf-15 > since {
			t.Fatalf("accepted %+v at %d", want, since)
		}

		again, err := forger.key.Sign(*c)
		if err != nil && len(token) > tokens.MaxSize/8 {
			return // the issuer escapes more characters, in up to six times the space
		}
		check(t, err)
		d, err := forger.verifier.Verify(again, forger.keys)
		check(t, err)
		if want.Nbf != 0 {
			return // which the issuer does not write
		}
		for _, claims := range []*tokens.Claims{c, d} {
			claims.Roles = append([]string{}, claims.Roles...)
			claims.AMR = append([]string{}, claims.AMR...)
		}
		if !reflect.DeepEqual(c, d) {
			t.Fatalf("%+v was issued again as %+v", c, d)
		}
	})
}

// FuzzParseKeySet: nothing panics, a set that is accepted publishes itself as a
// document that is accepted and says the same, it says nothing that the document
// does not say, and all of its keys can be asked about a signature.
func FuzzParseKeySet(f *testing.F) {
	for _, alg := range tokens.Algorithms() {
		f.Add(set(exampleJWK(alg, "a")))
		f.Add(set(exampleJWK("ES256", "b"), exampleJWK(alg, "a")))
		f.Add(set(with(exampleJWK(alg, "a"), `"key_ops":["verify"]`), `{"kty":"oct","alg":"HS256","k":"AA"}`))
		f.Add(set(with(exampleJWK(alg, "a"), `"d":"AA"`)))
	}
	f.Add(change(f, "EdDSA", exampleEdwards, strings.Repeat("A", 43)))
	f.Add(change(f, "RS256", `"AQAB"`, `"Aw"`))
	f.Add([]byte(`{"keys":[]}`))
	verifier := verifierAt(f, now)
	f.Fuzz(func(t *testing.T, document []byte) {
		keys, err := tokens.ParseKeySet(document)
		if err != nil {
			if keys != nil {
				t.Fatal("refused, and returned a set")
			}
			return
		}
		once, err := keys.MarshalJSON()
		check(t, err)
		again, err := tokens.ParseKeySet(once)
		check(t, err)
		twice, err := again.MarshalJSON()
		check(t, err)
		if string(once) != string(twice) {
			t.Fatalf("%s became %s", once, twice)
		}

		type jwk struct{ Kty, Use, Alg, Kid, Crv, X, Y, N, E string }
		var published struct{ Keys []jwk }
		check(t, json.Unmarshal(once, &published))
		var source struct{ Keys []json.RawMessage }
		check(t, json.Unmarshal(document, &source))
		said := map[string]jwk{}
		for _, key := range source.Keys {
			var k jwk
			if json.Unmarshal(key, &k) == nil && slices.Contains(tokens.Algorithms(), k.Alg) {
				k.Use = "sig" // or absent
				said[k.Kid] = k
			}
		}
		if len(published.Keys) == 0 || len(published.Keys) != len(said) {
			t.Fatalf("%d keys of %d", len(published.Keys), len(said))
		}
		for _, k := range published.Keys {
			if said[k.Kid] != k {
				t.Fatalf("published %+v, read %+v", k, said[k.Kid])
			}
			kid, err := json.Marshal(k.Kid)
			check(t, err)
			size := 64
			if k.Alg == "RS256" {
				size = len(decode(t, k.N))
			}
			token := b64(`{"alg":"`+k.Alg+`","typ":"at+jwt","kid":`+string(kid)+`}`) + "." + b64("{}") + "." +
				b64(strings.Repeat("\x01", size))
			if _, err := verifier.Verify(token, keys); !errors.Is(err, tokens.ErrSignature) {
				t.Fatalf("a signature of nobody, key %+v: %v", k, err)
			}
		}
	})
}
