// Package gateways_test holds the gateways of deploy/ against what they are
// promised: a request with a good access token gets through, with the identity
// that authapi gave it and no other; nothing else gets through, whatever the
// client sends and whatever happens to authapi; and of authapi itself the world
// reaches what it should.
//
// What runs is nginx and Caddy with the very files that are shipped. Only
// addresses are replaced in them: authapi's, the service's, the gateway's.
//
// Each promise is a check: a function that returns what is wrong. The same
// checks are run once more with single lines taken out of the files, and must
// then find something (TestEveryLineCounts). So no line is there for show, and
// no check is blind.
package gateways_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/program"
)

func TestMain(m *testing.M) { program.Main(m) }

// problems is what a check has found wrong.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// each runs a test on each gateway, in one world.
func each(t *testing.T, f func(t *testing.T, w *world, g *gateway)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			k.need(t)
			w := newWorld(t)
			f(t, w, k.start(t, w))
		})
	}
}

// TestPromises runs all checks.
func TestPromises(t *testing.T) {
	each(t, func(t *testing.T, w *world, g *gateway) {
		t.Parallel()
		for _, c := range checks {
			t.Run(c.name, func(t *testing.T) {
				began := time.Now()
				for _, problem := range c.find(w, g) {
					t.Error(problem)
				}
				t.Logf("took %v", time.Since(began).Round(time.Millisecond))
			})
		}
	})
}
