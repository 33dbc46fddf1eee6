package throttle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redisconn"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/throttle"
)

func TestMain(m *testing.M) {
	redisconn.SetLogger(nil) // some of the servers are killed
	redistest.Main(m)
}

var (
	secret  = bytes.Repeat([]byte("0123456789abcdef"), 2)
	another = bytes.Repeat([]byte("fedcba9876543210"), 2)
	here    = netip.MustParseAddr("203.0.113.9")
)

func open(t *testing.T, c redis.UniversalClient, prefix string, change ...func(*throttle.Options)) *throttle.Throttle {
	t.Helper()
	o := throttle.Options{
		Prefix: prefix, Secrets: [][]byte{secret},
		Account: throttle.Rate{N: 10, Per: 15 * time.Minute},
		Address: throttle.Rate{N: 60, Per: time.Minute},
	}
	for _, f := range change {
		f(&o)
	}
	th, err := throttle.New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return th.Patient()
}

// tries sends n tries one by one, and returns how many were let through and the
// last refusal.
func tries(th *throttle.Throttle, n int, try func(i int) throttle.Try) (passed int, last *throttle.Refusal) {
	for i := range n {
		_, err := th.Reserve(context.Background(), try(i))
		if err == nil {
			passed++
		}
		errors.As(err, &last)
	}
	return passed, last
}

func by(account string) func(int) throttle.Try {
	return func(int) throttle.Try { return throttle.Try{Account: account, Address: here} }
}

// anywhere is a try from an address that no other has.
func anywhere(account, deviceKey string) func(int) throttle.Try {
	return func(int) throttle.Try {
		var a [4]byte
		for i := range a {
			a[i] = byte(rand.Uint32())
		}
		return throttle.Try{Account: account, DeviceKey: deviceKey, Address: netip.AddrFrom4(a)}
	}
}

// Row 55: what is counted is counted before the answer, so that nobody gains
// anything by asking at once.
func TestRow55TriesAtOnce(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		one, two := open(t, s.Client, s.Prefix), open(t, s.Client, s.Prefix)
		var passed atomic.Int64
		var all sync.WaitGroup
		for i := range 500 {
			th := one
			if i%2 == 0 {
				th = two
			}
			all.Go(func() {
				if _, err := th.Reserve(context.Background(), anywhere("alice", "")(i)); err == nil {
					passed.Add(1)
				}
			})
		}
		all.Wait()
		if passed.Load() != 10 {
			t.Errorf("%d of 500 tries at once were let through, want 10", passed.Load())
		}
	})
}

// Whatever is asked when, no time has more tries than it may have, and whoever
// waits as long as they are told gets one.
func TestNeverMoreThanTheRate(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		const n, per = 5, 50 * time.Second
		th := open(t, s.Client, s.Prefix, func(o *throttle.Options) {
			o.Account, o.Address = throttle.Rate{N: n, Per: per}, throttle.Rate{}
		})
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		var passed []time.Time
		for range 150 {
			before := s.Now()
			_, err := th.Reserve(context.Background(), throttle.Try{Account: "alice"})
			var refusal *throttle.Refusal
			switch {
			case err == nil:
				passed = append(passed, before)
			case !errors.As(err, &refusal):
				t.Fatal(err)
			case r.IntN(3) == 0:
				s.Advance(refusal.Wait)
				before = s.Now()
				if _, err := th.Reserve(context.Background(), throttle.Try{Account: "alice"}); err != nil {
					t.Errorf("after waiting %s: %v", refusal.Wait, err)
				}
				passed = append(passed, before)
			}
			s.Advance(time.Duration(r.Int64N(int64(per / 4))))
		}
		// A budget that was full may be used up, and refills meanwhile.
		for i := range passed {
			for j := i; j < len(passed); j++ {
				span := passed[j].Sub(passed[i]) + time.Second // a real server's clock runs
				if most := n + int(span/(per/n)); j-i+1 > most {
					t.Fatalf("%d tries in %s, want at most %d", j-i+1, span, most)
				}
			}
		}
		if len(passed) < 50 {
			t.Errorf("only %d tries were let through: this has shown little", len(passed))
		}
	})
}

func TestADayHasTenTimesAsMany(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix)
		passed := 0
		for range 24 * 4 {
			n, _ := tries(th, 12, anywhere("alice", ""))
			passed += n
			s.Advance(15 * time.Minute)
		}
		// A hundred were there from the start, and a hundred came back.
		if passed < 190 || passed > 201 {
			t.Errorf("%d tries in a day that began with a full budget, want about 200", passed)
		}
	})
}

// Row 56: whoever guesses uses up what unknown devices share, and no more.
func TestRow56TheOwnersDeviceHasABudgetOfItsOwn(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix)
		phone, laptop := th.DeviceKey("alice", ""), th.DeviceKey("alice", "")
		if n, _ := tries(th, 100, anywhere("alice", "")); n != 10 {
			t.Fatalf("the attacker had %d tries", n)
		}
		// Others' device keys, and made up ones, are no help.
		for _, key := range []string{th.DeviceKey("bob", ""), phone[:len(phone)-1], phone + "A", strings.ToUpper(phone), "x"} {
			if n, _ := tries(th, 3, anywhere("alice", key)); n != 0 {
				t.Errorf("%d tries with the device key %q", n, key)
			}
		}
		for _, key := range []string{phone, laptop} {
			n, refusal := tries(th, 100, anywhere("alice", key))
			if n != 10 || refusal == nil || refusal.Budget.Name != "device" {
				t.Errorf("a known device had %d tries, then %+v", n, refusal)
			}
		}
		// The key that the next login hands out is of the same device.
		if n, _ := tries(th, 3, anywhere("alice", th.DeviceKey("alice", phone))); n != 0 {
			t.Errorf("%d tries more with a new key of the same device", n)
		}
		if n, _ := tries(th, 3, anywhere("bob", "")); n != 3 {
			t.Error("another account is affected")
		}
	})
}

// A device key says for half a year, and under every secret that is still
// there, which device and which account it is of. Nothing near it does.
func TestDeviceKeys(t *testing.T) {
	s := redistest.Miniredis(t)
	old := open(t, s.Client, s.Prefix, func(o *throttle.Options) { o.Secrets = [][]byte{another} })
	both := open(t, s.Client, s.Prefix, func(o *throttle.Options) { o.Secrets = [][]byte{secret, another} })
	retired := open(t, s.Client, s.Prefix)
	key := old.DeviceKey("alice", "")
	known := func(th *throttle.Throttle, account, key string) bool {
		r, err := th.Reserve(context.Background(), anywhere(account, key)(0))
		if err != nil {
			t.Fatal(err)
		}
		r.Refund(context.Background())
		return r.Budgets[len(r.Budgets)-1].Name == "device"
	}
	if !known(old, "alice", key) || !known(both, "alice", key) || known(retired, "alice", key) {
		t.Error("a device key does not live exactly as long as its secret")
	}
	if known(old, "alic", key) || known(old, "alice\x00", key) || known(old, "", key) {
		t.Error("a device key is good for another account")
	}
	for i := len(throttle.DevicePrefix); i < len(key); i++ {
		for bit := range 7 {
			altered := []byte(key)
			altered[i] ^= 1 << bit
			if known(old, "alice", string(altered)) {
				t.Fatalf("a device key with bit %d of character %d changed is recognised", bit, i)
			}
		}
	}
	for _, text := range []string{key[:len(key)-4], key + "=", key + "\n", key[:20] + "\n" + key[21:], " " + key} {
		if known(old, "alice", text) {
			t.Errorf("%q is recognised", text)
		}
	}
}

func TestAddresses(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		// Each try is at another account: only the address counts.
		from := func(addresses ...string) func(int) throttle.Try {
			return func(i int) throttle.Try {
				return throttle.Try{Account: fmt.Sprint("user", i, rand.Uint64()), Address: netip.MustParseAddr(addresses[i%len(addresses)])}
			}
		}
		for name, c := range map[string]struct {
			try  func(int) throttle.Try
			want int
		}{
			"one address":              {from("203.0.113.9"), 5},
			"the same in another form": {from("198.51.100.1", "::ffff:198.51.100.1"), 5},
			"two addresses":            {from("203.0.113.10", "203.0.113.11"), 10},
			"one network of IPv6":      {from("2001:db8::1", "2001:db8::2", "2001:db8::ffff:1", "2001:db8::1%eth0"), 5},
			"two networks":             {from("2001:db8:0:1::1", "2001:db8:0:2::1"), 10},
			"65,536 networks of one customer": {func(i int) throttle.Try {
				return from(fmt.Sprintf("2001:db8:99:%x::%x", i, i))(i)
			}, 50},
			"nowhere": {func(i int) throttle.Try { return throttle.Try{Account: fmt.Sprint("user", i)} }, 5},
			"a server with credentials": {func(i int) throttle.Try {
				return throttle.Try{Account: fmt.Sprint("user", i), Address: netip.MustParseAddr("192.0.2.1"), Trusted: true}
			}, 100},
		} {
			th := open(t, s.Client, s.Prefix+name[:3], func(o *throttle.Options) { o.Address = throttle.Rate{N: 5, Per: time.Hour} })
			if n, _ := tries(th, 100, c.try); n != c.want {
				t.Errorf("%s: %d of 100 tries, want %d", name, n, c.want)
			}
		}
	})
}

// A right password costs nothing, and neither does a try that was put off.
func TestRefund(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix)
		for range 200 {
			r, err := th.Reserve(context.Background(), by("alice")(0))
			if err != nil {
				t.Fatal(err)
			}
			r.Refund(context.Background())
			r.Refund(context.Background()) // is once
		}
		if keys := s.Client.Keys(context.Background(), s.Prefix+"*").Val(); s.Real() && len(keys) > 0 && !strings.Contains(t.Name(), "cluster") {
			t.Errorf("what was given back has left %q", keys)
		}
		if n, _ := tries(th, 20, by("alice")); n != 10 {
			t.Errorf("after 200 right passwords %d wrong ones were let through", n)
		}
	})
}

// A login may take longer than its request has time: nothing is wrong with its password.
func TestRefundAfterTheRequestHasEnded(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix)
		for i := range 30 {
			ctx, cancel := context.WithCancel(context.Background())
			r, err := th.Reserve(ctx, by("alice")(0))
			if err != nil {
				t.Fatalf("the %dth right password: %v", i+1, err)
			}
			cancel()
			r.Refund(ctx)
		}
	})
}

// A refund whose reply were another's would make the service give up all of its
// connections to Redis.
func TestRefundIsAnsweredAsItself(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, err := redisconn.Open(t.Context(), s.URL, redisconn.Options{Shifted: func() { t.Error("a reply was taken for another's") }})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		r, err := open(t, client, s.Prefix).Reserve(t.Context(), anywhere("alice", "")(0))
		if err != nil {
			t.Fatal(err)
		}
		r.Refund(t.Context())
	})
}

// Each gives back what it took, and nothing else.
func TestRefundGivesBackOne(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix, func(o *throttle.Options) { o.Address = throttle.Rate{} })
		ctx := context.Background()
		reserve := func(account string) *throttle.Reservation {
			t.Helper()
			r, err := th.Reserve(ctx, anywhere(account, "")(0))
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		for range 3 {
			reserve("alice")
		}
		reserve("alice").Refund(ctx)
		keys := s.Client.Keys(ctx, "*").Val()
		for _, key := range keys {
			if ttl := s.Client.PTTL(ctx, key).Val(); ttl <= 0 || ttl > 24*time.Hour {
				t.Errorf("%s lives %s", key, ttl)
			}
		}
		if n, _ := tries(th, 20, anywhere("alice", "")); n != 7 || len(keys) != 2 {
			t.Errorf("%d tries after three, want 7; keys %q", n, keys)
		}
		// A budget that is full again meanwhile is not in the way of the others.
		s.Client.Del(ctx, keys...)
		for i := range 2 {
			r := reserve("alice")
			s.Client.Del(ctx, keys[i])
			r.Refund(ctx)
			if left := s.Client.Keys(ctx, "*").Val(); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		}
	})
}

// What clients are told of the budgets is true.
func TestBudgetsSayWhatIsLeft(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix, func(o *throttle.Options) { o.Address = throttle.Rate{} })
		for n := 1; n <= 10; n++ {
			r, err := th.Reserve(context.Background(), anywhere("alice", "")(n))
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range r.Budgets {
				if full := time.Duration(n) * b.Rate.Per / time.Duration(b.Rate.N); b.Left != b.Rate.N-n || (b.Full-full).Abs() > 10*time.Second {
					t.Errorf("after %d tries: %+v, want %d left and all of it in %s", n, b, b.Rate.N-n, full)
				}
			}
		}
		_, err := th.Reserve(context.Background(), anywhere("alice", "")(0))
		var refusal *throttle.Refusal
		if !errors.As(err, &refusal) || refusal.Budget.Left != 0 {
			t.Errorf("after all: %+v, %v", refusal, err)
		}
	})
}

// A refused try is charged to nobody.
func TestRefusalsCostNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix)
		_, refusal := tries(th, 500, anywhere("alice", ""))
		if refusal == nil || refusal.Wait > 90*time.Second || refusal.Wait <= 80*time.Second {
			t.Fatalf("after 500 tries: %+v, want a minute and a half", refusal)
		}
		s.Advance(refusal.Wait)
		if n, _ := tries(th, 5, anywhere("alice", "")); n != 1 {
			t.Errorf("after waiting: %d tries", n)
		}
	})
}

// Whatever the clock of Redis does, nobody waits longer than an empty budget
// takes to fill.
func TestClockThatStepsLocksNobodyOut(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix)
		if n, _ := tries(th, 12, anywhere("alice", "")); n != 10 {
			t.Fatal(n)
		}
		s.Advance(-80 * time.Second)
		if n, refusal := tries(th, 5, anywhere("alice", "")); n != 0 || refusal.Wait > 3*time.Minute {
			t.Errorf("a small step back has let through %d tries, %+v", n, refusal)
		}
		s.Advance(-6 * time.Hour)
		if n, _ := tries(th, 12, anywhere("alice", "")); n != 10 {
			t.Errorf("the clock went back six hours: %d tries, want a budget that starts anew", n)
		}
		ctx := context.Background()
		for _, key := range s.Client.Keys(ctx, "*").Val() {
			if ttl := s.Client.PTTL(ctx, key).Val(); ttl <= 0 || ttl > 24*time.Hour+6*time.Hour {
				t.Errorf("the clock went back, and %s lives %s", key, ttl)
			}
		}
		s.Advance(15 * time.Minute)
		if n, _ := tries(th, 10, anywhere("alice", "")); n != 10 {
			t.Errorf("a quarter of an hour later: %d tries", n)
		}
	})
}

// Without Redis, and on one that is full, this process lets through a quarter.
func TestWithoutRedis(t *testing.T) {
	for name, trouble := range map[string]func(*redistest.Server){
		"dead": (*redistest.Server).Kill,
		"full": func(s *redistest.Server) { s.SetFull(true) },
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Redis(t)
			client, err := redisconn.Open(context.Background(), s.URL, redisconn.Options{}) // the one that knows soon
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			var th *throttle.Throttle
			var elsewhere, phone, many []throttle.Try
			for th == nil || !th.Apart(slices.Concat(elsewhere, phone, many)...) {
				th = open(t, client, s.Prefix, func(o *throttle.Options) { o.Address = throttle.Rate{N: 60, Per: 10 * time.Hour} })
				elsewhere, phone, many = nil, nil, nil
				key := th.DeviceKey("alice", "")
				for i := range 30 {
					elsewhere = append(elsewhere, anywhere("alice", "")(i))
					phone = append(phone, anywhere("alice", key)(i))
					many = append(many, throttle.Try{Account: fmt.Sprint(i), Address: here})
				}
			}
			trouble(s)
			if n, _ := tries(th, 20, func(i int) throttle.Try { return elsewhere[i] }); n != 2 {
				t.Errorf("%d tries, want 2", n)
			}
			if n, _ := tries(th, 20, func(i int) throttle.Try { return phone[i] }); n != 2 {
				t.Errorf("%d tries on a known device, want 2", n)
			}
			passed := 0
			for i, try := range many {
				r, err := th.Reserve(context.Background(), try)
				if err == nil {
					passed++
				}
				if i < 10 {
					r.Refund(context.Background())
				}
			}
			if passed != 25 { // 10 that were given back, and 15
				t.Errorf("%d tries from one address, want 25", passed)
			}
		})
	}
}

// Names and addresses are in no key, and no key stays.
func TestKeysTellNothingAndExpire(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		th := open(t, s.Client, s.Prefix)
		tries(th, 5, by("a-password-in-the-wrong-field"))
		ctx := context.Background()
		keys := s.Client.Keys(ctx, "*").Val()
		if len(keys) != 3 {
			t.Errorf("keys: %q", keys)
		}
		for _, key := range keys {
			if strings.Contains(key, "password") || strings.Contains(key, "203") {
				t.Errorf("key %q", key)
			}
			if ttl := s.Client.PTTL(ctx, key).Val(); ttl <= 0 || ttl > 24*time.Hour {
				t.Errorf("%s lives %s", key, ttl)
			}
		}
		s.Advance(5 * 15 * time.Minute)
		if keys := s.Client.Keys(ctx, "*").Val(); len(keys) > 0 {
			t.Errorf("left behind: %q", keys)
		}
	})
}

// Invented tokens are counted without asking Redis.
func TestFailed(t *testing.T) {
	s := redistest.Miniredis(t)
	th := open(t, s.Client, s.Prefix)
	s.Kill()
	passed := 0
	for range 1000 {
		if th.Failed(here) == nil {
			passed++
		}
	}
	if passed < 60 || passed > 62 { // its clock runs
		t.Errorf("%d of 1000, want 60", passed)
	}
	if th.Failed(netip.MustParseAddr("203.0.113.10")) != nil {
		t.Error("another address is affected")
	}
}

func TestOff(t *testing.T) {
	s := redistest.Miniredis(t)
	th := open(t, s.Client, s.Prefix, func(o *throttle.Options) { o.Account, o.Address = throttle.Rate{}, throttle.Rate{} })
	s.Kill()
	if n, refusal := tries(th, 500, by("alice")); n != 500 {
		t.Errorf("%d of 500: %v", n, refusal)
	}
	if err := th.Failed(here); err != nil {
		t.Error(err)
	}
}

func TestRates(t *testing.T) {
	for _, text := range []string{"10/15m", "60/1m", "1/1s", "300/5m", "100/24h", "7/1m30s", "5/500ms", "20/10m", "off", "10/1h30m"} {
		r, err := throttle.ParseRate(text)
		if err != nil || r.String() != text {
			t.Errorf("%s: %v, %v", text, r, err)
		}
	}
	for _, text := range []string{"", "10", "10/", "/1m", "0/1m", "-1/1m", "+1/1m", "10/0s", "10/-1m", "1/25h", "2000/1s", "1.5/1m", "10/15", "10 / 15m", "OFF", "10/15m/2"} {
		if r, err := throttle.ParseRate(text); err == nil {
			t.Errorf("%q is read as %v", text, r)
		}
	}
}
