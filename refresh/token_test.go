package refresh_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

// offline is a store for what never asks Redis: there is none.
func offline(t testing.TB, secrets ...[]byte) *refresh.Store {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { client.Close() })
	st, err := refresh.New(client, refresh.Options{
		Prefix: "x", Secrets: secrets, Policy: func(string) (refresh.Policy, bool) { return refresh.Policy{}, false },
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

var someSeed = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}

func TestRow14AlteredTokenIsRefusedWithoutRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		h := newHouse(t, s)
		d := h.login(t, "alice", mobile)
		token := d.tokens[0]
		before := h.state(t, d)
		asked := redistest.CommandCount(h.client)
		tried := 0
		refused := func(what, text string) {
			t.Helper()
			tried++
			_, err := h.Rotate(t.Context(), refresh.Presented{Token: text, Transport: refresh.Body})
			if !errors.Is(err, refresh.ErrToken) {
				t.Errorf("%s: %v", what, err)
			}
		}
		binary, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, refresh.Prefix))
		must(t, err)
		for bit := range len(binary) * 8 {
			flipped := bytes.Clone(binary)
			flipped[bit/8] ^= 1 << (bit % 8)
			refused(fmt.Sprint("bit ", bit), refresh.Prefix+base64.RawURLEncoding.EncodeToString(flipped))
		}
		for n := range len(token) {
			refused(fmt.Sprint("first bytes ", n), token[:n])
			refused(fmt.Sprint("last bytes ", n), token[len(token)-n:])
			refused(fmt.Sprint("without byte ", n), token[:n]+token[n+1:])
			for _, c := range []string{"A", "=", " ", "\n", "\r", "\x00", "\xff", "é"} {
				refused(fmt.Sprintf("%q put in at %d", c, n), token[:n]+c+token[n:])
			}
			for c := range 256 {
				if byte(c) != token[n] {
					refused(fmt.Sprintf("byte %d is %d", n, c), token[:n]+string([]byte{byte(c)})+token[n+1:])
				}
			}
		}
		for _, tail := range []string{"A", "AAAA", "=", "==", "\n", " ", ".", token, strings.Repeat("A", 1<<20)} {
			refused(fmt.Sprintf("%.8q at the end", tail), token+tail)
			refused(fmt.Sprintf("%.8q at the front", tail), tail+token)
		}
		refused("other prefix", "other__rt_"+token[len(refresh.Prefix)-1:])
		refused("upper case prefix", strings.ToUpper(refresh.Prefix)+token[len(refresh.Prefix):])
		refused("another deployment's token", offline(t, oldSecret).Encode(refresh.TokenOf(0, someSeed, 0)))

		if n := asked.Total(); n != 0 {
			t.Errorf("%d altered tokens caused %d Redis commands: %v", tried, n, asked.Names())
		}
		unchanged(t, before, h.state(t, d))
		d.refresh(t, 0, "") // unaltered, it works
	})
}

func TestTokenHasOneText(t *testing.T) {
	st := offline(t, newSecret)
	shape := regexp.MustCompile(`^authapi_rt_[A-Za-z0-9_-]{56}$`)
	seen := map[string]bool{}
	for range 2000 {
		var seed [16]byte
		for i := range seed {
			seed[i] = byte(rand.Uint32())
		}
		p, generation := partition.ID(rand.N(partition.Count)), rand.Uint32()
		text := st.Encode(refresh.TokenOf(p, seed, generation))
		if !shape.MatchString(text) || seen[text] {
			t.Fatalf("text %q", text)
		}
		seen[text] = true
		token, err := st.Parse(text)
		if err != nil || token != refresh.TokenOf(p, seed, generation) || st.Encode(token) != text {
			t.Fatalf("parsed %q as %+v, %v", text, token, err)
		}
		if owner, ok := partition.OfSID(token.SID()); !ok || owner != p {
			t.Fatalf("sid %q does not name partition %v", token.SID(), p)
		}
	}
}

// FuzzDecode looks for a second spelling of a token, or a token that is not what
// was encoded. Random text would never get past the MAC, so the input is a
// token, under either secret, with a piece of its text replaced and a bit flipped.
func FuzzDecode(f *testing.F) {
	st, old := offline(f, newSecret, oldSecret), offline(f, oldSecret)
	f.Add(uint8(0), []byte("0123456789abcdef"), uint32(0), false, uint8(0), uint8(0), uint8(0), "")
	f.Add(uint8(15), bytes.Repeat([]byte{0xff}, 16), uint32(math.MaxUint32), true, uint8(66), uint8(1), uint8(1), "=")
	f.Add(uint8(7), make([]byte, 16), uint32(1), false, uint8(11), uint8(1), uint8(0x20), "\n")
	f.Add(uint8(7), make([]byte, 16), uint32(1), true, uint8(63), uint8(4), uint8(0), "\r\n==")
	f.Add(uint8(7), make([]byte, 16), uint32(1), true, uint8(0), uint8(67), uint8(0), "authapi_rt_AeitN9MHAAECAwQFBgcICQoLDA0O_wAAACqCzSvo0XkBiuiY-3J_TuEC")
	f.Fuzz(func(t *testing.T, p uint8, seed []byte, generation uint32, under bool, at, cut, flip uint8, put string) {
		var s [16]byte
		copy(s[:], seed)
		want := refresh.TokenOf(partition.ID(p%partition.Count), s, generation)
		text := st.Encode(want)
		if under {
			text = old.Encode(want)
		}
		if got, err := st.Parse(text); err != nil || got != want {
			t.Fatalf("%q is %+v, %v; want %+v", text, got, err, want)
		}
		if got, err := old.Parse(text); (err == nil) != under || err != nil && got != (refresh.Token{}) {
			t.Fatalf("%q, by the old secret alone, is %+v, %v", text, got, err)
		}
		i := int(at) % len(text)
		changed := []byte(text[:i] + put + text[min(len(text), i+int(cut)):])
		if i < len(changed) {
			changed[i] ^= flip
		}
		got, err := st.Parse(string(changed))
		switch {
		case err == nil:
			// Possible if what was put in is a token itself: then it must be this one.
			if now := st.Encode(got); now != string(changed) && old.Encode(got) != string(changed) {
				t.Fatalf("%q, made from %q, is another spelling of %q", changed, text, now)
			}
		case !errors.Is(err, refresh.ErrToken) || got != (refresh.Token{}) || string(changed) == text:
			t.Fatalf("%q, made from %q, is %+v, %v", changed, text, got, err)
		}
	})
}

// Clients keep tokens for weeks, across upgrades of the service. If this test
// fails everybody is logged out. The text was computed from the description of
// the format, by another program.
func TestRow31TokenFormatIsStable(t *testing.T) {
	const text = "authapi_rt_AeitN9MHAAECAwQFBgcICQoLDA0O_wAAACqCzSvo0XkBiuiY-3J_TuEC"
	st := offline(t, newSecret)
	want := refresh.TokenOf(7, someSeed, 42)
	if got, err := st.Parse(text); err != nil || got != want {
		t.Errorf("an old token is %+v, %v; now it would be %q", got, err, st.Encode(want))
	}
	if sid := want.SID(); sid != "iy.6-87sI8aT1qFBEDh2dhfgw" {
		t.Errorf("its session is now called %q", sid)
	}
}

func TestRow29SecretIsRotatedThenRetired(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		// The three steps of a rotation; at each, instances of the step before
		// may still run.
		before := h.over(t, h.client, oldSecret)
		announced := h.over(t, h.client, oldSecret, newSecret)
		first := h.over(t, h.client, newSecret, oldSecret)
		retired := h.over(t, h.client, newSecret)

		h.Store = before
		d := h.login(t, "alice", mobile)
		old := d.tokens[0]
		d.st = first
		g := d.refresh(t, 0, "k")
		if _, err := retired.Parse(g.Token); err != nil {
			t.Errorf("the successor is not under the new secret: %v", err)
		}
		if _, err := before.Parse(g.Token); !errors.Is(err, refresh.ErrToken) {
			t.Errorf("the successor is still under the old secret: %v", err)
		}
		d.st = announced
		if next := d.refresh(t, 1, ""); next.Session.Generation != 2 {
			t.Errorf("generation %d", next.Session.Generation)
		}

		// Which secret a token was made under says nothing about its session.
		asked := redistest.CommandCount(h.client)
		if _, err := retired.Rotate(t.Context(), refresh.Presented{Token: old, Transport: refresh.Body}); !errors.Is(err, refresh.ErrToken) {
			t.Errorf("a token of a retired secret: %v", err)
		}
		if asked.Total() != 0 {
			t.Error("a token of a retired secret caused Redis commands")
		}
		if _, err := first.Rotate(t.Context(), refresh.Presented{Token: old, Transport: refresh.Body, RetryKey: "thief"}); !errors.Is(err, refresh.ErrReused) {
			t.Errorf("replay of a token of the old secret: %v", err)
		}
	})
}

func TestSecretsAreChecked(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	policy := func(string) (refresh.Policy, bool) { return refresh.Policy{}, false }
	for name, o := range map[string]refresh.Options{
		"none":      {Policy: policy},
		"short":     {Secrets: [][]byte{make([]byte, 31)}, Policy: policy},
		"short old": {Secrets: [][]byte{newSecret, make([]byte, 31)}, Policy: policy},
		"twice":     {Secrets: [][]byte{newSecret, newSecret}, Policy: policy},
		"no policy": {Secrets: [][]byte{newSecret}},
	} {
		if st, err := refresh.New(client, o); err == nil || st != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// recorder remembers all that is sent to Redis.
type recorder struct {
	mu   sync.Mutex
	sent strings.Builder
}

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.mu.Lock()
		fmt.Fprintln(&r.sent, cmd.Args()...)
		r.mu.Unlock()
		return next(ctx, cmd)
	}
}

func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Whoever reads Redis, its slow log or its traffic learns nothing to make a
// token from, even with the key of the MAC.
func TestRow30SeedsAndTokensNeverReachRedis(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		sent := &recorder{}
		h.client.AddHook(sent)
		d := h.login(t, "alice", mobile)
		d.advanceTo(t, 3)
		d.refresh(t, 2, "key 2")
		must(t, h.SetRoles(t.Context(), "alice", []string{"admin"}))
		_, err := h.List(t.Context(), "alice")
		must(t, err)
		all := sent.sent.String()
		for _, key := range h.names(t) {
			all += key
		}
		all += fmt.Sprint(h.state(t, d))
		_, err = d.ask(t.Context(), 0, "thief") // ends the session
		if !errors.Is(err, refresh.ErrReused) {
			t.Fatal(err)
		}
		all += sent.sent.String() + fmt.Sprint(h.state(t, d))

		token, err := h.Parse(d.tokens[0])
		must(t, err)
		seed := token.Seed()
		secrets := map[string]string{
			"seed":        string(seed[:]),
			"seed in hex": hex.EncodeToString(seed[:]),
			"seed base64": base64.RawStdEncoding.EncodeToString(seed[:])[:20],
			"seed b64url": base64.RawURLEncoding.EncodeToString(seed[:])[:20],
			"retry key":   "key 2",
		}
		for i, text := range d.tokens {
			secrets[fmt.Sprint("token ", i)] = text
			secrets[fmt.Sprint("middle of token ", i)] = text[20:40]
		}
		for what, s := range secrets {
			if strings.Contains(all, s) {
				t.Errorf("Redis was told the %s", what)
			}
		}
	})
}

func TestGrantGoesStale(t *testing.T) {
	h := newHouse(t, redistest.Miniredis(t))
	g := h.login(t, "alice", mobile).first
	if !g.Fresh() || !g.Aged(29*time.Second).Fresh() {
		t.Error("a new grant may not be signed")
	}
	// The process was frozen for long between asking Redis and signing.
	if g.Aged(30 * time.Second).Fresh() {
		t.Error("an old grant may be signed")
	}
}

func TestLastGenerationEndsTheSession(t *testing.T) {
	h := newHouse(t, redistest.Miniredis(t))
	token, err := h.Parse(h.login(t, "alice", mobile).tokens[0])
	must(t, err)
	last := h.Encode(refresh.TokenOf(partition.Of("alice"), token.Seed(), math.MaxUint32))
	if _, err := h.Rotate(t.Context(), refresh.Presented{Token: last, Transport: refresh.Body}); !errors.Is(err, refresh.ErrExpired) {
		t.Errorf("its number has no successor: %v", err)
	}
	last = h.Encode(refresh.TokenOf(partition.Of("alice"), token.Seed(), math.MaxUint32-1))
	g, err := h.Rotate(t.Context(), refresh.Presented{Token: last, Transport: refresh.Body})
	if err != nil || g.Session.Generation != math.MaxUint32 || g.Ahead != math.MaxUint32-1 {
		t.Errorf("the last but one: %+v, %v", g, err)
	}
}
