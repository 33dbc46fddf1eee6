package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const (
	secretMin = 32   // bytes: the strength of HMAC-SHA-256 and AES-256
	secretMax = 1024 // bytes: more is a mistake, such as another file
)

func (c *config) readSecrets(v string) (err error) {
	c.secrets, err = parseSecrets(v)
	return err
}

// readVerifierSecrets keeps the texts: they are what verifiers send.
func (c *config) readVerifierSecrets(v string) error {
	if _, err := parseSecrets(v); err != nil {
		return err
	}
	c.verifierSecrets = strings.Split(v, ",")
	return nil
}

// parseSecrets reads base64 values separated by commas. Its errors name a
// value's position and never the value.
func parseSecrets(v string) ([][]byte, error) {
	var errs []error
	var secrets [][]byte
	for i, text := range strings.Split(v, ",") {
		secret, err := parseSecret(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("value %d %w", i+1, err))
			continue
		}
		for j, earlier := range secrets {
			if bytes.Equal(secret, earlier) {
				// The key that was meant to be rotated in is missing.
				errs = append(errs, fmt.Errorf("value %d is the same as value %d", i+1, j+1))
			}
		}
		secrets = append(secrets, secret)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return secrets, nil
}

// parseSecret accepts both alphabets of RFC 4648, with or without padding,
// since the usual tools differ.
func parseSecret(text string) ([]byte, error) {
	const advice = "make one with: openssl rand -base64 32"
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(text)
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(text, "=") {
		encoding = base64.StdEncoding
	}
	secret, err := encoding.Strict().DecodeString(standard)
	switch {
	case text == "":
		return nil, errors.New("is empty: there is a comma too many")
	case err != nil || strings.ContainsAny(text, "\r\n"): // the decoder skips line breaks
		return nil, errors.New("is not base64; " + advice)
	case len(secret) < secretMin:
		return nil, fmt.Errorf("is %d bytes, and at least %d are needed; %s", len(secret), secretMin, advice)
	case len(secret) > secretMax:
		return nil, fmt.Errorf("is %d bytes, and at most %d are taken; %s", len(secret), secretMax, advice)
	case !looksRandom(secret):
		return nil, errors.New("is not random; " + advice)
	}
	return secret, nil
}

// looksRandom catches placeholders: one byte over and over, a counter, a
// phrase. Each rule is wrong about 32 random bytes less than once in 2^45.
func looksRandom(b []byte) bool {
	var seen [256]bool
	distinct, printable, steady := 0, true, true
	for i, x := range b {
		if !seen[x] {
			seen[x] = true
			distinct++
		}
		printable = printable && x >= ' ' && x < 0x7f
		steady = steady && (i == 0 || x-b[i-1] == b[1]-b[0])
	}
	return distinct >= 16 && !printable && !steady
}
