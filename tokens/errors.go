package tokens

import (
	"errors"
	"fmt"
)

// ErrInvalid is what every refusal of a token is, by errors.Is. The errors
// below say why. No error's text holds any part of the token.
var ErrInvalid = errors.New("tokens: token refused")

var (
	// ErrMalformed: not a token of the form that is issued here. No key has
	// been looked up.
	ErrMalformed = fmt.Errorf("%w: malformed", ErrInvalid)

	// ErrUnknownKey: the form and the header are right, but the key set has no
	// key of that id. The signature has not been looked at, so anyone can cause
	// this error; a cache of key sets may fetch again, but must limit how often.
	ErrUnknownKey = fmt.Errorf("%w: unknown key", ErrInvalid)

	// ErrSignature: the key did not make this signature.
	ErrSignature = fmt.Errorf("%w: signature", ErrInvalid)

	// ErrClaims: the token is authentic, but a claim is missing, of the wrong
	// type, or not acceptable here and now. [SigningKey.Sign] returns it for
	// claims that a verifier would refuse.
	ErrClaims = fmt.Errorf("%w: claims", ErrInvalid)

	// ErrExpired: the token is authentic and right in everything else, but its
	// time is over.
	ErrExpired = fmt.Errorf("%w: expired", ErrInvalid)
)

// Reasons are constants of this package, and names of claims at most: an error
// ends up in logs, and what a token says must not.

func malformed(reason string) error { return fmt.Errorf("%w: %s", ErrMalformed, reason) }

func badClaim(reason string) error { return fmt.Errorf("%w: %s", ErrClaims, reason) }
