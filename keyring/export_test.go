package keyring

import (
	"context"
	"time"
)

// Keep is how long a key verifies after it has signed for the last time.
const Keep time.Duration = keep

// FollowOnce does what Follow does at each tick, so that tests choose when.
func (r *Ring) FollowOnce(ctx context.Context) error { return r.follow(ctx) }
