package api

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5/middleware"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/users"
)

// problem is an error as the client sees it: RFC 6749, section 5.2, with the
// reason why a session is over added for clients that want to tell their user.
type problem struct {
	status      int
	code        string
	description string // printable ASCII without " and \
	reason      string
	retryAfter  int // seconds
}

// Error lets what is wrong with a request be returned as an error.
func (p *problem) Error() string { return p.description }

func invalidRequest(description string) *problem {
	return &problem{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

var (
	errNotFound    = &problem{status: http.StatusNotFound, code: "not_found", description: "there is nothing here"}
	errMethod      = &problem{status: http.StatusMethodNotAllowed, code: "method_not_allowed", description: "this route does not know the method"}
	errTooLarge    = &problem{status: http.StatusRequestEntityTooLarge, code: "invalid_request", description: "the body is larger than 8 KiB"}
	errNotJSON     = &problem{status: http.StatusUnsupportedMediaType, code: "invalid_request", description: "the content type must be application/json"}
	errNotForm     = &problem{status: http.StatusUnsupportedMediaType, code: "invalid_request", description: "the content type must be application/x-www-form-urlencoded"}
	errClient      = &problem{status: http.StatusBadRequest, code: "invalid_client", description: "unknown client_id"}
	errNoClient    = &problem{status: http.StatusBadRequest, code: "invalid_client", description: "client_id is missing"}
	errCookies     = &problem{status: http.StatusBadRequest, code: "unauthorized_client", description: "this client keeps its refresh token in a cookie, which the routes of OAuth do not take"}
	errOrigin      = &problem{status: http.StatusForbidden, code: "access_denied", description: "requests from pages of this origin are not accepted here"}
	errPlain       = &problem{status: http.StatusForbidden, code: "access_denied", description: "a request by cookie must come over https"}
	errPageHeader  = &problem{status: http.StatusForbidden, code: "access_denied", description: "a request by cookie needs the header " + pageHeader}
	errNoSessions  = &problem{status: http.StatusBadRequest, code: "unauthorized_client", description: "this client has no sessions"}
	errClientAuth  = &problem{status: http.StatusUnauthorized, code: "invalid_client", description: "the client's id and secret are needed"}
	errMayNot      = &problem{status: http.StatusForbidden, code: "unauthorized_client", description: "this client may not do that"}
	errOthersToken = &problem{status: http.StatusBadRequest, code: "unauthorized_client", description: "the token was issued to another client"}
	errGrantType   = &problem{status: http.StatusBadRequest, code: "unsupported_grant_type", description: "the only grant_type is refresh_token"}
	errScope       = &problem{status: http.StatusBadRequest, code: "invalid_scope", description: "the session does not have this scope"}
	errAudience    = &problem{status: http.StatusUnauthorized, code: "invalid_token", description: "the access token is for another audience"}
	errNoCookie    = &problem{status: http.StatusUnauthorized, code: "invalid_grant", description: "there is no refresh token in a cookie"}
	errInternal    = &problem{status: http.StatusInternalServerError, code: "server_error", description: "something went wrong here"}
	errUnavailable = &problem{status: http.StatusServiceUnavailable, code: "temporarily_unavailable", description: "the service cannot answer now; nothing is wrong with your tokens, try again", retryAfter: 1}
)

func invalidGrant(description, reason string) problem {
	return problem{status: http.StatusUnauthorized, code: "invalid_grant", description: description, reason: reason}
}

// refusals is the table of what the packages below refuse. Whatever is neither
// here nor a problem already is trouble: 503, never a word about the token.
var refusals = []struct {
	err     error
	problem problem
}{
	{users.ErrCredentials, invalidGrant("the username or the password is wrong", "")},
	// The account changed during the login. Saying so would tell that the
	// password had been right.
	{refresh.ErrGuard, invalidGrant("the username or the password is wrong", "")},
	{refresh.ErrToken, invalidGrant("the refresh token is not valid", "")},
	{refresh.ErrExpired, invalidGrant("the session has expired", "expired")},
	{refresh.ErrEnded, invalidGrant("the session was ended", "ended")},
	{refresh.ErrReused, invalidGrant("the session was ended because a spent refresh token was used again", "reused")},
	{refresh.ErrLate, invalidGrant("this request was answered long ago; a newer refresh token exists", "")},
	{refresh.ErrClient, invalidGrant("the refresh token was issued to another client, or needs its client's credentials", "")},
	{refresh.ErrScope, *errScope},
	{users.ErrBusy, *errUnavailable},
	{refresh.ErrOften, problem{status: http.StatusTooManyRequests, code: "slow_down", description: "this refresh was repeated too often", retryAfter: 1}},
	{refresh.ErrLimit, problem{status: http.StatusTooManyRequests, code: "slow_down", description: "this session is refreshed too often", retryAfter: 1}},
	{tokens.ErrInvalid, problem{status: http.StatusUnauthorized, code: "invalid_token", description: "the access token is not valid"}},
}

func problemOf(err error) (p problem, known bool) {
	var own *problem
	if errors.As(err, &own) {
		return *own, true
	}
	var used *throttle.Refusal
	if errors.As(err, &used) {
		return tooMany(used), true
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.problem, true
		}
	}
	return *errUnavailable, false
}

// fail answers with what an error means for the client. The error itself goes
// to the log only.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, known := problemOf(err)
	switch {
	case !known, p.status == http.StatusInternalServerError:
		a.config.Logger.ErrorContext(r.Context(), "request failed", "request_id", requestIDOf(r), "error", err)
	case p.status > http.StatusInternalServerError:
		a.config.Logger.WarnContext(r.Context(), "request put off", "request_id", requestIDOf(r), "error", err)
	}
	var reuse *refresh.ReuseError
	if errors.As(err, &reuse) {
		a.event(r, slog.LevelWarn, "refresh token reused, session ended",
			"sid", reuse.SID, "sub", reuse.Subject, "client_id", reuse.ClientID,
			"presented", reuse.Presented, "current", reuse.Current)
	}
	// RFC 6749, section 5.2: the token endpoint says 400 where our own routes
	// say 401.
	if p.code == "invalid_grant" && strings.HasPrefix(r.URL.Path, "/oauth/") {
		p.status = http.StatusBadRequest
	}
	if p.status == http.StatusUnauthorized {
		challenge := "Bearer"
		switch p.code {
		case "invalid_client":
			challenge = `Basic realm="authapi"`
		case "invalid_token":
			challenge = `Bearer error="invalid_token", error_description="` + p.description + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	w.Header().Set("Cache-Control", "no-store") // what is refused now may be good in a moment
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	writeJSON(w, p.status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
		Reason      string `json:"reason,omitempty"`
	}{p.code, p.description, p.reason})
}

// event logs something that matters to whoever watches over accounts. Nothing
// in it is a secret.
func (a *API) event(r *http.Request, level slog.Level, what string, about ...any) {
	a.config.Logger.Log(r.Context(), level, what, append(about, "event", true, "ip", middleware.GetClientIP(r.Context()), "request_id", requestIDOf(r))...)
}
