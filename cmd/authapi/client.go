package main

import (
	"context"
	"fmt"

	"github.com/authapi/authapi/api"
	"github.com/authapi/authapi/api/clientsfile"
)

// clientHashSecret prints what the clients file may hold of a secret. It needs
// neither configuration nor Redis.
func clientHashSecret(ctx context.Context, p program) error {
	if len(p.args) > 0 {
		return fmt.Errorf("%w: the secret is asked for, or read from standard input; arguments show in process lists", errUsage)
	}
	secret, err := p.askHidden(ctx, "secret", clientsfile.MaxSecret)
	if err != nil {
		return err
	}
	if err := clientsfile.CheckSecret(secret); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, api.HashClientSecret(secret))
	return nil
}
