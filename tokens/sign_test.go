package tokens_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
)

func claims() tokens.Claims {
	return tokens.Claims{
		Issuer: issuer, Subject: "alice", Audience: []string{audience},
		ExpiresAt: now.Add(5 * time.Minute), IssuedAt: now, AuthTime: now.Add(-time.Hour),
		ID: "kq2mN3v8y1bkq2mN3v8y1b", ClientID: "mobile", SessionID: "q6.kq2mN3v8y1bkq2mN3v8y1b",
		Scope: "read write", Roles: []string{"user", "admin"}, AMR: []string{"pwd"},
	}
}

func parts(t testing.TB, token string) (header, payload string) {
	t.Helper()
	segments := strings.Split(token, ".")
	h, err := base64.RawURLEncoding.DecodeString(segments[0])
	check(t, err)
	p, err := base64.RawURLEncoding.DecodeString(segments[1])
	check(t, err)
	return string(h), string(p)
}

func TestSignWritesExactlyThis(t *testing.T) { eachAlgorithm(t, testSignWritesExactlyThis) }

func testSignWritesExactlyThis(t *testing.T, f *forger) {
	token, err := f.key.Sign(claims())
	check(t, err)
	header, body := parts(t, token)
	if header != f.header() {
		t.Errorf("header %s", header)
	}
	const want = `{"iss":"https://auth.example","sub":"alice","aud":"https://api.example","exp":1767323345,` +
		`"iat":1767323045,"jti":"kq2mN3v8y1bkq2mN3v8y1b","client_id":"mobile","sid":"q6.kq2mN3v8y1bkq2mN3v8y1b",` +
		`"auth_time":1767319445,"scope":"read write","roles":["user","admin"],"amr":["pwd"]}`
	if body != want {
		t.Errorf("payload %s", body)
	}

	c := claims()
	c.Audience = []string{"a", "b"}
	c.AuthTime, c.Scope, c.Roles, c.AMR = time.Time{}, "", nil, nil
	c.Subject = "\"\\\n<é😀\u2028"
	token, err = f.key.Sign(c)
	check(t, err)
	_, body = parts(t, token)
	for _, piece := range []string{`"aud":["a","b"]`, `"scope":""`, `"roles":[]`, `"amr":[]`} {
		if !strings.Contains(body, piece) {
			t.Errorf("no %s in %s", piece, body)
		}
	}
	if strings.Contains(body, "auth_time") {
		t.Errorf("auth_time in %s", body)
	}
	var read struct{ Sub string }
	if err := json.Unmarshal([]byte(body), &read); err != nil || read.Sub != c.Subject {
		t.Errorf("sub became %q, %v", read.Sub, err)
	}
}

// TestRoundTrip: whatever Sign accepts, Verify gives back, and whatever Sign
// refuses, Verify would have refused.
func TestRoundTrip(t *testing.T) { eachAlgorithm(t, testRoundTrip) }

func testRoundTrip(t *testing.T, f *forger) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	text := func() string {
		runes := []rune("aZ09 ._-/:\"\\\n\r\t\x00\x7f<>&éſ\u2028\ufffd😀")
		s := make([]rune, 1+random.IntN(12))
		for i := range s {
			s[i] = runes[random.IntN(len(runes))]
		}
		return string(s)
	}
	list := func() []string {
		l := make([]string, random.IntN(4))
		for i := range l {
			l[i] = text()
		}
		return l
	}
	for range 300 {
		c := tokens.Claims{
			Issuer: issuer, Subject: text(), Audience: append(list(), audience),
			IssuedAt: now.Add(-time.Duration(random.Int64N(int64(time.Minute)))), ID: text(), ClientID: text(),
			SessionID: text(), Scope: text(), Roles: list(), AMR: list(),
		}
		c.ExpiresAt = c.IssuedAt.Add(2*time.Minute + time.Duration(random.Int64N(int64(58*time.Minute))))
		if random.IntN(2) == 0 {
			c.AuthTime = c.IssuedAt.Add(-time.Duration(random.Int64N(1e18)))
		}
		token, err := f.key.Sign(c)
		check(t, err)
		got, err := f.verifier.Verify(token, f.keys)
		check(t, err)
		for _, date := range []*time.Time{&c.IssuedAt, &c.ExpiresAt, &c.AuthTime} {
			if !date.IsZero() {
				*date = date.Truncate(time.Second)
			}
		}
		c.KeyID = f.key.Public().ID()
		if !reflect.DeepEqual(*got, c) {
			t.Fatalf("got  %+v\nwant %+v", *got, c)
		}
	}
}

func TestSignRefuses(t *testing.T) { eachAlgorithm(t, testSignRefuses) }

func testSignRefuses(t *testing.T, f *forger) {
	for name, change := range map[string]func(*tokens.Claims){
		"no iss":       func(c *tokens.Claims) { c.Issuer = "" },
		"no sub":       func(c *tokens.Claims) { c.Subject = "" },
		"no aud":       func(c *tokens.Claims) { c.Audience = nil },
		"empty aud":    func(c *tokens.Claims) { c.Audience = []string{audience, ""} },
		"no jti":       func(c *tokens.Claims) { c.ID = "" },
		"no client_id": func(c *tokens.Claims) { c.ClientID = "" },
		"no sid":       func(c *tokens.Claims) { c.SessionID = "" },
		"no iat":       func(c *tokens.Claims) { c.IssuedAt = time.Time{} },
		"no exp":       func(c *tokens.Claims) { c.ExpiresAt = time.Time{} },
		"1970":         func(c *tokens.Claims) { c.IssuedAt, c.ExpiresAt = time.Unix(0, 0), time.Unix(60, 0) },
		"year 10000": func(c *tokens.Claims) {
			c.IssuedAt = time.Unix(253402300790, 0)
			c.ExpiresAt = time.Unix(253402300800, 0)
		},
		"exp = iat":             func(c *tokens.Claims) { c.ExpiresAt = c.IssuedAt },
		"exp = iat, in seconds": func(c *tokens.Claims) { c.ExpiresAt = c.IssuedAt.Add(time.Millisecond) },
		"exp < iat":             func(c *tokens.Claims) { c.ExpiresAt = c.IssuedAt.Add(-time.Minute) },
		"too long":              func(c *tokens.Claims) { c.ExpiresAt = c.IssuedAt.Add(tokens.MaxLifetime + time.Second) },
		"auth_time 1970":        func(c *tokens.Claims) { c.AuthTime = time.Unix(0, 0) },
		"UTF-8 in sub":          func(c *tokens.Claims) { c.Subject = "\xff" },
		"UTF-8 in roles":        func(c *tokens.Claims) { c.Roles = []string{"\xed\xa0\x80"} },
		"too large":             func(c *tokens.Claims) { c.Scope = strings.Repeat("x", 6000) },
	} {
		c := claims()
		change(&c)
		token, err := f.key.Sign(c)
		if token != "" || !errors.Is(err, tokens.ErrClaims) {
			t.Errorf("%s: %q, %v", name, token, err)
		}
	}
}

func TestSignConcurrently(t *testing.T) { eachAlgorithm(t, testSignConcurrently) }

func testSignConcurrently(t *testing.T, f *forger) {
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			c := claims()
			c.Subject = fmt.Sprint(i)
			for range 20 {
				token, err := f.key.Sign(c)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := f.verifier.Verify(token, f.keys)
				if err != nil || got.Subject != c.Subject {
					t.Errorf("%v, %v", got, err)
				}
			}
		})
	}
	group.Wait()
}

func TestSigningKeyNeverShowsItsPrivatePart(t *testing.T) {
	eachAlgorithm(t, testSigningKeyNeverShowsItsPrivatePart)
}

func testSigningKeyNeverShowsItsPrivatePart(t *testing.T, f *forger) {
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b"} {
		fmt.Fprintf(&out, verb+" "+verb+" "+verb+"\n", f.key, *f.key, struct{ Key *tokens.SigningKey }{f.key})
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("key", "pointer", f.key, "value", *f.key)
	}
	text, err := json.Marshal([]any{f.key, *f.key})
	check(t, err)
	out.Write(text)
	var secrets [][]byte
	switch private := f.private.(type) {
	case *ecdsa.PrivateKey:
		d, err := private.Bytes()
		check(t, err)
		secrets = append(secrets, d)
	case ed25519.PrivateKey:
		secrets = append(secrets, private.Seed())
	case *rsa.PrivateKey:
		secrets = append(secrets, private.D.Bytes(), private.Primes[0].Bytes(), private.Primes[1].Bytes())
	}
	if len(secrets) == 0 {
		t.Fatalf("what is secret in a %T?", f.private)
	}
	for _, d := range secrets {
		for name, form := range map[string]string{
			"hex": fmt.Sprintf("%x", d), "HEX": fmt.Sprintf("%X", d), "list": strings.Trim(fmt.Sprint(d), "[]"),
			"decimal": new(big.Int).SetBytes(d).String(), // how %v shows a big.Int
			"base64":  base64.RawURLEncoding.EncodeToString(d), "raw": string(d),
			"an address": "0xc0", "a field": "private",
		} {
			if strings.Contains(out.String(), form) {
				t.Errorf("%s in\n%s", name, out.String())
			}
		}
	}
	if !strings.Contains(out.String(), f.key.ID()) {
		t.Error("the id is not shown")
	}
}
