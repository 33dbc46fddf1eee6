package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tests/service"
)

// TestRow29SecretRotatesUnderLoad goes through the steps by which an operator
// replaces the deployment's secret, restarting one instance after the other,
// while people refresh, use their tokens, log in and out. Nobody is refused,
// and in the end the old secret opens nothing.
func TestRow29SecretRotatesUnderLoad(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		older, newer := bytes.Repeat([]byte("older-secret-16b"), 2), bytes.Repeat([]byte("newer-secret-16b"), 2)
		start := func(secrets ...[]byte) *service.Service {
			return service.Start(t, s, service.Secrets(secrets...), service.Live(keyring.Schedule{}))
		}
		// What a load balancer would have in its list.
		var instances [2]atomic.Pointer[service.Service]
		for i := range instances {
			instances[i].Store(start(older))
		}
		var turn atomic.Int64
		next := func() *service.Service { return instances[turn.Add(1)%2].Load() }

		first, away := next().Login().OK(t), next().Login().OK(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var refreshed, refused atomic.Int64
		good := func(a service.Answer) service.Answer {
			if a.Status/100 != 2 {
				refused.Add(1)
				t.Errorf("%s: %d %s %s", a.Route, a.Status, a.Error, a.Reason)
				cancel()
			}
			return a
		}
		var load sync.WaitGroup
		for i := range 4 {
			load.Go(func() {
				tokens := good(next().Login()).Tokens
				for n := 0; ctx.Err() == nil; n++ {
					key := fmt.Sprint("retry key ", i, "/", n)
					spent := tokens.Refresh
					tokens = good(next().Refresh(spent, key)).Tokens
					refreshed.Add(1)
					// The response was lost, and an instance with other secrets
					// is asked again: it must hand out a successor that works.
					if n%3 == 0 {
						tokens = good(next().Refresh(spent, key)).Tokens
					}
					good(next().Me(tokens.Access))
					if n%10 == 9 {
						good(next().Logout(tokens.Access, tokens.Refresh))
						tokens = good(next().Login()).Tokens
					}
				}
			})
		}
		// However slow the machine is: something happens between two changes.
		work := func() {
			t.Helper()
			before := refreshed.Load()
			eventually(t, "load", func() bool { return refreshed.Load() >= before+8 })
		}
		step := func(secrets ...[]byte) {
			t.Helper()
			for i := range instances {
				work()
				instances[i].Store(start(secrets...))
			}
			work()
		}
		step(older, newer)
		step(newer, older)
		if instances[0].Load().Keys.SealedUnderFirst() {
			t.Error("the signing keys are sealed under the new secret before anybody resealed them")
		}
		if err := instances[0].Load().Keys.Reseal(t.Context()); err != nil {
			t.Fatal(err)
		}
		// A client that has been away since before still comes in, and has a
		// token of the new secret from then on.
		first.Tokens = good(next().Refresh(first.Refresh, "")).Tokens
		step(newer)
		cancel()
		load.Wait()
		good(next().Refresh(first.Refresh, ""))
		t.Logf("%d refreshes, %d requests refused", refreshed.Load(), refused.Load())
		if refreshed.Load() < 50 {
			t.Error("too little load to prove anything")
		}

		_, err := keyring.Read(t.Context(), s.Client, keyring.Options{Prefix: s.Prefix, Secrets: [][]byte{older}})
		if err == nil {
			t.Error("the old secret still opens the signing keys")
		}
		// Row 29: whoever stayed away all the time has to log in again.
		next().Refresh(away.Refresh, "").Is(t, http.StatusUnauthorized, "invalid_grant")
	})
}
