// Package wire is the form in which revocations travel over HTTP: what package
// relay sends and package verify reads.
//
// [Frame] is one message, the data of one Server-Sent Event. [Event] writes it,
// [Reader] reads a stream of them.
//
// The form may grow: members and kinds that a reader does not know are ignored.
// openapi.yaml describes it for other languages.
package wire

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/authapi/authapi/internal/partition"
)

// Frame is one message.
type Frame struct {
	// Clock is when the frame was made, in ms on a clock of the sender's that
	// never leaps. It is to be compared within one connection only.
	Clock int64 `json:"clock"`
	// Ages say how old the sender's knowledge was, in ms, for each partition;
	// Unknown if it has none.
	Ages [partition.Count]int64 `json:"ages"`
	// Denied are denials that are new to the reader, or repeated.
	Denied []Denial `json:"denied,omitempty"`
}

// Unknown is the age of knowledge that is not there.
const Unknown = -1

// Denial is an id that is denied.
type Denial struct {
	Kind  string `json:"kind"` // sid, jti or kid
	ID    string `json:"id"`
	Until int64  `json:"until"` // Unix seconds
}

// MaxDenials is how many a frame may hold.
const MaxDenials = 1000

// maxLine bounds what a reader takes for one line, in bytes. It is far above
// what a full frame of the longest ids needs.
const maxLine = 1 << 20

// Event returns the frame as a Server-Sent Event. mark is its id, by which a
// reader can go on from there; the zero time stands for none.
func Event(f *Frame, mark time.Time) ([]byte, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	event := make([]byte, 0, len(data)+40)
	if !mark.IsZero() {
		event = fmt.Appendf(event, "id: %d\n", mark.UnixMilli())
	}
	event = append(event, "data: "...)
	event = append(event, data...)
	return append(event, "\n\n"...), nil
}

// ParseMark reads an id that [Event] wrote.
func ParseMark(id string) (time.Time, bool) {
	ms, err := strconv.ParseInt(id, 10, 64)
	if err != nil || ms <= 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(ms), true
}

// Reader reads a stream of frames.
type Reader struct {
	lines *bufio.Scanner
	mark  string
	err   error // which the reader ended with
}

// parse reads a frame. What the sender leaves out is unknown: encoding/json would
// make ages of 0 of it, the freshest there are.
func parse(data string) (*Frame, error) {
	var f struct {
		Clock  int64    `json:"clock"`
		Ages   []*int64 `json:"ages"`
		Denied []Denial `json:"denied"`
	}
	if err := json.Unmarshal([]byte(data), &f); err != nil {
		return nil, errors.New("a frame is not JSON of the known form") // quotes nothing of it
	}
	parsed := &Frame{Clock: f.Clock, Denied: f.Denied}
	for p := range parsed.Ages {
		parsed.Ages[p] = Unknown
		if p < len(f.Ages) && f.Ages[p] != nil {
			parsed.Ages[p] = *f.Ages[p]
		}
	}
	return parsed, nil
}

// NewReader returns a reader of an event stream.
func NewReader(r io.Reader) *Reader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	return &Reader{lines: lines}
}

// Mark returns the id of the last event, "" if none had one.
func (r *Reader) Mark() string { return r.mark }

// Next returns the next frame. The stream ends with [io.EOF]; after any error
// nothing more can be read.
func (r *Reader) Next() (*Frame, error) {
	if r.err != nil {
		return nil, r.err
	}
	f, err := r.next()
	// What follows a frame that could not be read must not count without it: it
	// may have denied something.
	r.err = err
	return f, err
}

func (r *Reader) next() (*Frame, error) {
	var data []string
	mark, marked := "", false
	for r.lines.Scan() {
		line := r.lines.Text() // without \r\n, too
		if line == "" {
			if len(data) == 0 {
				continue
			}
			f, err := parse(strings.Join(data, "\n"))
			if err != nil {
				return nil, err
			}
			// Only now: what was cut off in the middle has not been read.
			if marked {
				r.mark = mark
			}
			return f, nil
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			data = append(data, value)
		case "id":
			mark, marked = value, true
		}
	}
	if err := r.lines.Err(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}
