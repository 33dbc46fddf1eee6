package throttle

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/authapi/authapi/internal/secret"
)

// DevicePrefix opens every device key.
const DevicePrefix = "authapi_dk_"

// DeviceLife is how long a device is known after its last login.
const DeviceLife = 180 * 24 * time.Hour

// The binary device key. 42 bytes are exactly 56 characters of base64: no spare
// bits, so every key has one spelling only.
const (
	deviceVersion = 1

	atSecret   = 1
	atDevice   = atSecret + len(secret.ID{})
	atIssued   = atDevice + 16
	atMAC      = atIssued + 5
	deviceSize = atMAC + 16

	deviceTextSize = len(DevicePrefix) + deviceSize*4/3
)

// device is one on which a user has logged in before.
type device struct{ id [16]byte }

// deviceKeys makes and recognises device keys. A device key opens nothing: it says
// that somebody who knew the account's password has had it, and is worth a budget
// of tries that no stranger can use up (device cookies, as OWASP calls them).
type deviceKeys struct {
	current secret.ID
	macKeys map[secret.ID][]byte
}

func newDeviceKeys(secrets [][]byte) (*deviceKeys, error) {
	if len(secrets) == 0 {
		return nil, errors.New("no secret")
	}
	k := &deviceKeys{macKeys: map[secret.ID][]byte{}}
	for i, s := range secrets {
		id, err := secret.IDOf(s)
		if err != nil {
			return nil, err
		}
		if k.macKeys[id], err = secret.Derive(s, "device-mac/v1"); err != nil {
			return nil, err
		}
		if i == 0 {
			k.current = id
		}
	}
	return k, nil
}

// DeviceKey makes the device key to hand out after a login. A device that has
// shown a genuine one keeps its budget; others get a new one. It is as secret as a
// refresh token: whoever has it can use up that device's tries.
func (t *Throttle) DeviceKey(account, shown string) string {
	d, known := t.devices.open(shown, account)
	if !known {
		rand.Read(d.id[:])
	}
	return t.devices.seal(d, account, time.Now())
}

// The account is not in the key, but under the MAC: the key tells nobody who has
// used the device.
func (k *deviceKeys) seal(d device, account string, now time.Time) string {
	b := make([]byte, atMAC, deviceSize)
	b[0] = deviceVersion
	copy(b[atSecret:], k.current[:])
	copy(b[atDevice:], d.id[:])
	var issued [8]byte
	binary.BigEndian.PutUint64(issued[:], uint64(now.Unix()))
	copy(b[atIssued:], issued[3:])
	b = append(b, deviceMAC(k.macKeys[k.current], b, account)...)
	return DevicePrefix + base64.RawURLEncoding.EncodeToString(b)
}

func (k *deviceKeys) open(text, account string) (device, bool) {
	if len(text) != deviceTextSize || text[:len(DevicePrefix)] != DevicePrefix {
		return device{}, false
	}
	var b [deviceSize]byte
	n, err := base64.RawURLEncoding.Decode(b[:], []byte(text[len(DevicePrefix):]))
	if err != nil || n != deviceSize || b[0] != deviceVersion {
		return device{}, false
	}
	key, ok := k.macKeys[secret.ID(b[atSecret:atDevice])]
	if !ok || !hmac.Equal(deviceMAC(key, b[:atMAC], account), b[atMAC:]) {
		return device{}, false
	}
	var issued [8]byte
	copy(issued[3:], b[atIssued:atMAC])
	if time.Since(time.Unix(int64(binary.BigEndian.Uint64(issued[:])), 0)) > DeviceLife {
		return device{}, false
	}
	return device{[16]byte(b[atDevice:atIssued])}, true
}

func deviceMAC(key, message []byte, account string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message) // of fixed length: nothing can move between it and the name
	h.Write([]byte(account))
	return h.Sum(nil)[:16]
}
