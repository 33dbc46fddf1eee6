package users_test

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/authapi/authapi/users"
)

const (
	salt16 = "c29tZXNhbHRzb21lc2FsdA"
	hash32 = "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	hash64 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

func TestPHCAccepts(t *testing.T) {
	for name, s := range map[string]string{
		"default":        "$argon2id$v=19$m=19456,t=2,p=1$" + salt16 + "$" + hash32,
		"least":          "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"most":           "$argon2id$v=19$m=262144,t=10,p=16$" + hash64 + "$" + hash64,
		"8 KiB a thread": "$argon2id$v=19$m=128,t=1,p=16$" + salt16 + "$" + hash32,
	} {
		if got, err := users.ReformatPHC(s); err != nil || got != s {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestPHCRefuses(t *testing.T) {
	const good = "$argon2id$v=19$m=19456,t=2,p=1$" + salt16 + "$" + hash32
	with := func(old, replacement string) string { return strings.Replace(good, old, replacement, 1) }
	for name, s := range map[string]string{
		"empty":               "",
		"dollars only":        "$$$$$",
		"no first dollar":     good[1:],
		"something before":    "x" + good,
		"something after":     good + "$",
		"trailing newline":    good + "\n",
		"newline in hash":     good[:len(good)-4] + "\n" + good[len(good)-4:],
		"carriage return":     with(salt16, salt16[:5]+"\r"+salt16[5:]),
		"argon2i":             with("argon2id", "argon2i"),
		"argon2d":             with("argon2id", "argon2d"),
		"upper case":          with("argon2id", "ARGON2ID"),
		"bcrypt":              "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
		"version 16":          with("v=19", "v=16"),
		"no version":          with("$v=19", ""),
		"leading zero":        with("m=19456", "m=019456"),
		"plus sign":           with("t=2", "t=+2"),
		"minus sign":          with("t=2", "t=-2"),
		"hexadecimal":         with("m=19456", "m=0x4c00"),
		"white space":         with("m=19456", "m= 19456"),
		"other order":         with("m=19456,t=2", "t=2,m=19456"),
		"parameter twice":     with("t=2", "t=2,t=2"),
		"parameter missing":   with(",p=1", ""),
		"unknown parameter":   with("p=1", "p=1,keyid=AAAA"),
		"no passes":           with("t=2", "t=0"),
		"no threads":          with("p=1", "p=0"),
		"no memory":           with("m=19456", "m=0"),
		"memory overflows":    with("m=19456", "m=4294967304"),
		"threads overflow":    with("p=1", "p=257"),
		"memory over cap":     with("m=19456", "m=262145"),
		"passes over cap":     with("t=2", "t=11"),
		"threads over cap":    with("p=1", "p=17"),
		"memory for threads":  with("m=19456,t=2,p=1", "m=127,t=2,p=16"),
		"padding":             good + "=",
		"URL alphabet":        with(hash32, strings.ReplaceAll(hash32, "/", "_")),
		"spare bits set":      with(salt16, salt16[:len(salt16)-1]+"B"),
		"salt missing":        with(salt16, ""),
		"salt short":          with(salt16, "AAAAAAAAAA"),
		"salt over cap":       with(salt16, hash64[:len(hash64)-1]+"AA"),
		"hash missing":        with(hash32, ""),
		"hash short":          with(hash32, "AAAAAAAAAAAAAAAAAAAA"),
		"hash over cap":       with(hash32, hash64[:len(hash64)-1]+"AA"),
		"very long":           with(hash32, strings.Repeat(hash32, 1000)),
		"a NUL in the number": with("m=19456", "m=194\x0056"),
	} {
		_, err := users.ReformatPHC(s)
		if !errors.Is(err, users.ErrHashFormat) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "$") {
			t.Errorf("%s: the error quotes the hash: %v", name, err)
		}
	}
}

// form is the PHC string as its description has it: decimal numbers without
// leading zeros, standard base64 without padding.
var form = regexp.MustCompile(`^\$argon2id\$v=19\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]?),p=([1-9][0-9]?)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$`)

// affordable reads a string by that description, and holds it against the caps.
func affordable(s string) bool {
	m := form.FindStringSubmatch(s)
	if m == nil {
		return false
	}
	var n [3]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[1+i])
	}
	salt, errSalt := base64.RawStdEncoding.Strict().DecodeString(m[4])
	hash, errHash := base64.RawStdEncoding.Strict().DecodeString(m[5])
	return errSalt == nil && errHash == nil &&
		n[0] >= 8*n[2] && n[0] <= 256<<10 && n[1] <= 10 && n[2] <= 16 &&
		len(salt) >= 8 && len(salt) <= 64 && len(hash) >= 16 && len(hash) <= 64
}

// A string either is refused or is the only spelling of its value: two
// spellings would let one account carry a hash that a comparison of texts
// takes for another. And it is refused exactly if its work would be too much,
// or its form is another.
func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$" + salt16 + "$" + hash32)
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=+8,t=1,p=1$AAAAAAAAAAB$AAAAAAAAAAAAAAAAAAAAAA\n")
	f.Add("$argon2id$v=19$m=262144,t=10,p=16$" + hash64 + "$" + hash64)
	f.Add("$argon2id$v=19$m=4294967304,t=1,p=257$" + salt16 + "$" + hash32)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := users.ReformatPHC(s)
		if err == nil && got != s {
			t.Errorf("%q was read as %q", s, got)
		}
		if want := affordable(s); (err == nil) != want {
			t.Errorf("%q: %v; within the caps: %v", s, err, want)
		}
	})
}
