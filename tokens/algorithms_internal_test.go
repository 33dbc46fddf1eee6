package tokens

import (
	"errors"
	"testing"
	"time"
)

// TestKeyDecidesTheAlgorithm is inside the package because it needs two
// algorithms for one kind of key, as RS256 and PS256 would be. With the rows
// there are, the method refuses a key of the wrong kind, and would hide that
// nobody compared the algorithms.
func TestKeyDecidesTheAlgorithm(t *testing.T) {
	key, err := GenerateKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	token, err := key.Sign(Claims{
		Issuer: "i", Subject: "s", Audience: []string{"a"}, IssuedAt: now, ExpiresAt: now.Add(time.Minute),
		ID: "j", ClientID: "c", SessionID: "sid",
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(Config{Issuer: "i", Audience: "a"})
	if err != nil {
		t.Fatal(err)
	}
	public := key.Public()
	other := *public.alg
	other.name = "other"
	public.alg = &other
	keys, err := NewKeySet(public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(token, keys); !errors.Is(err, ErrSignature) || errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v, want %v", err, ErrSignature)
	}
}
