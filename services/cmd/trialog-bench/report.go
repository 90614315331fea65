package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// report is what a measurement prints.
type report struct {
	// Figures by name; rates are per second, times in the unit that the name
	// ends with.
	Figures map[string]float64 `json:"figures"`
	// Notes say how the figures came about.
	Notes []string `json:"notes,omitempty"`
}

func (r *report) print(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// plan says for how long to work.
type plan struct {
	warm   time.Duration // before anything is counted
	window time.Duration // what is counted
}

// meter counts what is done within the window of a plan.
type meter struct {
	counting atomic.Bool
	ended    atomic.Bool
	n        atomic.Uint64
	mu       sync.Mutex
	times    []time.Duration
	// usage returns seconds that something has used so far, by the name of the
	// figure; may be nil.
	usage func() (map[string]float64, error)
}

// used is usage, nil-safe.
func (m *meter) used() (map[string]float64, error) {
	if m.usage == nil {
		return map[string]float64{}, nil
	}
	return m.usage()
}

// add counts n things that were done.
func (m *meter) add(n int) {
	if m.counting.Load() {
		m.n.Add(uint64(n))
	}
}

// keep takes the times that one client has measured.
func (m *meter) keep(times []time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.times = append(m.times, times...)
}

// run lets the plan's time pass and returns how many things a second were done,
// and the processor seconds that this process spent a second. finish ends the
// work and is called before the latencies are looked at; each may be nil.
func (p *program) run(ctx context.Context, m *meter, finish func() error) (*report, error) {
	if err := pass(ctx, p.plan.warm); err != nil {
		return nil, err
	}
	before, err := m.used()
	if err != nil {
		return nil, err
	}
	m.counting.Store(true)
	begin, cpu := p.now(), cpuSeconds()
	waited := pass(ctx, p.plan.window)
	m.counting.Store(false)
	seconds, cpu := p.now().Sub(begin).Seconds(), cpuSeconds()-cpu
	after, err := m.used()
	m.ended.Store(true)
	if finish != nil {
		waited = errors.Join(waited, finish())
	}
	if err := errors.Join(err, waited); err != nil {
		return nil, err
	}
	r := &report{Figures: map[string]float64{
		"per_second": float64(m.n.Load()) / seconds, "cpu_cores": cpu / seconds, "seconds": seconds,
	}}
	for name, v := range after {
		r.Figures[name] = (v - before[name]) / seconds
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.Sort(m.times)
	if len(m.times) > 0 {
		r.Figures["p50_ms"], r.Figures["p99_ms"] = quantile(m.times, 0.5), quantile(m.times, 0.99)
	}
	return r, nil
}

// closed measures do, called by each of so many clients again and again.
func (p *program) closed(ctx context.Context, clients int, do func(ctx context.Context, client int) error) (*report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var m meter
	var working sync.WaitGroup
	for i := range clients {
		working.Go(func() {
			var times []time.Duration
			defer func() { m.keep(times) }()
			for !m.ended.Load() && ctx.Err() == nil {
				begin, counted := p.now(), m.counting.Load()
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
				if counted && m.counting.Load() {
					m.n.Add(1)
					times = append(times, p.now().Sub(begin))
				}
			}
		})
	}
	r, err := p.run(ctx, &m, func() error { working.Wait(); return nil })
	if err != nil {
		working.Wait()
		return nil, context.Cause(ctx)
	}
	return r, nil
}

// pass lets time go by; it fails if ctx ends first.
func pass(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// quantile returns the q-quantile of sorted times in ms.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[int(q*float64(len(sorted)-1))]) / float64(time.Millisecond)
}

// cpuSeconds returns the processor time that this process has used.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / float64(time.Second)
}
