package tokens

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
)

// SigningKey issues access tokens. No way of printing or logging it shows the
// private part; only [SigningKey.PKCS8] gives it away.
type SigningKey struct {
	private crypto.Signer
	public  PublicKey
	prefix  string // the encoded header and its dot, the same in all tokens of a key
}

// GenerateKey makes a new key for one of [Algorithms]: on P-256 for "ES256", on
// Ed25519 for "EdDSA", with a modulus of 2048 bits for "RS256". It fails for any
// other name.
func GenerateKey(alg string) (*SigningKey, error) {
	a := algorithmNamed(alg)
	if a == nil {
		return nil, fmt.Errorf("tokens: no algorithm %q", alg)
	}
	private, err := a.generate()
	if err != nil {
		return nil, fmt.Errorf("tokens: generating a key: %w", err)
	}
	return newSigningKey(private)
}

// ParseSigningKey reads a private key in PKCS #8 form (DER). Its kind decides
// the algorithm: P-256 is for ES256, Ed25519 for EdDSA, and RSA for RS256. Other
// keys are refused, as are RSA keys that [ParseKeySet] would not take.
func ParseSigningKey(pkcs8 []byte) (*SigningKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		// The cause is left out: it may describe the bytes of a private key.
		return nil, errors.New("tokens: not a private key in PKCS #8 form")
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("tokens: not a key that signs")
	}
	return newSigningKey(private)
}

func newSigningKey(private crypto.Signer) (*SigningKey, error) {
	public, err := newPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	// A thumbprint and an algorithm's name need no escaping.
	header := `{"alg":"` + public.Algorithm() + `","typ":"` + tokenType + `","kid":"` + public.ID() + `"}`
	return &SigningKey{
		private: private,
		public:  public,
		prefix:  base64url.EncodeToString([]byte(header)) + ".",
	}, nil
}

// PKCS8 returns the private key in the form that [ParseSigningKey] reads.
func (k *SigningKey) PKCS8() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, errors.New("tokens: the private key has no PKCS #8 form")
	}
	return der, nil
}

// ID returns the key's id, its thumbprint: SHA-256 of the public key as in
// RFC 7638, in base64url.
func (k *SigningKey) ID() string { return k.public.ID() }

// Algorithm returns the alg of the key's tokens, one of [Algorithms].
func (k *SigningKey) Algorithm() string { return k.public.Algorithm() }

// Public returns the key that verifies what k signs.
func (k *SigningKey) Public() PublicKey { return k.public }

// Sign returns an access token with exactly these claims. Nil roles and amr
// become empty arrays. Claims that a verifier would refuse whatever the time
// and the audience are refused with [ErrClaims]: anything required missing,
// dates out of order, a lifetime above [MaxLifetime], invalid UTF-8, or a token
// above [MaxSize].
func (k *SigningKey) Sign(c Claims) (string, error) {
	if err := c.complete(); err != nil {
		return "", err
	}
	if !c.validUTF8() {
		return "", badClaim("invalid UTF-8")
	}
	var room [1 << 10]byte
	payload := c.appendJSON(room[:0])
	size := len(k.prefix) + base64url.EncodedLen(len(payload)) + 1 +
		base64url.EncodedLen(k.public.signatureSize())
	if size > MaxSize {
		return "", badClaim("too large")
	}
	token := append(make([]byte, 0, size), k.prefix...)
	token = base64url.AppendEncode(token, payload)
	signature, err := k.public.alg.method.Sign(string(token), k.private)
	if err != nil {
		return "", fmt.Errorf("tokens: signing: %w", err)
	}
	token = base64url.AppendEncode(append(token, '.'), signature)
	return string(token), nil
}

// The methods below have value receivers so that a copy of the struct, too,
// prints without its fields.

// Format writes the key's algorithm and id, whatever the verb.
func (k SigningKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// String returns the key's algorithm and id.
func (k SigningKey) String() string {
	return "tokens.SigningKey(" + k.public.Algorithm() + " " + k.public.ID() + ")"
}

// GoString returns the same as String.
func (k SigningKey) GoString() string { return k.String() }

// LogValue returns the same as String.
func (k SigningKey) LogValue() slog.Value { return slog.StringValue(k.String()) }
