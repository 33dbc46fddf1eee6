package moving_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func roles(t *testing.T, d *deployment) {
	b, other := in(t, d.a), in(t, d.b)
	d.call(d.service.url(), "setRoles", subject, []string{"user", "admin"})
	for _, tab := range []*browser{b, other} {
		tab.refresh(d.b, "1").is(t, http.StatusOK)
		if a := tab.me(d.a).is(t, http.StatusOK); strings.Join(a.User.Roles, " ") != "user admin" && strings.Join(a.User.Roles, " ") != "admin user" {
			t.Errorf("after a refresh the roles are %v", a.User.Roles)
		}
	}
	// The application decides at the next login.
	if a := in(t, d.a).me(d.b); strings.Join(a.User.Roles, " ") != "user" {
		t.Errorf("after a login the roles are %v", a.User.Roles)
	}
}

func disabledUser(t *testing.T, d *deployment) {
	b, other := in(t, d.a), in(t, d.b)
	d.call(d.service.url(), "endAll", subject)
	for _, tab := range []*browser{b, other} {
		for _, p := range []*program{d.a, d.b} {
			eventually(t, promised+slack, "the access token is refused", func() bool { return tab.me(p).Status == http.StatusUnauthorized })
		}
		tab.refresh(d.b, "1").is(t, http.StatusUnauthorized)
	}
	in(t, d.a)
}

// constantWork: how long a refusal takes does not tell whether there is a user of
// that name. The table is the example's own, with hashes that cost something.
func constantWork(t *testing.T, d *deployment) {
	p := d.application(d.name, "USERS_FILE="+root+"/examples/express/users.json")
	took := map[string][]time.Duration{}
	for range 3 {
		for _, name := range []string{"rohit", "nobody"} {
			since := time.Now()
			(&browser{t: t}).post(p, "/login", `{"username":"`+name+`","password":"wrong"}`).is(t, http.StatusUnauthorized)
			took[name] = append(took[name], time.Since(since))
		}
	}
	known, unknown := quantile(took["rohit"], 0), quantile(took["nobody"], 0)
	if unknown < known/2 || known < unknown/2 || known < 20*time.Millisecond {
		t.Errorf("a wrong password takes %v, an unknown user %v", known, unknown)
	}
}
