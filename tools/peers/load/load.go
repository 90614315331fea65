// Package load drives a program that is measured with a fixed number of clients,
// each of which waits for its answer, and says what came of it.
package load

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Report is what a measured program prints: one JSON object.
type Report struct {
	// Figures by name; rates are per second, times in the unit that the name ends with.
	Figures map[string]float64 `json:"figures"`
	// Notes say how the figures came about.
	Notes []string `json:"notes,omitempty"`
}

// Print writes the report as one line of JSON.
func (r *Report) Print(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// Plan says how hard and for how long to work.
type Plan struct {
	Clients int
	Warm    time.Duration // before anything is counted
	Window  time.Duration // what is counted
}

// Run calls do from Clients goroutines until the window has ended, and returns
// calls per second, the latency's p50 and p99 in ms, and the CPU seconds that
// this process spent per second. The first error ends it.
func Run(ctx context.Context, p Plan, do func(ctx context.Context, client int) error) (*Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var counting, stopping atomic.Bool
	times := make([][]time.Duration, p.Clients)
	var clients sync.WaitGroup
	for i := range p.Clients {
		clients.Go(func() {
			for !stopping.Load() && ctx.Err() == nil {
				begin, counted := time.Now(), counting.Load()
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
				if counted && counting.Load() {
					times[i] = append(times[i], time.Since(begin))
				}
			}
		})
	}
	wait(ctx, p.Warm)
	counting.Store(true)
	begin, cpu := time.Now(), CPU()
	wait(ctx, p.Window)
	counting.Store(false)
	seconds, cpu := time.Since(begin).Seconds(), CPU()-cpu
	stopping.Store(true)
	clients.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	return &Report{Figures: map[string]float64{
		"per_second": float64(len(all)) / seconds, "cpu_cores": cpu / seconds, "seconds": seconds,
		"p50_ms": quantile(all, 0.5), "p99_ms": quantile(all, 0.99),
	}}, nil
}

// CPU returns the seconds of processor time that this process has used.
func CPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// quantile returns the q-quantile of sorted times in ms.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(q*float64(len(sorted)-1))]) / 1e6
}
