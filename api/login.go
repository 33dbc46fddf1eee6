package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/users"
)

// loginRequest is what somebody logs in with.
type loginRequest struct {
	client             Client
	username, password string
	device             string // how the user's list of sessions calls it
	deviceKey          string // that an earlier login gave it
}

// login starts a session for a user with a password.
func (a *API) login(w http.ResponseWriter, r *http.Request) {
	in, err := a.readLogin(r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	signer := a.config.Keys.Signer()
	who, err := a.authenticateUser(w, r, in)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.start(w, r, signer, beginning{
		event: "login",
		login: refresh.Login{
			Subject:  who.Subject,
			ClientID: in.client.ID,
			Roles:    who.Roles,
			Scope:    strings.Join(in.client.Scopes, " "),
			AMR:      who.AMR,
			Device:   in.device,
			Guard:    refresh.Guard(who.Guard),
		},
		deviceKey: a.nextDeviceKey(in),
	})
}

func (a *API) readLogin(r *http.Request) (loginRequest, error) {
	var in loginRequest
	var from credentials
	err := readJSON(r,
		field{"username", &in.username, users.MaxUsername, true},
		field{"password", &in.password, users.MaxPassword, true},
		field{"device", &in.device, refresh.MaxDevice, false},
		tokenField("device_key", &in.deviceKey, false),
		clientField(&from.id),
	)
	if err == nil && !hasBasic(r) && from.id == "" {
		from.id = DefaultClient
		if _, exists := a.config.Clients[DefaultClient]; !exists {
			err = errNoClient
		}
	}
	if err == nil {
		in.client, err = a.sessionClient(r, from)
	}
	if err == nil && in.client.inCookie() {
		if err = a.fromPage(r, in.client); err == nil {
			in.deviceKey = deviceCookie(r, in.client)
		}
	}
	return in, err
}

// beginning is a session that is about to start.
type beginning struct {
	event     string // what the log calls it
	login     refresh.Login
	deviceKey string // to hand out; "": none
}

// start begins a session for a user who has been authenticated.
func (a *API) start(w http.ResponseWriter, r *http.Request, signer *tokens.SigningKey, b beginning) {
	g, err := a.config.Sessions.Create(r.Context(), b.login)
	if errors.Is(err, refresh.ErrEnded) {
		// By a logout of all devices, while the script ran a second time
		// because its reply was lost. Nothing is wrong with the password.
		err = fmt.Errorf("%w: %w", errUnavailable, err)
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.event(r, slog.LevelInfo, b.event, "sub", b.login.Subject, "sid", g.Session.SID, "client_id", b.login.ClientID)
	if client := a.config.Clients[b.login.ClientID]; client.inCookie() {
		a.endReplaced(r, client, b.login.Subject)
	}
	a.writeGrant(w, r, signer, g, b.deviceKey)
}
