package partition_test

import (
	"strings"
	"testing"

	"github.com/authapi/authapi/internal/partition"
)

// crc16 is the Cluster specification's checksum (CRC-16/XMODEM), written out
// here so that the tags are checked against the rule and not against a client.
func crc16(s string) uint16 {
	var crc uint16
	for i := range len(s) {
		crc ^= uint16(s[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

func TestTagsSpreadOverAnyNumberOfMasters(t *testing.T) {
	slots := make([]int, partition.Count)
	for p := range partition.Count {
		slots[p] = int(crc16(partition.ID(p).Tag()) % 16384)
	}
	for masters := 2; masters <= partition.Count; masters++ {
		used := make([]int, masters)
		for _, slot := range slots {
			used[slot*masters/16384]++
		}
		for m, n := range used {
			if n == 0 {
				t.Errorf("with %d masters, master %d holds no partition", masters, m)
			}
		}
	}
	for _, masters := range []int{2, 4, 8, 16} {
		used := make([]int, masters)
		for _, slot := range slots {
			used[slot*masters/16384]++
		}
		for m, n := range used {
			if n != partition.Count/masters {
				t.Errorf("with %d masters, master %d holds %d partitions", masters, m, n)
			}
		}
	}
}

func TestOfIsStableAndCoversEveryPartition(t *testing.T) {
	// Data at rest depends on this: if it changes, every user loses their sessions.
	for sub, want := range map[string]string{"alice": "q6", "bob": "5x", "demo": "uv"} {
		if got := partition.Of(sub).Tag(); got != want {
			t.Errorf("Of(%q) = %q, want %q", sub, got, want)
		}
	}
	seen := map[partition.ID]bool{}
	for i := range 1000 {
		seen[partition.Of(strings.Repeat("x", i))] = true
	}
	if len(seen) != partition.Count {
		t.Errorf("1000 subjects fell into %d partitions", len(seen))
	}
}

func TestOfSID(t *testing.T) {
	const body = "AAAAAAAAAAAAAAAAAAAA-_"
	for p := range partition.Count {
		id := partition.ID(p)
		if got, ok := partition.OfSID(id.Tag() + "." + body); !ok || got != id {
			t.Errorf("OfSID of %q: %v, %v", id.Tag(), got, ok)
		}
	}
	for _, bad := range []string{
		"", "18", "18." + body[1:], "18." + body + "A", "zz." + body, "18:" + body,
		"18." + body[:21] + "}", "18." + body[:21] + ":", "18." + body[:21] + "\n", "1\x00." + body,
	} {
		if _, ok := partition.OfSID(bad); ok {
			t.Errorf("OfSID accepted %q", bad)
		}
	}
}

func TestKeysOfOneUserShareASlot(t *testing.T) {
	keys := partition.Keys{Prefix: "authapi"}
	const sub = "alice"
	p := partition.Of(sub)
	for _, key := range []string{keys.Session(p, "x"), keys.User(sub), keys.Name(sub), keys.Account(sub), keys.Deny(p, "x"), keys.Feed(p), keys.Beat(p)} {
		open, end := strings.IndexByte(key, '{'), strings.IndexByte(key, '}')
		if key[open+1:end] != p.Tag() {
			t.Errorf("%s is not in partition %s", key, p.Tag())
		}
	}
}
