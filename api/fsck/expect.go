package fsck

import (
	"errors"
	"fmt"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/tile"
)

// expectation is what the caller holds of the log from earlier: a tree head, and
// perhaps an entry.
type expectation struct {
	head checkpoint.Checkpoint
	// leaf is the leaf hash of the entry at index, if it came in a receipt.
	leaf  *hash
	index uint64

	mu sync.Mutex
	// edge are the trusted hashes that the old tree's growing tiles had, by level.
	edge [][]Trusted
	at   *Trusted // the leaf hash at index
}

// expected reads Config.Expect. What contradicts the new head by itself is a
// finding, and nothing is left to be compared then.
func (c *checker) expected(head *checkpoint.Checkpoint) (*expectation, error) {
	if c.cfg.Expect == nil {
		return nil, nil //nolint:nilnil // nothing is expected
	}
	if c.cfg.Policy == nil {
		return nil, errors.New("what is expected cannot be judged without a policy")
	}
	e := &expectation{}
	raw := c.cfg.Expect
	if r, err := receipt.Parse(raw); err == nil {
		e.leaf, e.index = new(entry.LeafHash(r.Entry)), r.Proof.Index
		raw = r.Proof.Note.Bytes()
	}
	cosigned, err := c.cfg.Policy.CheckNote(raw)
	if err != nil {
		return nil, fmt.Errorf("what is expected is neither a cosigned checkpoint nor a receipt with one: %w", err)
	}
	if cosigned.Origin != head.Origin {
		return nil, fmt.Errorf("what is expected is of shard %q, the log is %q", cosigned.Origin, head.Origin)
	}
	e.head = cosigned.Checkpoint
	if e.head.Size > head.Size {
		c.find(Finding{
			Kind: KindHistory, Detail: fmt.Sprintf("the log has %d entries, and had %d: it was put back", head.Size, e.head.Size),
		})
		return nil, nil //nolint:nilnil // there is nothing left to compare
	}
	e.edge = make([][]Trusted, tile.Levels(e.head.Size))
	return e, nil
}

// see keeps the hashes that the old head depends on.
func (e *expectation) see(p tile.Path, hashes []Trusted) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.leaf != nil && p.Level == 0 && p.Index == e.index/tile.FullWidth {
		if i := e.index % tile.FullWidth; i < uint64(len(hashes)) {
			e.at = &hashes[i]
		}
	}
	if p.Level >= len(e.edge) {
		return
	}
	if index, width := tile.Edge(e.head.Size, p.Level); index == p.Index && width <= len(hashes) {
		e.edge[p.Level] = hashes[:width]
	}
}

// judge compares the old head with what the log says now.
func (e *expectation) judge(report func(Finding)) {
	edge := make([][]hash, len(e.edge))
	for level, hashes := range e.edge {
		for _, h := range hashes {
			if !h.Known {
				report(Finding{Kind: KindHistory, Detail: "damage keeps the tree from being held against the earlier checkpoint"})
				return
			}
			edge[level] = append(edge[level], h.Hash)
		}
	}
	if got := foldEdge(edge); got != hash(e.head.Root) {
		report(Finding{
			Kind: KindHistory, Want: hexOf(hash(e.head.Root)), Got: hexOf(got),
			Detail: fmt.Sprintf("at size %d the log is another one than the checkpoint says that the caller holds: it was rewritten", e.head.Size),
		})
	}
	if e.leaf != nil && (e.at == nil || !e.at.Known || e.at.Hash != *e.leaf) {
		report(Finding{
			Kind: KindHistory, Entry: new(e.index), Entries: 1, Want: hexOf(*e.leaf),
			Detail: "the log does not hold the receipt's entry at its place",
		})
	}
}
