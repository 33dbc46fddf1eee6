package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
)

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error here means that the client has gone.
	_ = json.NewEncoder(w).Encode(body)
}

// tokenResponse is RFC 6749, section 5.1. All durations are in seconds from
// now, so that a client with a wrong clock can use them.
type tokenResponse struct {
	AccessToken      string `json:"access_token"`
	TokenType        string `json:"token_type"`
	ExpiresIn        int64  `json:"expires_in"`
	RefreshToken     string `json:"refresh_token,omitempty"` // not if it is in a cookie
	RefreshExpiresIn int64  `json:"refresh_expires_in"`
	SessionExpiresIn int64  `json:"session_expires_in"`
	Scope            string `json:"scope"`
	DeviceKey        string `json:"device_key,omitempty"` // of a login; not if it is in a cookie
}

// writeGrant signs the access token that a grant allows and hands both tokens
// out, and the device key if there is one. The signer was fetched before the grant was made: a grant that nobody
// can sign would spend the client's refresh token for nothing.
func (a *API) writeGrant(w http.ResponseWriter, r *http.Request, signer *tokens.SigningKey, g *refresh.Grant, deviceKey string) {
	s := &g.Session
	scope := a.granted(g.Scope, s.ClientID)
	access, err := signer.Sign(tokens.Claims{
		Issuer:    a.config.Issuer,
		Subject:   s.Subject,
		Audience:  a.audience(s),
		ExpiresAt: g.AccessExpires,
		IssuedAt:  g.IssuedAt,
		ID:        g.JTI,
		ClientID:  s.ClientID,
		SessionID: s.SID,
		AuthTime:  s.AuthTime,
		Scope:     scope,
		Roles:     s.Roles,
		AMR:       s.AMR,
	})
	if err != nil {
		a.fail(w, r, fmt.Errorf("%w: sign: %w", errInternal, err))
		return
	}
	if !g.Fresh() {
		a.fail(w, r, fmt.Errorf("%w: this process stood still after the grant", errUnavailable))
		return
	}
	response := tokenResponse{
		AccessToken:      access,
		TokenType:        "Bearer",
		ExpiresIn:        secondsUntil(g.Now, g.AccessExpires),
		RefreshToken:     g.Token,
		RefreshExpiresIn: secondsUntil(g.Now, s.ExpiresAt()),
		SessionExpiresIn: secondsUntil(g.Now, s.EndsAt),
		Scope:            scope,
		DeviceKey:        deviceKey,
	}
	if s.Policy.Transport == refresh.Cookie {
		response.RefreshToken, response.DeviceKey = "", ""
		// The browser has what is unchanged. An answer that comes late would put it
		// over a newer one.
		if !g.Unchanged {
			a.setCookie(w, a.config.Clients[s.ClientID], g.Token, response.RefreshExpiresIn)
		}
		if deviceKey != "" {
			a.setDeviceCookie(w, a.config.Clients[s.ClientID], deviceKey)
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache") // RFC 6749, section 5.1
	writeJSON(w, http.StatusOK, response)
}

// audience is whom a session's access tokens are for. Its client's configuration
// counts, or, if this instance does not know the client, what the session carries
// of it.
func (a *API) audience(s *refresh.Session) []string {
	audience := strings.Fields(s.Policy.Audience)
	if client, known := a.config.Clients[s.ClientID]; known {
		audience = client.Audience
	}
	if len(audience) == 0 {
		audience = []string{a.config.Audience}
	}
	return audience
}

// secondsUntil counts from the whole second, as the instants in tokens do: a
// new token of five minutes has 300, not 299.
func secondsUntil(now, then time.Time) int64 {
	return max(0, int64(then.Sub(now.Truncate(time.Second))/time.Second))
}

// timestamp is RFC 3339 in UTC, to the second.
func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
