package hashing

// Here is full while something is derived in this process because others are late.
func (p *Pool) Here() chan struct{} { return p.here }

const Patience = patience
