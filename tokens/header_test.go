package tokens_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
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
	eachAlgorithm(t, testForgedTokenIsAcceptedUnlessSomethingIsWrong)
}

func testForgedTokenIsAcceptedUnlessSomethingIsWrong(t *testing.T, f *forger) {
	c := f.accepted(t, "base", f.forge(t, f.header(), payload(t, nil)))
	if c.Subject != "alice" || c.SessionID != "q6.s1" || c.ID != "j1" || c.ClientID != "mobile" ||
		c.Scope != "read" || c.Roles[0] != "admin" || c.AMR[0] != "pwd" || c.AuthTime.Unix() != 1767323045 {
		t.Errorf("got %+v", c)
	}
	f.accepted(t, "white space", f.forge(t, " "+f.header()+"\n", "\t"+payload(t, nil)+" "))
	f.accepted(t, "escapes", f.forge(t,
		strings.Replace(f.header(), "alg", `\u0061lg`, 1), strings.Replace(payload(t, nil), "sub", `s\u0075b`, 1)))
}

func TestRow02AlgorithmConfusion(t *testing.T) { eachAlgorithm(t, testRow02AlgorithmConfusion) }

func testRow02AlgorithmConfusion(t *testing.T, f *forger) {
	for _, kid := range []string{f.key.ID(), "unknown"} {
		header := func(alg string) string { return `{"alg":` + alg + `,"typ":"at+jwt","kid":"` + kid + `"}` }
		for _, alg := range []string{
			`"none"`, `"None"`, `"NONE"`, `"noNE"`, `"` + strings.ToLower(f.alg) + `"`,
			`"` + f.alg + ` "`, `"` + f.alg + `\u0000"`, `["` + f.alg + `"]`, `""`, `null`, `"ES384"`, `"ES512"`, `"ES256K"`,
			`"RS384"`, `"RS512"`, `"RS1"`, `"PS256"`, `"Ed25519"`, `"Ed448"`, `"EDDSA"`, `"HS256"`, `"HS384"`, `"dir"`,
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
			for _, alg := range append(tokens.Algorithms(), "HS256") {
				signed := b64(header(`"`+alg+`"`)) + "." + b64(payload(t, nil))
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(signed))
				token := signed + "." + b64(string(mac.Sum(nil)))
				f.refused(t, "HMAC "+name+" as "+alg, token, tokens.ErrMalformed)
			}
		}

		// 64 bytes are the only size for two of the algorithms. For RS256 the
		// key knows the size, so 257 are possible until there is a key.
		signed := b64(header(`"`+f.alg+`"`)) + "." + b64(payload(t, nil))
		for _, size := range []int{0, 1, 32, 63, 65, 70, 128, 255, 513, 1024} {
			token := signed + "." + b64(strings.Repeat("\x30", size))
			f.refused(t, fmt.Sprint(size, " bytes of signature"), token, tokens.ErrMalformed)
		}
	}
}

// TestRow02AlgorithmOfAnotherKey has one key of each kind in the set, and tries
// every one of them under the name and under the algorithm of the others.
func TestRow02AlgorithmOfAnotherKey(t *testing.T) {
	all, keys := mixed(t)
	for _, signer := range all {
		for _, named := range all {
			for _, owner := range all {
				alg := named.alg
				header := `{"alg":"` + alg + `","typ":"at+jwt","kid":"` + owner.key.ID() + `"}`
				token := signer.forge(t, header, payload(t, nil))
				_, err := signer.verifier.Verify(token, keys)
				want := tokens.ErrSignature
				switch {
				case signer == named && named == owner:
					want = nil
				case signer.size() != named.size():
					want = tokens.ErrMalformed
				}
				if !errors.Is(err, want) {
					t.Errorf("signed by %s, alg %s, kid of %s: got %v, want %v", signer.alg, alg, owner.alg, err, want)
				}

				// The size can be put right, which makes the signature no better.
				signed, signature := cut(t, token)
				if signer.size() != named.size() {
					signature = append(signature, make([]byte, 512)...)[:named.size()]
					_, err := signer.verifier.Verify(signed+"."+b64(string(signature)), keys)
					if !errors.Is(err, tokens.ErrSignature) {
						t.Errorf("signed by %s and resized, alg %s, kid of %s: %v", signer.alg, alg, owner.alg, err)
					}
				}
			}
		}
	}
}

// TestRow02PublicKeyAsSecret: the MAC has the size of a signature.
func TestRow02PublicKeyAsSecret(t *testing.T) { eachAlgorithm(t, testRow02PublicKeyAsSecret) }

func testRow02PublicKeyAsSecret(t *testing.T, f *forger) {
	der, err := x509.MarshalPKIXPublicKey(f.private.Public())
	check(t, err)
	for _, newHash := range []func() hash.Hash{sha256.New, sha512.New} {
		signed := b64(f.header()) + "." + b64(payload(t, nil))
		mac := hmac.New(newHash, der)
		mac.Write([]byte(signed))
		sum := bytes.Repeat(mac.Sum(nil), 8)[:f.size()]
		f.refused(t, "HMAC", signed+"."+b64(string(sum)), tokens.ErrSignature)
	}
}

func TestRow03KeySteering(t *testing.T) { eachAlgorithm(t, testRow03KeySteering) }

func testRow03KeySteering(t *testing.T, f *forger) {
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
	header := func(kid string) string { return `{"alg":"` + f.alg + `","typ":"at+jwt","kid":` + kid + `}` }
	for _, kid := range []string{
		`"../../dev/null"`, `"' UNION SELECT 'evil"`, `"|sleep 10"`, `"*"`, `"` + f.key.ID() + `\u0000"`,
		`"` + strings.ToLower(f.key.ID()) + `"`, `"` + strings.Repeat("k", 64) + `"`,
	} {
		f.refused(t, kid, f.forge(t, header(kid), payload(t, nil)), tokens.ErrUnknownKey)
	}
	for _, kid := range []string{`""`, `null`, `0`, `["` + f.key.ID() + `"]`, `"` + strings.Repeat("k", 65) + `"`, `"\ud800"`} {
		f.refused(t, kid, f.forge(t, header(kid), payload(t, nil)), tokens.ErrMalformed)
	}
	f.refused(t, "no kid", f.forge(t, `{"alg":"`+f.alg+`","typ":"at+jwt"}`, payload(t, nil)), tokens.ErrMalformed)
	if n := calls.Load(); n != 0 {
		t.Errorf("%d outbound calls", n)
	}
}

func TestRow04Type(t *testing.T) { eachAlgorithm(t, testRow04Type) }

func testRow04Type(t *testing.T, f *forger) {
	header := func(typ string) string {
		return `{"alg":"` + f.alg + `",` + typ + `"kid":"` + f.key.ID() + `"}`
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

func TestRow05Crit(t *testing.T) { eachAlgorithm(t, testRow05Crit) }

func testRow05Crit(t *testing.T, f *forger) {
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
