package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/trialog/trialog/tools/bench/score"
)

// tabler writes cells as a table.
type tabler = func(w io.Writer, cells [][]string) error

// growth is what a log costs as it grows, as it is written to growth.json.
type growth struct {
	Machine machine  `json:"machine"`
	Sizes   []stage  `json:"sizes"`
	Notes   []string `json:"notes"`
}

// stage is what was measured at one size. Memory is that of the log's process,
// "trialogd all": sequencer, gateway and proofs.
type stage struct {
	Entries   uint64  `json:"entries"`
	Added     float64 `json:"added"`          // since the stage before
	PerSecond float64 `json:"add_per_second"` // while these were added
	CPUMicros float64 `json:"add_cpu_us"`     // processor time of one of them

	StoreBytes  float64 `json:"store_bytes_per_entry"`
	TilesBytes  float64 `json:"tiles_bytes_per_entry"`
	LedgerBytes float64 `json:"ledger_bytes_per_entry"`

	StartSeconds float64 `json:"start_seconds"` // from the start of the process to readiness
	IdleMiB      float64 `json:"memory_after_start_mib"`
	LoadMiB      float64 `json:"memory_under_load_mib"` // the greatest, of start and load
	Signed       float64 `json:"signed_final_per_second"`
	ProofP50     float64 `json:"proof_p50_us"`
	ProofP99     float64 `json:"proof_p99_us"`
}

// grow measures the stages that were asked for.
func (s *session) grow(ctx context.Context) (*growth, error) {
	dir, err := s.folder()
	if err != nil {
		return nil, err
	}
	data, begin := filepath.Join(dir, "log"), s.now()
	g := &growth{Machine: s.machine}
	// A log enrols its own keys when it starts for the first time.
	p, err := s.start(ctx, data)
	if err != nil {
		return nil, err
	}
	if err := p.stop(); err != nil {
		return nil, err
	}
	for _, size := range s.o.growth {
		left := s.o.limit - s.now().Sub(begin)
		if left <= 0 {
			g.Notes = append(g.Notes, fmt.Sprintf("%d entries were not reached in the time allowed", size))
			break
		}
		st, err := s.stage(ctx, data, size, left)
		if err != nil {
			return nil, fmt.Errorf("growth to %d entries: %w", size, err)
		}
		g.Sizes = append(g.Sizes, *st)
		s.sayf("growth   %d entries: %.0f/s, %.0f MiB, proof %.0f µs", st.Entries, st.PerSecond, st.LoadMiB, st.ProofP50)
		if st.Entries < size {
			g.Notes = append(g.Notes, fmt.Sprintf("%d entries were not reached in the time allowed", size))
			break
		}
	}
	return g, nil
}

// growWatched is grow, with a look at the machine before and after. What it has
// found goes into the round.
func (s *session) growWatched(ctx context.Context, round score.Round) (g *growth, err error) {
	if len(s.o.growth) == 0 {
		return nil, nil //nolint:nilnil // nothing was asked for
	}
	watch, m, err := s.watched(ctx, func(ctx context.Context, _ *session) (*measured, error) {
		if g, err = s.grow(ctx); err != nil {
			return nil, err
		}
		return &measured{Figures: g.figures()}, nil
	})
	if err != nil {
		return nil, err
	}
	round[growthProbe] = m.Figures
	s.seen[growthProbe] = append(s.seen[growthProbe], watch)
	return g, nil
}

// stage fills the log up to size and measures it.
func (s *session) stage(ctx context.Context, data string, size uint64, limit time.Duration) (*stage, error) {
	m, err := s.long(ctx, limit, "fill", "--data", data, "--to", strconv.FormatUint(size, 10), "--limit", limit.String())
	if err != nil {
		return nil, err
	}
	st := &stage{
		Entries: uint64(m.Figures["entries"]), Added: m.Figures["added"],
		PerSecond: m.Figures["per_second"], CPUMicros: m.Figures["cpu_us"],
	}
	for part, into := range map[string]*float64{"store": &st.StoreBytes, "tiles": &st.TilesBytes, "ledger": &st.LedgerBytes} {
		n, err := onDisk(filepath.Join(data, "shards", "1", part))
		if err != nil {
			return nil, err
		}
		*into = n / float64(st.Entries)
	}
	begin := s.now()
	p, err := s.start(ctx, data)
	if err != nil {
		return nil, err
	}
	st.StartSeconds = s.now().Sub(begin).Seconds()
	if err := st.load(ctx, p); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	if err := p.stop(); err != nil {
		return nil, err
	}
	proofs, err := s.child(ctx, "trialog-bench", append(s.time(time.Second, 4*time.Second), "prove", "--data", data)...)
	if err != nil {
		return nil, err
	}
	st.ProofP50, st.ProofP99 = 1000*proofs.Figures["p50_ms"], 1000*proofs.Figures["p99_ms"]
	return st, nil
}

// load measures a running log.
func (st *stage) load(ctx context.Context, p *product) (err error) {
	if st.IdleMiB, _, err = p.memory(); err != nil {
		return err
	}
	m, err := p.flood(ctx, p.s.time(2*time.Second, 6*time.Second)...)
	if err != nil {
		return err
	}
	st.Signed = m.Figures["per_second"]
	_, st.LoadMiB, err = p.memory()
	return err
}

// onDisk returns the bytes that a folder takes on its disk.
func onDisk(dir string) (float64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { //nolint:gosec // a folder of our own
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		const block = 512 // stat(2): st_blocks is in units of 512 bytes
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			total += sys.Blocks * block
		} else {
			total += info.Size()
		}
		return nil
	})
	return float64(total), err
}

// figures are what the row on memory is computed from.
func (g *growth) figures() score.Figures {
	if len(g.Sizes) < 2 {
		return score.Figures{}
	}
	first, last := g.Sizes[0], g.Sizes[len(g.Sizes)-1]
	f := score.Figures{"first_rss_mib": first.LoadMiB, "last_rss_mib": last.LoadMiB}
	// The goal is about these sizes; over a smaller range it would say too little.
	if first.Entries <= 1e5 && last.Entries >= 1e7 {
		f["full_range"] = 1
	}
	return f
}

// cells are the table of the growth run.
func (g *growth) cells() [][]string {
	cells := make([][]string, 0, 1+len(g.Sizes))
	cells = append(cells, []string{
		"entries", "added/s", "CPU µs each", "store B each", "tiles B each", "ledger B each", "start s",
		"MiB after start", "MiB under load", "signed FINAL/s", "proof p50 µs", "proof p99 µs",
	})
	for i := range g.Sizes {
		st := &g.Sizes[i]
		values := []float64{
			float64(st.Entries), st.PerSecond, st.CPUMicros, st.StoreBytes, st.TilesBytes, st.LedgerBytes, st.StartSeconds,
			st.IdleMiB, st.LoadMiB, st.Signed, st.ProofP50, st.ProofP99,
		}
		row := make([]string, 0, len(values))
		for _, v := range values {
			row = append(row, score.Number(&v))
		}
		cells = append(cells, row)
	}
	return cells
}

// long is child for what may take long; progress is said every while.
func (s *session) long(ctx context.Context, limit time.Duration, args ...string) (*measured, error) {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		begin := s.now()
		for {
			select {
			case <-ended:
				return
			case <-time.After(30 * time.Second): // between two lines
				s.sayf("growth   %s, %.0f s so far", args[0], s.now().Sub(begin).Seconds())
			}
		}
	}()
	return s.childWithin(ctx, limit+patience, "trialog-bench", args...)
}
