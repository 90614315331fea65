package blobtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/trialog/trialog/services/internal/blob"
)

// ErrInjected is the error of a Faulty store.
var ErrInjected = errors.New("injected fault")

// Fault is what happens to a write that fails.
type Fault int

const (
	// Lost means that the write fails and changes nothing.
	Lost Fault = iota
	// Persisted means that the write fails and has changed everything.
	Persisted
	// Partly means that the write fails and has changed every second object; an
	// extension has kept half of its bytes.
	Partly
)

// Faults are all kinds of fault.
func Faults() []Fault { return []Fault{Lost, Persisted, Partly} }

// String names the fault.
func (f Fault) String() string {
	switch f {
	case Lost:
		return "lost"
	case Persisted:
		return "persisted"
	case Partly:
		return "partly"
	}
	return fmt.Sprintf("fault %d", int(f))
}

// Faulty is a Store of which one write fails. Writes are calls of Put, Extend
// and Delete.
type Faulty struct {
	store *blob.Memory

	mu     sync.Mutex
	at     int
	fault  Fault
	dead   bool
	writes int
}

// NewFaulty returns a Store on top of store of which the write with the number
// at, counted from 1, fails in the given way; with 0, none does. If dead is true, so do all later
// calls, and they change nothing: as when the process has crashed.
func NewFaulty(store *blob.Memory, at int, fault Fault, dead bool) *Faulty {
	return &Faulty{store: store, at: at, fault: fault, dead: dead}
}

// Rearm lets another write fail: the one with the number at, counted from 1 on
// from now. See NewFaulty for the rest.
func (f *Faulty) Rearm(at int, fault Fault, dead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes, f.at, f.fault, f.dead = 0, at, fault, dead
}

// Writes returns how many writes there have been.
func (f *Faulty) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// next counts a write and says whether it works, and if not, which fault it has.
func (f *Faulty) next() (works bool, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	if f.writes == f.at {
		return false, f.fault
	}
	return f.writes < f.at || !f.dead || f.at == 0, Lost
}

// Put implements blob.Store.
func (f *Faulty) Put(ctx context.Context, objects ...blob.Object) error {
	works, fault := f.next()
	if works {
		return f.store.Put(ctx, objects...)
	}
	if fault != Lost {
		for i, o := range objects {
			if fault == Persisted || i%2 == 0 {
				if err := f.store.Put(ctx, o); err != nil {
					return err
				}
			}
		}
	}
	return fmt.Errorf("put: %w", ErrInjected)
}

// Extend implements blob.Extender.
func (f *Faulty) Extend(ctx context.Context, extensions ...blob.Extension) error {
	works, fault := f.next()
	if works {
		return f.store.Extend(ctx, extensions...)
	}
	if fault != Lost {
		for _, e := range extensions {
			if fault == Partly {
				e.Data = e.Data[:len(e.Data)/2]
			}
			if err := f.store.Extend(ctx, e); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("extend: %w", ErrInjected)
}

// Delete implements blob.Store.
func (f *Faulty) Delete(ctx context.Context, keys ...string) error {
	works, fault := f.next()
	if works {
		return f.store.Delete(ctx, keys...)
	}
	if fault != Lost {
		for i, key := range keys {
			if fault == Persisted || i%2 == 0 {
				if err := f.store.Delete(ctx, key); err != nil {
					return err
				}
			}
		}
	}
	return fmt.Errorf("delete: %w", ErrInjected)
}

// Get implements blob.Store.
func (f *Faulty) Get(ctx context.Context, key string) ([]byte, error) {
	if f.crashed() {
		return nil, fmt.Errorf("get: %w", ErrInjected)
	}
	return f.store.Get(ctx, key)
}

// List implements blob.Store.
func (f *Faulty) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if f.crashed() {
		return func(yield func(string, error) bool) { yield("", fmt.Errorf("list: %w", ErrInjected)) }
	}
	return f.store.List(ctx, prefix)
}

func (f *Faulty) crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead && f.at > 0 && f.writes >= f.at
}
