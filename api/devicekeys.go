package api

import (
	"net/http"
	"strings"

	"github.com/authapi/authapi/throttle"
)

// A login gives the device a key that its next login shows, so that nobody who
// guesses passwords can keep the owner from logging in. It lies where the client's
// refresh token does, in a cookie or with the client, and a logout leaves it there.

// deviceCookieName is that of the device key's cookie. All clients of a browser
// share it. It is as well protected as the client's own.
func deviceCookieName(c Client) string {
	if strings.HasPrefix(c.cookieName(), hostPrefix) {
		return hostPrefix + "device"
	}
	return "authapi-device"
}

// deviceCookie returns the device key that came in a cookie, "" if none did, or
// several: one of them was planted.
func deviceCookie(r *http.Request, c Client) string {
	cookies := r.CookiesNamed(deviceCookieName(c))
	if len(cookies) != 1 {
		return ""
	}
	return cookies[0].Value
}

func (a *API) setDeviceCookie(w http.ResponseWriter, c Client, key string) {
	http.SetCookie(w, cookie(deviceCookieName(c), key, int(throttle.DeviceLife.Seconds())))
}

// nextDeviceKey is what a login that succeeds hands out.
func (a *API) nextDeviceKey(in loginRequest) string {
	if a.config.Throttle == nil {
		return ""
	}
	return a.config.Throttle.DeviceKey(in.username, in.deviceKey)
}
