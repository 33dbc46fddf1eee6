package redistest

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Replication is the connection between a replica and its primary. It is safe for
// concurrent use.
type Replication struct {
	mu    sync.Mutex
	delay time.Duration
	cut   bool
}

// Hold makes the replica hear everything so much later.
func (r *Replication) Hold(delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = delay
}

// Cut makes the replica hear nothing more. It does not notice for a minute.
func (r *Replication) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
}

func (r *Replication) state() (delay time.Duration, cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.delay, r.cut
}

// Replicate makes a server of [RedisTCP] a replica of the one at an address, which
// may be a node of the Cluster. It returns when the replica has the data.
func Replicate(tb testing.TB, primary string, replica *Server) *Replication {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	r := &Replication{}
	go func() {
		for {
			down, err := listener.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", primary)
			if err != nil {
				down.Close()
				continue
			}
			tb.Cleanup(func() { down.Close(); up.Close() })
			go func() { _, _ = io.Copy(up, down) }()
			go r.forward(down, up)
		}
	}()
	tb.Cleanup(func() { listener.Close() })
	ctx := context.Background()
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	if err := replica.Client.Do(ctx, "replicaof", host, port).Err(); err != nil {
		tb.Fatalf("redistest: REPLICAOF: %v", err)
	}
	for deadline := time.Now().Add(startTimeout); !strings.Contains(replica.Client.Info(ctx, "replication").Val(), "master_link_status:up"); {
		if time.Now().After(deadline) {
			tb.Fatal("redistest: the replica does not get the data")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return r
}

func (r *Replication) forward(down, up net.Conn) {
	type chunk struct {
		data []byte
		at   time.Time
	}
	chunks := make(chan chunk, 10000)
	go func() {
		defer close(chunks)
		for {
			data := make([]byte, 64<<10)
			n, err := up.Read(data)
			if err != nil {
				return
			}
			chunks <- chunk{data[:n], time.Now()}
		}
	}()
	for c := range chunks {
		delay, cut := r.state()
		time.Sleep(time.Until(c.at.Add(delay)))
		// What has been held back is cut too.
		if _, now := r.state(); cut || now {
			continue
		}
		if _, err := down.Write(c.data); err != nil {
			return
		}
	}
}
