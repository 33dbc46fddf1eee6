package tokens_test

import (
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/authapi/authapi/tokens"
)

func TestRow07OneTextForm(t *testing.T) { eachAlgorithm(t, testRow07OneTextForm) }

func testRow07OneTextForm(t *testing.T, f *forger) {
	// Both header and payload must leave bits over in their last character.
	header, claims := f.header(), payload(t, nil)
	for len(header)%3 == 0 {
		header += " "
	}
	for len(claims)%3 == 0 {
		claims += " "
	}
	valid := f.forge(t, header, claims)
	f.accepted(t, "base", valid)
	part := strings.Split(valid, ".")

	// The verifier must not see these as the same token, even when the odd text
	// itself is what was signed.
	for name, odd := range map[string]func(string) string{
		"LF":          func(s string) string { return s[:4] + "\n" + s[4:] },
		"CR":          func(s string) string { return s[:4] + "\r" + s[4:] },
		"CRLF at end": func(s string) string { return s + "\r\n" },
		"space":       func(s string) string { return " " + s },
		"padding":     func(s string) string { return s + "=" },
		"padding 2":   func(s string) string { return s + "==" },
		"tail bits":   func(s string) string { return s[:len(s)-1] + string(next(s[len(s)-1])) },
		"percent":     func(s string) string { return s[:4] + "%41" + s[4:] },
		"plus":        func(s string) string { return s[:4] + "+" + s[4:] },
		"slash":       func(s string) string { return s[:4] + "/" + s[4:] },
		"NUL":         func(s string) string { return s + "\x00" },
		"UTF-8":       func(s string) string { return s + "é" },
		"5th letter":  func(s string) string { return s[:len(s)-len(s)%4] + "A" },
	} {
		f.refused(t, name+" in header", f.forgeText(t, odd(part[0])+"."+part[1]), tokens.ErrMalformed)
		f.refused(t, name+" in payload", f.forgeText(t, part[0]+"."+odd(part[1])), tokens.ErrMalformed)
		f.refused(t, name+" in signature", part[0]+"."+part[1]+"."+odd(part[2]), tokens.ErrMalformed)
		f.refused(t, name+" in header, old signature", odd(part[0])+"."+part[1]+"."+part[2], tokens.ErrMalformed)
	}

	flattened, err := json.Marshal(map[string]string{"protected": part[0], "payload": part[1], "signature": part[2]})
	check(t, err)
	for name, token := range map[string]string{
		"nothing":       "",
		"one dot":       part[0] + "." + part[1],
		"dots":          "..",
		"no header":     "." + part[1] + "." + part[2],
		"JSON form":     string(flattened),
		"JSON in front": `{"x":"` + valid + `"}`,
		"JWE":           valid + ".AAAA.AAAA",
		"4 parts":       valid + ".",
		"leading dot":   "." + valid,
		"1M dots":       strings.Repeat(".", 1<<20),
		"8 KiB of dots": strings.Repeat(".", tokens.MaxSize),
		"scheme":        "Bearer " + valid,
		"newline":       valid + "\n",
	} {
		f.refused(t, name, token, tokens.ErrMalformed)
	}
	f.refused(t, "no payload", part[0]+".."+part[2], tokens.ErrSignature)
}

// next returns a character whose six bits differ in the last one only, which
// stands for nothing at the end of a segment.
func next(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

func TestRow07Size(t *testing.T) { eachAlgorithm(t, testRow07Size) }

func testRow07Size(t *testing.T, f *forger) {
	padded := func(pad int) string {
		return f.forge(t, f.header(), with(payload(t, nil), `"x":"`+strings.Repeat("x", pad)+`"`))
	}
	base := len(padded(0))
	sized := func(n int) string {
		for pad := (n-base)*3/4 - 2; ; pad++ {
			if token := padded(pad); len(token) >= n {
				return token
			}
		}
	}
	largest := sized(tokens.MaxSize)
	if len(largest) != tokens.MaxSize {
		t.Fatalf("the test's token has %d bytes", len(largest))
	}
	f.accepted(t, "8 KiB", largest)
	f.refused(t, "more than 8 KiB", sized(tokens.MaxSize+1), tokens.ErrMalformed)
}

// TestNoSingleChangeVerifies changes a valid token at every position, to every
// byte that differs in one bit and to other characters of the alphabet, for ES256
// to all of them.
func TestNoSingleChangeVerifies(t *testing.T) { eachAlgorithm(t, testNoSingleChangeVerifies) }

func testNoSingleChangeVerifies(t *testing.T, f *forger) {
	c := claims()
	c.ID, c.SessionID, c.Scope, c.Roles = "j", "s", "", nil // each position costs milliseconds
	token, err := f.key.Sign(c)
	check(t, err)
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
	if f.alg != "ES256" {
		alphabet = "AQgw_." // some of each part, to save seconds
	}
	try := func(what, changed string, i int) {
		if _, err := f.verifier.Verify(changed, f.keys); !errors.Is(err, tokens.ErrInvalid) {
			t.Errorf("position %d %s: %v", i, what, err)
		}
	}
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		group.Go(func() {
			for i := worker; i < len(token); i += workers {
				before, after := token[:i], token[i+1:]
				for bit := range 8 {
					try("bit flip", before+string([]byte{token[i] ^ 1<<bit})+after, i)
				}
				for _, c := range []byte(alphabet) {
					if c != token[i] {
						try("replaced", before+string(c)+after, i)
					}
				}
				try("removed", before+after, i)
				try("doubled", before+token[i:i+1]+token[i:], i)
				try("cut", before, i)
			}
		})
	}
	group.Wait()
}
