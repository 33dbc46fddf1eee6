package jose_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// member is a member of a JSON object. The name is written without its quotes,
// and value as it is, so neither need be right.
type member struct{ name, value string }

type object struct {
	members []member
	space   string // between the parts
	end     string // after the last bracket
	cut     int    // where a byte is replaced, 0 for nowhere
	with    byte
}

// mutate makes a token. The first byte of the program says who signs; then each
// four bytes are a change: what to do, where, and two operands. The changes are
// applied to the header and the payload of a good token, which is signed after
// all of them.
func mutate(program []byte) string {
	var who, way byte
	if len(program) > 0 {
		who, program = program[0], program[1:]
	}
	f := forgers()[int(who)%len(forgers())]
	header := parseObject(f.header())
	payload := parseObject(goodPayload)
	for n := 0; len(program) >= 4 && n < 16; n++ {
		op, at, a, b := program[0], program[1], program[2], program[3]
		program = program[4:]
		o := payload
		if op >= 0x80 {
			o = header
		}
		if op&0x7f == 0x7f {
			way = a
			continue
		}
		o.change(int(op&0x7f)%len(changes), int(at), a, b)
	}
	return f.forge(header.String(), payload.String(), way)
}

func parseObject(text string) *object {
	// Our own texts have no space, no comma and no colon but these.
	o := new(object)
	decoder := json.NewDecoder(strings.NewReader(text))
	must(decoder.Token())
	for decoder.More() {
		name := must(decoder.Token()).(string)
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			panic(err)
		}
		o.members = append(o.members, member{name, string(value)})
	}
	return o
}

func (o *object) String() string {
	var b strings.Builder
	b.WriteString("{" + o.space)
	for i, m := range o.members {
		if i > 0 {
			b.WriteString("," + o.space)
		}
		fmt.Fprintf(&b, `"%s"%s:%s%s%s`, m.name, o.space, o.space, m.value, o.space)
	}
	b.WriteString("}" + o.end)
	text := []byte(b.String())
	if o.cut > 0 {
		text[o.cut%len(text)] = o.with
	}
	return string(text)
}

func (o *object) change(op, at int, a, b byte) {
	if len(o.members) == 0 && op != 3 {
		return
	}
	changes[op](o, at%max(1, len(o.members)), a, b)
}

func pick(list []string, i byte) string { return list[int(i)%len(list)] }

// changes are what can be done to the member i.
var changes = []func(o *object, i int, a, b byte){
	0: func(o *object, i int, a, _ byte) { o.members[i].value = pick(values, a) },
	1: func(o *object, i int, a, _ byte) { o.members[i].name = pick(names, a) },
	2: func(o *object, i int, _, _ byte) { o.members = slices.Delete(o.members, i, i+1) },
	3: func(o *object, i int, a, b byte) {
		o.members = slices.Insert(o.members, i, member{pick(names, a), pick(values, b)})
	},
	4: func(o *object, i int, a, _ byte) { // the same once more, with another value or the same
		again := o.members[i]
		if a > 0 {
			again.value = pick(values, a)
		}
		o.members = append(o.members, again)
	},
	5: func(o *object, i int, a, _ byte) { // another place
		j := int(a) % len(o.members)
		o.members[i], o.members[j] = o.members[j], o.members[i]
	},
	6: func(o *object, i int, a, _ byte) { // a character of the name in another form
		name := o.members[i].name
		if name != "" {
			j := int(a) % len(name)
			o.members[i].name = fmt.Sprintf(`%s\u%04x%s`, name[:j], name[j], name[j+1:])
		}
	},
	7: func(o *object, i int, a, b byte) { // a character of the value in another form
		value := o.members[i].value
		j := 1 + int(a)
		if j >= len(value)-1 || value[0] != '"' {
			return
		}
		forms := []string{`\u%04x`, `\u%04X`, `\%[2]c`, `\u%04[1]x\u0000`, "%[2]c\x00", "\xff", `\ud800`, "é", "%[2]c ", ``}
		o.members[i].value = value[:j] + fill(pick(forms, b), value[j]) + value[j+1:]
	},
	8: func(o *object, i int, a, _ byte) { // upper and lower case
		name := o.members[i].name
		if name != "" {
			j := int(a) % len(name)
			c := name[j]
			if 'a' <= c|0x20 && c|0x20 <= 'z' {
				c ^= 0x20
			}
			o.members[i].name = name[:j] + string(rune(c)) + name[j+1:]
		}
	},
	9: func(o *object, i int, a, b byte) { // a longer number, or what is none any more
		tails := []string{".0", ".5", "e0", "E+0", "e1", "0", "00000000000", ".", "e", "-", "e-1", "1", " ", "\t", "x", ".00000000000000000001"}
		heads := []string{"", "-", "+", "0", "-0", "0x", ".", " ", `"`, "["}
		o.members[i].value = pick(heads, b) + o.members[i].value + pick(tails, a)
	},
	10: func(o *object, i int, a, b byte) { // deeper
		opening, closing := "[", "]"
		if b&1 == 1 {
			opening, closing = `{"x":`, "}"
		}
		depth := 1 + int(a)*2
		o.members[i].value = strings.Repeat(opening, depth) + o.members[i].value + strings.Repeat(closing, depth)
	},
	11: func(o *object, _ int, a, b byte) {
		o.space = pick([]string{"", " ", "\n", "\t\r", "\x00", "\u00a0", "\ufeff", "/**/"}, a)
	},
	12: func(o *object, _ int, a, b byte) {
		o.end = pick([]string{"", " ", "\n", "{}", "x", "\x00", "]", ",", "\ufeff"}, a)
	},
	13: func(o *object, i int, a, b byte) { o.cut, o.with = i<<8|int(a), b }, // a byte of the text
	14: func(o *object, i int, a, b byte) { // a time close to those that count
		o.members[i].value = fmt.Sprint(iat + int64(int8(a))*[]int64{1, 15, 60, 3600}[b%4])
	},
	15: func(o *object, i int, a, b byte) { // a list with the value in it
		other := pick(values, a)
		if b&1 == 1 {
			o.members[i].value = "[" + o.members[i].value + "," + other + "]"
		} else {
			o.members[i].value = "[" + other + "," + o.members[i].value + "]"
		}
	},
}

// fill writes a character into a format that may not want it.
func fill(format string, c byte) string {
	if !strings.Contains(format, "%") {
		return format
	}
	if strings.Contains(format, "[2]") {
		return strings.ReplaceAll(strings.ReplaceAll(format, "%[2]c", string(rune(c))), "%%", "%")
	}
	return fmt.Sprintf(format, c)
}

var names = []string{
	"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "sid", "auth_time", "scope", "roles", "amr",
	"alg", "typ", "kid", "crit", "b64", "zip", "cty", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "enc", "epk",
	"SUB", "Exp", "ſub", "\\u017fub", "ALG", "\u212aid", "", "x", "X", "__proto__", "cnf", "act", "nonce", "sub\\u0000", " sub", "sub ",
}

var values = []string{
	`null`, `true`, `false`, `0`, `-0`, `1`, `-1`, `""`, `"x"`, `[]`, `{}`, `[""]`, `[null]`, `[[]]`, `{"a":1,"a":2}`, `{"a":1,"A":2}`,
	`"https://auth.example"`, `"https://api.example"`, `["https://api.example"]`, `["x","https://api.example"]`, `"alice"`, `"evil"`,
	`1767323345`, `1767323045`, `1767323060`, `1767323061`, `"1767323345"`, `1767323345.0`, `1.767323345e9`, `9007199254740993`,
	`9223372036854775807`, `9223372036854775808`, `-9223372036854775809`, `18446744073709551617`, `1e18`, `1e308`, `1e309`, `1e999999`,
	`1e-999999`, `253402300799`, `253402300800`, `NaN`, `Infinity`, `0x10`, `01`, `.5`, `1.`,
	`"ES256"`, `"EdDSA"`, `"RS256"`, `"HS256"`, `"none"`, `"noNE"`, `"PS256"`, `"at+jwt"`, `"application/at+jwt"`, `"AT+JWT"`, `"JWT"`,
	`"DEF"`, `["exp"]`, `["b64"]`, `"../../dev/null"`, `"' OR 1=1 --"`, `"http://127.0.0.1:1/"`,
	`"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"`, `"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"`,
	`"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"`,
	`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
	`"\ud83d\ude00"`, `"\ud83d"`, `"\u0000"`, `"<>&\u2028"`, "\"\u2028\"", `"é"`, `"e\u0301"`, "\"\xff\"", "\"\xed\xa0\x80\"", "\"\x01\"", `"\x"`,
	`"a b  c "`, `["a","a"]`, `["pwd","otp"]`, `"a","sub":"evil"`, `1,"sub":"evil"`,
}

// programs are each change of each member, with some operands, and the ways to
// forge.
func programs() [][]byte {
	all := map[string]bool{}
	for who := range byte(len(forgers())) {
		for way := range byte(ways) {
			all[string([]byte{who, 0x7f, 0, way, 0})] = true
		}
		for op := range byte(len(changes)) {
			for at := range byte(12) {
				// A different operand each time, and not all of them: this is where
				// a fuzzer begins.
				a := who*85 + op*16 + at*7
				all[string([]byte{who, op, at, a, a / 3})] = true
				all[string([]byte{who, 0x80 | op, at % 3, a, a / 3})] = true
			}
		}
	}
	var list [][]byte
	for _, program := range slices.Sorted(maps.Keys(all)) {
		list = append(list, []byte(program))
	}
	return list
}
