package redistest

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Lagging returns a second client of the server. While lags is set, each of its
// connections delivers in place of a reply the one before.
func (s *Server) Lagging(tb testing.TB) (client redis.UniversalClient, lags *atomic.Bool) {
	lags = &atomic.Bool{}
	return s.connect(tb, func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &laggingConn{Conn: conn, lags: lags}, err
	}), lags
}

type laggingConn struct {
	net.Conn
	lags *atomic.Bool
	last []byte // what was received last
}

func (c *laggingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	fresh := bytes.Clone(b[:n])
	if c.lags.Load() && len(c.last) > 0 && len(c.last) <= len(b) {
		n = copy(b, c.last)
	}
	c.last = fresh
	return n, err
}
