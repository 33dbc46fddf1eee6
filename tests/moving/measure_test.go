package moving_test

import (
	"flag"
	"fmt"
	"runtime"
	"testing"
	"time"
)

var measureFor = flag.Duration("measure", 300*time.Millisecond, "how long each application is asked")

// TestMeasureTheGuardedRoute asks GET /me of each example and of the same
// application with express-session and Redis, in turns, and prints what they
// answer in a second. The default is too short for figures; try
//
//	go test ./tests/moving -v -run Measure -measure 30s
//
// All run on the same terms: two processes on one processor, while those who
// ask, the service and Redis have the other one. So what is measured is what the
// applications do themselves; the round trip to Redis costs its sender, and what
// Redis does is not counted.
func TestMeasureTheGuardedRoute(t *testing.T) {
	d := deploy(t)
	for _, match := range []struct{ name, ours, theirs string }{
		{"Express", "express", "brief/express.cjs"},
		{"NestJS", "nestjs", "brief/dist/nest.js"},
	} {
		t.Run(match.name, func(t *testing.T) {
			d := *d
			d.t = t
			ours, theirs := d.ours(match.ours), d.theirs(match.theirs)
			undo, err := bindMyself(runtime.NumCPU() - 1)
			if err != nil {
				t.Fatal(err)
			}
			defer undo()
			// Short turns, so that whatever else the machine does befalls both.
			turns := int(*measureFor/turn) + 1
			for i := range warmUp + turns {
				for _, c := range []*contestant{ours, theirs} {
					before := c.processorTime()
					result, err := hammer(c.questions, min(turn, *measureFor))
					if err != nil {
						t.Fatal(err)
					}
					if i >= warmUp {
						c.add(result)
						c.worked += c.processorTime() - before
					}
				}
			}
			for _, c := range []*contestant{ours, theirs} {
				if c.requests == 0 {
					t.Fatalf("nothing was answered; %d times 503", c.unsure)
				}
			}
			t.Logf("with this service %s, with express-session and Redis %s: %.2f times the requests",
				ours, theirs, ours.perSecond()/theirs.perSecond())
		})
	}
}

const (
	turn   = 250 * time.Millisecond
	warmUp = 4 // turns for the compilers
)

// A user may have 20 sessions, and each asks on two connections.
const connections, sessions = 32, 16

// ours is an example.
func (d *deployment) ours(name string) *contestant {
	d.t.Helper()
	return contest(func() *program {
		p := d.node(name, applications[name], 0)
		d.wait(p)
		return p
	}, func(p *program) (header string) {
		return "Authorization: Bearer " + in(d.t, p).access
	}, `{"user":{"id":"42","roles":["user"]}}`)
}

// theirs is what people come from.
func (d *deployment) theirs(script string) *contestant {
	d.t.Helper()
	return contest(func() *program {
		return d.old(0, script)
	}, func(p *program) (header string) {
		return "Cookie: " + oldLogin(d.t, p)
	}, `{"user":{"id":1,"role":"user"}}`)
}

func contest(start func() *program, login func(*program) (header string), answer string) *contestant {
	c := &contestant{processes: []*program{start(), start()}}
	for i := range sessions {
		p := c.processes[i%2]
		q := ask(p.address, "/me", login(p), answer)
		for range connections / sessions {
			c.questions = append(c.questions, q)
		}
	}
	return c
}

// contestant is an application, what it is asked, and what came of it.
type contestant struct {
	processes []*program
	questions []question
	load
	worked time.Duration // of the processor, by the processes
}

func (c *contestant) processorTime() (sum time.Duration) {
	for _, p := range c.processes {
		sum += processorTime(p.cmd.Process.Pid)
	}
	return sum
}

func (c *contestant) String() string {
	return fmt.Sprintf("%.0f requests/s (p99 %.1f ms, %d µs of the processor each, %d times 503)",
		c.perSecond(), quantile(c.each, 0.99).Seconds()*1000, c.worked.Microseconds()/int64(c.requests+c.unsure), c.unsure)
}
