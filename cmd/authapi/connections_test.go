package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// dialFrom opens a connection from one of the loopback addresses.
func dialFrom(t *testing.T, service *instance, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", service.addr())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// ask sends a request and reports whether it was answered.
func ask(c net.Conn) bool {
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return false
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err == nil && res.StatusCode == http.StatusOK
}

// Nobody can take all connections: from one address there are few, and those that
// are idle make room for others.
func TestConnections(t *testing.T) {
	t.Parallel()
	service := start(t, deployment(redistest.Redis(t), "AUTHAPI_CONNECTIONS=16"))

	// One address has an eighth.
	first := []net.Conn{dialFrom(t, service, "127.0.0.1"), dialFrom(t, service, "127.0.0.1")}
	for _, c := range first {
		if !ask(c) {
			t.Fatal("one of the first two connections is refused")
		}
	}
	if ask(dialFrom(t, service, "127.0.0.1")) {
		t.Error("an address has a third connection")
	}
	// What is closed is free again.
	first[1].Close()
	eventually(t, "a connection", func() bool { return ask(dialFrom(t, service, "127.0.0.1")) })

	// The rest is taken by silent connections. Two more get in, since two are
	// idle, and then nobody does.
	for i := range 14 {
		dialFrom(t, service, fmt.Sprintf("127.0.0.%d", 2+i/2))
	}
	silent := []net.Conn{dialFrom(t, service, "127.0.0.20"), dialFrom(t, service, "127.0.0.20")}
	eventually(t, "a connection", func() bool { return !ask(dialFrom(t, service, "127.0.0.21")) })
	for i, c := range silent {
		if !ask(c) {
			t.Errorf("connection %d found no room, although another was idle", i)
		}
	}
	if ask(first[0]) {
		t.Error("the connection that was idle for longest is still there")
	}
	// Silent ones are cut off after a few seconds, and then all is well.
	eventually(t, "a connection", func() bool { return ask(dialFrom(t, service, "127.0.0.22")) })
}

// Everybody comes through a trusted proxy.
func TestConnectionsOfProxies(t *testing.T) {
	t.Parallel()
	service := start(t, deployment(redistest.Redis(t), "AUTHAPI_CONNECTIONS=16", "AUTHAPI_TRUSTED_PROXIES=127.0.0.1"))
	for i := range 16 {
		if !ask(dialFrom(t, service, "127.0.0.1")) {
			t.Errorf("connection %d of a trusted proxy is refused", i)
		}
	}
}
