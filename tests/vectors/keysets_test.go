package vectors_test

import (
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"
)

// Public keys as JWK, without what surrounds them: those of the forgers.
var jwks = map[string]struct{ kty, rest string }{
	"ES256": {"EC", `"crv":"P-256","x":"` + p256X + `","y":"` + p256Y + `"`},
	"EdDSA": {"OKP", `"crv":"Ed25519","x":"` + edwardsX + `"`},
	"RS256": {"RSA", `"n":"` + rsaN + `","e":"AQAB"`},
}

var (
	p256X, p256Y = b64(string(p256Point[1:33])), b64(string(p256Point[33:]))
	p256Point    = must(p256.PublicKey.Bytes())
	edwardsX     = b64(string(edwards[32:]))
	rsaN         = b64(string(rsa2048.N.Bytes()))
)

func jwk(alg, kid string) string {
	k := jwks[alg]
	return fmt.Sprintf(`{"kty":%q,"use":"sig","alg":%q,"kid":%q,%s}`, k.kty, alg, kid, k.rest)
}

func set(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

type keySetList struct{ vectors []keySetVector }

func (l *keySetList) add(name, document string, keys ...string) {
	v := keySetVector{Name: name, Document: document, Keys: append([]string{}, keys...)}
	if !utf8.ValidString(document) {
		v.Document, v.Base64 = "", []byte(document)
	}
	l.vectors = append(l.vectors, v)
}

// changed is a set of a good key and one in which a text is replaced: one bad
// key refuses the whole document.
func changed(alg, old, new string) string {
	good := jwk(alg, "a")
	if !strings.Contains(good, old) {
		panic("nothing to change: " + old)
	}
	return set(jwk("ES256", "b"), strings.Replace(good, old, new, 1))
}

// keySetVectors covers row 11 of the project's list of attacks.
func keySetVectors() []keySetVector {
	l := new(keySetList)
	l.documents()
	for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
		l.members(alg)
	}
	l.p256()
	l.ed25519()
	l.rsa()
	return l.vectors
}

func (l *keySetList) documents() {
	good := jwk("ES256", "a")
	many := make([]string, 33)
	for i := range many {
		many[i] = jwk("EdDSA", fmt.Sprintf("%02d", i))
	}
	var ids []string
	for i := range 32 {
		ids = append(ids, fmt.Sprintf("%02d", i))
	}
	l.add("one of each", set(jwk("ES256", "a"), jwk("EdDSA", "b"), jwk("RS256", "c")), "a", "b", "c")
	l.add("32 keys", set(many[:32]...), ids...)
	l.add("more members", `{"x":1,"keys":[`+good+`],"X ":2}`, "a")
	l.add("white space", " {\n\"keys\" :\t[ "+good+" ] }\r\n", "a")
	l.add("escapes", strings.Replace(set(good), "keys", `\u006beys`, 1), "a")
	l.add("unknown algorithms", set(
		`{"kty":"OKP","alg":"Ed25519","crv":"Ed25519","kid":"a","x":"AA"}`, `{"kty":"RSA","alg":"PS256","n":1,"d":"AA"}`, good, `{"alg":"es256"}`,
	), "a")
	l.add("64 KiB", set(good), "a")
	l.vectors[len(l.vectors)-1].Pad = 64<<10 - len(set(good))

	l.add("more than 64 KiB", set(good))
	l.vectors[len(l.vectors)-1].Pad = 64<<10 - len(set(good)) + 1
	for _, c := range []struct{ name, document string }{
		{"nothing", ""},
		{"no object", `[` + good + `]`},
		{"trailing bytes", set(good) + "x"},
		{"two documents", set(good) + set(good)},
		{"byte order mark", "\ufeff" + set(good)},
		{"not UTF-8", strings.Replace(set(good), `"use"`, "\"\xff\":1,\"use\"", 1)},
		{"no member keys", `{}`},
		{"KEYS", `{"KEYS":[` + good + `]}`},
		{"keys twice", `{"keys":[` + good + `],"keys":[]}`},
		{"keys in two cases", `{"keys":[` + good + `],"Keys":[]}`},
		{"keys null", `{"keys":null}`},
		{"keys an object", `{"keys":` + good + `}`},
		{"a key that is null", set(good, `null`)},
		{"a key that is a string", set(good, `"x"`)},
		{"no keys", set()},
		{"unknown algorithms only", set(`{"kty":"OKP","alg":"Ed25519"}`)},
		{"33 keys", set(many...)},
		{"33 keys, most of them unknown", set(append(strings.Fields(strings.Repeat(`{"alg":"x"} `, 32)), good)...)},
		{"one id twice", set(good, good)},
		{"one id of two kinds", set(good, jwk("RS256", "a"))},
		{"one id twice, one escaped", set(good, strings.Replace(jwk("EdDSA", "a"), `"a"`, `"\u0061"`, 1))},
		{"nested too deeply", strings.Replace(set(good), "{", `{"x":`+strings.Repeat("[", 10000)+strings.Repeat("]", 10000)+",", 1)},
	} {
		l.add(c.name, c.document)
	}
}

func (l *keySetList) members(alg string) {
	kty, rest := jwks[alg].kty, jwks[alg].rest
	change := func(name, old, new string) { l.add(alg+": "+name, changed(alg, old, new)) }
	for _, c := range []struct{ name, old, new string }{
		{"no use", `"use":"sig",`, ``},
		{"key_ops", `"use":"sig"`, `"key_ops":["verify"]`},
		{"use and key_ops", `"use":"sig"`, `"use":"sig","key_ops":[ "verify" ]`},
		{"an unknown member", `"use"`, `"x5t":null,"use"`},
		{"a kid of 64 bytes", `"kid":"a"`, `"kid":"` + strings.Repeat("k", 64) + `"`},
	} {
		id := "a"
		if strings.Contains(c.new, "kkk") {
			id = strings.Repeat("k", 64)
		}
		doc := changed(alg, c.old, c.new)
		if id == "a" {
			l.add(alg+": "+c.name, doc, "a", "b")
		} else {
			l.add(alg+": "+c.name, doc, "b", id)
		}
	}
	change("kid twice", `"kid":"a"`, `"kid":"a","kid":"c"`)
	change("KID too", `"kid":"a"`, `"kid":"a","KID":"c"`)
	change("no alg", `"alg":"`+alg+`",`, ``)
	change("alg null", `"alg":"`+alg+`"`, `"alg":null`)
	change("alg empty", `"alg":"`+alg+`"`, `"alg":""`)
	change("ALG", `"alg"`, `"ALG"`)
	change("kty oct", `"kty":"`+kty+`"`, `"kty":"oct"`)
	change("kty in another case", `"kty":"`+kty+`"`, `"kty":"`+strings.ToLower(kty)+`"`)
	change("no kty", `"kty":"`+kty+`",`, ``)
	change("use enc", `"sig"`, `"enc"`)
	change("use empty", `"sig"`, `""`)
	change("use null", `"sig"`, `null`)
	change("use SIG", `"sig"`, `"SIG"`)
	change("USE", `"use"`, `"USE"`)
	change("key_ops with sign", `"use":"sig"`, `"key_ops":["sign","verify"]`)
	change("key_ops empty", `"use":"sig"`, `"key_ops":[]`)
	change("key_ops a string", `"use":"sig"`, `"key_ops":"verify"`)
	change("no kid", `"kid":"a",`, ``)
	change("kid empty", `"kid":"a"`, `"kid":""`)
	change("kid a number", `"kid":"a"`, `"kid":1`)
	change("kid of 65 bytes", `"kid":"a"`, `"kid":"`+strings.Repeat("k", 65)+`"`)
	change("kid of 33 characters and 66 bytes", `"kid":"a"`, `"kid":"`+strings.Repeat("é", 33)+`"`)
	change("kid an unpaired surrogate", `"kid":"a"`, `"kid":"\ud800"`)
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "D", "Qi"} {
		change("with "+private, `"use"`, `"`+private+`":"AA","use"`)
	}
	change("with d null", `"use"`, `"d":null,"use"`)
	for _, member := range []string{"crv", "x", "y", "n", "e"} {
		_, tail, has := strings.Cut(rest, `"`+member+`":"`)
		if !has {
			change("with "+member, `"use"`, `"`+member+`":"AQAB","use"`)
			continue
		}
		value, _, _ := strings.Cut(tail, `"`)
		whole := `"` + member + `":"` + value + `"`
		change("without "+member, whole, `"":""`)
		change(strings.ToUpper(member)+" instead of "+member, whole, strings.ToUpper(whole[:5])+whole[5:])
		bad := []string{`null`, `["` + value + `"]`, `"` + value + `\n"`, `"` + value[:len(value)-1] + `"`}
		if len(value) < 100 {
			bad = append(bad, `""`, `1`, `"`+value+`="`, `" `+value+`"`, `"AAAA`+value+`"`, `"`+value+`AA"`,
				`"`+value[:1]+`+`+value[2:]+`"`, `"`+value[:1]+`/`+value[2:]+`"`)
		}
		for i, text := range bad {
			change(fmt.Sprintf("%s changed, %d", member, i+1), whole, `"`+member+`":`+text)
		}
		if len(value)%4 != 0 && member != "crv" {
			change("other tail bits in "+member, value, value[:len(value)-1]+string(neighbour(value[len(value)-1])))
		}
	}
	for _, other := range []string{"ES256", "EdDSA", "RS256"} {
		if other != alg {
			change("as "+other, `"alg":"`+alg+`"`, `"alg":"`+other+`"`)
			change("as "+other+" with its kty", `"kty":"`+kty+`","use":"sig","alg":"`+alg+`"`, `"kty":"`+jwks[other].kty+`","use":"sig","alg":"`+other+`"`)
		}
	}
}

func (l *keySetList) p256() {
	prime := p256.Params().P
	x := new(big.Int).Add(new(big.Int).SetBytes(p256Point[1:33]), prime)
	zero := strings.Repeat("A", 43)
	p384 := must(ecdh.P384().NewPrivateKey(append(make([]byte, 47), 1))).PublicKey().Bytes()
	both := string(p256Point[1:])
	for _, c := range []struct{ name, old, new string }{
		{"crv P-384", `"P-256"`, `"P-384"`},
		{"crv in another case", `"P-256"`, `"p-256"`},
		{"cut after 31 bytes", p256X + `","y":"` + p256Y, b64(both[:31]) + `","y":"` + b64(both[31:])},
		{"not on the curve", p256X, p256Y},
		{"zero", p256X + `","y":"` + p256Y, zero + `","y":"` + zero},
		{"x of 48 bytes", p256X, b64(string(p384[1:49]))},
		{"x the prime", p256X, b64(string(prime.Bytes()))},
		{"x plus the prime, cut", p256X, b64(string(x.Bytes()[len(x.Bytes())-32:]))},
	} {
		l.add("ES256: "+c.name, changed("ES256", c.old, c.new))
	}
	mirrored := new(big.Int).Sub(prime, new(big.Int).SetBytes(p256Point[33:]))
	l.add("ES256: the other y", changed("ES256", p256Y, b64(string(mirrored.FillBytes(make([]byte, 32))))), "a", "b")
	// A point with x = 0 is on the curve; x = p would be a second spelling of it.
	y := new(big.Int).ModSqrt(p256.Params().B, prime)
	root := b64(string(y.FillBytes(make([]byte, 32))))
	l.add("ES256: x is 0, on the curve", changed("ES256", p256X+`","y":"`+p256Y, zero+`","y":"`+root), "a", "b")
	l.add("ES256: x is the prime, on the curve", changed("ES256", p256X+`","y":"`+p256Y, b64(string(prime.Bytes()))+`","y":"`+root))
}

func (l *keySetList) ed25519() {
	for _, crv := range []string{"P-256", "Ed448", "X25519", "ed25519"} {
		l.add("EdDSA: crv "+crv, changed("EdDSA", `"Ed25519"`, `"`+crv+`"`))
	}
	// Whoever publishes one of the points of small order lets anyone sign. Those
	// above the prime are second spellings.
	top := strings.Repeat("ff", 30)
	bad := []string{
		"00" + strings.Repeat("00", 31), "01" + strings.Repeat("00", 31), "ec" + top + "7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ed" + top + "7f", "ee" + top + "7f", "f0" + top + "7f", "ff" + top + "7f",
		"02" + strings.Repeat("00", 31), // no point
	}
	for _, text := range bad {
		point := must(hex.DecodeString(text))
		for _, sign := range []byte{0, 0x80} {
			point[31] ^= sign
			l.add(fmt.Sprintf("EdDSA: x is %x", point), changed("EdDSA", edwardsX, b64(string(point))))
		}
	}
	// Of order 8 times that of a key: Go and OpenSSL agree that it is one.
	l.add("EdDSA: x is 03", changed("EdDSA", edwardsX, b64("\x03"+strings.Repeat("\x00", 31))), "a", "b")
}

func (l *keySetList) rsa() {
	// number is 2^bits, plus more, as a JWK writes it.
	number := func(bits uint, more int64) string {
		n := new(big.Int).Lsh(big.NewInt(1), bits)
		return b64(string(n.Add(n, big.NewInt(more)).Bytes()))
	}
	for _, c := range []struct{ name, n string }{
		{"2048 bits", number(2047, 1)},
		{"2049 bits", number(2048, 1)},
		{"4096 bits", number(4096, -1)},
	} {
		l.add("RS256: "+c.name, changed("RS256", rsaN, c.n), "a", "b")
	}
	full := string(rsa2048.N.Bytes())
	for _, c := range []struct{ name, n string }{
		{"2047 bits", number(2047, -1)},
		{"4097 bits", number(4096, 1)},
		{"1024 bits", number(1023, 1)},
		{"8192 bits", number(8191, 1)},
		{"even", number(2047, 2)},
		{"zero", "AA"},
		{"one", "AQ"},
		{"leading zero", b64("\x00" + full)},
		{"2048 bits with a leading zero", b64("\x00" + full[:255])},
	} {
		l.add("RS256: "+c.name, changed("RS256", rsaN, c.n))
	}
	for _, c := range []struct{ name, e string }{
		{"0", "AA"},
		{"1", "AQ"},
		{"3", "Aw"},
		{"17", "EQ"},
		{"65536", "AQAA"},
		{"65539", "AQAD"},
		{"2^32+65537", "AQABAAE"},
		{"leading zero", "AAEAAQ"},
		{"hexadecimal", "010001"},
		{"decimal", "65537"},
	} {
		l.add("RS256: e is "+c.name, changed("RS256", `"AQAB"`, `"`+c.e+`"`))
	}
	l.add("RS256: e a number", changed("RS256", `"AQAB"`, `65537`))
	l.add("RS256: n and e swapped", changed("RS256", rsaN+`","e":"AQAB`, `AQAB","e":"`+rsaN))
}

// setsForTokens are the sets that token vectors name.
func setsForTokens() map[string]json.RawMessage {
	sets := map[string]json.RawMessage{"all": document(forgers...)}
	for i, f := range forgers {
		sets["without "+f.alg] = document(append(append([]*forger{}, forgers[:i]...), forgers[i+1:]...)...)
	}
	// Each key under the id of another of its kind.
	var impostors []string
	for _, f := range forgers {
		impostors = append(impostors, strings.Replace(jwk(f.alg, f.kid), jwks[f.alg].rest, impostorKeys[f.alg], 1))
	}
	sets["impostors"] = json.RawMessage(set(impostors...))
	return sets
}

// impostorKeys are sound keys that have signed nothing.
var impostorKeys = map[string]string{
	"ES256": func() string {
		mirrored := new(big.Int).Sub(p256.Params().P, new(big.Int).SetBytes(p256Point[33:]))
		return `"crv":"P-256","x":"` + p256X + `","y":"` + b64(string(mirrored.FillBytes(make([]byte, 32)))) + `"`
	}(),
	"EdDSA": `"crv":"Ed25519","x":"` + b64("\x03"+strings.Repeat("\x00", 31)) + `"`,
	"RS256": `"n":"` + b64(string(new(big.Int).Add(rsa2048.N, big.NewInt(2)).Bytes())) + `","e":"AQAB"`,
}
