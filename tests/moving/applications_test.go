package moving_test

import (
	"testing"
)

// TestApplication checks all that the guide promises, one after the other on one
// deployment of each example. What is broken on the way is mended.
func TestApplication(t *testing.T) {
	each(t, func(t *testing.T, d *deployment) {
		t.Parallel() // with the other example: much of it is waiting
		for _, check := range []struct {
			name string
			f    func(*testing.T, *deployment)
		}{
			{"login", login},
			{"no good token", noGoodToken},
			{"refresh at the other process", refreshElsewhere},
			{"lost answer", lostAnswer},
			{"tabs", tabs},
			{"stolen cookie", stolenCookie},
			{"login replaces the session", loginReplaces},
			{"logout again", logoutAgain},
			{"cookie", cookie},
			{"cookie on https", cookieOnHTTPS},
			{"planted cookie", plantedCookie},
			{"other sites", otherSites},
			{"forwarded", forwarded},
			{"roles", roles},
			{"disabled user", disabledUser},
			{"lost on the way", lostOnTheWay},
			{"odd answers", oddAnswers},
			{"front end", frontEnd},
			{"constant work", constantWork},
			{"live sessions", liveSessions},
			{"wrong secret", wrongSecret},
			{"service is down", serviceIsDown},
			{"service hangs", serviceHangs},
			{"Redis is down", redisIsDown},
			{"old Redis is down", oldRedisIsDown}, // for good
			{"later", later},
		} {
			t.Run(check.name, func(t *testing.T) {
				// What fails, fails here.
				mine := *d
				mine.t = t
				check.f(t, &mine)
			})
		}
	})
}
