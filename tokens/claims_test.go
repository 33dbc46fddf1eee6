package tokens_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
)

func TestRow06DuplicateAndCaseVariantNames(t *testing.T) {
	eachAlgorithm(t, testRow06DuplicateAndCaseVariantNames)
}

func testRow06DuplicateAndCaseVariantNames(t *testing.T, f *forger) {
	for _, member := range []string{
		`"sub":"alice"`, `"sub":"evil"`, `"s\u0075b":"evil"`, `"SUB":"evil"`, `"Sub":"evil"`, `"ſub":"evil"`,
		`"EXP":4102444800`, `"exp":4102444800`, `"Client_ID":"evil"`, `"AUD":"evil"`, `"ROLES":["evil"]`, `"NBF":1`,
		`"x":1,"x":1`, `"x":1,"X":1`,
	} {
		f.refused(t, member, f.forge(t, f.header(), with(payload(t, nil), member)), tokens.ErrClaims)
	}
	// Alone, too: another reader of the same payload may ignore letter case.
	for _, name := range []string{"sub", "exp", "iss", "aud", "iat", "jti", "client_id", "sid", "scope", "roles"} {
		upper := map[string]string{name: ""}
		f.accepted(t, "unrelated name", f.forge(t, f.header(), with(payload(t, nil), `"X`+name+`":1`)))
		upper[string(name[0]-'a'+'A')+name[1:]] = `"evil"`
		f.refused(t, name, f.forge(t, f.header(), payload(t, upper)), tokens.ErrClaims)
	}
	for _, header := range []string{
		with(f.header(), `"alg":"`+f.alg+`"`), with(f.header(), `"kid":"evil"`), with(f.header(), `"ALG":"`+f.alg+`"`),
		with(f.header(), `"Kid":"evil"`), with(f.header(), `"\u0061lg":"`+f.alg+`"`), `[]`, `null`, `{}`, ``, f.header() + "x",
		f.header() + f.header(), "\ufeff" + f.header(), f.header()[1:],
	} {
		f.refused(t, header, f.forge(t, header, payload(t, nil)), tokens.ErrMalformed)
	}
	for _, bad := range []string{
		``, `{}`, `[]`, `null`, `"x"`, payload(t, nil) + "x", payload(t, nil) + payload(t, nil), payload(t, nil)[1:],
		with(payload(t, nil), "\"x\":\"\xff\""), with(payload(t, nil), `"x":01`), with(payload(t, nil), `"x\ud800":1`),
	} {
		f.refused(t, bad, f.forge(t, f.header(), bad), tokens.ErrClaims)
	}
}

func TestRow08Expiry(t *testing.T) { eachAlgorithm(t, testRow08Expiry) }

func testRow08Expiry(t *testing.T, f *forger) {
	for _, exp := range []string{
		``, `null`, `0`, `-1`, `-0`, `1e18`, `1000000000000000000`, `9223372036854775807`, `9223372036854775808`,
		`253402300800`, `1767323345.5`, `1767323345.0`, `1.767323345e9`, `"1767323345"`, `true`, `[1767323345]`, `{}`,
	} {
		f.refused(t, "exp "+exp, f.forge(t, f.header(), payload(t, map[string]string{"exp": exp})), tokens.ErrClaims)
	}
	iat := now.Unix() - 60
	for offset, ok := range map[int64]bool{-60: false, 0: false, 1: true, 3600: true, 3601: false, 1e9: false} {
		v := verifierAt(t, time.Unix(iat, 0))
		token := f.forge(t, f.header(), payload(t, map[string]string{
			"iat": strconv.FormatInt(iat, 10), "exp": strconv.FormatInt(iat+offset, 10),
		}))
		_, err := v.Verify(token, f.keys)
		if ok != (err == nil) || !ok && !errors.Is(err, tokens.ErrClaims) {
			t.Errorf("exp = iat%+d: %v", offset, err)
		}
	}
}

func TestExpiredFromTheExactInstantOn(t *testing.T) {
	eachAlgorithm(t, testExpiredFromTheExactInstantOn)
}

func testExpiredFromTheExactInstantOn(t *testing.T, f *forger) {
	token := f.forge(t, f.header(), payload(t, nil))
	end := time.Unix(1767323345, 0).Add(tokens.Leeway)
	for _, c := range []struct {
		at   time.Time
		want error
	}{
		{end.Add(-time.Nanosecond), nil},
		{end, tokens.ErrExpired},
		{end.Add(1e6 * time.Hour), tokens.ErrExpired},
	} {
		v := verifierAt(t, c.at)
		if _, err := v.Verify(token, f.keys); !errors.Is(err, c.want) || errors.Is(err, tokens.ErrClaims) {
			t.Errorf("at %v: %v", c.at, err)
		}
		got, err := v.VerifyAnyTime(token, f.keys)
		if err != nil || got.SessionID != "q6.s1" {
			t.Errorf("any time, at %v: %v", c.at, err)
		}
	}
}

// The clocks of issuer and verifier may differ by more than the leeway, and the
// audience may be one that is configured elsewhere. One can still log out then.
func TestAnyTimeAcceptsWhatIsAuthentic(t *testing.T) {
	eachAlgorithm(t, testAnyTimeAcceptsWhatIsAuthentic)
}

func testAnyTimeAcceptsWhatIsAuthentic(t *testing.T, f *forger) {
	for _, claims := range []map[string]string{
		{"iat": "1800000000", "exp": "1800000300"},
		{"nbf": "1800000000"},
		{"aud": `"of another service"`},
	} {
		token := f.forge(t, f.header(), payload(t, claims))
		if _, err := f.verifier.Verify(token, f.keys); !errors.Is(err, tokens.ErrClaims) {
			t.Errorf("%v: verified: %v", claims, err)
		}
		if _, err := f.verifier.VerifyAnyTime(token, f.keys); err != nil {
			t.Errorf("%v: %v", claims, err)
		}
	}
}

func TestAnyTimeIgnoresNothingElse(t *testing.T) { eachAlgorithm(t, testAnyTimeIgnoresNothingElse) }

func testAnyTimeIgnoresNothingElse(t *testing.T, f *forger) {
	valid := f.forge(t, f.header(), payload(t, nil))
	for token, want := range map[string]error{
		f.forge(t, f.header(), payload(t, map[string]string{"exp": ""})):           tokens.ErrClaims,
		f.forge(t, f.header(), payload(t, map[string]string{"exp": "0"})):          tokens.ErrClaims,
		f.forge(t, f.header(), payload(t, map[string]string{"exp": "1767323045"})): tokens.ErrClaims,
		f.forge(t, f.header(), payload(t, map[string]string{"iss": `"evil"`})):     tokens.ErrClaims,
		f.forge(t, f.header(), payload(t, map[string]string{"aud": `[]`})):         tokens.ErrClaims,
		f.forge(t, with(f.header(), `"crit":[]`), payload(t, nil)):                 tokens.ErrMalformed,
		valid[:len(valid)-2] + "AA":                                                tokens.ErrSignature,
	} {
		if _, err := f.verifier.VerifyAnyTime(token, f.keys); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func TestRow09Future(t *testing.T) { eachAlgorithm(t, testRow09Future) }

func testRow09Future(t *testing.T, f *forger) {
	second := now.Unix()
	for ahead, want := range map[int64]error{
		-10: nil, 0: nil, 10: nil, 15: nil, 16: tokens.ErrClaims, 61: tokens.ErrClaims, 1e9: tokens.ErrClaims,
	} {
		at := strconv.FormatInt(second+ahead, 10)
		for name, changes := range map[string]map[string]string{
			"iat": {"iat": at, "exp": strconv.FormatInt(second+ahead+300, 10)},
			"nbf": {"nbf": at},
		} {
			_, err := f.verifier.Verify(f.forge(t, f.header(), payload(t, changes)), f.keys)
			if !errors.Is(err, want) {
				t.Errorf("%s %+d s: got %v, want %v", name, ahead, err, want)
			}
		}
	}
	for _, name := range []string{"iat", "nbf", "auth_time"} {
		for _, bad := range []string{`null`, `0`, `-5`, `1e18`, `1767323045.5`, `"1767323045"`, `[]`, `true`} {
			token := f.forge(t, f.header(), payload(t, map[string]string{name: bad}))
			f.refused(t, name+" "+bad, token, tokens.ErrClaims)
		}
	}
}

func TestRow10RequiredClaims(t *testing.T) { eachAlgorithm(t, testRow10RequiredClaims) }

func testRow10RequiredClaims(t *testing.T, f *forger) {
	for _, name := range []string{"iss", "aud", "sub", "client_id", "jti", "sid", "iat", "exp"} {
		for _, bad := range []string{``, `""`, `null`, `0`, `false`, `{}`, `[]`, `[""]`, `[null]`, `"\ud800"`} {
			token := f.forge(t, f.header(), payload(t, map[string]string{name: bad}))
			f.refused(t, name+" "+bad, token, tokens.ErrClaims)
		}
	}
	for name, wrong := range map[string][]string{
		"iss": {
			`"evil"`, `"https://auth.example/"`, `"https://AUTH.example"`, `"https://auth.example\u0000"`,
			`["https://auth.example"]`, `" https://auth.example"`,
		},
		"aud": {
			`"evil"`, `"https://api.example/"`, `["evil"]`, `["https://api.example",1]`, `["https://api.example",""]`,
			`[["https://api.example"]]`, `{"https://api.example":1}`,
		},
		"sub":       {`["alice"]`, `{"x":"alice"}`, `1`},
		"client_id": {`["mobile"]`, `1`},
		"jti":       {`1`, `["j1"]`},
		"sid":       {`1`, `["q6.s1"]`},
		"scope":     {`null`, `["read"]`, `1`},
		"roles":     {`null`, `"admin"`, `["admin",null]`, `[1]`, `{}`},
		"amr":       {`null`, `"pwd"`, `[["pwd"]]`},
	} {
		for _, bad := range wrong {
			token := f.forge(t, f.header(), payload(t, map[string]string{name: bad}))
			f.refused(t, name+" "+bad, token, tokens.ErrClaims)
		}
	}
	for name, changes := range map[string]map[string]string{
		"aud array":         {"aud": `["https://api.example"]`},
		"aud among others":  {"aud": `["https://other.example","https://api.example"]`},
		"optional missing":  {"auth_time": "", "scope": "", "roles": "", "amr": ""},
		"optional empty":    {"scope": `""`, "roles": `[]`, "amr": `[]`},
		"unknown claims":    {"name": `null`, "x": `{"sub":"evil","sub":[[]]}`},
		"nbf in the past":   {"nbf": "1767323045"},
		"auth_time earlier": {"auth_time": "1"},
	} {
		f.accepted(t, name, f.forge(t, f.header(), payload(t, changes)))
	}
}

func TestNewVerifierNeedsIssuerAndAudience(t *testing.T) {
	for _, c := range []tokens.Config{{}, {Issuer: issuer}, {Audience: audience}} {
		if _, err := tokens.NewVerifier(c); err == nil {
			t.Errorf("accepted %+v", c)
		}
	}
}
