package throttle

import (
	"hash/maphash"
	"sync"
	"time"
)

// places is how many budgets a table can tell apart. With 8 bytes each it takes
// 128 KiB, however many names somebody invents.
const places = 1 << 14

// table counts in this process. It uses a clock that nobody sets.
type table struct {
	seed  maphash.Seed // nobody can choose a name that shares another's place
	start time.Time

	mu   sync.Mutex
	full [places]time.Duration // when a budget will be full again, since start
}

func newTable() *table { return &table{seed: maphash.MakeSeed(), start: time.Now()} }

func (t *table) place(b budget) *time.Duration {
	return &t.full[maphash.String(t.seed, b.id)%places]
}

// take takes one from each budget, or from none of them.
func (t *table) take(g group) []level {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Since(t.start)
	levels := make([]level, len(g.budgets))
	refused := false
	for i, b := range g.budgets {
		holds := b.rate.interval() * time.Duration(b.rate.N)
		full := max(*t.place(b), now)
		levels[i] = level{wait: max(0, full+b.rate.interval()-now-holds), full: full - now}
		refused = refused || levels[i].wait > 0
	}
	for i, b := range g.budgets {
		holds := b.rate.interval() * time.Duration(b.rate.N)
		if !refused {
			levels[i].full += b.rate.interval()
			*t.place(b) = now + levels[i].full
		}
		levels[i].left = int(max(0, holds-levels[i].full) / b.rate.interval())
	}
	return levels
}

func (t *table) refund(g group) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range g.budgets {
		*t.place(b) -= b.rate.interval()
	}
}
