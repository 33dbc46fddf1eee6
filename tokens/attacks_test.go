package tokens_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
)

// What the attack tools for tokens try beyond the tests in the other files.

// TestRow02EveryNone has the sixteen spellings of none, unsigned, with blank
// signatures and with a signature that would be good.
func TestRow02EveryNone(t *testing.T) { eachAlgorithm(t, testRow02EveryNone) }

func testRow02EveryNone(t *testing.T, f *forger) {
	for bits := range 16 {
		alg := []byte("none")
		for i := range alg {
			if bits>>i&1 == 1 {
				alg[i] -= 'a' - 'A'
			}
		}
		header := strings.Replace(f.header(), `"`+f.alg+`"`, `"`+string(alg)+`"`, 1)
		signed := b64(header) + "." + b64(payload(t, nil))
		for _, signature := range []string{"", "AA", "bnVsbA", strings.Repeat("A", 86), b64(string(f.sign(t, signed)))} {
			f.refused(t, string(alg), signed+"."+signature, tokens.ErrMalformed)
		}
		f.refused(t, string(alg)+" without a dot", signed, tokens.ErrMalformed)
	}
}

// TestRow02KnownSecrets signs by HMAC with what an attacker knows: nothing, what
// a file of zero bytes holds, what a manipulated query returns, common secrets,
// and the public key in all the forms that it is published in.
func TestRow02KnownSecrets(t *testing.T) { eachAlgorithm(t, testRow02KnownSecrets) }

func testRow02KnownSecrets(t *testing.T, f *forger) {
	public := f.private.Public()
	der, err := x509.MarshalPKIXPublicKey(public)
	check(t, err)
	jwks, err := f.keys.MarshalJSON()
	check(t, err)
	var document struct{ Keys []json.RawMessage }
	check(t, json.Unmarshal(jwks, &document))
	block := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	secrets := []string{
		"", "\x00", "1", "secret", "null", "undefined", f.key.ID(), string(der), block, strings.TrimSpace(block),
		strings.ReplaceAll(block, "\n", "\r\n"), strings.ReplaceAll(block, "\n", ""), base64.StdEncoding.EncodeToString(der),
		string(jwks), string(document.Keys[0]),
	}
	for i, secret := range secrets {
		for _, kid := range []string{
			f.key.ID(), "/dev/null", "../../../../../../dev/null", "/proc/sys/kernel/randomize_va_space",
			"x' UNION SELECT '1';--", "key|sleep 10", "$(sleep 10)", "http://127.0.0.1:1/key", `..\\..\\nul`, "%2e%2e%2fdev%2fnull",
		} {
			for alg, want := range map[string]error{"HS256": tokens.ErrMalformed, f.alg: tokens.ErrUnknownKey} {
				signed := b64(`{"alg":"`+alg+`","typ":"at+jwt","kid":"`+kid+`"}`) + "." + b64(payload(t, nil))
				mac := hmac.New(sha256.New, []byte(secret))
				mac.Write([]byte(signed))
				sum := mac.Sum(nil)
				if alg == f.alg {
					sum = slices.Repeat(sum, 8)[:f.size()]
					if kid == f.key.ID() {
						want = tokens.ErrSignature
					}
				}
				f.refused(t, fmt.Sprint("secret ", i, ", kid ", kid, ", alg ", alg), signed+"."+b64(string(sum)), want)
			}
		}
	}
}

// TestRow02PsychicSignature: zeros, as JWS has them and as X.509 has them, and
// good signatures in the form of X.509.
func TestRow02PsychicSignature(t *testing.T) {
	f := newForger(t, "ES256")
	signed, signature := cut(t, f.forge(t, f.header(), payload(t, nil)))
	inDER := func(r, s *big.Int) string {
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		check(t, err)
		return b64(string(der))
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	f.refused(t, "zeros", signed+"."+strings.Repeat("A", 86), tokens.ErrSignature)
	f.refused(t, "zeros in DER", signed+".MAYCAQACAQA", tokens.ErrMalformed)
	f.refused(t, "zeros in DER, filled up", signed+"."+b64("\x30\x06\x02\x01\x00\x02\x01\x00"+strings.Repeat("\x00", 56)), tokens.ErrSignature)
	f.refused(t, "good in DER", signed+"."+inDER(r, s), tokens.ErrMalformed)
	order := f.private.(*ecdsa.PrivateKey).Params().N
	f.refused(t, "order in DER", signed+"."+inDER(order, order), tokens.ErrMalformed)
	f.refused(t, "swapped", signed+"."+b64(string(signature[32:])+string(signature[:32])), tokens.ErrSignature)
}

// TestRow03EmbeddedKey signs with a key of the attacker's and brings it along,
// under its own id and under the id of the key that is trusted.
func TestRow03EmbeddedKey(t *testing.T) { eachAlgorithm(t, testRow03EmbeddedKey) }

func testRow03EmbeddedKey(t *testing.T, f *forger) {
	key := generated(t, f.alg)
	set, err := tokens.NewKeySet(key.Public())
	check(t, err)
	jwks, err := set.MarshalJSON()
	check(t, err)
	var document struct{ Keys []json.RawMessage }
	check(t, json.Unmarshal(jwks, &document))
	pkcs8, err := key.PKCS8()
	check(t, err)
	private, err := x509.ParsePKCS8PrivateKey(pkcs8)
	check(t, err)
	attacker := *f
	attacker.private = private.(crypto.Signer)
	certificate := base64.StdEncoding.EncodeToString(selfSigned(t, attacker.private))
	for _, kid := range []string{f.key.ID(), key.ID()} {
		header := `{"alg":"` + f.alg + `","typ":"at+jwt","kid":"` + kid + `"}`
		for _, member := range []string{
			`"jwk":` + string(document.Keys[0]), `"jwks":` + string(jwks), `"jku":"https://evil.example/jwks.json"`,
			`"jku":"https://auth.example@evil.example/"`, `"jku":"file:///dev/null"`, `"x5u":"https://evil.example/cert.pem"`,
			`"x5c":["` + certificate + `"]`, `"JWK":` + string(document.Keys[0]),
		} {
			f.refused(t, member[:6], attacker.forge(t, with(header, member), payload(t, nil)), tokens.ErrMalformed)
		}
		want := tokens.ErrSignature
		if kid != f.key.ID() {
			want = tokens.ErrUnknownKey
		}
		f.refused(t, "nothing brought along", attacker.forge(t, header, payload(t, nil)), want)
		// In the payload it is a claim that nobody reads.
		own := with(payload(t, nil), `"jwk":`+string(document.Keys[0]))
		f.refused(t, "in the payload", attacker.forge(t, header, own), want)
	}
}

func selfSigned(t *testing.T, private crypto.Signer) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	check(t, err)
	return certificate
}

// TestRow04ContentTypes are what a gateway or a deserializer might act upon.
func TestRow04ContentTypes(t *testing.T) { eachAlgorithm(t, testRow04ContentTypes) }

func testRow04ContentTypes(t *testing.T, f *forger) {
	for _, typ := range []string{
		"JOSE", "JOSE+JSON", "text/xml", "application/x-java-serialized-object", "at+jwt\\u0000", "at+jwt,JWT", " at+jwt",
		"application/AT+JWT", "at%2bjwt", "at jwt", "at+jwt+JWT", "x/at+jwt", "application/application/at+jwt", "id+jwt",
		"secevent+jwt", "token-introspection+jwt", "vc+sd-jwt", "\\uff41t+jwt",
	} {
		header := strings.Replace(f.header(), "at+jwt", typ, 1)
		f.refused(t, "typ "+typ, f.forge(t, header, payload(t, nil)), tokens.ErrMalformed)
		f.refused(t, "cty "+typ, f.forge(t, with(f.header(), `"cty":"`+typ+`"`), payload(t, nil)), tokens.ErrMalformed)
	}
}

// TestRow07OtherSerializations: nested and encrypted tokens, JSON, and the text
// that is JSON to one reader and a token to another.
func TestRow07OtherSerializations(t *testing.T) { eachAlgorithm(t, testRow07OtherSerializations) }

func testRow07OtherSerializations(t *testing.T, f *forger) {
	valid := f.forge(t, f.header(), payload(t, nil))
	f.accepted(t, "base", valid)
	part := strings.Split(valid, ".")
	evil := b64(payload(t, map[string]string{"sub": `"evil"`}))

	f.refused(t, "nested", f.forge(t, f.header(), valid), tokens.ErrClaims)
	f.refused(t, "nested in a string", f.forge(t, f.header(), `"`+valid+`"`), tokens.ErrClaims)
	f.refused(t, "nested with cty", f.forge(t, with(f.header(), `"cty":"JWT"`), valid), tokens.ErrMalformed)
	f.refused(t, "detached", part[0]+".."+part[2], tokens.ErrSignature)

	for _, header := range []string{
		`{"alg":"dir","enc":"A256GCM"}`, `{"alg":"RSA-OAEP","enc":"A128CBC-HS256","cty":"JWT"}`, `{"alg":"RSA1_5","enc":"A128GCM"}`,
		`{"alg":"PBES2-HS512+A256KW","enc":"A128GCM","p2s":"AAAAAAAAAAA","p2c":2147483647}`,
		`{"alg":"dir","enc":"A256GCM","zip":"DEF"}`, `{"alg":"ECDH-ES","enc":"A128GCM","epk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`,
		f.header(),
	} {
		f.refused(t, "JWE", b64(header)+".AAAA.AAAA."+part[1]+"."+part[2], tokens.ErrMalformed)
		f.refused(t, "JWE without a key", b64(header)+"..AAAA."+part[1]+"."+part[2], tokens.ErrMalformed)
		if header != f.header() {
			f.refused(t, "header of a JWE", f.forge(t, header, payload(t, nil)), tokens.ErrMalformed)
			f.refused(t, "members of a JWE", f.forge(t, with(f.header(), header[1:len(header)-1]), payload(t, nil)), tokens.ErrMalformed)
		}
	}

	general := `{"payload":"` + part[1] + `","signatures":[{"protected":"` + part[0] + `","signature":"` + part[2] + `"}]}`
	unprotected := `{"payload":"` + part[1] + `","protected":"` + part[0] + `","header":{"kid":"evil"},"signature":"` + part[2] + `"}`
	polyglot := `{" ` + part[0] + `.` + evil + `.":"","protected":"` + part[0] + `","payload":"` + part[1] + `","signature":"` + part[2] + `"}`
	for name, token := range map[string]string{
		"general": general, "unprotected header": unprotected, "polyglot": polyglot, "in an array": `["` + valid + `"]`, "in quotes": `"` + valid + `"`,
		"JSON, encoded": b64(general), "JSON, encoded, with dots": b64(general) + "..", "as a segment": part[0] + "." + b64(general) + ".",
		"two tokens": valid + "," + valid, "two tokens, space": valid + " " + valid, "glued": valid + valid,
		"fragment": valid + "#" + evil, "disclosures": valid + "~" + evil + "~", "percent": strings.ReplaceAll(valid, ".", "%2e"),
		"other dots": strings.ReplaceAll(valid, ".", "\u2024"), "wide": "\uff45" + valid[1:],
	} {
		f.refused(t, name, token, tokens.ErrMalformed)
	}
	f.refused(t, "another payload", part[0]+"."+evil+"."+part[2], tokens.ErrSignature)
}

// TestRow08HugeNumbers: numbers that overflow, lose digits or are infinite in
// other readers, as each of the dates; where nobody reads them they do no harm.
func TestRow08HugeNumbers(t *testing.T) { eachAlgorithm(t, testRow08HugeNumbers) }

func testRow08HugeNumbers(t *testing.T, f *forger) {
	for _, number := range []string{
		"253402300800", "9223372036854775807", "1e308", "1e309", "-1e309", "1e999999999", "1e-999999999", "18446744073709551616", "18446744075476874961", "4294967296e9",
		"1" + strings.Repeat("0", 1000), "1767323345." + strings.Repeat("0", 1000), "0." + strings.Repeat("0", 1000) + "1", "17673233450e-1",
	} {
		for _, name := range []string{"exp", "iat", "nbf", "auth_time"} {
			f.refused(t, name+" "+number[:3], f.forge(t, f.header(), payload(t, map[string]string{name: number})), tokens.ErrClaims)
		}
		f.accepted(t, "elsewhere", f.forge(t, f.header(), with(payload(t, nil), `"x":`+number)))
	}
	for _, number := range []string{"NaN", "Infinity", "-Infinity", "0x6956f5d1", "0b1", "1_767_323_345", "+1767323345", "01767323345", "1767323345n", "1.", ".1"} {
		exp := strings.Replace(payload(t, nil), `"exp":1767323345`, `"exp":`+number, 1)
		f.refused(t, number, f.forge(t, f.header(), exp), tokens.ErrClaims)
		f.refused(t, number, f.forge(t, f.header(), with(payload(t, nil), `"x":`+number)), tokens.ErrClaims)
	}
}

// TestRow10DeepNesting: as deep as a token's size allows. In a claim that is read
// it is a wrong type, elsewhere it does no harm.
func TestRow10DeepNesting(t *testing.T) { eachAlgorithm(t, testRow10DeepNesting) }

func testRow10DeepNesting(t *testing.T, f *forger) {
	for _, deep := range []string{
		strings.Repeat("[", 2000) + strings.Repeat("]", 2000), strings.Repeat(`{"x":`, 900) + "1" + strings.Repeat("}", 900),
	} {
		for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "sid", "auth_time", "scope", "roles", "amr"} {
			f.refused(t, name, f.forge(t, f.header(), payload(t, map[string]string{name: deep})), tokens.ErrClaims)
		}
		f.refused(t, "header", f.forge(t, with(f.header(), `"x":`+deep), payload(t, nil)), tokens.ErrMalformed)
		for _, name := range []string{"alg", "typ", "kid"} {
			f.refused(t, name, f.forge(t, `{"`+name+`":`+deep+`}`, payload(t, nil)), tokens.ErrMalformed)
		}
		f.accepted(t, "elsewhere", f.forge(t, f.header(), with(payload(t, nil), `"x":`+deep)))
		f.refused(t, "unbalanced", f.forge(t, f.header(), with(payload(t, nil), `"x":`+deep[:len(deep)-1])), tokens.ErrClaims)
	}
	members := ""
	for i := range 120 {
		members += fmt.Sprintf(`"x%d":%d,`, i, i)
	}
	f.refused(t, "132 members", f.forge(t, f.header(), `{`+members+payload(t, nil)[1:]), tokens.ErrClaims)
}
