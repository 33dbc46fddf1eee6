package keyring_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tokens"
)

func TestMain(m *testing.M) { redistest.Main(m) }

var (
	oldSecret = bytes.Repeat([]byte("old."), 8)
	newSecret = bytes.Repeat([]byte("new!"), 8)
)

func open(t *testing.T, s *redistest.Server, secrets ...[]byte) (*keyring.Ring, error) {
	t.Helper()
	return keyring.Open(t.Context(), s.Client, keyring.Options{Prefix: s.Prefix, Secrets: secrets})
}

func mustOpen(t *testing.T, s *redistest.Server, secrets ...[]byte) *keyring.Ring {
	t.Helper()
	r, err := open(t, s, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func name(s *redistest.Server) string { return partition.Keys{Prefix: s.Prefix}.Keyring() }

func value(t *testing.T, s *redistest.Server) string {
	t.Helper()
	v, err := s.Client.Get(t.Context(), name(s)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// claims are valid ones, at the present time of this process.
func claims() tokens.Claims {
	now := time.Now()
	return tokens.Claims{
		Issuer: "https://issuer.example", Subject: "alice", Audience: []string{"https://issuer.example"},
		IssuedAt: now, ExpiresAt: now.Add(time.Minute), AuthTime: now,
		ID: "AAAAAAAAAAAAAAAAAAAAAA", ClientID: "mobile", SessionID: "q6.AAAAAAAAAAAAAAAAAAAA-_",
	}
}

// accepts fails the test unless what one ring signs, the other accepts.
func accepts(t *testing.T, signs, verifies *keyring.Ring) {
	t.Helper()
	v, err := tokens.NewVerifier(tokens.Config{Issuer: "https://issuer.example", Audience: "https://issuer.example"})
	if err != nil {
		t.Fatal(err)
	}
	token, err := signs.Signer().Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(token, verifies.KeySet()); err != nil {
		t.Errorf("not accepted: %v", err)
	}
}

func TestInstancesThatStartTogetherAgree(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		rings := make([]*keyring.Ring, 30)
		var all sync.WaitGroup
		start := make(chan struct{})
		for i := range rings {
			all.Go(func() {
				<-start
				var err error
				if rings[i], err = keyring.Open(t.Context(), s.Client, keyring.Options{Prefix: s.Prefix, Secrets: [][]byte{newSecret}}); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		all.Wait()
		if t.Failed() {
			return
		}
		for _, r := range rings {
			if r.Signer().ID() != rings[0].Signer().ID() {
				t.Fatalf("keys %s and %s", r.Signer().ID(), rings[0].Signer().ID())
			}
		}
		accepts(t, rings[0], rings[29])
		accepts(t, rings[29], rings[0])
	})
}

func TestRestartFindsTheSameKey(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		first := mustOpen(t, s, newSecret)
		before := value(t, s)
		s.Advance(1000 * time.Hour)
		second := mustOpen(t, s, newSecret)
		if first.Signer().ID() != second.Signer().ID() || value(t, s) != before {
			t.Error("a restart changed the ring")
		}
		accepts(t, first, second)
		if ttl := s.Client.PTTL(t.Context(), name(s)).Val(); ttl != -1 {
			t.Errorf("the ring lives for %v only", ttl)
		}
	})
}

func TestPrefixesHaveTheirOwnRings(t *testing.T) {
	s := redistest.Miniredis(t)
	one := mustOpen(t, s, newSecret)
	other, err := keyring.Open(t.Context(), s.Client, keyring.Options{Prefix: s.Prefix + "2", Secrets: [][]byte{newSecret}})
	if err != nil || other.Signer().ID() == one.Signer().ID() {
		t.Errorf("%v", err)
	}
}

func TestAnotherSecretDoesNotOpenTheRingAndLeavesIt(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		first := mustOpen(t, s, oldSecret)
		before := value(t, s)
		for range 3 {
			if r, err := open(t, s, newSecret); !errors.Is(err, keyring.ErrSealed) || r != nil {
				t.Errorf("opened: %v", err)
			}
		}
		if value(t, s) != before {
			t.Error("the ring was changed")
		}
		// The steps of rotating the secret: appended, put first.
		for _, secrets := range [][][]byte{{oldSecret, newSecret}, {newSecret, oldSecret}, {newSecret, bytes.Repeat([]byte("x"), 40), oldSecret}} {
			r := mustOpen(t, s, secrets...)
			if r.Signer().ID() != first.Signer().ID() {
				t.Error("another key")
			}
			accepts(t, first, r)
		}
	})
}

// Who can write to Redis can destroy the ring, and no more.
func TestTamperedRingIsRefusedAndLeft(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		first := mustOpen(t, s, newSecret)
		good := value(t, s)
		try := func(what, bad string) {
			t.Helper()
			if err := s.Client.Set(t.Context(), name(s), bad, 0).Err(); err != nil {
				t.Fatal(err)
			}
			r, err := open(t, s, newSecret, oldSecret)
			if err == nil {
				// Hex has two spellings; what it says is then the same.
				if !strings.EqualFold(bad, good) || r.Signer().ID() != first.Signer().ID() {
					t.Errorf("%s: opened", what)
				}
			} else if !errors.Is(err, keyring.ErrSealed) || r != nil {
				t.Errorf("%s: %v", what, err)
			}
			if value(t, s) != bad {
				t.Errorf("%s: the ring was overwritten", what)
			}
		}
		for i := range good {
			for _, flip := range []byte{0x01, 0x02, 0x10, 0x20, 0x80} {
				try("flipped", good[:i]+string([]byte{good[i] ^ flip})+good[i+1:])
			}
		}
		for _, n := range []int{0, 1, 3, 11, 12, 13, 36, 37, len(good) - 2, len(good) - 1} {
			try("shortened", good[:n])
		}
		for _, tail := range []string{"0", "00", "\n", strings.Repeat("0", 64), good} {
			try("lengthened", good+tail)
		}
		try("another type of value", "{}")

		// A ring of another deployment, under the name of this one's secret.
		theirs := redistest.Miniredis(t)
		mustOpen(t, theirs, oldSecret)
		try("foreign box", good[:12]+value(t, theirs)[12:])

		if err := s.Client.Set(t.Context(), name(s), good, 0).Err(); err != nil {
			t.Fatal(err)
		}
		accepts(t, first, mustOpen(t, s, newSecret))
	})
}

func TestRow30StoredRingShowsNoKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		r := mustOpen(t, s, newSecret)
		stored := value(t, s)
		raw, err := hex.DecodeString(stored[strings.LastIndexByte(stored, '.')+1:])
		if err != nil {
			t.Fatal(err)
		}
		all := stored + string(raw)
		pkcs8, err := r.Signer().PKCS8()
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
		if err != nil {
			t.Fatal(err)
		}
		scalar, err := parsed.(*ecdsa.PrivateKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		for what, secret := range map[string][]byte{"PKCS #8": pkcs8, "header of PKCS #8": pkcs8[:20], "scalar": scalar, "secret": newSecret} {
			for form, text := range map[string]string{
				"raw": string(secret), "hex": hex.EncodeToString(secret), "base64": strings.TrimRight(base64.StdEncoding.EncodeToString(secret), "="),
			} {
				if strings.Contains(all, text) {
					t.Errorf("the ring shows the %s (%s)", what, form)
				}
			}
		}
		if strings.Contains(all, "pkcs8") || strings.Contains(all, "current") {
			t.Error("the ring is not sealed")
		}
	})
}

func TestSealsAreNeverTheSame(t *testing.T) {
	s := redistest.Miniredis(t)
	seen := map[string]bool{}
	for range 20 {
		mustOpen(t, s, newSecret)
		nonce := value(t, s)[12:36]
		if seen[nonce] {
			t.Fatal("a nonce was used twice")
		}
		seen[nonce] = true
		if err := s.Client.Del(t.Context(), name(s)).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeySetShowsThePublicKeyOnly(t *testing.T) {
	r := mustOpen(t, redistest.Miniredis(t), newSecret)
	jwks, err := json.Marshal(r.KeySet())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(jwks), r.Signer().ID()) || strings.Contains(string(jwks), `"d"`) {
		t.Errorf("key set %s", jwks)
	}
}

func TestReadCreatesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		o := keyring.Options{Prefix: s.Prefix, Secrets: [][]byte{newSecret}}
		if r, err := keyring.Read(t.Context(), s.Client, o); !errors.Is(err, keyring.ErrNone) || r != nil {
			t.Errorf("read %v, %v", r, err)
		}
		if n := s.Client.Exists(t.Context(), name(s)).Val(); n != 0 {
			t.Error("reading made a ring")
		}
		first := mustOpen(t, s, newSecret)
		second, err := keyring.Read(t.Context(), s.Client, o)
		if err != nil {
			t.Fatal(err)
		}
		accepts(t, first, second)
	})
}

// follow keeps a ring up to date until the test ends, and returns what is
// reported.
func follow(t *testing.T, r *keyring.Ring) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reports, ended := make(chan error, 10), make(chan struct{})
	go func() {
		defer close(ended)
		r.Follow(ctx, 2*time.Millisecond, func(err error) {
			select {
			case reports <- err:
			default: // the test has seen enough
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return reports
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestLostRingIsPutBack(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		a, b := mustOpen(t, s, newSecret), mustOpen(t, s, newSecret)
		good := value(t, s)
		reports := follow(t, a)
		follow(t, b)
		if err := s.Client.Del(t.Context(), name(s)).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the ring is there again", func() bool { return s.Client.Exists(t.Context(), name(s)).Val() == 1 })
		if value(t, s) != good {
			t.Error("another ring was put there")
		}
		accepts(t, a, mustOpen(t, s, newSecret))
		accepts(t, a, b)
		if len(reports) > 0 {
			if err := <-reports; !errors.Is(err, keyring.ErrNone) {
				t.Errorf("reported %v", err)
			}
		}
	})
}

func TestChangedRingIsTakenOver(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		r := mustOpen(t, s, newSecret)
		reports := follow(t, r)
		other, err := keyring.Open(t.Context(), s.Client, keyring.Options{Prefix: s.Prefix + "2", Secrets: [][]byte{newSecret}})
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := s.Client.Get(t.Context(), partition.Keys{Prefix: s.Prefix + "2"}.Keyring()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Client.Set(t.Context(), name(s), theirs, 0).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the new key signs", func() bool { return r.Signer().ID() == other.Signer().ID() })
		accepts(t, r, other)
		if len(reports) != 0 {
			t.Errorf("reported %v", <-reports)
		}
	})
}

func TestDamagedRingOrDeadRedisLeavesTheHeldRingInUse(t *testing.T) {
	for name, c := range map[string]struct {
		harm   func(*testing.T, *redistest.Server)
		sealed bool
	}{
		"damaged": {func(t *testing.T, s *redistest.Server) {
			if err := s.Client.Set(t.Context(), name(s), "garbage", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}, true},
		"dead": {func(_ *testing.T, s *redistest.Server) { s.Kill() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				r := mustOpen(t, s, newSecret)
				before := r.Signer().ID()
				c.harm(t, s)
				select {
				case err := <-follow(t, r):
					if errors.Is(err, keyring.ErrSealed) != c.sealed {
						t.Errorf("reported %v", err)
					}
				case <-time.After(10 * time.Second):
					t.Error("nothing was reported")
				}
				if r.Signer().ID() != before {
					t.Error("another key")
				}
				accepts(t, r, r)
			})
		})
	}
}

func TestSecretsAreChecked(t *testing.T) {
	s := redistest.Miniredis(t)
	for name, secrets := range map[string][][]byte{
		"none": nil, "short": {make([]byte, 31)}, "empty": {{}},
	} {
		if r, err := open(t, s, secrets...); err == nil || r != nil {
			t.Errorf("%s: opened", name)
		}
	}
	if n := s.Client.Exists(t.Context(), name(s)).Val(); n != 0 {
		t.Error("a ring was made without a secret")
	}
}

func TestDeadHangingOrFullRedisIsAnError(t *testing.T) {
	failing := func(t *testing.T, s *redistest.Server) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		r, err := keyring.Open(ctx, s.Client, keyring.Options{Prefix: s.Prefix, Secrets: [][]byte{newSecret}})
		if err == nil || r != nil || errors.Is(err, keyring.ErrSealed) || errors.Is(err, redis.Nil) {
			t.Errorf("got %v, %v", r, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
	}
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.Pause()
		failing(t, s)
		s.Resume()
		mustOpen(t, s, newSecret)
		s.Kill()
		failing(t, s)
	})
	t.Run("full", func(t *testing.T) {
		s := redistest.Redis(t)
		s.SetFull(true)
		failing(t, s)
		s.SetFull(false)
		r := mustOpen(t, s, newSecret)
		s.SetFull(true) // an instance that starts later only reads
		accepts(t, r, mustOpen(t, s, newSecret))
	})
}
