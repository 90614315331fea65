package storecheck

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

// storeCheck holds the store's rows against what is trusted of the tiles, in two
// passes: scan reads all rows once, for what can be said of each alone and for
// the sum of the identity index; then leaves and nodes are read along with the
// bundles.
type storeCheck struct {
	*checker
	size  uint64 // of the trusted head
	marks []*mark

	root *tlog.Row
	// index and leaves are sums over (identity, index): of the identity index,
	// and of the leaves. Equal sums are equal sets.
	index, leafIDs sum
	rows           uint64

	leafRows, nodeRows *rowReader
	// upper are the trusted hashes of level 1 and above, by level.
	upper map[int]map[uint64]fsck.Trusted
	// tree is the root so far; nil once a leaf is not known.
	tree *compact.Range
	next uint64
}

func newStoreCheck(c *checker, size uint64, marks []*mark) *storeCheck {
	factory := &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	s := &storeCheck{
		checker: c, size: size, marks: marks, upper: map[int]map[uint64]fsck.Trusted{}, tree: factory.NewEmptyRange(0),
	}
	s.leafRows = &rowReader{checker: c, kind: tlog.RowLeaf, page: 512}
	s.nodeRows = &rowReader{checker: c, kind: tlog.RowNode, page: 8}
	return s
}

// sum is a sum of hashes modulo 2^256 without carries between its parts. To make
// two different sets have one sum takes somebody who tries to; damage does not.
type sum [4]uint64

func (s *sum) add(identity [32]byte, index uint64) {
	h := sha256.Sum256(binary.BigEndian.AppendUint64(identity[:], index))
	for i := range s {
		s[i] += binary.BigEndian.Uint64(h[8*i:])
	}
}

const scanPage = 1024

// scan reads every row once.
func (s *storeCheck) scan(ctx context.Context) error {
	s.meet()
	if s.cfg.Store == nil {
		return nil
	}
	var cursor []byte
	for {
		first := cursor
		next, err := s.cfg.Store.Rows(ctx, cursor, scanPage, func(r tlog.Row) bool {
			s.rows++
			s.row(r, first)
			return true
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.find(fsck.Finding{Kind: KindEngine, Object: "store", Detail: err.Error()})
			return nil //nolint:nilerr // that is what was found
		}
		if next == nil {
			break
		}
		cursor = next
	}
	s.report.StoreRows = s.rows
	switch {
	case s.root == nil:
		s.find(fsck.Finding{Kind: KindStoreRoot, Object: "store", Detail: "holds no root"})
	case s.root.Err == nil:
		s.report.StoreSize = s.root.Root.Size
		s.marks = append(s.marks, &mark{
			kind: KindStoreRoot, object: inStore(*s.root), size: s.root.Root.Size, root: s.root.Root.Hash, claim: "the store holds",
		})
		if s.root.Root.Size < s.size {
			s.find(fsck.Finding{Kind: KindStoreRoot, Object: inStore(*s.root), Detail: fmt.Sprintf(
				"is of size %d, and size %d was signed: it is damaged, or the store was put back", s.root.Root.Size, s.size)})
		}
	}
	return nil
}

func inStore(r tlog.Row) string { return "store: " + r.Place }

// row takes a row as scan meets it; page is the cursor of the page it is on.
func (s *storeCheck) row(r tlog.Row, page []byte) {
	if r.Err != nil {
		s.find(fsck.Finding{Kind: KindRow, Object: inStore(r), Detail: r.Err.Error()})
	}
	switch r.Kind {
	case tlog.RowRoot:
		s.root = &r
	case tlog.RowLeaf:
		s.leafRows.begin(page)
		if r.Err == nil {
			s.leafIDs.add(r.Identity, r.Index)
		}
	case tlog.RowIdentity:
		if r.Err == nil {
			s.index.add(r.Identity, r.Index)
		}
	case tlog.RowNode:
		s.nodeRows.begin(page)
	case tlog.RowOther:
	}
}

// bundle holds the leaves and the lowest nodes against a bundle.
func (s *storeCheck) bundle(ctx context.Context, b fsck.Bundle) error {
	for i, t := range b.Leaves {
		index := b.First + uint64(i)
		if err := s.leaf(ctx, index, t, b.Entries[i]); err != nil {
			return err
		}
		if err := s.node(ctx, 0, index, t); err != nil {
			return err
		}
		s.grow(t)
	}
	return nil
}

// grow adds a leaf to the tree, and compares the root with the marks.
func (s *storeCheck) grow(t fsck.Trusted) {
	s.next++
	if s.tree == nil {
		return
	}
	if !t.Known || s.tree.Append(t.Hash[:], nil) != nil {
		s.tree = nil
		return
	}
	s.meet()
}

// meet holds the marks at this size against the root.
func (s *storeCheck) meet() {
	for _, m := range s.marks {
		if m.size != s.next || m.met || s.tree == nil {
			continue
		}
		m.met = true
		root := sha256.Sum256(nil)
		if s.next > 0 {
			h, err := s.tree.GetRootHash(nil)
			if err != nil {
				continue
			}
			root = [32]byte(h)
		}
		if m.wrong = root != m.root; m.wrong {
			s.find(fsck.Finding{
				Kind: m.kind, Object: m.object, Want: hex.EncodeToString(root[:]), Got: hex.EncodeToString(m.root[:]),
				Detail: fmt.Sprintf("%s another root at size %d than the entries give", m.claim, m.size),
			})
		}
	}
}

// leaf holds the store's leaf against what is trusted of it.
func (s *storeCheck) leaf(ctx context.Context, index uint64, want fsck.Trusted, value []byte) error {
	if s.cfg.Store == nil || !s.leafRows.begun && s.root == nil {
		return nil
	}
	r, ok, err := s.leafRows.at(ctx, 0, index)
	if err != nil {
		return err
	}
	if !ok {
		if !s.leafRows.broken {
			s.find(fsck.Finding{
				Kind: KindLeaf, Object: fmt.Sprintf("store: leaf %d", index), Entry: new(index), Entries: 1, Supports: fsck.SupportsAbove,
				Detail: "the store has no such leaf",
			})
		}
		return nil
	}
	if r.Err != nil || !want.Known {
		return nil //nolint:nilerr // scan has reported it
	}
	s.compareLeaf(r, want, value)
	return nil
}

func (s *storeCheck) compareLeaf(r tlog.Row, want fsck.Trusted, value []byte) {
	got := (tlog.Leaf{Value: r.Value}).Hash()
	f := fsck.Finding{
		Kind: KindLeaf, Object: inStore(r), Entry: new(r.Index), Entries: 1,
		Want: hex.EncodeToString(want.Hash[:]), Supports: fsck.SupportsAbove,
	}
	if got != want.Hash {
		f.Got, f.Length = hex.EncodeToString(got[:]), int64(len(r.Value))
		f.Detail = "its value is not the one that the signed root supports"
		if value != nil {
			f.Offset, f.Exact = int64(firstDifference(r.Value, value)), true
			f.Length -= f.Offset
			f.Detail += ", which the tiles have"
		}
		s.find(f)
		return
	}
	if r.Hash != want.Hash {
		f.Got = hex.EncodeToString(r.Hash[:])
		f.Offset, f.Length, f.Exact = int64(firstDifference(r.Hash[:], want.Hash[:])), 1, true
		f.Detail = "its stored Merkle hash is not that of its value, which is right"
		s.find(f)
	}
	id, ok := s.cfg.Identity(r.Value)
	if ok && id != r.Identity {
		s.find(fsck.Finding{
			Kind: KindIdentity, Object: inStore(r), Entry: new(r.Index), Entries: 1,
			Offset: int64(firstDifference(r.Identity[:], id[:])), Length: 1, Exact: true,
			Want: hex.EncodeToString(id[:]), Got: hex.EncodeToString(r.Identity[:]),
			Detail: "the identity beside its value is not that of the value, which is right",
		})
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// node holds a stored tree node against what is trusted of it.
func (s *storeCheck) node(ctx context.Context, level int, index uint64, want fsck.Trusted) error {
	if s.cfg.Store == nil || !s.nodeRows.begun {
		return nil
	}
	r, ok, err := s.nodeRows.at(ctx, level, index)
	if err != nil || !ok && s.nodeRows.broken {
		return err
	}
	if !ok {
		s.find(fsck.Finding{
			Kind: KindNode, Object: fmt.Sprintf("store: node %d of level %d", index, level), Supports: fsck.SupportsAbove,
			Detail: "the store has no such node",
		})
		return nil
	}
	if r.Err != nil || !want.Known || r.Hash == want.Hash {
		return nil //nolint:nilerr // scan has reported it
	}
	diff := firstDifference(r.Hash[:], want.Hash[:])
	s.find(fsck.Finding{
		Kind: KindNode, Object: inStore(r), Offset: int64(index%tile.FullWidth)*tile.HashSize + int64(diff),
		Length: int64(tile.HashSize - diff), Exact: true, Supports: fsck.SupportsAbove,
		Want: hex.EncodeToString(want.Hash[:]), Got: hex.EncodeToString(r.Hash[:]),
		Detail: fmt.Sprintf("node %d of level %d is not the one that the signed root supports", index, level),
	})
	return nil
}

// tile keeps the trusted hashes of the upper levels.
func (s *storeCheck) tile(p tile.Path, hashes []fsck.Trusted) {
	if p.Level == 0 || s.cfg.Store == nil {
		return
	}
	if s.upper[p.Level] == nil {
		s.upper[p.Level] = map[uint64]fsck.Trusted{}
	}
	for i, h := range hashes {
		s.upper[p.Level][p.Index*tile.FullWidth+uint64(i)] = h
	}
}
