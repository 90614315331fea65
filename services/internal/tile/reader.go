package tile

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/trialog/trialog/services/internal/blob"
)

const (
	defaultCache = 1024 // tiles of 16 KiB: proofs over 67 million entries at most
	keptTrees    = 4
)

// Reader reads the tiles of one log. It may be used concurrently, also while a
// Writer adds to the same store.
//
// The methods that take a size ask a Tree of that size. If no caller has given
// its root, by Tree, it is computed from the right edge: then what is read fits
// together, but only the caller can tell, by comparing Root with a signed one,
// that it is the log.
type Reader struct {
	store blob.Store
	// segmented is true if a writer would keep the growing bundle in segments, so
	// that they are looked for first.
	segmented bool

	mu    sync.Mutex
	trees []*Tree // the latest ones, oldest first
	cache tileCache
}

// Option changes how a Reader works.
type Option func(*Reader)

// WithCache sets how many full hash tiles, of 16 KiB each, a Reader keeps in
// memory. The default is 1024; 0 keeps none.
func WithCache(tiles int) Option {
	return func(r *Reader) { r.cache.limit = tiles }
}

// NewReader returns a Reader of the tiles in store. It reads nothing yet.
func NewReader(store blob.Store, opts ...Option) *Reader {
	_, grows := store.(blob.Extender)
	r := &Reader{store: store, segmented: !grows, cache: tileCache{limit: defaultCache}}
	for _, opt := range opts {
		opt(r)
	}
	return r
}

// Tree returns the tree of size leaves whose root is root, after checking that
// the right edge of the stored tiles has that root. Whatever the Tree returns
// later is checked against it. Errors match ErrCorrupt when an object is missing
// or wrong; a RootError says that all are well formed and give another root.
func (r *Reader) Tree(ctx context.Context, size uint64, root [32]byte) (*Tree, error) {
	if t := r.kept(size); t != nil && t.root == root {
		return t, nil
	}
	t, err := r.loadTree(ctx, size)
	if err != nil {
		return nil, err
	}
	if t.root != root {
		return nil, &RootError{Size: size, Want: root, Got: t.root}
	}
	r.keep(t)
	return t, nil
}

// computed returns the tree of size leaves with the root that the tiles give.
func (r *Reader) computed(ctx context.Context, size uint64) (*Tree, error) {
	if t := r.kept(size); t != nil {
		return t, nil
	}
	t, err := r.loadTree(ctx, size)
	if err != nil {
		return nil, err
	}
	r.keep(t)
	return t, nil
}

func (r *Reader) kept(size uint64) *Tree {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.trees {
		if t.size == size {
			return t
		}
	}
	return nil
}

// keep remembers a tree, instead of one of the same size or of the oldest.
func (r *Reader) keep(t *Tree) {
	r.mu.Lock()
	defer r.mu.Unlock()
	trees := make([]*Tree, 0, keptTrees)
	for _, old := range r.trees {
		if old.size != t.size {
			trees = append(trees, old)
		}
	}
	if len(trees) == keptTrees {
		trees = trees[1:]
	}
	trees = append(trees, t)
	r.trees = trees
}

// Root returns the root at size as the stored tiles give it. It authenticates
// nothing by itself.
func (r *Reader) Root(ctx context.Context, size uint64) ([32]byte, error) {
	t, err := r.computed(ctx, size)
	if err != nil {
		return Hash{}, err
	}
	return t.root, nil
}

// Inclusion returns the proof that the leaf at index is in the tree of size
// leaves, from the leaf's sibling up (RFC 6962, 2.1.1).
func (r *Reader) Inclusion(ctx context.Context, index, size uint64) ([][32]byte, error) {
	t, err := r.computed(ctx, size)
	if err != nil {
		return nil, err
	}
	return t.Inclusion(ctx, index, size)
}

// Consistency returns the proof that the tree of n leaves extends that of m
// leaves (RFC 6962, 2.1.2). It is empty if m is 0 or n.
func (r *Reader) Consistency(ctx context.Context, m, n uint64) ([][32]byte, error) {
	t, err := r.computed(ctx, n)
	if err != nil {
		return nil, err
	}
	return t.Consistency(ctx, m, n)
}

// Entry returns the entry at index, checked against its leaf hash in the tree of
// size leaves.
func (r *Reader) Entry(ctx context.Context, index, size uint64) ([]byte, error) {
	t, err := r.computed(ctx, size)
	if err != nil {
		return nil, err
	}
	return t.Entry(ctx, index)
}

// Entries returns n entries from first on, checked like Entry's. All must be in
// the tree.
func (r *Reader) Entries(ctx context.Context, first uint64, n int, size uint64) ([][]byte, error) {
	t, err := r.computed(ctx, size)
	if err != nil {
		return nil, err
	}
	return t.Entries(ctx, first, n)
}

// TileBytes returns a hash tile as it is served, see Tree.TileBytes.
func (r *Reader) TileBytes(ctx context.Context, path Path, size uint64) ([]byte, error) {
	t, err := r.computed(ctx, size)
	if err != nil {
		return nil, err
	}
	return t.TileBytes(ctx, path)
}

// BundleBytes returns an entry bundle as it is served, see Tree.BundleBytes.
func (r *Reader) BundleBytes(ctx context.Context, path Path, size uint64) ([]byte, error) {
	t, err := r.computed(ctx, size)
	if err != nil {
		return nil, err
	}
	return t.BundleBytes(ctx, path)
}

// rawObject returns the first of the objects that is there, and its key.
func (r *Reader) rawObject(ctx context.Context, keys ...string) (key string, data []byte, err error) {
	for _, key = range keys {
		data, err = r.store.Get(ctx, key)
		if err == nil {
			return key, data, nil
		}
		if !errors.Is(err, blob.ErrNotFound) {
			return key, nil, fmt.Errorf("read %s: %w", key, err)
		}
	}
	return key, nil, &CorruptError{Object: keys[0], Reason: "missing", Err: err}
}

// rawTile returns the hashes of the tile that p names, unchecked.
func (r *Reader) rawTile(ctx context.Context, p Path) (key string, raw []byte, err error) {
	full := Path{Level: p.Level, Index: p.Index, Width: FullWidth}
	keys := []string{full.String()}
	if p.Width < FullWidth {
		// The writer removes a tail only after the full tile is in place, so one of
		// the two is always there.
		keys = []string{TailKey(p), keys[0]}
	}
	key, data, err := r.rawObject(ctx, keys...)
	if err != nil {
		return key, nil, err
	}
	want := p.Width * HashSize
	if len(data) < want || p.Width == FullWidth && len(data) > want {
		return key, nil, &CorruptError{Object: key, Reason: fmt.Sprintf("%d bytes, want %d", len(data), want)}
	}
	return key, data[:want], nil
}

// fullTile returns a full tile, from the cache or the store, whose root must be
// want.
func (r *Reader) fullTile(ctx context.Context, level int, index uint64, want *Hash) (*nodes, error) {
	id := tileID{level, index}
	// A cached tile may come from a tree that has been given up since, so it is
	// compared like one that was just read.
	if cached := r.cache.get(id); cached != nil && cached.heap[1] == *want {
		return cached, nil
	}
	key, raw, err := r.rawTile(ctx, Path{Level: level, Index: index, Width: FullWidth})
	if err != nil {
		return nil, err
	}
	read := parseNodes(raw)
	if read.heap[1] != *want {
		return nil, &CorruptError{Object: key, Reason: "its root differs from the hash above it"}
	}
	r.cache.put(id, read)
	return read, nil
}

// tileCache keeps the full tiles used last. It need not be trusted: who takes a
// tile from it compares the tile's root with the hash above it.
type tileCache struct {
	limit int
	mu    sync.Mutex
	items map[tileID]*list.Element
	order list.List // of cachedTile, used last at the front
}

type tileID struct {
	level int
	index uint64
}

type cachedTile struct {
	id   tileID
	tile *nodes
}

func (c *tileCache) get(id tileID) *nodes {
	c.mu.Lock()
	defer c.mu.Unlock()
	item, ok := c.items[id]
	if !ok {
		return nil
	}
	c.order.MoveToFront(item)
	cached, _ := item.Value.(cachedTile)
	return cached.tile
}

func (c *tileCache) put(id tileID, t *nodes) {
	if c.limit <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items == nil {
		c.items = make(map[tileID]*list.Element)
	}
	if old, ok := c.items[id]; ok {
		c.order.Remove(old)
	}
	c.items[id] = c.order.PushFront(cachedTile{id, t})
	for c.order.Len() > c.limit {
		oldest := c.order.Back()
		cached, _ := oldest.Value.(cachedTile)
		c.order.Remove(oldest)
		delete(c.items, cached.id)
	}
}
