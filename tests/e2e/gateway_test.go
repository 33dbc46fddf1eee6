package e2e_test

import (
	"testing"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// A gateway learns who is asking, and nothing of a request that it must not pass
// on.
func TestVerifyForGateways(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		ask := func(access string) service.Answer { return v.Send(service.Request{Path: "/verify", Bearer: access}) }
		identity := []string{"X-Auth-Subject", "X-Auth-Client-Id", "X-Auth-Session-Id", "X-Auth-Roles", "X-Auth-Scope"}

		shop := v.StartSession("user/42", "buyer", "vip").OK(t)
		me := v.Me(shop.Access).OK(t)
		want := []string{"user/42", service.Shop, me.SID, "buyer vip", service.ShopScope}
		for i, a := 0, ask(shop.Access).OK(t); i < len(identity); i++ {
			if got := a.Header.Get(identity[i]); got != want[i] {
				t.Errorf("%s: %q, want %q", identity[i], got, want[i])
			}
		}
		// Empty is there as well.
		plain := v.StartSession("43").OK(t)
		for _, name := range identity {
			if values := ask(plain.Access).OK(t).Header.Values(name); len(values) != 1 {
				t.Errorf("%s: %q", name, values)
			}
		}

		v.Send(endAll("user/42")).OK(t)
		for what, a := range map[string]service.Answer{
			"revoked":   ask(shop.Access),
			"altered":   ask(plain.Access + "x"),
			"no token":  v.Send(service.Request{Path: "/verify"}),
			"refresh":   ask(plain.Refresh),
			"two":       v.Send(service.Request{Path: "/verify", Bearer: plain.Access}.WithHeader("Authorization", "Bearer "+plain.Access)),
			"basic":     v.Send(service.Request{Path: "/verify"}.AsShop()),
			"in a form": v.Send(service.Request{Path: "/verify?access_token=" + plain.Access}),
		} {
			a.Is(t, 401, "invalid_token")
			for _, name := range identity {
				if len(a.Header.Values(name)) != 0 {
					t.Errorf("%s: %s: %q", what, name, a.Header.Get(name))
				}
			}
		}
		s.Kill()
		ask(plain.Access).Is(t, 503, "temporarily_unavailable")
	})
}
