// Package tokens makes and verifies access tokens: JWTs as RFC 9068 profiles
// them.
//
// To issue, get a [SigningKey] from [GenerateKey] or [ParseSigningKey] and call
// [SigningKey.Sign] with [Claims]. To verify, make a [Verifier] once, with
// [NewVerifier], get a [KeySet] from [NewKeySet] or, out of a JWKS document,
// from [ParseKeySet], and call [Verifier.Verify].
//
// A token is header.payload.signature. The header has exactly three members:
// alg, typ ("at+jwt") and kid. The verifier accepts what this issuer writes
// and no more, although the JWT standards would allow more: every liberty that
// two parsers may take differently is a way in. It goes over the token once, in
// the order size, characters, dots, base64, header, key, signature, claims, and
// stops at the first thing wrong. JSON is read by our own strict reader; only
// the signature algorithms are golang-jwt's.
//
// The algorithms are ES256 (RFC 7518), EdDSA with Ed25519 (RFC 8037), and RS256
// (RFC 7518). An algorithm belongs to a kind of key for good. The header can
// only agree with its key, never choose.
//
// One claims set can have several valid texts (whoever sees an ECDSA signature
// can compute its mirror image), so the text of a token is not its name. Deny
// and count tokens by [Claims.ID] or [Claims.SessionID].
//
// The package knows nothing of revocation and never fetches keys. It has no
// clock of its own but time.Now, which [Config] can replace. It checks neither
// scope nor roles: those are for the service that the token is for. A claim it
// does not know is ignored, a sender constraint (cnf) too.
//
// All types are immutable and safe for concurrent use, Claims excepted, which
// is plain data.
package tokens

import "time"

const (
	// MaxSize is the size in bytes above which a token is neither issued nor
	// looked at.
	MaxSize = 8 << 10

	// Leeway is how far the clocks of issuer and verifier may be apart, in
	// either direction.
	Leeway = 15 * time.Second

	// MaxLifetime is the longest time from iat to exp. Revocation entries live
	// for as long as a token can, so a token must not be able to live longer.
	MaxLifetime = time.Hour

	// MaxKeyID is the longest key id (kid) in bytes.
	MaxKeyID = 64
)
