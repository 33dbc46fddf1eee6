package main

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
)

// connections is a listener that takes no more connections than it may have, and
// from one address no more than an eighth of them: each costs memory and a file,
// whether its client says anything or not. If all are taken, the one that has been
// idle for longest gives way.
//
// Trusted proxies may have as many as they like, since all users come through them.
type connections struct {
	net.Listener
	most    int
	trusted []netip.Prefix

	mu        sync.Mutex
	taken     int
	byAddress map[netip.Addr]int
	idle      list.List // of net.Conn, the longest idle first
	where     map[net.Conn]*list.Element
}

func limitConnections(l net.Listener, most int, trusted []netip.Prefix) *connections {
	return &connections{
		Listener: l, most: most, trusted: trusted,
		byAddress: map[netip.Addr]int{}, where: map[net.Conn]*list.Element{},
	}
}

// Accept closes connections that are too many, and returns the next one that is not.
func (l *connections) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := l.addressOf(c)
		if l.take(address) {
			return &counted{Conn: c, give: sync.OnceFunc(func() { l.give(address) })}, nil
		}
		c.Close()
	}
}

// addressOf is the zero address for peers that are not counted.
func (l *connections) addressOf(c net.Conn) netip.Addr {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap().WithZone("")
	for _, prefix := range l.trusted {
		if prefix.Contains(address) {
			return netip.Addr{}
		}
	}
	if address.Is6() {
		network, _ := address.Prefix(64) // whoever has one address has them all
		address = network.Addr()
	}
	return address
}

func (l *connections) take(address netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if address.IsValid() && l.byAddress[address] >= max(1, l.most/8) {
		return false
	}
	if l.taken >= l.most {
		oldest := l.idle.Front()
		if oldest == nil {
			return false
		}
		c := oldest.Value.(net.Conn)
		l.forget(c)
		go c.Close() // takes the lock
	}
	l.taken++
	if address.IsValid() {
		l.byAddress[address]++
	}
	return true
}

func (l *connections) give(address netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken--
	if !address.IsValid() {
		return
	}
	if l.byAddress[address]--; l.byAddress[address] == 0 {
		delete(l.byAddress, address)
	}
}

// watch is the server's ConnState: it tells which connections are idle.
func (l *connections) watch(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(c)
	if state == http.StateIdle {
		l.where[c] = l.idle.PushBack(c)
	}
}

func (l *connections) forget(c net.Conn) {
	if e, ok := l.where[c]; ok {
		l.idle.Remove(e)
		delete(l.where, c)
	}
}

type counted struct {
	net.Conn
	give func()
}

func (c *counted) Close() error {
	defer c.give()
	return c.Conn.Close()
}

// SyscallConn is how the handlers see that a client has gone.
func (c *counted) SyscallConn() (syscall.RawConn, error) {
	raw, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, net.ErrClosed
	}
	return raw.SyscallConn()
}

// CloseWrite is how the server lets a client read the answer to a request that it
// did not read to its end.
func (c *counted) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return net.ErrClosed
	}
	return half.CloseWrite()
}
