package clock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/services/internal/clock"
)

// machine is a machine's two clocks, and the true time.
type machine struct {
	mu      sync.Mutex
	elapsed time.Duration // since the start, by the monotonic clock
	slept   time.Duration // that the monotonic clock did not see
	shift   time.Duration // of the wall clock against true time
}

var start = time.Unix(1_790_000_000, 0)

func (m *machine) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func (m *machine) pass(d time.Duration) { m.set(func() { m.elapsed += d }) }
func (m *machine) jump(d time.Duration) { m.set(func() { m.shift += d }) }

// sleep suspends the machine: the wall clock is right afterwards, the monotonic
// one has stood still.
func (m *machine) sleep(d time.Duration) { m.set(func() { m.slept += d }) }

func (m *machine) truth() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return start.Add(m.elapsed + m.slept)
}

func (m *machine) now() time.Time {
	truth := m.truth()
	m.mu.Lock()
	defer m.mu.Unlock()
	return truth.Add(m.shift)
}

func (m *machine) monotonic() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.elapsed
}

// source is one whose own clock is off.
type source struct {
	m           *machine
	name        string
	mu          sync.Mutex
	off         time.Duration
	uncertainty time.Duration
	err         error
	asked       int
	during      func() // happens while it is asked
}

func (s *source) Name() string { return s.name }

func (s *source) Offset(context.Context) (offset, uncertainty time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	offset = s.m.truth().Add(s.off).Sub(s.m.now())
	if s.during != nil {
		s.during()
	}
	return offset, s.uncertainty, s.err
}

func (s *source) set(change func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// funcSource is a source whose answers a function gives.
type funcSource struct {
	name   string
	offset func(context.Context) (offset, uncertainty time.Duration, err error)
}

func fromFunc(name string, offset func(context.Context) (offset, uncertainty time.Duration, err error)) clock.Source {
	return &funcSource{name, offset}
}

func (s *funcSource) Name() string { return s.name }

func (s *funcSource) Offset(ctx context.Context) (offset, uncertainty time.Duration, err error) {
	return s.offset(ctx)
}

type world struct {
	*machine
	sources []*source
	guard   *clock.Guard
	lines   *bytes.Buffer
}

func newWorld(t *testing.T, n int, change ...func(*clock.Config)) *world {
	t.Helper()
	w := &world{machine: new(machine), lines: new(bytes.Buffer)}
	c := clock.Config{
		Now: w.now, Monotonic: w.monotonic,
		Logger: slog.New(slog.NewTextHandler(w.lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for i := range n {
		s := &source{m: w.machine, name: fmt.Sprintf("s%d", i)}
		w.sources = append(w.sources, s)
		c.Sources = append(c.Sources, s)
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	if w.guard, err = clock.New(c); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) check(t *testing.T, when string, verified, disagrees bool) error {
	t.Helper()
	got, err := w.guard.Check()
	if got != verified || (err != nil) != disagrees || err != nil && !errors.Is(err, clock.ErrDisagrees) {
		t.Errorf("%s: verified %v, %v; expected %v and an error: %v", when, got, err, verified, disagrees)
	}
	return err
}
