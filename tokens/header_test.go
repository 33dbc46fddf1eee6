package tokens_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/authapi/authapi/tokens"
)

// The numbers in the names of tests are the rows of the project's list of
// attacks. A refusal with ErrMalformed although the kid is unknown shows that
// no key was looked up: it would have been ErrUnknownKey.

func TestForgedTokenIsAcceptedUnlessSomethingIsWrong(t *testing.T) {
	f := newForger(t)
	c := f.accepted(t, "base", f.forge(t, f.header(), payload(t, nil)))
	if c.Subject != "alice" || c.SessionID != "q6.s1" || c.ID != "j1" || c.ClientID != "mobile" ||
		c.Scope != "read" || c.Roles[0] != "admin" || c.AMR[0] != "pwd" || c.AuthTime.Unix() != 1767323045 {
		t.Errorf("got %+v", c)
	}
	f.accepted(t, "white space", f.forge(t, " "+f.header()+"\n", "\t"+payload(t, nil)+" "))
	f.accepted(t, "escapes", f.forge(t,
		strings.Replace(f.header(), "alg", `\u0061lg`, 1), strings.Replace(payload(t, nil), "sub", `s\u0075b`, 1)))
}

func TestRow02AlgorithmConfusion(t *testing.T) {
	f := newForger(t)
	for _, kid := range []string{f.key.ID(), "unknown"} {
		header := func(alg string) string { return `{"alg":` + alg + `,"typ":"at+jwt","kid":"` + kid + `"}` }
		for _, alg := range []string{
			`"none"`, `"None"`, `"NONE"`, `"noNE"`, `"es256"`, `"ES256 "`, `"ES256\u0000"`, `""`, `null`, `["ES256"]`,
			`"ES384"`, `"ES512"`, `"ES256K"`, `"RS256"`, `"PS256"`, `"EdDSA"`, `"HS256"`, `"HS384"`, `"dir"`,
		} {
			f.refused(t, alg, f.forge(t, header(alg), payload(t, nil)), tokens.ErrMalformed)
			unsigned := b64(header(alg)) + "." + b64(payload(t, nil)) + "."
			f.refused(t, alg+" unsigned", unsigned, tokens.ErrMalformed)
		}
		f.refused(t, "no alg", f.forge(t, `{"typ":"at+jwt","kid":"`+kid+`"}`, payload(t, nil)), tokens.ErrMalformed)

		der, err := x509.MarshalPKIXPublicKey(f.private.Public())
		check(t, err)
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		jwks, err := f.keys.MarshalJSON()
		check(t, err)
		for name, secret := range map[string][]byte{
			"blank": {}, "DER": der, "PEM": text, "PEM without newline": text[:len(text)-1], "JWKS": jwks,
		} {
			for _, alg := range []string{`"HS256"`, `"ES256"`} {
				signed := b64(header(alg)) + "." + b64(payload(t, nil))
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(signed))
				token := signed + "." + b64(string(mac.Sum(nil)))
				f.refused(t, "HMAC "+name+" as "+alg, token, tokens.ErrMalformed)
			}
		}

		signed := b64(header(`"ES256"`)) + "." + b64(payload(t, nil))
		f.refused(t, "null signature", signed+".", tokens.ErrMalformed)
		f.refused(t, "short signature", signed+"."+b64(strings.Repeat("\x01", 63)), tokens.ErrMalformed)
		f.refused(t, "long signature", signed+"."+b64(strings.Repeat("\x01", 65)), tokens.ErrMalformed)
		f.refused(t, "ASN.1 signature", signed+"."+b64(strings.Repeat("\x30", 70)), tokens.ErrMalformed)
	}
}

func TestRow02DegenerateSignatures(t *testing.T) {
	f := newForger(t)
	signed := b64(f.header()) + "." + b64(payload(t, nil))
	zero, one, order := strings.Repeat("\x00", 32), strings.Repeat("\x00", 31)+"\x01", string(f.private.Params().N.Bytes())
	for _, r := range []string{zero, one, order} {
		for _, s := range []string{zero, one, order} {
			f.refused(t, "degenerate", signed+"."+b64(r+s), tokens.ErrSignature)
		}
	}
}

func TestRow03KeySteering(t *testing.T) {
	f := newForger(t)
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		jwks, _ := f.keys.MarshalJSON()
		_, _ = w.Write(jwks)
	}))
	defer server.Close()

	var set struct{ Keys []json.RawMessage }
	jwks, err := f.keys.MarshalJSON()
	check(t, err)
	check(t, json.Unmarshal(jwks, &set))
	for _, member := range []string{
		`"jwk":` + string(set.Keys[0]), `"jwk":null`, `"jku":"` + server.URL + `"`, `"x5u":"` + server.URL + `"`,
		`"x5c":["` + base64.StdEncoding.EncodeToString([]byte("cert")) + `"]`, `"x5t":"AA"`, `"x5t#S256":"AA"`,
		`"cty":"JWT"`, `"zip":"DEF"`, `"enc":"A128GCM"`, `"iss":"evil"`, `"":""`,
	} {
		f.refused(t, member, f.forge(t, with(f.header(), member), payload(t, nil)), tokens.ErrMalformed)
	}
	header := func(kid string) string { return `{"alg":"ES256","typ":"at+jwt","kid":` + kid + `}` }
	for _, kid := range []string{
		`"../../dev/null"`, `"' UNION SELECT 'evil"`, `"|sleep 10"`, `"*"`, `"` + f.key.ID() + `\u0000"`,
		`"` + strings.ToLower(f.key.ID()) + `"`, `"` + strings.Repeat("k", 64) + `"`,
	} {
		f.refused(t, kid, f.forge(t, header(kid), payload(t, nil)), tokens.ErrUnknownKey)
	}
	for _, kid := range []string{`""`, `null`, `0`, `["` + f.key.ID() + `"]`, `"` + strings.Repeat("k", 65) + `"`, `"\ud800"`} {
		f.refused(t, kid, f.forge(t, header(kid), payload(t, nil)), tokens.ErrMalformed)
	}
	f.refused(t, "no kid", f.forge(t, `{"alg":"ES256","typ":"at+jwt"}`, payload(t, nil)), tokens.ErrMalformed)
	if n := calls.Load(); n != 0 {
		t.Errorf("%d outbound calls", n)
	}
}

func TestRow04Type(t *testing.T) {
	f := newForger(t)
	header := func(typ string) string {
		return `{"alg":"ES256",` + typ + `"kid":"` + f.key.ID() + `"}`
	}
	f.accepted(t, "short", f.forge(t, header(`"typ":"at+jwt",`), payload(t, nil)))
	f.accepted(t, "long", f.forge(t, header(`"typ":"application/at+jwt",`), payload(t, nil)))
	for _, typ := range []string{
		``, `"typ":"JWT",`, `"typ":"dpop+jwt",`, `"typ":"",`, `"typ":null,`, `"typ":["at+jwt"],`, `"typ":"AT+JWT",`,
		`"typ":"at+jwt ",`, `"typ":"at+jwt;v=1",`, `"typ":"application/jwt",`, `"typ":"logout+jwt",`, `"TYP":"at+jwt",`,
	} {
		f.refused(t, typ, f.forge(t, header(typ), payload(t, nil)), tokens.ErrMalformed)
	}
}

func TestRow05Crit(t *testing.T) {
	f := newForger(t)
	for _, member := range []string{
		`"crit":["exp"]`, `"crit":[]`, `"crit":null`, `"crit":["b64"],"b64":true`, `"b64":true`, `"CRIT":["x"],"x":1`,
	} {
		f.refused(t, member, f.forge(t, with(f.header(), member), payload(t, nil)), tokens.ErrMalformed)
	}
	for _, member := range []string{`"crit":["b64"],"b64":false`, `"b64":false`} {
		header := b64(with(f.header(), member))
		f.refused(t, member+" encoded", f.forgeText(t, header+"."+b64(payload(t, nil))), tokens.ErrMalformed)
		f.refused(t, member+" raw", f.forgeText(t, header+"."+payload(t, nil)), tokens.ErrMalformed)
		f.refused(t, member+" raw, harmless characters", f.forgeText(t, header+".abcd"), tokens.ErrMalformed)
	}
}
