package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/authapi/authapi/internal/strictjson"
)

func members(data string) ([]string, error) {
	var got []string
	err := strictjson.Members([]byte(data), func(name string, value []byte) error {
		got = append(got, name+"="+string(value))
		return nil
	})
	return got, err
}

func TestMembers(t *testing.T) {
	for data, want := range map[string][]string{
		`{}`:                              nil,
		" \t\r\n{ } \n":                   nil,
		`{"a":1}`:                         {"a=1"},
		` { "a" : "x" , "b" : [ 1 , 2 ]}`: {`a="x"`, "b=[ 1 , 2 ]"},
		`{"a":{"b":"}\"]","c":[{}]},"d":null,"e":-1.5e+3,"f":true}`: {
			`a={"b":"}\"]","c":[{}]}`, "d=null", "e=-1.5e+3", "f=true",
		},
		`{"\u0061\ud83d\ude00\n\/\"\\":"\\"}`: {"a😀\n/\"\\=\"\\\\\""},
		`{"":0}`:                              {"=0"},
		`{"a":{"x":1,"x":2}}`:                 {`a={"x":1,"x":2}`}, // only the top level is ours
	} {
		got, err := members(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, %v; want %q", data, got, err, want)
		}
	}
}

func TestMembersRefuses(t *testing.T) {
	many := "{"
	for i := range strictjson.MaxMembers + 1 {
		many += fmt.Sprintf(`"%d":0,`, i)
	}
	for _, c := range []struct {
		name, data string
		want       error
	}{
		{"nothing", ``, strictjson.ErrSyntax},
		{"white space", `  `, strictjson.ErrSyntax},
		{"array", `[]`, strictjson.ErrSyntax},
		{"null", `null`, strictjson.ErrSyntax},
		{"string", `"{}"`, strictjson.ErrSyntax},
		{"two objects", `{}{}`, strictjson.ErrSyntax},
		{"trailing byte", `{"a":1}x`, strictjson.ErrSyntax},
		{"trailing NUL", "{}\x00", strictjson.ErrSyntax},
		{"trailing comma", `{"a":1,}`, strictjson.ErrSyntax},
		{"comment", `{/**/}`, strictjson.ErrSyntax},
		{"byte order mark", "\ufeff{}", strictjson.ErrSyntax},
		{"UTF-8 in name", "{\"\xff\":1}", strictjson.ErrSyntax},
		{"UTF-8 in value", "{\"a\":\"\xc0\x80\"}", strictjson.ErrSyntax},
		{"CESU-8 surrogate", "{\"a\":\"\xed\xa0\x80\"}", strictjson.ErrSyntax},
		{"lone surrogate in name", `{"\ud800":1}`, strictjson.ErrSyntax},
		{"surrogates in wrong order", `{"\ude00\ud83d":1}`, strictjson.ErrSyntax},
		{"raw control character", "{\"a\n\":1}", strictjson.ErrSyntax},
		{"too deep", `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, strictjson.ErrSyntax},
		{"duplicate", `{"a":1,"a":1}`, strictjson.ErrDuplicate},
		{"duplicate, not adjacent", `{"a":1,"b":{"a":2},"a":1}`, strictjson.ErrDuplicate},
		{"duplicate by escape", `{"sub":1,"s\u0075b":1}`, strictjson.ErrDuplicate},
		{"duplicate but for case", `{"sub":1,"SUB":1}`, strictjson.ErrDuplicate},
		{"duplicate by long s", `{"sub":1,"ſub":1}`, strictjson.ErrDuplicate},
		{"duplicate by Kelvin sign", `{"k":1,"\u212a":1}`, strictjson.ErrDuplicate},
		{"duplicate after many", many[:strings.Index(many, `"100"`)] + `"0":0}`, strictjson.ErrDuplicate},
		{"too many", many + `"last":0}`, strictjson.ErrTooManyMembers},
	} {
		if _, err := members(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestMembersReturnsTheVisitorsError(t *testing.T) {
	stop := errors.New("stop")
	calls := 0
	err := strictjson.Members([]byte(`{"a":1,"b":2}`), func(string, []byte) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

func TestDeepNestingInIgnoredValue(t *testing.T) {
	deep := strings.Repeat("[", 4000) + strings.Repeat("]", 4000)
	var a string
	err := strictjson.Decode([]byte(`{"x":`+deep+`,"a":"b"}`), map[string]any{"a": &a})
	if err != nil || a != "b" {
		t.Errorf("got %q, %v", a, err)
	}
}

func TestDecode(t *testing.T) {
	s, absent, b, n, list, empty := "", "default", false, int64(0), []string(nil), []string(nil)
	err := strictjson.Decode(
		[]byte(`{"s":"\u00e9\ud83d\ude00","b":true,"n":-9223372036854775808,"list":["a","\n"],"empty":[ ],"more":{"S":null}}`),
		map[string]any{"s": &s, "absent": &absent, "b": &b, "n": &n, "list": &list, "empty": &empty, "no": nil},
	)
	if err != nil {
		t.Fatal(err)
	}
	if s != "é😀" || absent != "default" || !b || n != -1<<63 || !reflect.DeepEqual(list, []string{"a", "\n"}) {
		t.Error(s, absent, b, n, list)
	}
	if empty == nil || len(empty) != 0 {
		t.Errorf("an empty array became %#v", empty)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ field, data string }{
		{"s", `{"s":null}`},
		{"s", `{"s":1}`},
		{"s", `{"s":["secret"]}`},
		{"s", `{"s":"secret\ud800"}`},
		{"s", `{"s":"secret\ud800\u0041"}`},
		{"s", `{"s":"secret\ud800\n"}`},
		{"s", `{"S":"secret"}`},
		{"s", `{"ſ":"secret"}`},
		{"b", `{"b":"true"}`},
		{"b", `{"b":0}`},
		{"b", `{"b":null}`},
		{"n", `{"n":"1"}`},
		{"n", `{"n":1.0}`},
		{"n", `{"n":1e3}`},
		{"n", `{"n":9223372036854775808}`},
		{"n", `{"n":null}`},
		{"list", `{"list":"secret"}`},
		{"list", `{"list":["secret",null]}`},
		{"list", `{"list":["secret",["secret"]]}`},
		{"list", `{"list":{}}`},
		{"list", `{"list":null}`},
		{"no", `{"no":"secret"}`},
		{"no", `{"no":null}`},
		{"no", `{"NO":null}`},
	} {
		var s string
		var b bool
		var n int64
		var list []string
		fields := map[string]any{"s": &s, "b": &b, "n": &n, "list": &list, "no": nil}
		err := strictjson.Decode([]byte(c.data), fields)
		var field *strictjson.FieldError
		if !errors.As(err, &field) || field.Field != c.field {
			t.Errorf("%s: got %v, want a FieldError about %s", c.data, err, c.field)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the value: %v", c.data, err)
		}
	}
}

func TestDecodePanicsOnUnknownType(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_ = strictjson.Decode([]byte(`{"a":1}`), map[string]any{"a": new(float64)})
}

// FuzzMembers holds the walk against the standard library: whatever Members
// accepts, encoding/json understands in the same way, and whatever it refuses
// has one of the faults that it is to refuse.
func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":[{"c":"\"}"}],"\u0064":"\ud83d\ude00"}`))
	f.Add([]byte(` {"a" : {} , "A":1}`))
	f.Add([]byte(`{"a":[1,[2,"]"]],"b":-0.5e-7}`))
	f.Add([]byte(`{"s":1,"\u017f":1}`))
	f.Add([]byte(`{"\ud800x":1}`))
	f.Add([]byte("\ufeff{}"))
	f.Add([]byte(`{} []`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got := map[string]json.RawMessage{}
		err := strictjson.Members(data, func(name string, value []byte) error {
			if !json.Valid(value) || !utf8.ValidString(name) {
				t.Fatalf("value %q of %q", value, name)
			}
			got[name] = value
			if s, ok := strictjson.String(value); ok {
				var want string
				if err := json.Unmarshal(value, &want); err != nil || s != want {
					t.Fatalf("%q became %q, want %q", value, s, want)
				}
			}
			if list, ok := strictjson.Strings(value); ok {
				var want []string
				if err := json.Unmarshal(value, &want); err != nil || !reflect.DeepEqual(list, want) {
					t.Fatalf("%q became %q, want %q", value, list, want)
				}
			}
			if n, ok := strictjson.Int(value); ok {
				var want int64
				if err := json.Unmarshal(value, &want); err != nil || n != want {
					t.Fatalf("%q became %d, want %d", value, n, want)
				}
			}
			return nil
		})
		if faulty := fault(data); (err == nil) != (faulty == "") {
			t.Fatalf("%q: %v, but its fault is: %q", data, err, faulty)
		}
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("accepted %q: %v", data, err)
		}
		if len(got) != len(want) {
			t.Fatalf("%d members, want %d", len(got), len(want))
		}
		for name, value := range want {
			if string(got[name]) != string(value) {
				t.Fatalf("%q is %q, want %q", name, got[name], value)
			}
		}
	})
}

// fault reads an object token by token, as encoding/json hands them out, and
// says why it is to be refused, "" if it is not.
func fault(data []byte) string {
	if !utf8.Valid(data) {
		return "not UTF-8"
	}
	if !json.Valid(data) {
		return "not JSON"
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return "not an object"
	}
	var names []string
	for d.More() {
		before := d.InputOffset()
		token, err := d.Token()
		if err != nil {
			return err.Error()
		}
		name := token.(string)
		// The decoder replaces what does not stand for a character.
		if raw := data[before:d.InputOffset()]; strings.Count(name, "\ufffd") != bytes.Count(raw, []byte("\ufffd"))+escapedReplacements(raw) {
			return "unpaired surrogate in a name"
		}
		if len(names) == strictjson.MaxMembers {
			return "too many members"
		}
		for _, other := range names {
			if strings.EqualFold(name, other) {
				return "duplicate name"
			}
		}
		names = append(names, name)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err.Error()
		}
	}
	return ""
}

// escapedReplacements counts the replacement characters that somebody wrote as
// escapes: they are what they look like.
func escapedReplacements(raw []byte) int {
	n := 0
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if i+6 <= len(raw) && strings.EqualFold(string(raw[i+1:i+6]), "ufffd") {
			n++
		}
		i++
	}
	return n
}

func BenchmarkMembers(b *testing.B) {
	data := []byte(`{"iss":"https://auth.example","sub":"01J9ZC5T8QK3","aud":"https://api.example","exp":1767226200,"iat":1767225900,"jti":"kq2mN3v8y1b","client_id":"mobile","sid":"q6.kq2mN3v8y1bkq2mN3v8y1b","auth_time":1767225000,"scope":"","roles":["user"],"amr":["pwd"]}`)
	b.ReportAllocs()
	for b.Loop() {
		_ = strictjson.Members(data, func(string, []byte) error { return nil })
	}
}
