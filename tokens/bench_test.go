package tokens_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
)

// eachBenchmark runs a benchmark once for each algorithm.
func eachBenchmark(b *testing.B, run func(*testing.B, *forger)) {
	for _, alg := range tokens.Algorithms() {
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			run(b, newForger(b, alg))
		})
	}
}

func BenchmarkSign(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, f *forger) {
		c := claims()
		for b.Loop() {
			if _, err := f.key.Sign(c); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// The raw benchmarks are the floor: the same operation on the key with nothing
// around it.

func BenchmarkSignRaw(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, f *forger) {
		for b.Loop() {
			f.sign(b, "message")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, f *forger) {
		token, err := f.key.Sign(claims())
		check(b, err)
		for b.Loop() {
			if _, err := f.verifier.Verify(token, f.keys); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerifyRaw(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, f *forger) {
		signature := f.sign(b, "message")
		for b.Loop() {
			if !verifyRaw(f.private.Public(), "message", signature) {
				b.Fatal("refused")
			}
		}
	})
}

func verifyRaw(public crypto.PublicKey, text string, signature []byte) bool {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		digest := sha256.Sum256([]byte(text))
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(public, digest[:], r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(public, []byte(text), signature)
	case *rsa.PublicKey:
		digest := sha256.Sum256([]byte(text))
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

// BenchmarkRefuseUnknownKey is everything before the signature.
func BenchmarkRefuseUnknownKey(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, f *forger) {
		token, err := f.key.Sign(claims())
		check(b, err)
		for b.Loop() {
			if _, err := f.verifier.Verify(token, nil); err == nil {
				b.Fatal("accepted")
			}
		}
	})
}

func BenchmarkRefuseMegabyteOfDots(b *testing.B) {
	f := newForger(b, "ES256")
	token := strings.Repeat(".", 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.verifier.Verify(token, f.keys); err == nil {
			b.Fatal("accepted")
		}
	}
}

// BenchmarkVerifyOverhead reports what Verify adds to the operation on the key.
// The two take turns, because on a shared machine two separate runs differ by
// more than what is measured here.
func BenchmarkVerifyOverhead(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, f *forger) {
		token, err := f.key.Sign(claims())
		check(b, err)
		signed, signature := cut(b, token)
		var overhead []float64
		for b.Loop() {
			start := time.Now()
			if !verifyRaw(f.private.Public(), signed, signature) {
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
	})
}

func BenchmarkGenerateKey(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, f *forger) {
		for b.Loop() {
			if _, err := tokens.GenerateKey(f.alg); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkParseKeySet reads one key.
func BenchmarkParseKeySet(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, f *forger) {
		document, err := f.keys.MarshalJSON()
		check(b, err)
		for b.Loop() {
			if _, err := tokens.ParseKeySet(document); err != nil {
				b.Fatal(err)
			}
		}
	})
}
