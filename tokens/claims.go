package tokens

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/authapi/authapi/internal/strictjson"
)

// Claims is what an access token says. Times are whole seconds; [SigningKey.Sign]
// drops the rest.
type Claims struct {
	Issuer    string    // iss, required
	Subject   string    // sub, required
	Audience  []string  // aud, at least one, none empty
	ExpiresAt time.Time // exp, required: after iat by at most MaxLifetime
	IssuedAt  time.Time // iat, required
	ID        string    // jti, required
	ClientID  string    // client_id, required
	SessionID string    // sid, required
	AuthTime  time.Time // auth_time; the zero time if the token does not say
	Scope     string    // scope, separated by spaces
	Roles     []string  // roles
	AMR       []string  // amr: how the user logged in (RFC 8176)

	// KeyID is the kid of the header: which key signed the token. Verifiers set
	// it, [SigningKey.Sign] does not read it.
	KeyID string

	notBefore time.Time // nbf, which this issuer does not write but honours
}

// maxDate is the last second of the year 9999. A number above it is not a date
// but an attempt to live forever, or to overflow somewhere; time.Time could not
// be written as RFC 3339 either.
const maxDate = 253402300799

// isDate excludes zero as well, which some libraries take for "no expiry".
func isDate(seconds int64) bool { return 0 < seconds && seconds <= maxDate }

// complete checks what holds for every token of this issuer, at any time. The
// issuer and the verifier ask the same function, so that nothing is issued
// that would be refused.
func (c *Claims) complete() error {
	switch {
	case c.Issuer == "":
		return badClaim("iss missing")
	case c.Subject == "":
		return badClaim("sub missing")
	case len(c.Audience) == 0 || slices.Contains(c.Audience, ""):
		return badClaim("aud missing")
	case c.ID == "":
		return badClaim("jti missing")
	case c.ClientID == "":
		return badClaim("client_id missing")
	case c.SessionID == "":
		return badClaim("sid missing")
	case !isDate(c.IssuedAt.Unix()):
		return badClaim("iat missing")
	case !isDate(c.ExpiresAt.Unix()):
		return badClaim("exp missing")
	case !c.AuthTime.IsZero() && !isDate(c.AuthTime.Unix()):
		return badClaim("auth_time out of range")
	}
	lifetime := c.ExpiresAt.Unix() - c.IssuedAt.Unix()
	if lifetime <= 0 || lifetime > int64(MaxLifetime/time.Second) {
		return badClaim("exp does not fit iat")
	}
	return nil
}

// parseClaims reads the payload of an authentic token. It checks types and
// names; complete checks the rest.
func parseClaims(payload []byte) (*Claims, error) {
	c := new(Claims)
	err := strictjson.Members(payload, func(name string, value []byte) error {
		var ok bool
		switch name {
		case "iss":
			c.Issuer, ok = strictjson.String(value)
		case "sub":
			c.Subject, ok = strictjson.String(value)
		case "aud":
			c.Audience, ok = parseAudience(value)
		case "exp":
			c.ExpiresAt, ok = parseDate(value)
		case "iat":
			c.IssuedAt, ok = parseDate(value)
		case "nbf":
			c.notBefore, ok = parseDate(value)
		case "jti":
			c.ID, ok = strictjson.String(value)
		case "client_id":
			c.ClientID, ok = strictjson.String(value)
		case "sid":
			c.SessionID, ok = strictjson.String(value)
		case "auth_time":
			c.AuthTime, ok = parseDate(value)
		case "scope":
			c.Scope, ok = strictjson.String(value)
		case "roles":
			c.Roles, ok = strictjson.Strings(value)
		case "amr":
			c.AMR, ok = strictjson.Strings(value)
		default:
			return checkUnknown(name)
		}
		if !ok {
			return badClaim(name + " has the wrong type")
		}
		return nil
	})
	return c, err
}

var claimNames = []string{
	"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "sid", "auth_time", "scope", "roles", "amr",
}

// checkUnknown refuses SUB beside sub, and alone too: a service that reads the
// payload with encoding/json would take it for sub.
func checkUnknown(name string) error {
	for _, known := range claimNames {
		if strings.EqualFold(name, known) {
			return badClaim(known + " is spelled with other upper and lower case")
		}
	}
	return nil
}

func parseAudience(value []byte) ([]string, bool) {
	if one, ok := strictjson.String(value); ok {
		return []string{one}, true
	}
	return strictjson.Strings(value)
}

// parseDate reads a NumericDate (RFC 7519, section 2). The RFC allows
// fractions; none was ever issued here, and whoever rounds them differently
// disagrees about the end of a token.
func parseDate(value []byte) (time.Time, bool) {
	seconds, ok := strictjson.Int(value)
	if !ok || !isDate(seconds) {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0).UTC(), true
}

// appendJSON writes the claims in one fixed order, with nothing optional but
// auth_time.
func (c *Claims) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"iss":`...), c.Issuer)
	b = appendString(append(b, `,"sub":`...), c.Subject)
	b = append(b, `,"aud":`...)
	if len(c.Audience) == 1 {
		b = appendString(b, c.Audience[0])
	} else {
		b = appendStrings(b, c.Audience)
	}
	b = strconv.AppendInt(append(b, `,"exp":`...), c.ExpiresAt.Unix(), 10)
	b = strconv.AppendInt(append(b, `,"iat":`...), c.IssuedAt.Unix(), 10)
	b = appendString(append(b, `,"jti":`...), c.ID)
	b = appendString(append(b, `,"client_id":`...), c.ClientID)
	b = appendString(append(b, `,"sid":`...), c.SessionID)
	if !c.AuthTime.IsZero() {
		b = strconv.AppendInt(append(b, `,"auth_time":`...), c.AuthTime.Unix(), 10)
	}
	b = appendString(append(b, `,"scope":`...), c.Scope)
	b = appendStrings(append(b, `,"roles":`...), c.Roles)
	b = appendStrings(append(b, `,"amr":`...), c.AMR)
	return append(b, '}')
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic(err) // strings cannot fail
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// validUTF8 guards the issuer: JSON would replace invalid bytes, and two
// subjects could become one.
func (c *Claims) validUTF8() bool {
	for _, s := range []string{c.Issuer, c.Subject, c.ID, c.ClientID, c.SessionID, c.Scope} {
		if !utf8.ValidString(s) {
			return false
		}
	}
	for _, list := range [][]string{c.Audience, c.Roles, c.AMR} {
		for _, s := range list {
			if !utf8.ValidString(s) {
				return false
			}
		}
	}
	return true
}
