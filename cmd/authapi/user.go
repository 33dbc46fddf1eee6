package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

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

func table(w io.Writer, heads ...string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, heads...)
	return t
}

func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }
