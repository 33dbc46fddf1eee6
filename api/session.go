package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/verify"
)

// refresh exchanges a refresh token for its successor.
func (a *API) refresh(w http.ResponseWriter, r *http.Request) {
	var inBody, scope string
	var from credentials
	err := readOptionalJSON(r, tokenField("refresh_token", &inBody, false), clientField(&from.id), scopeField(&scope))
	var client Client
	if err == nil {
		client, err = a.sessionClient(r, from)
	}
	var token presented
	if err == nil {
		token, err = a.presentedToken(r, client.ID, inBody)
	}
	switch {
	case err != nil:
	case token.token == "" && client.inCookie():
		err = errNoCookie
	case token.token == "":
		err = invalidRequest("refresh_token is missing")
	case token.client.ID != "":
		client = token.client
	case client.inCookie():
		err = refresh.ErrClient // its tokens do not come in a body
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.rotate(w, r, client, token.token, scope)
}

// rotate is what /refresh and the refresh grant of /oauth/token share.
func (a *API) rotate(w http.ResponseWriter, r *http.Request, client Client, token, scope string) {
	key, err := retryKey(r)
	var words []string
	if err == nil {
		words, err = parseScope(scope)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	signer := a.config.Keys.Signer()
	g, err := a.config.Sessions.Rotate(r.Context(), refresh.Presented{
		Token:     token,
		Transport: client.transport(),
		ClientID:  client.ID,
		Scope:     strings.Join(words, " "),
		RetryKey:  key,
	})
	switch {
	case errors.Is(err, refresh.ErrToken):
		err = a.failedToken(r, err)
	case errors.Is(err, refresh.ErrLimit):
		limit := throttle.Rate(a.config.Sessions.Limit())
		showBudgets(w, []throttle.Budget{{Name: "session", Rate: limit, Full: limit.Per}})
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	if g.Ahead > 0 {
		a.event(r, aheadLevel(g.Ahead), "refresh token is newer than Redis, session healed",
			"sid", g.Session.SID, "sub", g.Session.Subject, "ahead", g.Ahead)
	}
	a.writeGrant(w, r, signer, g, "")
}

// aheadLevel: a failover loses a rotation or two of a session. More than three
// looks like an old snapshot, or like somebody who can write to Redis.
func aheadLevel(ahead uint32) slog.Level {
	if ahead > 3 {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// logout ends the session of the access token, of the refresh token, or of
// both. Neither needs to be fresh, only genuine: a client that comes back
// after a week can still log out. One that is genuine is enough; the other may
// be what a proxy has put there or an old key has signed.
func (a *API) logout(w http.ResponseWriter, r *http.Request) {
	var inBody string
	var from credentials
	err := readOptionalJSON(r, tokenField("refresh_token", &inBody, false), clientField(&from.id))
	var token presented
	if err == nil {
		token, err = a.presentedToken(r, from.id, inBody)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	refusal := error(invalidRequest("an access token or a refresh token is needed"))
	sids := map[string]bool{}
	if token.token != "" {
		if t, err := a.config.Sessions.Parse(token.token); err == nil {
			sids[t.SID()] = true
		} else {
			refusal = err
		}
	}
	if len(r.Header.Values("Authorization")) > 0 {
		access, _ := verify.Bearer(r)
		if c, err := a.verifier.VerifyAnyTime(access); err == nil {
			sids[c.SessionID] = true
		} else {
			refusal = err
		}
	}
	if len(sids) == 0 {
		if token.client.ID != "" {
			// It opens nothing, and its owner wants to be rid of it.
			a.clearCookie(w, token.client)
		}
		a.fail(w, r, refusal)
		return
	}
	for sid := range sids {
		if err := a.config.Sessions.End(r.Context(), sid, refresh.Logout); err != nil {
			a.fail(w, r, err)
			return
		}
		a.event(r, slog.LevelInfo, "logout", "sid", sid)
	}
	if token.client.ID != "" {
		a.clearCookie(w, token.client)
	}
	w.WriteHeader(http.StatusNoContent)
}

// me says who the access token speaks of.
func (a *API) me(w http.ResponseWriter, r *http.Request) {
	c, _ := verify.Claims(r.Context())
	var username string
	if a.config.Username != nil {
		var err error
		if username, err = a.config.Username(r.Context(), c.Subject); err != nil {
			a.fail(w, r, fmt.Errorf("find the username: %w", err))
			return
		}
	}
	writeJSON(w, http.StatusOK, struct {
		Subject   string   `json:"sub"`
		Username  string   `json:"username,omitempty"`
		SID       string   `json:"sid"`
		ClientID  string   `json:"client_id"`
		Roles     []string `json:"roles"`
		Scope     string   `json:"scope"`
		AuthTime  string   `json:"auth_time"`
		ExpiresAt string   `json:"expires_at"`
	}{
		c.Subject, username, c.SessionID, c.ClientID, append([]string{}, c.Roles...), c.Scope,
		timestamp(c.AuthTime), timestamp(c.ExpiresAt),
	})
}
