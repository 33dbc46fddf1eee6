package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/authapi/authapi/denylist"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// oauthToken is the refresh grant of RFC 6749, section 6.
func (a *API) oauthToken(w http.ResponseWriter, r *http.Request) {
	var grantType, token, scope string
	var from credentials
	var client Client
	err := readForm(r,
		field{"grant_type", &grantType, 64, true},
		tokenField("refresh_token", &token, false),
		clientField(&from.id),
		secretField(&from.secret),
		scopeField(&scope),
	)
	switch {
	case err != nil:
	case grantType != "refresh_token":
		err = errGrantType
	case token == "":
		err = invalidRequest("refresh_token is missing")
	default:
		client, err = a.oauthClient(r, from)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.rotate(w, r, client, token, scope)
}

// oauthRevoke is RFC 7009: a refresh token ends its session, an access token
// is denied. A token that means nothing here is none of the client's worries;
// trouble is (a 200 then would be a lie).
func (a *API) oauthRevoke(w http.ResponseWriter, r *http.Request) {
	var token, hint string
	var from credentials
	var client Client
	err := readForm(r,
		tokenField("token", &token, true),
		field{"token_type_hint", &hint, 64, false},
		clientField(&from.id),
		secretField(&from.secret),
	)
	if err == nil {
		client, err = a.oauthClient(r, from)
	}
	if err == nil {
		err = a.revoke(r, token, client)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// revoke does not need the hint: the two kinds of tokens cannot be confused.
func (a *API) revoke(r *http.Request, token string, client Client) error {
	if strings.HasPrefix(token, refresh.Prefix) {
		t, err := a.config.Sessions.Parse(token)
		if errors.Is(err, refresh.ErrToken) {
			return nil
		}
		s, err := a.config.Sessions.Get(r.Context(), t.SID())
		switch {
		case errors.Is(err, refresh.ErrEnded):
			return a.config.Sessions.Confirm(r.Context(), t.SID(), refresh.Logout)
		case errors.Is(err, refresh.ErrExpired):
			// Nobody's any more; ending it still denies what may live.
		case err != nil:
			return err
		default:
			if err := a.mayRevoke(client, s.ClientID); err != nil {
				return err
			}
		}
		if err := a.config.Sessions.End(r.Context(), t.SID(), refresh.Logout); err != nil {
			return err
		}
		a.event(r, slog.LevelInfo, "refresh token revoked", "sid", t.SID())
		return nil
	}
	c, err := a.verifier.VerifyAnyTime(token)
	if errors.Is(err, tokens.ErrInvalid) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := a.mayRevoke(client, c.ClientID); err != nil {
		return err
	}
	if err := a.config.Denylist.Add(r.Context(), denylist.Token, c.SessionID, c.ID, c.ExpiresAt); err != nil {
		return err
	}
	a.event(r, slog.LevelInfo, "access token revoked", "sid", c.SessionID, "jti", c.ID)
	return nil
}

// mayRevoke refuses another client's token, and one of a client with a secret if
// it was not shown (RFC 7009, section 2.1).
func (a *API) mayRevoke(client Client, owner string) error {
	switch {
	case client.ID == "" && a.config.Clients[owner].confidential():
		return errClientAuth
	case client.ID != "" && client.ID != owner:
		return errOthersToken
	}
	return nil
}

// introspection is RFC 7662, section 2.2. Of a token that is no good nothing is
// said but that.
type introspection struct {
	Active    bool     `json:"active"`
	TokenType string   `json:"token_type,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	Audience  []string `json:"aud,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	SessionID string   `json:"sid,omitempty"`
	ID        string   `json:"jti,omitempty"`
	Scope     string   `json:"scope,omitempty"`
	Roles     []string `json:"roles,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	ExpiresAt int64    `json:"exp,omitempty"`
}

// oauthIntrospect says whether a token is good, and for what (RFC 7662). It
// changes nothing: a spent refresh token is not an alarm here, since whoever
// asks has it from somebody else.
func (a *API) oauthIntrospect(w http.ResponseWriter, r *http.Request) {
	_, err := a.allowed(r, func(c Client) bool { return c.MayIntrospect })
	var token, hint string
	var from credentials
	if err == nil {
		err = readForm(r,
			tokenField("token", &token, true),
			field{"token_type_hint", &hint, 64, false},
			clientField(&from.id),
			secretField(&from.secret),
		)
	}
	if err == nil {
		_, err = a.authenticate(r, from) // nor may the body name another
	}
	var about introspection
	if err == nil {
		about, err = a.introspect(r.Context(), token)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, about)
}

func (a *API) introspect(ctx context.Context, token string) (introspection, error) {
	if strings.HasPrefix(token, refresh.Prefix) {
		return a.introspectRefresh(ctx, token)
	}
	c, err := a.verifier.Verify(ctx, token)
	if errors.Is(err, tokens.ErrInvalid) || errors.Is(err, verify.ErrDenied) {
		return introspection{}, nil
	}
	if err != nil {
		return introspection{}, err
	}
	return introspection{
		Active: true, TokenType: "Bearer",
		Issuer: c.Issuer, Audience: c.Audience, Subject: c.Subject, ClientID: c.ClientID,
		SessionID: c.SessionID, ID: c.ID, Scope: c.Scope, Roles: c.Roles,
		IssuedAt: c.IssuedAt.Unix(), ExpiresAt: c.ExpiresAt.Unix(),
	}, nil
}

// introspectRefresh calls the session's current token active, and one that is
// ahead of what Redis knows: a refresh with it would heal the session.
func (a *API) introspectRefresh(ctx context.Context, token string) (introspection, error) {
	t, err := a.config.Sessions.Parse(token)
	if errors.Is(err, refresh.ErrToken) {
		return introspection{}, nil
	}
	s, err := a.config.Sessions.Get(ctx, t.SID())
	switch {
	case errors.Is(err, refresh.ErrExpired), errors.Is(err, refresh.ErrEnded):
		return introspection{}, nil
	case err != nil:
		return introspection{}, err
	case t.Generation() < s.Generation:
		return introspection{}, nil
	}
	return introspection{
		Active: true,
		Issuer: a.config.Issuer, Subject: s.Subject, ClientID: s.ClientID,
		SessionID: s.SID, Scope: a.granted(s.Scope, s.ClientID), Roles: s.Roles,
		IssuedAt: s.RotatedAt.Unix(), ExpiresAt: s.ExpiresAt().Unix(),
	}, nil
}

// jwks is RFC 7517. Verifiers may keep it for five minutes.
func (a *API) jwks(w http.ResponseWriter, r *http.Request) {
	body, err := json.Marshal(a.config.Keys.KeySet())
	if err != nil {
		a.fail(w, r, fmt.Errorf("%w: key set: %w", errInternal, err))
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}

// metadata is RFC 8414. Every URL in it begins with the issuer.
func metadata(issuer string) ([]byte, error) {
	at := strings.TrimSuffix(issuer, "/")
	return json.Marshal(struct {
		Issuer         string   `json:"issuer"`
		Token          string   `json:"token_endpoint"`
		TokenAuth      []string `json:"token_endpoint_auth_methods_supported"`
		Revocation     string   `json:"revocation_endpoint"`
		RevocationAuth []string `json:"revocation_endpoint_auth_methods_supported"`
		Introspection  string   `json:"introspection_endpoint"`
		IntrospectAuth []string `json:"introspection_endpoint_auth_methods_supported"`
		JWKS           string   `json:"jwks_uri"`
		GrantTypes     []string `json:"grant_types_supported"`
		ResponseTypes  []string `json:"response_types_supported"`
	}{
		issuer,
		at + "/oauth/token",
		[]string{"none", "client_secret_basic", "client_secret_post"},
		at + "/oauth/revoke",
		[]string{"none", "client_secret_basic", "client_secret_post"},
		at + "/oauth/introspect",
		[]string{"client_secret_basic"},
		at + "/.well-known/jwks.json",
		[]string{"refresh_token"},
		[]string{},
	})
}

func (a *API) serverMetadata(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(a.metadata)
}
