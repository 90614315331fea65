package storecheck

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

// rowReader reads the rows of one kind in their order.
type rowReader struct {
	*checker
	kind tlog.RowKind
	page int

	begun  bool
	cursor []byte
	done   bool
	broken bool // the engine failed; what is missing proves nothing
	held   []tlog.Row
}

// begin notes the page on which the first row of the kind is.
func (r *rowReader) begin(page []byte) {
	if !r.begun {
		r.begun, r.cursor = true, page
	}
}

// next returns the next row without taking it.
func (r *rowReader) next(ctx context.Context) (*tlog.Row, error) {
	for len(r.held) == 0 {
		if r.done || !r.begun {
			return nil, nil //nolint:nilnil // there are no more
		}
		r.held = r.held[:0]
		next, err := r.cfg.Store.Rows(ctx, r.cursor, r.page, func(row tlog.Row) bool {
			if row.Kind == r.kind {
				r.held = append(r.held, row)
			}
			return true
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			// scan has reported it.
			r.done, r.broken = true, true
		}
		r.cursor, r.done = next, r.done || next == nil
	}
	return &r.held[0], nil
}

func (r *rowReader) take() { r.held = r.held[1:] }

// at returns the row of a level and index, and takes all before it.
func (r *rowReader) at(ctx context.Context, level int, index uint64) (row tlog.Row, ok bool, err error) {
	for {
		next, err := r.next(ctx)
		if err != nil || next == nil {
			return tlog.Row{}, false, err
		}
		if next.Level > level || next.Level == level && next.Index > index {
			return tlog.Row{}, false, nil
		}
		row := *next
		r.take()
		if row.Level == level && row.Index == index {
			return row, true, nil
		}
	}
}

// finish looks at what lies behind the signed head: leaves that are stored and
// not signed yet, upper nodes, and the identity index as a whole.
func (s *storeCheck) finish(ctx context.Context) error {
	extra, err := s.beyond(ctx)
	if err != nil {
		return err
	}
	if err := s.tilesBeyond(ctx, extra); err != nil {
		return err
	}
	for _, m := range s.marks {
		if m.size == 0 && m.root == sha256.Sum256(nil) {
			continue // SPEC (RFC 6962, 2.1): "MTH({}) = SHA-256()"; no entry leads there
		}
		if !m.met && s.tree != nil && s.cfg.Store != nil {
			s.find(fsck.Finding{
				Kind: m.kind, Object: m.object,
				Detail: fmt.Sprintf("%s a root at size %d, and there are %d entries", m.claim, m.size, s.next),
			})
		}
	}
	if s.cfg.Store == nil {
		return nil
	}
	if err := s.upperNodes(ctx); err != nil {
		return err
	}
	return s.identities(ctx)
}

// beyond takes the leaves behind the signed head, as far as they follow without
// a gap.
func (s *storeCheck) beyond(ctx context.Context) ([][]byte, error) {
	var extra [][]byte
	if s.cfg.Store == nil {
		return nil, nil
	}
	for {
		r, ok, err := s.leafRows.at(ctx, 0, s.next)
		if err != nil || !ok {
			return extra, err
		}
		hash := (tlog.Leaf{Value: r.Value}).Hash()
		if r.Err == nil {
			s.compareLeaf(r, fsck.Trusted{Hash: r.Hash, Known: true}, nil)
		}
		extra = append(extra, r.Value)
		want := fsck.Trusted{Hash: hash, Known: r.Err == nil}
		if s.root != nil && s.next < s.root.Root.Size {
			if err := s.node(ctx, 0, s.next, want); err != nil {
				return nil, err
			}
		}
		s.grow(want)
	}
}

// tilesBeyond holds the tiles behind the signed head against the store.
func (s *storeCheck) tilesBeyond(ctx context.Context, extra [][]byte) error {
	for _, m := range s.marks {
		// A head that is wrong itself says nothing about the tiles.
		if m.kind != KindHead || m.size <= s.size || m.wrong {
			continue
		}
		var entries [][]byte
		t, err := tile.NewReader(s.cfg.Tiles, tile.WithCache(0)).Tree(ctx, m.size, m.root)
		if err == nil {
			entries, err = t.Entries(ctx, s.size, int(m.size-s.size))
		}
		if errors.Is(err, tile.ErrCorrupt) {
			return s.locateBeyond(ctx, m)
		} else if err != nil {
			return fmt.Errorf("read the tiles behind the signed ones: %w", err)
		}
		for i := range min(len(entries), len(extra)) {
			if at := firstDifference(entries[i], extra[i]); at < max(len(entries[i]), len(extra[i])) {
				index := s.size + uint64(i)
				s.find(fsck.Finding{
					Kind: fsck.KindDispute, Object: fmt.Sprintf("store: leaf %d", index), Offset: int64(at), Exact: true,
					Entry: new(index), Entries: 1, Supports: fsck.SupportsNeither,
					Detail: "store and tiles differ in an entry that is not signed yet",
				})
			}
		}
	}
	return nil
}

// locateBeyond checks the tiles as if their head were signed. What was found of
// the signed part already is found again, and is not reported twice.
func (s *storeCheck) locateBeyond(ctx context.Context, m *mark) error {
	report, err := fsck.Check(ctx, fsck.Config{
		Source: source{s.cfg.Tiles}, Head: &checkpoint.Checkpoint{Origin: s.cfg.Origin, Size: m.size, Root: m.root},
		TreeOnly: true, Workers: s.cfg.Workers,
	})
	if err != nil {
		return err
	}
	for _, f := range report.Findings {
		known := slices.ContainsFunc(s.report.Findings, func(o fsck.Finding) bool {
			return o.Object == f.Object && o.Offset == f.Offset
		})
		if !known {
			s.find(f)
		}
	}
	return nil
}

// upperNodes holds the nodes of the upper levels against the tiles.
func (s *storeCheck) upperNodes(ctx context.Context) error {
	for level := 1; len(s.upper[level]) > 0; level++ {
		for index := range uint64(len(s.upper[level])) {
			if err := s.node(ctx, 8*level, index, s.upper[level][index]); err != nil {
				return err
			}
		}
	}
	return nil
}

// identities compares the identity index with the leaves: by their sums, and if
// these differ row by row.
func (s *storeCheck) identities(ctx context.Context) error {
	if s.index == s.leafIDs || s.leafRows.broken {
		return nil
	}
	index := map[[32]byte]tlog.Row{}
	if err := s.each(ctx, func(r tlog.Row) {
		if r.Kind == tlog.RowIdentity && r.Err == nil {
			index[r.Identity] = r
		}
	}); err != nil {
		return err
	}
	unread := map[uint64]bool{}
	if err := s.each(ctx, func(r tlog.Row) {
		if r.Kind != tlog.RowLeaf {
			return
		}
		if r.Err != nil {
			unread[r.Index] = true // which was reported
			return
		}
		id := r.Identity
		if own, ok := s.cfg.Identity(r.Value); ok {
			id = own
		}
		row, ok := index[id]
		delete(index, id)
		f := fsck.Finding{Kind: KindIdentity, Object: inStore(row), Entry: new(r.Index), Entries: 1}
		switch {
		case !ok:
			f.Object = fmt.Sprintf("store: identity %x", id)
			f.Detail = "the identity index does not have the leaf"
			s.find(f)
		case row.Index != r.Index:
			f.Detail = fmt.Sprintf("the identity index has the leaf at %d", row.Index)
			s.find(f)
		}
	}); err != nil {
		return err
	}
	for id, row := range index {
		if unread[row.Index] {
			continue
		}
		s.find(fsck.Finding{
			Kind: KindIdentity, Object: inStore(row), Got: hex.EncodeToString(id[:]),
			Detail: fmt.Sprintf("the identity index has an identity, at %d, that no leaf has", row.Index),
		})
	}
	return nil
}

func (s *storeCheck) each(ctx context.Context, visit func(tlog.Row)) error {
	var cursor []byte
	for {
		next, err := s.cfg.Store.Rows(ctx, cursor, scanPage, func(r tlog.Row) bool {
			visit(r)
			return true
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || next == nil {
			return nil //nolint:nilerr // scan has reported it
		}
		cursor = next
	}
}
