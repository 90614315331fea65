// Package ledger knows what the statements of a log add up to: the heads of the
// writers' chains, the enrolled keys and recovery keys, the trials with their
// owners and the kinds that were said in them, and where the statements of
// earlier shards lie.
//
// It is derived from the log, shard after shard, and from nothing else. It is
// not synced to disk and may be deleted: what is missing is read again from the
// log. It is trusted for convenience only; a wrong ledger could refuse good
// statements or accept ones that every verifier refuses, never change what is
// logged.
package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// format is the format of the store. Another one is thrown away, and read again
// from the log.
const format = 3

// Sizes of the store's caches in bytes, and of the memory of values in entries
// of each of its two halves.
const (
	cacheBytes    = 48 << 20 // memtables included, as Pebble counts
	memTableBytes = 8 << 20
	hotEntries    = 1 << 15
)

// Ledger is the derived state of a log up to its newest shard.
type Ledger struct {
	View
	db  *pebble.DB
	log *slog.Logger

	mu sync.Mutex
	// shards are those that were read, oldest first. Only the newest one grows.
	shards []Shard
	// writes counts the beginnings and ends of writes: what was read meanwhile
	// may be old, and is not remembered.
	writes uint64
	// hot and warm remember values by key: a full hot becomes warm. Most of what
	// admission reads was written or read a moment before.
	hot, warm map[string][]byte
	// absent are keys that were looked for in vain and not written since: of
	// whatever begins, it is asked several times whether it is there.
	absent map[string]struct{}
}

// Open opens or creates the ledger in the folder dir. logger may be nil.
func Open(dir string, logger *slog.Logger) (*Ledger, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	o := &pebble.Options{Logger: pebbleLogger{logger}, CacheSize: cacheBytes, MemTableSize: memTableBytes}
	for i := range o.Levels {
		// Whatever is new is looked for in vain first.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l := &Ledger{db: db, log: logger, hot: map[string][]byte{}, absent: map[string]struct{}{}}
	l.from = l
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the ledger: %w", err), db.Close())
	}
	return l, nil
}

// load reads what was read of which shard.
func (l *Ledger) load() error {
	mark, known, err := l.read([]byte{tableFormat})
	if err != nil {
		return err
	}
	if !known || len(mark) != 1 || mark[0] != format {
		return l.wipe()
	}
	for {
		raw, known, err := l.read(shardKey(len(l.shards)))
		if err != nil || !known {
			return err
		}
		s, err := decodeShard(raw)
		if err != nil {
			return fmt.Errorf("shard %d: %w", len(l.shards), err)
		}
		l.shards = append(l.shards, s)
	}
}

// wipe leaves an empty ledger of the present format.
func (l *Ledger) wipe() error {
	b := l.db.NewBatch()
	err := errors.Join(
		b.DeleteRange([]byte{0}, []byte{0xff}, nil),
		b.Set([]byte{tableFormat}, []byte{format}, nil),
	)
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	l.shards, l.hot, l.warm = nil, map[string][]byte{}, nil
	l.writes++
	return errors.Join(err, b.Close())
}

// Reset forgets everything: what was read is not what the shard stands on. There
// must be no Change.
func (l *Ledger) Reset() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.wipe(); err != nil {
		return fmt.Errorf("empty the ledger: %w", err)
	}
	return nil
}

// Begin goes on to the shard with this origin, of which nothing was read so far.
// With indexed the ledger remembers where each of its statements lies, see
// View.Find. There must be no Change.
func (l *Ledger) Begin(origin string, indexed bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shards {
		if s.Origin == origin {
			return fmt.Errorf("change the ledger: shard %q was read before", origin)
		}
	}
	next := Shard{Origin: origin, Indexed: indexed}
	if err := l.db.Set(shardKey(len(l.shards)), next.encode(), pebble.NoSync); err != nil {
		return fmt.Errorf("change the ledger: %w", err)
	}
	l.shards = append(l.shards, next)
	return nil
}

// Close closes the ledger.
func (l *Ledger) Close() error { return l.db.Close() }

// position implements source.
func (l *Ledger) position() []Shard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.shards)
}

// newest implements source.
func (l *Ledger) newest() (s Shard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.shards); n > 0 {
		s = l.shards[n-1]
	}
	return s
}

// get implements source.
func (l *Ledger) get(key []byte) ([]byte, bool, error) {
	l.mu.Lock()
	v, known := l.hot[string(key)]
	if !known {
		v, known = l.warm[string(key)]
	}
	_, absent := l.absent[string(key)]
	writes := l.writes
	l.mu.Unlock()
	if known || absent {
		return v, known, nil
	}
	v, known, err := l.read(key)
	if err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.writes != writes:
	case known:
		l.remember(string(key), v)
	case key[0] != tableIdentity:
		if len(l.absent) >= hotEntries {
			clear(l.absent)
		}
		l.absent[string(key)] = struct{}{}
	}
	return v, known, nil
}

// remember keeps a value at hand; l.mu is held.
func (l *Ledger) remember(key string, value []byte) {
	if len(l.hot) >= hotEntries {
		l.hot, l.warm = make(map[string][]byte, hotEntries), l.hot
	}
	l.hot[key] = value
}

// read reads the value at key out of the store.
func (l *Ledger) read(key []byte) ([]byte, bool, error) {
	raw, closer, err := l.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, fmt.Errorf("read the ledger: %w", err)
	}
	value := slices.Clone(raw)
	if err := closer.Close(); err != nil {
		return nil, false, fmt.Errorf("read the ledger: %w", err)
	}
	return value, true, nil
}

// write stores a change and the position that comes with it.
func (l *Ledger) write(values map[string][]byte, shards []Shard) error {
	b := l.db.NewBatch()
	for key, value := range values {
		if err := b.Set([]byte(key), value, nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if last := len(shards) - 1; last >= 0 {
		if err := b.Set(shardKey(last), shards[last].encode(), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	l.mu.Lock()
	l.writes++
	l.mu.Unlock()
	if err := b.Commit(pebble.NoSync); err != nil {
		return errors.Join(err, b.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes++
	for key, value := range values {
		delete(l.absent, key)
		if key[0] != tableIdentity { // asked for seldom, and there are many
			delete(l.warm, key)
			l.remember(key, value)
		}
	}
	l.shards = slices.Clone(shards)
	return b.Close()
}

// pebbleLogger hands Pebble's messages on. Pebble calls Fatalf when its files
// are beyond use; the ledger can be made again, the process cannot go on.
type pebbleLogger struct{ log *slog.Logger }

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("ledger store", "message", fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("ledger store", "message", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger, which must not return.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	panic("ledger store: " + fmt.Sprintf(format, args...)) //nolint:forbidigo // Pebble would go on otherwise
}
