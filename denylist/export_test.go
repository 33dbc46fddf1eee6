package denylist

import (
	"context"
	"time"

	"github.com/authapi/authapi/internal/partition"
)

// BeatOnce writes a beat into one partition if one is due.
func (l *List) BeatOnce(ctx context.Context, p partition.ID) error { return l.beat(ctx, p) }

// Poll returns a function that reads the feed of one partition once.
func (l *List) Poll(p partition.ID, denied func(kind, id string, until time.Time)) func(context.Context) error {
	f := &follower{
		list: l, partition: p, denied: denied, heard: time.Now(),
		current: func(time.Duration) {}, trouble: troubleOf(p, func(error) {}),
	}
	return func(ctx context.Context) error {
		_, err := f.poll(ctx)
		return err
	}
}
