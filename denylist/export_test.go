package denylist

import (
	"context"
	"time"

	"github.com/authapi/authapi/internal/partition"
)

// BeatOnce writes a beat into each of these partitions where one is due. They
// must lie on one server.
func (l *List) BeatOnce(ctx context.Context, there ...partition.ID) (err error) {
	node, err := l.node(ctx, there[0])
	if err == nil {
		l.beat(ctx, node, there, func(_ partition.ID, e error) { err = e })
	}
	return err
}

// Poll returns a function that reads a page of the feed of each partition. They
// must lie on one server.
func (l *List) Poll() func(context.Context) error {
	var failed error
	var all []*follower
	for p := range partition.ID(partition.Count) {
		all = append(all, &follower{
			list: l, partition: p, heard: time.Now(),
			denied: func(string, string, time.Time) {}, current: func(time.Duration) {}, doubt: func() {},
			trouble: troubleOf(p, func(err error) { failed = err }),
		})
	}
	return func(ctx context.Context) error {
		node, err := l.node(ctx, 0)
		if err == nil {
			poll(ctx, node, all)
			err = failed
		}
		return err
	}
}
