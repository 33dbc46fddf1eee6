package clientsfile

import "errors"

// Bounds of a client's secret, in bytes.
const (
	minSecret = 32
	// MaxSecret is the longest.
	MaxSecret = 256
)

// CheckSecret refuses secrets that somebody could guess: they are kept as plain
// hashes, which can be tried by the billion. The error does not quote the
// secret.
func CheckSecret(secret string) error {
	var seen [256]bool
	distinct := 0
	for i := range len(secret) {
		if c := secret[i]; c <= ' ' || c >= 0x7f {
			return errors.New("a client's secret is printable ASCII without spaces")
		}
		if !seen[secret[i]] {
			seen[secret[i]] = true
			distinct++
		}
	}
	const advice = "; make one with: openssl rand -base64 32"
	switch {
	case len(secret) < minSecret:
		return errors.New("a client's secret has at least 32 characters" + advice)
	case len(secret) > MaxSecret:
		return errors.New("a client's secret has at most 256 characters")
	// 32 hexadecimal digits have fewer than 8 different ones once in 10^9.
	case distinct < 8:
		return errors.New("this secret is not random" + advice)
	}
	return nil
}
