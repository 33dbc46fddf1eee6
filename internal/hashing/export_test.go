package hashing

import "time"

// Here is full while something is derived in this process because others are late.
func (p *Pool) Here() chan struct{} { return p.here }

// Rests waits until no process has anything to do, or reports false. What has been
// done to them before is done.
func (p *Pool) Rests(atMost time.Duration) bool {
	late := time.After(atMost)
	for range cap(p.idle) {
		select {
		case w := <-p.idle:
			defer func() { p.idle <- w }()
		case <-late:
			return false
		}
	}
	return true
}

const Patience = patience
