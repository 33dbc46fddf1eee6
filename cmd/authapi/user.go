package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/authapi/authapi/refresh"
	"github.com/authapi/authapi/users"
)

// maxArgs bounds the roles on a command line.
const maxArgs = 33

func userAdd(ctx context.Context, p program) error {
	return p.administerPassword(ctx, 1, maxArgs, func(ctx context.Context, s stores, args []string, password string) error {
		account, err := s.users.Add(ctx, args[0], password, args[1:])
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "Added %s with the subject %s.\n", account.Username, account.Subject)
		return nil
	})
}

func userList(ctx context.Context, p program) error {
	return p.administer(ctx, 0, 0, func(ctx context.Context, s stores, _ []string) error {
		accounts, err := s.users.List(ctx)
		if err != nil {
			return err
		}
		w := table(p.stdout, "USER", "SUBJECT", "ROLES", "STATE", "ADDED")
		for _, a := range accounts {
			state := "enabled"
			if a.Disabled {
				state = "disabled"
			}
			row(w, a.Username, a.Subject, strings.Join(a.Roles, " "), state, a.CreatedAt.Format(time.RFC3339))
		}
		return w.Flush()
	})
}

// The commands below change the account first and its sessions second. A login
// that comes between the two fails, because the account is not as it was when
// the password was checked.

func userDisable(ctx context.Context, p program) error {
	return p.administer(ctx, 1, 1, func(ctx context.Context, s stores, args []string) error {
		account, err := s.users.SetDisabled(ctx, args[0], true)
		if err != nil {
			return err
		}
		return p.endAll(ctx, s, account, refresh.Disabled, "Disabled "+account.Username)
	})
}

func userEnable(ctx context.Context, p program) error {
	return p.administer(ctx, 1, 1, func(ctx context.Context, s stores, args []string) error {
		account, err := s.users.SetDisabled(ctx, args[0], false)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "Enabled %s.\n", account.Username)
		return nil
	})
}

func userSetPassword(ctx context.Context, p program) error {
	return p.administerPassword(ctx, 1, 1, func(ctx context.Context, s stores, args []string, password string) error {
		account, err := s.users.SetPassword(ctx, args[0], password)
		if err != nil {
			return err
		}
		return p.endAll(ctx, s, account, refresh.Password, "Changed the password of "+account.Username)
	})
}

func userSetRoles(ctx context.Context, p program) error {
	return p.administer(ctx, 1, maxArgs, func(ctx context.Context, s stores, args []string) error {
		account, err := s.users.SetRoles(ctx, args[0], args[1:])
		if err != nil {
			return err
		}
		if err := s.sessions.SetRoles(ctx, account.Subject, account.Roles); err != nil {
			return fmt.Errorf("the roles are changed, but not those of all sessions; run the command again: %w", err)
		}
		if len(account.Roles) == 0 {
			fmt.Fprintf(p.stdout, "%s now has no roles.\n", account.Username)
			return nil
		}
		fmt.Fprintf(p.stdout, "%s now has the roles: %s\n", account.Username, strings.Join(account.Roles, " "))
		return nil
	})
}

func (p program) endAll(ctx context.Context, s stores, account users.Account, why refresh.Reason, done string) error {
	ended, err := s.sessions.EndAll(ctx, account.Subject, "", why)
	if err != nil {
		return fmt.Errorf("the account is changed, but its sessions did not end; run the command again: %w", err)
	}
	fmt.Fprintf(p.stdout, "%s; %d session(s) ended.\n", done, ended)
	return nil
}

// newPassword asks for a password, or takes the first line of standard input.
// It is never an argument: those show in process lists and shell histories.
func (p program) newPassword(ctx context.Context) (string, error) {
	fd := int(p.stdin.Fd())
	if !term.IsTerminal(fd) {
		return readPassword(ctx, func() (string, error) {
			line, err := bufio.NewReader(io.LimitReader(p.stdin, users.MaxPassword+2)).ReadString('\n')
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return strings.TrimRight(line, "\r\n"), err
		})
	}
	echoing, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(p.stderr, prompt)
		defer fmt.Fprintln(p.stderr)
		password, err := readPassword(ctx, func() (string, error) {
			b, err := term.ReadPassword(fd)
			return string(b), err
		})
		if err != nil {
			// After Ctrl-C the shell would go on without showing what is typed.
			_ = term.Restore(fd, echoing)
		}
		return password, err
	}
	first, err := ask("New password: ")
	if err != nil {
		return "", err
	}
	second, err := ask("Again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}

// readPassword calls read, but does not wait for it once ctx has ended: a read
// from a terminal or pipe cannot be interrupted, and Ctrl-C should end it.
func readPassword(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		password string
		err      error
	}
	done := make(chan result, 1)
	go func() {
		password, err := read()
		done <- result{password, err}
	}()
	select {
	case <-ctx.Done():
		return "", errors.New("interrupted; nothing is changed")
	case r := <-done:
		if r.err != nil {
			return "", fmt.Errorf("read the password: %w", r.err)
		}
		// A login sends JSON, which could never hold it. One that is too long
		// may have been cut within a character, and is refused later.
		if len(r.password) <= users.MaxPassword && !utf8.ValidString(r.password) {
			return "", errors.New("the password is not UTF-8; nobody could log in with it")
		}
		return r.password, nil
	}
}

func table(w io.Writer, heads ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, heads...)
	return t
}

func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }
