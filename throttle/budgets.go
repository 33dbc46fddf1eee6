package throttle

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"time"

	"github.com/authapi/authapi/internal/partition"
)

const day = 24 * time.Hour

// group is the budgets of a try that lie in one partition, and are charged
// together or not at all.
type group struct {
	partition partition.ID
	budgets   []budget
	local     bool // counted in this process
}

type budget struct {
	name string
	id   string // what is counted, as a keyed hash
	rate Rate
}

// ofAccount is what is left to the account's owner, on this device if it is one
// of theirs, and otherwise on all that are not.
func (t *Throttle) ofAccount(account, deviceKey string) group {
	g := group{partition: partition.Of(account)}
	if t.account == (Rate{}) {
		return g
	}
	name, id := "account", account
	if d, ok := t.open(deviceKey, account); ok {
		name, id = "device", account+"\x00"+string(d.id[:])
	}
	// The day's comes first: it is the wider one. Where the rate itself is that
	// slow, it says nothing.
	if inADay := (Rate{N: 10 * t.account.N, Per: day}); inADay.interval() > t.account.interval() {
		g.budgets = append(g.budgets, t.budget(name+"-day", id, inADay))
	}
	g.budgets = append(g.budgets, t.budget(name, id, t.account))
	return g
}

// ofAddress is what is left to an address. Whoever has one IPv6 address has at
// least 2^64 of them, and often 2^80.
func (t *Throttle) ofAddress(address netip.Addr) group {
	if t.address == (Rate{}) {
		return group{}
	}
	address = address.Unmap().WithZone("")
	if !address.Is6() {
		id := address.String()
		return group{partition: partition.Of(id), budgets: []budget{t.budget("address", id, t.address)}}
	}
	network, _ := address.Prefix(48) // no error: IPv6 has as many bits
	narrow, _ := address.Prefix(64)
	return group{partition: partition.Of(network.String()), budgets: []budget{
		t.budget("network", network.String(), Rate{N: 10 * t.address.N, Per: t.address.Per}),
		t.budget("address", narrow.String(), t.address),
	}}
}

func (t *Throttle) budget(name, id string, rate Rate) budget {
	h := hmac.New(sha256.New, t.names)
	h.Write([]byte(name + "\x00" + id))
	return budget{name: name, id: base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]), rate: rate}
}

// locally is the same group with the share that this process may give out on its
// own.
func (g group) locally() group {
	g.local = true
	reduced := make([]budget, len(g.budgets))
	for i, b := range g.budgets {
		b.rate.N = max(1, b.rate.N/4)
		reduced[i] = b
	}
	g.budgets = reduced
	return g
}
