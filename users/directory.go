package users

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/script"
)

var (
	//go:embed add.lua
	addSource string
	//go:embed change.lua
	changeSource string
	//go:embed read.lua
	readSource string
	//go:embed name.lua
	nameSource string

	// They only read: that works on a full Redis, and without the flag also on one
	// that takes no writes because its replicas have gone.
	readScript = script.New(readSource)
	nameScript = script.New(nameSource)
	addScript  = script.New(addSource)
	// A full Redis must not keep anyone from disabling an account.
	changeScript = script.New(changeSource, script.OnFullRedis)
)

// Directory is the built-in directory of accounts, kept in Redis. It is an
// [Authenticator], and safe for concurrent use, by several processes too.
//
// A username has 1 to [MaxUsername] bytes of UTF-8 without white space and
// control characters. Names are compared byte by byte: "Ann" and "ann" are two
// accounts, and so are two Unicode spellings of one letter. A password has at
// most [MaxPassword] bytes, a new one at least [MinPassword] characters; it is
// hashed byte by byte, too.
//
// Each account is a hash, authapi:{p}:account:<username>, with the fields
//
//	sub         the subject: 16 characters of base64url, random
//	password    the Argon2id hash, a PHC string of at most 256 bytes
//	roles       role names joined by single spaces, at most 256 bytes
//	disabled    "0" if the account may log in; any other value, or none, means no
//	epoch       decimal; one more with every change of the three above
//	created_at  decimal, seconds since 1970
//
// and a string, authapi:{p}:name:<sub>, holds the username of a subject.
// Subject and username fall into the same partition p, so that account and
// sessions lie in one Cluster slot.
//
// Methods that change an account return its new state. If they return an error
// of Redis, the change may have been made or not; making it again is safe.
type Directory struct {
	client redis.UniversalClient
	keys   partition.Keys
	hasher *Hasher
}

// NewDirectory returns the directory whose key names begin with prefix. The
// prefix must contain none of the characters { } * ? [ ] and \.
func NewDirectory(c redis.UniversalClient, prefix string, h *Hasher) *Directory {
	return &Directory{client: c, keys: partition.Keys{Prefix: prefix}, hasher: h}
}

// Account is what an administrator may see of an account.
type Account struct {
	Username  string
	Subject   string
	Roles     []string
	Disabled  bool
	CreatedAt time.Time // UTC, whole seconds
}

// Authenticate checks a username and a password. It returns [ErrCredentials]
// for an unknown name, a wrong password and a disabled account alike, after
// the same work; [ErrBusy]; or an error of Redis.
func (d *Directory) Authenticate(ctx context.Context, username, password string) (Identity, error) {
	var a record
	possible := validUsername(username)
	// A name that no account can have is not looked up: that it breaks the
	// rules is no secret, and its length would become a key's.
	if possible {
		var err error
		if a, err = d.read(ctx, username); err != nil && !errors.Is(err, ErrUnknownUser) {
			return Identity{}, fmt.Errorf("authenticate: %w", err)
		}
	}
	ok, err := d.hasher.Verify(ctx, a.password, password)
	if err != nil {
		return Identity{}, fmt.Errorf("authenticate: %w", err)
	}
	// Disabled is looked at last: before the check it would answer sooner, and
	// tell anyone that the account exists.
	if !ok || a.Disabled {
		return Identity{}, ErrCredentials
	}
	return Identity{
		Subject:  a.Subject,
		Username: username,
		Roles:    a.Roles,
		AMR:      []string{"pwd"},
		Guard:    Guard{Key: d.keys.Account(username), Field: "epoch", Value: a.epoch},
	}, nil
}

// Add creates an account that may log in at once. Roles keep their order;
// repeated ones are dropped. Its error is [ErrUsername], [ErrWeakPassword],
// [ErrLongPassword], [ErrRoles], [ErrExists], [ErrBusy], or one of Redis.
func (d *Directory) Add(ctx context.Context, username, password string, roles []string) (Account, error) {
	if !validUsername(username) {
		return Account{}, ErrUsername
	}
	if err := checkNewPassword(password); err != nil {
		return Account{}, err
	}
	joined, err := joinRoles(roles)
	if err != nil {
		return Account{}, err
	}
	hash, err := d.hasher.Hash(ctx, password)
	if err != nil {
		return Account{}, fmt.Errorf("add user: %w", err)
	}
	sub := mintSubject(partition.Of(username))
	reply, err := addScript.Run(ctx, d.client,
		[]string{d.keys.Account(username), d.keys.Name(sub)},
		username, sub, hash, joined)
	words := texts(reply)
	switch {
	case err != nil:
		return Account{}, fmt.Errorf("add user: %w", err)
	case len(words) == 1 && words[0] == "exists":
		return Account{}, ErrExists
	case len(words) != 2 || words[0] != "added":
		return Account{}, fmt.Errorf("add user: %w", script.ErrReply)
	}
	return newAccount(username, sub, joined, "0", words[1])
}

// Get returns an account, or [ErrUnknownUser].
func (d *Directory) Get(ctx context.Context, username string) (Account, error) {
	if !validUsername(username) {
		return Account{}, ErrUnknownUser
	}
	a, err := d.read(ctx, username)
	if err != nil {
		return Account{}, fmt.Errorf("get user: %w", err)
	}
	return a.Account, nil
}

// List returns all accounts, sorted by name. It walks through all of Redis's
// keys, a few at a time: it is for administrators, not for requests. Accounts
// made or removed meanwhile may be missing.
func (d *Directory) List(ctx context.Context) ([]Account, error) {
	names, err := d.scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	accounts := make([]Account, 0, len(names))
	for _, name := range names {
		a, err := d.read(ctx, name)
		if errors.Is(err, ErrUnknownUser) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list users: %q: %w", name, err)
		}
		accounts = append(accounts, a.Account)
	}
	return accounts, nil
}

// Username returns the name of the account whose subject is sub, or "" if the
// directory has none.
func (d *Directory) Username(ctx context.Context, sub string) (string, error) {
	reply, err := nameScript.Run(ctx, d.client, []string{d.keys.Name(sub)})
	if err == nil && len(reply) != 1 {
		err = script.ErrReply
	}
	if err != nil {
		return "", fmt.Errorf("username: %w", err)
	}
	return texts(reply)[0], nil
}

// SetPassword gives an account a new password. The caller should then end the
// account's sessions. Its error is [ErrUnknownUser], [ErrWeakPassword],
// [ErrLongPassword], [ErrBusy], or one of Redis.
func (d *Directory) SetPassword(ctx context.Context, username, password string) (Account, error) {
	if err := checkNewPassword(password); err != nil {
		return Account{}, err
	}
	if !validUsername(username) {
		return Account{}, ErrUnknownUser
	}
	hash, err := d.hasher.Hash(ctx, password)
	if err != nil {
		return Account{}, fmt.Errorf("set password: %w", err)
	}
	return d.change(ctx, username, "password", hash)
}

// SetRoles replaces an account's roles. The caller should then rewrite the
// roles of the account's sessions. Its error is [ErrUnknownUser], [ErrRoles],
// or one of Redis.
func (d *Directory) SetRoles(ctx context.Context, username string, roles []string) (Account, error) {
	joined, err := joinRoles(roles)
	if err != nil {
		return Account{}, err
	}
	return d.change(ctx, username, "roles", joined)
}

// SetRolesOf is SetRoles for the account of a subject. It does nothing if there
// is none, or it has these roles already.
func (d *Directory) SetRolesOf(ctx context.Context, sub string, roles []string) error {
	username, err := d.Username(ctx, sub)
	if err != nil {
		return err
	}
	account, err := d.Get(ctx, username)
	if err == nil && !slices.Equal(account.Roles, roles) {
		_, err = d.SetRoles(ctx, username, roles)
	}
	if errors.Is(err, ErrUnknownUser) {
		return nil
	}
	return err
}

// SetDisabled forbids an account to log in, or allows it again. After it has
// been forbidden, the caller should end the account's sessions. Its error is
// [ErrUnknownUser], or one of Redis.
func (d *Directory) SetDisabled(ctx context.Context, username string, disabled bool) (Account, error) {
	value := "0"
	if disabled {
		value = "1"
	}
	return d.change(ctx, username, "disabled", value)
}

func (d *Directory) change(ctx context.Context, username, field, value string) (Account, error) {
	if !validUsername(username) {
		return Account{}, ErrUnknownUser
	}
	for range attempts {
		a, err := d.read(ctx, username)
		if err != nil {
			return Account{}, fmt.Errorf("set %s: %w", field, err)
		}
		reply, err := changeScript.Run(ctx, d.client, []string{d.keys.Account(username)}, field, value, a.epoch)
		if err != nil {
			return Account{}, fmt.Errorf("set %s: %w", field, err)
		}
		words := texts(reply)
		switch {
		case len(words) == 1 && words[0] == "unknown":
			return Account{}, ErrUnknownUser
		case len(words) == 1 && words[0] == "stale":
		case len(words) == 5 && words[0] == "changed":
			return newAccount(username, words[1], words[2], words[3], words[4])
		default:
			return Account{}, fmt.Errorf("set %s: %w", field, script.ErrReply)
		}
	}
	return Account{}, fmt.Errorf("set %s: %w", field, errContended)
}

// attempts bounds how often a change starts over because another came first.
const attempts = 20

var (
	errContended = errors.New("the account changed too often meanwhile")
	errDamaged   = errors.New("account record in Redis is damaged")
)

// record is an account with what only this package may see.
type record struct {
	Account
	password, epoch string
}

func (d *Directory) read(ctx context.Context, username string) (record, error) {
	reply, err := readScript.Run(ctx, d.client, []string{d.keys.Account(username)})
	if err != nil {
		return record{}, err
	}
	if !slices.ContainsFunc(reply, func(v any) bool { return v != nil }) {
		return record{}, ErrUnknownUser
	}
	f := texts(reply)
	if len(f) != 6 || f[4] == "" || f[5] == "" {
		return record{}, errDamaged
	}
	a, err := newAccount(username, f[0], f[1], f[2], f[3])
	if err != nil {
		return record{}, err
	}
	return record{Account: a, password: f[4], epoch: f[5]}, nil
}

func newAccount(username, sub, roles, disabled, createdAt string) (Account, error) {
	seconds, err := strconv.ParseInt(createdAt, 10, 64)
	if err != nil || sub == "" {
		return Account{}, errDamaged
	}
	return Account{
		Username:  username,
		Subject:   sub,
		Roles:     strings.Fields(roles),
		Disabled:  disabled != "0",
		CreatedAt: time.Unix(seconds, 0).UTC(),
	}, nil
}

// texts turns the missing values of a reply into empty strings.
func texts(reply []any) []string {
	out := make([]string, len(reply))
	for i, v := range reply {
		out[i], _ = v.(string)
	}
	return out
}

// scan returns the sorted names of all accounts.
func (d *Directory) scan(ctx context.Context) ([]string, error) {
	var (
		mu    sync.Mutex
		names []string
	)
	one := func(ctx context.Context, c redis.Cmdable) error {
		keys := c.Scan(ctx, 0, d.keys.Accounts(), 1000).Iterator()
		for keys.Next(ctx) {
			_, name, _ := strings.Cut(strings.TrimPrefix(keys.Val(), d.keys.Prefix), "}:account:")
			if !validUsername(name) {
				continue // no account's key, though it matches the pattern
			}
			mu.Lock()
			names = append(names, name)
			mu.Unlock()
		}
		return keys.Err()
	}
	var err error
	if cluster, ok := d.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return one(ctx, c) })
	} else {
		err = one(ctx, d.client)
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return slices.Compact(names), nil // SCAN may return a key twice, and while slots move two masters may
}

// mintSubject makes subjects until one falls into p; it takes 16 on average.
func mintSubject(p partition.ID) string {
	for {
		sub := base64.RawURLEncoding.EncodeToString(randomBytes(12))
		if partition.Of(sub) == p {
			return sub
		}
	}
}

func validUsername(name string) bool {
	return len(name) >= 1 && len(name) <= MaxUsername && utf8.ValidString(name) &&
		!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}

func checkNewPassword(password string) error {
	switch {
	case len(password) > MaxPassword:
		return ErrLongPassword
	case utf8.RuneCountInString(password) < MinPassword:
		return ErrWeakPassword
	}
	return nil
}

func joinRoles(roles []string) (string, error) {
	var kept []string
	for _, r := range roles {
		if len(r) < 1 || len(r) > 64 || strings.ContainsFunc(r, notInRole) {
			return "", ErrRoles
		}
		if !slices.Contains(kept, r) {
			kept = append(kept, r)
		}
	}
	joined := strings.Join(kept, " ")
	if len(joined) > MaxRoles {
		return "", ErrRoles
	}
	return joined, nil
}

func notInRole(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._:-", r))
}
