package faults_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
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
	// What the kernel has been given survives the death of the server, and
	// without fsync the server gives it all before it answers.
	kept = one("--appendonly", "yes", "--appendfsync", "no")
	// Here it may put off writing for two seconds while the disk is busy.
	everysec = one("--appendonly", "yes", "--appendfsync", "everysec")
	// Nothing is kept but what is saved.
	unkept = one("--appendonly", "no")
)

func (f *fault) redis() *redistest.Node { return f.d.redis.(*standalone).node }

func (f *fault) path() *proxy { return f.d.redis.(*standalone).proxy }

// badPath makes the network before Redis bad.
func (f *fault) badPath(w weather) {
	p := f.path()
	p.is(w)
	time.Sleep(f.lasts)
	p.mend()
	for _, c := range []struct {
		what     string
		likely   float64
		happened int
	}{
		{"a request was lost", w.loseRequest, p.done.requests},
		{"a reply was lost", w.loseReply + w.halfReply, p.done.replies},
		{"a request came late", w.late, p.done.late},
		{"replies were shifted", w.shift, p.done.shifts},
	} {
		f.happened(c.what, c.likely == 0 || c.happened > 0)
	}
}

// badStreet makes the network before the service bad.
func (f *fault) badStreet(w weather) {
	lost, late := 0, 0
	for _, i := range f.d.instances {
		i.proxy.is(w)
	}
	time.Sleep(f.lasts)
	for _, i := range f.d.instances {
		i.proxy.mend()
		lost += i.proxy.done.replies
		late += i.proxy.done.late
	}
	f.happened("an answer was lost", lost > 0)
	f.happened("a request came late", w.late == 0 || late > 0)
}

// again repeats something for as long as the fault lasts, at least once.
func (f *fault) again(do func()) {
	for began := time.Now(); ; {
		do()
		if time.Since(began) >= f.lasts {
			return
		}
	}
}

func redisKilled(f *fault, perhapsLost time.Duration) {
	f.again(func() {
		dying := time.Now()
		f.redis().Kill()
		dead := time.Now()
		time.Sleep(f.short(500 * time.Millisecond))
		f.redis().Restart()
		back := time.Now()
		if perhapsLost > 0 {
			f.d.record.lost(loss{savedFrom: dying.Add(-perhapsLost), savedUntil: dead, backFrom: dying, backUntil: back})
		}
		time.Sleep(f.short(time.Second))
	})
}

// short is a time up to d, at random.
func (f *fault) short(d time.Duration) time.Duration {
	return d/4 + time.Duration(f.rnd.Int64N(int64(d*3/4)))
}

// snapshotRestored brings back a state that is some time old.
func snapshotRestored(f *fault) {
	n := f.redis()
	ctx := context.Background()
	before := time.Now()
	if err := n.Client.Save(ctx).Err(); err != nil {
		f.t.Fatal(err)
	}
	after := time.Now()
	snapshot, err := os.ReadFile(filepath.Join(n.Folder, "dump.rdb"))
	if err != nil {
		f.t.Fatal(err)
	}
	time.Sleep(f.lasts)
	dying := time.Now()
	n.Kill()
	if err := os.WriteFile(filepath.Join(n.Folder, "dump.rdb"), snapshot, 0o600); err != nil {
		f.t.Fatal(err)
	}
	n.Restart()
	f.d.record.lost(loss{savedFrom: before, savedUntil: after, backFrom: dying, backUntil: time.Now()})
}

// redisFull: whoever has a session can go on and can log out, and new logins
// are refused.
func redisFull(f *fault) {
	n, r := f.redis(), f.d.record
	ctx := context.Background()
	set := func(limit string) {
		if err := n.Client.ConfigSet(ctx, "maxmemory", limit).Err(); err != nil {
			f.t.Fatal(err)
		}
	}
	set("1")
	full := time.Now()
	time.Sleep(f.lasts)
	freed := time.Now()
	set("0")
	logins, refreshes, trouble := 0, 0, 0
	for _, l := range r.all() {
		l.mu.Lock()
		for _, e := range l.events {
			switch within := e.call.After(full) && e.back.Before(freed); {
			case !within:
			case e.op == login:
				logins++
			case e.op == refresh && e.known && e.refusal == "":
				refreshes++
			case e.op == refresh && !e.known:
				trouble++
			}
		}
		l.mu.Unlock()
	}
	if logins > 0 {
		f.t.Errorf("%d logins on a full Redis", logins)
	}
	f.happened("a refresh on a full Redis", refreshes > 0)
	f.t.Logf("on a full Redis %d refreshes, and %d that failed", refreshes, trouble)
	if info := n.Client.Info(ctx, "stats").Val(); !strings.Contains(info, "evicted_keys:0\r\n") {
		f.t.Errorf("keys were evicted:\n%s", info)
	}
}

func clockStepped(f *fault, by time.Duration) {
	f.d.clockOff.Store(true)
	move := func(by time.Duration) {
		done := f.d.record.stepped(by)
		f.redis().Advance(by)
		done()
	}
	move(by)
	time.Sleep(f.lasts)
	move(-by)
}

func scriptsFlushed(f *fault) {
	var flushes atomic.Int64
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
				if f.redis().Client.ScriptFlush(context.Background()).Err() == nil {
					flushes.Add(1)
				}
			}
		}
	}()
	time.Sleep(f.lasts)
	close(stop)
	<-ended
	f.happened("scripts were flushed", flushes.Load() > 0)
}

func redisPaused(f *fault) {
	f.redis().Pause()
	time.Sleep(min(f.lasts, 30*time.Second))
	f.redis().Resume()
}

func pathStalled(f *fault) {
	f.path().set(func() { f.path().stalled = true })
	time.Sleep(min(f.lasts, 30*time.Second))
	f.path().mend()
}

func instanceKilled(f *fault) {
	f.again(func() {
		i := f.d.anyInstance(f.rnd)
		i.kill()
		time.Sleep(f.short(200 * time.Millisecond))
		i.start()
		time.Sleep(f.short(time.Second))
	})
}

func instanceFrozen(f *fault) {
	i := f.d.anyInstance(f.rnd)
	i.freeze()
	time.Sleep(min(f.lasts, 2*time.Minute))
	i.signal(syscall.SIGCONT)
}

func rollingRestart(f *fault) {
	f.again(func() {
		for _, i := range f.d.instances {
			i.stop()
			i.start()
			time.Sleep(f.short(500 * time.Millisecond))
		}
	})
}

var rows = []row{
	{name: "nothing", on: kept, happen: func(f *fault) { time.Sleep(f.lasts) }},
	{number: 40, name: "answers to clients lost", on: kept, happen: func(f *fault) {
		f.badStreet(weather{loseReply: 0.1, loseRequest: 0.05, halfReply: 0.03, latency: 10 * time.Millisecond})
	}},
	{number: 18, name: "requests of clients late", on: kept, happen: func(f *fault) {
		f.badStreet(weather{loseReply: 0.05, late: 0.1, lateness: 300 * time.Millisecond})
	}},
	{number: 19, name: "replies of Redis lost", on: kept, happen: func(f *fault) {
		f.badPath(weather{loseReply: 0.08, loseRequest: 0.02, halfReply: 0.02, latency: 3 * time.Millisecond})
	}},
	{number: 19, name: "commands to Redis late", on: kept, happen: func(f *fault) {
		f.badPath(weather{loseReply: 0.03, late: 0.05, lateness: 300 * time.Millisecond})
	}},
	{number: 41, name: "replies of Redis shifted", on: kept, happen: func(f *fault) {
		f.badPath(weather{shift: 0.05})
	}},
	{number: 39, name: "connections reset", on: kept, happen: func(f *fault) {
		f.again(func() {
			f.path().reset()
			f.d.anyInstance(f.rnd).proxy.reset()
			time.Sleep(f.short(100 * time.Millisecond))
		})
	}},
	{number: 32, name: "Redis cut off", on: kept, happen: func(f *fault) {
		f.path().cut()
		time.Sleep(f.lasts)
		f.path().mend()
	}},
	{number: 32, name: "Redis does not answer", on: kept, happen: pathStalled},
	{number: 39, name: "Redis paused", on: kept, happen: redisPaused},
	{name: "Redis killed, restarted with AOF", on: kept, happen: func(f *fault) { redisKilled(f, 0) }},
	{name: "the same, fsync every second", on: everysec, happen: func(f *fault) { redisKilled(f, 3*time.Second) }},
	{number: 20, name: "older snapshot restored", on: unkept, happen: snapshotRestored},
	{number: 33, name: "SCRIPT FLUSH all the time", on: kept, happen: scriptsFlushed},
	{number: 36, name: "Redis full", on: kept, happen: redisFull},
	{number: 38, name: "clock of Redis stepped back", on: kept, happen: func(f *fault) { clockStepped(f, -5*time.Second) }},
	{number: 38, name: "clock of Redis an hour back", on: kept, happen: func(f *fault) { clockStepped(f, -time.Hour) }},
	{number: 38, name: "clock of Redis an hour ahead", on: kept, happen: func(f *fault) { clockStepped(f, time.Hour) }},
	{name: "instance killed", on: kept, happen: instanceKilled},
	{name: "instance frozen", on: kept, happen: instanceFrozen},
	{number: 25, name: "rolling restart", on: kept, happen: rollingRestart},
	{number: 34, name: "Sentinel failover, replication cut first", on: underSentinels, happen: primaryLost},
	{number: 34, name: "the same, with WAIT", on: underSentinels, happen: primaryLost, replicas: 1},
	{number: 34, name: "Sentinel failover, the deposed primary wakes", on: underSentinels, happen: primaryDeposed},
	{number: 34, name: "Cluster, a master is killed", on: ofSix, happen: masterKilled},
	{number: 34, name: "Cluster, a master is killed, with WAIT", on: ofSix, happen: masterKilled, replicas: 1},
	{number: 35, name: "Cluster, CLUSTER FAILOVER", on: ofSix, happen: masterReplaced},
	{number: 35, name: "Cluster, slots moved", on: ofSix, happen: slotMoved},
}
