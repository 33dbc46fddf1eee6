package verify_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// lasting makes a token that outlives a benchmark, and the replica is told
// often enough to be up to date for as long.
func lasting(c *tokens.Claims) {
	c.IssuedAt, c.ExpiresAt = time.Now(), time.Now().Add(tokens.MaxLifetime)
}

func keepAlive(tb testing.TB, s *source) {
	s.alive(0)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				s.alive(0)
			}
		}
	})
	tb.Cleanup(func() { cancel(); wg.Wait() })
}

// The check of a token that was verified before is on the path of every
// request: no garbage for anyone to collect.
func TestCachedCheckAllocatesNothing(t *testing.T) {
	v, s, k := replicated(t)
	s.alive(0)
	token := k.sign(t, fresh())
	s.denied("sid", sidIn(2), time.Now().Add(time.Hour))
	s.denied("kid", "another", time.Now().Add(time.Hour))
	allocs := testing.AllocsPerRun(200, func() {
		s.current(10, 0)
		if _, err := v.Verify(context.Background(), token); err != nil {
			t.Fatal(err)
		}
	})
	report := testing.AllocsPerRun(200, func() { s.current(10, 0) })
	if allocs > report {
		t.Errorf("%v allocations with a report, %v for the report alone", allocs, report)
	}
}

// BenchmarkCheck is one call of Verify: from the cache, and with the signature.
func BenchmarkCheck(b *testing.B) {
	for name, size := range map[string]int{"cached": 0, "uncached": -1} {
		b.Run(name, func(b *testing.B) {
			v, s, k := replicated(b, func(c *verify.Config) { c.CacheSize = size })
			keepAlive(b, s)
			token := k.sign(b, lasting)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCheckParallel is the cached check on all processors at once.
func BenchmarkCheckParallel(b *testing.B) {
	v, s, k := replicated(b)
	keepAlive(b, s)
	token := k.sign(b, lasting)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(context.Background(), token); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkUncachedOverRaw reports what a whole check takes in terms of the
// signature alone. The two take turns, because on a shared machine two separate
// runs differ by more than what is measured here.
func BenchmarkUncachedOverRaw(b *testing.B) {
	v, s, k := replicated(b, func(c *verify.Config) { c.CacheSize = -1 })
	keepAlive(b, s)
	token := k.sign(b, lasting)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte(token))
	signature, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	var raw, whole []float64
	for b.Loop() {
		start := time.Now()
		digest := sha256.Sum256([]byte(token))
		if !ecdsa.VerifyASN1(&private.PublicKey, digest[:], signature) {
			b.Fatal("refused")
		}
		middle := time.Now()
		if _, err := v.Verify(context.Background(), token); err != nil {
			b.Fatal(err)
		}
		raw = append(raw, float64(middle.Sub(start)))
		whole = append(whole, float64(time.Since(middle)))
	}
	b.ReportMetric(median(raw), "ns-raw")
	b.ReportMetric(median(whole), "ns-whole")
	b.ReportMetric(median(whole)/median(raw), "whole/raw")
}

// BenchmarkGuardOverBare asks one server for the same small answer from a bare
// handler and from guarded ones, over HTTP, in turns, and reports how many
// requests a second each serves in terms of the bare one.
func BenchmarkGuardOverBare(b *testing.B) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"notes":[]}`+"\n")
	})
	mux := http.NewServeMux()
	mux.Handle("/bare", answer)
	cachedVerifier, s, k := replicated(b)
	keepAlive(b, s)
	mux.Handle("/cached", cachedVerifier.Middleware(answer))
	c := config(k)
	c.CacheSize, c.Now = -1, nil
	mux.Handle("/uncached", newVerifier(b, c).Middleware(answer))
	server := httptest.NewServer(mux)
	defer server.Close()

	token := k.sign(b, lasting)
	const clients, requests = 8, 50
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	ask := func(path string) time.Duration {
		start := time.Now()
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range requests {
					r, _ := http.NewRequest(http.MethodGet, server.URL+path, nil)
					// The bare handler is sent the token too: what it costs to
					// read the header is not the guard's.
					r.Header.Set("Authorization", "Bearer "+token)
					resp, err := transport.RoundTrip(r)
					if err != nil {
						b.Error(err)
						return
					}
					if resp.StatusCode != http.StatusOK {
						b.Errorf("%s: %d", path, resp.StatusCode)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	paths := []string{"/bare", "/cached", "/uncached"}
	took := map[string][]float64{}
	for b.Loop() {
		for _, path := range paths {
			took[path] = append(took[path], float64(ask(path)))
		}
	}
	for _, path := range paths[1:] {
		b.ReportMetric(median(took["/bare"])/median(took[path]), path[1:]+"/bare")
	}
	b.ReportMetric(clients*requests*1e9/median(took["/bare"]), "bare-requests/s")
	b.ReportMetric(0, "ns/op")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}
