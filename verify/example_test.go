package verify_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// keySet is the simplest source of keys: a set that does not change.
type keySet struct{ keys *tokens.KeySet }

func (k keySet) KeySet() *tokens.KeySet { return k.keys }

// A service guards its handlers and finds in the context who is asking.
func Example() {
	// The issuer's part, which the service never sees: a key and a token.
	key, _ := tokens.GenerateKey("ES256")
	token, _ := key.Sign(tokens.Claims{
		Issuer: "https://auth.example.com", Audience: []string{"https://notes.example.com"},
		Subject: "cxN4MSP5Lke7ODNv", SessionID: "uv.2F5uQdw0khr5SaFjY0mKKQ", ClientID: "mobile", ID: "aRCTNcWoh5fRsekaupDQ_A",
		Roles: []string{"editor"}, IssuedAt: time.Now(), ExpiresAt: time.Now().Add(5 * time.Minute),
	})

	// The service's part.
	public, _ := tokens.NewKeySet(key.Public())
	revoked := map[string]bool{}
	v, err := verify.New(verify.Config{
		Issuer:   "https://auth.example.com",
		Audience: "https://notes.example.com",
		Keys:     keySet{public},
		Denied: func(_ context.Context, c *tokens.Claims) (bool, error) {
			return revoked[c.SessionID] || revoked[c.ID], nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	notes := v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := verify.Claims(r.Context())
		fmt.Fprintln(w, "the notes of", c.Subject, c.Roles)
	}))

	get := func() {
		r := httptest.NewRequest(http.MethodGet, "/notes", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		notes.ServeHTTP(w, r)
		fmt.Print(w.Code, " ", w.Body)
	}
	get()
	revoked["uv.2F5uQdw0khr5SaFjY0mKKQ"] = true // the user logs out
	get()
	// Output:
	// 200 the notes of cxN4MSP5Lke7ODNv [editor]
	// 401 {"error":"invalid_token","error_description":"the access token was revoked"}
}
