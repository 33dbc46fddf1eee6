package faults_test

import (
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
)

// standalone is one Redis behind one proxy.
type standalone struct {
	node  *redistest.Node
	proxy *proxy
}

func (s *standalone) way() (string, []*proxy) {
	return "redis://" + s.proxy.addr + "/0", []*proxy{s.proxy}
}

// one starts a Redis with these further options.
func one(options ...string) func(t *testing.T, seed uint64) topology {
	return func(t *testing.T, seed uint64) topology {
		node := redistest.StartNode(t, func(*redistest.Node) []string { return options })
		return &standalone{node: node, proxy: newProxy(t, seed+100, node.Addr)}
	}
}

var (
	// What the kernel has been given survives the death of the server, and without
	// fsync the server gives it all before it answers. With everysec it may wait.
	durable  = one("--appendonly", "yes", "--appendfsync", "no")
	volatile = one("--appendonly", "no")
)

var rows = []row{
	{name: "nothing", on: durable, happen: func(d *deployment, f *fault) { f.sleep(f.lasts) }},
	{name: "replies of Redis lost", on: durable, happen: func(d *deployment, f *fault) {
		p := d.redis.(*standalone).proxy
		p.is(weather{loseReply: 0.08, loseRequest: 0.02, halfReply: 0.02, latency: 3 * time.Millisecond})
		f.sleep(f.lasts)
		p.mend()
		f.happened("a reply was lost", p.done.replies > 0 && p.done.requests > 0)
	}},
}
