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

// jsonInclusion is the answer of /v1/proofs/inclusion. Hashes are in base64,
// those of the proof from the leaf's sibling up (RFC 6962, 2.1.1).
type jsonInclusion struct {
	Index    uint64   `json:"index"`
	Size     uint64   `json:"size"`
	LeafHash []byte   `json:"leafHash"`
	Root     []byte   `json:"root"`
	Hashes   [][]byte `json:"hashes"`
	// Checkpoint is the published note, if Size is its size: then the answer is
	// all that a receipt needs to be brought up to date.
	Checkpoint string `json:"checkpoint,omitempty"`
}

// jsonConsistency is the answer of /v1/proofs/consistency (RFC 6962, 2.1.2).
type jsonConsistency struct {
	First      uint64   `json:"first"`
	Second     uint64   `json:"second"`
	FirstRoot  []byte   `json:"firstRoot"`
	SecondRoot []byte   `json:"secondRoot"`
	Hashes     [][]byte `json:"hashes"`
	Checkpoint string   `json:"checkpoint,omitempty"` // if Second is its size
}

// jsonEntry is the answer of /v1/entries/.
type jsonEntry struct {
	Index    uint64 `json:"index"`
	Size     uint64 `json:"size"` // of the tree that it was verified in
	LeafHash []byte `json:"leafHash"`
	Entry    []byte `json:"entry"`
}

func (s *shard) serveInclusion(ctx context.Context, query string) (*answer, *fault) {
	params, bad := parseQuery(query, "index", "size")
	if bad != nil {
		return nil, bad
	}
	index, hasIndex := params["index"]
	size, hasSize := params["size"]
	if !hasIndex {
		return nil, refuse(http.StatusBadRequest, "missing", "index", "expected the index of an entry")
	}
	p, bad := s.inclusion(ctx, index, size, hasSize)
	if bad != nil {
		return nil, bad
	}
	return okJSON(jsonInclusion{
		Index: p.index, Size: p.size, LeafHash: p.leaf[:], Root: p.root[:], Hashes: plain(p.path), Checkpoint: p.at.noteAt(p.size),
	}), nil
}

func (s *shard) serveConsistency(ctx context.Context, query string) (*answer, *fault) {
	params, bad := parseQuery(query, "first", "second")
	if bad != nil {
		return nil, bad
	}
	first, hasFirst := params["first"]
	second, hasSecond := params["second"]
	if !hasFirst {
		return nil, refuse(http.StatusBadRequest, "missing", "first", "expected the size of the earlier tree")
	}
	p, bad := s.consistency(ctx, first, second, hasSecond)
	if bad != nil {
		return nil, bad
	}
	return okJSON(jsonConsistency{
		First: p.first, Second: p.second, FirstRoot: p.firstRoot[:], SecondRoot: p.secondRoot[:],
		Hashes: plain(p.path), Checkpoint: p.at.noteAt(p.second),
	}), nil
}

func (p *Proofs) serveEntry(ctx context.Context, s *shard, number string) (*answer, *fault) {
	index, err := parseNumber(number)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "number", "index", "%v", err)
	}
	list, at, bad := p.entries(ctx, s, index, 1)
	if bad != nil {
		return nil, bad
	}
	leaf := tile.LeafHash(list[0])
	return okJSON(jsonEntry{Index: index, Size: at.tree.Size(), LeafHash: leaf[:], Entry: list[0]}), nil
}

func okJSON(v any) *answer {
	body, _ := json.Marshal(v) //nolint:errchkjson // numbers, strings and byte slices: this cannot fail
	// The published note may be a part of it, so it is not the same for ever.
	return &answer{contentType: typeJSON, cache: cacheAsk, body: append(body, '\n')}
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
func parseQuery(query string, allowed ...string) (map[string]uint64, *fault) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "query", "query", "expected %s", allowed)
	}
	params := make(map[string]uint64, len(values))
	for name, all := range values {
		if !slices.Contains(allowed, name) {
			// The name is not repeated: it is the client's, and of any length.
			return nil, refuse(http.StatusBadRequest, "query", "query", "expected no other parameters than %s", allowed)
		}
		if len(all) != 1 {
			return nil, refuse(http.StatusBadRequest, "query", name, "expected it once")
		}
		n, err := parseNumber(all[0])
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "number", name, "%v", err)
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
