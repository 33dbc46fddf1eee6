package throttle

import "time"

// Patient is a throttle for a machine that is busy with other tests: there Redis
// may be slow, and is asked all the same.
func (t *Throttle) Patient() *Throttle {
	t.patience = 10 * time.Second
	return t
}
