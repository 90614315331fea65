package commit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/commit"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

var errBroken = errors.New("broken")

// tree is a log whose writes can be made to fail.
type tree struct {
	tlog.Log
	append    func(first uint64, leaves []tlog.Leaf) error // in place of Append; may be nil
	integrate func() error                                 // before Integrate; may be nil
	leaves    error                                        // of Leaves
}

func (t *tree) Append(ctx context.Context, first uint64, leaves []tlog.Leaf) error {
	if t.append != nil {
		return t.append(first, leaves)
	}
	return t.Log.Append(ctx, first, leaves)
}

func (t *tree) Integrate(ctx context.Context) (tlog.Root, error) {
	if t.integrate != nil {
		if err := t.integrate(); err != nil {
			return tlog.Root{}, err
		}
	}
	return t.Log.Integrate(ctx)
}

func (t *tree) Leaves(ctx context.Context, first uint64, n int) ([]tlog.Leaf, error) {
	if t.leaves != nil {
		return nil, t.leaves
	}
	return t.Log.Leaves(ctx, first, n)
}

// open makes an empty log on disk.
func open(t testing.TB) (*tree, *tile.Writer, blob.Store) {
	t.Helper()
	dir := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := pebblestore.Open(filepath.Join(dir, "store"), pebblestore.Options{})
	check(err)
	log, err := trillian.Open(t.Context(), trillian.Config{
		Storage: store, Admin: store.Admin(), Origin: "log.test/1", Create: true, CloseStorage: store.Close,
	})
	check(err)
	objects, err := blob.OpenDir(filepath.Join(dir, "tiles"))
	check(err)
	tiles, err := tile.OpenWriter(t.Context(), objects)
	check(err)
	t.Cleanup(func() {
		if err := errors.Join(log.Close(), objects.Close()); err != nil {
			t.Error(err)
		}
	})
	return &tree{Log: log}, tiles, objects
}

// batch makes n leaves, the first of them for index first.
func batch(first uint64, n int) []tlog.Leaf {
	leaves := make([]tlog.Leaf, n)
	for i := range leaves {
		value := fmt.Appendf(nil, "leaf %d", first+uint64(i))
		leaves[i] = tlog.Leaf{Identity: sha256.Sum256(value), Value: value}
	}
	return leaves
}

// TestFollow: whatever overlaps, in the end store and tiles hold everything in
// its order, and everybody is told once his own is in both.
func TestFollow(t *testing.T) {
	tree, tiles, objects := open(t)
	l := commit.New(tree, tiles)
	stored := make(chan commit.Stored, 3)
	followed := make(chan error, 1)
	var mu sync.Mutex
	var grown tlog.Root
	go func() {
		followed <- l.Follow(t.Context(), stored, func(root tlog.Root) {
			mu.Lock()
			defer mu.Unlock()
			if root.Size <= grown.Size || tiles.Root() != root.Hash {
				t.Errorf("told of size %d after %d", root.Size, grown.Size)
			}
			grown = root
		})
	}()
	rng := rand.New(rand.NewPCG(3, 4))
	var size, done uint64
	for range 60 {
		n := rng.IntN(40) // sometimes nothing: who waits for what is there already
		if n > 0 {
			if err := l.Store(t.Context(), batch(size, n)); err != nil {
				t.Fatal(err)
			}
		}
		size += uint64(n)
		if l.Next() != size {
			t.Fatalf("the next index is %d, expected %d", l.Next(), size)
		}
		mine := size
		stored <- commit.Stored{Size: mine, Done: func(root tlog.Root) {
			if root.Size < mine || tiles.Size() < mine || mine < done {
				t.Errorf("size %d is done after %d, with a root of %d and tiles of %d", mine, done, root.Size, tiles.Size())
			}
			done = mine
		}}
	}
	close(stored)
	if err := <-followed; err != nil {
		t.Fatal(err)
	}
	if done != size || grown.Size != size {
		t.Errorf("done up to %d, told of %d, stored %d", done, grown.Size, size)
	}
	read, err := tile.NewReader(objects).Tree(t.Context(), size, grown.Hash)
	if err != nil {
		t.Fatal(err)
	}
	for i, leaf := range batch(0, int(size)) {
		if got, err := read.Entry(t.Context(), uint64(i)); err != nil || !bytes.Equal(got, leaf.Value) {
			t.Fatalf("entry %d is %q: %v", i, got, err)
		}
	}
}

// TestOutcomes: each way in which an append can end is told apart, and what was
// not stored leaves no trace.
func TestOutcomes(t *testing.T) {
	unknown := fmt.Errorf("%w: %w", tlog.ErrUnknownOutcome, errBroken)
	for name, tt := range map[string]struct {
		fails   error
		keeps   int // of 4 leaves
		leaves  error
		want    error // nil: stored
		goes    bool  // the log can be used on
		without error // what the error must not be
	}{
		"refused":                {fails: errBroken, want: commit.ErrNotStored, goes: true},
		"unknown, nothing":       {fails: unknown, want: commit.ErrNotStored, goes: true},
		"unknown, everything":    {fails: unknown, keeps: 4, goes: true},
		"unknown, half":          {fails: unknown, keeps: 2, want: errBroken, without: commit.ErrNotStored},
		"unknown, cannot read":   {fails: unknown, keeps: 4, leaves: errBroken, want: errBroken, without: commit.ErrNotStored},
		"failed for good":        {fails: fmt.Errorf("%w: %w", tlog.ErrFailed, unknown), want: tlog.ErrFailed, without: commit.ErrNotStored},
		"somebody else's leaf":   {fails: fmt.Errorf("x: %w", tlog.ErrConflict), want: tlog.ErrConflict, without: commit.ErrNotStored},
		"corrupt":                {fails: tlog.ErrCorrupt, want: tlog.ErrCorrupt, without: commit.ErrNotStored},
		"closed in the meantime": {fails: tlog.ErrClosed, want: tlog.ErrClosed, without: commit.ErrNotStored},
	} {
		t.Run(name, func(t *testing.T) {
			tree, tiles, _ := open(t)
			l := commit.New(tree, tiles)
			if err := l.Store(t.Context(), batch(0, 3)); err != nil {
				t.Fatal(err)
			}
			tree.leaves = tt.leaves
			tree.append = func(first uint64, leaves []tlog.Leaf) error {
				tree.append = nil
				if err := tree.Append(t.Context(), first, leaves[:tt.keeps]); err != nil {
					t.Error(err)
				}
				return tt.fails
			}
			err := l.Store(t.Context(), batch(3, 4))
			if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) ||
				tt.without != nil && errors.Is(err, tt.without) {
				t.Fatalf("error %v, expected %v", err, tt.want)
			}
			if !tt.goes {
				return
			}
			size := uint64(3)
			if tt.want == nil {
				size = 7
			}
			if l.Next() != size {
				t.Fatalf("the next index is %d, expected %d", l.Next(), size)
			}
			if err := l.Store(t.Context(), batch(size, 5)); err != nil {
				t.Fatal(err)
			}
			root, err := l.Integrate(t.Context())
			if err != nil || root.Size != size+5 || tiles.Root() != root.Hash {
				t.Fatalf("root %+v, %v", root, err)
			}
		})
	}
}

// TestStoredMeanwhile: an integration takes along what is stored while it waits,
// and the next one has nothing left to do.
func TestStoredMeanwhile(t *testing.T) {
	tree, tiles, _ := open(t)
	l := commit.New(tree, tiles)
	if err := l.Store(t.Context(), batch(0, 3)); err != nil {
		t.Fatal(err)
	}
	tree.integrate = func() error {
		tree.integrate = nil
		return l.Store(t.Context(), batch(3, 300))
	}
	for range 2 {
		root, err := l.Integrate(t.Context())
		if err != nil || root.Size != 303 || tiles.Size() != 303 {
			t.Fatalf("root %+v, tiles %d, %v", root, tiles.Size(), err)
		}
	}
}

// TestDisagree: leaves that came another way are not passed on.
func TestDisagree(t *testing.T) {
	tree, tiles, _ := open(t)
	l := commit.New(tree, tiles)
	if err := l.Store(t.Context(), batch(0, 3)); err != nil {
		t.Fatal(err)
	}
	if err := tree.Append(t.Context(), 3, batch(3, 1)); err != nil {
		t.Fatal(err)
	}
	stored := make(chan commit.Stored, 1)
	stored <- commit.Stored{Size: 3, Done: func(tlog.Root) { t.Error("it is done") }}
	err := l.Follow(t.Context(), stored, func(tlog.Root) { t.Error("it has grown") })
	if !errors.Is(err, commit.ErrDisagree) {
		t.Errorf("error %v", err)
	}
}

// TestOtherValue: the tiles get what was given, not what the store says.
func TestOtherValue(t *testing.T) {
	tree, tiles, _ := open(t)
	l := commit.New(tree, tiles)
	tree.append = func(first uint64, leaves []tlog.Leaf) error {
		tree.append = nil
		leaves[1].Value = []byte("forged")
		return tree.Append(t.Context(), first, leaves)
	}
	if err := l.Store(t.Context(), batch(0, 3)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Integrate(t.Context()); !errors.Is(err, commit.ErrDisagree) {
		t.Errorf("error %v", err)
	}
}

func TestIntegrateFails(t *testing.T) {
	tree, tiles, _ := open(t)
	l := commit.New(tree, tiles)
	if err := l.Store(t.Context(), batch(0, 3)); err != nil {
		t.Fatal(err)
	}
	tree.integrate = func() error { return errBroken }
	if _, err := l.Integrate(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

// BenchmarkAdd adds raw leaves of 256 bytes, durable and integrated.
func BenchmarkAdd(b *testing.B) {
	tree, tiles, _ := open(b)
	l := commit.New(tree, tiles)
	all := batch(0, b.N)
	for i := range all {
		all[i].Value = append(make([]byte, 256-len(all[i].Value)), all[i].Value...)
	}
	stored := make(chan commit.Stored, 1)
	followed := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { followed <- l.Follow(b.Context(), stored, func(tlog.Root) {}) }()
	for first := 0; first < b.N; first += 2048 {
		if err := l.Store(b.Context(), all[first:min(first+2048, b.N)]); err != nil {
			b.Fatal(err)
		}
		stored <- commit.Stored{Size: l.Next(), Done: func(tlog.Root) {}}
	}
	close(stored)
	if err := <-followed; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
