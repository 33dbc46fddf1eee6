package api

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/authapi/authapi/refresh"
)

// A refresh token in a cookie is out of reach of a page's scripts, but the
// browser sends it along with every request, whoever has made it. So a request
// that a cookie speaks for must show that it comes from a page of the client's:
// by its origin, and by a header that no form can send (fromPage).
//
// The cookie is for one host only, and only for https (the prefix __Host-,
// which browsers enforce). Nothing clears it but a logout: a refusal may be a
// fault, and then the cookie is what is needed to go on.

const (
	// DefaultCookie is the name of a client's cookie unless it has another.
	DefaultCookie = "__Host-refresh"

	hostPrefix = "__Host-"
	// pageHeader is the header that a page's own script sends. What is in it
	// does not matter: sending it across origins takes a preflight.
	pageHeader = "X-Requested-With"
)

// cookieName is the name of the client's cookie.
func (c Client) cookieName() string {
	if c.Cookie == "" {
		return DefaultCookie
	}
	return c.Cookie
}

func (c Client) inCookie() bool { return c.Policy.Transport == refresh.Cookie }

// checkCookies refuses names that would not protect the cookie, or would make two
// clients overwrite each other's.
func (c Clients) checkCookies(issuer *url.URL) error {
	owners := map[string]string{}
	for id, client := range c {
		if !client.inCookie() {
			continue
		}
		name := client.cookieName()
		valid := (&http.Cookie{Name: name, Value: "x"}).Valid() == nil
		switch {
		case !valid || len(name) > 64:
			return errors.New("api: client " + id + ": a cookie's name is a word of at most 64 characters")
		case issuer.Scheme == "https" && !strings.HasPrefix(name, hostPrefix):
			return errors.New("api: client " + id + ": a cookie's name must begin with " + hostPrefix + ", so that browsers send it to this host and over https only")
		case owners[name] != "":
			return errors.New("api: clients " + id + " and " + owners[name] + " have cookies of one name, and would overwrite each other's")
		}
		owners[name] = id
	}
	return nil
}

// presented is a refresh token as a request brought it.
type presented struct {
	token  string
	client Client // whose cookie it came in; the zero Client if it came in the body
}

// cookieToken finds the refresh token that came in a cookie of the client that
// the request names, or of any client if it names none. It returns an empty
// token if there is no such cookie.
func (a *API) cookieToken(r *http.Request, id string) (presented, error) {
	var found presented
	for _, cookie := range r.Cookies() {
		owner, ours := a.cookieOwners[cookie.Name]
		if !ours || id != "" && id != owner || cookie.Value == "" {
			continue
		}
		if found.token != "" {
			// Somebody on a neighbouring host may have planted one of the two.
			return presented{}, invalidRequest("there is more than one refresh cookie; client_id says which client is meant, and none may come twice")
		}
		found = presented{cookie.Value, a.config.Clients[owner]}
	}
	return found, nil
}

// presentedToken is the refresh token of a request: in the body or in a cookie,
// and not in both, since they could be of two sessions. A cookie counts only if
// the request comes from one of the client's pages.
func (a *API) presentedToken(r *http.Request, id, inBody string) (presented, error) {
	found, err := a.cookieToken(r, id)
	switch {
	case err != nil:
		return presented{}, err
	case inBody != "" && found.token != "":
		return presented{}, invalidRequest("a refresh token came in the body, and another in a cookie")
	case inBody != "":
		return presented{token: inBody}, nil
	case found.token != "":
		return found, a.fromPage(r, found.client)
	}
	return presented{}, nil
}

// fromPage refuses requests that pages other than the client's own could have
// made. Requests across sites are refused before, for all clients; this knows
// which client it is.
func (a *API) fromPage(r *http.Request, c Client) error {
	if r.Header.Get(pageHeader) == "" {
		return errPageHeader
	}
	if a.plain(r) {
		return errPlain
	}
	origin := r.Header.Get("Origin")
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return nil
	case "":
		if origin == "" { // no browser sends neither
			return nil
		}
	}
	if origin == a.origin || slices.Contains(c.Origins, origin) {
		return nil
	}
	if u, err := url.Parse(origin); err == nil && u.Host == r.Host && r.Header.Get("Sec-Fetch-Site") == "" {
		return nil
	}
	return errOrigin
}

// setCookie hands a refresh token out in the client's cookie, for as long as it
// can be used.
func (a *API) setCookie(w http.ResponseWriter, c Client, token string, seconds int64) {
	http.SetCookie(w, cookie(c.cookieName(), token, int(seconds)))
}

// clearCookie makes the browser forget it.
func (a *API) clearCookie(w http.ResponseWriter, c Client) {
	http.SetCookie(w, cookie(c.cookieName(), "", -1))
}

func cookie(name, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// Only a name that says so can do without: over plain http, on loopback,
		// some browsers would drop a secure one.
		Secure: strings.HasPrefix(name, hostPrefix),
	}
}

// endReplaced ends the session of the cookie that a new login replaces, if it is
// the same user's: nobody could end it any more but by its access token. It is no
// reason to refuse the login if that fails.
func (a *API) endReplaced(r *http.Request, c Client, sub string) {
	old, err := a.cookieToken(r, c.ID)
	if err != nil || old.token == "" {
		return
	}
	t, err := a.config.Sessions.Parse(old.token)
	if err != nil {
		return
	}
	s, err := a.config.Sessions.Get(r.Context(), t.SID())
	if err == nil && s.Subject == sub {
		if err = a.config.Sessions.End(r.Context(), t.SID(), refresh.Logout); err == nil {
			a.event(r, slog.LevelInfo, "session replaced by a login", "sub", sub, "sid", t.SID())
		}
	}
	if err != nil && !errors.Is(err, refresh.ErrExpired) && !errors.Is(err, refresh.ErrEnded) {
		a.config.Logger.WarnContext(r.Context(), "the session that a login replaces did not end", "request_id", requestIDOf(r), "error", err)
	}
}
