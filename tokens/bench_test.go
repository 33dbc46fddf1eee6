package tokens_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// The raw benchmarks are the floor: the same curve operation on the same
// message with nothing around it.

func BenchmarkSign(b *testing.B) {
	f := newForger(b)
	c := claims()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.key.Sign(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignRawECDSA(b *testing.B) {
	f := newForger(b)
	digest := sha256.Sum256([]byte("message"))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ecdsa.Sign(rand.Reader, f.private, digest[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	f := newForger(b)
	token, err := f.key.Sign(claims())
	check(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.verifier.Verify(token, f.keys); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyRawECDSA(b *testing.B) {
	f := newForger(b)
	digest := sha256.Sum256([]byte("message"))
	r, s, err := ecdsa.Sign(rand.Reader, f.private, digest[:])
	check(b, err)
	rb, sb := r.Bytes(), s.Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.Verify(&f.private.PublicKey, digest[:], new(big.Int).SetBytes(rb), new(big.Int).SetBytes(sb)) {
			b.Fatal("refused")
		}
	}
}

// BenchmarkRefuseUnknownKey is everything before the signature.
func BenchmarkRefuseUnknownKey(b *testing.B) {
	f := newForger(b)
	token, err := f.key.Sign(claims())
	check(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.verifier.Verify(token, nil); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkRefuseMegabyteOfDots(b *testing.B) {
	f := newForger(b)
	token := strings.Repeat(".", 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.verifier.Verify(token, f.keys); err == nil {
			b.Fatal("accepted")
		}
	}
}

// BenchmarkVerifyOverhead reports what Verify adds to the curve operation. The
// two take turns, because on a shared machine two separate runs differ by more
// than what is measured here.
func BenchmarkVerifyOverhead(b *testing.B) {
	f := newForger(b)
	token, err := f.key.Sign(claims())
	check(b, err)
	signed := token[:strings.LastIndexByte(token, '.')]
	signature, err := base64.RawURLEncoding.DecodeString(token[len(signed)+1:])
	check(b, err)
	digest := sha256.Sum256([]byte(signed))
	var overhead []float64
	for b.Loop() {
		start := time.Now()
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if !ecdsa.Verify(&f.private.PublicKey, digest[:], r, s) {
			b.Fatal("refused")
		}
		middle := time.Now()
		if _, err := f.verifier.Verify(token, f.keys); err != nil {
			b.Fatal(err)
		}
		overhead = append(overhead, float64(time.Since(middle)-middle.Sub(start)))
	}
	slices.Sort(overhead)
	b.ReportMetric(overhead[len(overhead)/2], "ns-overhead(median)")
}
