package verify

import (
	"context"
	"time"
)

// Source tells a [Replica] what was revoked. There are two: a *denylist.List
// for services that reach the Redis of the issuer, and [Remote] for all others.
//
// The interface consists of built-in types so that a source needs not import
// this package.
type Source interface {
	// Follow reports until ctx ends, and deals with all trouble in between by
	// itself. It calls the three functions from any number of goroutines.
	//
	// denied reports that an id (of a kind "sid", "jti" or "kid") is denied
	// until a moment. The same may be reported any number of times.
	//
	// current reports that everything that was denied in a partition until age
	// ago has been reported. Age is an upper bound. No news is no such report:
	// it must rest on a sign of life from the one who denies.
	//
	// trouble reports what went wrong, for a log.
	Follow(ctx context.Context,
		denied func(kind, id string, until time.Time),
		current func(partition int, age time.Duration),
		trouble func(error))
}
