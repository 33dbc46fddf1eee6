package strictjson

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The functions in this file read raw values as Members and Elements hand them
// out, and report false for a value of any other type, null included.

// String reads a string. A string with an unpaired surrogate is refused.
func String(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' {
		return "", false
	}
	return unquote(string(value))
}

// Int reads a whole number written without fraction and exponent, within the
// range of int64: 1.0 and 1e3 are refused, since not every reader takes them
// for integers.
func Int(value []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}

// Bool reads true or false.
func Bool(value []byte) (b, ok bool) {
	switch string(value) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// Strings reads an array of strings. The result is never nil if it reports true.
func Strings(value []byte) ([]string, bool) {
	list := []string{}
	ok := Elements(value, func(element []byte) bool {
		s, ok := String(element)
		list = append(list, s)
		return ok
	})
	if !ok {
		return nil, false
	}
	return list, true
}

// Elements calls visit for each raw element of an array until visit reports
// false. It reports whether the value was an array and every call said true.
func Elements(value []byte, visit func(element []byte) bool) bool {
	if len(value) < 2 || value[0] != '[' {
		return false
	}
	for i := skipSpace(value, 1); value[i] != ']'; {
		end := valueEnd(value, i)
		if !visit(value[i:end:end]) {
			return false
		}
		i = next(value, end)
	}
	return true
}

// unquote returns what a quoted string stands for. It is written out because
// encoding/json turns each unpaired surrogate into U+FFFD, which makes
// different names and values alike.
func unquote(quoted string) (string, bool) {
	s := quoted[1 : len(quoted)-1]
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s, true
	}
	b := append(make([]byte, 0, len(s)), s[:i]...)
	for i < len(s) {
		if s[i] != '\\' {
			b = append(b, s[i])
			i++
			continue
		}
		escape := s[i+1]
		i += 2
		switch escape {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r := codeUnit(s[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				if !strings.HasPrefix(s[i:], `\u`) {
					return "", false
				}
				if r = utf16.DecodeRune(r, codeUnit(s[i+2:])); r == utf8.RuneError {
					return "", false
				}
				i += 6
			}
			b = utf8.AppendRune(b, r)
		default: // quote, slash and backslash stand for themselves
			b = append(b, escape)
		}
	}
	return string(b), true
}

// codeUnit reads the four hexadecimal digits of an escape.
func codeUnit(s string) rune {
	n, _ := strconv.ParseUint(s[:4], 16, 16) // the syntax has been checked
	return rune(n)
}
