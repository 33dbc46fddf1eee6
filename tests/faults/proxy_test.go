package faults_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// A proxy is a bad piece of network before one server. What one read returns
// counts as a message: for both protocols here that is a request or a reply,
// nearly always whole.
type proxy struct {
	addr   string
	target string

	mu      sync.Mutex
	changed *sync.Cond
	rnd     *rand.Rand
	weather weather
	down    bool
	stalled bool
	// apart keeps replicas from this server: the links by which they replicate
	// are cut, and others are not.
	apart  bool
	closed bool
	links  map[*link]struct{}
	done   struct{ requests, replies, late, shifts int } // what was done to messages
}

// weather is what happens to messages, as shares of them.
type weather struct {
	latency     time.Duration // up to this, in each direction
	loseRequest float64       // never delivered, and the connection breaks
	loseReply   float64       // the request was delivered; the connection breaks
	halfReply   float64       // the reply breaks off in the middle
	late        float64       // the connection breaks, and the request arrives all the same
	lateness    time.Duration // up to this much later
	shift       float64       // from now on, each reply on this connection is the one before
}

func newProxy(tb testing.TB, seed uint64, target string) *proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), target: target, rnd: rand.New(rand.NewPCG(seed, 0)), links: map[*link]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	go p.accept(l)
	tb.Cleanup(func() {
		l.Close()
		p.set(func() { p.closed = true })
		p.breakLinks(func(*link) bool { return true })
	})
	return p
}

func (p *proxy) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go p.serve(c.(*net.TCPConn))
	}
}

// link is one connection through the proxy.
type link struct {
	client, server *net.TCPConn
	replication    bool
	// held is the reply that a shifted connection owes.
	held []byte
}

func (l *link) end(reset bool) {
	for _, c := range []*net.TCPConn{l.client, l.server} {
		if c == nil {
			continue
		}
		if reset {
			_ = c.SetLinger(0) // a reset instead of an orderly end
		}
		c.Close()
	}
}

func (p *proxy) serve(c *net.TCPConn) {
	l := &link{client: c}
	p.mu.Lock()
	refused := p.down || p.closed
	p.mu.Unlock()
	if refused {
		l.end(true)
		return
	}
	s, err := net.DialTimeout("tcp", p.target, time.Second)
	if err != nil {
		l.end(true)
		return
	}
	l.server = s.(*net.TCPConn)
	p.mu.Lock()
	if p.down || p.closed {
		p.mu.Unlock()
		l.end(true)
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()

	var both sync.WaitGroup
	both.Go(func() { p.requests(l) })
	both.Go(func() { p.replies(l) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
	l.end(false)
}

// draw returns whether something of this likelihood happens.
func (p *proxy) draw(likelihood float64) bool {
	return likelihood > 0 && p.rnd.Float64() < likelihood
}

func (p *proxy) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(p.rnd.Int64N(int64(d)))
}

// hold waits for as long as a message is on its way.
func (p *proxy) hold() {
	p.mu.Lock()
	for p.stalled && !p.closed {
		p.changed.Wait()
	}
	latency := p.upTo(p.weather.latency)
	p.mu.Unlock()
	if latency > 0 {
		time.Sleep(latency)
	}
}

func (p *proxy) requests(l *link) {
	defer l.server.CloseWrite()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(buffer)
		if n > 0 {
			message := buffer[:n]
			p.hold()
			p.mu.Lock()
			// A replica introduces itself before it asks for anything.
			if !l.replication && bytes.Contains(message, []byte("REPLCONF")) {
				l.replication = true
			}
			lost := p.draw(p.weather.loseRequest) || l.replication && p.apart
			late := !lost && !l.replication && p.draw(p.weather.late)
			lateness, reset := p.upTo(p.weather.lateness), p.draw(0.5)
			if lost {
				p.done.requests++
			}
			if late {
				p.done.late++
			}
			p.mu.Unlock()
			if lost {
				l.end(reset)
				return
			}
			if late {
				_ = l.client.SetLinger(0)
				l.client.Close()
				time.Sleep(lateness)
				_, _ = l.server.Write(message)
				time.Sleep(50 * time.Millisecond) // for the server to read it
				return
			}
			if _, err := l.server.Write(message); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) replies(l *link) {
	defer l.client.CloseWrite()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buffer)
		if n > 0 {
			message := buffer[:n]
			p.hold()
			p.mu.Lock()
			lost := !l.replication && p.draw(p.weather.loseReply) || l.replication && p.apart
			shifts := l.held == nil && !l.replication && p.draw(p.weather.shift)
			if shifts {
				p.done.shifts++
			}
			half := !lost && !l.replication && p.draw(p.weather.halfReply)
			reset := p.draw(0.5)
			if lost || half {
				p.done.replies++
			}
			p.mu.Unlock()
			if half {
				_, _ = l.client.Write(message[:n/2])
			}
			if lost || half {
				l.end(reset)
				return
			}
			// A reply that is delivered twice shifts all that follow. The second copy
			// comes in place of the next one: at once it would be noticed.
			switch {
			case l.held != nil:
				message, l.held = l.held, bytes.Clone(message)
			case shifts:
				l.held = bytes.Clone(message)
			}
			if _, err := l.client.Write(message); err != nil {
				_, _ = io.Copy(io.Discard, l.server)
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) set(change func()) {
	p.mu.Lock()
	change()
	p.mu.Unlock()
	p.changed.Broadcast()
}

func (p *proxy) is(w weather) { p.set(func() { p.weather = w }) }

// cut ends all connections with a reset, and refuses new ones until mend.
func (p *proxy) cut() {
	p.set(func() { p.down = true })
	p.reset()
}

func (p *proxy) mend() {
	p.set(func() { p.down, p.apart, p.stalled, p.weather = false, false, false, weather{} })
}

// reset breaks the connections that there are.
func (p *proxy) reset() { p.breakLinks(func(*link) bool { return true }) }

// cutReplication keeps replicas from the server behind, and nobody else.
func (p *proxy) cutReplication() {
	p.set(func() { p.apart = true })
	p.breakLinks(func(l *link) bool { return l.replication })
}

func (p *proxy) breakLinks(which func(*link) bool) {
	p.mu.Lock()
	var broken []*link
	for l := range p.links {
		if which(l) {
			broken = append(broken, l)
		}
	}
	p.mu.Unlock()
	for _, l := range broken {
		l.end(true)
	}
}
