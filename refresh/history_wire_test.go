package refresh_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

// Lanes are the sessions served at a time, and hands those who deal with one
// session at a time.
const (
	lanes  = 5
	hands  = 4
	phases = 12
)

var errHeld = errors.New("connection lost before the request was sent, or after")

// A network is many ways to one server, all of them bad.
type network struct {
	server *redistest.Server
	store  *refresh.Store // over a connection without faults
	deny   *denylist.List
	keys   partition.Keys
	wires  [lanes][hands]*wire
	held   sync.WaitGroup
}

func newNetwork(t *testing.T, s *redistest.Server) *network {
	n := &network{
		server: s,
		deny:   denylist.New(s.Client, s.Prefix),
		keys:   partition.Keys{Prefix: s.Prefix},
		store:  newModelStore(t, s.Client, s.Prefix),
	}
	for i := range n.wires {
		for j := range n.wires[i] {
			w := &wire{network: n}
			var client redis.UniversalClient
			client, w.flaky = s.Flaky(t)
			client.AddHook(w)
			// How long the client waits before it asks again decides nothing here.
			switch c := client.(type) {
			case *redis.Client:
				c.Options().MaxRetryBackoff = time.Millisecond
			case *redis.ClusterClient:
				c.Options().MaxRetryBackoff = time.Millisecond
			}
			w.store = newModelStore(t, client, s.Prefix)
			n.wires[i][j] = w
		}
	}
	return n
}

func newModelStore(t *testing.T, c redis.UniversalClient, prefix string) *refresh.Store {
	st, err := refresh.New(c, refresh.Options{
		Prefix:  prefix,
		Secrets: [][]byte{[]byte("a secret of thirty-two bytes or more")},
		Policy:  modelPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A wire serves one request at a time. It does to the scripts of that request
// what faults say, the first to the first script and so on, and notes in runs
// what became of them.
type wire struct {
	network *network
	store   *refresh.Store
	flaky   *redistest.Flaky
	faults  []fault
	runs    []run
}

type fault struct {
	lose  int // this many answers, each after the script has run; the client asks again
	hold  bool
	delay time.Duration // of a request held back; if negative it is never sent
}

type run struct {
	unheard  int  // times that the script has run and the answer was lost
	doubtful int  // times that it may have run
	answered bool // at last
}

// arm decides about the faults of the next request.
func (w *wire) arm(rng *rand.Rand) {
	w.faults, w.runs = nil, nil
	for range 2 {
		var f fault
		switch n := rng.IntN(100); {
		case n < 5:
			f.lose = 1 + rng.IntN(2)
		case n < 6:
			f.lose = 100 // the client gives up
		case n < 10:
			f.hold = true
			f.delay = time.Duration(rng.IntN(6)-2) * time.Millisecond
		}
		w.faults = append(w.faults, f)
	}
}

func (w *wire) disarm() { w.faults, w.runs = nil, nil }

func (w *wire) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// readsOnly recognises the scripts that have one key and no arguments: they
// change nothing, and so nothing needs to be known of their runs.
func readsOnly(cmd redis.Cmder) bool { return len(cmd.Args()) == 4 }

func (w *wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if name := cmd.Name(); name != "eval" && name != "evalsha" || readsOnly(cmd) {
			return next(ctx, cmd)
		}
		var f fault
		if len(w.runs) < len(w.faults) {
			f = w.faults[len(w.runs)]
		}
		if f.hold {
			if f.delay >= 0 {
				args := cmd.Args()
				w.network.held.Go(func() {
					time.Sleep(f.delay)
					w.network.server.Client.Do(context.Background(), args...)
				})
			}
			w.runs = append(w.runs, run{doubtful: 1})
			cmd.SetErr(errHeld)
			return errHeld
		}
		lost, sent := w.flaky.Lost(), w.flaky.Sent()
		w.flaky.LoseReplies(f.lose)
		err := next(ctx, cmd)
		w.flaky.LoseReplies(0)
		lost, sent = w.flaky.Lost()-lost, w.flaky.Sent()-sent

		var refusal redis.Error
		if errors.As(err, &refusal) && lost == 0 {
			return err // The server does not know the script.
		}
		r := run{unheard: lost, answered: err == nil}
		// The network may fail by itself too.
		r.doubtful = sent - lost
		if r.answered {
			r.doubtful--
		}
		w.runs = append(w.runs, r)
		return err
	}
}
