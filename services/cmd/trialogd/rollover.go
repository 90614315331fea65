package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/sequencer"
)

func newRollover() *cobra.Command {
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use:   "rollover",
		Short: "End the shard that is open and open the one that was announced",
		Long: `End the shard that is open and open the one that was announced with "trialogd
shard add". The log must be running, and be asked by the user that it runs as.

The last entry of the shard names its successor. When the last checkpoint is
cosigned, the register is sealed, and the successor opens with that checkpoint.
Who submits statements meanwhile waits for a moment. There is no way back. If it
is cut off, repeat it: it goes on where it was.`,
		Example: `  trialogd rollover --data data`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := askRollover(cmd.Context(), layout{dir}.admin(), force)
			if err != nil {
				return err
			}
			cmd.Printf("Ended %s at %d entries; %s is open.\n", done.Ended, done.Size, done.Opened)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().BoolVar(&force, "force", false,
		"open before the announced time; who has not got the new policy yet cannot verify what comes")
	return cmd
}

// rollOver ends the active shard and waits until its successor is open. Repeated
// after it was cut off in between, it goes on where it was.
func (e *engine) rollOver(ctx context.Context, force bool) (*rolledOver, error) {
	at := slices.Index(e.shards, e.active())
	cutOff := at > 0 && !e.shards[at].opened()
	if cutOff {
		at-- // it has ended
	}
	if at == len(e.shards)-1 && e.unopened != nil {
		return nil, fmt.Errorf("end %s: %w; start the log again", e.shards[at].place.Origin, e.unopened)
	}
	if at == len(e.shards)-1 {
		return nil, fmt.Errorf(`no shard behind %s is announced; do so with "trialogd shard add"`, e.shards[at].place.Origin)
	}
	sh, next := e.shards[at], e.shards[at+1]
	if opens := e.list.opens(next.place.Origin); !cutOff && !force && e.now().Before(opens) {
		return nil, fmt.Errorf("%s was announced for %s UTC; until then only with --force",
			next.place.Origin, opens.UTC().Format(time.DateTime))
	}
	if !cutOff {
		if err := e.awaitStandby(ctx, next); err != nil {
			return nil, fmt.Errorf("end %s: %w", sh.place.Origin, err)
		}
		if err := e.endShard(ctx, sh, next.place.Origin); err != nil {
			return nil, fmt.Errorf("end %s: %w", sh.place.Origin, err)
		}
	}
	if _, err := (router{e}).opened(ctx, sh); err != nil {
		return nil, fmt.Errorf("%s has ended, but %s has not opened: %w", sh.place.Origin, next.place.Origin, err)
	}
	if err := e.relist(ctx); err != nil {
		return nil, fmt.Errorf("%s is open, but the log list is not written: %w", next.place.Origin, err)
	}
	done := &rolledOver{Ended: sh.place.Origin, Opened: next.place.Origin}
	if entry := e.list.shard(sh.place.Origin); entry != nil && entry.Final != nil {
		done.Size = entry.Final.Size
	}
	return done, nil
}

// endShard says the last statement of a shard. The operator's key may speak at the
// same time: then the statement is built again, on the new head of its chain.
func (e *engine) endShard(ctx context.Context, sh *shard, successor string) error {
	for {
		env, err := sh.seq.EndStatement(ctx, e.gatewayKey, successor)
		if err != nil {
			return err
		}
		_, err = sh.seq.Add(ctx, sequencer.Request{Envelope: env})
		if _, moved := errors.AsType[*sequencer.ChainError](err); moved {
			continue
		}
		if errors.Is(err, sequencer.ErrEnded) {
			return nil
		}
		return err
	}
}
