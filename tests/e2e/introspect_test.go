package e2e_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// inactive is all that may be said of a token that is no good.
func inactive(t *testing.T, what string, a service.Answer) {
	t.Helper()
	var said map[string]any
	if err := json.Unmarshal(a.OK(t).Body, &said); err != nil || !reflect.DeepEqual(said, map[string]any{"active": false}) {
		t.Errorf("%s: %s", what, a.Body)
	}
}

// Introspection says what a service would find out itself, and changes nothing.
func TestIntrospection(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		me := v.Me(login.Access).OK(t)
		active := func(token string) map[string]any {
			t.Helper()
			a := v.Introspect(token).OK(t)
			var said map[string]any
			if err := json.Unmarshal(a.Body, &said); err != nil || said["active"] != true {
				t.Fatalf("%s", a.Body)
			}
			return said
		}
		now := float64(s.Now().Unix())
		for kind, said := range map[string]map[string]any{"access": active(login.Access), "refresh": active(login.Refresh)} {
			lives := map[string]float64{"access": 300, "refresh": 14 * 24 * 3600}[kind]
			if said["sub"] != me.Subject || said["sid"] != me.SID || said["client_id"] != "mobile" || said["iss"] != service.Issuer ||
				!reflect.DeepEqual(said["roles"], []any{"editor"}) || said["exp"].(float64)-said["iat"].(float64) != lives ||
				said["iat"].(float64) > now || said["iat"].(float64) < now-5 {
				t.Errorf("%s token: %v", kind, said)
			}
			if (said["token_type"] == "Bearer") != (kind == "access") || (said["jti"] == nil) != (kind == "refresh") {
				t.Errorf("%s token: %v", kind, said)
			}
		}

		next := v.Refresh(login.Refresh, "").OK(t)
		s.Advance(time.Minute)
		// Row 17 does not apply: whoever asks has not presented it for tokens.
		inactive(t, "spent refresh token", v.Introspect(login.Refresh))
		inactive(t, "spent refresh token, again", v.Introspect(login.Refresh))
		active(next.Refresh)
		active(login.Access) // a refresh denies nothing
		if g := generation(t, v, next.Refresh); g != 1 {
			t.Errorf("generation %d after introspection, want 1", g)
		}
		for what, token := range map[string]string{
			"altered refresh token": next.Refresh[:len(next.Refresh)-2] + "AA", "altered access token": login.Access[:len(login.Access)-2] + "AA",
			"garbage": "garbage", "a prefix": "authapi_rt_", "dots": "..",
		} {
			inactive(t, what, v.Introspect(token))
		}

		v.Send(revoke(login.Access)).OK(t)
		inactive(t, "denied access token", v.Introspect(login.Access))
		active(next.Access)
		v.Logout(next.Access, "").OK(t)
		inactive(t, "access token of an ended session", v.Introspect(next.Access))
		inactive(t, "refresh token of an ended session", v.Introspect(next.Refresh))

		idle := v.Login().OK(t)
		s.Advance(15 * 24 * time.Hour)
		inactive(t, "refresh token of a session that has expired", v.Introspect(idle.Refresh))
	})
}

// One client asks at a time (RFC 6749, section 2.3).
func TestIntrospectionByTwoClients(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	login := v.Login().OK(t)
	ask := func(pairs ...string) service.Answer {
		return v.Send(service.Form("/oauth/introspect", append([]string{"token", login.Access}, pairs...)...).
			WithClient(service.Introspector, service.IntrospectorSecret))
	}
	ask("client_id", service.Introspector).OK(t)
	ask("client_id", service.Shop).Is(t, 400, "invalid_request")
	ask("client_id", service.Introspector, "client_secret", service.IntrospectorSecret).Is(t, 400, "invalid_request")
}

// A service must not take trouble for a refusal.
func TestIntrospectionInTrouble(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.Login().OK(t)
		s.Kill()
		v.Introspect(login.Access).Is(t, 503, "temporarily_unavailable")
		v.Introspect(login.Refresh).Is(t, 503, "temporarily_unavailable")
		inactive(t, "what needs no Redis to be refused", v.Introspect("garbage"))
	})
}
