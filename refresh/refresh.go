// Package refresh keeps sessions and their refresh tokens in Redis.
//
// Call [New], then [Store.Create] at login, [Store.Rotate] for each refresh,
// and [Store.End] or [Store.EndAll] for a logout. [Store.Parse] tells, without
// asking Redis, whether a token is genuine and which session it belongs to.
//
// A session is one login on one device: one hash, however many refreshes. Its
// tokens are not stored. A token carries a random seed (the session), a
// generation (how many rotations preceded it) and a MAC over both. The hash
// holds the current generation. So a token has exactly one successor, the same
// one each time it is asked for, and a genuine token with an old generation
// proves a replay with no history kept. What follows from the difference of
// the two numbers is decided by one script, rotate.lua, in one round trip, by
// the clock of Redis. docs/rotation.md has the table.
//
// Every script may be cut off anywhere and run again, by the Redis client or
// by a later request, and reaches the same state.
//
// The package does not sign access tokens: a [Grant] says what such a token
// must contain. It does not decide who may log in, and knows clients only by
// the [Policy] that comes with each session.
package refresh

import (
	"errors"
	"fmt"
	"time"

	"github.com/authapi/authapi/internal/script"
)

// Transport is how a client keeps its refresh token, and so how the token must
// arrive: a token bound to a cookie is worth nothing in a body.
type Transport string

// The transports, as the session stores them.
const (
	Body   Transport = "b"
	Cookie Transport = "c"
	// Authenticated is a body beside the client's own credentials: whoever
	// steals such a token needs those too.
	Authenticated Transport = "a"
)

// Policy is what a client's sessions are subject to. A session carries its own
// copy, taken when it was created and renewed when it is refreshed.
type Policy struct {
	Transport Transport

	// Window is how long after a rotation a client that cannot name its
	// retries (no retry key, or a cookie shared by tabs) gets the same
	// successor again. 0 gives no such grace.
	Window time.Duration

	// Idle is how long a session lives without a refresh. Absolute is how long
	// it lives at most, however often it is refreshed; it is fixed at login.
	// Whole seconds.
	Idle, Absolute time.Duration

	// Access is the lifetime of an access token. Whole seconds, at most
	// tokens.MaxLifetime.
	Access time.Duration

	// Sessions is how many a user may have. The oldest ends to make room.
	Sessions int

	// Audience is whom access tokens are for, separated by spaces; "" if that
	// is not for the client to say.
	Audience string
}

// Reason says why a session was ended. It is stored in the tombstone.
type Reason string

// Why sessions end.
const (
	Logout   Reason = "logout"
	Reused   Reason = "reused"   // a spent refresh token was presented
	Removed  Reason = "removed"  // by the user, from another session
	Limited  Reason = "limited"  // to make room for a newer one
	Disabled Reason = "disabled" // the account was disabled
	Password Reason = "password" // the password was changed
	Admin    Reason = "admin"    // by an operator
	Asserted Reason = "asserted" // it had ended before, and Redis had forgotten; why is not known
)

// Refusals. They say that the request must not succeed; anything else that a
// method returns says that the store could not tell.
var (
	// ErrToken means that the text is no token of this service.
	ErrToken = errors.New("refresh: not a genuine refresh token")
	// ErrExpired means that the session is over or unknown.
	ErrExpired = errors.New("refresh: session expired")
	// ErrEnded means that the session was ended.
	ErrEnded = errors.New("refresh: session ended")
	// ErrReused means that the session was ended because a spent token was
	// presented. If it was this call's, the error is a *[ReuseError].
	ErrReused = errors.New("refresh: refresh token reused")
	// ErrLate means that the request repeats one whose answer is several
	// rotations old. Nobody waits for it any more; nothing was changed.
	ErrLate = errors.New("refresh: late duplicate")
	// ErrClient means that another client, or another transport, presented
	// the token. Nothing was changed.
	ErrClient = errors.New("refresh: token of another client")
	// ErrScope means that more scope was asked for than the session has.
	// Nothing was changed.
	ErrScope = errors.New("refresh: more scope than the session has")
	// ErrOften means that the same rotation was repeated too often inside its
	// window. Nothing was changed; the client should wait.
	ErrOften = errors.New("refresh: repeated too often")
	// ErrLimit means that the session is refreshed more often than the store's
	// [Limit] allows. Nothing was changed; the client should wait.
	ErrLimit = errors.New("refresh: refreshed too often")
	// ErrGuard means that the account changed while the user logged in.
	ErrGuard = errors.New("refresh: account changed during login")
)

// Troubles: worth trying again.
var (
	// ErrClock means that the clock of Redis went back, so that the retry
	// window cannot be judged. Nothing was changed.
	ErrClock = errors.New("refresh: clock of Redis went back")
	// ErrReply means that Redis answered something else than was asked.
	ErrReply = script.ErrReply
)

// ReuseError reports that this call presented a spent token, and so ended the
// session. It matches [ErrReused].
type ReuseError struct {
	SID, Subject, ClientID string
	Presented, Current     uint32 // generations
}

func (e *ReuseError) Error() string {
	return fmt.Sprintf("refresh: token of generation %d presented at generation %d of session %s", e.Presented, e.Current, e.SID)
}

// Is makes the error match ErrReused.
func (e *ReuseError) Is(target error) bool { return target == ErrReused }
