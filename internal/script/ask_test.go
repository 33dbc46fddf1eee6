package script_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/internal/script"
)

// inserting delivers a reply that nobody asked for before each that says 0.
type inserting struct{ net.Conn }

func (c inserting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:len(b)/4])
	return copy(b, bytes.ReplaceAll(b[:n], []byte(":0\r\n"), []byte(":1\r\n:0\r\n"))), err
}

// What shifts behind the first answer must be noticed as well as what had shifted
// before: of two keys that are not there, neither is.
func TestRow41ShiftInTheMiddleIsNoticed(t *testing.T) {
	s := redistest.Redis(t)
	for _, shifts := range []bool{false, true} {
		client := redis.NewClient(&redis.Options{Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.Addrs()[0])
			if shifts {
				conn = inserting{conn}
			}
			return conn, err
		}})
		defer client.Close()
		var one, other *redis.IntCmd
		err := script.AskFor(t.Context(), client, s.Prefix, func(pipe redis.Pipeliner) {
			one, other = pipe.Exists(t.Context(), s.Prefix+"one"), pipe.Exists(t.Context(), s.Prefix+"other")
		})
		switch {
		case shifts && !errors.Is(err, script.ErrReply):
			t.Errorf("answers of others were believed: %d, %d, %v", one.Val(), other.Val(), err)
		case !shifts && (err != nil || one.Val() != 0 || other.Val() != 0):
			t.Errorf("got %d, %d, %v", one.Val(), other.Val(), err)
		}
	}
}
