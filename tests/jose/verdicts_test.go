// Package jose_test holds package tokens against a second, independent library
// for signed JSON, go-jose: what tokens accepts, go-jose must accept as well, and
// read the same claims in it. The opposite does not hold, and need not: package
// tokens accepts its own issuer's form of a token and no other.
//
// It is a module of its own, so that neither that library nor the vectors of
// Project Wycheproof become dependencies of authapi. Its go.mod is also where
// the tests inside package tokens find these vectors.
//
//	go test ./...
//	go test -run '^$' -fuzz '^FuzzSigned$' -fuzztime 10s
//
// The targets are FuzzSigned (headers and payloads as they come, which are
// signed), FuzzMutated (a program of changes to a good token, which is signed
// after them) and FuzzKeySet (key sets).
package jose_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	issuer   = "https://auth.example"
	audience = "https://api.example"

	iat = 1767323045
)

var now = time.UnixMilli(iat*1000 + 600)

var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.RS256}

// world is one verifier of each library, with the same keys.
type world struct {
	ours  *tokens.KeySet
	other jose.JSONWebKeySet
	v     *tokens.Verifier
}

func newWorld(t testing.TB, jwks []byte, at time.Time) *world {
	t.Helper()
	w := new(world)
	var err error
	w.ours, err = tokens.ParseKeySet(jwks)
	check(t, err)
	check(t, json.Unmarshal(jwks, &w.other))
	w.v, err = tokens.NewVerifier(tokens.Config{
		Issuer: issuer, Audience: audience, Now: func() time.Time { return at },
	})
	check(t, err)
	return w
}

// otherClaims is what go-jose reads.
type otherClaims struct {
	jwt.Claims
	ClientID string           `json:"client_id"`
	SID      string           `json:"sid"`
	AuthTime *jwt.NumericDate `json:"auth_time"`
	Scope    string           `json:"scope"`
	Roles    []string         `json:"roles"`
	AMR      []string         `json:"amr"`
}

// otherVerdict verifies a token in the way that the documentation of go-jose
// recommends, and as RFC 9068 demands.
func (w *world) otherVerdict(token string, at time.Time) (*otherClaims, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return nil, err
	}
	if len(parsed.Headers) != 1 {
		return nil, fmt.Errorf("%d headers", len(parsed.Headers))
	}
	header := parsed.Headers[0]
	keys := w.other.Key(header.KeyID)
	if len(keys) != 1 {
		return nil, fmt.Errorf("%d keys of that id", len(keys))
	}
	if keys[0].Algorithm != header.Algorithm {
		return nil, errors.New("the key is for another algorithm")
	}
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != "at+jwt" && typ != "application/at+jwt" {
		return nil, errors.New("typ")
	}
	c := new(otherClaims)
	if err := parsed.Claims(keys[0], c); err != nil {
		return nil, err
	}
	return c, c.ValidateWithLeeway(
		jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{audience}, Time: at}, tokens.Leeway)
}

// agree fails if our verifier accepts what the other one does not, or not with
// these claims. It reports whether ours accepts.
func (w *world) agree(t testing.TB, token string, at time.Time) bool {
	t.Helper()
	ours, err := w.v.Verify(token, w.ours)
	if err != nil {
		if !errors.Is(err, tokens.ErrInvalid) || ours != nil {
			t.Fatalf("%+v, %v", ours, err)
		}
		return false
	}
	other, err := w.otherVerdict(token, at)
	if err != nil {
		t.Fatalf("accepted, with %+v, what the other library refuses: %v\n%s", ours, err, token)
	}
	if got, want := plain(ours), plainOther(other); got != want {
		t.Fatalf("read    %s\nthe other library reads %s\n%s", got, want, token)
	}
	if parsed, _ := jwt.ParseSigned(token, algorithms); parsed.Headers[0].KeyID != ours.KeyID {
		t.Fatalf("kid %q, the other library reads %q", ours.KeyID, parsed.Headers[0].KeyID)
	}
	return true
}

func plain(c *tokens.Claims) string {
	var authTime *int64
	if !c.AuthTime.IsZero() {
		seconds := c.AuthTime.Unix()
		authTime = &seconds
	}
	return text(c.Issuer, c.Subject, c.Audience, c.ExpiresAt.Unix(), c.IssuedAt.Unix(), c.ID, c.ClientID, c.SessionID, authTime,
		c.Scope, append([]string{}, c.Roles...), append([]string{}, c.AMR...))
}

func plainOther(c *otherClaims) string {
	return text(c.Issuer, c.Subject, []string(c.Audience), c.Expiry, c.IssuedAt, c.ID, c.ClientID, c.SID, c.AuthTime,
		c.Scope, append([]string{}, c.Roles...), append([]string{}, c.AMR...))
}

// text does not confuse "a", "b" with "a b". Invalid UTF-8, which it would
// replace, is not in anything that is accepted.
func text(values ...any) string {
	written, err := json.Marshal(values)
	if err != nil {
		panic(err)
	}
	return string(written)
}

// vectors is the part of the project's own vectors that is used here.
type vectors struct {
	Sets    map[string]json.RawMessage
	KeySets []struct {
		Name     string
		Document string
		Base64   []byte
		Pad      int
		Keys     []string
	}
	Tokens []struct {
		Name, Set string
		Now       int64
		Token     string
		Repeat    int
		Accepted  json.RawMessage
	}
}

func readVectors(t testing.TB) *vectors {
	t.Helper()
	document, err := os.ReadFile("../vectors/access-tokens.json")
	check(t, err)
	v := new(vectors)
	check(t, json.Unmarshal(document, v))
	return v
}

// TestVectors: the other library accepts what the project's own vectors say is
// accepted, with the claims that they say.
func TestVectors(t *testing.T) {
	v := readVectors(t)
	worlds := map[string]*world{}
	for name, set := range v.Sets {
		worlds[name] = newWorld(t, set, now)
	}
	accepted := 0
	for _, vector := range v.Tokens {
		w := *worlds[vector.Set]
		at := time.UnixMilli(vector.Now)
		w.v = newWorld(t, v.Sets[vector.Set], at).v
		token := strings.Repeat(vector.Token, max(1, vector.Repeat))
		is := w.agree(t, token, at)
		if want := vector.Accepted != nil; is != want {
			t.Errorf("%s: accepted: %v", vector.Name, is)
		}
		if is {
			accepted++
		}
	}
	if accepted < 40 {
		t.Errorf("only %d of %d vectors are accepted: are these the right ones?", accepted, len(v.Tokens))
	}
}

// TestRow10TokensOfTheOtherLibrary: what go-jose signs for our keys is accepted.
// So the two do not agree because one of them refuses everything.
func TestRow10TokensOfTheOtherLibrary(t *testing.T) {
	w := newWorld(t, readVectors(t).Sets["all"], now)
	for _, f := range forgers() {
		options := (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", f.kid)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(f.alg), Key: f.private}, options)
		check(t, err)
		token, err := jwt.Signed(signer).Claims(otherClaims{
			Claims: jwt.Claims{
				Issuer: issuer, Subject: "alice", Audience: jwt.Audience{audience, "https://other.example"}, ID: "j1",
				IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute)),
			},
			ClientID: "mobile", SID: "s1", Scope: "read", Roles: []string{"admin"}, AMR: []string{},
			AuthTime: jwt.NewNumericDate(now),
		}).Serialize()
		check(t, err)
		if !w.agree(t, token, now) {
			_, err := w.v.Verify(token, w.ours)
			t.Errorf("%s: %v", f.alg, err)
		}
	}
}

// TestRow01NoVectorIsAnAccessToken: all texts of Wycheproof that are signed or
// encrypted JSON, given to Verify as they are, with their own keys if those are
// any. The tests inside package tokens look behind the header.
func TestRow01NoVectorIsAnAccessToken(t *testing.T) {
	all := newWorld(t, readVectors(t).Sets["all"], now)
	texts, withKeys := 0, 0
	for _, v := range wycheproofVectors(t) {
		texts++
		sets := []*tokens.KeySet{all.ours, nil}
		if keys, err := tokens.ParseKeySet(v.jwks); err == nil {
			sets = append(sets, keys)
			withKeys++
		}
		for _, keys := range sets {
			for _, verify := range []func(string, *tokens.KeySet) (*tokens.Claims, error){all.v.Verify, all.v.VerifyAnyTime} {
				if c, err := verify(v.text, keys); !errors.Is(err, tokens.ErrMalformed) || c != nil {
					t.Errorf("%s %d: %+v, %v", v.file, v.id, c, err)
				}
			}
		}
	}
	if texts != 649 || withKeys < 270 {
		t.Errorf("%d texts, %d of them with keys that can be used: look at what is new", texts, withKeys)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
