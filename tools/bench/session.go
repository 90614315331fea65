package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trialog/trialog/tools/bench/calm"
	"github.com/trialog/trialog/tools/bench/score"
)

// session is one run of the benchmark.
type session struct {
	o        options
	progress io.Writer
	now      func() time.Time
	begin    time.Time

	dir     string // temporary data
	bin     string // programs that were built
	schema  string // of Trillian, for PostgreSQL
	machine machine
	speed   *calm.Calibration
	db      *database // nil until it is needed
	names   int       // of what was made in dir

	failed map[string]string
	notes  map[string][]string
	seen   map[string][]calm.Watch
}

// measured is what a probe has found out.
type measured struct {
	Figures score.Figures `json:"figures"`
	Notes   []string      `json:"notes"`
}

// probe is one thing that is measured. Probes of one group are run one right
// after the other, in another order in each round.
type probe struct {
	id    string
	group int
	run   func(ctx context.Context, s *session) (*measured, error)
}

// open makes the temporary folder and builds the programs.
func open(ctx context.Context, o options) (_ *session, err error) {
	s := &session{
		o: o, progress: os.Stderr, now: time.Now, begin: time.Now(),
		failed: map[string]string{}, notes: map[string][]string{}, seen: map[string][]calm.Watch{},
	}
	if s.dir, err = os.MkdirTemp(o.dir, "trialog-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	// The database server may have to run as another user.
	if err := os.Chmod(s.dir, 0o711); err != nil { //nolint:gosec // so that it can enter
		return nil, err
	}
	if s.machine, err = look(s.dir); err != nil {
		return nil, err
	}
	s.sayf("machine: %s", s.machine)
	if err := s.build(ctx); err != nil {
		return nil, err
	}
	s.speed, err = calm.NewCalibration(s.dir, s.now)
	return s, err
}

// close ends what is still running and removes what was made.
func (s *session) close() {
	if s.db != nil {
		if err := s.db.close(); err != nil {
			s.sayf("PostgreSQL: %v", err)
		}
	}
	if s.speed != nil {
		if err := s.speed.Close(); err != nil {
			s.sayf("calibration: %v", err)
		}
	}
	if err := os.RemoveAll(s.dir); err != nil { //nolint:gosec // a folder of our own
		s.sayf("temporary data: %v", err)
	}
}

// sayf writes a line of progress.
func (s *session) sayf(format string, args ...any) {
	fmt.Fprintf(s.progress, "%6.1f s  %s\n", s.now().Sub(s.begin).Seconds(), fmt.Sprintf(format, args...))
}

// number returns a number that was not used before in this run.
func (s *session) number() int {
	s.names++
	return s.names
}

// folder makes a new folder for a measurement.
func (s *session) folder() (string, error) {
	path := filepath.Join(s.dir, fmt.Sprintf("data-%d", s.number()))
	return path, os.Mkdir(path, 0o700) //nolint:gosec // in a folder of our own
}

// time returns for how long to warm up and to measure, given what a full run
// would take.
func (s *session) time(warm, window time.Duration) []string {
	if s.o.short {
		warm, window = 200*time.Millisecond, 600*time.Millisecond
	}
	return []string{"--warm", warm.String(), "--window", window.String()}
}

// scale returns full, or small in a short run.
func (s *session) scale(full, small int) int {
	if s.o.short {
		return small
	}
	return full
}

// bench measures all rounds and writes the results.
func (s *session) bench(ctx context.Context, rows []score.Row) error {
	needed := map[string]bool{}
	if len(s.o.only) == 0 {
		for _, l := range limits() {
			needed[l.probe] = true
		}
	}
	for i := range rows {
		for _, id := range rows[i].Probes() {
			needed[id] = true
		}
	}
	var rounds []score.Round
	for n := range s.o.rounds {
		round := score.Round{}
		rounds = append(rounds, round)
		for _, p := range inTurn(probes(), n) {
			if !needed[p.id] || s.failed[p.id] != "" {
				continue
			}
			s.measure(ctx, p, n, round)
			if ctx.Err() != nil {
				return errors.New("stopped; nothing is written")
			}
		}
	}
	grown, err := s.growWatched(ctx, rounds[len(rounds)-1])
	if err != nil {
		return err
	}
	r := score.Run{Rounds: rounds, Failed: s.failed, Noise: s.noise(), Judge: !s.o.short}
	results := make([]score.Result, 0, len(rows))
	for i := range rows {
		results = append(results, r.Compute(&rows[i]))
	}
	return s.write(results, rounds, grown)
}

// measure runs a probe, with a look at the machine before and after.
func (s *session) measure(ctx context.Context, p probe, n int, round score.Round) {
	watch, m, err := s.watched(ctx, p.run)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		// Once is enough: the reason is the same in the next round.
		s.failed[p.id] = firstLine(err)
		s.sayf("round %d  %-18s failed: %v", n+1, p.id, err)
		return
	}
	round[p.id], s.notes[p.id] = m.Figures, m.Notes
	s.seen[p.id] = append(s.seen[p.id], watch)
	s.sayf("round %d  %-18s %s", n+1, p.id, brief(m.Figures))
}

func (s *session) watched(
	ctx context.Context, work func(context.Context, *session) (*measured, error),
) (w calm.Watch, m *measured, err error) {
	s.speed.Settle()
	if w.Before, err = s.speed.Read(); err != nil {
		return w, nil, err
	}
	before, err := calm.Use()
	if err != nil {
		return w, nil, err
	}
	begin := s.now()
	if m, err = work(ctx, s); err != nil {
		return w, nil, err
	}
	after, err := calm.Use()
	if err != nil {
		return w, nil, err
	}
	w.Foreign = after.Foreign(before, s.now().Sub(begin).Seconds()*float64(s.machine.CPUs))
	w.After, err = s.speed.Read()
	return w, m, err
}

// noise says of each probe how often it was disturbed.
func (s *session) noise() map[string]score.Noise {
	usual := calm.Usual(slices.Collect(func(yield func(calm.Watch) bool) {
		for _, list := range s.seen {
			for _, w := range list {
				if !yield(w) {
					return
				}
			}
		}
	}))
	all := map[string]score.Noise{}
	for id, list := range s.seen {
		n := score.Noise{Runs: len(list)}
		for _, w := range list {
			if reasons := w.Disturbed(usual); len(reasons) > 0 {
				n.Disturbed++
				n.Reasons = append(n.Reasons, reasons...)
			}
		}
		all[id] = n
	}
	return all
}

// inTurn orders the probes for a round: group after group, and within each group
// another one first each time, so that none is always measured after the same
// other one.
func inTurn(all []probe, round int) []probe {
	var ordered []probe
	for begin := 0; begin < len(all); {
		end := begin
		for end < len(all) && all[end].group == all[begin].group {
			end++
		}
		for i := range end - begin {
			ordered = append(ordered, all[begin+(i+round)%(end-begin)])
		}
		begin = end
	}
	return ordered
}
