package throttle

import "time"

// Patient is a throttle for a machine that is busy with other tests: there Redis
// may be slow, and is asked all the same.
func (t *Throttle) Patient() *Throttle {
	t.patience = 10 * time.Second
	return t
}

// Apart reports whether what these tries are charged to has places of its own in
// the table that counts without Redis.
func (t *Throttle) Apart(tries ...Try) bool {
	taken := map[*time.Duration]string{}
	for _, try := range tries {
		for _, g := range []group{t.ofAccount(try.Account, try.DeviceKey), t.ofAddress(try.Address)} {
			for _, b := range g.budgets {
				place := t.local.place(b)
				if other, is := taken[place]; is && other != b.id {
					return false
				}
				taken[place] = b.id
			}
		}
	}
	return true
}
