package tokens

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The vectors of Project Wycheproof are generic signatures: their headers have
// no typ, their payloads are no claims, and Verify refuses each of them for that
// alone. So these tests are inside the package and leave out exactly that much:
// split takes the text apart, the member typ is added to the decoded header, and
// from there on it is Verify's own way until the claims would be read.
//
// No difference goes unnoticed: a vector with another outcome than it says is in
// a list below, with the reason, and what is in a list must differ.

// exception says why some vectors have another outcome than they say.
type exception struct {
	reason  string
	vectors []int
}

// differences compares the outcomes with what the vectors say.
type differences struct {
	found   []int
	reached map[string]int // outcomes by their reason, see below
}

// outcome is what becomes of a vector: nil if it is accepted.
func (d *differences) outcome(t *testing.T, id int, comment, result string, err error) {
	t.Helper()
	if d.reached == nil {
		d.reached = map[string]int{}
	}
	reason := "the key"
	switch {
	case err == nil:
		reason = "accepted"
	case errors.Is(err, ErrMalformed):
		reason = "the form"
	case errors.Is(err, ErrUnknownKey):
		reason = "unknown key"
	case errors.Is(err, ErrSignature):
		reason = "the signature"
	}
	d.reached[reason]++
	// "Acceptable" is a form that only some accept. It is not ours.
	if (err == nil) != (result == "valid") {
		t.Logf("%d (%s) is %s, and: %v", id, comment, result, err)
		d.found = append(d.found, id)
	}
}

// are fails unless the differences are the listed ones. Reached is how many
// vectors ended where, so that they cannot all be refused for being misread.
func (d *differences) are(t *testing.T, list []exception, reached map[string]int) {
	t.Helper()
	var listed []int
	for _, e := range list {
		listed = append(listed, e.vectors...)
	}
	for _, id := range d.found {
		if !slices.Contains(listed, id) {
			t.Errorf("%d differs, and is not in the list", id)
		}
	}
	for _, id := range listed {
		if !slices.Contains(d.found, id) {
			t.Errorf("%d is in the list, and does not differ", id)
		}
	}
	for reason, n := range reached {
		if d.reached[reason] != n {
			t.Errorf("%s: %d vectors, want %d", reason, d.reached[reason], n)
		}
	}
	if len(reached) != len(d.reached) {
		t.Errorf("the outcomes were %v", d.reached)
	}
}

// signedLike is signedBy for a token whose header lacks typ.
func signedLike(token string, keys *KeySet) error {
	t, err := split(token)
	if err != nil {
		return err
	}
	if members, isObject := strings.CutPrefix(string(t.header), "{"); isObject {
		t.header = []byte(`{"typ":"` + tokenType + `",` + members)
	}
	_, err = t.signedBy(keys)
	return err
}

func TestRow01WycheproofJWS(t *testing.T) {
	var d differences
	d.runJOSE(t, "json_web_signature_test.json", 401)
	d.are(t, []exception{
		{"there is no HMAC here", []int{1, 348, 352, 357, 358, 359, 376, 377}},
		{
			"there is no HMAC here; besides, they have a character that no base64 has, and are named after it: they are labelled wrongly",
			[]int{372, 373},
		},
		{"there is no RS384 and no RS512 here", []int{264, 265, 266, 267, 268, 269, 270, 271}},
		{"there is no PSS here", []int{272, 273, 274, 275, 287, 288, 320, 321, 322, 323, 325, 326, 327, 328, 346, 350}},
		{"there is no P-521 here", []int{347, 351}},
	}, map[string]int{
		"accepted": 10, "the key": 36 + 93, "the form": 25, "unknown key": 2, "the signature": 235,
	})
}

func TestRow01WycheproofJWK(t *testing.T) {
	var d differences
	d.runJOSE(t, "json_web_key_test.json", 26)
	d.are(t, []exception{
		{"there is no HMAC here", []int{2, 13, 14, 15}},
		{
			"the key is one of those that a faulty chip made (ROCA); the keys of this issuer are made by crypto/rsa, and a key set " +
				"is fetched from the issuer only",
			[]int{7},
		},
	}, map[string]int{"accepted": 2, "the key": 4 + 19, "the form": 1})
}

// The algorithms alone have many more vectors. Their messages are no tokens, but
// the key and the signature go the same way.

func TestRow01WycheproofES256(t *testing.T) {
	var d differences
	d.runRaw(t, "ecdsa_secp256r1_sha256_p1363_test.json", 262)
	d.are(t, nil, map[string]int{"accepted": 173, "the form": 21, "the signature": 68})
}

func TestRow01WycheproofEd25519(t *testing.T) {
	var d differences
	d.runRaw(t, "ed25519_test.json", 151)
	d.are(t, nil, map[string]int{"accepted": 88, "the form": 12, "the signature": 51})
}

func TestRow01WycheproofRS256(t *testing.T) {
	for name, c := range map[string]struct {
		tests   int
		list    []exception
		reached map[string]int
	}{
		"rsa_signature_2048_sha256_test.json": {
			259,
			[]exception{{"the exponent is 3", []int{258, 259}}},
			map[string]int{"accepted": 7, "the key": 2, "the form": 2, "the signature": 248},
		},
		"rsa_signature_3072_sha256_test.json": {
			259,
			[]exception{{"the exponent is 3", []int{259}}},
			map[string]int{"accepted": 7, "the key": 1, "the form": 2, "the signature": 249},
		},
		"rsa_signature_4096_sha256_test.json": {
			258, nil,
			map[string]int{"accepted": 7, "the form": 2, "the signature": 249},
		},
	} {
		var d differences
		d.runRaw(t, name, c.tests)
		d.are(t, c.list, c.reached)
	}
}

// runJOSE runs a file whose vectors are tokens and whose keys are JWKs.
func (d *differences) runJOSE(t *testing.T, name string, tests int) {
	t.Helper()
	for _, group := range wycheproof(t, name, tests).TestGroups {
		key := group.Public
		if len(key) == 0 {
			key = group.Private // of HMAC, where there is no other
		}
		// A set, which can be in a text, or one key.
		var text string
		if json.Unmarshal(key, &text) == nil {
			key = json.RawMessage(text)
		}
		if !strings.Contains(string(key), `"keys"`) {
			key = json.RawMessage(`{"keys":[` + string(key) + `]}`)
		}
		keys, keyErr := ParseKeySet(key)
		for _, v := range group.Tests {
			err := keyErr
			if err == nil {
				err = signedLike(v.JWS, keys)
			}
			d.outcome(t, v.TcID, v.Comment, v.Result, err)
		}
	}
}

// runRaw runs a file whose vectors are messages and signatures.
func (d *differences) runRaw(t *testing.T, name string, tests int) {
	t.Helper()
	for _, group := range wycheproof(t, name, tests).TestGroups {
		parsed, err := x509.ParsePKIXPublicKey(unhex(t, group.PublicKeyDER))
		if err != nil {
			t.Fatal(err)
		}
		key, keyErr := newPublicKey(parsed)
		var keys *KeySet
		if keyErr == nil {
			// As a verifier gets it.
			document, err := (&KeySet{map[string]PublicKey{key.ID(): key}}).MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			keys, keyErr = ParseKeySet(document)
		}
		for _, v := range group.Tests {
			err := keyErr
			if err == nil {
				header := `{"alg":"` + key.Algorithm() + `","typ":"at+jwt","kid":"` + key.ID() + `"}`
				s := segments{signed: string(unhex(t, v.Msg)), header: []byte(header), signature: unhex(t, v.Sig)}
				_, err = s.signedBy(keys)
			}
			d.outcome(t, v.TcID, v.Comment, v.Result, err)
		}
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	decoded, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

// wycheproofFile is the part of a file of vectors that is used here.
type wycheproofFile struct {
	NumberOfTests int
	TestGroups    []struct {
		Public, Private json.RawMessage
		PublicKeyDER    string
		Tests           []struct {
			TcID            int
			Comment, Result string
			JWS             string
			Msg, Sig        string
		}
	}
}

// wycheproofFolder is where the vectors are. They come as a Go module, which only
// the module tests/jose needs.
var wycheproofFolder = sync.OnceValues(func() (string, error) {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/c2sp/wycheproof")
	list.Dir = filepath.Join("..", "tests", "jose")
	// Nobody expects a test to download something. What GOFLAGS says may be for
	// the main module only.
	list.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOWORK=off")
	out, err := list.Output()
	dir := strings.TrimSpace(string(out))
	if err == nil && dir == "" {
		err = errors.New("not in the module cache")
	}
	return filepath.Join(dir, "testvectors_v1"), err
})

func wycheproof(t *testing.T, name string, tests int) *wycheproofFile {
	t.Helper()
	dir, err := wycheproofFolder()
	if err != nil {
		const how = "NOT TESTED AGAINST WYCHEPROOF: the vectors are not here; (cd tests/jose && go mod download) gets them"
		if os.Getenv("CI") != "" {
			t.Fatalf("%s: %v", how, err)
		}
		t.Skip(how)
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	f := new(wycheproofFile)
	if err := json.Unmarshal(text, f); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, group := range f.TestGroups {
		n += len(group.Tests)
	}
	if n != tests || n != f.NumberOfTests {
		t.Fatalf("%s has %d tests, want %d: look at what is new", name, n, tests)
	}
	return f
}
