package interop_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/keyring"
	"github.com/authapi/authapi/tests/nodetest"
	"github.com/authapi/authapi/tests/service"
)

func TestOAuth4WebAPI(t *testing.T) {
	nodetest.Need(t, "node_modules/oauth4webapi")
	v := start(t, redistest.Redis(t))
	nodetest.Run(t, "oauth4webapi.mjs", time.Minute, environ("ISSUER="+v.URL)...)
}

func TestJose(t *testing.T) {
	nodetest.Need(t, "node_modules/jose")
	v := start(t, redistest.Redis(t), service.Live(keyring.Schedule{Lead: 100 * time.Millisecond}))
	// An operator, who makes the next key sign and waits until it does.
	operator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before := v.Keys.Signer().ID()
		if _, err := v.Keys.Rotate(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for v.Keys.Signer().ID() == before && r.Context().Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
	}))
	defer operator.Close()
	nodetest.Run(t, "jose.mjs", time.Minute, environ("ISSUER="+v.URL, "ROTATE="+operator.URL)...)
}

// environ is what the tests are told besides.
func environ(more ...string) []string {
	return append(more, "AUDIENCE="+service.Audience,
		"USERNAME="+service.Username, "PASSWORD="+service.Password,
		"SHOP="+service.Shop, "SHOP_SECRET="+service.ShopSecret,
		"INTROSPECTOR="+service.Introspector, "INTROSPECTOR_SECRET="+service.IntrospectorSecret)
}
