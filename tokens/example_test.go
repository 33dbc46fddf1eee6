package tokens_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/authapi/authapi/tokens"
)

func Example() {
	key, err := tokens.GenerateKey("ES256")
	if err != nil {
		panic(err)
	}
	token, err := key.Sign(tokens.Claims{
		Issuer:    "https://auth.example",
		Subject:   "alice",
		Audience:  []string{"https://api.example"},
		IssuedAt:  time.Now(),
		ExpiresAt: time.Now().Add(5 * time.Minute),
		ID:        "a fresh random id",
		ClientID:  "mobile",
		SessionID: "the session's id",
	})
	if err != nil {
		panic(err)
	}

	// The verifying side, usually another program, has the public keys only.
	keys, err := tokens.NewKeySet(key.Public())
	if err != nil {
		panic(err)
	}
	verifier, err := tokens.NewVerifier(tokens.Config{
		Issuer:   "https://auth.example",
		Audience: "https://api.example",
	})
	if err != nil {
		panic(err)
	}
	claims, err := verifier.Verify(token, keys)
	fmt.Println(claims.Subject, err)

	_, err = verifier.Verify(token+"=", keys)
	fmt.Println(errors.Is(err, tokens.ErrMalformed), err)
	// Output:
	// alice <nil>
	// true tokens: token refused: malformed: a character that no token has
}
