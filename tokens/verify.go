package tokens

import (
	"errors"
	"slices"
	"time"

	"github.com/authapi/authapi/internal/strictjson"
)

// RFC 9068, section 4, allows these two. RFC 7515, section 4.1.9, would allow
// other letter cases too; the issuer never writes one, so none is accepted.
const (
	tokenType     = "at+jwt"
	tokenTypeLong = "application/at+jwt"
)

// Config says which tokens a verifier accepts.
type Config struct {
	// Issuer is what iss must be, byte for byte. Required.
	Issuer string
	// Audience is what aud must be, or be among. Required.
	Audience string
	// MoreAudiences are as good as Audience: for whoever has several names.
	MoreAudiences []string
	// Now is the verifier's clock; time.Now if nil.
	Now func() time.Time
}

// Verifier checks access tokens.
type Verifier struct{ config Config }

// NewVerifier makes a verifier. It fails if the issuer or an audience is empty.
func NewVerifier(config Config) (*Verifier, error) {
	if config.Issuer == "" || config.Audience == "" || slices.Contains(config.MoreAudiences, "") {
		return nil, errors.New("tokens: a verifier needs an issuer and an audience")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Verifier{config}, nil
}

// Verify returns the claims of an access token that one of the keys signed, for
// this issuer and audience, and that is valid now. Otherwise it returns an
// error that is [ErrInvalid] and one of the more precise ones. It does not know
// whether the token has been revoked.
func (v *Verifier) Verify(token string, keys *KeySet) (*Claims, error) {
	c, err := v.authentic(token, keys)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(c.Audience, v.isMe) {
		return nil, badClaim("another audience")
	}
	if err := v.CheckTime(c); err != nil {
		return nil, err
	}
	return c, nil
}

// CheckTime is the part of Verify that has another outcome later: it compares
// the claims of a token that was verified before with the clock. It is for
// whoever keeps verified tokens.
func (v *Verifier) CheckTime(c *Claims) error {
	now := v.config.Now()
	latest := now.Add(Leeway)
	switch {
	case c.IssuedAt.After(latest):
		return badClaim("iat is in the future")
	case c.notBefore.After(latest):
		return badClaim("nbf is in the future")
	case !now.Before(c.ExpiresAt.Add(Leeway)):
		return ErrExpired
	}
	return nil
}

// VerifyAnyTime is Verify, except that neither the clock is asked nor whom the
// token is for: it may be past its expiry, from a time that seems still to come,
// or for an audience that nobody here knows any more. It is for ending what a
// token stands for, which makes sense with any authentic one; it is no reason to
// let anyone in.
func (v *Verifier) VerifyAnyTime(token string, keys *KeySet) (*Claims, error) {
	return v.authentic(token, keys)
}

func (v *Verifier) authentic(token string, keys *KeySet) (*Claims, error) {
	t, err := split(token)
	if err != nil {
		return nil, err
	}
	kid, err := t.signedBy(keys)
	if err != nil {
		return nil, err
	}
	c, err := parseClaims(t.payload)
	if err != nil {
		if !errors.Is(err, ErrClaims) {
			err = badClaim("not one JSON object with unique names")
		}
		return nil, err
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	if c.Issuer != v.config.Issuer {
		return nil, badClaim("another issuer")
	}
	c.KeyID = kid
	return c, nil
}

func (v *Verifier) isMe(audience string) bool {
	return audience == v.config.Audience || slices.Contains(v.config.MoreAudiences, audience)
}

// segments is a token taken apart.
type segments struct {
	signed                     string // the first two segments and the dot between
	header, payload, signature []byte // decoded
}

// split takes a token apart. Size, characters and dots are checked before
// anything is decoded: a JWS in JSON form, a JWE, or a megabyte of dots costs
// one look at it, and the line breaks that Go's base64 reader skips never
// reach it (they would give a token more than one text).
func split(token string) (segments, error) {
	if len(token) > MaxSize {
		return segments{}, malformed("too large")
	}
	var dots [2]int
	n := 0
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && n < len(dots):
			dots[n] = i
			n++
		case c == '.':
			return segments{}, malformed("more than three segments")
		default:
			return segments{}, malformed("a character that no token has")
		}
	}
	if n != len(dots) {
		return segments{}, malformed("fewer than three segments")
	}
	t := segments{signed: token[:dots[1]]}
	for _, part := range []struct {
		text string
		into *[]byte
	}{
		{token[:dots[0]], &t.header},
		{token[dots[0]+1 : dots[1]], &t.payload},
		{token[dots[1]+1:], &t.signature},
	} {
		decoded, err := base64url.DecodeString(part.text)
		if err != nil {
			return segments{}, malformed("base64")
		}
		*part.into = decoded
	}
	return t, nil
}

// signedBy returns the id of the key that made the signature. It does not look
// at the payload.
func (t *segments) signedBy(keys *KeySet) (string, error) {
	alg, kid, err := parseHeader(t.header)
	if err != nil {
		return "", err
	}
	// An empty signature ends here, before any key could be asked about it.
	if n := len(t.signature); n < alg.minSignature || n > alg.maxSignature {
		return "", malformed("signature size")
	}
	key, ok := keys.find(kid)
	if !ok {
		return "", ErrUnknownKey
	}
	// The key decides how it is used. If the header did, a public key could be
	// taken for an HMAC secret.
	if key.alg != alg || len(t.signature) != key.signatureSize() {
		return "", ErrSignature
	}
	if err := alg.method.Verify(t.signed, t.signature, key.key); err != nil {
		return "", ErrSignature
	}
	return kid, nil
}

// parseHeader accepts exactly alg, typ and kid. That refuses everything by
// which a header could steer a verifier (jwk, jku, x5u, x5c), change the rules
// (crit, b64, zip, cty), or that was never issued here.
func parseHeader(header []byte) (*algorithm, string, error) {
	var alg, typ, kid string
	err := strictjson.Members(header, func(name string, value []byte) error {
		var ok bool
		switch name {
		case "alg":
			alg, ok = strictjson.String(value)
		case "typ":
			typ, ok = strictjson.String(value)
		case "kid":
			kid, ok = strictjson.String(value)
		}
		if !ok {
			return malformed("header member")
		}
		return nil
	})
	if err != nil {
		return nil, "", malformed("header")
	}
	if typ != tokenType && typ != tokenTypeLong {
		return nil, "", malformed("typ")
	}
	if kid == "" || len(kid) > MaxKeyID {
		return nil, "", malformed("kid")
	}
	a := algorithmNamed(alg)
	if a == nil {
		return nil, "", malformed("alg")
	}
	return a, kid, nil
}
