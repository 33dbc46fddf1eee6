package wire_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/authapi/authapi/internal/wire"
)

func event(t testing.TB, f *wire.Frame, mark time.Time) []byte {
	t.Helper()
	e, err := wire.Event(f, mark)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	mark := time.UnixMilli(1_763_950_000_123)
	frames := []*wire.Frame{
		{Clock: 1},
		{Clock: 2, Denied: []wire.Denial{{Kind: "sid", ID: "uv.2F5uQdw0khr5SaFjY0mKKQ", Until: 1_763_950_375}}},
		{Clock: 3, Denied: []wire.Denial{{Kind: "jti", ID: "line\nbreak, \"quotes\" and \u2028"}, {Kind: "kid", ID: ""}}},
	}
	frames[1].Ages[15] = wire.Unknown
	var stream bytes.Buffer
	for i, f := range frames {
		at := mark
		if i == 2 {
			at = time.Time{}
		}
		stream.Write(event(t, f, at))
	}
	r := wire.NewReader(&stream)
	for i, want := range frames {
		got, err := r.Next()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("frame %d: %+v, %v", i, got, err)
		}
		// An event without a mark leaves the one before.
		if at, ok := wire.ParseMark(r.Mark()); !ok || !at.Equal(mark) {
			t.Errorf("frame %d: mark %q", i, r.Mark())
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// What is left out is unknown, and not new.
func TestMissingAgesAreUnknown(t *testing.T) {
	for _, data := range []string{`{"ages":[7]}`, `{"ages":[7,null]}`, `{"ages":[7,null,null]}`} {
		f, err := wire.NewReader(strings.NewReader("data: " + data + "\n\n")).Next()
		if err != nil {
			t.Fatal(err)
		}
		for p, age := range f.Ages {
			if want := map[bool]int64{true: 7, false: wire.Unknown}[p == 0]; age != want {
				t.Errorf("%s: age %d is %d, want %d", data, p, age, want)
			}
		}
	}
}

// A full frame of the longest ids that there are is far from the limit.
func TestLargestFrameIsRead(t *testing.T) {
	f := &wire.Frame{}
	for range wire.MaxDenials {
		f.Denied = append(f.Denied, wire.Denial{Kind: "kid", ID: strings.Repeat("x", 64), Until: 1 << 40})
	}
	if got, err := wire.NewReader(bytes.NewReader(event(t, f, time.Now()))).Next(); err != nil || len(got.Denied) != wire.MaxDenials {
		t.Errorf("%v", err)
	}
}

// Whatever comes, a reader ends, claims no age that was not sent, and takes no
// mark of an event that was not complete.
func FuzzReader(f *testing.F) {
	f.Add(event(f, &wire.Frame{Clock: 5, Denied: []wire.Denial{{Kind: "sid", ID: "x"}}}, time.UnixMilli(7)))
	f.Add([]byte("data: {}\n\n"))
	f.Add([]byte("id: 1\n: comment\r\ndata:{\"ages\":[1]}\r\n\r\nid: 2\ndata: {"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := wire.NewReader(bytes.NewReader(stream))
		read := 0
		for {
			frame, err := r.Next()
			if err != nil {
				break
			}
			if read++; read > len(stream) {
				t.Fatal("more frames than bytes")
			}
			for _, age := range frame.Ages {
				if age >= 0 && !bytes.Contains(stream, []byte("ges")) && !bytes.ContainsAny(stream, "gG\\") {
					t.Errorf("an age of %d out of nothing", age)
				}
			}
		}
		if read == 0 && r.Mark() != "" {
			t.Errorf("a mark %q without a frame", r.Mark())
		}
	})
}
