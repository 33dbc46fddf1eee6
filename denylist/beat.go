package denylist

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
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
	var troubles [partition.Count]*trouble
	for p := range troubles {
		troubles[p] = troubleOf(partition.ID(p), report)
	}
	failed := func(p partition.ID, err error) {
		if ctx.Err() == nil {
			troubles[p].report(fmt.Errorf("beat: %w", err))
			l.reload(ctx)
		}
	}
	l.rounds(ctx, beatEvery, func(ctx context.Context, node redis.UniversalClient, there []partition.ID) {
		l.beat(ctx, node, there, failed)
	}, failed)
}

// beat writes the time of the server, unless the present beat is young.
//
// The time is asked for first and sent back, so that a beat that was delayed on
// its way (its server stood still and has been deposed meanwhile) says when it
// began and not when it arrived.
func (l *List) beat(ctx context.Context, node redis.UniversalClient, there []partition.ID, failed func(partition.ID, error)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var clock *redis.TimeCmd
	last := make([]*redis.StringCmd, len(there))
	asked := script.Ask(ctx, node, func(pipe redis.Pipeliner) {
		clock = pipe.Time(ctx)
		for i, p := range there {
			last[i] = pipe.Get(ctx, l.keys.Beat(p))
		}
	})
	now := clock.Val().UnixMilli()
	var due []partition.ID
	for i, p := range there {
		err := cmp.Or(asked, clock.Err(), last[i].Err())
		if err != nil && !errors.Is(err, redis.Nil) {
			failed(p, err)
			continue
		}
		// What is no number, or of the future since the clock was set back, is
		// overwritten.
		ms, _ := strconv.ParseInt(last[i].Val(), 10, 64)
		if age := now - ms; age < 0 || age >= beatAge.Milliseconds() {
			due = append(due, p)
		}
	}
	if len(due) == 0 {
		return
	}
	write := node.Pipeline()
	written := make([]*redis.StatusCmd, len(due))
	for i, p := range due {
		written[i] = write.Set(ctx, l.keys.Beat(p), now, beatTTL)
	}
	_, _ = write.Exec(ctx)
	for i, p := range due {
		err := written[i].Err()
		// On a full Redis denying goes on, and so must the signs of life, or
		// every verifier would take the feed for dead. A script may write there.
		if redis.HasErrorPrefix(err, "OOM") {
			_, err = setBeat.Run(ctx, node, []string{l.keys.Beat(p)}, now, beatTTL.Milliseconds())
		}
		if err != nil {
			failed(p, err)
		}
	}
}
