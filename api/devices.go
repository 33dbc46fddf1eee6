package api

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"github.com/go-chi/chi/v5"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/verify"
)

// device is a session as its user sees it.
type device struct {
	SID        string `json:"sid"`
	ClientID   string `json:"client_id"`
	Device     string `json:"device"`
	CreatedAt  string `json:"created_at"`
	LastUsedAt string `json:"last_used_at"`
	ExpiresAt  string `json:"expires_at"`
	Current    bool   `json:"current"`
}

// listSessions shows a user their sessions, the newest first.
func (a *API) listSessions(w http.ResponseWriter, r *http.Request) {
	c, _ := verify.Claims(r.Context())
	sessions, err := a.config.Sessions.List(r.Context(), c.Subject)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	devices := make([]device, 0, len(sessions))
	for _, s := range slices.Backward(sessions) {
		devices = append(devices, device{
			SID:        s.SID,
			ClientID:   s.ClientID,
			Device:     s.Device,
			CreatedAt:  timestamp(s.CreatedAt),
			LastUsedAt: timestamp(s.RotatedAt),
			ExpiresAt:  timestamp(s.ExpiresAt()),
			Current:    s.SID == c.SessionID,
		})
	}
	writeJSON(w, http.StatusOK, struct {
		Sessions []device `json:"sessions"`
	}{devices})
}

// endSession ends one of the user's sessions. Somebody else's looks the same
// as one that is not there.
func (a *API) endSession(w http.ResponseWriter, r *http.Request) {
	c, _ := verify.Claims(r.Context())
	sid := chi.URLParam(r, "sid")
	s, err := a.config.Sessions.Get(r.Context(), sid)
	switch {
	case sid == c.SessionID:
		// Their own, whether Redis still knows it or came back without: its
		// access tokens must be denied in both cases.
		err = a.config.Sessions.End(r.Context(), sid, refresh.Removed)
	case errors.Is(err, refresh.ErrExpired):
		err = errNotFound
	case errors.Is(err, refresh.ErrEnded):
		if err = a.config.Sessions.Confirm(r.Context(), sid, refresh.Removed); err == nil {
			err = errNotFound
		}
	case err == nil && s.Subject != c.Subject:
		err = errNotFound
	case err == nil:
		err = a.config.Sessions.End(r.Context(), sid, refresh.Removed)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.event(r, slog.LevelInfo, "session removed", "sub", c.Subject, "sid", sid)
	w.WriteHeader(http.StatusNoContent)
}

// endSessions ends all of the user's sessions, or all but this one.
func (a *API) endSessions(w http.ResponseWriter, r *http.Request) {
	c, _ := verify.Claims(r.Context())
	except := ""
	// Not r.URL.Query(), which drops what it cannot read: of a misspelled
	// except=current nothing would be left, and everything would end.
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		a.fail(w, r, invalidRequest("the query is malformed"))
		return
	}
	switch values, given := query["except"]; {
	case !given:
	case len(values) == 1 && values[0] == "current":
		except = c.SessionID
	default:
		a.fail(w, r, invalidRequest("except can only be current"))
		return
	}
	ended, err := a.config.Sessions.EndAll(r.Context(), c.Subject, except, refresh.Removed)
	if err == nil && except == "" {
		// It may be missing in the index if Redis came back older.
		err = a.config.Sessions.End(r.Context(), c.SessionID, refresh.Removed)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.event(r, slog.LevelInfo, "sessions removed", "sub", c.Subject, "ended", ended)
	w.WriteHeader(http.StatusNoContent)
}
