package redisconn

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// SetLogger sends what the Redis library prints (failed dials, Sentinel's
// switches) to l at debug level; the library's own default is standard error.
// Passwords of every URL that was given to [Open] are masked. A nil l silences
// the library. The setting is the library's and therefore the whole process's.
func SetLogger(l *slog.Logger) {
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	redis.SetLogger(logger{l})
}

type logger struct{ to *slog.Logger }

// Printf implements the library's logging interface.
func (l logger) Printf(ctx context.Context, format string, args ...any) {
	if !l.to.Enabled(ctx, slog.LevelDebug) {
		return
	}
	l.to.DebugContext(ctx, mask(fmt.Sprintf(format, args...)), "component", "go-redis")
}

// passwords are masked in errors and log lines. They get there by way of the
// server: one that does not know HELLO or AUTH, such as an old proxy, answers
// with an error that repeats the arguments.
var passwords struct {
	sync.RWMutex
	known map[string]struct{}
}

func remember(secrets ...string) {
	passwords.Lock()
	defer passwords.Unlock()
	if passwords.known == nil {
		passwords.known = make(map[string]struct{})
	}
	for _, s := range secrets {
		if s != "" {
			passwords.known[s] = struct{}{}
		}
	}
}

func mask(text string) string {
	passwords.RLock()
	defer passwords.RUnlock()
	for s := range passwords.known {
		text = strings.ReplaceAll(text, s, "xxxxx")
	}
	return text
}

// maskedError keeps its cause for errors.Is and errors.As, not for reading.
type maskedError struct {
	text  string
	cause error
}

func masked(err error) error {
	if err == nil {
		return nil
	}
	return &maskedError{mask(err.Error()), err}
}

func (e *maskedError) Error() string { return e.text }
func (e *maskedError) Unwrap() error { return e.cause }
