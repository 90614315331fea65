package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/api/verify"
)

// Compare finds out whether the larger of two trees of one log begins with the
// smaller one. It reads the larger tree's tiles where the two differ in size.
// Nothing is wrong if both results are nil. Without evidence the error says why it
// could not be found out; it is an *UntrueError if the tiles that the server has
// are not those of the larger tree.
//
// The notes' signatures are not looked at: evidence.Verify does that.
func (c *Client) Compare(ctx context.Context, a, b *checkpoint.Note) (*evidence.Evidence, error) {
	older, newer := a.Checkpoint(), b.Checkpoint()
	if older.Origin != newer.Origin {
		return nil, fmt.Errorf("compare tree heads: they are of two logs, %q and %q", older.Origin, newer.Origin)
	}
	if older.Size > newer.Size {
		a, b, older, newer = b, a, newer, older
	}
	// What needs no hashes: a fork, and what is no contradiction at all.
	if e := evidence.Refused(a, b, nil); e == nil || e.Kind != evidence.KindUnproven {
		return e, nil
	}
	hashes, err := evidence.Hashes(older.Size, newer.Size, c.nodes(ctx, newer))
	if err != nil {
		return nil, fmt.Errorf("compare tree heads: %w", err)
	}
	first, whole, ok := evidence.Roots(older.Size, newer.Size, hashes)
	switch {
	case !ok || whole != newer.Root:
		return nil, untrue("tiles", nil, "they are not those of the tree of size %d", newer.Size)
	case first == older.Root:
		return nil, nil //nolint:nilnil // nothing is wrong, as the comment says
	}
	return evidence.NewInconsistent(a, b, hashes), nil
}

// Kept asks the log what became of a promise, a pending record that it signed. It
// returns true if the promised entry is at its place, and false if it is not there
// and the deadline has not passed yet for the witnesses. An *UntrueError with
// evidence says that the promise was broken, or that it is overdue: then the
// evidence is not conclusive (evidence.NewOverdue).
func (c *Client) Kept(ctx context.Context, record []byte) (bool, error) {
	if c.policy == nil {
		return false, ErrNoPolicy
	}
	p, err := receipt.ParsePending(record, c.policy.Trust().PendingKeys...)
	if err != nil {
		return false, err
	}
	cosigned, note, err := c.checkpoint(ctx, c.shard(p.Origin)+"/checkpoint")
	if err != nil {
		return false, err
	}
	if cosigned.Origin != p.Origin {
		return false, untrue("checkpoint", note.Bytes(), "it is of %q, expected %q", cosigned.Origin, p.Origin)
	}
	if cosigned.Size <= p.Index {
		return false, overdue(p, record, cosigned, note)
	}
	leaf, path, err := c.inclusion(ctx, p.Index, cosigned.Checkpoint)
	if err != nil {
		return false, err
	}
	if leaf == [32]byte(p.LeafHash) {
		return true, nil
	}
	return false, &UntrueError{
		What: "promise", Answer: record, Evidence: evidence.NewPromise(record, note, leaf, path),
		Err: fmt.Errorf("it was broken: the log has another entry at the promised place %d", p.Index),
	}
}

// Promised holds two pending records that the log signed against each other. The
// *UntrueError with evidence says that they promise one place to two entries. It
// makes no request.
func Promised(policy *verify.Policy, a, b []byte) error {
	e := evidence.NewPromiseFork(a, b)
	if !e.Judge(policy).Conclusive {
		return nil
	}
	return &UntrueError{
		What: "promise", Answer: b, Evidence: e, Err: errors.New("the log had promised the same place to another entry before"),
	}
}

// overdue is the error of a promise whose deadline has passed; nil if it has not.
func overdue(p *receipt.Pending, record []byte, cosigned *checkpoint.Cosigned, note *checkpoint.Note) error {
	t, ok := cosigned.NotBefore()
	if !ok || time.Unix(int64(t), 0).Sub(p.Deadline) <= verify.MaxSkew { //nolint:gosec // at most 2^63-1
		return nil
	}
	return &UntrueError{
		What: "promise", Answer: record, Evidence: evidence.NewOverdue(record, note),
		Err: fmt.Errorf("it is overdue: entry %d was to be in the log by %s, and at %s the witnesses signed a tree without it",
			p.Index, p.Deadline.UTC().Format(time.RFC3339), time.Unix(int64(t), 0).UTC().Format(time.RFC3339)), //nolint:gosec // at most 2^63-1
	}
}

// inclusion reads the leaf hash at index and its path from the tiles of a tree.
func (c *Client) inclusion(ctx context.Context, index uint64, head checkpoint.Checkpoint) ([32]byte, [][32]byte, error) {
	var leaf [32]byte
	wanted, err := proof.Inclusion(index, head.Size)
	if err != nil {
		return leaf, nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	node := c.nodes(ctx, head)
	if leaf, err = node(0, index); err != nil {
		return leaf, nil, err
	}
	hashes := make([][]byte, 0, len(wanted.IDs))
	for _, id := range wanted.IDs {
		h, err := node(id.Level, id.Index)
		if err != nil {
			return leaf, nil, err
		}
		hashes = append(hashes, h[:])
	}
	hasher := rfc6962.DefaultHasher
	if hashes, err = wanted.Rehash(hashes, hasher.HashChildren); err != nil {
		return leaf, nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	if err := proof.VerifyInclusion(hasher, index, head.Size, leaf[:], hashes, head.Root[:]); err != nil {
		return leaf, nil, &UntrueError{What: "tiles", Err: err}
	}
	path := make([][32]byte, len(hashes))
	for i, h := range hashes {
		path[i] = [32]byte(h)
	}
	return leaf, path, nil
}

// nodes reads subtree hashes of a tree from its tiles, each tile once. They are
// not checked.
func (c *Client) nodes(ctx context.Context, head checkpoint.Checkpoint) evidence.Node {
	tiles := map[tile.Path][]byte{}
	return func(level uint, index uint64) ([32]byte, error) {
		within := level % tileHeight
		first := index << within
		path := tile.Path{Level: int(level / tileHeight), Index: first / tile.FullWidth, Width: tile.FullWidth}
		if edge, width := tile.Edge(head.Size, path.Level); edge == path.Index {
			path.Width = width
		}
		raw, ok := tiles[path]
		if !ok {
			var err error
			if raw, err = c.hashTile(ctx, c.shard(head.Origin), path); err != nil {
				return [32]byte{}, err
			}
			tiles[path] = raw
		}
		from, n := int(first%tile.FullWidth), 1<<within
		if len(raw) < (from+n)*tile.HashSize {
			return [32]byte{}, errors.New("read tiles: the tree has no such node")
		}
		return subtree(raw[from*tile.HashSize : (from+n)*tile.HashSize])
	}
}

// tileHeight is how many levels of the tree a tile has.
const tileHeight = 8

// subtree hashes the nodes of one level up to the one above all of them.
func subtree(raw []byte) ([32]byte, error) {
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for ; len(raw) > 0; raw = raw[tile.HashSize:] {
		if err := tree.Append(raw[:tile.HashSize], nil); err != nil {
			return [32]byte{}, fmt.Errorf("hash a tile: %w", err)
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return [32]byte{}, fmt.Errorf("hash a tile: %w", err)
	}
	return [32]byte(root), nil
}

// shard is the prefix of the paths of a shard's tiles. A base URL that is of one
// shard is that already.
func (c *Client) shard(origin string) string {
	if strings.Contains(c.base.Path+"/", "/shards/") {
		return ""
	}
	return "/shards/" + origin[strings.LastIndexByte(origin, '/')+1:]
}

// meet holds a checkpoint that satisfies the policy against those of its log that
// this client has met: against one of the same size, and against the largest that
// was compared so far, for which it reads tiles. What could not be compared does not
// become that one.
func (c *Client) meet(ctx context.Context, note *checkpoint.Note) error {
	if err := c.heads.meet(note); err != nil {
		return err
	}
	head := note.Checkpoint()
	c.mu.Lock()
	had := c.compared[head.Origin]
	if had == nil {
		c.compared[head.Origin] = note
	}
	c.mu.Unlock()
	if had == nil {
		return nil
	}
	e, err := c.Compare(ctx, had, note)
	if e != nil {
		return contradicts(had, note, e)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && head.Size > c.compared[head.Origin].Checkpoint().Size {
		c.compared[head.Origin] = note
	}
	return nil
}
