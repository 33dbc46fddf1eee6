package tokens_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/authapi/authapi/tokens"
)

// Signatures of the right size by the right key, or by nobody, in forms that
// the algorithm does not have.

func TestRow02DegenerateES256(t *testing.T) {
	f := newForger(t, "ES256")
	private := f.private.(*ecdsa.PrivateKey)
	signed := b64(f.header()) + "." + b64(payload(t, nil))
	zero, one, order := strings.Repeat("\x00", 32), strings.Repeat("\x00", 31)+"\x01", string(private.Params().N.Bytes())
	for _, r := range []string{zero, one, order} {
		for _, s := range []string{zero, one, order} {
			f.refused(t, "degenerate", signed+"."+b64(r+s), tokens.ErrSignature)
		}
	}
}

func TestRow02DegenerateEdDSA(t *testing.T) {
	f := newForger(t, "EdDSA")
	private := f.private.(ed25519.PrivateKey)
	signed, signature := cut(t, f.forge(t, f.header(), payload(t, nil)))

	// The order of the base point, little-endian like the signature.
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	little := order.FillBytes(make([]byte, 32))
	slices.Reverse(little)
	zero, one, high := make([]byte, 32), append([]byte{1}, make([]byte, 31)...), append(make([]byte, 31), 0x80)
	for i, r := range [][]byte{zero, one, high, signature[:32], private[32:]} {
		for j, s := range [][]byte{zero, one, little} {
			f.refused(t, fmt.Sprint("degenerate ", i, j), signed+"."+b64(string(r)+string(s)), tokens.ErrSignature)
		}
	}

	// s and s plus the order are the same to a verifier that does not look.
	s := slices.Clone(signature[32:])
	slices.Reverse(s)
	s = new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(make([]byte, 32))
	slices.Reverse(s)
	f.refused(t, "s not reduced", signed+"."+b64(string(signature[:32])+string(s)), tokens.ErrSignature)

	digest := sha512.Sum512([]byte(signed))
	for name, c := range map[string]struct {
		message []byte
		options ed25519.Options
	}{
		"Ed25519ph":                {digest[:], ed25519.Options{Hash: crypto.SHA512}},
		"Ed25519ctx":               {[]byte(signed), ed25519.Options{Context: "JWT"}},
		"hash instead of the text": {digest[:], ed25519.Options{}},
	} {
		other, err := private.Sign(nil, c.message, &c.options)
		check(t, err)
		f.refused(t, name, signed+"."+b64(string(other)), tokens.ErrSignature)
	}
}

func TestRow02DegenerateRS256(t *testing.T) {
	f := newForger(t, "RS256")
	private := f.private.(*rsa.PrivateKey)
	signed, signature := cut(t, f.forge(t, f.header(), payload(t, nil)))
	full := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 256)) }
	try := func(name string, other []byte) {
		t.Helper()
		f.refused(t, name, signed+"."+b64(string(other)), tokens.ErrSignature)
	}
	try("0", make([]byte, 256))
	try("1", full(big.NewInt(1)))
	try("n-1", full(new(big.Int).Sub(private.N, big.NewInt(1))))
	try("n", full(private.N))
	try("all ones", []byte(strings.Repeat("\xff", 256)))
	// A key of 2048 bits signs in 256 bytes, though RS256 has longer signatures.
	try("leading zero", append([]byte{0}, signature...))
	try("trailing zero", append(slices.Clone(signature), 0))
	try("512 bytes", append(make([]byte, 256), signature...))
	for i := range 64 { // until s+n fits
		text, s := cut(t, f.forge(t, f.header(), payload(t, map[string]string{"jti": fmt.Sprintf(`"j%d"`, i)})))
		if n := new(big.Int).Add(new(big.Int).SetBytes(s), private.N); n.BitLen() <= 2048 {
			f.refused(t, "s+n", text+"."+b64(string(full(n))), tokens.ErrSignature)
			break
		} else if i == 63 {
			t.Error("no s+n of 256 bytes")
		}
	}

	sum1, sum256, sum512 := sha1.Sum([]byte(signed)), sha256.Sum256([]byte(signed)), sha512.Sum512([]byte(signed))
	for hash, digest := range map[crypto.Hash][]byte{crypto.SHA1: sum1[:], crypto.SHA512: sum512[:], 0: sum256[:]} {
		other, err := rsa.SignPKCS1v15(nil, private, hash, digest)
		check(t, err)
		try(fmt.Sprint("PKCS #1 with ", hash), other)
	}
	other, err := rsa.SignPSS(rand.Reader, private, crypto.SHA256, sum256[:], nil)
	check(t, err)
	try("PSS", other)

	// Padding that is too short, with garbage behind the digest: what gets past
	// careless checks, and can be forged then if e is 3.
	good := full(new(big.Int).Exp(new(big.Int).SetBytes(signature), big.NewInt(int64(private.E)), private.N))
	bare := full(new(big.Int).Exp(new(big.Int).SetBytes(good), private.D, private.N))
	if string(bare) != string(signature) {
		t.Fatal("the test cannot sign")
	}
	info := good[256-51:] // DigestInfo and digest
	for name, block := range map[string][]byte{
		"short padding": slices.Concat([]byte{0, 1}, []byte(strings.Repeat("\xff", 8)), []byte{0}, info, make([]byte, 256-62)),
		"type 2":        slices.Concat([]byte{0, 2}, good[2:]),
		"type 0":        slices.Concat([]byte{0, 0}, good[2:]),
		"other padding": slices.Concat(good[:100], []byte{0xfe}, good[101:]),
		"digest alone":  slices.Concat(make([]byte, 224), sum256[:]),
	} {
		n := new(big.Int).SetBytes(block)
		try(name, full(n.Exp(n, private.D, private.N)))
	}
}

// TestSignatureSizeComesFromTheKey: RS256 has no size of its own.
func TestSignatureSizeComesFromTheKey(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2056)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	check(t, err)
	key, err := tokens.ParseSigningKey(pkcs8)
	check(t, err)
	keys, err := tokens.NewKeySet(key.Public())
	check(t, err)
	f := forger{"RS256", private, key, keys, verifierAt(t, now)}
	token, err := key.Sign(claims())
	check(t, err)
	f.accepted(t, "2056 bits", token)
	f.accepted(t, "2056 bits, forged", f.forge(t, f.header(), payload(t, nil)))
	signed, signature := cut(t, token)
	if len(signature) != 257 {
		t.Errorf("%d bytes", len(signature))
	}
	f.refused(t, "256 bytes", signed+"."+b64(string(signature[:256])), tokens.ErrSignature)
	f.refused(t, "258 bytes", signed+"."+b64(string(signature)+"\x00"), tokens.ErrSignature)
	fillsTheLimit(t, &f)
}

// What Sign takes for the size of a token, before there is one, is its size.
func TestLargestToken(t *testing.T) { eachAlgorithm(t, fillsTheLimit) }

func fillsTheLimit(t *testing.T, f *forger) {
	c := claims()
	largest := ""
	sort.Search(tokens.MaxSize, func(n int) bool {
		c.Scope = strings.Repeat("x", n)
		token, err := f.key.Sign(c)
		if err == nil && len(token) > len(largest) {
			largest = token
		}
		return err != nil
	})
	// One more byte of claims is one or two more characters.
	if len(largest) < tokens.MaxSize-1 {
		t.Errorf("the largest token has %d bytes", len(largest))
	}
	f.accepted(t, "largest", largest)
}
