package registertest

import (
	"context"
	"errors"
	"sync"

	"github.com/trialog/trialog/services/internal/register"
)

// ErrInjected is the error of a write that Memory was told to fail.
var ErrInjected = errors.New("injected fault")

// Fault is what happens to a write of Memory.
type Fault int

// The faults.
const (
	None      Fault = iota
	Lost            // it fails, and nothing was written
	Persisted       // it fails, and was written
)

// Memory is a register in memory. Its zero value is one without a record.
type Memory struct {
	mu     sync.Mutex
	made   bool
	record register.Record
	writes int
	at     int
	fault  Fault
}

// NewMemory returns a register with a record.
func NewMemory(r register.Record) *Memory { return &Memory{made: true, record: r} }

// Fail lets the write with the number at, counted from 1 from now on, fail.
func (m *Memory) Fail(at int, f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes, m.at, m.fault = 0, at, f
}

// Set puts the register back, or forward, as no Register could.
func (m *Memory) Set(r register.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made, m.record = true, r
}

// Lose removes the record.
func (m *Memory) Lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made, m.record = false, register.Record{}
}

// Create implements register.Register.
func (m *Memory) Create(_ context.Context, first register.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made {
		return register.ErrExists
	}
	return m.write(first)
}

// Read implements register.Register.
func (m *Memory) Read(context.Context) (register.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.made {
		return register.Record{}, register.ErrMissing
	}
	return m.record, nil
}

// Swap implements register.Register.
func (m *Memory) Swap(_ context.Context, old, next register.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.made:
		return register.ErrMissing
	case m.record != old:
		return register.ErrConflict
	case !next.Follows(old):
		return register.ErrBackwards
	case next.Size >= 1<<63:
		return register.ErrCorrupt
	}
	return m.write(next)
}

func (m *Memory) write(r register.Record) error {
	m.writes++
	fault := None
	if m.writes == m.at {
		fault = m.fault
	}
	if fault != Lost {
		m.made, m.record = true, r
	}
	if fault != None {
		return ErrInjected
	}
	return nil
}
