package api

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5/middleware"

	"github.com/authapi/authapi/throttle"
	"github.com/authapi/authapi/users"
)

// authenticateUser checks the password of a login, if it may be tried. Every way to a
// password leads through here.
//
// The try is taken before the password is hashed, and given back if it was right
// or was not checked: only wrong passwords count in the end.
//
// When more logins are under way than will be served in time, further ones cost
// nothing but their answer: not even Redis is asked.
func (a *API) authenticateUser(w http.ResponseWriter, r *http.Request, in loginRequest) (users.Identity, error) {
	select {
	case a.logins <- struct{}{}:
		defer func() { <-a.logins }()
	default:
		return users.Identity{}, users.ErrBusy
	}
	if a.config.Throttle == nil {
		return a.checkPassword(r, in)
	}
	tried, err := a.config.Throttle.Reserve(r.Context(), throttle.Try{
		Account:   in.username,
		DeviceKey: in.deviceKey,
		Address:   middleware.GetClientIPAddr(r.Context()),
		// Its users are behind it, all at one address.
		Trusted: in.client.confidential(),
	})
	showBudgets(w, tried.Budgets)
	if err != nil {
		a.throttled(r, err, "login throttled", "client_id", in.client.ID)
		return users.Identity{}, err
	}
	who, err := a.checkPassword(r, in)
	if !errors.Is(err, users.ErrCredentials) {
		tried.Refund(r.Context())
	}
	return who, err
}

func (a *API) checkPassword(r *http.Request, in loginRequest) (users.Identity, error) {
	who, err := a.config.Users.Authenticate(r.Context(), in.username, in.password)
	if errors.Is(err, users.ErrCredentials) {
		a.event(r, slog.LevelInfo, "login refused", "client_id", in.client.ID)
	}
	return who, err
}

// failedToken counts the refusal of a refresh token that nobody made. Whoever presents
// such tokens all the time is told to slow down.
func (a *API) failedToken(r *http.Request, err error) error {
	if a.config.Throttle == nil {
		return err
	}
	if used := a.config.Throttle.Failed(middleware.GetClientIPAddr(r.Context())); used != nil {
		a.throttled(r, used, "invented refresh tokens")
		return used
	}
	return err
}

// throttled logs that somebody is refused for trying too often.
func (a *API) throttled(r *http.Request, err error, what string, about ...any) {
	var used *throttle.Refusal
	if !errors.As(err, &used) {
		return
	}
	about = append(about, "budget", used.Budget.Name)
	if len(a.config.TrustedProxies) == 0 && r.Header.Get("X-Forwarded-For") != "" {
		// Then all users may share the proxy's address.
		about = append(about, "hint", "the request says that a proxy passed it on, and no proxy is trusted (AUTHAPI_TRUSTED_PROXIES)")
	}
	a.event(r, slog.LevelWarn, what, about...)
}

func tooMany(used *throttle.Refusal) problem {
	return problem{
		status: http.StatusTooManyRequests, code: "slow_down",
		description: "too many tries; wait, and try again",
		retryAfter:  seconds(used.Wait),
	}
}

// showBudgets tells a client what is left to it (the header fields of the IETF's
// draft on rate limits).
func showBudgets(w http.ResponseWriter, budgets []throttle.Budget) {
	if len(budgets) == 0 {
		return
	}
	policies, left := make([]string, len(budgets)), make([]string, len(budgets))
	for i, b := range budgets {
		policies[i] = fmt.Sprintf(`"%s";q=%d;w=%d`, b.Name, b.Rate.N, seconds(b.Rate.Per))
		left[i] = fmt.Sprintf(`"%s";r=%d;t=%d`, b.Name, b.Left, seconds(b.Full))
	}
	w.Header().Set("RateLimit-Policy", strings.Join(policies, ", "))
	w.Header().Set("RateLimit", strings.Join(left, ", "))
}

// seconds rounds up: whoever waits that long has waited long enough.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
