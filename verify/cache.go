package verify

import (
	"hash/maphash"
	"math/bits"
	"strings"
	"sync/atomic"

	"github.com/authapi/authapi/tokens"
)

// cache remembers which tokens have been verified, so that the signature of a
// token is checked once and not with every request.
//
// It is a table of fixed size, in which a token has its place in one of four
// slots. Reading takes no lock and allocates nothing. A token is found by its
// whole text and nothing shorter: of a signature there may be several valid
// texts, and of a hash several pre-images. What was found is good for the key
// set it was verified with, and no other. Time and revocation are not the
// cache's business: whoever asks it must check both.
type cache struct {
	seed  maphash.Seed
	sets  [][ways]atomic.Pointer[verified]
	shift int
}

const (
	ways = 4
	// maxCached is the size in bytes of the largest token that is kept, so that
	// the cache has a limit in bytes too.
	maxCached = 2 << 10
)

type verified struct {
	hash   uint64
	token  string
	claims *tokens.Claims
	keys   *tokens.KeySet
}

// newCache makes a cache for at least so many tokens.
func newCache(size int) *cache {
	sets := 1 << bits.Len(uint((size-1)/ways))
	return &cache{
		seed:  maphash.MakeSeed(),
		sets:  make([][ways]atomic.Pointer[verified], sets),
		shift: 64 - bits.Len(uint(sets-1)),
	}
}

// get returns the claims of a token that one of these keys verified, or nil.
func (c *cache) get(token string, keys *tokens.KeySet) *tokens.Claims {
	if len(token) > maxCached {
		return nil
	}
	hash := maphash.String(c.seed, token)
	set := &c.sets[hash>>c.shift]
	for i := range set {
		if v := set[i].Load(); v != nil && v.hash == hash && v.token == token && v.keys == keys {
			return v.claims
		}
	}
	return nil
}

// put remembers a token that was verified. If its slots are taken, the token
// that expires first makes room.
func (c *cache) put(token string, keys *tokens.KeySet, claims *tokens.Claims) {
	if len(token) > maxCached {
		return
	}
	hash := maphash.String(c.seed, token)
	set := &c.sets[hash>>c.shift]
	victim := &set[0]
	var first *verified
	for i := range set {
		v := set[i].Load()
		if v == nil || v.hash == hash && v.token == token {
			victim = &set[i]
			break
		}
		if first == nil || v.claims.ExpiresAt.Before(first.claims.ExpiresAt) {
			first, victim = v, &set[i]
		}
	}
	// A copy: the text may be part of a larger one, which would be kept alive.
	victim.Store(&verified{hash, strings.Clone(token), claims, keys})
}
