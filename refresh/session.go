package refresh

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The fields of a session's hash. The names are short because every session
// pays for them; every value is at most 64 bytes long, because one longer
// value would more than double the hash. Other programs may read them
// (docs/redis-keys.md).
const (
	fieldGeneration = "g"
	fieldRotated    = "r" // Unix ms
	fieldWindow     = "w" // ms
	fieldIdle       = "i" // s
	fieldAccess     = "l" // s
	fieldAbsolute   = "a" // Unix s
	fieldGranted    = "x" // Unix s
	fieldSubject    = "s"
	fieldClient     = "c"
	fieldTransport  = "t"
	fieldAuthTime   = "u"  // Unix s; absent if the same as created
	fieldCreated    = "o"  // Unix s
	fieldRoles      = "ro" // and ro1, ro2, ro3
	fieldScope      = "sc" // and sc1, sc2, sc3
	fieldAMR        = "am"
	fieldAudience   = "au" // and au1, au2, au3
	fieldDevice     = "dv"
	fieldEnd        = "end" // Unix ms; only a tombstone has it
	fieldWhy        = "why"

	// Known to the scripts alone: "k", the hashes of the last four retry
	// keys; "n", repeats inside the window; "q", when the limit on refreshes
	// will be full again, in ms after the last rotation.
)

// Bounds of what a session holds, in bytes. Roles, AMR and scope count joined
// by spaces.
const (
	MaxSubject = 64
	MaxClient  = 64
	MaxDevice  = 64
	MaxAMR     = 64
	MaxRoles   = chunks * chunkSize
	MaxScope   = chunks * chunkSize

	MaxAudience = chunks * chunkSize

	chunks    = 4
	chunkSize = 64
)

// Session is one login on one device.
type Session struct {
	SID        string
	Subject    string
	ClientID   string
	Roles      []string
	Scope      string
	AMR        []string // RFC 8176
	Device     string
	Generation uint32
	AuthTime   time.Time
	CreatedAt  time.Time
	RotatedAt  time.Time // last refresh, or the login
	EndsAt     time.Time // absolute
	Policy     Policy    // Absolute and Sessions are not kept

	granted time.Time // the latest expiry of an access token, absolute end included
}

// ExpiresAt is when the session ends if it is not refreshed.
func (s *Session) ExpiresAt() time.Time {
	return earlier(s.RotatedAt.Add(s.Policy.Idle), s.EndsAt)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// chunked appends a value as up to four fields of at most 64 bytes. Those not
// needed are given as empty.
func chunked(fields []any, name, value string) []any {
	for i := range chunks {
		n := min(len(value), chunkSize)
		fields = append(fields, chunkName(name, i), value[:n])
		value = value[n:]
	}
	return fields
}

func chunkName(name string, i int) string {
	if i == 0 {
		return name
	}
	return name + strconv.Itoa(i)
}

// withoutEmpty drops the fields whose value is empty: an absent field costs
// nothing and reads the same.
func withoutEmpty(fields []any) []any {
	kept := fields[:0]
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] != "" {
			kept = append(kept, fields[i], fields[i+1])
		}
	}
	return kept
}

// policyFields are those that a session with an older policy is given. The
// absolute end is not among them: nothing moves it. Nor does the transport
// change, since the client holds its token where it holds it; but a client that
// has been given credentials, and has shown them, needs them from now on. (Before
// it has shown them, the retry of a request without them would be refused.)
func policyFields(has, current Policy, via Transport) []any {
	var fields []any
	if has.Window != current.Window || has.Idle != current.Idle || has.Access != current.Access {
		fields = append(fields,
			fieldWindow, current.Window.Milliseconds(),
			fieldIdle, int64(current.Idle.Seconds()),
			fieldAccess, int64(current.Access.Seconds()),
		)
	}
	if has.Audience != current.Audience {
		fields = chunked(fields, fieldAudience, current.Audience)
	}
	if has.Transport == Body && via == Authenticated && current.Transport == Authenticated {
		fields = append(fields, fieldTransport, string(Authenticated))
	}
	return fields
}

// record is a session's hash as Redis returned it.
type record map[string]string

func (r record) tombstone() bool { return r[fieldEnd] != "" }

// present returns the field's name if the record has the field.
func (r record) present(field string) string {
	if _, ok := r[field]; ok {
		return field
	}
	return ""
}

func (r record) joined(name string) string {
	value := r[name]
	for i := 1; i < chunks && len(value) == i*chunkSize; i++ {
		value += r[chunkName(name, i)]
	}
	return value
}

// session reads a record. Numbers that are not there or not numbers make it an
// error rather than a session from 1970.
func (r record) session(sid string) (Session, error) {
	var bad []string
	number := func(field string) int64 {
		n, err := strconv.ParseInt(r[field], 10, 64)
		if err != nil {
			bad = append(bad, field)
		}
		return n
	}
	seconds := func(field string) time.Duration { return time.Duration(number(field)) * time.Second }
	instant := func(field string) time.Time { return time.Unix(number(field), 0).UTC() }
	generation := number(fieldGeneration)
	s := Session{
		SID:        sid,
		Subject:    r[fieldSubject],
		ClientID:   r[fieldClient],
		Roles:      strings.Fields(r.joined(fieldRoles)),
		Scope:      r.joined(fieldScope),
		AMR:        strings.Fields(r[fieldAMR]),
		Device:     r[fieldDevice],
		Generation: uint32(generation),
		AuthTime:   instant(cmp.Or(r.present(fieldAuthTime), fieldCreated)),
		CreatedAt:  instant(fieldCreated),
		RotatedAt:  time.UnixMilli(number(fieldRotated)).UTC(),
		EndsAt:     instant(fieldAbsolute),
		granted:    instant(fieldGranted),
		Policy: Policy{
			Transport: Transport(r[fieldTransport]),
			Window:    time.Duration(number(fieldWindow)) * time.Millisecond,
			Idle:      seconds(fieldIdle),
			Access:    seconds(fieldAccess),
			Audience:  r.joined(fieldAudience),
		},
	}
	if generation < 0 || generation > int64(^uint32(0)) {
		bad = append(bad, fieldGeneration)
	}
	if s.Subject == "" {
		bad = append(bad, fieldSubject)
	}
	if len(bad) > 0 {
		return Session{}, fmt.Errorf("%w: session %s has bad fields %v", ErrReply, sid, bad)
	}
	return s, nil
}
