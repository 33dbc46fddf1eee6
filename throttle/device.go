package throttle

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/authapi/authapi/internal/secret"
)

// DevicePrefix opens every device key.
const DevicePrefix = "authapi_dk_"

// DeviceLife is how long a device is known after its last login.
const DeviceLife = 180 * 24 * time.Hour

// device is one on which a user has logged in before. Its key opens nothing: it says
// that somebody who knew the account's password has had it, and is worth a budget
// of tries that no stranger can use up (device cookies, as OWASP calls them).
type device struct{ id [16]byte }

// DeviceKey makes the device key to hand out after a login. A device that has
// shown a genuine one keeps its budget; others get a new one. It is as secret as a
// refresh token: whoever has it can use up that device's tries.
func (t *Throttle) DeviceKey(account, shown string) string {
	d, known := t.open(shown, account)
	if !known {
		rand.Read(d.id[:])
	}
	return t.seal(d, account, time.Now())
}

// atIssued is where a device key carries when it was issued (Unix seconds, five
// bytes), behind the device's id.
const atIssued = 16

// seal makes a device key. The account is not in it, but under the MAC: the key
// tells nobody who has used the device.
func (t *Throttle) seal(d device, account string, now time.Time) string {
	var payload [secret.PayloadSize]byte
	copy(payload[:], d.id[:])
	var issued [8]byte
	binary.BigEndian.PutUint64(issued[:], uint64(now.Unix()))
	copy(payload[atIssued:], issued[3:])
	return t.devices.Seal(payload, account)
}

func (t *Throttle) open(text, account string) (device, bool) {
	payload, genuine := t.devices.Open(text, account)
	if !genuine {
		return device{}, false
	}
	var issued [8]byte
	copy(issued[3:], payload[atIssued:])
	if time.Since(time.Unix(int64(binary.BigEndian.Uint64(issued[:])), 0)) > DeviceLife {
		return device{}, false
	}
	return device{[16]byte(payload[:atIssued])}, true
}
