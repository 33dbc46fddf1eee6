package denylist

import (
	"context"
	"time"

	"github.com/authapi/authapi/internal/partition"
)

// BeatOnce writes a beat into one partition if one is due.
func (l *List) BeatOnce(ctx context.Context, p partition.ID) (err error) {
	node, err := l.node(ctx, p)
	if err == nil {
		l.beat(ctx, node, []partition.ID{p}, func(_ partition.ID, e error) { err = e })
	}
	return err
}

// Poll returns a function that reads the feed of one partition once.
func (l *List) Poll(p partition.ID, denied func(kind, id string, until time.Time)) func(context.Context) error {
	var failed error
	f := &follower{
		list: l, partition: p, denied: denied, heard: time.Now(),
		current: func(time.Duration) {}, trouble: troubleOf(p, func(err error) { failed = err }),
	}
	return func(ctx context.Context) error {
		node, err := l.node(ctx, p)
		if err == nil {
			poll(ctx, node, []*follower{f})
			err = failed
		}
		return err
	}
}
