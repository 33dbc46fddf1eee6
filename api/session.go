package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/users"
	"github.com/authapi/authapi/verify"
)

// login starts a session for a user with a password.
func (a *API) login(w http.ResponseWriter, r *http.Request) {
	var username, password, device string
	clientID := DefaultClient
	err := readJSON(r,
		field{"username", &username, users.MaxUsername, true},
		field{"password", &password, users.MaxPassword, true},
		field{"device", &device, refresh.MaxDevice, false},
		clientField(&clientID),
	)
	if err == nil {
		err = a.client(clientID)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	signer := a.Keys.Signer()
	who, err := a.Users.Authenticate(r.Context(), username, password)
	if err != nil {
		if errors.Is(err, users.ErrCredentials) {
			a.event(r, slog.LevelInfo, "login refused", "client_id", clientID)
		}
		a.fail(w, r, err)
		return
	}
	g, err := a.Sessions.Create(r.Context(), refresh.Login{
		Subject:  who.Subject,
		ClientID: clientID,
		Roles:    who.Roles,
		AMR:      who.AMR,
		Device:   device,
		Guard:    refresh.Guard(who.Guard),
	})
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.event(r, slog.LevelInfo, "login", "sub", who.Subject, "sid", g.Session.SID, "client_id", clientID)
	a.writeGrant(w, r, signer, g)
}

// refresh exchanges a refresh token for its successor.
func (a *API) refresh(w http.ResponseWriter, r *http.Request) {
	var token, clientID string
	err := readJSON(r, tokenField("refresh_token", &token, true), clientField(&clientID))
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.rotate(w, r, token, clientID)
}

// rotate is what /refresh and the refresh grant of /oauth/token share.
func (a *API) rotate(w http.ResponseWriter, r *http.Request, token, clientID string) {
	key, err := retryKey(r)
	if err == nil {
		err = a.client(clientID)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	signer := a.Keys.Signer()
	g, err := a.Sessions.Rotate(r.Context(), refresh.Presented{
		Token:     token,
		Transport: refresh.Body,
		ClientID:  clientID,
		RetryKey:  key,
	})
	if err != nil {
		a.fail(w, r, err)
		return
	}
	if g.Ahead > 0 {
		a.event(r, aheadLevel(g.Ahead), "refresh token is newer than Redis, session healed",
			"sid", g.Session.SID, "sub", g.Session.Subject, "ahead", g.Ahead)
	}
	a.writeGrant(w, r, signer, g)
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
// after a week can still log out.
func (a *API) logout(w http.ResponseWriter, r *http.Request) {
	var token string
	if r.ContentLength != 0 || r.Header.Get("Content-Type") != "" {
		if err := readJSON(r, tokenField("refresh_token", &token, false)); err != nil {
			a.fail(w, r, err)
			return
		}
	}
	var sids []string
	if len(r.Header.Values("Authorization")) > 0 {
		access, _ := verify.Bearer(r)
		c, err := a.verifier.VerifyIgnoringExpiry(access)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		sids = append(sids, c.SessionID)
	}
	if token != "" {
		t, err := a.Sessions.Parse(token)
		if err != nil {
			a.fail(w, r, err)
			return
		}
		if sid := t.SID(); len(sids) == 0 || sids[0] != sid {
			sids = append(sids, sid)
		}
	}
	if len(sids) == 0 {
		a.fail(w, r, invalidRequest("an access token or a refresh token is needed"))
		return
	}
	for _, sid := range sids {
		if err := a.Sessions.End(r.Context(), sid, refresh.Logout); err != nil {
			a.fail(w, r, err)
			return
		}
		a.event(r, slog.LevelInfo, "logout", "sid", sid)
	}
	w.WriteHeader(http.StatusNoContent)
}

// me says who the access token speaks of.
func (a *API) me(w http.ResponseWriter, r *http.Request) {
	c, _ := verify.Claims(r.Context())
	var username string
	if a.Username != nil {
		var err error
		if username, err = a.Username(r.Context(), c.Subject); err != nil {
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
