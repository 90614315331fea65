package proofs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

const (
	// maxEntries and maxEntryBytes bound one answer with entries. The first one
	// is always given, however long.
	maxEntries    = 1024
	maxEntryBytes = 3 << 20
)

// inclusion is the proof that a leaf is in the tree of Size leaves.
type inclusion struct {
	at    *published
	index uint64
	size  uint64
	leaf  [32]byte
	root  [32]byte
	path  [][32]byte
}

// inclusion proves the leaf at index in the tree of size leaves; if sized is
// false, in the published one.
func (s *shard) inclusion(ctx context.Context, index, size uint64, sized bool) (inclusion, *fault) {
	need := size
	if !sized {
		need = index // and one more, but the check below says so
	}
	at, err := s.covering(ctx, func(t *tile.Tree) bool { return t.Size() >= need && index < t.Size() })
	if err != nil {
		return inclusion{}, unavailable(err)
	}
	if !sized {
		size = at.tree.Size()
	}
	switch {
	case size > at.tree.Size():
		return inclusion{}, beyond("size", at)
	case index >= size && !sized:
		return inclusion{}, refuse(http.StatusNotFound, "not-published", "index", "expected less than the published size %d", size)
	case index >= size:
		return inclusion{}, refuse(http.StatusBadRequest, "range", "index", "expected less than size")
	}
	p := inclusion{at: at, index: index, size: size}
	if p.leaf, p.root, p.path, err = at.tree.Prove(ctx, index, size); err != nil {
		return inclusion{}, s.fail(ctx, err)
	}
	return p, nil
}

// consistency is the proof that one tree is a prefix of another.
type consistency struct {
	at                    *published
	first, second         uint64
	firstRoot, secondRoot [32]byte
	path                  [][32]byte
}

// consistency proves that the tree of second leaves, or the published one if
// sized is false, extends that of first.
func (s *shard) consistency(ctx context.Context, first, second uint64, sized bool) (consistency, *fault) {
	at, err := s.covering(ctx, func(t *tile.Tree) bool { return t.Size() >= max(first, second) })
	if err != nil {
		return consistency{}, unavailable(err)
	}
	if !sized {
		second = at.tree.Size()
	}
	switch {
	case second > at.tree.Size():
		return consistency{}, beyond("second", at)
	case first > second && !sized:
		return consistency{}, beyond("first", at)
	case first > second:
		return consistency{}, refuse(http.StatusBadRequest, "range", "first", "expected at most second")
	}
	p := consistency{at: at, first: first, second: second}
	var firstErr, secondErr error
	p.path, err = at.tree.Consistency(ctx, first, second)
	p.firstRoot, firstErr = at.tree.RootAt(ctx, first)
	p.secondRoot, secondErr = at.tree.RootAt(ctx, second)
	if err := errors.Join(err, firstErr, secondErr); err != nil {
		return consistency{}, s.fail(ctx, err)
	}
	return p, nil
}

// entries returns up to count entries from first on: at least one, and fewer than
// asked for where the log ends or where they become too many bytes.
func (p *Proofs) entries(ctx context.Context, s *shard, first uint64, count int) ([][]byte, *published, *fault) {
	at, err := s.covering(ctx, func(t *tile.Tree) bool { return first < t.Size() })
	if err != nil {
		return nil, nil, unavailable(err)
	}
	if first >= at.tree.Size() {
		return nil, nil, refuse(http.StatusNotFound, "not-published", "index", "expected less than the published size %d", at.tree.Size())
	}
	if left := at.tree.Size() - first; uint64(count) > left {
		count = int(left)
	}
	var list [][]byte
	for bytes := 0; len(list) < count; {
		next := first + uint64(len(list))
		n := min(count-len(list), tile.FullWidth-int(next%tile.FullWidth)) // one bundle at a time
		some, bad := p.bundleOf(ctx, s, at, next, n)
		if bad != nil {
			return nil, nil, bad
		}
		for _, e := range some {
			if bytes += len(e); bytes > maxEntryBytes && len(list) > 0 {
				return list, at, nil
			}
			list = append(list, e)
		}
	}
	return list, at, nil
}

// bundleOf returns n entries of one bundle.
func (p *Proofs) bundleOf(ctx context.Context, s *shard, at *published, first uint64, n int) ([][]byte, *fault) {
	var list [][]byte
	err := p.withBundle(ctx, func() (err error) {
		list, err = at.tree.Entries(ctx, first, n)
		return err
	})
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return list, nil
}

// withBundle calls read when there is room for another bundle in memory.
func (p *Proofs) withBundle(ctx context.Context, read func() error) error {
	select {
	case p.reading <- struct{}{}:
		defer func() { <-p.reading }()
		return read()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// beacon returns a checkpoint note that somebody has named by its digest, which
// may be one of another shard: what vouches for it is the digest, and whoever uses
// it checks its signatures by a policy of their own.
func (s *shard) beacon(ctx context.Context, digest string) ([]byte, *fault) {
	want, err := hex.DecodeString(digest)
	if err != nil || len(want) != sha256.Size || hex.EncodeToString(want) != digest {
		return nil, refuse(http.StatusBadRequest, "digest", "sha256", "expected a SHA-256 in 64 lower-case hexadecimal digits")
	}
	key := "beacon/" + digest
	note, err := s.store.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, refuse(http.StatusNotFound, "no-such-beacon", "sha256", "expected the digest of a checkpoint note that was used as a beacon")
	}
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	if got := sha256.Sum256(note); [sha256.Size]byte(want) != got {
		return nil, s.fail(ctx, &tile.CorruptError{Object: key, Reason: "its digest is not its name"})
	}
	if _, err := checkpoint.Parse(note); err != nil {
		return nil, s.fail(ctx, &tile.CorruptError{Object: key, Reason: "it is no checkpoint note"})
	}
	return note, nil
}

// anyBeacon looks for a beacon in all shards, the active one first.
func (p *Proofs) anyBeacon(ctx context.Context, digest string) ([]byte, *fault) {
	active := p.active.Load()
	note, bad := active.beacon(ctx, digest)
	for _, s := range p.shards {
		if bad == nil || bad.status == http.StatusBadRequest {
			break
		}
		if s == active {
			continue
		}
		if found, worse := s.beacon(ctx, digest); worse == nil {
			note, bad = found, nil
		} else if bad.status == http.StatusNotFound {
			bad = worse // a damaged one is not "none"
		}
	}
	return note, bad
}

func beyond(field string, at *published) *fault {
	return refuse(http.StatusNotFound, "not-published", field, "expected at most the published size %d", at.tree.Size())
}

// noteAt returns the note if its size is the one asked for.
func (p *published) noteAt(size uint64) string {
	if size != p.tree.Size() {
		return ""
	}
	return string(p.raw)
}
