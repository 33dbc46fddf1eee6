package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/authapi/authapi/refresh"
)

func sessionsList(ctx context.Context, p program) error {
	return p.administer(ctx, 1, 1, func(ctx context.Context, s stores, args []string) error {
		sub, err := s.subject(ctx, args[0])
		if err != nil {
			return err
		}
		sessions, err := s.sessions.List(ctx, sub)
		if err != nil {
			return err
		}
		w := table(p.stdout, "SESSION", "CLIENT", "DEVICE", "CREATED", "LAST USED", "EXPIRES")
		for _, x := range sessions {
			row(w, x.SID, x.ClientID, printable(x.Device), x.CreatedAt.Format(time.RFC3339), x.RotatedAt.Format(time.RFC3339), x.ExpiresAt().Format(time.RFC3339))
		}
		return w.Flush()
	})
}

func sessionsEnd(ctx context.Context, p program) error {
	return p.administer(ctx, 1, 1, func(ctx context.Context, s stores, args []string) error {
		sub, err := s.subject(ctx, args[0])
		if err != nil {
			return err
		}
		ended, err := s.sessions.EndAll(ctx, sub, "", refresh.Admin)
		if err != nil {
			return err
		}
		if ended == 0 {
			fmt.Fprintf(p.stdout, "There are no sessions of the subject %s.\n", sub)
			return nil
		}
		fmt.Fprintf(p.stdout, "%d session(s) ended.\n", ended)
		return nil
	})
}

// subject finds whom an argument means: a user of the directory, or any
// subject, of users that are kept elsewhere.
func (s stores) subject(ctx context.Context, name string) (string, error) {
	if sub, ok := strings.CutPrefix(name, "sub:"); ok {
		if sub == "" {
			return "", fmt.Errorf("%w: sub: needs a subject behind it", errUsage)
		}
		return sub, nil
	}
	account, err := s.users.Get(ctx, name)
	return account.Subject, err
}

// printable keeps what a user chose as a label from moving the cursor of
// whoever looks at it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
