package vectors_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/authtest"
	"github.com/authapi/authapi/tokens"
	"github.com/authapi/authapi/verify"
)

// node returns a command that runs one of the scripts here, which verify with
// the package in clients/verify as it was built last: npm ci && npm run build.
func node(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat("../../clients/verify/dist/express.js")
	}
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("%v (Debian package: nodejs; then npm ci && npm run build)", err)
	}
	if err != nil {
		t.Skipf("THE VERIFIER FOR NODE IS NOT TESTED: %v (Debian package: nodejs; then npm ci && npm run build)", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "node", append([]string{script}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestRandomChanges gives both verifiers the same tokens, which were good
// before something in them was changed at random, and expects the same verdicts.
// Half of them were signed after the change: the keys are not what refuses them.
func TestRandomChanges(t *testing.T) {
	keys := must(tokens.ParseKeySet(document(forgers...)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(must(keys.MarshalJSON()))
	}))
	defer server.Close()
	cmd := node(t, "verdicts.mjs", server.URL, issuer, audience, "1767323045600")

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var list []string
	for i := range 3000 {
		f := forgers[0] // mostly: RSA takes long
		if i%10 < 3 {
			f = forgers[i%10]
		}
		list = append(list, mutant(random, f, random.IntN(2) == 0))
	}
	cmd.Stdin = strings.NewReader(string(must(json.Marshal(list))))
	output, err := cmd.Output()
	check(t, err)
	var verdicts []string
	check(t, json.Unmarshal(output, &verdicts))
	if len(verdicts) != len(list) {
		t.Fatalf("%d verdicts about %d tokens", len(verdicts), len(list))
	}

	verifier := must(tokens.NewVerifier(tokens.Config{
		Issuer: issuer, Audience: audience, Now: func() time.Time { return time.UnixMilli(nowMS) },
	}))
	counts := map[string]int{}
	for i, token := range list {
		want := ""
		if c, err := verifier.Verify(token, keys); err != nil {
			want = reason(err)
		} else {
			want = "accepted " + c.ID + " " + c.Subject + " " + strings.Join(c.Roles, " ") + " " + c.KeyID
		}
		if verdicts[i] != want {
			t.Errorf("Node says %q, Go says %q: %q", verdicts[i], want, token)
		}
		kind, _, _ := strings.Cut(want, " ")
		counts[kind]++
	}
	t.Logf("%v", counts)
	for _, kind := range []string{"accepted", "malformed", "unknown_key", "signature", "claims"} {
		if counts[kind] < 10 {
			t.Errorf("only %d tokens are %s: the changes are too wild, or too tame", counts[kind], kind)
		}
	}
}

// mutant returns a good token with one to three changes, in its text or in what
// is signed.
func mutant(random *rand.Rand, f *forger, signed bool) string {
	header, claims := f.header(), payload(nil)
	changes := 1 + random.IntN(3)
	if signed {
		for range changes {
			if random.IntN(4) == 0 {
				header = changeText(random, header)
			} else {
				claims = changeText(random, claims)
			}
		}
		return f.forge(header, claims)
	}
	token := f.forge(header, claims)
	for range changes {
		token = strings.ToValidUTF8(changeText(random, token), "?")
	}
	return token
}

// pieces are what parsers may differ about.
var pieces = []string{
	`"`, `\`, `,`, `:`, `{`, `}`, `[`, `]`, ` `, "\n", "\x00", `\u0000`, `\ud800`, `\udc00`, `\ud83d\ude00`, `null`, `true`, `0`, `-`, `.0`, `e0`,
	`1e3`, `,"sub":"evil"`, `,"SUB":1`, `,"x":1`, `"x":{},`, `\u0073`, `ſ`, "\u212a", "é", "\xff", "\xed\xa0\x80", "\ufeff", `""`, `[]`, `.`, `=`, `-`,
	`_`, `A`, `/`, `+`, "'", `//`,
}

func changeText(random *rand.Rand, text string) string {
	if text == "" {
		return pieces[random.IntN(len(pieces))]
	}
	i := random.IntN(len(text))
	j := min(len(text), i+1+random.IntN(8))
	switch random.IntN(8) {
	case 0:
		return text[:i] + text[j:]
	case 1:
		return text[:i] + text[i:j] + text[i:]
	case 2:
		return text[:i]
	case 3: // one bit
		return text[:i] + string([]byte{text[i] ^ 1<<random.IntN(7)}) + text[i+1:]
	case 4: // letter case
		return text[:i] + strings.ToUpper(text[i:j]) + text[j:]
	case 5:
		return text[:i] + pieces[random.IntN(len(pieces))] + text[j:]
	case 6: // a digit, so that dates change and stay dates
		return text[:i] + strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return '0' + rune(random.IntN(10))
			}
			return r
		}, text[i:j]) + text[j:]
	default:
		return text[:i] + pieces[random.IntN(len(pieces))] + text[i:]
	}
}

// TestNodeFollowsIssuer has an application in Express that follows an issuer
// from here. It must refuse within a second what was revoked, and answer in
// everything as the guard in Go.
func TestNodeFollowsIssuer(t *testing.T) {
	i := authtest.NewServer(t)
	cmd := node(t, "follow.mjs", i.URL, authtest.ClientID, authtest.ClientSecret)
	stdin, err := cmd.StdinPipe() // it ends when this is closed
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process did not end in order: %v", err)
		}
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	check(t, err)
	nodeURL := strings.TrimSpace(line)
	goServer := httptest.NewServer(guarded(t, i))
	defer goServer.Close()

	t.Run("the same answers", func(t *testing.T) { sameAnswers(t, i, goServer.URL, nodeURL) })
	t.Run("revocations in time", func(t *testing.T) { revocationsInTime(t, i, nodeURL) })
	t.Run("a dropped key", func(t *testing.T) {
		token := i.Token()
		wait(t, nodeURL, token, http.StatusOK)
		i.DropKey()
		wait(t, nodeURL, token, http.StatusUnauthorized)
		wait(t, nodeURL, i.Token(), http.StatusOK)
	})
	t.Run("an issuer in trouble", func(t *testing.T) {
		token := i.Token()
		wait(t, nodeURL, token, http.StatusOK)
		i.Fail()
		wait(t, nodeURL, token, http.StatusServiceUnavailable)
		wait(t, goServer.URL, token, http.StatusServiceUnavailable)
		if got, want := ask(t, nodeURL, "Bearer "+token), ask(t, goServer.URL, "Bearer "+token); got != want {
			t.Errorf("Node %+v\nGo   %+v", got, want)
		}
		if got := ask(t, nodeURL+"/lenient", "Bearer "+token); got.status != http.StatusOK {
			t.Errorf("accept until expiry: %+v", got)
		}
		i.Recover()
		wait(t, nodeURL, token, http.StatusOK)
	})
}

var policies = map[string]verify.Policy{
	"/":        {},
	"/scoped":  {Scopes: []string{"notes:read", "notes:write"}},
	"/editors": {Roles: []string{"editor", "admin"}},
	"/lenient": {Otherwise: verify.AcceptUntilExpiry},
}

// guarded is what follow.mjs is, in Go.
func guarded(t *testing.T, i *authtest.Issuer) http.Handler {
	t.Helper()
	keys, err := verify.NewJWKS(t.Context(), verify.JWKSConfig{Issuer: i.URL})
	check(t, err)
	feed, err := verify.NewRemote(verify.RemoteConfig{
		URL: i.URL + "/revocations", ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret,
	})
	check(t, err)
	v, err := verify.New(verify.Config{Issuer: i.URL, Audience: i.URL, Keys: keys, Replica: verify.Follow(t.Context(), feed, nil)})
	check(t, err)
	mux := http.NewServeMux()
	for path, policy := range policies {
		mux.Handle(path, v.Require(policy)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _ := verify.Claims(r.Context())
			_, _ = io.WriteString(w, c.Subject)
		})))
	}
	for end := time.Now().Add(10 * time.Second); v.Ready() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not ready: %v", v.Ready())
		}
	}
	return mux
}

func sameAnswers(t *testing.T, i *authtest.Issuer, goURL, nodeURL string) {
	wait(t, nodeURL, i.Token(), http.StatusOK)
	revoked := i.Token()
	i.Revoke(revoked)
	wait(t, nodeURL, revoked, http.StatusUnauthorized)
	wait(t, goURL, revoked, http.StatusUnauthorized)
	for name, header := range map[string]string{
		"good":             "Bearer " + i.Token(),
		"lower case":       "bearer " + i.Token(),
		"scopes":           "Bearer " + i.Token(authtest.Scope("notes:write", "x", "notes:read")),
		"one scope":        "Bearer " + i.Token(authtest.Scope("notes:write")),
		"role":             "Bearer " + i.Token(authtest.Roles("x", "admin")),
		"expired":          "Bearer " + i.Token(authtest.Expired()),
		"another audience": "Bearer " + i.Token(authtest.Audience("https://other.example")),
		"forged":           "Bearer " + i.Forge(),
		"revoked":          "Bearer " + revoked,
		"no token":         "Bearer x",
		"two spaces":       "Bearer  " + i.Token(),
		"another scheme":   "Basic eA==",
		"nothing":          "",
		"scheme alone":     "Bearer",
		"token alone":      i.Token(),
	} {
		for path := range policies {
			if got, want := ask(t, nodeURL+path, header), ask(t, goURL+path, header); got != want {
				t.Errorf("%s, %s:\nNode %+v\nGo   %+v", name, path, got, want)
			}
		}
	}
}

type answer struct {
	status                                  int
	challenge, retry, cache, kind, response string
}

func ask(t *testing.T, url, authorization string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	check(t, err)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(r)
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(t, err)
	kind := res.Header.Get("Content-Type")
	if res.StatusCode == http.StatusOK {
		kind = "" // the handlers'
	}
	return answer{
		res.StatusCode, res.Header.Get("WWW-Authenticate"), res.Header.Get("Retry-After"), res.Header.Get("Cache-Control"), kind, string(body),
	}
}

func wait(t *testing.T, url, token string, status int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got := ask(t, url, "Bearer "+token)
		if got.status == status {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("answered %+v, want %d", got, status)
		}
	}
}

func revocationsInTime(t *testing.T, i *authtest.Issuer, nodeURL string) {
	const trials = 200
	var took []time.Duration
	for range trials {
		token := i.Token()
		wait(t, nodeURL, token, http.StatusOK)
		i.Revoke(token)
		// Whoever cannot tell says so: that is no acceptance either.
		began := time.Now()
		for ask(t, nodeURL, "Bearer "+token).status == http.StatusOK {
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(began))
		wait(t, nodeURL, token, http.StatusUnauthorized)
	}
	slices.Sort(took)
	t.Logf("refused after p50 %v, p99 %v, at most %v", took[trials/2], took[trials*99/100], took[trials-1])
	if p99 := took[trials*99/100]; p99 > time.Second {
		t.Errorf("p99 %v", p99)
	}
}
