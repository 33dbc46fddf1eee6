package script

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a client of one server.
type Server interface{ Pipeline() redis.Pipeliner }

// Ask sends commands to one server in one go, and returns an error unless the
// answers are theirs: [ErrReply], or why they did not come. The commands have
// their own errors too. It is for those who may be allowed no scripts.
//
// A pipeline runs on one connection and in its order, so that what comes last,
// an ECHO of something that nobody else has asked, tells whose all of the
// replies are.
func Ask(ctx context.Context, server Server, what func(redis.Pipeliner)) error {
	_, err := ask(ctx, server, what)
	return err
}

func ask(ctx context.Context, server Server, what func(redis.Pipeliner)) ([]redis.Cmder, error) {
	question := rand.Text()
	pipe := server.Pipeline()
	what(pipe)
	echo := pipe.Echo(ctx, question)
	asked, failed := pipe.Exec(ctx)
	answer, err := echo.Result()
	switch {
	case err == nil && answer == question:
	case err == nil && answer == "" && failed != nil:
		err = failed // there was no connection, which the library does not tell the commands
		for _, cmd := range asked {
			cmd.SetErr(err)
		}
	case err == nil, errors.Is(err, redis.Nil):
		err = ErrReply
	}
	return asked, err
}

// AskFor is [Ask] for the server that has the key, as all keys of the commands
// must. Any error of a command is its error. what is called once for each attempt.
//
// While the key's slot moves to another server of a Cluster, only the library
// knows whom to ask. Then the replies are not checked.
func AskFor(ctx context.Context, c redis.UniversalClient, key string, what func(redis.Pipeliner)) error {
	cluster, ok := c.(*redis.ClusterClient)
	if !ok {
		return askAll(ctx, c, what)
	}
	for pause := firstPause; ; pause *= 2 {
		node, err := cluster.MasterForKey(ctx, key)
		if err == nil {
			err = askAll(ctx, node, what)
		}
		switch {
		case err == nil:
			return nil
		case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"), redis.HasErrorPrefix(err, "TRYAGAIN"):
			_, err := cluster.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				what(pipe)
				return nil
			})
			return err
		case errors.Is(err, ErrReply), pause > lastPause, ctx.Err() != nil:
			return err
		}
		// The server is gone, or is none any more that may answer.
		cluster.ReloadState(ctx)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

const (
	firstPause = 5 * time.Millisecond
	lastPause  = 80 * time.Millisecond
)

func askAll(ctx context.Context, server Server, what func(redis.Pipeliner)) error {
	asked, err := ask(ctx, server, what)
	for _, cmd := range asked {
		if err == nil {
			err = cmd.Err()
		}
	}
	return err
}
