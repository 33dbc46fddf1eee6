// Package secret derives the keys of the service from the deployment's secret, and
// makes the opaque tokens that are signed with them.
//
// Call [NewOpaque] for tokens of one kind; [Derive] for a key and [IDOf] for the
// short public name by which stored and issued things say which secret they were
// made under.
//
// Every purpose gets a key of its own (HKDF-SHA-256, RFC 5869), so that a
// signature oracle for one purpose says nothing about another, and the secret
// itself is used for nothing.
//
// What a token means, how long it is good, and whether it has been used is for the
// packages to know that make them.
package secret

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// MinSize is the least length of a secret, in bytes.
const MinSize = 32

// ID names a secret without revealing it.
type ID [4]byte

// Derive returns the 32-byte key for one purpose.
func Derive(secret []byte, purpose string) ([]byte, error) {
	if len(secret) < MinSize {
		return nil, fmt.Errorf("secret of %d bytes: at least %d are needed", len(secret), MinSize)
	}
	return hkdf.Key(sha256.New, secret, nil, "authapi/"+purpose, 32)
}

// IDOf returns the name of a secret.
func IDOf(secret []byte) (ID, error) {
	key, err := Derive(secret, "secret-id/v1")
	if err != nil {
		return ID{}, err
	}
	return ID(key[:4]), nil
}
