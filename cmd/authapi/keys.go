package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/authapi/authapi/internal/ack"
	"github.com/authapi/authapi/keyring"
)

func keysList(ctx context.Context, p program) error {
	return p.administerKeys(ctx, 0, 0, func(_ context.Context, keys *keyring.Ring, _ []string) error {
		w := table(p.stdout, "KEY", "ALGORITHM", "STATE", "PUBLISHED", "SIGNS FROM", "SIGNED UNTIL")
		for _, k := range keys.Keys() {
			row(w, k.ID, k.Algorithm, string(k.State), instant(k.PublishedAt), instant(k.SignsFrom), instant(k.SignedUntil))
		}
		return w.Flush()
	})
}

func keysRotate(ctx context.Context, p program) error {
	return p.administerKeys(ctx, 0, 0, func(ctx context.Context, keys *keyring.Ring, _ []string) error {
		from, err := keys.Rotate(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "A new key signs from %s on. The old one verifies until its tokens have expired.\n", instant(from))
		return nil
	})
}

func keysDrop(ctx context.Context, p program) error {
	return p.administer(ctx, 1, 1, func(ctx context.Context, s stores, args []string) error {
		kid := args[0]
		keys, err := keyring.Read(ctx, s.redis, s.ring)
		if err != nil {
			return err
		}
		dropped := keys.Drop(ctx, kid)
		// Too few replicas are no reason to let anybody believe the key any longer.
		if dropped != nil && !errors.Is(dropped, keyring.ErrUnknownKey) && !errors.Is(dropped, ack.ErrReplicas) {
			return dropped
		}
		// First let every instance stop signing with it. A token that it made in
		// this moment would be refused although it is new.
		select {
		case <-ctx.Done():
		case <-time.After(followEvery + followEvery/2):
		}
		// Also if the ring no longer has the key: the one who dropped it may
		// have been cut off before the verifiers were told.
		if err := s.denied.AddKey(ctx, kid); err != nil {
			return fmt.Errorf("the key signs no more, but not every verifier was told; run this again: %w", err)
		}
		if errors.Is(dropped, ack.ErrReplicas) {
			return fmt.Errorf("the key signs no more, and verifiers were told, but a failover can bring it back; run this again: %w", dropped)
		}
		if dropped != nil {
			return fmt.Errorf("%w; verifiers were told to refuse it all the same", dropped)
		}
		fmt.Fprintf(p.stdout, "Dropped. Its tokens are refused everywhere within a second; sessions go on, and get new ones at their next refresh.\nThe key %s signs now.\n", keys.Signer().ID())
		return nil
	})
}

func keysReseal(ctx context.Context, p program) error {
	return p.administerKeys(ctx, 0, 0, func(ctx context.Context, keys *keyring.Ring, _ []string) error {
		if err := keys.Reseal(ctx); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, "The signing keys are sealed under the first secret. They no longer need the others.")
		return nil
	})
}

func (p program) administerKeys(ctx context.Context, least, most int, do func(ctx context.Context, keys *keyring.Ring, args []string) error) error {
	return p.administer(ctx, least, most, func(ctx context.Context, s stores, args []string) error {
		keys, err := keyring.Read(ctx, s.redis, s.ring)
		if err != nil {
			return err
		}
		return do(ctx, keys, args)
	})
}

func instant(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.RFC3339)
}
