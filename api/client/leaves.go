package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/tile"
)

// Leaves fetches the leaf hash of every entry of the published checkpoint, in
// order, from the log's tiles (c2sp.org/tlog-tiles), and rebuilds the root of
// them. What visit was given counts only if the error is nil in the end: then the
// leaves are those of the checkpoint that is returned. An error of visit ends it.
func (c *Client) Leaves(ctx context.Context, visit func(index uint64, leaf [32]byte) error) (*checkpoint.Cosigned, error) {
	cosigned, _, err := c.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for from := uint64(0); from < cosigned.Size; from += tile.FullWidth {
		width := int(min(cosigned.Size-from, tile.FullWidth))
		raw, err := c.hashTile(ctx, "", tile.Path{Index: from / tile.FullWidth, Width: width})
		if err != nil {
			return nil, err
		}
		for i := range width {
			leaf := [tile.HashSize]byte(raw[i*tile.HashSize:])
			if err := tree.Append(leaf[:], nil); err != nil {
				return nil, fmt.Errorf("rebuild the tree: %w", err)
			}
			if err := visit(from+uint64(i), leaf); err != nil {
				return nil, err
			}
		}
	}
	root, err := tree.GetRootHash(nil)
	if err != nil {
		return nil, fmt.Errorf("rebuild the tree: %w", err)
	}
	if cosigned.Size > 0 && !bytes.Equal(root, cosigned.Root[:]) {
		return nil, untrue("tiles", nil, "they lead to another root than that of the checkpoint of size %d", cosigned.Size)
	}
	return cosigned, nil
}

// hashTile fetches a hash tile below a prefix. One that has grown full meanwhile
// begins with the same hashes.
func (c *Client) hashTile(ctx context.Context, prefix string, path tile.Path) ([]byte, error) {
	fetch := func(p tile.Path) (*answer, error) {
		return c.call(ctx, request{method: http.MethodGet, path: prefix + "/" + p.String(), limit: tile.FullWidth * tile.HashSize})
	}
	got, err := fetch(path)
	if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusNotFound && path.Width < tile.FullWidth {
		// SPEC (tlog-tiles): a partial tile may be gone once the full one is there.
		got, err = fetch(path.Full())
	}
	if err != nil {
		return nil, err
	}
	if len(got.body) < path.Width*tile.HashSize {
		return nil, untrue("tile", got.body, "%d bytes, expected %d hashes", len(got.body), path.Width)
	}
	return got.body, nil
}
