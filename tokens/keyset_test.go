package tokens_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/authapi/authapi/tokens"
)

func set(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

// The public keys of examplePrivate.
const (
	exampleX       = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
	exampleY       = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
	exampleEdwards = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	exampleN       = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP" +
		"ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaS" +
		"qzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_" +
		"xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)

// exampleKinds is the beginning and the end of a JWK of each algorithm.
var exampleKinds = map[string][2]string{
	"ES256": {`{"kty":"EC",`, `"crv":"P-256","x":"` + exampleX + `","y":"` + exampleY + `"}`},
	"EdDSA": {`{"kty":"OKP",`, `"crv":"Ed25519","x":"` + exampleEdwards + `"}`},
	"RS256": {`{"kty":"RSA",`, `"n":"` + exampleN + `","e":"AQAB"}`},
}

func exampleJWK(alg, kid string) string {
	kind := exampleKinds[alg]
	return kind[0] + `"use":"sig","alg":"` + alg + `","kid":"` + kid + `",` + kind[1]
}

// TestThumbprint has the values of RFC 8037, appendix A.3, and of RFC 7638,
// section 3.1. No RFC has one for P-256.
func TestThumbprint(t *testing.T) {
	for alg, want := range map[string]string{
		"ES256": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
		"EdDSA": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
		"RS256": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
	} {
		if got := newForger(t, alg).key.ID(); got != want {
			t.Errorf("%s: got %s, want %s", alg, got, want)
		}
	}
	f := newForger(t, "ES256")
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + exampleX + `","y":"` + exampleY + `"}`))
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); f.key.ID() != want {
		t.Errorf("got %s, want %s", f.key.ID(), want)
	}
}

func TestAlgorithms(t *testing.T) {
	names := tokens.Algorithms()
	if !slices.Equal(names, []string{"ES256", "EdDSA", "RS256"}) {
		t.Errorf("got %q", names)
	}
	names[0] = "none"
	if tokens.Algorithms()[0] != "ES256" {
		t.Error("a caller can change the list")
	}
	for _, alg := range tokens.Algorithms() {
		if key := generated(t, alg); key.Algorithm() != alg || key.Public().Algorithm() != alg {
			t.Errorf("%s: generated %v", alg, key)
		}
	}
	for _, alg := range []string{"", "none", "es256", "HS256", "PS256", "Ed25519", "RSA"} {
		if key, err := tokens.GenerateKey(alg); err == nil || key != nil {
			t.Errorf("%q: generated %v", alg, key)
		}
	}
}

func TestKeySetDocument(t *testing.T) {
	for _, alg := range tokens.Algorithms() {
		f := newForger(t, alg)
		document, err := f.keys.MarshalJSON()
		check(t, err)
		if want := string(set(exampleJWK(alg, f.key.ID()))); string(document) != want {
			t.Errorf("got  %s\nwant %s", document, want)
		}
	}

	// The same keys give the same bytes, in whatever order they come, and
	// survive being parsed.
	var keys []tokens.PublicKey
	for _, alg := range tokens.Algorithms() {
		keys = append(keys, newForger(t, alg).key.Public(), generated(t, alg).Public())
	}
	one, err := tokens.NewKeySet(keys...)
	check(t, err)
	slices.Reverse(keys)
	other, err := tokens.NewKeySet(keys...)
	check(t, err)
	a, err := one.MarshalJSON()
	check(t, err)
	b, err := other.MarshalJSON()
	check(t, err)
	parsed, err := tokens.ParseKeySet(a)
	check(t, err)
	c, err := parsed.MarshalJSON()
	check(t, err)
	if string(a) != string(b) || string(a) != string(c) {
		t.Errorf("\n%s\n%s\n%s", a, b, c)
	}
}

func TestParsedKeySetVerifies(t *testing.T) { eachAlgorithm(t, testParsedKeySetVerifies) }

func testParsedKeySetVerifies(t *testing.T, f *forger) {
	token := f.forge(t, strings.Replace(f.header(), f.key.ID(), "any id", 1), payload(t, nil))
	good := exampleJWK(f.alg, "any id")
	for name, document := range map[string][]byte{
		"plain":          set(good),
		"no use":         set(strings.Replace(good, `"use":"sig",`, ``, 1)),
		"key_ops":        set(with(good, `"key_ops":["verify"]`)),
		"unknown member": set(with(good, `"x5t":null`)),
		"more members":   []byte(`{"x":1,"keys":[` + good + `]}`),
		"unknown algorithms": set(
			`{"kty":"OKP","alg":"Ed25519","crv":"Ed25519","kid":"any id","x":"AA"}`,
			`{"kty":"RSA","alg":"PS256","n":1}`, good, `{"alg":"es256"}`,
		),
		"other kinds": set(exampleJWK("ES256", "1"), exampleJWK("EdDSA", "2"), good, exampleJWK("RS256", "3")),
	} {
		keys, err := tokens.ParseKeySet(document)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := f.verifier.Verify(token, keys); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// refusedSet asserts that a document is refused as a whole, by an error that
// does not quote it.
func refusedSet(t *testing.T, name string, document []byte) {
	t.Helper()
	keys, err := tokens.ParseKeySet(document)
	if err == nil || keys != nil {
		t.Errorf("%s: accepted", name)
		return
	}
	for _, part := range []string{exampleX[:8], exampleEdwards[:8], exampleN[:8]} {
		if strings.Contains(err.Error(), part) {
			t.Errorf("%s: the error quotes the document: %v", name, err)
		}
	}
}

func TestRow11DocumentRefused(t *testing.T) {
	good := exampleJWK("ES256", "a")
	many := make([]string, 33)
	for i := range many {
		many[i] = exampleJWK("ES256", fmt.Sprint(i))
	}
	if _, err := tokens.ParseKeySet(set(many[:32]...)); err != nil {
		t.Errorf("32 keys: %v", err)
	}
	for name, document := range map[string][]byte{
		"nothing":           {},
		"not an object":     []byte(`[` + good + `]`),
		"trailing bytes":    append(set(good), 'x'),
		"two documents":     append(set(good), set(good)...),
		"no keys member":    []byte(`{}`),
		"KEYS":              []byte(`{"KEYS":[` + good + `]}`),
		"keys twice":        []byte(`{"keys":[` + good + `],"keys":[]}`),
		"keys in two cases": []byte(`{"keys":[` + good + `],"Keys":[]}`),
		"keys null":         []byte(`{"keys":null}`),
		"keys an object":    []byte(`{"keys":` + good + `}`),
		"key null":          set(good, `null`),
		"key a string":      set(good, `"x"`),
		"no keys":           set(),
		"only unknown":      set(`{"kty":"OKP","alg":"Ed25519"}`),
		"33 keys":           set(many...),
		"33 keys, unknown":  set(append(strings.Split(strings.Repeat(`{"alg":"x"} `, 32), " ")[:32], good)...),
		"more than 64 KiB":  append(set(good), strings.Repeat(" ", 64<<10)...),
		"duplicate kid":     set(good, good),
		"kid of two kinds":  set(good, exampleJWK("RS256", "a")),
	} {
		refusedSet(t, name, document)
	}
}

// change returns a set of a good key and one in which a text is replaced: one
// bad key refuses the whole document.
func change(t testing.TB, alg, old, new string) []byte {
	t.Helper()
	good := exampleJWK(alg, "a")
	if !strings.Contains(good, old) {
		t.Fatalf("%s: nothing to change: %s", alg, old)
	}
	return set(exampleJWK("ES256", "b"), strings.Replace(good, old, new, 1))
}

func TestRow11KeyRefused(t *testing.T) {
	for _, alg := range tokens.Algorithms() {
		change := func(old, new string) []byte { return change(t, alg, old, new) }
		for name, document := range map[string][]byte{
			"duplicate member": change(`"kid":"a"`, `"kid":"a","kid":"c"`),
			"case variant":     change(`"kid":"a"`, `"kid":"a","KID":"c"`),
			"no alg":           change(`"alg":"`+alg+`",`, ``),
			"alg null":         change(`"`+alg+`"`, `null`),
			"alg empty":        change(`"`+alg+`"`, `""`),
			"ALG":              change(`"alg"`, `"ALG"`),
			"kty":              change(`"kty":"`, `"kty":"oct`),
			"kty empty":        change(exampleKinds[alg][0], `{"kty":"",`),
			"no kty":           change(exampleKinds[alg][0], `{`),
			"use enc":          change(`"sig"`, `"enc"`),
			"use empty":        change(`"sig"`, `""`),
			"use null":         change(`"sig"`, `null`),
			"use SIG":          change(`"sig"`, `"SIG"`),
			"key_ops":          change(`"use":"sig"`, `"key_ops":["sign","verify"]`),
			"key_ops empty":    change(`"use":"sig"`, `"key_ops":[]`),
			"no kid":           change(`"kid":"a",`, ``),
			"kid empty":        change(`"a"`, `""`),
			"kid number":       change(`"a"`, `1`),
			"kid 65 bytes":     change(`"a"`, `"`+strings.Repeat("k", 65)+`"`),
		} {
			refusedSet(t, alg+", "+name, document)
		}
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "D", "Qi"} {
			for _, value := range []string{`"AA"`, `""`, `null`, `[]`} {
				refusedSet(t, alg+" with "+private, change(`"use"`, `"`+private+`":`+value+`,"use"`))
			}
		}
		// What makes the key: all of it must be there, as text, and nothing of
		// the other kinds.
		for _, member := range []string{"crv", "x", "y", "n", "e"} {
			_, tail, has := strings.Cut(exampleKinds[alg][1], `"`+member+`":"`)
			if !has {
				for _, value := range []string{`"AQAB"`, `"P-256"`, `""`, `null`} {
					refusedSet(t, alg+" with "+member, change(`"use"`, `"`+member+`":`+value+`,"use"`))
				}
				continue
			}
			value, _, _ := strings.Cut(tail, `"`)
			whole := `"` + member + `":"` + value + `"`
			refusedSet(t, alg+" without "+member, change(whole, `"":""`))
			refusedSet(t, alg+" with upper case "+member, change(whole, strings.ToUpper(whole[:5])+whole[5:]))
			for _, bad := range []string{
				`""`, `null`, `1`, `["` + value + `"]`, `"` + value + `="`, `"` + value + `\n"`, `"\r` + value + `"`,
				`" ` + value + `"`, `"` + value[:len(value)-1] + `"`, `"AA` + value + `"`, `"AAAA` + value + `"`,
				`"` + value + `AA"`, `"` + value[:len(value)-2] + `\nA"`, `"` + value[:1] + `+` + value[2:] + `"`,
				`"` + value[:1] + `/` + value[2:] + `"`,
			} {
				refusedSet(t, alg+" with "+member+" "+bad, change(whole, `"`+member+`":`+bad))
			}
			if len(value)%4 != 0 && member != "crv" {
				odd := value[:len(value)-1] + string(next(value[len(value)-1]))
				refusedSet(t, alg+" with tail bits in "+member, change(value, odd))
			}
		}
		// A key of one kind under the alg of another.
		for _, other := range tokens.Algorithms() {
			if other != alg {
				refusedSet(t, alg+" as "+other, change(`"alg":"`+alg+`"`, `"alg":"`+other+`"`))
				refusedSet(t, alg+" as "+other+" with its kty", change(
					exampleKinds[alg][0]+`"use":"sig","alg":"`+alg+`"`,
					exampleKinds[other][0]+`"use":"sig","alg":"`+other+`"`,
				))
			}
		}
	}
}

func TestRow11P256KeyRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	point, err := p384.PublicKey.Bytes()
	check(t, err)
	long := base64.RawURLEncoding.EncodeToString(point[1:49])
	zero := strings.Repeat("A", 43)
	both := string(decode(t, exampleX)) + string(decode(t, exampleY))
	for name, document := range map[string][]byte{
		"crv":                change(t, "ES256", `"P-256"`, `"P-384"`),
		"cut after 31 bytes": change(t, "ES256", exampleX+`","y":"`+exampleY, b64(both[:31])+`","y":"`+b64(both[31:])),
		"not on the curve":   change(t, "ES256", exampleX, exampleY),
		"zero point":         change(t, "ES256", exampleX+`","y":"`+exampleY, zero+`","y":"`+zero),
		"coordinates of 384": change(t, "ES256", exampleX, long),
	} {
		refusedSet(t, name, document)
	}
}

func TestRow11Ed25519KeyRefused(t *testing.T) {
	for _, crv := range []string{"P-256", "Ed448", "X25519", "ed25519"} {
		refusedSet(t, crv, change(t, "EdDSA", `"Ed25519"`, `"`+crv+`"`))
	}
	// Whoever publishes one of the points of small order lets anyone sign.
	// Those above the prime are second spellings.
	top := strings.Repeat("ff", 30)
	bad := []string{
		"00" + strings.Repeat("00", 31), "01" + strings.Repeat("00", 31), "ec" + top + "7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	}
	for low := 0xed; low <= 0xff; low++ {
		bad = append(bad, fmt.Sprintf("%02x", low)+top+"7f")
	}
	for _, text := range bad {
		point, err := hex.DecodeString(text)
		check(t, err)
		for _, sign := range []byte{0, 0x80} {
			point[31] ^= sign
			refusedSet(t, fmt.Sprintf("%x", point), change(t, "EdDSA", exampleEdwards, b64(string(point))))
		}
	}

	// Half of all texts are no point at all. The standard library knows which,
	// but only says so when it has a signature to verify.
	var counts [2]int
	point := make([]byte, ed25519.PublicKeySize)
	for range 200 {
		_, err := rand.Read(point)
		check(t, err)
		err = ed25519.VerifyWithOptions(point, nil, make([]byte, ed25519.SignatureSize), &ed25519.Options{})
		isPoint := err != nil && strings.Contains(err.Error(), "signature")
		_, err = tokens.ParseKeySet(change(t, "EdDSA", exampleEdwards, b64(string(point))))
		if isPoint != (err == nil) {
			t.Errorf("%x: a point: %v; %v", point, isPoint, err)
		}
		if isPoint {
			counts[1]++
		} else {
			counts[0]++
		}
	}
	if counts[0] < 50 || counts[1] < 50 {
		t.Errorf("%d of 200 were points", counts[1])
	}
}

func TestRow11RSAKeyRefused(t *testing.T) {
	// number returns 2^bits, plus more, as a JWK writes it.
	number := func(bits uint, more int64) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits)
		return b64(string(n.Add(n, big.NewInt(more)).Bytes()))
	}
	for name, n := range map[string]string{
		"2048 bits": number(2047, 1), "2049 bits": number(2048, 1), "4096 bits": number(4096, -1),
	} {
		if _, err := tokens.ParseKeySet(change(t, "RS256", exampleN, n)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := string(decode(t, exampleN))
	for name, n := range map[string]string{
		"2047 bits": number(2047, -1), "4097 bits": number(4096, 1), "1024 bits": number(1023, 1),
		"8192 bits": number(8191, 1), "even": number(2047, 2), "even, 4096 bits": number(4095, 0), "zero": "AA",
		"one": "AQ", "leading zero": b64("\x00" + full), "2048 bits with a leading zero": b64("\x00" + full[:255]),
		"twice": exampleN + exampleN + exampleN, "even, otherwise the same": b64(full[:255] + "\x82"),
	} {
		refusedSet(t, name, change(t, "RS256", exampleN, n))
	}
	for name, e := range map[string]string{
		"0": "AA", "1": "AQ", "2": "Ag", "3": "Aw", "17": "EQ", "65535": "__8", "65536": "AQAA", "65539": "AQAD",
		"2^32+1": "AQAAAAE", "2^32+65537": "AQABAAE", "leading zero": "AAEAAQ", "two": "AAABAAE", "-1": "_____w",
		"hex": "010001", "decimal": "65537",
	} {
		refusedSet(t, "e = "+name, change(t, "RS256", `"AQAB"`, `"`+e+`"`))
	}
	refusedSet(t, "e a number", change(t, "RS256", `"AQAB"`, `65537`))
	refusedSet(t, "n and e swapped", change(t, "RS256", exampleN+`","e":"AQAB`, `AQAB","e":"`+exampleN))
}

func TestNewKeySetRefuses(t *testing.T) {
	f := newForger(t, "ES256")
	for name, keys := range map[string][]tokens.PublicKey{
		"none": {}, "zero": {{}}, "twice": {f.key.Public(), f.key.Public()}, "33": make([]tokens.PublicKey, 33),
	} {
		if _, err := tokens.NewKeySet(keys...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVerifyWithAnotherKey(t *testing.T) { eachAlgorithm(t, testVerifyWithAnotherKey) }

func testVerifyWithAnotherKey(t *testing.T, f *forger) {
	token := f.forge(t, f.header(), payload(t, nil))
	for _, keys := range []*tokens.KeySet{nil, {}} {
		if _, err := f.verifier.Verify(token, keys); !errors.Is(err, tokens.ErrUnknownKey) {
			t.Errorf("no keys: %v", err)
		}
	}
	for _, alg := range tokens.Algorithms() {
		other := generated(t, alg)
		keys, err := tokens.NewKeySet(other.Public())
		check(t, err)
		if _, err := f.verifier.Verify(token, keys); !errors.Is(err, tokens.ErrUnknownKey) {
			t.Errorf("another id, of %s: %v", alg, err)
		}
		document, err := keys.MarshalJSON()
		check(t, err)
		keys, err = tokens.ParseKeySet([]byte(strings.Replace(string(document), other.ID(), f.key.ID(), 1)))
		check(t, err)
		if _, err := f.verifier.Verify(token, keys); !errors.Is(err, tokens.ErrSignature) {
			t.Errorf("same id, another key, of %s: %v", alg, err)
		}
	}
}

func TestSigningKeyForms(t *testing.T) {
	for _, alg := range tokens.Algorithms() {
		for _, key := range []*tokens.SigningKey{newForger(t, alg).key, generated(t, alg)} {
			pkcs8, err := key.PKCS8()
			check(t, err)
			again, err := tokens.ParseSigningKey(pkcs8)
			check(t, err)
			if again.ID() != key.ID() || again.Algorithm() != alg || again.Public().ID() != key.ID() || again.Public().Algorithm() != alg {
				t.Errorf("%v became %v", key, again)
			}
			keys, err := tokens.NewKeySet(key.Public())
			check(t, err)
			token, err := again.Sign(claims())
			check(t, err)
			if _, err := verifierAt(t, now).Verify(token, keys); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
			for _, der := range [][]byte{nil, pkcs8[1:], pkcs8[:len(pkcs8)-1]} {
				if _, err := tokens.ParseSigningKey(der); err == nil {
					t.Error("accepted bytes that are no key")
				}
			}
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	check(t, err)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	check(t, err)
	for name, key := range map[string]any{
		"P-384": p384, "X25519": x25519, "RSA, 1024 bits": small,
		"RSA, e = 17": exampleRSA(t, 17), "RSA, e = 65539": exampleRSA(t, 65539),
	} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		check(t, err)
		if _, err := tokens.ParseSigningKey(der); err == nil {
			t.Errorf("accepted %s", name)
		}
	}
}
