package verification_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tests/service"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// me asks an instance, on a service.
type (
	me struct{ *service.Service }
	on struct {
		testing.TB
		*notes
	}
)

func (m me) status(access string) int { return m.Me(access).Status }
func (o on) status(access string) int { return o.ask(o.TB, "/", access) }

func tag(p int) string { return partition.ID(p).Tag() }

func memory() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestRow13KeysRotateUnderLoad: keys change twenty times while people log in,
// refresh, and use services that fetch the keys over HTTP. Nobody is refused.
func TestRow13KeysRotateUnderLoad(t *testing.T) {
	const rotations = 20
	// A key is published for as long as several fetches of the services take.
	d := deploy(t, redistest.Redis(t), keyring.Schedule{Lead: 300 * time.Millisecond})
	services := []*notes{d.service(t, d.overRedis(t)), d.service(t, d.overHTTP(t)), d.service(t, d.overHTTP(t))}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked, refused atomic.Int64
	signers := sync.Map{}
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() {
			login := d.a.Login().OK(t)
			access, refresh := login.Access, login.Refresh
			for ctx.Err() == nil {
				head, _, _ := strings.Cut(access, ".")
				signers.Store(head, true)
				for _, instance := range []interface{ status(string) int }{me{d.a}, me{d.b}, on{t, services[0]}, on{t, services[1]}, on{t, services[2]}} {
					asked.Add(1)
					if status := instance.status(access); status/100 != 2 {
						refused.Add(1)
						t.Errorf("%T: %d", instance, status)
					}
				}
				g := d.b.Refresh(refresh, "").OK(t)
				access, refresh = g.Access, g.Refresh
			}
		})
	}
	used := func() (keys int) {
		signers.Range(func(any, any) bool { keys++; return true })
		return keys
	}
	eventually(t, 10*time.Second, "tokens of the first key", func() bool { return used() > 0 })
	for rotation := range rotations {
		before := d.a.Keys.Signer().ID()
		if _, err := d.a.Keys.Rotate(ctx); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "the next key signs at both", func() bool {
			now := d.a.Keys.Signer().ID()
			return now != before && d.b.Keys.Signer().ID() == now
		})
		// However slow the machine is: each key signs, and is asked about.
		already := asked.Load()
		eventually(t, 10*time.Second, "tokens of the new key", func() bool {
			return used() >= rotation+2 && asked.Load() >= already+10
		})
	}
	cancel()
	load.Wait()
	t.Logf("%d rotations, %d keys were seen to sign, %d requests, %d refused", rotations, used(), asked.Load(), refused.Load())
}

// TestDroppedKeyIsRefusedEverywhere: a key has leaked and is dropped. Its
// tokens, verified and remembered before, are refused within a second; who
// refreshes gets one that is good everywhere.
func TestDroppedKeyIsRefusedEverywhere(t *testing.T) {
	d := deploy(t, redistest.Redis(t), keyring.Schedule{})
	asked := map[string]interface{ status(string) int }{
		"this instance": me{d.a}, "another instance": me{d.b},
		"a service on Redis":        on{t, d.service(t, d.overRedis(t))},
		"a service on /revocations": on{t, d.service(t, d.overHTTP(t))},
	}
	login := d.a.Login().OK(t)
	for who, a := range asked {
		if status := a.status(login.Access); status/100 != 2 {
			t.Fatalf("%s: %d", who, status)
		}
	}
	leaked := d.a.Keys.Signer().ID()
	if err := d.a.Keys.Drop(t.Context(), leaked); err != nil {
		t.Fatal(err)
	}
	if err := d.a.Denylist.AddKey(t.Context(), leaked); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for who, a := range asked {
		wg.Go(func() {
			for a.status(login.Access) != http.StatusUnauthorized {
				if time.Since(began) > promised+slack {
					t.Errorf("%s: the token of a dropped key is still accepted", who)
					return
				}
			}
			t.Logf("%s: refused %v after the drop", who, time.Since(began).Round(time.Millisecond))
		})
	}
	wg.Wait()
	eventually(t, promised, "the other instance signs with another key", func() bool { return d.b.Keys.Signer().ID() != leaked })
	fresh := d.b.Refresh(login.Refresh, "").OK(t)
	for who, a := range asked {
		if status := a.status(fresh.Access); status/100 != 2 {
			t.Errorf("%s: a new token is answered %d", who, status)
		}
	}
}

// TestRow12UnknownKeys: somebody sends tokens with made-up keys as fast as
// they can. The issuer is asked once per cool-down, and nobody waits.
func TestRow12UnknownKeys(t *testing.T) {
	const cooldown, flood = 400 * time.Millisecond, 2 * time.Second
	d := deploy(t, redistest.Redis(t), keyring.Schedule{})
	var fetches atomic.Int64
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetches.Add(1)
		time.Sleep(200 * time.Millisecond) // whoever waited for this would show
		d.a.API.ServeHTTP(w, r)
	})
	proxy := httptest.NewServer(slow)
	defer proxy.Close()
	keys, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{URL: proxy.URL + "/.well-known/jwks.json", Cooldown: cooldown})
	if err != nil {
		t.Fatal(err)
	}
	n := d.service(t, d.overRedis(t), func(c *verify.Config) { c.Keys, c.CacheSize = keys, -1 })
	good := d.a.Login().OK(t).Access

	// Made-up tokens cost the attacker no signature: the key is looked up first.
	stranger, err := tokens.GenerateKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	bad, err := stranger.Sign(tokens.Claims{
		Issuer: service.Issuer, Audience: []string{service.Audience}, Subject: "s", SessionID: "x", ClientID: "c", ID: "j",
		IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	before, began := fetches.Load(), time.Now()
	var sent atomic.Int64
	var attack sync.WaitGroup
	attack.Go(func() {
		for time.Since(began) < flood {
			for range 100 {
				if _, err := n.Verify(t.Context(), bad); err == nil {
					t.Error("accepted")
				}
			}
			sent.Add(100)
			// 10,000 a second leaves the processor to others.
			time.Sleep(time.Until(began.Add(time.Duration(sent.Load()) * time.Second / 10_000)))
		}
	})
	var took []time.Duration
	for time.Since(began) < flood {
		start := time.Now()
		if _, err := n.Verify(t.Context(), good); err != nil {
			t.Errorf("a good token: %v", err)
		}
		took = append(took, time.Since(start))
		time.Sleep(2 * time.Millisecond)
	}
	attack.Wait()
	most := int64(time.Since(began)/cooldown) + 1
	got := fetches.Load() - before
	rate := float64(sent.Load()) / time.Since(began).Seconds()
	t.Logf("%.0f unknown keys a second: %d fetches in %v with a cool-down of %v; a good token took p99 %v", rate, got, flood, cooldown, percentile(took, 99))
	if got > most || got == 0 {
		t.Errorf("%d fetches, want 1 to %d", got, most)
	}
	if p99 := percentile(took, 99); p99 > 150*time.Millisecond {
		t.Errorf("a good token waited: p99 %v", p99)
	}
}
