package vectors_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// tokenList collects token vectors of one forger.
type tokenList struct {
	*forger
	vectors []tokenVector
}

func (l *tokenList) refused(reason, name, token string) {
	l.vectors = append(l.vectors, tokenVector{Name: l.alg + ": " + name, Set: "all", Now: nowMS, Token: token, Refused: reason})
}

// accepted has the verdict's claims put in later, by what is to be verified.
func (l *tokenList) accepted(name, token string) {
	l.vectors = append(l.vectors, tokenVector{Name: l.alg + ": " + name, Set: "all", Now: nowMS, Token: token})
}

// at changes the time of the last vector, to Unix milliseconds.
func (l *tokenList) at(now int64) { l.vectors[len(l.vectors)-1].Now = now }

// tokenVectors covers rows 2 to 10 of the project's list of attacks. What does
// not depend on the algorithm is there for ES256 only.
func tokenVectors() []tokenVector {
	var all []tokenVector
	for _, f := range forgers {
		l := &tokenList{forger: f}
		l.good()
		l.algorithms()
		l.signatures()
		l.otherKeys()
		l.essentials()
		if f.alg == "ES256" {
			l.steering()
			l.types()
			l.duplicates()
			l.texts()
			l.expiry()
			l.future()
			l.claims()
		}
		all = append(all, l.vectors...)
	}
	return all
}

func (l *tokenList) good() {
	l.accepted("good", l.forge(l.header(), payload(nil)))
	l.accepted("white space", l.forge(" "+l.header()+"\n", "\t"+payload(nil)+" "))
	l.accepted("escapes", l.forge(
		strings.Replace(l.header(), "alg", `\u0061lg`, 1), strings.Replace(payload(nil), "sub", `s\u0075b`, 1),
	))
	l.accepted("typ in its long form", l.forge(strings.Replace(l.header(), "at+jwt", "application/at+jwt", 1), payload(nil)))
}

// algorithms is row 2: a refusal as malformed although the kid is unknown shows
// that no key was looked up.
func (l *tokenList) algorithms() {
	for _, kid := range []string{l.kid, "unknown"} {
		header := func(alg string) string { return `{"alg":` + alg + `,"typ":"at+jwt","kid":"` + kid + `"}` }
		algs := []string{`"none"`, `"noNE"`, `"` + strings.ToLower(l.alg) + `"`, `"HS256"`, `null`}
		if l.alg == "ES256" && kid == l.kid {
			algs = append(algs, `"None"`, `"NONE"`, `""`, `"ES256 "`, `"ES256\u0000"`, `["ES256"]`, `"ES384"`, `"ES512"`, `"ES256K"`,
				`"RS384"`, `"RS1"`, `"PS256"`, `"Ed25519"`, `"EDDSA"`, `"HS512"`, `"dir"`, `256`)
		}
		for _, alg := range algs {
			l.refused("malformed", "alg "+alg+", kid "+kid, l.forge(header(alg), payload(nil)))
			l.refused("malformed", "alg "+alg+" unsigned, kid "+kid, b64(header(alg))+"."+b64(payload(nil))+".")
		}
		l.refused("malformed", "no alg, kid "+kid, l.forge(`{"typ":"at+jwt","kid":"`+kid+`"}`, payload(nil)))
		own := b64(header(`"`+l.alg+`"`)) + "." + b64(payload(nil)) + "."
		for _, size := range []int{0, 63, 513} {
			l.refused("malformed", fmt.Sprintf("%d bytes of signature, kid %s", size, kid), own+b64(strings.Repeat("\x30", size)))
		}
	}
	der := must(x509.MarshalPKIXPublicKey(l.private.Public()))
	for _, secret := range []struct {
		name  string
		bytes []byte
	}{
		{"blank", nil},
		{"DER", der},
		{"PEM", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})},
		{"JWKS", document(l.forger)},
	} {
		for _, alg := range []string{"HS256", l.alg} {
			signed := b64(strings.Replace(l.header(), l.alg, alg, 1)) + "." + b64(payload(nil))
			mac := hmac.New(sha256.New, secret.bytes)
			mac.Write([]byte(signed))
			l.refused("malformed", "HMAC with the public key, "+secret.name+", as "+alg, signed+"."+b64(string(mac.Sum(nil))))
		}
	}
	// This one has the size of a signature.
	signed := b64(l.header()) + "." + b64(payload(nil))
	mac := hmac.New(sha512.New, der)
	mac.Write([]byte(signed))
	sum := slices.Repeat(mac.Sum(nil), 4)[:l.size()]
	l.refused("signature", "HMAC with the public key, as long as a signature", signed+"."+b64(string(sum)))
}

// signatures has signatures of the right size by the right key, or by nobody,
// in forms that the algorithm does not have.
func (l *tokenList) signatures() {
	signed := b64(l.header()) + "." + b64(payload(nil))
	signature := l.sign(signed)
	try := func(name string, s []byte) { l.refused("signature", name, signed+"."+b64(string(s))) }
	other := b64(l.header()) + "." + b64(payload(map[string]string{"sub": `"evil"`}))
	l.refused("signature", "signature of another token", other+"."+b64(string(signature)))
	try("zeros", make([]byte, l.size()))
	flipped := slices.Clone(signature)
	flipped[len(flipped)-1] ^= 1
	try("last bit of the signature", flipped)

	switch private := l.private.(type) {
	case ed25519.PrivateKey:
		order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
		reversed := func(b []byte) []byte { b = slices.Clone(b); slices.Reverse(b); return b }
		s := new(big.Int).SetBytes(reversed(signature[32:]))
		s.Add(s, order)
		try("s not reduced", append(slices.Clone(signature[:32]), reversed(s.FillBytes(make([]byte, 32)))...))
		one := append([]byte{1}, make([]byte, 31)...)
		try("r of small order, s zero", append(slices.Clone(one), make([]byte, 32)...))
		digest := sha512.Sum512([]byte(signed))
		try("Ed25519ph", must(private.Sign(nil, digest[:], &ed25519.Options{Hash: crypto.SHA512})))
		try("Ed25519ctx", must(private.Sign(nil, []byte(signed), &ed25519.Options{Context: "JWT"})))
	case *rsa.PrivateKey:
		full := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 256)) }
		try("1", full(big.NewInt(1)))
		try("n-1", full(new(big.Int).Sub(private.N, big.NewInt(1))))
		try("n", full(private.N))
		try("leading zero", append([]byte{0}, signature...))
		try("trailing zero", append(slices.Clone(signature), 0))
		try("512 bytes", append(make([]byte, 256), signature...))
		sum1, sum256, sum512 := sha1.Sum([]byte(signed)), sha256.Sum256([]byte(signed)), sha512.Sum512([]byte(signed))
		try("SHA-1", must(rsa.SignPKCS1v15(nil, private, crypto.SHA1, sum1[:])))
		try("SHA-512", must(rsa.SignPKCS1v15(nil, private, crypto.SHA512, sum512[:])))
		try("no DigestInfo", must(rsa.SignPKCS1v15(nil, private, 0, sum256[:])))
		good := full(new(big.Int).Exp(new(big.Int).SetBytes(signature), big.NewInt(65537), private.N))
		info := good[256-51:]
		raw := func(name string, block []byte) {
			n := new(big.Int).SetBytes(block)
			try(name, full(n.Exp(n, private.D, private.N)))
		}
		raw("short padding", slices.Concat([]byte{0, 1}, []byte(strings.Repeat("\xff", 8)), []byte{0}, info, make([]byte, 256-62)))
		raw("other padding", slices.Concat(good[:100], []byte{0xfe}, good[101:]))
		raw("type 2", slices.Concat([]byte{0, 2}, good[2:]))
	default:
		order := p256.Params().N
		half := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }
		for _, r := range []*big.Int{new(big.Int), big.NewInt(1), order} {
			for _, s := range []*big.Int{new(big.Int), big.NewInt(1), order} {
				try(fmt.Sprintf("r = %v, s = %v", r, s), slices.Concat(half(r), half(s)))
			}
		}
		// The text of a token is not its name: whoever sees a signature can compute
		// its mirror image, which is as good.
		s := new(big.Int).SetBytes(signature[32:])
		mirrored := slices.Concat(signature[:32], half(s.Sub(order, s)))
		l.accepted("mirror image of the signature", signed+"."+b64(string(mirrored)))
		try("r and s swapped", slices.Concat(signature[32:], signature[:32]))
	}
}

// otherKeys has one key of each kind in the set, under each other's names.
func (l *tokenList) otherKeys() {
	for _, owner := range forgers {
		for _, named := range forgers {
			if owner == l.forger && named == l.forger {
				continue
			}
			header := fmt.Sprintf(`{"alg":%q,"typ":"at+jwt","kid":%q}`, named.alg, owner.kid)
			signed := b64(header) + "." + b64(payload(nil))
			signature := append(l.sign(signed), make([]byte, 256)...)[:named.size()]
			l.refused("signature", "alg "+named.alg+", kid of "+owner.alg, signed+"."+b64(string(signature)))
		}
	}
	token := l.forge(l.header(), payload(nil))
	l.refused("unknown_key", "another set", token)
	l.vectors[len(l.vectors)-1].Set = "without " + l.alg
	l.refused("signature", "another key under the same id", token)
	l.vectors[len(l.vectors)-1].Set = "impostors"
}

// essentials is one of each rule that the lists below have more of.
func (l *tokenList) essentials() {
	good := l.forge(l.header(), payload(nil))
	l.refused("malformed", "crit", l.forge(with(l.header(), `"crit":["exp"]`), payload(nil)))
	l.refused("malformed", "typ JWT", l.forge(strings.Replace(l.header(), "at+jwt", "JWT", 1), payload(nil)))
	l.refused("unknown_key", "unknown kid", l.forge(strings.Replace(l.header(), l.kid, "unknown", 1), payload(nil)))
	l.refused("claims", "sub twice", l.forge(l.header(), with(payload(nil), `"sub":"evil"`)))
	l.refused("claims", "another issuer", l.forge(l.header(), payload(map[string]string{"iss": `"evil"`})))
	l.refused("claims", "another audience", l.forge(l.header(), payload(map[string]string{"aud": `"evil"`})))
	l.refused("malformed", "four segments", good+".")
	l.refused("signature", "no payload", b64(l.header())+".."+b64(string(l.sign(b64(l.header())+"."+b64(payload(nil))))))
	l.refused("expired", "expired", good)
	l.at((iat + 315) * 1000)
}

// steering is rows 3 and 5.
func (l *tokenList) steering() {
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(document(l.forger), &set); err != nil {
		panic(err)
	}
	for _, member := range []string{
		`"jwk":` + string(set.Keys[0]), `"jwk":null`, `"jku":"http://127.0.0.1:1/"`, `"x5u":"http://127.0.0.1:1/"`, `"x5c":["Y2VydA=="]`,
		`"x5t":"AA"`, `"x5t#S256":"AA"`, `"cty":"JWT"`, `"zip":"DEF"`, `"enc":"A128GCM"`, `"iss":"evil"`, `"":""`,
		`"crit":[]`, `"crit":null`, `"crit":["b64"],"b64":true`, `"b64":true`, `"b64":false`, `"CRIT":["x"],"x":1`,
	} {
		l.refused("malformed", "header with "+member[:min(len(member), 20)], l.forge(with(l.header(), member), payload(nil)))
	}
	header := b64(with(l.header(), `"crit":["b64"],"b64":false`))
	l.refused("malformed", "b64 false, encoded", l.forgeText(header+"."+b64(payload(nil))))
	l.refused("malformed", "b64 false, raw", l.forgeText(header+"."+payload(nil)))
	l.refused("malformed", "b64 false, raw, harmless characters", l.forgeText(header+".abcd"))

	named := func(kid string) string { return `{"alg":"` + l.alg + `","typ":"at+jwt","kid":` + kid + `}` }
	for _, kid := range []string{
		`"../../dev/null"`, `"' UNION SELECT 'evil"`, `"|sleep 10"`, `"*"`, `"` + l.kid + `\u0000"`, `"` + strings.ToLower(l.kid) + `"`,
		`"__proto__"`, `"constructor"`, `"` + strings.Repeat("k", 64) + `"`,
	} {
		l.refused("unknown_key", "kid "+kid, l.forge(named(kid), payload(nil)))
	}
	for _, kid := range []string{
		`""`, `null`, `0`, `["` + l.kid + `"]`, `{}`, `"` + strings.Repeat("k", 65) + `"`, `"` + strings.Repeat("é", 33) + `"`, `"\ud800"`,
	} {
		l.refused("malformed", "kid "+kid, l.forge(named(kid), payload(nil)))
	}
	l.refused("malformed", "no kid", l.forge(`{"alg":"`+l.alg+`","typ":"at+jwt"}`, payload(nil)))
}

// types is row 4.
func (l *tokenList) types() {
	for _, typ := range []string{
		``, `"typ":"JWT",`, `"typ":"dpop+jwt",`, `"typ":"",`, `"typ":null,`, `"typ":["at+jwt"],`, `"typ":"AT+JWT",`, `"typ":"at+jwt ",`,
		`"typ":"at+jwt;v=1",`, `"typ":"application/jwt",`, `"typ":"application/AT+JWT",`, `"typ":"logout+jwt",`, `"TYP":"at+jwt",`,
	} {
		l.refused("malformed", "header with "+typ, l.forge(`{"alg":"`+l.alg+`",`+typ+`"kid":"`+l.kid+`"}`, payload(nil)))
	}
}

// duplicates is row 6.
func (l *tokenList) duplicates() {
	for _, member := range []string{
		`"sub":"alice"`, `"s\u0075b":"evil"`, `"SUB":"evil"`, `"Sub":"evil"`, `"ſub":"evil"`, `"\u017fub":"evil"`, `"EXP":4102444800`,
		`"exp":4102444800`, `"Client_ID":"evil"`, `"AUD":"evil"`, `"ROLES":["evil"]`, `"NBF":1`, `"x":1,"x":1`, `"x":1,"X":1`,
		`"\u212a":1,"k":2`, `"σ":1,"ς":2`, `"é":1,"É":2`,
	} {
		l.refused("claims", "also "+member, l.forge(l.header(), with(payload(nil), member)))
	}
	for _, member := range []string{`"straße":1,"strasse":2`, `"ı":1,"i":2`, `"__proto__":{"sub":"evil"}`, `"toString":1`} {
		l.accepted("also "+member, l.forge(l.header(), with(payload(nil), member)))
	}
	for _, name := range []string{"sub", "exp", "iss", "aud", "iat", "jti", "client_id", "sid", "scope", "roles"} {
		// Alone, too: another reader of the same payload may ignore letter case.
		upper := strings.ToUpper(name[:1]) + name[1:]
		l.refused("claims", upper+" alone", l.forge(l.header(), payload(map[string]string{name: "", upper: `"evil"`})))
	}
	var many []string
	for i := range 117 {
		many = append(many, fmt.Sprintf(`"m%d":1`, i))
	}
	l.accepted("128 members", l.forge(l.header(), with(payload(nil), strings.Join(many[1:], ","))))
	l.refused("claims", "129 members", l.forge(l.header(), with(payload(nil), strings.Join(many, ","))))

	for i, header := range []string{
		with(l.header(), `"alg":"`+l.alg+`"`), with(l.header(), `"kid":"evil"`), with(l.header(), `"ALG":"`+l.alg+`"`),
		with(l.header(), `"Kid":"evil"`), with(l.header(), `"\u0061lg":"`+l.alg+`"`), `[]`, `null`, `{}`, ``, `"x"`, l.header() + "x",
		l.header() + l.header(), "\ufeff" + l.header(), l.header()[1:], strings.Replace(l.header(), "alg", "\xff", 1),
		strings.Replace(l.header(), `"`, `'`, 2), l.header()[:len(l.header())-1] + ",}", "/**/" + l.header(),
	} {
		l.refused("malformed", fmt.Sprintf("another header, %d", i+1), l.forge(header, payload(nil)))
	}
	for i, bad := range []string{
		``, `{}`, `[]`, `null`, `"x"`, payload(nil) + "x", payload(nil) + payload(nil), payload(nil)[1:], "\ufeff" + payload(nil),
		with(payload(nil), "\"x\":\"\xff\""), with(payload(nil), "\"x\":\"\xed\xa0\x80\""), with(payload(nil), "\"x\":\"\xc0\x80\""),
		with(payload(nil), `"x":01`), with(payload(nil), `"x":.5`), with(payload(nil), `"x":NaN`), with(payload(nil), `"x\ud800":1`),
		with(payload(nil), "\"x\":\"\t\""), with(payload(nil), `"x":"\x41"`), with(payload(nil), `"x":1,`), "\u00a0" + payload(nil),
	} {
		l.refused("claims", fmt.Sprintf("another payload, %d", i+1), l.forge(l.header(), bad))
	}
	// Values that nobody reads are not read.
	for _, member := range []string{`"x":"\ud800"`, `"x":{"sub":"evil","sub":[[]]}`, `"x":1e999`, "\"x\":\"\x7f\u2028\""} {
		l.accepted("also "+member, l.forge(l.header(), with(payload(nil), member)))
	}
}

// texts is row 7.
func (l *tokenList) texts() {
	// Both header and payload must leave bits over in their last character.
	header, claims := l.header(), payload(nil)
	for len(header)%3 == 0 {
		header += " "
	}
	for len(claims)%3 == 0 {
		claims += " "
	}
	valid := l.forge(header, claims)
	l.accepted("bits left over", valid)
	part := strings.Split(valid, ".")
	for _, c := range []struct {
		name string
		odd  func(string) string
	}{
		{"LF", func(s string) string { return s[:4] + "\n" + s[4:] }},
		{"CR", func(s string) string { return s[:4] + "\r" + s[4:] }},
		{"CRLF at the end", func(s string) string { return s + "\r\n" }},
		{"LF at the end", func(s string) string { return s + "\n" }},
		{"space", func(s string) string { return " " + s }},
		{"padding", func(s string) string { return s + "=" }},
		{"two of padding", func(s string) string { return s + "==" }},
		{"other tail bits", func(s string) string { return s[:len(s)-1] + string(neighbour(s[len(s)-1])) }},
		{"percent", func(s string) string { return s[:4] + "%41" + s[4:] }},
		{"plus", func(s string) string { return s[:4] + "+" + s[4:] }},
		{"slash", func(s string) string { return s[:4] + "/" + s[4:] }},
		{"NUL", func(s string) string { return s + "\x00" }},
		{"a letter beyond ASCII", func(s string) string { return s + "é" }},
		{"a letter too many", func(s string) string { return s[:len(s)-len(s)%4] + "A" }},
	} {
		l.refused("malformed", c.name+" in the header", l.forgeText(c.odd(part[0])+"."+part[1]))
		l.refused("malformed", c.name+" in the payload", l.forgeText(part[0]+"."+c.odd(part[1])))
		l.refused("malformed", c.name+" in the signature", part[0]+"."+part[1]+"."+c.odd(part[2]))
	}
	for _, c := range []struct{ name, token string }{
		{"one dot", part[0] + "." + part[1]},
		{"dots", ".."},
		{"no header", "." + part[1] + "." + part[2]},
		{"JSON form", fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, part[0], part[1], part[2])},
		{"JSON in front", `{"x":"` + valid + `"}`},
		{"five parts", valid + ".AAAA.AAAA"},
		{"leading dot", "." + valid},
		{"a scheme", "Bearer " + valid},
		{"newline", valid + "\n"},
		{"two tokens", valid + "," + valid},
	} {
		l.refused("malformed", c.name, c.token)
	}
	l.refused("malformed", "a million dots", ".")
	l.vectors[len(l.vectors)-1].Repeat = 1 << 20
	l.refused("malformed", "8 KiB of dots", ".")
	l.vectors[len(l.vectors)-1].Repeat = tokensMaxSize
	l.accepted("8 KiB", l.sized(tokensMaxSize))
	l.refused("malformed", "more than 8 KiB", l.sized(tokensMaxSize+1))
}

const tokensMaxSize = 8 << 10

// sized returns a good token of at least that size, and no more if it can be.
func (l *tokenList) sized(size int) string {
	for pad := size*3/4 - 500; ; pad++ {
		if token := l.forge(l.header(), with(payload(nil), `"x":"`+strings.Repeat("x", pad)+`"`)); len(token) >= size {
			return token
		}
	}
}

// neighbour returns a character whose six bits differ in the last one only,
// which stands for nothing at the end of a segment.
func neighbour(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

// expiry is row 8.
func (l *tokenList) expiry() {
	for _, exp := range []string{
		``, `null`, `0`, `-1`, `-0`, `1e18`, `1000000000000000000`, `9223372036854775807`, `9223372036854775808`, `253402300800`,
		`1767323345.5`, `1767323345.0`, `1.767323345e9`, `"1767323345"`, `true`, `[1767323345]`, `{}`,
	} {
		l.refused("claims", "exp "+exp, l.forge(l.header(), payload(map[string]string{"exp": exp})))
	}
	for _, lifetime := range []int64{-60, 0, 1, 3600, 3601, 1e9} {
		name := fmt.Sprintf("a lifetime of %d s", lifetime)
		token := l.forge(l.header(), payload(map[string]string{"exp": strconv.FormatInt(iat+lifetime, 10)}))
		if lifetime == 1 || lifetime == 3600 {
			l.accepted(name, token)
		} else {
			l.refused("claims", name, token)
		}
	}
	good := l.forge(l.header(), payload(nil))
	const end = (iat + 300 + 15) * 1000
	l.accepted("a millisecond before the leeway ends", good)
	l.at(end - 1)
	l.refused("expired", "when the leeway ends", good)
	l.at(end)
	l.refused("expired", "a year later", good)
	l.at(end + 365*86400_000)
	l.refused("claims", "expired, but of another issuer", l.forge(l.header(), payload(map[string]string{"iss": `"evil"`})))
	l.at(end)
}

// future is row 9.
func (l *tokenList) future() {
	for _, ahead := range []int64{-10, 0, 10, 15, 16, 61, 1e9} {
		at := strconv.FormatInt(iat+ahead, 10)
		for _, changes := range []map[string]string{
			{"iat": at, "exp": strconv.FormatInt(iat+ahead+300, 10)}, {"nbf": at},
		} {
			name, token := fmt.Sprintf("iat %+d s", ahead), l.forge(l.header(), payload(changes))
			if changes["nbf"] != "" {
				name = fmt.Sprintf("nbf %+d s", ahead)
			}
			if ahead <= 15 {
				l.accepted(name, token)
			} else {
				l.refused("claims", name, token)
			}
		}
	}
	for _, name := range []string{"iat", "nbf", "auth_time"} {
		for _, bad := range []string{`-5`, `1e18`, `253402300800`, `1767323045.5`, `"1767323045"`, `true`} {
			l.refused("claims", name+" "+bad, l.forge(l.header(), payload(map[string]string{name: bad})))
		}
	}
}

// claims is row 10.
func (l *tokenList) claims() {
	for _, name := range []string{"nbf", "auth_time"} {
		for _, bad := range []string{`null`, `0`, `[]`} {
			l.refused("claims", name+" "+bad, l.forge(l.header(), payload(map[string]string{name: bad})))
		}
	}
	for _, name := range []string{"iss", "aud", "sub", "client_id", "jti", "sid", "iat"} {
		for _, bad := range []string{``, `""`, `null`, `0`, `false`, `{}`, `[]`, `[""]`, `[null]`, `"\ud800"`, `"\udc00\ud800"`} {
			l.refused("claims", name+" "+bad, l.forge(l.header(), payload(map[string]string{name: bad})))
		}
	}
	for _, c := range []struct {
		name  string
		wrong []string
	}{
		{"iss", []string{
			`"https://auth.example/"`, `"https://AUTH.example"`, `"https://auth.example\u0000"`, `["https://auth.example"]`,
			`" https://auth.example"`, `"https:\/\/auth.example."`,
		}},
		{"aud", []string{
			`"https://api.example/"`, `["evil"]`, `["https://api.example",1]`, `["https://api.example",""]`, `[["https://api.example"]]`,
			`{"https://api.example":1}`, `"https://api.example https://other.example"`,
		}},
		{"sub", []string{`["alice"]`, `{"x":"alice"}`, `1`}},
		{"client_id", []string{`["mobile"]`, `1`}},
		{"jti", []string{`1`, `["j1"]`}},
		{"sid", []string{`1`, `["q6.s1"]`}},
		{"scope", []string{`null`, `["read"]`, `1`, `"\udfff"`}},
		{"roles", []string{`null`, `"admin"`, `["admin",null]`, `[1]`, `{}`, `["\ud800x"]`}},
		{"amr", []string{`null`, `"pwd"`, `[["pwd"]]`}},
	} {
		for _, bad := range c.wrong {
			l.refused("claims", c.name+" "+bad, l.forge(l.header(), payload(map[string]string{c.name: bad})))
		}
	}
	for _, c := range []struct {
		name    string
		changes map[string]string
	}{
		{"aud an array", map[string]string{"aud": `["https://api.example"]`}},
		{"aud among others", map[string]string{"aud": `["https://other.example" , "https://api.example"]`}},
		{"nothing optional", map[string]string{"auth_time": "", "scope": "", "roles": "", "amr": ""}},
		{"optional claims empty", map[string]string{"scope": `""`, "roles": `[ ]`, "amr": `[]`}},
		{"nbf in the past", map[string]string{"nbf": "1767323045"}},
		{"auth_time long ago", map[string]string{"auth_time": "1"}},
		{"a sid of another form", map[string]string{"sid": `"s1"`}},
		{"text beyond ASCII", map[string]string{"sub": `"\ud83d\ude00 é \u00e9\/\b\f\n\r\t\"\\"`, "roles": `["ſ","\u0000"]`}},
	} {
		l.accepted(c.name, l.forge(l.header(), payload(c.changes)))
	}
}
