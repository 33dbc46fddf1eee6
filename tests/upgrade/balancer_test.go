package upgrade_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer is a reverse proxy over two backends. It asks /readyz of each, and passes
// requests to those that say yes, in turn. It sends no request twice, though some proxies
// do: what fails here is seen by the client.
type balancer struct {
	url     string
	proxies [2]atomic.Pointer[backend]
	turn    atomic.Int64
	every   atomic.Int64 // how often it asks
	nobody  atomic.Int64 // requests for which no backend was ready
}

type backend struct {
	url   string
	proxy *httputil.ReverseProxy
	ready atomic.Bool
}

func newBalancer(t *testing.T) *balancer {
	b := &balancer{}
	b.every.Store(int64(50 * time.Millisecond))
	server := httptest.NewServer(b)
	b.url = server.URL
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	for i := range b.proxies {
		asking.Go(func() { b.ask(ctx, i) })
	}
	t.Cleanup(func() {
		cancel()
		asking.Wait()
		server.CloseClientConnections() // streams would last
		server.Close()
	})
	return b
}

func (b *balancer) set(i int, address string) {
	target, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	b.proxies[i].Store(&backend{url: address, proxy: &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		},
		ErrorLog:     log.New(io.Discard, "", 0), // of streams that end with their instance
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}})
}

func (b *balancer) uses(i int) bool {
	p := b.proxies[i].Load()
	return p != nil && p.ready.Load()
}

// ask follows /readyz of a backend.
func (b *balancer) ask(ctx context.Context, i int) {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		if p := b.proxies[i].Load(); p != nil {
			res, err := client.Get(p.url + "/readyz")
			if err == nil {
				res.Body.Close()
			}
			p.ready.Store(err == nil && res.StatusCode == http.StatusOK)
		}
		time.Sleep(time.Duration(b.every.Load()))
	}
}

// ServeHTTP implements [http.Handler].
func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := int(b.turn.Add(1))
	for i := range b.proxies {
		if p := b.proxies[(n+i)%len(b.proxies)].Load(); p != nil && p.ready.Load() {
			p.proxy.ServeHTTP(w, r)
			return
		}
	}
	b.nobody.Add(1)
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
}
