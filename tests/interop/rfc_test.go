package interop_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// with puts parameters into the body of a form.
func with(r service.Request, pairs ...string) service.Request {
	r.Body += "&" + service.Form("", pairs...).Body
	return r
}

func refresh(token string) service.Request {
	return service.Form("/oauth/token", "grant_type", "refresh_token", "refresh_token", token)
}

func revoke(token string) service.Request { return service.Form("/oauth/revoke", "token", token) }

// TestMetadata (RFC 8414): each endpoint is where the metadata says, and takes
// the ways to authenticate that are listed for it and no others.
func TestMetadata(t *testing.T) {
	v := start(t, redistest.Redis(t))
	var metadata struct {
		Issuer             string
		TokenEndpoint      string   `json:"token_endpoint"`
		TokenAuth          []string `json:"token_endpoint_auth_methods_supported"`
		RevocationEndpoint string   `json:"revocation_endpoint"`
		RevocationAuth     []string `json:"revocation_endpoint_auth_methods_supported"`
		IntrospectEndpoint string   `json:"introspection_endpoint"`
		IntrospectAuth     []string `json:"introspection_endpoint_auth_methods_supported"`
		JWKS               string   `json:"jwks_uri"`
		Grants             []string `json:"grant_types_supported"`
		Responses          []string `json:"response_types_supported"`
	}
	a := v.Send(service.Request{Path: "/.well-known/oauth-authorization-server"}).OK(t)
	if err := json.Unmarshal(a.Body, &metadata); err != nil || metadata.Issuer != v.URL {
		t.Fatalf("%v\n%s", err, a.Body)
	}
	path := func(endpoint string) string {
		t.Helper()
		path, ok := strings.CutPrefix(endpoint, v.URL)
		if !ok {
			t.Errorf("%q is not below the issuer", endpoint)
		}
		return path
	}

	ways := map[string]func(r service.Request, id, secret string) service.Request{
		"none": func(r service.Request, id, _ string) service.Request { return with(r, "client_id", id) },
		"client_secret_basic": func(r service.Request, id, secret string) service.Request {
			return r.WithClient(id, secret)
		},
		"client_secret_post": func(r service.Request, id, secret string) service.Request {
			return with(r, "client_id", id, "client_secret", secret)
		},
	}
	for _, endpoint := range []struct {
		url     string
		methods []string
		request func(token string) service.Request
		id      string // of who may, if it has a secret
		secret  string
	}{
		{metadata.TokenEndpoint, metadata.TokenAuth, refresh, service.Shop, service.ShopSecret},
		{metadata.RevocationEndpoint, metadata.RevocationAuth, revoke, service.Shop, service.ShopSecret},
		{
			metadata.IntrospectEndpoint, metadata.IntrospectAuth,
			func(token string) service.Request { return service.Form("", "token", token) },
			service.Introspector, service.IntrospectorSecret,
		},
	} {
		for _, method := range endpoint.methods {
			if ways[method] == nil {
				t.Errorf("%s: nobody knows how to authenticate by %s", endpoint.url, method)
			}
		}
		for method, authenticated := range ways {
			session, id := v.StartSession("42").OK(t), endpoint.id
			if method == "none" {
				session, id = v.Login().OK(t), "mobile"
			}
			r := authenticated(endpoint.request(session.Refresh), id, endpoint.secret)
			r.Path = path(endpoint.url)
			if a := v.Send(r); slices.Contains(endpoint.methods, method) {
				a.Is(t, http.StatusOK, "")
			} else {
				a.Is(t, http.StatusUnauthorized, "invalid_client")
			}
		}
	}

	if !slices.Equal(metadata.Grants, []string{"refresh_token"}) || len(metadata.Responses) != 0 {
		t.Errorf("grants %q, responses %q", metadata.Grants, metadata.Responses)
	}
	for _, grant := range []string{"authorization_code", "client_credentials", "password", "implicit"} {
		r := service.Form(path(metadata.TokenEndpoint), "grant_type", grant).AsShop()
		v.Send(r).Is(t, http.StatusBadRequest, "unsupported_grant_type")
	}
	keys := v.Send(service.Request{Path: path(metadata.JWKS)}).OK(t)
	if !strings.Contains(string(keys.Body), `"kid":"`+v.Keys.Signer().ID()+`"`) {
		t.Errorf("the key that signs is not in %s", keys.Body)
	}
}

// TestCredentials: refused credentials spend nothing and end nothing, whatever
// they came with.
func TestCredentials(t *testing.T) {
	v := start(t, redistest.Redis(t))
	theirs, mine := v.Login().OK(t), v.StartSession("42").OK(t)
	for _, request := range []func(token string) service.Request{refresh, revoke} {
		r := request(mine.Refresh)
		// RFC 6749, section 2.3: one way in each request.
		both := with(r, "client_id", service.Shop, "client_secret", service.ShopSecret).AsShop()
		v.Send(both).Is(t, http.StatusBadRequest, "invalid_request")
		v.Send(with(r, "client_id", "mobile").AsShop()).Is(t, http.StatusBadRequest, "invalid_request")

		// Section 5.2: the challenge matches the scheme.
		for _, wrong := range []service.Request{
			r.WithClient(service.Shop, "not "+service.ShopSecret),
			r.WithClient("nobody", service.ShopSecret),
			r.WithClient(service.Shop, ""),
			with(r, "client_id", service.Shop, "client_secret", "not "+service.ShopSecret),
			with(r, "client_secret", service.ShopSecret),
			with(r, "client_id", service.Shop),
			r.WithClient(service.Introspector, service.ShopSecret),
		} {
			a := v.Send(wrong)
			a.Is(t, http.StatusUnauthorized, "invalid_client")
			if challenge := a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Basic ") {
				t.Errorf("%s: WWW-Authenticate: %s", a.Route, challenge)
			}
		}
	}

	// Another client's token (RFC 6749, section 5.2; RFC 7009, section 2.1).
	v.Send(refresh(theirs.Refresh).AsShop()).Is(t, http.StatusBadRequest, "invalid_grant")
	v.Send(with(refresh(mine.Refresh), "client_id", "mobile")).Is(t, http.StatusBadRequest, "invalid_grant")
	for _, token := range []string{theirs.Refresh, theirs.Access} {
		v.Send(revoke(token).AsShop()).Is(t, http.StatusBadRequest, "unauthorized_client")
	}
	for _, token := range []string{mine.Refresh, mine.Access} {
		v.Send(with(revoke(token), "client_id", "mobile")).Is(t, http.StatusBadRequest, "unauthorized_client")
	}

	for _, session := range []service.Answer{theirs, mine} {
		v.Me(session.Access).OK(t)
		if g := generation(t, v, session.Refresh); g != 0 {
			t.Errorf("generation %d, want 0", g)
		}
	}
	v.Send(with(refresh(theirs.Refresh), "client_id", "mobile")).OK(t)
	a := v.Send(refresh(mine.Refresh).AsShop()).OK(t)
	if cached := a.Header.Get("Cache-Control"); cached != "no-store" {
		t.Errorf("Cache-Control: %s", cached)
	}
}
