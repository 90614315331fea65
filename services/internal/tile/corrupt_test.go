package tile_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
)

// damages are ways to spoil an object of which every byte counts.
func damages(data []byte) map[string][]byte {
	flip := func(i int) []byte {
		d := bytes.Clone(data)
		d[i] ^= 0x10
		return d
	}
	return map[string][]byte{
		"first byte":  flip(0),
		"second byte": flip(1),
		"middle byte": flip(len(data) / 2),
		"last byte":   flip(len(data) - 1),
		"emptied":     {},
		"cut":         data[:len(data)-1],
		"cut by half": data[:len(data)/2],
		"missing":     nil,
	}
}

func keysOf(t testing.TB, store blob.Store) []string {
	t.Helper()
	var keys []string
	for key, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// damaged calls do with the store once for each way to spoil each object.
func damaged(t *testing.T, store *blob.Memory, do func(name, key string)) {
	t.Helper()
	for _, key := range keysOf(t, store) {
		whole, err := store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for how, data := range damages(whole) {
			if data == nil {
				err = store.Delete(t.Context(), key)
			} else {
				err = store.Put(t.Context(), blob.Object{Key: key, Data: data})
			}
			if err != nil {
				t.Fatal(err)
			}
			do(fmt.Sprintf("%s: %s", key, how), key)
		}
		if err := store.Put(t.Context(), blob.Object{Key: key, Data: whole}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReaderRefusesDamage spoils every object in every way. Whatever a reader
// that knows the root returns then must be right; and something must be missed.
func TestReaderRefusesDamage(t *testing.T) {
	t.Parallel()
	const size = 3*256 + 40
	ref, store := newReference(t, size), blob.NewMemory()
	build(t, store, size)
	root := ref.root(t, size)
	damaged(t, store, func(name, key string) {
		refused, err := readAll(t, store, ref, size, root)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// The head is the writer's; a reader has the root from elsewhere.
		if refused == 0 && key != "tail/head" {
			t.Errorf("%s: a reader noticed nothing", name)
		}
	})
	if refused, err := readAll(t, store, ref, size, root); refused > 0 || err != nil {
		t.Errorf("restored: %d reads refused, %v", refused, err)
	}
}

// readAll reads everything and counts what was refused as corrupt. It returns an
// error if anything wrong was handed out or refused for another reason.
func readAll(t *testing.T, store blob.Store, ref *reference, size uint64, root [32]byte) (refused int, err error) {
	t.Helper()
	ctx := t.Context()
	tree, err := tile.NewReader(store).Tree(ctx, size, root)
	if err != nil {
		return 1, notCorrupt(err)
	}
	var faults []error
	check := func(err error, right func() bool) {
		switch {
		case err != nil:
			refused++
			faults = append(faults, notCorrupt(err))
		case !right():
			faults = append(faults, errors.New("handed out what does not verify"))
		}
	}
	for i := uint64(0); i < size; i += 13 {
		p, err := tree.Inclusion(ctx, i, size)
		check(err, func() bool { return fmt.Sprint(p) == fmt.Sprint(ref.inclusion(t, i, size)) })
		c, err := tree.Consistency(ctx, i+1, size)
		check(err, func() bool { return fmt.Sprint(c) == fmt.Sprint(ref.consistency(t, i+1, size)) })
		e, err := tree.Entry(ctx, i)
		check(err, func() bool { return bytes.Equal(e, entryAt(i)) })
	}
	for n := uint64(0); n <= size/256; n++ {
		width := int(min(256, size-n*256))
		b, err := tree.BundleBytes(ctx, tile.Path{Entries: true, Index: n, Width: width})
		check(err, func() bool { return bytes.Equal(b, bundleOf(t, entriesFrom(n*256, width))) })
		h, err := tree.TileBytes(ctx, tile.Path{Index: n, Width: width})
		check(err, func() bool {
			var want []byte
			for i := range uint64(width) {
				leaf := tile.LeafHash(entryAt(n*256 + i))
				want = append(want, leaf[:]...)
			}
			return bytes.Equal(h, want)
		})
	}
	return refused, errors.Join(faults...)
}

func notCorrupt(err error) error {
	if errors.Is(err, tile.ErrCorrupt) {
		return nil
	}
	return fmt.Errorf("refused for another reason: %w", err)
}

// TestCacheIsNotTrusted fills a reader's cache from tiles of another log that
// lie in the store for a while.
func TestCacheIsNotTrusted(t *testing.T) {
	t.Parallel()
	ctx, store, other := t.Context(), blob.NewMemory(), blob.NewMemory()
	ref := newReference(t, 600)
	build(t, store, 600)
	w := open(t, other)
	if _, err := w.Append(ctx, entriesFrom(1000, 600)); err != nil {
		t.Fatal(err)
	}
	swapped := blob.NewMemory()
	copyAll(t, swapped, other)
	r := tile.NewReader(swapped)
	if _, err := r.Inclusion(ctx, 5, 600); err != nil { // by the root that the tiles give
		t.Fatal(err)
	}
	_, err := r.Tree(ctx, 600, ref.root(t, 600))
	var rootErr *tile.RootError
	if !errors.As(err, &rootErr) || rootErr.Want != ref.root(t, 600) || rootErr.Got != w.Root() {
		t.Fatalf("tree of the other log: %v, want a RootError", err)
	}
	copyAll(t, swapped, store)
	tree, err := r.Tree(ctx, 600, ref.root(t, 600))
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(600) {
		checkInclusion(t, tree, ref, i, 600)
	}
}

func copyAll(t testing.TB, to, from blob.Store) {
	t.Helper()
	for _, key := range keysOf(t, from) {
		data, err := from.Get(t.Context(), key)
		if err == nil {
			err = to.Put(t.Context(), blob.Object{Key: key, Data: data})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOpenWriterChecksTheEdge spoils every object at the right edge: the writer
// must not open. What lies further left is not its business.
func TestOpenWriterChecksTheEdge(t *testing.T) {
	t.Parallel()
	for _, size := range []uint64{1, 255, 256, 300, 512, 1000} {
		store := blob.NewMemory()
		build(t, store, size)
		last := size/256 - 1
		damaged(t, store, func(name, key string) {
			if strings.HasPrefix(key, "tile/") && !strings.HasSuffix(key, fmt.Sprintf("/%03d", last)) {
				return
			}
			before := keysOf(t, store)
			if w, err := tile.OpenWriter(t.Context(), store); !errors.Is(err, tile.ErrCorrupt) {
				t.Errorf("size %d, %s: opened %v, %v; want ErrCorrupt", size, name, w != nil, err)
			} else if !strings.Contains(err.Error(), key) && !isRootError(err) {
				t.Errorf("size %d, %s: the error does not name it: %v", size, name, err)
			}
			if after := keysOf(t, store); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("size %d, %s: a refused OpenWriter has changed objects", size, name)
			}
		})
		if got := open(t, store).Size(); got != size {
			t.Errorf("restored: size %d, want %d", got, size)
		}
	}
}

// TestOpenWriterChecksHigherLevels spoils the last full tile of level 1, of which
// nothing else at the right edge depends.
func TestOpenWriterChecksHigherLevels(t *testing.T) {
	t.Parallel()
	const key = "tile/1/000"
	store := blob.NewMemory()
	build(t, store, 65_536+300)
	data, err := store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	data[100] ^= 1
	if err := store.Put(t.Context(), blob.Object{Key: key, Data: data}); err != nil {
		t.Fatal(err)
	}
	if _, err := tile.OpenWriter(t.Context(), store); !errors.Is(err, tile.ErrCorrupt) || !strings.Contains(err.Error(), key) {
		t.Errorf("%v, want ErrCorrupt and the key", err)
	}
}

// TestLongerObjects adds bytes: a full object must not have them; of a tail, they
// are what a crash left, and never handed out.
func TestLongerObjects(t *testing.T) {
	t.Parallel()
	const size = 300
	ref, store := newReference(t, size), blob.NewMemory()
	build(t, store, size)
	for _, key := range keysOf(t, store) {
		whole, err := store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		for _, more := range []int{1, 33, 9000} {
			longer := append(bytes.Clone(whole), bytes.Repeat([]byte{1}, more)...)
			if err := store.Put(t.Context(), blob.Object{Key: key, Data: longer}); err != nil {
				t.Fatal(err)
			}
			refused, err := readAll(t, store, ref, size, ref.root(t, size))
			if err != nil || (refused > 0) != strings.HasPrefix(key, "tile/") {
				t.Errorf("%s, %d bytes longer: %d reads refused, %v", key, more, refused, err)
			}
		}
		if err := store.Put(t.Context(), blob.Object{Key: key, Data: whole}); err != nil {
			t.Fatal(err)
		}
	}
}

// isRootError reports whether the growing tiles are well formed and give another
// root: then nobody can say which of them, or the head, is wrong.
func isRootError(err error) bool {
	var rootErr *tile.RootError
	return errors.As(err, &rootErr)
}
