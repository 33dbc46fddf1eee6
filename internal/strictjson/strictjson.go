// Package strictjson reads JSON objects in the one way that leaves no room for
// two readers to understand them differently.
//
// Call [Decode] to read named members into variables, or [Members] to see each
// member as it comes. [String], [Int], [Strings] and [Elements] read the raw
// values that Members hands out.
//
// The standard library decides what is JSON. On top of that an object is
// refused when a member name comes twice, or twice but for letter case:
// encoding/json lets the last one win and ignores case, other parsers keep the
// first one or tell them apart, and an attacker lives in the difference.
// Invalid UTF-8 and unpaired surrogates are refused rather than replaced, so
// that two different inputs never become the same string.
//
// Only names at the top level are checked; values that nobody reads are
// skipped without recursion. The package does not limit the size of its input
// (its callers do) and does not write JSON.
package strictjson

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// MaxMembers is the number of top-level members an object may have. Each name
// is compared with all names before it; without a bound, a body of a thousand
// tiny members would cost milliseconds.
const MaxMembers = 128

// The reasons why Members refuses its input. Their text never quotes it.
var (
	ErrSyntax         = errors.New("strictjson: not a JSON object")
	ErrDuplicate      = errors.New("strictjson: a member name comes twice")
	ErrTooManyMembers = errors.New("strictjson: too many members")
)

// Members calls visit for each top-level member of the JSON object in data, in
// their order, with the unescaped name and the raw value. The value is a part
// of data and must not be changed.
//
// Data must hold one object and nothing else but white space around it. The
// syntax of all of data is checked before the first call; a duplicate name
// shows only when it is reached, so whatever visit gathered is worth nothing
// if Members fails. An error from visit ends the walk and is returned as it is.
func Members(data []byte, visit func(name string, value []byte) error) error {
	if !utf8.Valid(data) || !json.Valid(data) {
		return ErrSyntax
	}
	i := skipSpace(data, 0)
	if data[i] != '{' {
		return ErrSyntax
	}
	text := string(data) // names are parts of it: one allocation for all
	var room [16]string
	seen := room[:0]
	for i = skipSpace(data, i+1); data[i] != '}'; {
		end := stringEnd(data, i)
		name, ok := unquote(text[i:end])
		if !ok {
			return ErrSyntax
		}
		if len(seen) == MaxMembers {
			return ErrTooManyMembers
		}
		for _, other := range seen {
			if strings.EqualFold(name, other) {
				return ErrDuplicate
			}
		}
		seen = append(seen, name)

		colon := skipSpace(data, end)
		start := skipSpace(data, colon+1)
		end = valueEnd(data, start)
		if err := visit(name, data[start:end:end]); err != nil {
			return err
		}
		i = next(data, end)
	}
	return nil
}

// The functions below walk JSON that json.Valid has accepted. That is why they
// check neither grammar nor bounds.

// next returns where the next name or element, or the closing bracket, begins.
func next(data []byte, i int) int {
	i = skipSpace(data, i)
	if data[i] == ',' {
		i = skipSpace(data, i+1)
	}
	return i
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// stringEnd returns the index after the string that starts at i.
func stringEnd(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// valueEnd returns the index after the value that starts at i. It counts
// brackets instead of recursing: nesting costs no stack.
func valueEnd(data []byte, i int) int {
	depth := 0
	for i < len(data) {
		switch data[i] {
		case '"':
			i = stringEnd(data, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ' ', '\t', '\n', '\r', ',', ':':
			i++
			continue
		default:
			i = scalarEnd(data, i)
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

// scalarEnd returns the index after the number or literal that starts at i.
func scalarEnd(data []byte, i int) int {
	for i < len(data) {
		switch data[i] {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			return i
		}
		i++
	}
	return i
}
