package vectors_test

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/wire"
	"github.com/authapi/authapi/tokens"
)

var update = flag.Bool("update", false, "write "+path+" anew")

const about = "What a verifier of access tokens must make of key sets, tokens and streams of revocations. " +
	"The package tests/vectors of authapi writes it and says what its members mean."

func TestAccessTokens(t *testing.T) {
	if *update {
		f := &file{
			About: about, Issuer: issuer, Audience: audience, Sets: setsForTokens(),
			KeySets: keySetVectors(), Tokens: tokenVectors(), Streams: streamVectors(),
		}
		f.fillIn(t)
		f.write(t)
	}
	f := readFile(t)
	if len(f.KeySets) < 100 || len(f.Tokens) < 300 || len(f.Streams) < 20 {
		t.Errorf("only %d key sets, %d tokens and %d streams", len(f.KeySets), len(f.Tokens), len(f.Streams))
	}
	names := map[string]bool{}
	for _, v := range f.KeySets {
		unique(t, names, "key set, "+v.Name)
		if got := idsOf(v.document()); !slices.Equal(got, v.Keys) {
			t.Errorf("key set %q: keys %q, want %q", v.Name, got, v.Keys)
		}
	}
	for _, v := range f.Tokens {
		unique(t, names, "token, "+v.Name)
		accepted, refused := f.verdict(t, &v)
		if refused != v.Refused || !reflect.DeepEqual(accepted, v.Accepted) {
			t.Errorf("token %q: %q %+v, want %q %+v", v.Name, refused, accepted, v.Refused, v.Accepted)
		}
	}
	for _, v := range f.Streams {
		unique(t, names, "stream, "+v.Name)
		frames, broken := framesOf(t, strings.Repeat(v.Stream, max(1, v.Repeat)))
		if broken != v.Broken || !reflect.DeepEqual(frames, v.Frames) {
			t.Errorf("stream %q: %+v, broken: %v, want %+v, %v", v.Name, frames, broken, v.Frames, v.Broken)
		}
	}
}

func unique(t *testing.T, names map[string]bool, name string) {
	t.Helper()
	if names[name] {
		t.Errorf("two vectors of the same name: %s", name)
	}
	names[name] = true
}

// fillIn writes down the claims of what is to be accepted. That something is
// accepted, or why not, is never taken from the package under test.
func (f *file) fillIn(t *testing.T) {
	t.Helper()
	for i := range f.Tokens {
		if v := &f.Tokens[i]; v.Refused == "" {
			if v.Accepted, _ = f.verdict(t, v); v.Accepted == nil {
				t.Errorf("%s: refused", v.Name)
			}
		}
	}
}

// idsOf returns the ids of a document's keys, sorted; none if it is refused.
func idsOf(document []byte) []string {
	ids := []string{}
	keys, err := tokens.ParseKeySet(document)
	if err != nil {
		return ids
	}
	var written struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(must(keys.MarshalJSON()), &written); err != nil {
		panic(err)
	}
	for _, key := range written.Keys {
		ids = append(ids, key.Kid)
	}
	return ids
}

func (f *file) verdict(t *testing.T, v *tokenVector) (*claims, string) {
	t.Helper()
	keys, err := tokens.ParseKeySet(f.Sets[v.Set])
	check(t, err)
	verifier, err := tokens.NewVerifier(tokens.Config{
		Issuer: f.Issuer, Audience: f.Audience, Now: func() time.Time { return time.UnixMilli(v.Now) },
	})
	check(t, err)
	c, err := verifier.Verify(v.token(), keys)
	if err != nil {
		return nil, reason(err)
	}
	return claimsOf(c), ""
}

func reason(err error) string {
	for name, kind := range map[string]error{
		"malformed": tokens.ErrMalformed, "unknown_key": tokens.ErrUnknownKey, "signature": tokens.ErrSignature,
		"claims": tokens.ErrClaims, "expired": tokens.ErrExpired,
	} {
		if errors.Is(err, kind) {
			return name
		}
	}
	return err.Error()
}

func framesOf(t *testing.T, stream string) (frames []frame, broken bool) {
	t.Helper()
	frames = []frame{}
	reader := wire.NewReader(strings.NewReader(stream))
	for {
		f, err := reader.Next()
		if err != nil {
			return frames, !errors.Is(err, io.EOF)
		}
		read := frame{Clock: f.Clock, Denied: []denial{}, Mark: reader.Mark()}
		for p, age := range f.Ages {
			read.Ages[p] = int(age)
		}
		for _, d := range f.Denied {
			read.Denied = append(read.Denied, denial{d.Kind, d.ID, d.Until})
		}
		frames = append(frames, read)
	}
}
