package refresh_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	mrand "math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

// benchStore is a store as it is in production: the usual prefix, a mobile
// client with the default policy, one real server.
func benchStore(b *testing.B, s *redistest.Server) *refresh.Store {
	b.Helper()
	st, err := refresh.New(s.Client, refresh.Options{
		Prefix:  benchPrefix,
		Secrets: [][]byte{[]byte("a secret of thirty-two bytes or more")},
		Policy: func(client string) (refresh.Policy, bool) {
			return refresh.Policy{
				Transport: refresh.Body,
				Window:    10 * time.Second,
				Idle:      14 * 24 * time.Hour,
				Absolute:  30 * 24 * time.Hour,
				Access:    5 * time.Minute,
				Sessions:  20,
			}, client == "mobile"
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	return st
}

const benchPrefix = "authapi"

func benchLogin() refresh.Login {
	return refresh.Login{
		Subject: randomText(12), ClientID: "mobile", Device: "Pixel 9 Pro",
		Roles: []string{"user"}, AMR: []string{"pwd"},
	}
}

// randomText returns so many random bytes as base64url.
func randomText(bytes int) string {
	random := make([]byte, bytes)
	rand.Read(random)
	return base64.RawURLEncoding.EncodeToString(random)
}

func benchCreate(b *testing.B, st *refresh.Store) *refresh.Grant {
	b.Helper()
	g, err := st.Create(context.Background(), benchLogin())
	if err != nil {
		b.Fatal(err)
	}
	return g
}

// rotateOn returns the token after the one given.
func rotateOn(b *testing.B, st *refresh.Store, token string, n int) string {
	g, err := st.Rotate(context.Background(), refresh.Presented{
		Token: token, Transport: refresh.Body, ClientID: "mobile", RetryKey: "key" + strconv.Itoa(n),
	})
	if err != nil {
		b.Error(err)
		return token
	}
	return g.Token
}

func BenchmarkTokenEncode(b *testing.B) {
	st := benchStore(b, redistest.Miniredis(b))
	token := refresh.TokenOf(3, [16]byte{1, 2, 3}, 1000)
	for b.Loop() {
		st.Encode(token)
	}
}

func BenchmarkTokenDecode(b *testing.B) {
	st := benchStore(b, redistest.Miniredis(b))
	genuine := st.Encode(refresh.TokenOf(3, [16]byte{1, 2, 3}, 1000))
	forged := genuine[:len(genuine)-4] + "AAAA"
	for _, bench := range []struct {
		name, token string
		genuine     bool
	}{{"genuine", genuine, true}, {"forged", forged, false}, {"garbage", "not a token", false}} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := st.Parse(bench.token); (err == nil) != bench.genuine {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	st := benchStore(b, redistest.Redis(b))
	for b.Loop() {
		benchCreate(b, st)
	}
}

func BenchmarkRotate(b *testing.B) {
	s := redistest.Redis(b)
	st := benchStore(b, s)
	b.Run("sequential", func(b *testing.B) {
		defer reportScripts(b, s)()
		token, n := benchCreate(b, st).Token, 0
		for b.Loop() {
			n++
			token = rotateOn(b, st, token, n)
		}
	})
	b.Run("repeated", func(b *testing.B) {
		first := benchCreate(b, st).Token
		for b.Loop() {
			rotateOn(b, st, first, 0)
		}
	})
	// 32 sessions for each CPU at once.
	b.Run("parallel", func(b *testing.B) {
		defer reportScripts(b, s)()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			token, n := benchCreate(b, st).Token, 0
			for pb.Next() {
				n++
				token = rotateOn(b, st, token, n)
			}
		})
	})
}

// reportScripts reports how long a script kept the server's one thread busy.
func reportScripts(b *testing.B, s *redistest.Server) (report func()) {
	b.Helper()
	busy := func() (calls, micros float64) {
		stats := s.Client.InfoMap(context.Background(), "commandstats").Val()["Commandstats"]["cmdstat_evalsha"]
		// It is not there before the first call.
		_, _ = fmt.Sscanf(stats, "calls=%g,usec=%g", &calls, &micros)
		return calls, micros
	}
	calls, micros := busy()
	return func() {
		c, m := busy()
		b.ReportMetric((m-micros)/(c-calls), "redis-µs/op")
	}
}

func BenchmarkEnd(b *testing.B) {
	st := benchStore(b, redistest.Redis(b))
	sids := make([]string, b.N)
	for i := range sids {
		sids[i] = benchCreate(b, st).Session.SID
	}
	b.ResetTimer()
	for _, sid := range sids {
		if err := st.End(context.Background(), sid, refresh.Logout); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSessionBytes reports what a session costs a real server, by its own
// account, with 100,000 of them: its hash, and its place in the user's index
// (of one session, which is the dearest). One session is made and refreshed by
// the store; the others are like it and have other values.
func BenchmarkSessionBytes(b *testing.B) {
	const sessions = 100_000
	ctx := context.Background()
	for b.Loop() {
		s := redistest.Redis(b)
		st := benchStore(b, s)
		g := benchCreate(b, st)
		token := g.Token
		for n := range 6 {
			token = rotateOn(b, st, token, n)
		}
		keys := partition.Keys{Prefix: benchPrefix}
		key := keys.Session(partition.Of(g.Session.Subject), g.Session.SID)
		fields, err := s.Client.HGetAll(ctx, key).Result()
		if err != nil {
			b.Fatal(err)
		}
		if encoding := s.Client.ObjectEncoding(ctx, key).Val(); encoding != "listpack" {
			b.Fatalf("a session is a %q", encoding)
		}
		own, err := s.Client.MemoryUsage(ctx, key).Result()
		if err != nil {
			b.Fatal(err)
		}

		subs := make([]string, sessions)
		sids := make([]string, sessions)
		for i := range subs {
			subs[i] = randomText(12)
			sids[i] = partition.Of(subs[i]).Tag() + "." + randomText(16)
		}
		before := usedMemory(b, s)
		fill(b, s, sessions, func(p redis.Pipeliner, i int) {
			key := keys.Session(partition.Of(subs[i]), sids[i])
			p.HSet(ctx, key, likeSession(fields, subs[i]))
			p.PExpire(ctx, key, 14*24*time.Hour)
		})
		hashes := usedMemory(b, s)
		fill(b, s, sessions, func(p redis.Pipeliner, i int) {
			p.ZAdd(ctx, keys.User(subs[i]), redis.Z{Score: float64(time.Now().UnixMilli()), Member: sids[i]})
			p.PExpire(ctx, keys.User(subs[i]), 30*24*time.Hour)
		})
		indexed := usedMemory(b, s)

		b.ReportMetric(float64(hashes-before)/sessions, "B/session")
		b.ReportMetric(float64(indexed-hashes)/sessions, "B/index-entry")
		b.ReportMetric(float64(own), "B/MEMORY-USAGE")
		b.ReportMetric(0, "ns/op")
	}
}

// likeSession varies what differs between sessions.
func likeSession(fields map[string]string, sub string) map[string]string {
	created := time.Now().Unix() - mrand.Int64N(20*24*3600)
	rotated := created + mrand.Int64N(10*24*3600)
	like := make(map[string]string, len(fields))
	for field, value := range fields {
		switch field {
		case "s":
			value = sub
		case "g":
			value = strconv.Itoa(4 + mrand.IntN(3000))
		case "o", "u":
			value = strconv.FormatInt(created, 10)
		case "a":
			value = strconv.FormatInt(created+30*24*3600, 10)
		case "r":
			value = strconv.FormatInt(rotated*1000+mrand.Int64N(1000), 10)
		case "x":
			value = strconv.FormatInt(rotated+300, 10)
		case "k":
			random := make([]byte, len(value))
			rand.Read(random)
			value = string(random)
		}
		like[field] = value
	}
	return like
}

func fill(b *testing.B, s *redistest.Server, n int, add func(p redis.Pipeliner, i int)) {
	b.Helper()
	const batch = 1000
	for from := 0; from < n; from += batch {
		if _, err := s.Client.Pipelined(context.Background(), func(p redis.Pipeliner) error {
			for i := from; i < min(from+batch, n); i++ {
				add(p, i)
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

// usedMemory is what the server has allocated for data and for itself, without
// the buffers of its clients.
func usedMemory(b *testing.B, s *redistest.Server) int64 {
	b.Helper()
	info := s.Client.InfoMap(context.Background(), "memory").Val()["Memory"]
	used, err1 := strconv.ParseInt(info["used_memory"], 10, 64)
	clients, err2 := strconv.ParseInt(info["mem_clients_normal"], 10, 64)
	if err1 != nil || err2 != nil {
		b.Fatal(fmt.Errorf("INFO memory: %v, %v", err1, err2))
	}
	return used - clients
}
