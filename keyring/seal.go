package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/authapi/authapi/internal/secret"
)

// The sealed form is a version, the id of the secret, and nonce and
// ciphertext in hex, with a dot between each.
const version = "v1"

func seal(plain, under []byte) (string, error) {
	head, aead, err := sealing(under)
	if err != nil {
		return "", err
	}
	// 96 random bits are enough: a ring is sealed some hundred times in its life.
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	return head + hex.EncodeToString(aead.Seal(nonce, nonce, plain, []byte(head))), nil
}

func unseal(value string, secrets [][]byte) ([]byte, error) {
	for _, s := range secrets {
		head, aead, err := sealing(s)
		if err != nil {
			return nil, err
		}
		text, ok := strings.CutPrefix(value, head)
		if !ok {
			continue
		}
		box, err := hex.DecodeString(text)
		if err != nil || len(box) < aead.NonceSize() {
			return nil, ErrSealed
		}
		// The head is authenticated too, so that it cannot be exchanged.
		plain, err := aead.Open(nil, box[:aead.NonceSize()], box[aead.NonceSize():], []byte(head))
		if err != nil {
			return nil, ErrSealed
		}
		return plain, nil
	}
	return nil, ErrSealed
}

// sealing returns the head of what is sealed under a secret, and the cipher.
func sealing(under []byte) (head string, aead cipher.AEAD, err error) {
	id, err := secret.IDOf(under)
	if err != nil {
		return "", nil, fmt.Errorf("keyring: %w", err)
	}
	key, err := secret.Derive(under, "keyring-seal/v1")
	if err != nil {
		return "", nil, fmt.Errorf("keyring: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", nil, err
	}
	aead, err = cipher.NewGCM(block)
	return version + "." + hex.EncodeToString(id[:]) + ".", aead, err
}
