package hashing

// Here is full while something is derived in this process because others are late.
func (p *Pool) Here() chan struct{} { return p.here }

// Idle is how many processes wait for work, or to be started.
func (p *Pool) Idle() int { return len(p.idle) }

const Patience = patience
