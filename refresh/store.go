package refresh

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/internal/ack"
	"github.com/authapi/authapi/internal/partition"
	"github.com/authapi/authapi/internal/script"
	"github.com/authapi/authapi/internal/secret"
)

var (
	//go:embed create.lua
	createLua string
	//go:embed rotate.lua
	rotateLua string
	//go:embed end.lua
	endLua string
	//go:embed list.lua
	listLua string
	//go:embed amend.lua
	amendLua string
	//go:embed session.lua
	sessionLua string
	//go:embed index.lua
	indexLua string

	createScript = script.New(createLua) // a full Redis takes no new sessions
	rotateScript = script.New(rotateLua, script.OnFullRedis)
	endScript    = script.New(denylist.Lua()+endLua, script.OnFullRedis)
	listScript   = script.New(listLua, script.OnFullRedis)
	amendScript  = script.New(amendLua, script.OnFullRedis)

	// They only read: that works on a full Redis, and without the flag also on one
	// that takes no writes because its replicas have gone.
	sessionScript = script.New(sessionLua)
	indexScript   = script.New(indexLua)
)

// attempts bounds how often ending all sessions of a user starts over because
// the index changed under it.
const attempts = 10

// tombstoneLife is how long a session's holder can learn why it ended.
const tombstoneLife = 24 * time.Hour

// Options configure a [Store].
type Options struct {
	// Prefix opens all key names.
	Prefix string
	// Secrets are the deployment's, at least 32 random bytes each. The first
	// makes tokens, all recognise them.
	Secrets [][]byte
	// Limit is how often a session may be refreshed, retries included. The zero
	// Limit: as often as it likes.
	Limit Limit
	// Policy returns a client's present policy, false for an unknown client.
	// A refreshed session that carries an older one is given it.
	Policy func(clientID string) (Policy, bool)
	// Replicas is how many replicas of Redis must have the end of a session
	// before [Store.End], [Store.EndAll] or a replay at [Store.Rotate] is
	// answered. 0: none.
	Replicas int
	// Ended, if set, is told of each session that was ended here, why, and until
	// when its access tokens are denied (zero if that is not known), before
	// whoever asked for it is.
	Ended func(sid string, why Reason, until time.Time)
}

// Limit is N in any time Per. All N may come at once, and one more each time that
// an Nth part of Per has passed.
type Limit struct {
	N   int
	Per time.Duration
}

// interval is the time in which one comes back, in ms.
func (l Limit) interval() int64 {
	if l.N < 1 {
		return 0
	}
	return (l.Per / time.Duration(l.N)).Milliseconds()
}

// Store is the sessions in one Redis, under one prefix. It is safe for
// concurrent use, by many processes at once.
//
// Its methods end when their context does. Give them one that outlives the
// client's connection: a rotation whose client has gone should still be
// answered, so that it is done and known to be done.
type Store struct {
	client redis.UniversalClient
	keys   partition.Keys
	tokens *secret.Opaque
	deny   *denylist.List
	limit  Limit
	policy func(string) (Policy, bool)
	writer *ack.Writer
	ended  func(sid string, why Reason, until time.Time)
}

// New returns a store. It does not ask Redis anything.
func New(c redis.UniversalClient, o Options) (*Store, error) {
	tokens, err := secret.NewOpaque(Prefix, "refresh-mac/v1", o.Secrets)
	if err != nil {
		return nil, fmt.Errorf("refresh: %w", err)
	}
	if o.Policy == nil {
		return nil, errors.New("refresh: no policy")
	}
	ended := o.Ended
	if ended == nil {
		ended = func(string, Reason, time.Time) {}
	}
	return &Store{
		client: c,
		keys:   partition.Keys{Prefix: o.Prefix},
		tokens: tokens,
		limit:  o.Limit,
		deny: denylist.New(c, o.Prefix, denylist.AcknowledgedBy(o.Replicas), denylist.Tell(func(d denylist.Denial) {
			ended(d.ID, Asserted, d.Until) // only sessions that are not there are denied by this
		})),
		policy: o.Policy,
		writer: ack.New(c, o.Replicas),
		ended:  ended,
	}, nil
}

// Limit returns how often a session may be refreshed.
func (st *Store) Limit() Limit { return st.limit }

// Guard makes a login conditional: the session is created only if the field of
// a Redis hash in the subject's partition still has the value.
type Guard struct{ Key, Field, Value string }

// Login is what a new session starts from.
type Login struct {
	Subject  string
	ClientID string
	Roles    []string
	Scope    string
	AMR      []string
	Device   string    // a label for the user to recognise it by
	AuthTime time.Time // zero: now
	Guard    Guard     // zero: none
}

func (l *Login) check() error {
	for _, field := range []struct {
		name, value string
		most        int
	}{
		{"subject", l.Subject, MaxSubject},
		{"client id", l.ClientID, MaxClient},
		{"device", l.Device, MaxDevice},
		{"roles", strings.Join(l.Roles, " "), MaxRoles},
		{"scope", l.Scope, MaxScope},
		{"amr", strings.Join(l.AMR, " "), MaxAMR},
	} {
		if len(field.value) > field.most {
			return fmt.Errorf("refresh: %s of %d bytes: at most %d", field.name, len(field.value), field.most)
		}
	}
	if l.Subject == "" || l.ClientID == "" {
		return errors.New("refresh: a session needs a subject and a client")
	}
	return nil
}

// Create starts a session. If the user then has more than the client's policy
// allows, the oldest are ended. It returns [ErrGuard] if the guard no longer
// holds, and [ErrClient] for an unknown client.
func (st *Store) Create(ctx context.Context, l Login) (*Grant, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	p, ok := st.policy(l.ClientID)
	if !ok {
		return nil, ErrClient
	}
	if p.Sessions < 1 {
		return nil, fmt.Errorf("refresh: client %s allows no sessions", l.ClientID)
	}
	token := newToken(partition.Of(l.Subject))
	sid := token.SID()

	keys := []string{st.keys.Session(token.partition, sid), st.keys.User(l.Subject)}
	if l.Guard.Key != "" {
		keys = append(keys, l.Guard.Key)
	}
	args := []any{
		sid, l.Guard.Field, l.Guard.Value,
		int64(p.Idle.Seconds()), int64(p.Absolute.Seconds()), int64(p.Access.Seconds()),
	}
	fields := []any{
		fieldSubject, l.Subject, fieldClient, l.ClientID, fieldTransport, string(p.Transport),
		fieldWindow, p.Window.Milliseconds(),
		fieldAMR, strings.Join(l.AMR, " "), fieldDevice, l.Device,
	}
	if !l.AuthTime.IsZero() {
		fields = append(fields, fieldAuthTime, l.AuthTime.Unix())
	}
	fields = chunked(fields, fieldRoles, strings.Join(l.Roles, " "))
	fields = chunked(fields, fieldScope, l.Scope)
	fields = chunked(fields, fieldAudience, p.Audience)
	args = append(args, withoutEmpty(fields)...)

	asked := time.Now()
	reply, err := createScript.Run(ctx, st.client, keys, args...)
	if err != nil {
		return nil, fmt.Errorf("create session: %w", err)
	}
	a, err := parseAnswer(reply, 0)
	if err != nil {
		return nil, fmt.Errorf("create session: %w", err)
	}
	switch a.verdict {
	case "created":
		s, err := a.record.session(sid)
		if err != nil {
			return nil, err
		}
		if a.number > int64(p.Sessions) {
			// The login has succeeded, and the next one tries this again: an
			// error here is no reason to refuse it.
			_ = st.trim(ctx, l.Subject, p.Sessions)
		}
		return st.grant(token, s, asked, a.now), nil
	case "guard":
		return nil, ErrGuard
	case "ended":
		return nil, ErrEnded
	}
	return nil, fmt.Errorf("create session: %w", ErrReply)
}

// trim leaves a user the newest sessions, limit of them. Most often it only
// takes those out of the index that have expired.
func (st *Store) trim(ctx context.Context, sub string, limit int) error {
	live, err := st.List(ctx, sub)
	if err != nil {
		return err
	}
	for _, s := range live[:max(0, len(live)-limit)] {
		if _, err := st.end(ctx, st.client, sub, s.SID, Limited); err != nil {
			return err
		}
	}
	return nil
}

// Presented is a refresh token as a request brought it.
type Presented struct {
	Token     string
	Transport Transport // how it arrived
	ClientID  string    // who says to present it; "" if nobody said
	Scope     string    // of the session's scope, what the access token should have; "": all
	RetryKey  string    // names the request across its retries; "" if the client sent none
}

// Rotate exchanges a refresh token for its successor, in one round trip.
//
// The refusals are [ErrToken], for which Redis is not asked, [ErrExpired],
// [ErrEnded], [ErrReused], [ErrLate], [ErrClient], [ErrScope], [ErrOften] and [ErrLimit]. Any other
// error means that it is not known whether the token was rotated. Asking again
// with the same retry key then yields the successor, whether it was or not.
func (st *Store) Rotate(ctx context.Context, r Presented) (*Grant, error) {
	token, err := st.Parse(r.Token)
	if err != nil {
		return nil, err
	}
	if token.generation == math.MaxUint32 {
		return nil, ErrExpired
	}
	sid := token.SID()
	// A key of our own makes a second run by the Redis client, after a lost
	// reply, a retry of the same request instead of a replay.
	key, sent := r.RetryKey, "1"
	if key == "" {
		key, sent = rawKey(), ""
	}
	keys := []string{st.keys.Session(token.partition, sid)}
	asked := time.Now()
	reply, err := rotateScript.Run(
		ctx, st.client, keys,
		token.generation, string(r.Transport), r.ClientID, retryHash(key, token.generation), sent, r.Scope,
		st.limit.interval(), st.limit.N,
	)
	if err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	a, err := parseAnswer(reply, token.generation)
	if err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	switch a.verdict {
	case "missing":
		return nil, ErrExpired
	case "ended":
		if Reason(a.record[fieldWhy]) == Reused {
			if err := st.Confirm(ctx, sid, Reused); err != nil {
				return nil, err
			}
			return nil, ErrReused
		}
		return nil, ErrEnded
	case "client":
		return nil, ErrClient
	case "scope":
		return nil, ErrScope
	case "often":
		return nil, ErrOften
	case "limit":
		return nil, ErrLimit
	case "clock":
		return nil, ErrClock
	case "late":
		return nil, ErrLate
	}

	s, err := a.record.session(sid)
	if err != nil {
		return nil, err
	}
	switch a.verdict {
	case "rotated", "same":
		g := st.grant(token.at(s.Generation), s, asked, a.now)
		g.Repeated = a.verdict == "same"
		g.Unchanged = g.Token == r.Token
		if r.Scope != "" {
			g.Scope = r.Scope
		}
		if !g.Repeated {
			g.Ahead = uint32(a.number)
			st.renewPolicy(ctx, keys, s, r.Transport)
		}
		return g, nil
	case "reuse":
		// Until the tombstone is written nothing has changed: if it fails before,
		// the caller is told that there was trouble, and the next replay comes
		// here again.
		err := st.writer.Do(ctx, st.keys.Mark(token.partition), func(c redis.Scripter) error {
			_, err := st.end(ctx, c, s.Subject, sid, Reused)
			return err
		})
		if err != nil {
			return nil, err
		}
		return nil, &ReuseError{
			SID: sid, Subject: s.Subject, ClientID: s.ClientID,
			Presented: token.generation, Current: s.Generation,
		}
	}
	return nil, fmt.Errorf("rotate: %w", ErrReply)
}

// renewPolicy hands a session the present policy of its client. It is a second
// round trip, but only at the first refresh after the configuration changed.
// If it fails the next refresh tries again. A client that this instance does
// not know leaves the session as it is: another instance may know it already.
func (st *Store) renewPolicy(ctx context.Context, keys []string, s Session, via Transport) {
	current, known := st.policy(s.ClientID)
	if fields := policyFields(s.Policy, current, via); known && len(fields) > 0 {
		_, _ = amendScript.Run(ctx, st.client, keys, fields...)
	}
}

// Get returns a session. It returns [ErrExpired] if there is none and
// [ErrEnded] if it has ended.
func (st *Store) Get(ctx context.Context, sid string) (Session, error) {
	p, ok := partition.OfSID(sid)
	if !ok {
		return Session{}, ErrExpired
	}
	r, err := st.read(ctx, st.client, p, sid)
	if err != nil {
		return Session{}, err
	}
	if r.tombstone() {
		return Session{}, ErrEnded
	}
	if len(r) == 0 {
		return Session{}, ErrExpired
	}
	return r.session(sid)
}

func (st *Store) read(ctx context.Context, c redis.Scripter, p partition.ID, sid string) (record, error) {
	key := st.keys.Session(p, sid)
	reply, err := sessionScript.Run(ctx, c, []string{key})
	if err == nil && len(reply) != 1 {
		err = ErrReply
	}
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	return parseRecord(reply[0])
}

// index returns the ids of a user's sessions, the oldest first.
func (st *Store) index(ctx context.Context, c redis.Scripter, sub string) ([]string, error) {
	reply, err := indexScript.Run(ctx, c, []string{st.keys.User(sub)})
	if err != nil {
		return nil, fmt.Errorf("read session index: %w", err)
	}
	var sids []string
	for _, x := range reply {
		members, _ := x.([]any)
		for _, member := range members {
			sid, ok := member.(string)
			if !ok {
				return nil, fmt.Errorf("read session index: %w", ErrReply)
			}
			sids = append(sids, sid)
		}
	}
	return sids, nil
}

// List returns a user's live sessions, the oldest first.
func (st *Store) List(ctx context.Context, sub string) ([]Session, error) {
	sids, err := st.index(ctx, st.client, sub)
	if err != nil || len(sids) == 0 {
		return nil, err
	}
	keys, args := []string{st.keys.User(sub)}, make([]any, len(sids))
	p := partition.Of(sub)
	for i, sid := range sids {
		keys = append(keys, st.keys.Session(p, sid))
		args[i] = sid
	}
	reply, err := listScript.Run(ctx, st.client, keys, args...)
	if err == nil && len(reply) != len(sids) {
		err = ErrReply
	}
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	var live []Session
	for i, sid := range sids {
		r, err := parseRecord(reply[i])
		if err != nil {
			return nil, fmt.Errorf("read sessions: %w", err)
		}
		if len(r) == 0 {
			continue
		}
		s, err := r.session(sid)
		if err != nil {
			return nil, err
		}
		live = append(live, s)
	}
	return live, nil
}

// End ends a session: its refresh tokens are refused from now on, and its
// access tokens are denied. Ending a session twice, or one that is not there,
// succeeds. It works on a full Redis.
func (st *Store) End(ctx context.Context, sid string, why Reason) error {
	p, ok := partition.OfSID(sid)
	if !ok {
		return nil
	}
	var unknown bool
	err := st.writer.Do(ctx, st.keys.Mark(p), func(c redis.Scripter) error {
		r, err := st.read(ctx, c, p, sid)
		if err != nil {
			return fmt.Errorf("end session: %w", err)
		}
		sub := r[fieldSubject]
		unknown = sub == "" && !r.tombstone()
		if sub == "" {
			return nil
		}
		told, err := st.end(ctx, c, sub, sid, why)
		if err == nil && !told {
			// An earlier run, whose reply was lost, knew until when.
			st.ended(sid, why, time.Time{})
		}
		return err
	})
	if err == nil && unknown {
		// Expired, or lost by a Redis that came back older. In the second case
		// access tokens may still live, and this denies them.
		err = st.deny.AddSession(ctx, sid)
		if err != nil {
			err = fmt.Errorf("end session: %w", err)
		}
	}
	return err
}

// Confirm is for whoever finds a session ended and answers for it: the one who
// ended it may have been put off because replicas had not acknowledged it. It
// waits for them. If none are to acknowledge it does nothing.
func (st *Store) Confirm(ctx context.Context, sid string, why Reason) error {
	if st.writer.Replicas() == 0 {
		return nil
	}
	return st.End(ctx, sid, why)
}

// end ends one session, and reports whether [Options.Ended] was told.
func (st *Store) end(ctx context.Context, c redis.Scripter, sub, sid string, why Reason) (told bool, err error) {
	done, err := st.runEnd(ctx, c, sub, []string{sid}, why, "", "")
	return done.told > 0, err
}

// EndAll ends all sessions of a user except one ("" for none), at one moment:
// a login that is answered later is not affected. It returns how many it
// ended. It works on a full Redis.
//
// If logins never cease to come, those that began before the call still end:
// nobody can keep a session by beginning others.
func (st *Store) EndAll(ctx context.Context, sub, except string, why Reason) (ended int, err error) {
	err = st.writer.Do(ctx, st.keys.Mark(partition.Of(sub)), func(c redis.Scripter) error {
		for attempt := 1; ; attempt++ {
			sids, err := st.index(ctx, c, sub)
			if err != nil || len(sids) == 0 {
				return err
			}
			exactly := "all"
			if attempt == attempts {
				exactly = ""
			}
			done, err := st.runEnd(ctx, c, sub, sids, why, exactly, except)
			ended += done.ended
			if err != nil || !done.changed {
				return err
			}
		}
	})
	return ended, err
}

// outcome is what end.lua replied.
type outcome struct {
	ended, told int
	changed     bool // nothing was done: the index is another one
}

func (st *Store) runEnd(ctx context.Context, c redis.Scripter, sub string, sids []string, why Reason, all, except string) (outcome, error) {
	p := partition.Of(sub)
	keys := []string{st.keys.User(sub), st.keys.Feed(p)}
	args := []any{string(why), all, except, tombstoneLife.Milliseconds()}
	for _, sid := range sids {
		keys = append(keys, st.keys.Session(p, sid), st.keys.Deny(p, sid))
		args = append(args, sid)
	}
	reply, err := endScript.Run(ctx, c, keys, args...)
	if err == nil && (len(reply) < 2 || len(reply)%2 != 0) {
		err = ErrReply
	}
	if err != nil {
		return outcome{}, fmt.Errorf("end sessions: %w", err)
	}
	n, _ := reply[1].(int64)
	o := outcome{ended: int(n), changed: reply[0] == "changed"}
	for i := 2; i < len(reply); i += 2 {
		sid, ok := reply[i].(string)
		until, _ := reply[i+1].(int64)
		if !ok || until <= 0 {
			return outcome{}, fmt.Errorf("end sessions: %w", ErrReply)
		}
		st.ended(sid, why, time.Unix(until, 0))
		o.told++
	}
	return o, nil
}

// EndAgain ends a session that had ended before, if Redis has forgotten it: if
// the session lives. It reports whether it did. One that is not there is not made,
// and a tombstone stays as it is. Replicas are not waited for.
func (st *Store) EndAgain(ctx context.Context, sid string, why Reason) (bool, error) {
	p, ok := partition.OfSID(sid)
	if !ok {
		return false, nil
	}
	r, err := st.read(ctx, st.client, p, sid)
	if err != nil {
		return false, fmt.Errorf("end session again: %w", err)
	}
	if r[fieldSubject] == "" || r.tombstone() {
		return false, nil
	}
	done, err := st.runEnd(ctx, st.client, r[fieldSubject], []string{sid}, why, "", "")
	return done.ended > 0, err
}

// Standing is what Redis knows of the end of a session.
type Standing struct {
	Lives bool   // the session is there, and has not ended
	Why   Reason // it has ended
}

// Standings looks at several sessions in one go. All are of one partition.
func (st *Store) Standings(ctx context.Context, sids []string) ([]Standing, error) {
	if len(sids) == 0 {
		return nil, nil
	}
	p, _ := partition.OfSID(sids[0]) // of nonsense nothing is there
	asked := make([]*redis.SliceCmd, len(sids))
	err := script.AskFor(ctx, st.client, st.keys.Session(p, ""), func(pipe redis.Pipeliner) {
		for i, sid := range sids {
			asked[i] = pipe.HMGet(ctx, st.keys.Session(p, sid), fieldSubject, fieldEnd, fieldWhy)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	all := make([]Standing, len(sids))
	for i, cmd := range asked {
		if v := cmd.Val(); len(v) == 3 {
			why, _ := v[2].(string)
			all[i] = Standing{Lives: v[0] != nil && v[1] == nil, Why: Reason(why)}
		}
	}
	return all, nil
}

// SetRoles changes the roles in all sessions of a user. Access tokens show
// them from the next refresh on.
func (st *Store) SetRoles(ctx context.Context, sub string, roles []string) error {
	joined := strings.Join(roles, " ")
	if len(joined) > MaxRoles {
		return fmt.Errorf("refresh: roles of %d bytes: at most %d", len(joined), MaxRoles)
	}
	sids, err := st.index(ctx, st.client, sub)
	if err != nil {
		return err
	}
	fields := chunked(nil, fieldRoles, joined)
	p := partition.Of(sub)
	for _, sid := range sids {
		key := st.keys.Session(p, sid)
		if _, err := amendScript.Run(ctx, st.client, []string{key}, fields...); err != nil {
			return fmt.Errorf("set roles: %w", err)
		}
	}
	return nil
}
