// Package interop_test uses the service with standard clients, unchanged:
// golang.org/x/oauth2 (oauth2_test.go), oauth4webapi (oauth4webapi.mjs) and jose
// (jose.mjs). Each of these files also shows how that client is set up.
//
// rfc_test.go has what the standards demand and the clients do not check.
//
// Clients believe what the metadata says. So the service has the address under
// which they reach it as its issuer, as in production; but there is no TLS here.
package interop_test

import (
	"net/http/httptest"
	"testing"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// start starts an instance whose URL is its issuer.
func start(t *testing.T, s *redistest.Server, opts ...service.Option) *service.Service {
	t.Helper()
	server := httptest.NewUnstartedServer(nil) // listens already
	t.Cleanup(server.Close)
	url := "http://" + server.Listener.Addr().String()
	v := service.Start(t, s, append(opts, service.With(func(c *api.Config) { c.Issuer = url }))...)
	v.URL = url
	server.Config.Handler = v.API
	server.Start()
	return v
}

// generation asks storage how often a session has been refreshed.
func generation(t *testing.T, v *service.Service, refresh string) uint32 {
	t.Helper()
	token, err := v.Sessions.Parse(refresh)
	if err != nil {
		t.Fatal(err)
	}
	s, err := v.Sessions.Get(t.Context(), token.SID())
	if err != nil {
		t.Fatal(err)
	}
	return s.Generation
}
