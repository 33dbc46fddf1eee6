package secret

import "encoding/base64"

// SealVersion makes a token with another version number and a valid MAC.
func (o *Opaque) SealVersion(payload [PayloadSize]byte, bound string, version byte) string {
	b, _ := base64.RawURLEncoding.DecodeString(o.Seal(payload, bound)[len(o.prefix):])
	b[0] = version
	b = append(b[:atMAC], mac(o.macKeys[o.current], b[:atMAC], bound)...)
	return o.prefix + base64.RawURLEncoding.EncodeToString(b)
}
