package main

import (
	"context"
	"runtime/metrics"
	"time"
)

// The heap grows to five times what is in use before it is collected, but by no
// more than heapRoom beyond it, unless what is in use is more than that itself.
const (
	lazyPercent  = 400
	leastPercent = 100
	heapRoom     = 384 << 20 // bytes
)

// tuneCollector has the heap grow to five times what is in use before it is
// collected, unless the user says otherwise. What is in use is little: measured,
// collecting so small a heap at Go's default takes a third of the ingest's CPU.
func tuneCollector(gogc string, set func(percent int) int) {
	if gogc == "" {
		set(lazyPercent)
	}
}

// collectorPercent is Go's GOGC for a heap of which live bytes are in use. Five
// times what is in use is too much once caches have filled: they are bounded, but
// five times them is not what a machine was sized for.
func collectorPercent(live uint64) int {
	if live == 0 {
		return lazyPercent
	}
	return int(min(max(heapRoom*100/live, leastPercent), lazyPercent))
}

// collectorInterval is how often the collector is looked after.
const collectorInterval = time.Second

// tendCollector keeps the percentage fit for what is in use, until ctx ends.
func tendCollector(ctx context.Context, set func(percent int) int) error {
	tick := time.NewTicker(collectorInterval)
	defer tick.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := lazyPercent
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindUint64 {
			return nil // a Go that does not tell: five times it is
		}
		if next := collectorPercent(sample[0].Value.Uint64()); next != percent {
			percent = next
			set(percent)
		}
	}
}
