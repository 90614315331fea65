package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/sequencer"
)

// standbyPause is between two looks whether a shard that has failed is needed.
const standbyPause = 100 * time.Millisecond

// openShards opens the shards, oldest first. One that is announced, and cannot be
// opened, is left out while those before it are at work: what is wrong with it is
// said now, and counts when it is needed.
func (e *engine) openShards(ctx context.Context, l layout, places []config.Shard) error {
	for i := range places {
		place := places[i].Under(l.dir)
		sh, err := e.openShard(ctx, place, i == len(places)-1)
		if err != nil && ctx.Err() == nil && e.atWork(ctx) {
			e.unopened = fmt.Errorf("%s could not be opened when the log was started: %w", place.Origin, err)
			e.log.Error("an announced shard is not opened; the one before it goes on", "shard", place.Name(), "error", err)
			return e.gaugeFailure(place, func() bool { return true })
		}
		if err != nil {
			return err
		}
		e.shards = append(e.shards, sh)
		if err := e.gaugeFailure(place, sh.failed); err != nil {
			return err
		}
	}
	return nil
}

// atWork tells whether the newest shard that is open has not ended.
func (e *engine) atWork(ctx context.Context) bool {
	if len(e.shards) == 0 {
		return false
	}
	sh := e.shards[len(e.shards)-1]
	record, err := sh.register.Read(ctx)
	return err == nil && sh.seq != nil && !record.Sealed
}

// gaugeFailure has a metric tell whether a shard needs somebody's hand.
func (e *engine) gaugeFailure(place config.Shard, failed func() bool) error {
	return e.metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "trialog_shard_failed",
		Help:        "1 if the shard has refused or failed, so that somebody has to look and to start the log again.",
		ConstLabels: prometheus.Labels{"shard": place.Name()},
	}, func() float64 {
		if failed() {
			return 1
		}
		return 0
	}))
}

// failed tells whether only a restart can bring the shard to work.
func (sh *shard) failed() bool {
	if sh.seq == nil {
		return false // it has ended, and is read
	}
	err := sh.seq.Ready()
	if _, refused := errors.AsType[*sequencer.RefusedError](err); refused {
		return refusesForGood(err)
	}
	return err != nil && !errors.Is(err, sequencer.ErrEnded) && !errors.Is(err, sequencer.ErrNotReady)
}

// runShard runs a shard. The failure of one that nobody needs yet does not end
// those that are at work: it counts when they have ended.
func (e *engine) runShard(ctx context.Context, sh *shard) error {
	err := sh.run(ctx)
	if err == nil || ctx.Err() != nil || e.active() == sh {
		return err
	}
	sh.log.Error("an announced shard has failed; the one before it goes on", "error", err)
	for e.active() != sh {
		if run.Pause(ctx, standbyPause) != nil {
			return nil //nolint:nilerr // it was told to end
		}
	}
	return err
}

// awaitStandby waits until a shard stands by for the one before it to end, or has
// opened. Behind a shard that has failed, nothing may end.
func (e *engine) awaitStandby(ctx context.Context, sh *shard) error {
	for {
		err := sh.seq.Ready()
		refused, ok := errors.AsType[*sequencer.RefusedError](err)
		switch {
		case err == nil || ok && refused.Reason == sequencer.Standby:
			return nil
		case sh.failed():
			return fmt.Errorf("%s does not stand by: %w", sh.place.Origin, err)
		}
		if err := run.Pause(ctx, rolloverPause); err != nil {
			return fmt.Errorf("%s does not stand by yet: %w", sh.place.Origin, err)
		}
	}
}
