package refresh

import "time"

// Grant is what a login or a refresh entitles the client to: a refresh token,
// and an access token that the caller signs.
type Grant struct {
	Session Session

	// Token is the refresh token to hand out.
	Token string

	// Scope is that of the access token: what the request asked for, or all
	// that the session has.
	Scope string

	// JTI, IssuedAt and AccessExpires belong into the access token. A repeated
	// grant has those of the original: capturing a request and repeating it
	// extends nothing. All instants of a grant come from the clock of Redis.
	JTI           string
	IssuedAt      time.Time
	AccessExpires time.Time

	// Now is when Redis answered.
	Now time.Time

	// Repeated means that an earlier request was already given this grant.
	Repeated bool

	// Unchanged means that the refresh token is the one that was presented.
	Unchanged bool

	// Ahead is how many generations Redis was behind its client, having come
	// back from a failover or a snapshot. 0 is normal; more than 3 deserves an
	// alert.
	Ahead uint32

	asked time.Time // monotonic
}

// maxAge is how long after asking Redis a grant may still be used.
const maxAge = 30 * time.Second

// Fresh reports whether the grant may still be signed. A process that was
// frozen in between must not hand out a token on an old decision.
func (g *Grant) Fresh() bool { return time.Since(g.asked) < maxAge }

func (st *Store) grant(t Token, s Session, asked, now time.Time) *Grant {
	issued := s.RotatedAt.Truncate(time.Second)
	return &Grant{
		Session:  s,
		Token:    st.encode(t),
		Scope:    s.Scope,
		JTI:      t.jti(),
		IssuedAt: issued,
		// The policy may have been renewed since: what was granted stays the
		// bound, or a repeat would outlive the denial of the original.
		AccessExpires: earlier(issued.Add(s.Policy.Access), s.granted),
		Now:           now,
		asked:         asked,
	}
}
