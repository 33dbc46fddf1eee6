package authtest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/authapi/authapi/authtest"
	"github.com/authapi/authapi/verify"
)

// notes is the service under test. It is given its verifier, and in production
// that is another one.
func notes(v *verify.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /notes", v.Require(verify.Policy{Scopes: []string{"notes:read"}})(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _ := verify.Claims(r.Context())
			fmt.Fprint(w, "the notes of ", c.Subject)
		})))
	return mux
}

// testNotes is the test. In a file of tests it is TestNotes(t *testing.T).
func testNotes(t testing.TB) {
	issuer := authtest.New(t)
	handler := notes(issuer.Verifier())
	get := func(token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/notes", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}

	may := authtest.Scope("notes:read")
	token := issuer.Token(may, authtest.Subject("bob"))
	if w := get(token); w.Code != 200 || w.Body.String() != "the notes of bob" {
		t.Errorf("bob: %d %s", w.Code, w.Body)
	}
	if w := get(issuer.Token()); w.Code != 403 {
		t.Errorf("without the scope: %d", w.Code)
	}
	if w := get(issuer.Token(may, authtest.Expired())); w.Code != 401 {
		t.Errorf("expired: %d", w.Code)
	}
	if w := get(issuer.Forge(may)); w.Code != 401 {
		t.Errorf("forged: %d", w.Code)
	}

	issuer.Revoke(token)
	if w := get(token); w.Code != 401 {
		t.Errorf("logged out: %d", w.Code)
	}
	issuer.Fail()
	if w := get(issuer.Token(may)); w.Code != 503 {
		t.Errorf("while nobody can tell who has logged out: %d", w.Code)
	}
}

func Example() {
	testNotes(exampleT{}) // go test calls it with a *testing.T
	fmt.Println("done")
	// Output: done
}
