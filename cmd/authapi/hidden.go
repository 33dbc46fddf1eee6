package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// askHidden asks for what must not show on the screen, or takes the first line
// of standard input. It is never an argument: those show in process lists and
// shell histories. most is its length in bytes.
func (p program) askHidden(ctx context.Context, what string, most int) (string, error) {
	fd := int(p.stdin.Fd())
	if !term.IsTerminal(fd) {
		return readHidden(ctx, what, most, func() (string, error) {
			line, err := bufio.NewReader(io.LimitReader(p.stdin, int64(most)+2)).ReadString('\n')
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return strings.TrimRight(line, "\r\n"), err
		})
	}
	echoing, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read the %s: %w", what, err)
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(p.stderr, prompt)
		defer fmt.Fprintln(p.stderr)
		text, err := readHidden(ctx, what, most, func() (string, error) {
			b, err := term.ReadPassword(fd)
			return string(b), err
		})
		if err != nil {
			// After Ctrl-C the shell would go on without showing what is typed.
			_ = term.Restore(fd, echoing)
		}
		return text, err
	}
	first, err := ask("New " + what + ": ")
	if err != nil {
		return "", err
	}
	second, err := ask("Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", fmt.Errorf("the two %ss differ", what)
	}
	return first, nil
}

// readHidden calls read, but does not wait for it once ctx has ended: a read
// from a terminal or pipe cannot be interrupted, and Ctrl-C should end it.
func readHidden(ctx context.Context, what string, most int, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", errors.New("interrupted; nothing is changed")
	case r := <-done:
		if r.err != nil {
			return "", fmt.Errorf("read the %s: %w", what, r.err)
		}
		// A login sends JSON, which could never hold it. One that is too long
		// may have been cut within a character, and is refused later.
		if len(r.text) <= most && !utf8.ValidString(r.text) {
			return "", fmt.Errorf("the %s is not UTF-8; nobody could log in with it", what)
		}
		return r.text, nil
	}
}
