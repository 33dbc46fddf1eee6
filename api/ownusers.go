package api

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/users"
)

// The routes in this file are for confidential clients that have users of their
// own, and authenticate them by means of their own. They speak of users by the
// subject that the client has chosen.

func mayStart(c Client) bool { return c.MayStart }

// startSession starts a session for a user whom the client has authenticated.
func (a *API) startSession(w http.ResponseWriter, r *http.Request) {
	client, err := a.allowed(r, mayStart)
	var login refresh.Login
	if err == nil {
		login, err = readOwnLogin(r, client)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.start(w, r, a.config.Keys.Signer(), beginning{event: "session started by client", login: login})
}

// readOwnLogin reads what a client says of a user whom it has authenticated.
func readOwnLogin(r *http.Request, client Client) (refresh.Login, error) {
	var sub, scope, device, authTime string
	var roles, amr []string
	fields := []field{
		{"sub", &sub, refresh.MaxSubject, true},
		{"device", &device, refresh.MaxDevice, false},
		{"auth_time", &authTime, len(time.RFC3339Nano), false},
		scopeField(&scope),
	}
	err := decodeJSON(r, map[string]any{
		"sub": &sub, "device": &device, "auth_time": &authTime, "scope": &scope, "roles": &roles, "amr": &amr,
	})
	if err == nil {
		err = check(fields)
	}
	if err != nil {
		return refresh.Login{}, err
	}
	l := refresh.Login{ClientID: client.ID, Device: device}
	var problems [5]error
	l.Subject, problems[0] = subject(sub)
	l.Scope, problems[1] = scopeWithin(scope, client.Scopes)
	l.Roles, problems[2] = roleNames(roles)
	l.AMR, problems[3] = amrNames(amr)
	l.AuthTime, problems[4] = pastTime(authTime)
	return l, cmp.Or(problems[:]...)
}

// endUserSessions ends all sessions of a user, whichever client they are of.
func (a *API) endUserSessions(w http.ResponseWriter, r *http.Request) {
	client, err := a.allowed(r, mayStart)
	var sub string
	if err == nil {
		sub, err = subjectOfPath(r)
	}
	ended := 0
	if err == nil {
		ended, err = a.config.Sessions.EndAll(r.Context(), sub, "", refresh.Admin)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.event(r, slog.LevelInfo, "sessions ended by client", "sub", sub, "client_id", client.ID, "ended", ended)
	w.WriteHeader(http.StatusNoContent)
}

// setUserRoles changes the roles of a user: of the account, if it is one that is
// kept here, and of all sessions. The account comes first, so that a login in
// between has the new roles.
func (a *API) setUserRoles(w http.ResponseWriter, r *http.Request) {
	client, err := a.allowed(r, mayStart)
	var sub string
	if err == nil {
		sub, err = subjectOfPath(r)
	}
	var roles []string
	if err == nil {
		err = decodeJSON(r, map[string]any{"roles": &roles})
	}
	if err == nil && roles == nil {
		err = invalidRequest("roles is missing")
	}
	if err == nil {
		roles, err = roleNames(roles)
	}
	if err == nil && a.config.SetAccountRoles != nil {
		err = a.config.SetAccountRoles(r.Context(), sub, roles)
	}
	if err == nil {
		err = a.config.Sessions.SetRoles(r.Context(), sub, roles)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.event(r, slog.LevelInfo, "roles changed by client", "sub", sub, "client_id", client.ID, "roles", strings.Join(roles, " "))
	w.WriteHeader(http.StatusNoContent)
}

// subject accepts what can be part of a key, a header and a line of log. Dots
// alone would be taken out of a path by the proxy that it goes through.
func subject(text string) (string, error) {
	if !isPlain(text) || len(text) > refresh.MaxSubject || text == "." || text == ".." {
		return "", invalidRequest("sub is not 1 to 64 printable ASCII characters without spaces, quotes and backslashes, or is only dots")
	}
	return text, nil
}

// subjectOfPath undoes the encoding of the path: a subject may have a slash.
func subjectOfPath(r *http.Request) (string, error) {
	text := chi.URLParam(r, "sub")
	if r.URL.RawPath != "" { // then the router has gone by that
		var err error
		if text, err = url.PathUnescape(text); err != nil {
			return "", invalidRequest("the path is malformed")
		}
	}
	return subject(text)
}

// scopeWithin returns the scope that a session gets: what is asked for, if the
// client may have it, or else all that the client may have.
func scopeWithin(asked string, may []string) (string, error) {
	words, err := parseScope(asked)
	if err != nil {
		return "", err
	}
	if len(words) == 0 {
		words = may
	}
	for _, word := range words {
		if !slices.Contains(may, word) {
			return "", errScope
		}
	}
	return strings.Join(words, " "), nil
}

func roleNames(names []string) ([]string, error) {
	roles, err := users.NormalRoles(names)
	if err != nil {
		return nil, invalidRequest(err.Error())
	}
	return roles, nil
}

// amrNames accepts the values of RFC 8176 and others of their kind.
func amrNames(names []string) ([]string, error) {
	amr, err := users.NormalRoles(names)
	if err != nil || len(strings.Join(amr, " ")) > refresh.MaxAMR {
		return nil, invalidRequest("amr is not names like pwd and otp, of 64 bytes together")
	}
	return amr, nil
}

// pastTime reads an instant that may be of another machine's clock. The zero
// time stands for none.
func pastTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}, invalidRequest("auth_time is not a time like 2026-11-25T16:04:05Z")
	}
	if time.Until(t) > tokens.Leeway {
		return time.Time{}, invalidRequest("auth_time is in the future")
	}
	return t, nil
}
