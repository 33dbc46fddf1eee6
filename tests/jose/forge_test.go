package jose_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/authapi/authapi/tokens"
	"github.com/c2sp/wycheproof"
)

// forger signs whatever it is given with a key that the verifiers trust, and
// without the package under test.
type forger struct {
	alg, kid string
	private  crypto.Signer
}

// forgers has the private keys printed in RFC 7515, appendix A.3, RFC 8037,
// appendix A.1, and RFC 7517, appendix A.2, which are also those of the
// project's vectors.
var forgers = sync.OnceValue(func() []*forger {
	p := new(big.Int).SetBytes(unb64("83i-7IvMGXoMXCskv73TKr8637FiO7Z27zv8oj6pbWUQyLPQBQxtPVnwD20R-60eTDmD2ujnMt5P" +
		"oqMrm8RfmNhVWDtjjMmCMjOpSXicFHj7XOuVIYQyqVWlWEh6dN36GVZYk93N8Bc9vY41xy8B9RzzOGVQzXvNEvn7O0nVbfs"))
	q := new(big.Int).SetBytes(unb64("3dfOR9cuYq-0S-mkFLzgItgMEfFzB2q3hWehMuG0oCuqnb3vobLyumqjVZQO1dIrdwgTnCdpYzBc" +
		"OfW5r370AFXjiWft_NGEiovonizhKpo9VVS78TzFgxkIdrecRezsZ-1kYd_s1qDbxtkDEgfAITAG9LUnADun4vIcb6yelxk"))
	one, e := big.NewInt(1), big.NewInt(65537)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	rsa2048 := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537},
		D:         new(big.Int).ModInverse(e, phi), Primes: []*big.Int{p, q},
	}
	rsa2048.Precompute()
	p256 := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), unb64("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")))
	edwards := ed25519.NewKeyFromSeed(unb64("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
	return []*forger{newForger("ES256", p256), newForger("EdDSA", edwards), newForger("RS256", rsa2048)}
})

func newForger(alg string, private crypto.Signer) *forger {
	key := must(tokens.ParseSigningKey(must(x509.MarshalPKCS8PrivateKey(private))))
	return &forger{alg, key.ID(), private}
}

func (f *forger) header() string {
	return `{"alg":"` + f.alg + `","typ":"at+jwt","kid":"` + f.kid + `"}`
}

const goodPayload = `{"iss":"https://auth.example","sub":"alice","aud":"https://api.example","exp":1767323345,"iat":1767323045,` +
	`"jti":"j1","client_id":"mobile","sid":"q6.s1","auth_time":1767323045,"scope":"read","roles":["admin"],"amr":["pwd"]}`

func (f *forger) sign(text string) []byte {
	digest := sha256.Sum256([]byte(text))
	switch private := f.private.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		return ed25519.Sign(private, []byte(text))
	default:
		return must(rsa.SignPKCS1v15(nil, private.(*rsa.PrivateKey), crypto.SHA256, digest[:]))
	}
}

// forge signs a header and a payload, in one of the ways below.
func (f *forger) forge(header, payload string, way byte) string {
	h, p := b64(header), b64(payload)
	if before, ok := waysOfText[way%ways]; ok {
		h, p = before(h, p)
	}
	text := h + "." + p
	signature := f.sign(text)
	if after, ok := waysToSign[way%ways]; ok {
		signature = after(f, text, signature)
	}
	token := text + "." + b64(string(signature))
	if after, ok := waysOfToken[way%ways]; ok {
		token = after(token)
	}
	return token
}

// ways is how many ways there are to forge; most numbers have nothing special.
const ways = 32

// waysOfText are other texts of the first two segments, which are then signed.
var waysOfText = map[byte]func(h, p string) (string, string){
	1: func(h, p string) (string, string) { return h + "=", p },
	2: func(h, p string) (string, string) { return h, p + "\n" },
	3: func(h, p string) (string, string) { return h[:len(h)/2] + "\r\n" + h[len(h)/2:], p },
	4: func(h, p string) (string, string) { return otherTail(h), p },
	5: func(h, p string) (string, string) { return h, otherTail(p) },
	6: func(h, p string) (string, string) { return strings.NewReplacer("-", "+", "_", "/").Replace(h), p },
	7: func(h, p string) (string, string) { return h, "" },
	8: func(h, p string) (string, string) { return h, p + "." + p },
}

// otherTail changes the bits of the last character that may stand for nothing.
func otherTail(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if s == "" {
		return s
	}
	return s[:len(s)-1] + string(alphabet[strings.IndexByte(alphabet, s[len(s)-1])^1])
}

// waysToSign are other signatures.
var waysToSign = map[byte]func(f *forger, text string, signature []byte) []byte{
	9:  func(_ *forger, _ string, s []byte) []byte { return nil },
	10: func(_ *forger, _ string, s []byte) []byte { return make([]byte, len(s)) },
	11: func(_ *forger, _ string, s []byte) []byte { return append(s, 0) },
	12: func(_ *forger, _ string, s []byte) []byte { return append([]byte{0}, s...) },
	13: func(f *forger, _ string, s []byte) []byte { // the mirror image, which is as good
		if f.alg != "ES256" {
			return s
		}
		half := new(big.Int).SetBytes(s[32:])
		half.Sub(elliptic.P256().Params().N, half)
		return append(bytes.Clone(s[:32]), half.FillBytes(make([]byte, 32))...)
	},
	14: func(f *forger, _ string, s []byte) []byte { // DER, as X.509 has it
		half := len(s) / 2
		return must(asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s[:half]), new(big.Int).SetBytes(s[half:])}))
	},
	15: func(f *forger, text string, s []byte) []byte { // the public key as a secret
		mac := hmac.New(sha256.New, must(x509.MarshalPKIXPublicKey(f.private.Public())))
		mac.Write([]byte(text))
		return bytes.Repeat(mac.Sum(nil), 8)[:len(s)]
	},
	16: func(f *forger, text string, _ []byte) []byte { // another's
		for i, other := range forgers() {
			if other == f {
				return forgers()[(i+1)%len(forgers())].sign(text)
			}
		}
		panic("a forger of its own")
	},
	17: func(_ *forger, _ string, s []byte) []byte { s[len(s)-1] ^= 1; return s },
}

// waysOfToken are other texts of the whole, whose signature stays.
var waysOfToken = map[byte]func(string) string{
	18: func(s string) string { return s + "\n" },
	19: func(s string) string { return s + "=" },
	20: otherTail,
	21: func(s string) string { return "Bearer " + s },
	22: func(s string) string { return s + "." },
	23: func(s string) string { // JSON form
		part := strings.Split(s, ".")
		return string(must(json.Marshal(map[string]string{"protected": part[0], "payload": part[1], "signature": part[len(part)-1]})))
	},
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func unb64(s string) []byte { return must(base64.RawURLEncoding.DecodeString(s)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// wycheproofVector is a signed or encrypted text, and the keys that are public
// (or, where there are no others, the secret ones).
type wycheproofVector struct {
	file string
	id   int
	text string
	jwks []byte
}

// wycheproofVectors returns all vectors of signed and encrypted JSON.
func wycheproofVectors(t testing.TB) []wycheproofVector {
	t.Helper()
	names, err := fs.Glob(wycheproof.TestVectors, "json_web_*_test.json")
	check(t, err)
	var all []wycheproofVector
	for _, name := range names {
		content, err := fs.ReadFile(wycheproof.TestVectors, name)
		check(t, err)
		var file struct {
			TestGroups []struct {
				Public, Private json.RawMessage
				Tests           []struct {
					TcID     int
					JWS, JWE json.RawMessage
				}
			}
		}
		check(t, json.Unmarshal(content, &file))
		for _, group := range file.TestGroups {
			key := asText(group.Public)
			if key == "" {
				key = asText(group.Private)
			}
			if !strings.Contains(key, `"keys"`) {
				key = `{"keys":[` + key + `]}`
			}
			for _, v := range group.Tests {
				all = append(all, wycheproofVector{name, v.TcID, asText(v.JWS) + asText(v.JWE), []byte(key)})
			}
		}
	}
	return all
}

// asText is what a JSON string holds, or the JSON itself if it is something else.
func asText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
