package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
)

// Log is a log that a witness follows.
type Log struct {
	// Origin is the first line of the log's checkpoints, at most 255 bytes.
	Origin string
	// Keys are the log's keys, Ed25519 (0x01) or ML-DSA-44 (0x06), named like
	// the origin.
	Keys []*checkpoint.VerifierKey
	// Rate may be nil: no limit.
	Rate *Rate
	// URL is where the log's own checkpoint and tiles are served (C2SP
	// tlog-tiles), Mirrors where others serve them; all may be empty.
	URL     string
	Mirrors []string
}

// maxOrigin is the longest origin that an ML-DSA-44 cosignature covers.
const maxOrigin = math.MaxUint8

// maxListed bounds how many logs lists can make a witness follow, together with
// the configured ones. Each costs memory and, at the start, requests.
const maxListed = 4096

// followed is a log as it is used. It stays the same for as long as the witness
// lives: its rate and its quarantine go on when the table changes.
type followed struct {
	origin string
	keys   []*checkpoint.VerifierKey
	bucket *bucket // nil: no limit
	list   string  // the list that named it; empty if it is configured
	gate   gate
}

// table is the logs that are followed. It is never changed: a new one takes its
// place, so that requests need no lock. Strangers cannot make it grow.
type table struct {
	byOrigin map[string]*followed
	byHash   map[string]*followed // by lower-case hex SHA-256 of the origin
}

// errConflict is an origin that is followed with other keys.
var errConflict = errors.New("it is followed with other keys")

// with returns a table with further logs. Errors are those of the logs that are
// not in it; the others are.
func (t *table) with(logs []*followed) (*table, error) {
	next := &table{maps.Clone(t.byOrigin), maps.Clone(t.byHash)}
	if next.byOrigin == nil {
		next = &table{make(map[string]*followed, len(logs)), make(map[string]*followed, len(logs))}
	}
	var errs []error
	for _, f := range logs {
		switch known := next.byOrigin[f.origin]; {
		case known != nil && !sameKeys(known.keys, f.keys):
			errs = append(errs, fmt.Errorf("log %q: %w", f.origin, errConflict))
		case known != nil && known.list == "" && f.list == "":
			errs = append(errs, fmt.Errorf("log %q: configured twice", f.origin))
		case known != nil:
			// What is configured wins; what two lists agree about is no news.
		case f.list != "" && len(next.byOrigin) >= maxListed:
			errs = append(errs, fmt.Errorf("log %q: %d logs are followed, which is the most", f.origin, maxListed))
		default:
			next.byOrigin[f.origin] = f
			next.byHash[originHash(f.origin)] = f
		}
	}
	return next, errors.Join(errs...)
}

// sameKeys compares sets: the order of keys in a file says nothing.
func sameKeys(a, b []*checkpoint.VerifierKey) bool {
	text := func(keys []*checkpoint.VerifierKey) []string {
		out := make([]string, len(keys))
		for i, k := range keys {
			out[i] = k.String()
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(text(a), text(b))
}

// newFollowed checks a log and makes it one that can be followed.
func (w *Witness) newFollowed(l Log, list string) (*followed, error) {
	if l.Origin == "" || len(l.Origin) > maxOrigin {
		return nil, fmt.Errorf("expected an origin of 1 to %d bytes, got %d", maxOrigin, len(l.Origin))
	}
	if len(l.Keys) == 0 {
		return nil, errors.New("expected at least one key")
	}
	for i, k := range l.Keys {
		if a := k.Algorithm(); a != checkpoint.AlgEd25519 && a != checkpoint.AlgMLDSA44 {
			return nil, fmt.Errorf("expected log keys, got one for %s", a)
		}
		// SPEC (tlog-checkpoint): "The log's key name in its signature line
		// SHOULD match the origin line." Another name here is most likely a key
		// put under the wrong log.
		if k.Name() != l.Origin {
			return nil, fmt.Errorf("expected keys named like the origin, got %q", k.Name())
		}
		for _, other := range l.Keys[:i] {
			if other.ID() == k.ID() {
				return nil, fmt.Errorf("key %08x is given twice", k.ID())
			}
		}
	}
	f := &followed{origin: l.Origin, keys: l.Keys, list: list, gate: gate{kick: make(chan struct{}, 1)}}
	if l.Rate != nil {
		b, err := newBucket(*l.Rate, w.now())
		if err != nil {
			return nil, err
		}
		f.bucket = b
	}
	sources, err := w.sourcesOf(l)
	if err != nil {
		return nil, err
	}
	f.gate.sources = sources
	if len(sources) > 0 {
		f.gate.state, f.gate.reason = quarantined, "its sources were not asked yet"
	}
	return f, nil
}

// followListed follows the logs of a list that are not followed yet. What is
// refused is said in the log and does not keep the others out.
func (w *Witness) followListed(ctx context.Context, name string, logs []Log) {
	w.changing.Lock()
	defer w.changing.Unlock()
	before := w.table.Load()
	var fresh []*followed
	for _, l := range logs {
		if known := before.byOrigin[l.Origin]; known != nil && sameKeys(known.keys, l.Keys) {
			w.moved(ctx, known, name, l)
			continue
		}
		f, err := w.newFollowed(l, name)
		if err != nil {
			w.log.ErrorContext(ctx, "a log of a list cannot be followed", "list", name, "origin", l.Origin, "error", err)
			continue
		}
		fresh = append(fresh, f)
	}
	next, err := before.with(fresh)
	if err != nil {
		w.log.ErrorContext(ctx, "logs of a list are refused", "list", name, "error", err)
	}
	for _, f := range fresh {
		if next.byOrigin[f.origin] != f {
			continue
		}
		if err := w.restoreHold(f); err != nil {
			w.log.ErrorContext(ctx, "reading what is held", "origin", f.origin, "error", err)
			f.gate.hold("the state file could not be read")
		}
		w.log.InfoContext(ctx, "follows a log of a list", "list", name, "origin", f.origin)
		w.warnUnchecked(f)
	}
	w.table.Store(next)
	select {
	case w.changed <- struct{}{}:
	default: // Run has not looked since the last change
	}
}

// moved notes where the tiles of a listed log are now.
func (w *Witness) moved(ctx context.Context, f *followed, list string, l Log) {
	if f.list != list {
		return
	}
	sources, err := w.sourcesOf(l)
	if err != nil {
		w.log.ErrorContext(ctx, "a log's address in a list cannot be used", "list", list, "origin", l.Origin, "error", err)
		return
	}
	f.gate.mu.Lock()
	defer f.gate.mu.Unlock()
	f.gate.sources = sources
}

// warnUnchecked says, once a start, which log has nobody to ask.
func (w *Witness) warnUnchecked(f *followed) {
	if len(f.gate.sources) == 0 {
		w.log.Warn("a log has no sources: a state file that was put back would not be noticed", "origin", f.origin)
	}
}

// originHash names a log in the read interface.
//
// SPEC (tlog-witness): "The origin hash is the SHA-256 hash of the log's origin,
// hex encoded, in lowercase."
func originHash(origin string) string {
	h := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(h[:])
}

// origins are those of the followed logs, sorted.
func (w *Witness) origins() []string {
	return slices.Sorted(maps.Keys(w.table.Load().byOrigin))
}
