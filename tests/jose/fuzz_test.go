package jose_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/authapi/authapi/tokens"
	"github.com/go-jose/go-jose/v4"
)

// FuzzSigned compares the verdicts about headers and payloads as they come,
// signed by a key of the set.
func FuzzSigned(f *testing.F) {
	v := readVectors(f)
	w := newWorld(f, v.Sets["all"], now)
	for who, forger := range forgers() {
		for way := range ways {
			f.Add(byte(who), byte(way), forger.header(), goodPayload)
		}
	}
	texts := map[string]bool{}
	add := func(token string) {
		part := strings.Split(token, ".")
		if len(part) < 2 {
			return
		}
		header, err1 := base64.RawURLEncoding.DecodeString(part[0])
		payload, err2 := base64.RawURLEncoding.DecodeString(part[1])
		if text := string(header) + "." + string(payload); err1 == nil && err2 == nil && len(text) < 4<<10 && !texts[text] {
			texts[text] = true
			who := 0
			for i, forger := range forgers() {
				if strings.Contains(string(header), forger.kid) {
					who = i
				}
			}
			f.Add(byte(who), byte(0), string(header), string(payload))
		}
	}
	for _, vector := range v.Tokens {
		add(vector.Token)
	}
	for _, vector := range wycheproofVectors(f) {
		add(vector.text)
	}
	f.Fuzz(func(t *testing.T, who, way byte, header, payload string) {
		forger := forgers()[int(who)%len(forgers())]
		w.agree(t, forger.forge(header, payload, way), now)
	})
}

// FuzzMutated compares the verdicts about a good token after a few changes (see
// mutate), signed after them. Most of what the other targets try is not even
// JSON; this one stays close to what is accepted.
func FuzzMutated(f *testing.F) {
	w := newWorld(f, readVectors(f).Sets["all"], now)
	for _, program := range programs() {
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) { w.agree(t, mutate(program), now) })
}

// TestMutatedTokensAreOftenAccepted: the target would be worth nothing if all of
// its tokens were refused, or none.
func TestMutatedTokensAreOftenAccepted(t *testing.T) {
	w := newWorld(t, readVectors(t).Sets["all"], now)
	for who := range forgers() {
		if !w.agree(t, mutate([]byte{byte(who)}), now) {
			t.Errorf("%s: a token without changes is refused", forgers()[who].alg)
		}
	}
	accepted, refused := 0, 0
	for _, program := range programs() {
		if w.agree(t, mutate(program), now) {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 50 || refused < 200 {
		t.Errorf("%d programs make tokens that are accepted, %d make others", accepted, refused)
	}
}

// FuzzKeySet compares what the libraries read in key sets. Each key that ours
// takes the other must find in the same document, under the same id, for the same
// algorithm, and it must be the same key.
func FuzzKeySet(f *testing.F) {
	v := readVectors(f)
	for _, set := range v.KeySets {
		document := set.Base64
		if document == nil {
			document = []byte(set.Document)
		}
		if len(document)+set.Pad < 16<<10 {
			f.Add(append(bytes.Clone(document), bytes.Repeat([]byte(" "), set.Pad)...))
		}
	}
	for _, set := range v.Sets {
		f.Add([]byte(set))
	}
	for _, vector := range wycheproofVectors(f) {
		f.Add(vector.jwks)
	}
	f.Fuzz(func(t *testing.T, document []byte) { agreeAboutKeys(t, document) })
}

// agreeAboutKeys returns how many keys ours takes.
func agreeAboutKeys(t *testing.T, document []byte) int {
	t.Helper()
	keys, err := tokens.ParseKeySet(document)
	if err != nil {
		return 0
	}
	published, err := json.Marshal(keys)
	check(t, err)
	var ours jose.JSONWebKeySet
	check(t, json.Unmarshal(published, &ours))
	if len(ours.Keys) == 0 {
		t.Fatalf("no keys of %q", document)
	}
	// One by one: the other library refuses a set with a key of a kind that it
	// does not know, which ours ignores.
	var source struct{ Keys []json.RawMessage }
	check(t, json.Unmarshal(document, &source))
	other := map[string]jose.JSONWebKey{}
	for _, text := range source.Keys {
		var key jose.JSONWebKey
		if err := json.Unmarshal(text, &key); err != nil || !slices.Contains(tokens.Algorithms(), key.Algorithm) {
			continue
		}
		if _, twice := other[key.KeyID]; twice {
			t.Fatalf("two keys with the id %q", key.KeyID)
		}
		other[key.KeyID] = key
	}
	for _, key := range ours.Keys {
		found, ok := other[key.KeyID]
		switch {
		case !ok:
			t.Fatalf("took a key %q that the other library does not find in %q", key.KeyID, document)
		case found.Algorithm != key.Algorithm || found.Use != "sig" && found.Use != "":
			t.Fatalf("took the key %q for %s; the other library reads %q, %q", key.KeyID, key.Algorithm, found.Algorithm, found.Use)
		case !found.IsPublic() || !found.Valid():
			t.Fatalf("took the key %q, which to the other library is not a public one that is valid", key.KeyID)
		case !reflect.DeepEqual(found.Key, key.Key):
			t.Fatalf("took the key %q as %+v; the other library reads %+v", key.KeyID, key.Key, found.Key)
		}
	}
	if len(ours.Keys) != len(other) {
		t.Fatalf("took %d keys; the other library reads %d", len(ours.Keys), len(other))
	}
	return len(ours.Keys)
}

// TestRow11KeySets: the other library agrees about the project's own vectors of
// key sets, and the vectors are what is read here.
func TestRow11KeySets(t *testing.T) {
	taken := 0
	for _, set := range readVectors(t).KeySets {
		document := set.Base64
		if document == nil {
			document = []byte(set.Document)
		}
		n := agreeAboutKeys(t, append(bytes.Clone(document), bytes.Repeat([]byte(" "), set.Pad)...))
		if n != len(set.Keys) {
			t.Errorf("%s: %d keys, want %d", set.Name, n, len(set.Keys))
		}
		taken += n
	}
	if taken < 20 {
		t.Errorf("%d keys", taken)
	}
}
