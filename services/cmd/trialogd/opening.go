package main

import (
	"context"
	"time"

	"github.com/trialog/trialog/services/sequencer"
)

// startPause is between two looks whether a successor is waiting for its first
// statement.
const startPause = 10 * time.Millisecond

// startShards says the first statement of each shard that has a predecessor, as
// soon as it may, and makes known that it is open.
func (e *engine) startShards(ctx context.Context) error {
	for i, sh := range e.shards {
		if sh.seq != nil && !e.awaitOpening(ctx, sh, i > 0) {
			return nil
		}
		if err := e.hasOpened(ctx, sh); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// awaitOpening waits until the shard has published a checkpoint, and starts it if
// it succeeds another one. It returns false if ctx ends before.
func (e *engine) awaitOpening(ctx context.Context, sh *shard, succeeds bool) bool {
	for failures := 0; sh.seq.Checkpoint() == nil; {
		pause := startPause
		if succeeds && sh.seq.Ready() == nil {
			if err := e.startShard(ctx, sh); err != nil && ctx.Err() == nil {
				sh.log.Warn("the shard is open, but not started yet", "error", err)
				pause = enrolmentPause(failures)
				failures++
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
	return true
}

// startShard says the first statement of a shard, unless there is one: then a
// quorum of witnesses is waited for.
func (e *engine) startShard(ctx context.Context, sh *shard) error {
	size, err := sh.seq.Ledger().Size()
	if err != nil || size > 0 {
		return err
	}
	env, err := sh.seq.StartStatement(ctx, e.gatewayKey)
	if err != nil {
		return err
	}
	_, err = sh.seq.Add(ctx, sequencer.Request{Envelope: env})
	return err
}

// hasOpened makes known what a shard with a published checkpoint is.
func (e *engine) hasOpened(ctx context.Context, sh *shard) error {
	if sh.seq != nil && e.activate != nil {
		if err := e.activate(sh.place.Origin); err != nil {
			return err
		}
	}
	if err := e.relist(ctx); err != nil {
		sh.log.Error("the log list is not written", "error", err)
	}
	return nil
}
