package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/tests/service"
)

const boutiqueSecret = "the-secret-of-another-shop"

// boutique is a second client like the shop.
func boutique(c *api.Config) {
	client := c.Clients[service.Shop]
	client.ID = "boutique"
	client.Secrets = []api.ClientSecret{api.HashClientSecret(boutiqueSecret)}
	c.Clients["boutique"] = client
}

// Row 28: a refresh token of a client with a secret is worth nothing without it,
// and whoever tries changes nothing.
func TestRow28RefreshNeedsTheClientsSecret(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.With(boutique))
		login := v.StartSession("42").OK(t)
		bare := service.RefreshRequest(login.Refresh, "")
		form := grant(login.Refresh)
		basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
		for _, c := range []bad{
			{"nobody", bare, 401, "invalid_grant"},
			{"nobody, form", form, 400, "invalid_grant"},
			{"its name alone", service.JSON("/refresh", object("refresh_token", login.Refresh, "client_id", service.Shop)), 401, "invalid_client"},
			{"its name alone, form", grant(login.Refresh, "client_id", service.Shop), 401, "invalid_client"},
			{"a public client", service.JSON("/refresh", object("refresh_token", login.Refresh, "client_id", "mobile")), 401, "invalid_grant"},
			{"another's secret", bare.WithClient(service.Shop, boutiqueSecret), 401, "invalid_client"},
			{"another client", bare.WithClient("boutique", boutiqueSecret), 401, "invalid_grant"},
			{"another client, form", form.WithClient("boutique", boutiqueSecret), 400, "invalid_grant"},
			{"no secret", bare.WithClient(service.Shop, ""), 401, "invalid_client"},
			{"a public client with a secret", bare.WithClient("mobile", "x"), 401, "invalid_client"},
			{"no such client", bare.WithClient("nobody", service.ShopSecret), 401, "invalid_client"},
			{"the hash", bare.WithClient(service.Shop, api.HashClientSecret(service.ShopSecret).String()), 401, "invalid_client"},
			{"a public client without a secret", bare.WithClient("mobile", ""), 401, "invalid_grant"},
			{"no colon", bare.WithHeader("Authorization", basic(service.Shop)), 401, "invalid_client"},
			{"no base64", bare.WithHeader("Authorization", "Basic !!!"), 401, "invalid_client"},
			{"nothing behind the scheme", bare.WithHeader("Authorization", "basic"), 401, "invalid_client"},
			{"behind another scheme", bare.WithHeader("Authorization", "Bearer x").AsShop(), 401, "invalid_client"},
			{"twice", bare.AsShop().AsShop(), 401, "invalid_client"},
			{"a wrong secret in the form", grant(login.Refresh, "client_id", service.Shop, "client_secret", "wrong"), 401, "invalid_client"},
			{"a secret without a name", grant(login.Refresh, "client_secret", service.ShopSecret), 401, "invalid_client"},
			{"in two ways", grant(login.Refresh, "client_id", service.Shop, "client_secret", service.ShopSecret).AsShop(), 400, "invalid_request"},
			{"as another than the name says", grant(login.Refresh, "client_id", "boutique").AsShop(), 400, "invalid_request"},
			{"a secret in JSON", service.JSON("/refresh", object("refresh_token", login.Refresh, "client_id", service.Shop, "client_secret", service.ShopSecret)), 401, "invalid_client"},
			{"a client without sessions", bare.WithClient(service.Introspector, service.IntrospectorSecret), 400, "unauthorized_client"},
		} {
			a := v.Send(c.request)
			if a.Status != c.status || a.Error != c.code {
				t.Errorf("%s: got %d %s (%s), want %d %s", c.name, a.Status, a.Error, a.Description, c.status, c.code)
			}
			if challenge := a.Header.Get("WWW-Authenticate"); (a.Error == "invalid_client" && a.Status == 401) != (challenge == `Basic realm="authapi"`) {
				t.Errorf("%s: WWW-Authenticate: %s", c.name, challenge)
			}
		}
		if g := generation(t, v, login.Refresh); g != 0 {
			t.Errorf("generation %d, want 0", g)
		}
		next := v.Send(bare.AsShop()).OK(t)
		next = v.Send(grant(next.Refresh).AsShop()).OK(t)
		next = v.Send(grant(next.Refresh, "client_id", service.Shop, "client_secret", service.ShopSecret)).OK(t)
		next = v.Send(grant(next.Refresh, "client_id", service.Shop).AsShop()).OK(t)
		v.Me(next.Access).OK(t)

		// A copy of a spent token is noticed only when it comes with the secret:
		// anybody else could end sessions with what lies around.
		v.Send(bare).Is(t, 401, "invalid_grant")
		v.Me(next.Access).OK(t)
		v.Send(bare.AsShop()).Is(t, 401, "invalid_grant reused")
		v.Me(next.Access).Is(t, 401, "invalid_token")
	})
}

// A client with a secret may log users of the directory in as well.
func TestLoginOfAConfidentialClient(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.With(boutique))
		body := object("username", service.Username, "password", service.Password)
		named := object("username", service.Username, "password", service.Password, "client_id", service.Shop)
		v.Send(service.JSON("/login", named)).Is(t, 401, "invalid_client")
		v.Send(service.JSON("/login", named).WithClient("boutique", boutiqueSecret)).Is(t, 400, "invalid_request")
		v.Send(service.JSON("/login", body).WithClient(service.Shop, "wrong")).Is(t, 401, "invalid_client")
		for _, b := range []string{body, named} {
			a := v.Send(service.JSON("/login", b).AsShop()).OK(t)
			if me := v.Me(a.Access).OK(t); me.ClientID != service.Shop || me.Username != service.Username || a.Scope != service.ShopScope {
				t.Errorf("%+v %q", me, a.Scope)
			}
		}
		// A token in the header, left by some library, is no client.
		old := v.Login().OK(t)
		if me := v.Me(v.Send(service.JSON("/login", body).WithBearer(old.Access)).OK(t).Access).OK(t); me.ClientID != "mobile" {
			t.Errorf("%+v", me)
		}
	})
}

// RFC 7009, section 2.1: who may revoke a client's token.
func TestRevocationByClients(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.With(boutique))
		login := v.StartSession("42").OK(t)
		public := v.Login().OK(t)
		for _, token := range []string{login.Refresh, login.Access} {
			v.Send(revoke(token)).Is(t, 401, "invalid_client")
			v.Send(revoke(token, "client_id", "mobile")).Is(t, 400, "unauthorized_client")
			v.Send(revoke(token).WithClient("boutique", boutiqueSecret)).Is(t, 400, "unauthorized_client")
			v.Send(revoke(token).WithClient(service.Shop, "wrong")).Is(t, 401, "invalid_client")
		}
		v.Send(revoke(public.Refresh).AsShop()).Is(t, 400, "unauthorized_client")
		v.Send(revoke("unknown").AsShop()).OK(t)
		v.Me(login.Access).OK(t)
		v.Me(public.Access).OK(t)

		v.Send(revoke(login.Access).AsShop()).OK(t)
		v.Me(login.Access).Is(t, 401, "invalid_token")
		next := v.Send(service.RefreshRequest(login.Refresh, "").AsShop()).OK(t)
		v.Send(revoke(next.Refresh, "client_id", service.Shop, "client_secret", service.ShopSecret)).OK(t)
		v.Send(revoke(next.Refresh).AsShop()).OK(t)
		v.Me(next.Access).Is(t, 401, "invalid_token")

		s.Kill()
		v.Send(revoke(public.Refresh)).Is(t, 503, "temporarily_unavailable")
		v.Send(revoke(next.Refresh).AsShop()).Is(t, 503, "temporarily_unavailable")
	})
}

// Row 28: scope can be narrowed at a refresh, for its access token alone, and
// never widened.
func TestRow28Scope(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.StartSession("42").OK(t)
		scope := func(a service.Answer) string {
			t.Helper()
			inToken := claims(t, v, a.OK(t).Access).Scope
			if inToken != a.Scope {
				t.Errorf("the token says %q, the answer %q", inToken, a.Scope)
			}
			return inToken
		}
		for _, wider := range []string{"orders:read admin", "admin", "orders", "orders:reads", "read", "ORDERS:READ", "orders:.*"} {
			v.Send(grant(login.Refresh, "scope", wider).AsShop()).Is(t, 400, "invalid_scope")
			v.Send(service.JSON("/refresh", object("refresh_token", login.Refresh, "scope", wider)).AsShop()).Is(t, 400, "invalid_scope")
		}
		if g := generation(t, v, login.Refresh); g != 0 {
			t.Errorf("generation %d, want 0", g)
		}
		narrow := v.Send(grant(login.Refresh, "scope", "orders:read").AsShop().WithHeader("Idempotency-Key", "k"))
		if got := scope(narrow); got != "orders:read" {
			t.Errorf("scope %q", got)
		}
		again := v.Send(grant(login.Refresh, "scope", "orders:read").AsShop().WithHeader("Idempotency-Key", "k"))
		if got := scope(again); got != "orders:read" || again.Refresh != narrow.Refresh {
			t.Errorf("a retry has the scope %q, and the same successor: %v", got, again.Refresh == narrow.Refresh)
		}
		// The session keeps what it was granted (RFC 6749, section 6).
		whole := v.Send(service.RefreshRequest(narrow.Refresh, "").AsShop())
		if got := scope(whole); got != service.ShopScope {
			t.Errorf("scope %q", got)
		}
		v.Send(grant(whole.Refresh, "scope", "orders:read admin").AsShop()).Is(t, 400, "invalid_scope")

		small := v.Send(start(`{"sub":"42","scope":"orders:write"}`))
		if got := scope(small); got != "orders:write" {
			t.Errorf("scope %q", got)
		}
		v.Send(grant(small.Refresh, "scope", "orders:read").AsShop()).Is(t, 400, "invalid_scope")
		if got := scope(v.Send(grant(small.Refresh).AsShop())); got != "orders:write" {
			t.Errorf("scope %q", got)
		}
		// Twice the same word is one, and never too much.
		many := strings.TrimSuffix(strings.Repeat("orders:read ", 20), " ")
		if got := scope(v.Send(start(`{"sub":"42","scope":"` + many + `"}`))); got != "orders:read" {
			t.Errorf("scope %q", got)
		}
		twice := v.StartSession("42").OK(t)
		if got := scope(v.Send(grant(twice.Refresh, "scope", "orders:write orders:write").AsShop())); got != "orders:write" {
			t.Errorf("scope %q", got)
		}
		if got := scope(v.Login()); got != "" {
			t.Errorf("a client without scopes got %q", got)
		}
	})
}

// What a client's configuration no longer has, its sessions lose at the next
// refresh; what it has gained, only new ones get.
func TestScopesOfAChangedClient(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login := v.StartSession("42").OK(t)
		changed := service.Start(t, s, service.With(func(c *api.Config) {
			client := c.Clients[service.Shop]
			client.Scopes = []string{"orders:write", "refunds"}
			c.Clients[service.Shop] = client
		}))
		next := changed.Send(service.RefreshRequest(login.Refresh, "").AsShop()).OK(t)
		if c := claims(t, v, next.Access); c.Scope != "orders:write" || next.Scope != "orders:write" {
			t.Errorf("scope %q and %q", c.Scope, next.Scope)
		}
		var about struct{ Scope string }
		if err := json.Unmarshal(changed.Introspect(next.Refresh).OK(t).Body, &about); err != nil || about.Scope != "orders:write" {
			t.Errorf("introspection: scope %q, %v", about.Scope, err)
		}
		if a := changed.StartSession("42").OK(t); a.Scope != "orders:write refunds" {
			t.Errorf("scope %q", a.Scope)
		}
	})
}

// A client's tokens are for whom its configuration says, and still good here.
func TestAudienceOfAClient(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s, service.With(func(c *api.Config) {
			client := c.Clients[service.Shop]
			client.Audience = []string{"https://orders.example.com", "https://mail.example.com"}
			c.Clients[service.Shop] = client
		}))
		login, other := v.StartSession("42").OK(t), v.Login().OK(t)
		if got := claims(t, v, login.Access).Audience; !slices.Equal(got, []string{"https://orders.example.com", "https://mail.example.com"}) {
			t.Errorf("audience %q", got)
		}
		v.Me(login.Access).OK(t)
		v.List(login.Access)
		if a := v.Introspect(login.Access).OK(t); !strings.Contains(string(a.Body), `"active":true`) {
			t.Errorf("%s", a.Body)
		}
		for _, c := range []struct {
			query, access string
			status        int
		}{
			{"", other.Access, 204},
			{"", login.Access, 401},
			{"?audience=https://orders.example.com", login.Access, 204},
			{"?audience=https://mail.example.com", login.Access, 204},
			{"?audience=https://orders.example.com", other.Access, 401},
			{"?audience=" + service.Audience, other.Access, 204},
			{"?audience=", other.Access, 401},
			{"?audience=https://orders.example.com&audience=https://mail.example.com", login.Access, 400},
			{"?audience=%zz", login.Access, 400},
		} {
			if a := v.Send(service.Request{Path: "/verify" + c.query, Bearer: c.access}); a.Status != c.status {
				t.Errorf("/verify%s: %d, want %d", c.query, a.Status, c.status)
			}
		}
		next := v.Send(service.RefreshRequest(login.Refresh, "").AsShop()).OK(t)
		if got := claims(t, v, next.Access).Audience; len(got) != 2 {
			t.Errorf("audience %q after a refresh", got)
		}
		v.Logout(next.Access, "").OK(t)
		v.Me(next.Access).Is(t, 401, "invalid_token")
	})
}

// A client that is given a secret keeps its sessions. They need it as soon as it
// was shown for them, and not before: the retry of a request without it must not
// log anybody out.
func TestClientBecomesConfidential(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		v := service.Start(t, s)
		login, idle, old := v.Login().OK(t), v.Login().OK(t), v.Login().OK(t)
		v = service.Start(t, s, service.With(func(c *api.Config) {
			client := c.Clients["mobile"]
			client.Secrets = []api.ClientSecret{api.HashClientSecret(boutiqueSecret)}
			client.Policy.Transport = refresh.Authenticated
			c.Clients["mobile"] = client
		}))
		next := v.Send(service.RefreshRequest(login.Refresh, "k").WithClient("mobile", boutiqueSecret)).OK(t)
		if again := v.Send(service.RefreshRequest(login.Refresh, "k").WithClient("mobile", boutiqueSecret)).OK(t); again.Refresh != next.Refresh {
			t.Error("a retry got another successor")
		}
		v.Refresh(next.Refresh, "").Is(t, 401, "invalid_grant")
		next = v.Send(service.RefreshRequest(next.Refresh, "").WithClient("mobile", boutiqueSecret)).OK(t)
		v.Me(next.Access).OK(t)
		v.Send(service.RefreshRequest(idle.Refresh, "").WithClient("mobile", boutiqueSecret)).OK(t)

		// An application of before goes on until it is renewed.
		first := v.Refresh(old.Refresh, "l").OK(t)
		if again := v.Refresh(old.Refresh, "l").OK(t); again.Refresh != first.Refresh {
			t.Error("a retry got another successor")
		}
		v.Send(service.RefreshRequest(first.Refresh, "").WithClient("mobile", boutiqueSecret)).OK(t)
	})
}

// A client that this instance does not know, not yet or no more: its sessions
// stay what they are. In particular their tokens do not become others' tokens.
func TestUnknownClient(t *testing.T) {
	each(t, func(t *testing.T, s *redistest.Server) {
		audience := []string{"https://orders.example.com"}
		v := service.Start(t, s, service.With(func(c *api.Config) {
			tablet := c.Clients["mobile"]
			tablet.ID, tablet.Audience, tablet.Scopes = "tablet", audience, []string{"a", "b"}
			c.Clients["tablet"] = tablet
			shop := c.Clients[service.Shop]
			shop.Audience = audience
			c.Clients[service.Shop] = shop
		}))
		without := service.Start(t, s, service.With(func(c *api.Config) { delete(c.Clients, service.Shop) }))
		login := v.Send(service.JSON("/login", object("username", service.Username, "password", service.Password, "client_id", "tablet"))).OK(t)
		next := without.Refresh(login.Refresh, "").OK(t)
		if c := claims(t, v, next.Access); !slices.Equal(c.Audience, audience) || c.Scope != "a b" || c.ClientID != "tablet" {
			t.Errorf("%+v", c)
		}
		v.Me(next.Access).OK(t)
		without.Me(next.Access).Is(t, 401, "invalid_token") // whom it is for is unknown there
		without.Send(service.JSON("/refresh", object("refresh_token", next.Refresh, "client_id", "tablet"))).Is(t, 400, "invalid_client")

		// It can be ended all the same, by whatever was granted.
		without.Send(revoke(next.Access)).OK(t)
		v.Me(next.Access).Is(t, 401, "invalid_token")
		next = v.Refresh(next.Refresh, "").OK(t)
		without.Logout(next.Access, "").OK(t)
		v.Me(next.Access).Is(t, 401, "invalid_token")

		shop := v.StartSession("42").OK(t)
		without.Send(service.RefreshRequest(shop.Refresh, "").AsShop()).Is(t, 401, "invalid_client")
		without.Refresh(shop.Refresh, "").Is(t, 401, "invalid_grant")
		v.Send(service.RefreshRequest(shop.Refresh, "").AsShop()).OK(t)
	})
}

// Whoever has the hash of nothing in the file has not opened the door.
func TestEmptySecretIsNone(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t), service.With(func(c *api.Config) {
		shop := c.Clients[service.Shop]
		shop.Secrets = []api.ClientSecret{api.HashClientSecret("")}
		c.Clients[service.Shop] = shop
	}))
	v.Send(service.JSON("/sessions", `{"sub":"42"}`).WithClient(service.Shop, "")).Is(t, 401, "invalid_client")
	v.Send(revoke("x", "client_id", service.Shop, "client_secret", "")).Is(t, 401, "invalid_client")
}

// A wrong secret of a client that exists is worth a line to whoever watches.
func TestWrongSecretIsAnEvent(t *testing.T) {
	v := service.Start(t, redistest.Miniredis(t))
	start := service.JSON("/sessions", `{"sub":"42"}`)
	v.Send(start.WithClient(service.Shop, "wrong")).Is(t, 401, "invalid_client")
	v.Send(start.WithClient("nobody", "wrong")).Is(t, 401, "invalid_client")
	v.Send(start).Is(t, 401, "invalid_client")
	events := v.Log.Find("client refused: wrong secret")
	if len(events) != 1 || events[0]["client_id"] != service.Shop || events[0]["event"] != true {
		t.Errorf("%v", events)
	}
}

// Several secrets are good at once, so that a new one can be rolled out.
func TestSecretsOfAClientRotate(t *testing.T) {
	const old, next = "the-old-secret-of-the-shop", "the-new-secret-of-the-shop"
	s := redistest.Miniredis(t)
	with := func(secrets ...string) *service.Service {
		return service.Start(t, s, service.With(func(c *api.Config) {
			client := c.Clients[service.Shop]
			client.Secrets = nil
			for _, secret := range secrets {
				client.Secrets = append(client.Secrets, api.HashClientSecret(secret))
			}
			c.Clients[service.Shop] = client
		}))
	}
	start := service.JSON("/sessions", `{"sub":"42"}`)
	for _, step := range []struct {
		secrets   []string
		good, bad []string
	}{
		{[]string{old}, []string{old}, []string{next}},
		{[]string{old, next}, []string{old, next}, []string{old + next, old + "," + next}},
		{[]string{next}, []string{next}, []string{old}},
	} {
		v := with(step.secrets...)
		for _, secret := range step.good {
			v.Send(start.WithClient(service.Shop, secret)).OK(t)
		}
		for _, secret := range step.bad {
			v.Send(start.WithClient(service.Shop, secret)).Is(t, 401, "invalid_client")
		}
	}
}
