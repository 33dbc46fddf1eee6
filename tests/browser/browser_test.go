// Package browser_test drives a real Chromium against the real program on a real
// Redis, with TLS in front, so that __Host- cookies, sites and origins are what
// browsers make of them.
//
//	tabs.mjs     the client (clients/js): one tab, many tabs, a logout, a stuck lock
//	hostile.mjs  what pages of another site and of a sibling subdomain can do
//	page.mjs     the embedded page: the whole walk, and axe-core
//
// Each .mjs file is run by node; what only the server knows is checked here.
//
//	go test ./tests/browser -tabs.for 5m    ten tabs for longer
//	go test ./tests/browser -screenshots    writes docs/screenshots
package browser_test

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/tests/nodetest"
	"github.com/authapi/authapi/tests/program"
)

var (
	tabsFor     = flag.Duration("tabs.for", 5*time.Second, "how long ten tabs refresh at once")
	screenshots = flag.Bool("screenshots", false, "write docs/screenshots")
)

// patience is for a browser beside whatever else a machine does: a minute may be
// no more than it needs.
const patience = 5 * time.Minute

func TestMain(m *testing.M) { program.Main(m) }

// The lives are as short as they can be, so that many refreshes fit into the test.
const shortClients = `clients:
  - id: web
    type: public
    transport: cookie
    origins: ["%s"]
    lifetimes: {access: 3s, idle: 10m, absolute: 1h}
    retry_window: 1s
`

func TestTabs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shortClients)
	nodetest.Run(t, "tabs.mjs", *tabsFor+patience, w.environ("TABS_FOR="+tabsFor.String())...)
	w.soundChains(t)
	if n := strings.Count(w.program.Log(), "refresh token reused"); n != 0 {
		t.Errorf("%d reuse alarms, and nobody was a thief", n)
	}
	if w.refreshes() < 5 {
		t.Errorf("only %d refreshes: nothing was tested", w.refreshes())
	}
	t.Logf("%d refreshes asked for", w.refreshes())
}

func TestHostilePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shortClients)
	nodetest.Run(t, "hostile.mjs", patience, w.environ()...)
	w.soundChains(t)
	asked := 0
	for _, e := range w.exchanges() {
		if !strings.Contains(e.origin, "evil") {
			continue
		}
		asked++
		if e.method != "GET" && e.method != "OPTIONS" && e.status < 400 {
			t.Errorf("%s %s from %s: %d", e.method, e.path, e.origin, e.status)
		}
		if e.cookie != "" || e.allowed != "" {
			t.Errorf("%s %s from %s: sets %q, allows %q", e.method, e.path, e.origin, e.cookie, e.allowed)
		}
	}
	if asked < 20 {
		t.Errorf("only %d hostile requests have arrived: nothing was tested", asked)
	}
	t.Logf("%d hostile requests have arrived", asked)
}

func TestPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	folder := ""
	if *screenshots {
		var err error
		folder, err = filepath.Abs("../../docs/screenshots")
		must(t, err)
	}
	nodetest.Run(t, "page.mjs", patience, w.environ("SCREENSHOTS="+folder)...)
	if n := strings.Count(w.program.Log(), "refresh token reused"); n != 2 {
		t.Errorf("%d reuse alarms, want 2: the thief is caught, and so is the phone that comes second", n)
	}
}
