package users_test

import (
	"context"
	"encoding/base64"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/authapi/authapi/users"
)

// Vectors that the reference implementation of Argon2 publishes in its tests.
// RFC 9106's own vectors use a secret and associated data, which the PHC
// string has no place for.
func TestVerifyReferenceVectors(t *testing.T) {
	h := users.NewHasher()
	for _, v := range []struct{ stored, password string }{
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"},
		{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"},
		{"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
	} {
		if ok, err := h.Verify(t.Context(), v.stored, v.password); !ok || err != nil {
			t.Errorf("%s: %v, %v", v.stored, ok, err)
		}
		if ok, err := h.Verify(t.Context(), v.stored, v.password+"x"); ok || err != nil {
			t.Errorf("%s with a wrong password: %v, %v", v.stored, ok, err)
		}
	}
}

func TestHashHasTheRecommendedCost(t *testing.T) {
	h := users.NewHasher()
	a, err := h.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if want := "$argon2id$v=19$m=19456,t=2,p=1$"; !strings.HasPrefix(a, want) || len(a) != len(want)+22+1+43 {
		t.Errorf("hash %s", a)
	}
	if ok, err := h.Verify(t.Context(), a, "correct horse"); !ok || err != nil {
		t.Errorf("right password: %v, %v", ok, err)
	}
	if ok, err := h.Verify(t.Context(), a, "Correct horse"); ok || err != nil {
		t.Errorf("wrong password: %v, %v", ok, err)
	}
	if b, err := h.Hash(t.Context(), "correct horse"); err != nil || a == b {
		t.Errorf("the salt was used again (%v)", err)
	}
}

func TestEveryByteOfAPasswordCounts(t *testing.T) {
	h := users.NewCheapHasher(users.HasherConfig{})
	long := strings.Repeat("p", users.MaxPassword)
	stored, err := h.Hash(t.Context(), long)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, password string
		want           bool
	}{
		{"the same", long, true},
		{"last byte differs", long[1:] + "q", false},
		{"one byte less", long[1:], false},
		{"one byte more", long + "p", false},
		{"a NUL more", long[1:] + "\x00", false},
		{"empty", "", false},
	} {
		if ok, err := h.Verify(t.Context(), stored, c.password); ok != c.want || err != nil {
			t.Errorf("%s: %v, %v", c.name, ok, err)
		}
	}
	if _, err := h.Hash(t.Context(), long+"p"); !errors.Is(err, users.ErrLongPassword) {
		t.Errorf("hash of an over-long password: %v", err)
	}
}

// Even if another program has stored the hash of an over-long password.
func TestOverLongPasswordNeverMatches(t *testing.T) {
	h := users.NewCheapHasher(users.HasherConfig{})
	salt := []byte("somesaltsomesalt")
	for size, want := range map[int]bool{users.MaxPassword: true, users.MaxPassword + 1: false, 1 << 20: false} {
		long := strings.Repeat("p", size)
		hash := argon2.IDKey([]byte(long), salt, 1, 8, 1, 32)
		stored := "$argon2id$v=19$m=8,t=1,p=1$" + salt16 + "$" + base64.RawStdEncoding.EncodeToString(hash)
		if ok, err := h.Verify(t.Context(), stored, long); ok != want || err != nil {
			t.Errorf("%d bytes: %v, %v", size, ok, err)
		}
	}
}

func TestVerifyDoesNotComputeRefusedHashes(t *testing.T) {
	h := users.NewCheapHasher(users.HasherConfig{})
	h.OnHash(func(users.HashCall) { t.Error("hashed") })
	_, err := h.Verify(t.Context(), "$argon2id$v=19$m=262145,t=2,p=1$"+salt16+"$"+hash32, "password")
	if !errors.Is(err, users.ErrHashFormat) {
		t.Errorf("got %v", err)
	}
}

func TestPermitsNeverExceedTheProcessors(t *testing.T) {
	cores := runtime.GOMAXPROCS(0)
	for asked, want := range map[int]int{0: cores, -1: cores, 1: 1, cores: cores, cores + 1: cores} {
		if got := users.NewHasherWith(users.HasherConfig{Permits: asked}).Permits(); got != want {
			t.Errorf("%d asked for: %d permits, want %d", asked, got, want)
		}
	}
}

// 100 clients hang up at once, some while their password is being hashed. The
// permits must hold all the same: the work does not stop when a client goes.
func TestDisconnectingClientsDoNotWidenTheBound(t *testing.T) {
	const permits, clients = 3, 100
	h := users.NewCheapHasher(users.HasherConfig{Queue: clients, Wait: time.Minute})
	h.SetPermits(permits)

	var now, most, hashed atomic.Int64
	started := make(chan struct{}, clients)
	hold := make(chan struct{})
	h.OnHash(func(users.HashCall) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		hashed.Add(1)
		started <- struct{}{}
		<-hold
	})

	ctx, hangUp := context.WithCancel(t.Context())
	var first, second sync.WaitGroup
	var gaveUp atomic.Int64
	for range clients / 2 {
		first.Go(func() {
			if _, err := h.Hash(ctx, "password"); errors.Is(err, context.Canceled) {
				gaveUp.Add(1)
			} else if err != nil {
				t.Errorf("hash: %v", err)
			}
		})
	}
	for range permits {
		<-started
	}
	until(t, "the others wait", func() bool { return h.Waiting() == clients/2-permits })
	hangUp()
	// Every waiting client leaves; those being hashed keep their permits.
	until(t, "those who wait leave", func() bool { return h.Waiting() == 0 })
	for range clients / 2 {
		second.Go(func() {
			if _, err := h.Hash(t.Context(), "password"); err != nil {
				t.Errorf("hash: %v", err)
			}
		})
	}
	until(t, "the next clients wait", func() bool { return h.Waiting() == clients/2 })
	close(hold)
	first.Wait()
	second.Wait()
	if most.Load() != permits {
		t.Errorf("%d hashings at once, want %d", most.Load(), permits)
	}
	if gaveUp.Load() != clients/2-permits || hashed.Load() != permits+clients/2 {
		t.Errorf("%d gave up and %d were hashed", gaveUp.Load(), hashed.Load())
	}
}

func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s in vain until %s", what)
		}
	}
}

func TestBusy(t *testing.T) {
	for _, c := range []struct {
		name          string
		config        users.HasherConfig
		waits, refuse int           // of the callers behind the one that hashes
		after         time.Duration // when those who waited are refused
	}{
		{"defaults", users.HasherConfig{}, 64, 10, time.Second},
		{"no queue", users.HasherConfig{Queue: -1}, 0, 10, 0},
		{"own bounds", users.HasherConfig{Queue: 2, Wait: 5 * time.Second}, 2, 3, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := users.NewCheapHasher(c.config)
				h.SetPermits(1)
				h.OnHash(func(users.HashCall) { time.Sleep(time.Hour) })
				go h.Hash(t.Context(), "password") //nolint:errcheck // it only keeps the permit
				synctest.Wait()

				began := time.Now()
				atOnce, later := make(chan error, 100), make(chan error, 100)
				for range c.waits + c.refuse {
					go func() {
						_, err := h.Verify(t.Context(), "", "password")
						if time.Since(began) == 0 {
							atOnce <- err
						} else if time.Since(began) == c.after {
							later <- err
						} else {
							t.Errorf("answered after %v: %v", time.Since(began), err)
						}
					}()
				}
				synctest.Wait()
				if len(atOnce) != c.refuse || h.Waiting() != c.waits {
					t.Errorf("%d refused at once, %d wait", len(atOnce), h.Waiting())
				}
				time.Sleep(c.after)
				synctest.Wait()
				if len(later) != c.waits {
					t.Errorf("%d refused after %v, want %d", len(later), c.after, c.waits)
				}
				close(atOnce)
				close(later)
				for _, errs := range []chan error{atOnce, later} {
					for err := range errs {
						if !errors.Is(err, users.ErrBusy) {
							t.Errorf("refused with %v", err)
						}
					}
				}

				time.Sleep(time.Hour + 1)
				if ok, err := h.Verify(t.Context(), "", "password"); ok || err != nil {
					t.Errorf("after the rush: %v, %v", ok, err)
				}
			})
		})
	}
}

func TestCancelledContextIsNotHashedFor(t *testing.T) {
	h := users.NewCheapHasher(users.HasherConfig{})
	h.OnHash(func(users.HashCall) { t.Error("hashed") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Hash(ctx, "password"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	h := users.NewHasher()
	stored, err := h.Hash(b.Context(), "correct horse")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := h.Verify(b.Context(), stored, "correct horse"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
