// Package partition says where in Redis everything about a user lives, and
// what each key is called.
//
// Call [Of] with a subject to get its partition, and the methods of [Keys] to
// get key names.
//
// A partition is one of sixteen groups of users. Its tag is the hash tag of
// every key in the group, so that on a Cluster one script may touch a user's
// sessions, index, denylist entries and feed together. The tags were chosen so
// that their slots lie in the middle of the sixteen equal parts of the slot
// range: they spread evenly over 2 to 16 masters, which natural tags ({0},
// {1}, ...) do not. The number is a constant: data written to one Redis stays
// valid when that Redis becomes a Cluster.
//
// The names are a contract with other programs (docs/redis-keys.md). The
// package knows nothing of what the keys hold.
package partition

import "crypto/sha256"

// Count is the number of partitions.
const Count = 16

var tags = [Count]string{
	"18", "5x", "dj", "3r", "d2", "pv", "uh", "iy",
	"ly", "h9", "uv", "q6", "9s", "5f", "dt", "ha",
}

// ID names a partition, 0 to Count-1.
type ID uint8

// Of returns the partition of a subject (or of an account name: the two share
// one rule, so that an account can be given a subject in its own partition).
func Of(sub string) ID {
	sum := sha256.Sum256([]byte(sub))
	return ID(sum[0] & (Count - 1))
}

// Tag returns the partition's hash tag, two characters.
func (p ID) Tag() string { return tags[p%Count] }

// OfSID returns the partition that a session id names in its first characters.
// It reports false if sid has not the form of a session id.
func OfSID(sid string) (ID, bool) {
	const length = 2 + 1 + 22
	if len(sid) != length || sid[2] != '.' {
		return 0, false
	}
	for i := 3; i < length; i++ {
		if !isBase64URL(sid[i]) {
			return 0, false
		}
	}
	for i, tag := range tags {
		if sid[:2] == tag {
			return ID(i), true
		}
	}
	return 0, false
}

// isBase64URL keeps anything out of key names that could end a hash tag or
// forge another key's name.
func isBase64URL(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
