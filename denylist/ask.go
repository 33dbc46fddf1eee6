package denylist

import (
	"context"
	"crypto/rand"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/script"
)

// ask sends commands to one server, and returns an error unless the answers are
// theirs. The commands have their own errors too.
//
// A connection whose replies have shifted would show the past, or another
// partition, as this one's present, and deny one token for another. A pipeline
// runs on one connection and in its order, so that what comes first tells whose
// replies these are.
func ask(ctx context.Context, node redis.UniversalClient, what func(redis.Pipeliner)) error {
	question := rand.Text()
	pipe := node.Pipeline()
	echo := pipe.Echo(ctx, question)
	what(pipe)
	_, _ = pipe.Exec(ctx)
	answer, err := echo.Result()
	if err == nil && answer != question {
		err = script.ErrReply
	}
	return err
}
