package proofs

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/trialog/trialog/services/internal/tile"
)

// inclusion is the answer of /v1/proofs/inclusion. Hashes are in base64, those
// of the proof from the leaf's sibling up (RFC 6962, 2.1.1).
type inclusion struct {
	Index    uint64   `json:"index"`
	Size     uint64   `json:"size"`
	LeafHash []byte   `json:"leafHash"`
	Root     []byte   `json:"root"`
	Hashes   [][]byte `json:"hashes"`
	// Checkpoint is the published note, if Size is its size: then the answer is
	// all that a receipt needs to be brought up to date.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// consistency is the answer of /v1/proofs/consistency (RFC 6962, 2.1.2).
type consistency struct {
	First      uint64   `json:"first"`
	Second     uint64   `json:"second"`
	FirstRoot  []byte   `json:"firstRoot"`
	SecondRoot []byte   `json:"secondRoot"`
	Hashes     [][]byte `json:"hashes"`
	Checkpoint string   `json:"checkpoint,omitempty"` // if Second is its size
}

// entry is the answer of /v1/entries/.
type entry struct {
	Index    uint64 `json:"index"`
	Size     uint64 `json:"size"` // of the tree that it was verified in
	LeafHash []byte `json:"leafHash"`
	Entry    []byte `json:"entry"`
}

func (p *Proofs) serveInclusion(ctx context.Context, query string) answer {
	params, bad := parseQuery(query, "index", "size")
	if bad != nil {
		return *bad
	}
	index, hasIndex := params["index"]
	size, hasSize := params["size"]
	if !hasIndex {
		return refuse(http.StatusBadRequest, "missing", "index", "expected the index of an entry")
	}
	need := size
	if !hasSize {
		need = index // and one more, but the check below says so
	}
	at, err := p.covering(ctx, func(t *tile.Tree) bool { return t.Size() >= need && index < t.Size() })
	if err != nil {
		return unavailable(err)
	}
	if !hasSize {
		size = at.tree.Size()
	}
	if size > at.tree.Size() {
		return beyond("size", at)
	}
	if index >= size {
		if !hasSize {
			return refuse(http.StatusNotFound, "not-published", "index", "expected less than the published size %d", size)
		}
		return refuse(http.StatusBadRequest, "range", "index", "expected less than size")
	}
	hashes, err := at.tree.Inclusion(ctx, index, size)
	leaf, leafErr := at.tree.LeafHash(ctx, index)
	root, rootErr := at.tree.RootAt(ctx, size)
	if err := errors.Join(err, leafErr, rootErr); err != nil {
		return p.fail(ctx, err)
	}
	return okJSON(inclusion{
		Index: index, Size: size, LeafHash: leaf[:], Root: root[:], Hashes: plain(hashes), Checkpoint: at.noteAt(size),
	})
}

func (p *Proofs) serveConsistency(ctx context.Context, query string) answer {
	params, bad := parseQuery(query, "first", "second")
	if bad != nil {
		return *bad
	}
	first, hasFirst := params["first"]
	second, hasSecond := params["second"]
	if !hasFirst {
		return refuse(http.StatusBadRequest, "missing", "first", "expected the size of the earlier tree")
	}
	at, err := p.covering(ctx, func(t *tile.Tree) bool { return t.Size() >= max(first, second) })
	if err != nil {
		return unavailable(err)
	}
	if !hasSecond {
		second = at.tree.Size()
	}
	if second > at.tree.Size() {
		return beyond("second", at)
	}
	if first > second {
		if !hasSecond {
			return beyond("first", at)
		}
		return refuse(http.StatusBadRequest, "range", "first", "expected at most second")
	}
	hashes, err := at.tree.Consistency(ctx, first, second)
	firstRoot, firstErr := at.tree.RootAt(ctx, first)
	secondRoot, secondErr := at.tree.RootAt(ctx, second)
	if err := errors.Join(err, firstErr, secondErr); err != nil {
		return p.fail(ctx, err)
	}
	return okJSON(consistency{
		First: first, Second: second, FirstRoot: firstRoot[:], SecondRoot: secondRoot[:],
		Hashes: plain(hashes), Checkpoint: at.noteAt(second),
	})
}

func (p *Proofs) serveEntry(ctx context.Context, s string) answer {
	index, err := parseNumber(s)
	if err != nil {
		return refuse(http.StatusBadRequest, "number", "index", "%v", err)
	}
	at, err := p.covering(ctx, func(t *tile.Tree) bool { return index < t.Size() })
	if err != nil {
		return unavailable(err)
	}
	if index >= at.tree.Size() {
		return refuse(http.StatusNotFound, "not-published", "index", "expected less than the published size %d", at.tree.Size())
	}
	data, err := at.tree.Entry(ctx, index)
	if err != nil {
		return p.fail(ctx, err)
	}
	leaf := tile.LeafHash(data)
	return okJSON(entry{Index: index, Size: at.tree.Size(), LeafHash: leaf[:], Entry: data})
}

func beyond(field string, at *published) answer {
	return refuse(http.StatusNotFound, "not-published", field, "expected at most the published size %d", at.tree.Size())
}

// noteAt returns the note if its size is the one asked for.
func (p *published) noteAt(size uint64) string {
	if size != p.tree.Size() {
		return ""
	}
	return string(p.raw)
}

func okJSON(v any) answer {
	body, _ := json.Marshal(v) //nolint:errchkjson // numbers, strings and byte slices: this cannot fail
	// The published note may be a part of it, so it is not the same for ever.
	return answer{status: http.StatusOK, contentType: typeJSON, cache: cacheAsk, body: append(body, '\n')}
}

func plain(hashes [][32]byte) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// parseQuery returns the numbers of a query that has no other parameters than
// those allowed, each at most once.
func parseQuery(query string, allowed ...string) (map[string]uint64, *answer) {
	values, err := url.ParseQuery(query)
	if err != nil {
		bad := refuse(http.StatusBadRequest, "query", "query", "expected %s", allowed)
		return nil, &bad
	}
	params := make(map[string]uint64, len(values))
	for name, all := range values {
		if !slices.Contains(allowed, name) {
			// The name is not repeated: it is the client's, and of any length.
			bad := refuse(http.StatusBadRequest, "query", "query", "expected no other parameters than %s", allowed)
			return nil, &bad
		}
		if len(all) != 1 {
			bad := refuse(http.StatusBadRequest, "query", name, "expected it once")
			return nil, &bad
		}
		n, err := parseNumber(all[0])
		if err != nil {
			bad := refuse(http.StatusBadRequest, "number", name, "%v", err)
			return nil, &bad
		}
		params[name] = n
	}
	return params, nil
}

// parseNumber parses a decimal number without sign and leading zeros.
func parseNumber(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("expected a decimal number below 2^64 without sign and leading zeros")
	}
	return n, nil
}
