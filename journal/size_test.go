package journal_test

import (
	"crypto/rand"
	"encoding/base64"
	"runtime"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/journal"
	"github.com/authapi/authapi/refresh"
)

// However much is revoked, the journal stays as large as the package comment says.
func TestMemoryIsBounded(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	j := journal.New()
	for range 120_000 {
		var id [16]byte
		rand.Read(id[:])
		sid := partition.ID(id[0]&15).Tag() + "." + base64.RawURLEncoding.EncodeToString(id[:])
		j.Ended(sid, refresh.Logout, time.Now().Add(time.Minute))
	}
	grown := int64(heap()) - int64(before)
	t.Logf("%d revocations in %d KiB", j.Len(), grown>>10)
	if n := j.Len(); n != 50_000 {
		t.Errorf("%d are remembered", n)
	}
	if grown > 20<<20 {
		t.Errorf("they take %d KiB", grown>>10)
	}
	runtime.KeepAlive(j)
}
