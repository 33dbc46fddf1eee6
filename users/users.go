// Package users says who may log in.
//
// Call [Authenticator.Authenticate] with a username and a password to get an
// [Identity]. [NewDirectory] makes the built-in Authenticator, which keeps
// accounts in Redis; its other methods are for whoever administers them. A
// [Hasher] turns passwords into stored strings and checks them.
//
// How it works. An account is one Redis hash that holds, among other things,
// an Argon2id hash of the password and a number called epoch. Every change of
// password, roles or the disabled mark adds one to the epoch, in the same step
// as the change. Authenticate reads the epoch before it checks the password
// and hands it on as the Identity's [Guard]. Whoever then creates the session
// does so only while the epoch is still the same. A login that races one of
// those changes therefore loses, however the two interleave.
//
// A caller cannot tell an unknown username from a wrong password or a disabled
// account: the error is the same, and so is the hashing work. At most a fixed
// number of hashings run at once, with a short queue before them, so that a
// flood of logins takes neither all memory nor all processors.
//
// What it does not do. It ends no sessions: whoever disables an account,
// changes its password or takes roles away must do that too, afterwards, and
// must rewrite the roles of sessions that live on. It does not limit how often
// a password may be tried. It has no registration, password reset or e-mail.
// It neither checks passwords against lists of leaked ones nor changes the
// hashing cost of stored passwords when the defaults change.
package users

import (
	"context"
	"errors"
	"strings"
)

// An Authenticator checks a username and a password. Implement it to log in
// users of your own database.
//
// Authenticate returns [ErrCredentials] if the two do not belong together,
// whatever the reason, and [ErrBusy] if it has no capacity at the moment. Any
// other error means that the answer is unknown, and must never be told to the
// user as a wrong password. Authenticate is called concurrently.
type Authenticator interface {
	Authenticate(ctx context.Context, username, password string) (Identity, error)
}

// Identity is who has logged in.
type Identity struct {
	// Subject identifies the user in tokens and in Redis: at most 64 bytes,
	// opaque, and the same for ever. It is not the username.
	Subject string
	// Username is the name the user logged in with.
	Username string
	// Roles are what the user may do. Each has at most 64 bytes of
	// [A-Za-z0-9._:-]; joined by spaces they have at most [MaxRoles].
	Roles []string
	// AMR names how the user proved who they are, in the words of RFC 8176:
	// "pwd" for a password.
	AMR []string
	// Guard is the condition under which a session may be created.
	Guard Guard
}

// Guard is a condition on Redis: the hash at Key has a Field whose value is
// Value. The zero Guard is no condition.
//
// The session must be created in the same script that checks the guard. Key
// lies in the same partition as the Identity's Subject.
type Guard struct{ Key, Field, Value string }

// Limits of what an account may hold.
const (
	// MaxUsername is the greatest length of a username in bytes.
	MaxUsername = 64
	// MaxPassword is the greatest length of a password in bytes.
	MaxPassword = 1024
	// MinPassword is the least length of a new password in characters
	// (Unicode code points), as NIST SP 800-63B asks.
	MinPassword = 8
	// MaxRoles is the greatest length in bytes of an account's role names
	// when joined by single spaces.
	MaxRoles = 256
)

// NormalRoles returns role names without repetitions, or [ErrRoles]. It is for
// the roles of users who are not in the directory.
func NormalRoles(roles []string) ([]string, error) {
	joined, err := joinRoles(roles)
	return strings.Fields(joined), err
}

// Errors that a caller can act on. No error of this package contains a
// password or a stored hash.
var (
	// ErrCredentials means that username and password do not belong to an
	// account that may log in. It does not say why.
	ErrCredentials = errors.New("wrong username or password")
	// ErrBusy means that too many passwords are being hashed. Try again in a
	// second.
	ErrBusy = errors.New("too many passwords are being checked at the moment")

	// ErrUnknownUser means that there is no account of that name.
	ErrUnknownUser = errors.New("no such user")
	// ErrExists means that an account of that name exists already.
	ErrExists = errors.New("a user of that name exists already")
	// ErrUsername means that a username breaks the rules of [Directory].
	ErrUsername = errors.New("a username has 1 to 64 bytes of UTF-8, without white space and control characters")
	// ErrWeakPassword means that a new password is too short.
	ErrWeakPassword = errors.New("a password needs at least 8 characters")
	// ErrLongPassword means that a password has more than [MaxPassword] bytes.
	ErrLongPassword = errors.New("a password has at most 1024 bytes")
	// ErrRoles means that a role's name is malformed or that the roles are
	// too long together.
	ErrRoles = errors.New("a role has 1 to 64 of the characters A-Z a-z 0-9 . _ : - and all roles together at most 256 bytes")
)
