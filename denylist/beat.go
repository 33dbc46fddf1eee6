package denylist

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/script"
)

const (
	// beatEvery is how often each instance sees to the beats, and beatAge how
	// old the present one must be for another to be written. As long as the one
	// is longer than the other, a hundred instances write no more than two do.
	beatEvery = 200 * time.Millisecond
	beatAge   = 150 * time.Millisecond

	// beatTTL is how long the last beat stays when nobody beats any more.
	beatTTL = 10 * time.Second

	// patience is how long a server may take for one poll or one beat. A server
	// that hangs then costs an error, and the next attempt may find another.
	patience = time.Second
)

var (
	//go:embed beat.lua
	beatLua string

	// On a full Redis denying goes on, and so must the signs of life, or every
	// verifier would take the feed for dead.
	setBeat = script.New(beatLua, script.OnFullRedis)
)

// Beat writes signs of life into every partition, about five times a second,
// until ctx ends. By them those who [List.Follow] know that what they have read
// is all there is. Every instance that denies should beat; they see each
// other's beats, and write no more often together than alone.
//
// A partition's trouble is given to report, the same not more than once in ten
// seconds; the partitions call report at the same time. The client must heed
// the deadlines of contexts (ContextTimeoutEnabled).
func (l *List) Beat(ctx context.Context, report func(error)) {
	everywhere(func(p partition.ID) {
		trouble := troubleOf(p, report)
		// Instances that started together, and partitions of one server, do not
		// all ask at the same moment.
		pause(ctx, rand.N(beatEvery))
		ticker := time.NewTicker(beatEvery)
		defer ticker.Stop()
		for ctx.Err() == nil {
			if err := l.beat(ctx, p); err != nil && ctx.Err() == nil {
				trouble.report(fmt.Errorf("beat: %w", err))
				l.reload(ctx)
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
}

// beat writes the time of the server, unless the present beat is young.
//
// The time is asked for first and sent back, so that a beat that was delayed on
// its way (its server stood still and has been deposed meanwhile) says when it
// began and not when it arrived.
func (l *List) beat(ctx context.Context, p partition.ID) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	node, err := l.node(ctx, p)
	if err != nil {
		return err
	}
	pipe := node.Pipeline()
	last, clock := pipe.Get(ctx, l.keys.Beat(p)), pipe.Time(ctx)
	_, _ = pipe.Exec(ctx) // the commands have their errors
	if err := last.Err(); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	if err := clock.Err(); err != nil {
		return err
	}
	now := clock.Val().UnixMilli()
	// What is no number, or of the future since the clock was set back, is
	// overwritten.
	ms, _ := strconv.ParseInt(last.Val(), 10, 64)
	if age := now - ms; 0 <= age && age < beatAge.Milliseconds() {
		return nil
	}
	return setBeat.Run(ctx, node, []string{l.keys.Beat(p)}, now, beatTTL.Milliseconds()).Err()
}
