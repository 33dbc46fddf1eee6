package e2e_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/redistest"
	"github.com/authapi/authapi/tests/service"
)

// outbound counts what this process asks others for by HTTP or DNS, and who
// connects to a trap whose address forged tokens have in them.
type outbound struct {
	trap  string
	calls atomic.Int64
}

func watchOutbound(t *testing.T) *outbound {
	t.Helper()
	o := new(outbound)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.trap = "http://" + listener.Addr().String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			o.calls.Add(1)
			conn.Close()
		}
	}()
	transport, resolver := http.DefaultTransport, net.DefaultResolver
	http.DefaultTransport = countedTransport{o}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		o.calls.Add(1)
		return nil, errors.New("no DNS here")
	}}
	t.Cleanup(func() {
		http.DefaultTransport, net.DefaultResolver = transport, resolver
		listener.Close()
		<-ended
	})
	return o
}

type countedTransport struct{ o *outbound }

func (c countedTransport) RoundTrip(*http.Request) (*http.Response, error) {
	c.o.calls.Add(1)
	return nil, errors.New("no HTTP here")
}

// TestWatchOutboundSees: a watch that sees nothing would prove nothing.
func TestWatchOutboundSees(t *testing.T) {
	o := watchOutbound(t)
	if _, err := http.Get(o.trap); err == nil || o.calls.Load() != 1 {
		t.Errorf("a request: %v, %d calls", err, o.calls.Load())
	}
	if _, err := net.LookupHost("evil.example"); err == nil || o.calls.Load() < 2 {
		t.Errorf("a name: %v, %d calls", err, o.calls.Load())
	}
	before := o.calls.Load()
	conn, err := net.Dial("tcp", strings.TrimPrefix(o.trap, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "the trap notices", func() bool { return o.calls.Load() == before+1 })
}

// forgery signs with the key that the instance signs with.
type forgery struct {
	private *ecdsa.PrivateKey
	kid     string
	claims  map[string]json.RawMessage
}

func newForgery(t *testing.T, v *service.Service, access string) *forgery {
	t.Helper()
	key := v.Keys.Signer()
	pkcs8, err := key.PKCS8()
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	f := &forgery{private: private.(*ecdsa.PrivateKey), kid: key.ID()}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(access, ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &f.claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func unpadded(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func signES256(private *ecdsa.PrivateKey, text string) string {
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
	if err != nil {
		panic(err)
	}
	return unpadded(string(r.FillBytes(make([]byte, 32))) + string(s.FillBytes(make([]byte, 32))))
}

func (f *forgery) header() string { return `{"alg":"ES256","typ":"at+jwt","kid":"` + f.kid + `"}` }

func (f *forgery) forge(header, payload string) string {
	text := unpadded(header) + "." + unpadded(payload)
	return text + "." + signES256(f.private, text)
}

// payload is that of the genuine token with one claim replaced by raw JSON, or
// removed where that is "".
func (f *forgery) payload(name, value string) string {
	var members []string
	for n, v := range f.claims {
		if n == name {
			v = json.RawMessage(value)
		}
		if len(v) > 0 {
			members = append(members, fmt.Sprintf("%q:%s", n, v))
		}
	}
	if _, has := f.claims[name]; !has && value != "" {
		members = append(members, fmt.Sprintf("%q:%s", name, value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// attacks are forged tokens by name. Most are signed by the right key, so that
// what refuses them is what they are about.
func (f *forgery) attacks(t *testing.T, trap string) map[string]string {
	t.Helper()
	all := map[string]string{}
	good := f.payload("", "")
	with := func(object, member string) string { return strings.TrimSuffix(object, "}") + "," + member + "}" }
	evil, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := evil.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := unpadded(string(point[1:33])), unpadded(string(point[33:]))
	jwk := `{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"` + f.kid + `","x":"` + x + `","y":"` + y + `"}`

	// Row 2.
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "noNE", "", "HS256", "ES384", "RS256", "PS256"} {
		text := unpadded(strings.Replace(f.header(), "ES256", alg, 1)) + "." + unpadded(good)
		all["alg "+alg+", unsigned"] = text + "."
		all["alg "+alg+", signed"] = text + "." + signES256(f.private, text)
	}
	text := unpadded(f.header()) + "." + unpadded(good)
	all["signature missing"] = text + "."
	all["signature and its dot missing"] = text
	all["zeros"] = text + "." + strings.Repeat("A", 86)
	all["zeros in DER"] = text + ".MAYCAQACAQA"
	all["another key"] = text + "." + signES256(evil, text)
	der, err := x509.MarshalPKIXPublicKey(crypto.PublicKey(&f.private.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{
		"blank": nil, "DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	} {
		text := unpadded(strings.Replace(f.header(), "ES256", "HS256", 1)) + "." + unpadded(good)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		all["HMAC with a secret that is "+name] = text + "." + unpadded(string(mac.Sum(nil)))
	}

	// Row 3. Also with a key of the attacker's, which the header brings along.
	for _, member := range []string{
		`"jwk":` + jwk, `"jku":"` + trap + `"`, `"jku":"http://evil.example/"`, `"x5u":"` + trap + `"`, `"x5c":["AAAA"]`,
		`"iss":"` + trap + `"`, `"zip":"DEF"`, `"cty":"JWT"`,
	} {
		header := with(f.header(), member)
		all["header with "+member] = f.forge(header, good)
		text := unpadded(header) + "." + unpadded(good)
		all["another key, header with "+member] = text + "." + signES256(evil, text)
	}
	for _, kid := range []string{
		`""`, `null`, `"../../../dev/null"`, `"/dev/null"`, `"x' UNION SELECT '1';--"`, `"|sleep 10"`, `"$(curl ` + trap + `)"`,
		`"` + trap + `/key.pem"`, `["` + f.kid + `"]`, `"` + f.kid + `\u0000"`, `"` + strings.Repeat("k", 4096) + `"`,
	} {
		all["kid "+kid[:min(len(kid), 40)]] = f.forge(`{"alg":"ES256","typ":"at+jwt","kid":`+kid+`}`, good)
	}
	all["iss is the trap"] = f.forge(f.header(), f.payload("iss", `"`+trap+`"`))

	// Rows 4 and 5.
	for _, typ := range []string{"JWT", "dpop+jwt", "id+jwt", "", "AT+JWT", "text/xml"} {
		all["typ "+typ] = f.forge(strings.Replace(f.header(), "at+jwt", typ, 1), good)
	}
	all["typ missing"] = f.forge(strings.Replace(f.header(), `"typ":"at+jwt",`, "", 1), good)
	for _, member := range []string{`"crit":["exp"]`, `"crit":[]`, `"crit":["b64"],"b64":true`, `"crit":["b64"],"b64":false`, `"b64":false`} {
		all["header with "+member] = f.forge(with(f.header(), member), good)
	}

	// Row 6.
	for _, member := range []string{`"sub":"evil"`, `"SUB":"evil"`, `"s\u0075b":"evil"`, `"EXP":4102444800`, `"Roles":["admin"]`, `"x":1,"X":2`} {
		all["payload with "+member] = f.forge(f.header(), with(good, member))
	}
	all["alg twice"] = f.forge(with(f.header(), `"alg":"none"`), good)

	// Row 7.
	valid := f.forge(f.header(), good)
	part := strings.Split(valid, ".")
	all["padding"] = valid + "="
	all["five segments"] = valid + ".AAAA.AAAA"
	all["JSON"] = `{"protected":"` + part[0] + `","payload":"` + part[1] + `","signature":"` + part[2] + `"}`
	all["polyglot"] = `{" ` + part[0] + `.` + part[1] + `.":"","payload":"` + part[1] + `"}`
	all["JWE"] = unpadded(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2s":"AAAA","p2c":2147483647}`) + ".AAAA.AAAA.AAAA.AAAA"
	all["nested"] = f.forge(f.header(), valid)
	all["nested, with cty"] = f.forge(with(f.header(), `"cty":"JWT"`), valid)
	all["another payload"] = part[0] + "." + unpadded(f.payload("sub", `"evil"`)) + "." + part[2]
	all["more than 8 KiB"] = f.forge(f.header(), with(good, `"x":"`+strings.Repeat("x", 8<<10)+`"`))
	all["100,000 dots"] = strings.Repeat(".", 100_000)
	all["two tokens"] = valid + "," + valid

	// Rows 8 to 10.
	for name, values := range map[string][]string{
		"exp": {``, `null`, `0`, `-1`, `1e18`, `1e999`, `"4102444800"`, `4102444800`, `[4102444800]`, fmt.Sprint(time.Now().Unix() - 60)},
		"iat": {``, `null`, `0`}, "nbf": {`null`, `-1`},
		"iss": {``, `""`, `"https://evil.example"`, `["` + service.Issuer + `"]`},
		"sub": {``, `""`, `null`, `{}`, `["x"]`, `1`}, "client_id": {``, `""`, `1`}, "jti": {``, `""`, `1`}, "sid": {``, `""`, `1`},
		"aud": {``, `""`, `[]`, `null`, `[["` + service.Audience + `"]]`}, "roles": {`"admin"`, `null`, `{}`},
		"scope": {`["read"]`, strings.Repeat("[", 2000) + strings.Repeat("]", 2000)},
	} {
		for _, value := range values {
			all[name+" "+value[:min(len(value), 40)]] = f.forge(f.header(), f.payload(name, value))
		}
	}
	future := fmt.Sprint(time.Now().Unix() + 61)
	all[notYet+"by iat"] = f.forge(f.header(), f.payload("iat", future))
	all[notYet+"by nbf"] = f.forge(f.header(), f.payload("nbf", future))
	return all
}

const notYet = "not valid yet, "

// TestRow02To10ForgedTokens sends forged tokens to each kind of route that reads
// them: they are refused, without anybody asked for anything, Redis included, and with the
// session as it was.
func TestRow02To10ForgedTokens(t *testing.T) {
	o := watchOutbound(t)
	v := service.Start(t, redistest.Miniredis(t))
	login := v.Login().OK(t)
	f := newForgery(t, v, login.Access)
	attacks := f.attacks(t, o.trap)
	if len(attacks) < 120 {
		t.Errorf("%d attacks", len(attacks))
	}
	commands := redistest.CommandCount(v.Redis)
	ask := func(name, route string, forged string) service.Answer {
		t.Helper()
		before := commands.Total()
		var a service.Answer
		switch route {
		case "introspect":
			a = v.Introspect(forged)
		case "logout":
			a = v.Logout(forged, "")
		default:
			a = v.Send(service.Request{Path: route, Bearer: forged})
		}
		if n := commands.Total() - before; n != 0 {
			t.Errorf("%s: %s: %d Redis commands: %v", route, name, n, commands.Names())
		}
		return a
	}
	for name, forged := range attacks {
		for _, route := range []string{"/me", "/verify"} {
			a := ask(name, route, forged)
			if a.Status != http.StatusUnauthorized || a.Error != "invalid_token" {
				t.Errorf("%s: %s: got %d %s (%s)", route, name, a.Status, a.Error, a.Description)
			}
		}
		if a := ask(name, "introspect", forged); len(forged) > 8<<10 {
			a.Is(t, http.StatusRequestEntityTooLarge, "invalid_request")
		} else {
			inactive(t, name, a)
		}
		if strings.HasPrefix(name, notYet) {
			continue // it is genuine, and would end the session: clocks may differ
		}
		if a := ask(name, "logout", forged); a.Status != http.StatusUnauthorized || a.Error != "invalid_token" {
			t.Errorf("/logout: %s: got %d %s (%s)", name, a.Status, a.Error, a.Description)
		}
	}
	// What only a form can carry.
	for name, forged := range map[string]string{
		"LF": login.Access + "\n", "CRLF inside": login.Access[:20] + "\r\n" + login.Access[20:], "NUL": login.Access + "\x00",
		"space": " " + login.Access,
	} {
		inactive(t, name, ask(name, "introspect", forged))
	}

	// The forger can do it right, and nothing has happened to the session.
	if me := v.Me(f.forge(f.header(), f.payload("", ""))).OK(t); me.Subject != v.Subject {
		t.Errorf("a token forged right is %s's", me.Subject)
	}
	v.Refresh(login.Refresh, "").OK(t)
	if n := o.calls.Load(); n != 0 {
		t.Errorf("%d outbound calls", n)
	}
}
