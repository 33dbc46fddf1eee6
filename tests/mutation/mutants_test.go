package mutation

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A mutant is a script with one fault put into it.
type mutant struct {
	script string // its path in the module
	line   int    // where it differs, counted from 1
	was    string // the line as it is in the script
	is     string // as it is in the mutant
	nth    int    // of those with the same was and is, counted from 1
	text   string // the whole mutant
}

// id names a mutant in the list of equivalent ones. It has no line number: a
// line more above it makes no other mutant.
func (m mutant) id() string {
	id := fmt.Sprintf("%s: %s => %s", m.script, m.was, m.is)
	if m.nth > 1 {
		id += fmt.Sprintf(" (%d)", m.nth)
	}
	return id
}

// An edit replaces a piece of the source.
type edit struct {
	from, to int
	with     string
}

// source is a script taken apart. The scripts use little of Lua: no long
// strings, no block comments, no conditions over several lines.
type source struct {
	path, text string
	tokens     []token
	edits      []edit
}

type token struct {
	text     string
	from, to int
	line     int
}

var lexical = regexp.MustCompile(`^(--[^\n]*|'[^']*'|"[^"]*"|[A-Za-z_]\w*|\d+|\.\.|==|~=|<=|>=|\S)`)

func parse(path, text string) *source {
	s := &source{path: path, text: text}
	line := 1
	for at := 0; at < len(text); {
		switch {
		case text[at] == '\n':
			line++
			at++
		case text[at] == ' ':
			at++
		default:
			t := lexical.FindString(text[at:])
			if !strings.HasPrefix(t, "--") {
				s.tokens = append(s.tokens, token{t, at, at + len(t), line})
			}
			at += len(t)
		}
	}
	return s
}

// mutants makes every fault that the kinds below know.
func mutants(path, text string) []mutant {
	s := parse(path, text)
	for i, t := range s.tokens {
		switch t.text {
		case "if", "elseif":
			s.condition(i)
		case "<", "<=", ">", ">=", "==", "~=":
			s.comparison(i)
		case "and", "or":
			s.operands(i)
		case "min", "max":
			s.clamp(i)
		case "+", "-", "*", "/":
			s.arithmetic(i)
		case "{", "return":
			s.echo(i)
		case "'PX'":
			s.replace(i-1, s.right(i), "") // never expires
		default:
			s.number(i)
		}
		if i == 0 || s.tokens[i-1].line < t.line {
			s.statement(i)
		}
	}
	var all []mutant
	seen := map[string]int{}
	for _, e := range s.edits {
		m := e.of(path, text)
		key := m.id()
		seen[key]++
		m.nth = seen[key]
		all = append(all, m)
	}
	return all
}

// of is the script with the edit made.
func (e edit) of(path, text string) mutant {
	m := mutant{script: path, text: text[:e.from] + e.with + text[e.to:]}
	m.line = 1 + strings.Count(text[:e.from], "\n")
	m.was = lines(text, e.from, e.to)
	m.is = lines(m.text, e.from, e.from+len(e.with))
	if m.is == "" {
		m.is = "(nothing)"
	}
	return m
}

// lines is the code of the lines in which a piece of text lies, on one line.
func lines(text string, from, to int) string {
	from = strings.LastIndexByte(text[:from], '\n') + 1
	if end := strings.IndexByte(text[to:], '\n'); end >= 0 {
		to += end
	} else {
		to = len(text)
	}
	var code []string
	for line := range strings.SplitSeq(text[from:to], "\n") {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "--") {
			line, _, _ = strings.Cut(line, " -- ")
			code = append(code, line)
		}
	}
	return strings.TrimSpace(strings.Join(code, " "))
}

// replace puts something in the place of the tokens from i up to, not
// including, j.
func (s *source) replace(i, j int, with string) {
	s.edits = append(s.edits, edit{s.tokens[i].from, s.tokens[j-1].to, with})
}

func (s *source) is(i int, texts ...string) bool {
	if i < 0 || i >= len(s.tokens) {
		return false
	}
	for _, t := range texts {
		if s.tokens[i].text == t {
			return true
		}
	}
	return false
}

func (s *source) slice(i, j int) string { return s.text[s.tokens[i].from:s.tokens[j-1].to] }

// right is the index of the first token from i on that ends an expression
// there: a bracket that closes one opened before, the end of the line, or one
// of those given.
func (s *source) right(i int, until ...string) int {
	depth := 0
	for j := i; j < len(s.tokens); j++ {
		if depth == 0 && (s.is(j, until...) || s.is(j, "then", "do") || len(until) > 0 && j > i && s.tokens[j].line > s.tokens[j-1].line) {
			return j
		}
		if s.is(j, "(", "[", "{") {
			depth++
		}
		if s.is(j, ")", "]", "}") {
			if depth--; depth < 0 {
				return j
			}
		}
	}
	return len(s.tokens)
}

// left is the index after the token before i that begins an expression there.
func (s *source) left(i int, until ...string) int {
	depth := 0
	for j := i; j >= 0; j-- {
		if depth == 0 && s.is(j, append(until, "if", "elseif", "=", "return", ",")...) {
			return j + 1
		}
		if s.is(j, ")", "]", "}") {
			depth++
		}
		if s.is(j, "(", "[", "{") {
			if depth--; depth < 0 {
				return j + 1
			}
		}
	}
	return 0
}

// indexing reports whether token i lies in square brackets.
func (s *source) indexing(i int) bool { return s.is(s.right(i, ","), "]") }

// condition: always, and never. (The embedded server never leaves a loop that has
// "if false" in it.)
func (s *source) condition(i int) {
	end := s.right(i + 1)
	for _, with := range []string{"true", "1 > 2"} {
		s.replace(i+1, end, with)
	}
}

// comparison: at the limit, or turned round.
func (s *source) comparison(i int) {
	with := map[string]string{"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "~=", "~=": "=="}[s.tokens[i].text]
	if s.is(i, "==", "~=") {
		begin, end := s.left(i-1), s.right(i+1, ",")
		if s.is(begin-1, "if", "elseif") && s.is(end, "then") && !strings.Contains(" "+s.slice(begin, end)+" ", " and ") && !strings.Contains(s.slice(begin, end), " or ") {
			return // is what condition does
		}
	}
	s.replace(i, i+1, with)
}

// operands of "and" and "or": each is left out.
func (s *source) operands(i int) {
	weaker := []string{"or"}
	if s.is(i, "and") {
		weaker = append(weaker, "and")
	}
	begin, end := s.left(i-1, weaker...), s.right(i+1, append(weaker, ",")...)
	s.replace(begin, i+1, "")
	s.replace(i, end, "")
}

// clamp: math.min and math.max, each without one of the two.
func (s *source) clamp(i int) {
	if !s.is(i-1, ".") || !s.is(i+1, "(") {
		return
	}
	comma := s.comma(i + 2)
	end := s.right(i + 2)
	s.replace(i-2, end+1, "("+s.slice(i+2, comma)+")")
	s.replace(i-2, end+1, "("+s.slice(comma+1, end)+")")
}

// comma is the index of the comma, or closing bracket, after an argument.
func (s *source) comma(i int) int {
	depth := 0
	for j := i; ; j++ {
		switch {
		case depth == 0 && s.is(j, ",", ")"):
			return j
		case s.is(j, "(", "[", "{"):
			depth++
		case s.is(j, ")", "]", "}"):
			depth--
		}
	}
}

// arithmetic: without what is added, subtracted, multiplied or divided by. What
// time it is is not for a script to guard.
func (s *source) arithmetic(i int) {
	if strings.Contains(lines(s.text, s.tokens[i].from, s.tokens[i].to), "t[1] * 1000 + math.floor(t[2] / 1000)") || s.is(i-1, "(", ",", "=", "==", "..") || s.indexing(i) {
		return
	}
	until := []string{"+", "-", "<", "<=", ">", ">=", "==", "~=", "and", "or", "..", ","}
	if s.is(i, "*", "/") {
		until = append(until, "*", "/")
	}
	s.replace(i, s.right(i+1, until...), "")
}

// echo: another key than the one asked for.
func (s *source) echo(i int) {
	if s.is(i+1, "KEYS") && s.is(i+3, "1") {
		s.replace(i+1, i+5, "'elsewhere'")
	}
}

// number: one more. What is compared is done by comparison, factors of 1000 are
// taken away by arithmetic, and defaults by operands.
func (s *source) number(i int) {
	n, err := strconv.Atoi(s.tokens[i].text)
	if err != nil || n >= 1000 || s.is(i-1, "or", "+", "*", "/", "<", "<=", ">", ">=", "==", "~=") || s.is(i-1, "-") && s.is(i-2, "==") || s.indexing(i) {
		return
	}
	s.replace(i, i+1, strconv.Itoa(n+1))
}

// statement: writes and assignments are left out, writes that follow each other
// change places, and records are written without one of their fields.
func (s *source) statement(i int) {
	end := s.statementEnd(i)
	if end == 0 {
		return
	}
	s.replace(i, end, "")
	if !s.is(i, "redis") {
		return
	}
	if next := s.statementEnd(end); next > 0 && s.is(end, "redis") {
		between := s.text[s.tokens[end-1].to:s.tokens[end].from]
		s.replace(i, next, s.slice(end, next)+between+s.slice(i, end))
	}
	if s.is(i+4, "'HSET'") {
		var at []int // where the arguments begin
		for j := i + 4; j < end; j = s.comma(j) + 1 {
			at = append(at, j)
		}
		for n := 2; n < len(at) && len(at) > 4; n += 2 {
			if n+2 < len(at) {
				s.replace(at[n], at[n+2], "")
			} else {
				s.replace(at[n]-1, end-1, "")
			}
		}
	}
}

// statementEnd is the index after the write or assignment that begins at i, or
// 0 if there is none.
func (s *source) statementEnd(i int) int {
	switch {
	case s.is(i, "redis") && s.is(i+3, "("), s.is(i, "deny") && s.is(i+1, "("):
		open := i + 1
		if s.is(i, "redis") {
			open = i + 3
		}
		return s.right(open+1) + 1
	case s.is(i, "local", "return", "if", "elseif", "for", "end", "else", "function") || i >= len(s.tokens):
		return 0
	}
	eq := i
	for eq < len(s.tokens) && s.tokens[eq].line == s.tokens[i].line && !s.is(eq, "=") {
		eq++
	}
	if !s.is(eq, "=") || s.tokens[eq].line != s.tokens[i].line || s.is(i, "'g'") {
		return 0
	}
	end := eq
	for end < len(s.tokens) && s.tokens[end].line == s.tokens[i].line {
		end++
	}
	return end
}
