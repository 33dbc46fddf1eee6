package secret_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/authapi/authapi/internal/secret"
)

func counting() []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// All that is stored or issued depends on these values: if one changes, every
// token and the key ring become worthless. They were computed from RFC 5869 by
// another program.
func TestKeysAreStable(t *testing.T) {
	for purpose, want := range map[string]string{
		"refresh-mac/v1":  "32614aa626fdf90883a095ebad85faaf18f2739fc8cdb9e1dd823230ae47386c",
		"keyring-seal/v1": "09862f43b34160f727886e1afdeebf21594c99d0c102a64d72b39240aff02bc2",
	} {
		if key, err := secret.Derive(counting(), purpose); err != nil || hex.EncodeToString(key) != want {
			t.Errorf("key for %s: %x, %v", purpose, key, err)
		}
	}
	if id, err := secret.IDOf(counting()); err != nil || hex.EncodeToString(id[:]) != "1b2bc6e7" {
		t.Errorf("id: %x, %v", id, err)
	}
}

func TestEveryPurposeAndEverySecretHasItsOwnKey(t *testing.T) {
	seen := map[string]string{}
	secrets := map[string][]byte{
		"counting": counting(), "longer": append(counting(), 0), "zero": make([]byte, 32), "long": bytes.Repeat([]byte{7}, 100),
	}
	for name, s := range secrets {
		for _, purpose := range []string{"refresh-mac/v1", "keyring-seal/v1", "secret-id/v1", "refresh-mac/v2", ""} {
			key, err := secret.Derive(s, purpose)
			if err != nil || len(key) != 32 {
				t.Fatalf("%s, %s: %x, %v", name, purpose, key, err)
			}
			if other, taken := seen[string(key)]; taken {
				t.Errorf("%s, %s has the key of %s", name, purpose, other)
			}
			seen[string(key)] = name + ", " + purpose
		}
	}
}

func TestShortSecretsAreRefused(t *testing.T) {
	for _, n := range []int{0, 1, secret.MinSize - 1} {
		if key, err := secret.Derive(make([]byte, n), "refresh-mac/v1"); err == nil || key != nil {
			t.Errorf("%d bytes: key %x, %v", n, key, err)
		}
		if id, err := secret.IDOf(make([]byte, n)); err == nil || id != (secret.ID{}) {
			t.Errorf("%d bytes: id %x, %v", n, id, err)
		}
	}
	if _, err := secret.Derive(nil, "refresh-mac/v1"); err == nil {
		t.Error("no secret: accepted")
	}
}
