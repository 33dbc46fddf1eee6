package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
)

// Whatever anyone's change produced must be in the ring that is there at last,
// and the keys must have followed each other without a gap or a fork.
func TestConcurrentChangesLoseNothing(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		schedule := keyring.Schedule{Every: every, Lead: 10 * time.Millisecond}
		orders := [][][]byte{{newSecret, oldSecret}, {oldSecret, newSecret}}
		var enough atomic.Bool
		signers := make([]map[string]bool, 8)
		var all sync.WaitGroup
		for i := range signers {
			r := scheduled(t, s, schedule, orders[i%2]...)
			signers[i] = map[string]bool{}
			all.Go(func() {
				for n := i; !enough.Load(); n++ {
					var err error
					switch n % 3 {
					case 0:
						_, err = r.Rotate(t.Context())
					case 1:
						err = r.Reseal(t.Context())
					default:
						err = r.FollowOnce(t.Context())
					}
					if err != nil && !errors.Is(err, keyring.ErrTooMany) && !errors.Is(err, keyring.ErrContended) {
						t.Error(err)
					}
					signers[i][r.Signer().ID()] = true
					if len(in(r, keyring.Current)) != 1 {
						t.Errorf("held %+v", r.Keys())
					}
				}
			})
		}
		reader := readAlong(t, s, orders[0])
		enough.Store(true)
		all.Wait()
		if t.Failed() {
			return
		}

		last := scheduled(t, s, schedule, orders[0]...)
		sound(t, last)
		signed := append(in(last, keyring.Previous), only(t, last, keyring.Current))
		for i := 1; i < len(signed); i++ {
			if !signed[i-1].SignedUntil.Equal(signed[i].SignsFrom) {
				t.Errorf("%+v is followed by %+v", signed[i-1], signed[i])
			}
			if signed[i].SignsFrom.Before(signed[i].PublishedAt.Add(schedule.Lead)) {
				t.Errorf("signed too early: %+v", signed[i])
			}
		}
		for _, seen := range append(signers, reader) {
			for id := range seen {
				if !slices.ContainsFunc(signed, func(k keyring.Key) bool { return k.ID == id }) {
					t.Errorf("%s has signed and is lost", id)
				}
			}
		}
	})
}

// readAlong opens what is in Redis, over and over, until several keys have
// signed, and returns those.
func readAlong(t *testing.T, s *redistest.Server, secrets [][]byte) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	for began := time.Now(); time.Since(began) < 350*time.Millisecond || len(seen) < 5; {
		if time.Since(began) > 10*time.Second {
			t.Errorf("only %d keys have signed", len(seen))
			break
		}
		r, err := keyring.Read(t.Context(), s.Client, keyring.Options{Prefix: s.Prefix, Secrets: secrets})
		if err != nil {
			t.Error(err)
			break
		}
		if n := len(in(r, keyring.Current)); n != 1 {
			t.Errorf("%d current keys in Redis", n)
		}
		seen[r.Signer().ID()] = true
		if !s.Real() {
			s.Advance(time.Millisecond) // its time does not run
		}
	}
	return seen
}

// recorder keeps the changes that were sent. If there is a fault, they are not
// sent, and end with it.
type recorder struct {
	mu    sync.Mutex
	runs  [][]any
	fault error
}

func (r *recorder) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		// Name, script, number of keys, key, and the two forms of the ring.
		if (cmd.Name() != "eval" && cmd.Name() != "evalsha") || len(cmd.Args()) != 6 {
			return next(ctx, cmd)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.fault != nil {
			cmd.SetErr(r.fault)
			return r.fault
		}
		err := next(ctx, cmd)
		if err == nil {
			r.runs = append(r.runs, slices.Clone(cmd.Args()))
		}
		return err
	}
}

// The network may deliver a command twice, and the second time late.
func TestLateDuplicateOfAChangeDoesNothing(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		r := daily(t, s)
		record := &recorder{}
		s.Client.AddHook(record)
		again := func(when string, want int64) {
			t.Helper()
			before := value(t, s)
			for _, args := range slices.Clone(record.runs) {
				reply, err := s.Client.Do(t.Context(), args...).Slice()
				if err != nil || len(reply) != 2 || reply[0] != name(s) {
					t.Fatalf("%s: %v, %v", when, reply, err)
				}
				if reply[1] != want {
					t.Errorf("%s: replies %v, want %d", when, reply[1], want)
				}
				if value(t, s) != before {
					t.Errorf("%s: the ring was changed", when)
				}
			}
		}
		stolen := r.Signer().ID()
		if err := r.Drop(t.Context(), stolen); err != nil {
			t.Fatal(err)
		}
		if len(record.runs) != 1 {
			t.Fatalf("%d changes", len(record.runs))
		}
		again("at once", 1)
		s.Advance(lead)
		rotate(t, r)
		record.runs = record.runs[:1]
		again("after another change", 0)
		s.Advance(2 * every)
		catchUp(t, r)
		record.runs = record.runs[:1]
		again("much later", 0)
		catchUp(t, r)
		sound(t, r)
		if slices.Contains(published(t, r), stolen) {
			t.Error("the dropped key is back")
		}

		if err := s.Client.Del(t.Context(), name(s)).Err(); err != nil {
			t.Fatal(err)
		}
		for _, args := range record.runs[:1] {
			if err := s.Client.Do(t.Context(), args...).Err(); err != nil {
				t.Error(err)
			}
		}
		if n := s.Client.Exists(t.Context(), name(s)).Val(); n != 0 {
			t.Error("an old ring was put where there was none")
		}
	})
}

func TestFailedChangeLeavesTheHeldRing(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		r := daily(t, s)
		record := &recorder{fault: errors.New("the network is down")}
		s.Client.AddHook(record)
		before, stored, set := fmt.Sprint(r.Keys()), value(t, s), r.KeySet()
		s.Advance(2 * every)
		for what, change := range map[string]func() error{
			"rotate": func() error { _, err := r.Rotate(t.Context()); return err },
			"drop":   func() error { return r.Drop(t.Context(), r.Signer().ID()) },
			"reseal": func() error { return r.Reseal(t.Context()) },
			"follow": func() error { return r.FollowOnce(t.Context()) },
		} {
			if err := change(); !errors.Is(err, record.fault) {
				t.Errorf("%s: %v", what, err)
			}
			if fmt.Sprint(r.Keys()) != before || r.KeySet() != set || value(t, s) != stored {
				t.Errorf("%s: %s became %+v", what, before, r.Keys())
			}
		}
		sound(t, r)
		record.fault = nil
		next := only(t, r, keyring.Next).ID
		catchUp(t, r)
		sound(t, r)
		if r.Signer().ID() != next {
			t.Error("what was due is not made up for")
		}
	})
}

// While keys change, nobody's token is refused: this is what the lead is for.
// The servers' time moves on only when all instances follow, so that a slow
// machine does not fail the test.
func TestNoTokenIsRefusedWhileKeysRotate(t *testing.T) {
	// The embedded server is too slow for four instances that look all the time.
	for name, backend := range map[string]func(testing.TB) *redistest.Server{
		"redis": redistest.Redis, "cluster": redistest.Cluster,
	} {
		t.Run(name, func(t *testing.T) { noTokenIsRefused(t, backend(t)) })
	}
}

func noTokenIsRefused(t *testing.T, s *redistest.Server) {
	var clock atomic.Int64
	clock.Store(s.Now().UnixMilli())
	now := func() time.Time { return time.UnixMilli(clock.Load()) }
	v := verifierAt(t, now)
	rings := make([]*keyring.Ring, 4)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for i := range rings {
		rings[i] = daily(t, s)
		all.Go(func() {
			rings[i].Follow(ctx, time.Millisecond, func(err error) {
				// A cancelled request is the end of the test.
				if ctx.Err() == nil {
					t.Error(err)
				}
			})
		})
	}
	var good [8]atomic.Int64
	for n := range good {
		all.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				signed, err := rings[i%4].Signer().Sign(claimsAt(now()))
				if err == nil {
					_, err = v.Verify(signed, rings[(i+1+n%3)%4].KeySet())
				}
				if err != nil {
					t.Error(err)
					return
				}
				good[n].Add(1)
				time.Sleep(time.Millisecond) // the rings want to follow
			}
		})
	}
	everywhere := func(what string, holds func(*keyring.Ring) bool) {
		t.Helper()
		for _, r := range rings {
			eventually(t, what, func() bool { return holds(r) })
		}
	}
	for n := range 20 {
		next := only(t, rings[n%4], keyring.Next).ID
		everywhere("all have the next key", func(r *keyring.Ring) bool { return slices.Contains(published(t, r), next) })
		rotate(t, rings[(n+1)%4])
		s.Advance(lead)
		clock.Add(int64(lead / time.Millisecond))
		everywhere("all sign with it", func(r *keyring.Ring) bool { return r.Signer().ID() == next })
		// Or a goroutine that sleeps would find its token expired.
		for i := range good {
			before := good[i].Load()
			eventually(t, "a token is accepted", func() bool { return t.Failed() || good[i].Load() > before })
		}
	}
	cancel()
	all.Wait()
}
