package secret_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/authapi/authapi/internal/secret"
)

const prefix = "authapi_xx_"

func opaque(t testing.TB, prefix, purpose string, secrets ...[]byte) *secret.Opaque {
	t.Helper()
	o, err := secret.NewOpaque(prefix, purpose, secrets)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

var (
	some  = [secret.PayloadSize]byte{0, 1, 2, 3, 254, 255}
	other = bytes.Repeat([]byte{7}, 32)
)

// A token is good for what it was made for: one kind, one secret, one binding.
func TestOpaqueTokenIsGoodForOneThing(t *testing.T) {
	o := opaque(t, prefix, "a/v1", counting())
	text := o.Seal(some, "alice")
	if !strings.HasPrefix(text, prefix) || len(text) != len(prefix)+56 {
		t.Errorf("the token is %q", text)
	}
	if payload, ok := o.Open(text, "alice"); !ok || payload != some {
		t.Errorf("opened: %v, %t", payload, ok)
	}
	for what, open := range map[string]func() ([secret.PayloadSize]byte, bool){
		"another binding": func() ([secret.PayloadSize]byte, bool) { return o.Open(text, "bob") },
		"no binding":      func() ([secret.PayloadSize]byte, bool) { return o.Open(text, "") },
		"another purpose": func() ([secret.PayloadSize]byte, bool) {
			return opaque(t, prefix, "b/v1", counting()).Open(text, "alice")
		},
		"another prefix": func() ([secret.PayloadSize]byte, bool) {
			return opaque(t, "authapi_yy_", "a/v1", counting()).Open(text, "alice")
		},
		"another secret": func() ([secret.PayloadSize]byte, bool) { return opaque(t, prefix, "a/v1", other).Open(text, "alice") },
		"a line break": func() ([secret.PayloadSize]byte, bool) {
			return o.Open(text[:20]+"\n"+text[21:], "alice")
		},
	} {
		if payload, ok := open(); ok || payload != [secret.PayloadSize]byte{} {
			t.Errorf("%s: opened as %v", what, payload)
		}
	}
}

// The first secret signs, and all are believed.
func TestRow29OpaqueTokensOfAllSecretsAreOpened(t *testing.T) {
	old, both := opaque(t, prefix, "a/v1", counting()), opaque(t, prefix, "a/v1", other, counting())
	if _, ok := both.Open(old.Seal(some, ""), ""); !ok {
		t.Error("a token of the second secret is refused")
	}
	if _, ok := old.Open(both.Seal(some, ""), ""); ok {
		t.Error("the second secret signs")
	}
}

// Whatever a later version means by its bytes, this one must not guess.
func TestRow31OtherVersionsAreRefused(t *testing.T) {
	o := opaque(t, prefix, "a/v1", counting())
	for version := range 256 {
		if _, ok := o.Open(o.SealVersion(some, "", byte(version)), ""); ok != (version == 1) {
			t.Errorf("version %d: %t", version, ok)
		}
	}
}

func TestSecretsThatMakeNoTokens(t *testing.T) {
	for what, secrets := range map[string][][]byte{
		"none": nil, "one twice": {counting(), other, counting()}, "a short one": {counting(), make([]byte, secret.MinSize-1)},
	} {
		if o, err := secret.NewOpaque(prefix, "a/v1", secrets); err == nil || o != nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
