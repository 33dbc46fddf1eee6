package wire_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strconv"
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

// A reader does not go on behind a frame that it could not read.
func TestNothingIsReadAfterAnError(t *testing.T) {
	r := wire.NewReader(strings.NewReader("data: {\n\nid: 1\ndata: {}\n\n"))
	_, first := r.Next()
	f, again := r.Next()
	if first == nil || again == nil || f != nil || r.Mark() != "" {
		t.Errorf("%v, then %+v, %v, mark %q", first, f, again, r.Mark())
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

// markOf is the rule in one line of thought: the last id that stood before the
// blank line which ended the last frame that was read.
func markOf(stream []byte, frames int) string {
	last, mark, data := "", "", false
	lines := strings.SplitAfter(string(stream), "\n")
	for _, line := range lines {
		if line == "" || frames == 0 {
			break
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		name, value, _ := strings.Cut(line, ":")
		switch {
		case line == "" && data:
			mark, data = last, false
			frames--
		case name == "data":
			data = true
		case name == "id":
			last = strings.TrimPrefix(value, " ")
		}
	}
	return mark
}

// Whatever comes, a reader ends, claims no number that was not sent, and takes no
// mark of an event that was not complete. What it has read can be sent on, and is
// then read the same.
func FuzzReader(f *testing.F) {
	f.Add(event(f, &wire.Frame{Clock: 5, Denied: []wire.Denial{{Kind: "sid", ID: "x"}}}, time.UnixMilli(7)))
	f.Add([]byte("data: {}\n\n"))
	f.Add([]byte("id: 1\n: comment\r\ndata:{\"ages\":[1]}\r\n\r\nid: 2\ndata: {"))
	f.Add([]byte("id: 1\n\nid: 2\n\ndata: {\"ages\":[null,3]}\n\nid: 3\ndata: {\"Ages\":\ndata: [4]}\n\n"))
	f.Add([]byte("id\ndata: {\"clock\":9,\"denied\":[{\"id\":\"<\xff\"}]}\n\r"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := wire.NewReader(bytes.NewReader(stream))
		read := 0
		for {
			frame, err := r.Next()
			if err != nil {
				if again, err := r.Next(); err == nil {
					t.Fatalf("%+v after the end", again)
				}
				break
			}
			if read++; read > len(stream) {
				t.Fatal("more frames than bytes")
			}
			if mark := markOf(stream, read); r.Mark() != mark {
				t.Fatalf("frame %d: mark %q, want %q", read, r.Mark(), mark)
			}
			for _, number := range append(frame.Ages[:], frame.Clock) {
				if number != wire.Unknown && number != 0 && !bytes.Contains(stream, strconv.AppendInt(nil, number, 10)) {
					t.Errorf("%d out of nothing", number)
				}
			}
			for _, age := range frame.Ages {
				if age == 0 && !bytes.Contains(stream, []byte("0")) {
					t.Error("an age of 0 out of nothing")
				}
			}
			sent := event(t, frame, time.Time{})
			if len(sent) > 1<<19 {
				continue // near the longest line there may be
			}
			again, err := wire.NewReader(bytes.NewReader(sent)).Next()
			if len(frame.Denied) == 0 {
				frame.Denied = nil
			}
			if err != nil || !reflect.DeepEqual(again, frame) {
				t.Fatalf("%+v was sent on as %+v, %v", frame, again, err)
			}
		}
		if mark := markOf(stream, read); r.Mark() != mark {
			t.Errorf("at the end: mark %q, want %q", r.Mark(), mark)
		}
	})
}
