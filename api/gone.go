package api

import (
	"context"
	"net"
	"net/http"
	"syscall"
)

// A request that is served after its client has given up does harm: the client may
// have asked another instance since, and gone on from its answer. Then what was only
// late looks like the replay of a spent token, and ends the session. So nothing is
// begun for a client that has closed its connection, after a process stood still for
// example. What has begun is carried out.

type connKey struct{}

// ConnContext lets requests know their connection. It is for http.Server's field of
// that name. Without it a client that has gone is noticed a moment later.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if raw, ok := c.(syscall.Conn); ok {
		return context.WithValue(ctx, connKey{}, raw)
	}
	return ctx
}

// gone reports whether the client has closed the connection. The server's own
// reader notices it too, but perhaps after the handler has begun.
func gone(r *http.Request) bool {
	if r.Context().Err() != nil {
		return true
	}
	c, ok := r.Context().Value(connKey{}).(syscall.Conn)
	return ok && r.ProtoMajor == 1 && closedByPeer(c)
}
