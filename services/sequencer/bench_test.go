package sequencer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// submitters is how many clients a benchmark has; each waits for its answer.
const submitters = 1000

func BenchmarkAddPending(b *testing.B) { benchmarkAdd(b, true) }
func BenchmarkAddFinal(b *testing.B)   { benchmarkAdd(b, false) }

// benchmarkAdd submits statements that were signed before: what is measured is
// the log's work, verification included.
func benchmarkAdd(b *testing.B, pending bool) {
	w := newWorld(b)
	w.limits.Interval, w.limits.BatchDelay = 0, 0 // the defaults
	if err := w.start(); err != nil {
		b.Fatal(err)
	}
	w.enrol()
	requests := make([]Request, b.N)
	for i := range requests {
		requests[i] = w.newTrial(fmt.Sprint("B", i))
		requests[i].Pending = pending
	}
	runtime.GC()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	begin := time.Now()
	for range min(submitters, b.N) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(requests)) {
					return
				}
				for {
					a, err := w.seq.Add(context.Background(), requests[i])
					if errors.Is(err, ErrBusy) {
						runtime.Gosched()
						continue
					}
					if err != nil || pending != (a.Receipt == nil) {
						b.Errorf("answer %+v, %v", a, err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "entries/s")
}
