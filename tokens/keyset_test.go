package tokens_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/authapi/authapi/tokens"
)

func set(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

// The public key of RFC 7515, appendix A.3.
const (
	exampleX = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
	exampleY = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
)

func exampleJWK(kid string) string {
	return `{"kty":"EC","use":"sig","alg":"ES256","kid":"` + kid + `","crv":"P-256","x":"` + exampleX + `","y":"` + exampleY + `"}`
}

func TestThumbprint(t *testing.T) {
	f := newForger(t)
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + exampleX + `","y":"` + exampleY + `"}`))
	if want := base64.RawURLEncoding.EncodeToString(sum[:]); f.key.ID() != want {
		t.Errorf("got %s, want %s", f.key.ID(), want)
	}
	if f.key.ID() != "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U" {
		t.Errorf("got %s, which is not what others compute", f.key.ID())
	}
}

func TestKeySetDocument(t *testing.T) {
	f := newForger(t)
	document, err := f.keys.MarshalJSON()
	check(t, err)
	if want := string(set(exampleJWK(f.key.ID()))); string(document) != want {
		t.Errorf("got  %s\nwant %s", document, want)
	}

	// The same keys give the same bytes, in whatever order they come, and
	// survive being parsed.
	var keys []tokens.PublicKey
	for range 5 {
		key, err := tokens.GenerateKey()
		check(t, err)
		keys = append(keys, key.Public())
	}
	one, err := tokens.NewKeySet(keys...)
	check(t, err)
	keys[0], keys[4] = keys[4], keys[0]
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

func TestParsedKeySetVerifies(t *testing.T) {
	f := newForger(t)
	token := f.forge(t, strings.Replace(f.header(), f.key.ID(), "any id", 1), payload(t, nil))
	for name, document := range map[string][]byte{
		"plain":          set(exampleJWK("any id")),
		"no use":         set(strings.Replace(exampleJWK("any id"), `"use":"sig",`, ``, 1)),
		"key_ops":        set(with(exampleJWK("any id"), `"key_ops":["verify"]`)),
		"unknown member": set(with(exampleJWK("any id"), `"x5t":null`)),
		"more members":   []byte(`{"x":1,"keys":[` + exampleJWK("any id") + `]}`),
		"unknown algorithms": set(
			`{"kty":"OKP","alg":"Ed25519","crv":"Ed25519","kid":"any id","x":"AA"}`,
			`{"kty":"RSA","alg":"RS256","n":1}`, exampleJWK("any id"), `{"alg":"es256"}`,
		),
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

func TestRow11KeySetRefused(t *testing.T) {
	good := exampleJWK("a")
	change := func(old, new string) []byte {
		if !strings.Contains(good, old) {
			t.Fatalf("nothing to change: %s", old)
		}
		// A good key beside it: one bad key refuses the whole document.
		return set(exampleJWK("b"), strings.Replace(good, old, new, 1))
	}
	many := make([]string, 33)
	for i := range many {
		many[i] = exampleJWK(fmt.Sprint(i))
	}
	if _, err := tokens.ParseKeySet(set(many[:32]...)); err != nil {
		t.Errorf("32 keys: %v", err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	point, err := p384.PublicKey.Bytes()
	check(t, err)
	long := base64.RawURLEncoding.EncodeToString(point[1:49])

	for name, document := range map[string][]byte{
		"nothing":            {},
		"not an object":      []byte(`[` + good + `]`),
		"trailing bytes":     append(set(good), 'x'),
		"two documents":      append(set(good), set(good)...),
		"no keys member":     []byte(`{}`),
		"KEYS":               []byte(`{"KEYS":[` + good + `]}`),
		"keys twice":         []byte(`{"keys":[` + good + `],"keys":[]}`),
		"keys in two cases":  []byte(`{"keys":[` + good + `],"Keys":[]}`),
		"keys null":          []byte(`{"keys":null}`),
		"keys an object":     []byte(`{"keys":` + good + `}`),
		"key null":           set(good, `null`),
		"key a string":       set(good, `"x"`),
		"no keys":            set(),
		"only unknown":       set(`{"kty":"OKP","alg":"Ed25519"}`),
		"33 keys":            set(many...),
		"33 keys, unknown":   set(append(strings.Split(strings.Repeat(`{"alg":"x"} `, 32), " ")[:32], good)...),
		"more than 64 KiB":   append(set(good), strings.Repeat(" ", 64<<10)...),
		"duplicate kid":      set(good, good),
		"duplicate member":   change(`"kid":"a"`, `"kid":"a","kid":"c"`),
		"case variant":       change(`"kid":"a"`, `"kid":"a","KID":"c"`),
		"no alg":             change(`"alg":"ES256",`, ``),
		"alg null":           change(`"ES256"`, `null`),
		"alg empty":          change(`"ES256"`, `""`),
		"ALG":                change(`"alg"`, `"ALG"`),
		"kty":                change(`"EC"`, `"RSA"`),
		"no kty":             change(`"kty":"EC",`, ``),
		"crv":                change(`"P-256"`, `"P-384"`),
		"no crv":             change(`"crv":"P-256",`, ``),
		"use enc":            change(`"sig"`, `"enc"`),
		"use empty":          change(`"sig"`, `""`),
		"use null":           change(`"sig"`, `null`),
		"use SIG":            change(`"sig"`, `"SIG"`),
		"key_ops":            change(`"use":"sig"`, `"key_ops":["sign","verify"]`),
		"key_ops empty":      change(`"use":"sig"`, `"key_ops":[]`),
		"no kid":             change(`"kid":"a",`, ``),
		"kid empty":          change(`"a"`, `""`),
		"kid number":         change(`"a"`, `1`),
		"kid 65 bytes":       change(`"a"`, `"`+strings.Repeat("k", 65)+`"`),
		"private key":        change(`"use"`, `"d":"AA","use"`),
		"private key, null":  change(`"use"`, `"d":null,"use"`),
		"not on the curve":   change(exampleX, exampleY),
		"zero point":         set(strings.NewReplacer(exampleX, strings.Repeat("A", 43), exampleY, strings.Repeat("A", 43)).Replace(good)),
		"no y":               change(`,"y":"`+exampleY+`"`, ``),
		"x short":            change(exampleX, exampleX[:42]),
		"x long":             change(exampleX, "AA"+exampleX),
		"x padded":           change(exampleX, exampleX+"="),
		"x tail bits":        change(exampleX, exampleX[:42]+"V"),
		"x with newline":     change(exampleX, exampleX+`\n`),
		"newline for a byte": change(exampleX, exampleX[:41]+`A\n`),
		"x standard base64":  change(exampleY, strings.NewReplacer("_", "/").Replace(exampleY)),
		"coordinates of 384": change(exampleX, long),
	} {
		keys, err := tokens.ParseKeySet(document)
		if err == nil || keys != nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), exampleX[:8]) {
			t.Errorf("%s: the error quotes the document: %v", name, err)
		}
	}
}

func TestNewKeySetRefuses(t *testing.T) {
	f := newForger(t)
	for name, keys := range map[string][]tokens.PublicKey{
		"none": {}, "zero": {{}}, "twice": {f.key.Public(), f.key.Public()}, "33": make([]tokens.PublicKey, 33),
	} {
		if _, err := tokens.NewKeySet(keys...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVerifyWithAnotherKey(t *testing.T) {
	f := newForger(t)
	token := f.forge(t, f.header(), payload(t, nil))
	for _, keys := range []*tokens.KeySet{nil, {}} {
		if _, err := f.verifier.Verify(token, keys); !errors.Is(err, tokens.ErrUnknownKey) {
			t.Errorf("no keys: %v", err)
		}
	}
	other, err := tokens.GenerateKey()
	check(t, err)
	keys, err := tokens.NewKeySet(other.Public())
	check(t, err)
	if _, err := f.verifier.Verify(token, keys); !errors.Is(err, tokens.ErrUnknownKey) {
		t.Errorf("another id: %v", err)
	}
	document, err := keys.MarshalJSON()
	check(t, err)
	keys, err = tokens.ParseKeySet([]byte(strings.Replace(string(document), other.ID(), f.key.ID(), 1)))
	check(t, err)
	if _, err := f.verifier.Verify(token, keys); !errors.Is(err, tokens.ErrSignature) {
		t.Errorf("same id, another key: %v", err)
	}
}

func TestSigningKeyForms(t *testing.T) {
	f := newForger(t)
	pkcs8, err := f.key.PKCS8()
	check(t, err)
	again, err := tokens.ParseSigningKey(pkcs8)
	check(t, err)
	if again.ID() != f.key.ID() || again.Algorithm() != "ES256" || again.Public().ID() != f.key.ID() || again.Public().Algorithm() != "ES256" {
		t.Errorf("%v became %v", f.key, again)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	for _, key := range []any{p384, edwards, rsaKey} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		check(t, err)
		if _, err := tokens.ParseSigningKey(der); err == nil {
			t.Errorf("accepted a %T", key)
		}
	}
	for _, der := range [][]byte{nil, pkcs8[1:], pkcs8[:len(pkcs8)-1]} {
		if _, err := tokens.ParseSigningKey(der); err == nil {
			t.Error("accepted bytes that are no key")
		}
	}
}
