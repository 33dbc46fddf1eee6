package refresh_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func TestProbe(t *testing.T) {
	redistest.EachWithCluster(t, func(t *testing.T, s *redistest.Server) {
		st, err := refresh.New(s.Client, refresh.Options{Prefix: s.Prefix, Secrets: [][]byte{make([]byte, 32)}, Policy: func(string) (refresh.Policy, bool) {
			return refresh.Policy{Transport: refresh.Body, Window: 10 * time.Second, Idle: time.Hour, Absolute: 3 * time.Hour, Access: 5 * time.Minute, Sessions: 20}, true
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, par := range []int{1, 8, 32} {
			const n = 4000
			start := time.Now()
			var wg sync.WaitGroup
			for w := range par {
				wg.Go(func() {
					g, err := st.Create(context.Background(), refresh.Login{Subject: fmt.Sprint("u", w), ClientID: "x"})
					if err != nil {
						t.Error(err)
						return
					}
					for range n / par {
						g, err = st.Rotate(context.Background(), refresh.Presented{Token: g.Token, Transport: refresh.Body})
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			t.Logf("%d: %v per op", par, time.Since(start)/n)
		}
	})
}
