package tile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/blobtest"
	"github.com/trialog/trialog/services/internal/tile"
)

// script is what the crash tests append: batches that end before, at and after
// the borders of bundles, one of them filling several.
func script() []int { return []int{1, 3, 200, 51, 1, 1, 2, 250, 3, 256, 700, 44, 300, 1} }

const scriptSize = 1 + 3 + 200 + 51 + 1 + 1 + 2 + 250 + 3 + 256 + 700 + 44 + 300 + 1

// runScript goes on with the script from where the writer is. It returns the
// size up to which Append has said yes.
func runScript(t *testing.T, w *tile.Writer) (acked uint64, err error) {
	t.Helper()
	var end uint64
	acked = w.Size()
	for _, n := range script() {
		end += uint64(n)
		if end <= w.Size() {
			continue
		}
		if _, err := w.Append(t.Context(), entriesFrom(w.Size(), int(end-w.Size()))); err != nil {
			return acked, err
		}
		acked = end
	}
	return acked, nil
}

// hidden removes the Extend method of a store.
type hidden struct{ blob.Store }

// TestCrashAtEveryWrite lets every write of the script fail in every way, with
// stores that grow objects and with one that does not, and goes on: with a new
// writer, as after a crash, or with the same one. What is stored in the end must
// be, byte for byte, what a run without faults stores.
func TestCrashAtEveryWrite(t *testing.T) {
	t.Parallel()
	ref := newReference(t, scriptSize)
	for _, grows := range []bool{true, false} {
		clean := blob.NewMemory()
		counter := blobtest.NewFaulty(clean, 0, blobtest.Lost, false)
		if _, err := runScript(t, open(t, view(counter, grows))); err != nil {
			t.Fatal(err)
		}
		if counter.Writes() < 2*len(script()) {
			t.Fatalf("%d writes: the test does not see them", counter.Writes())
		}
		for _, fault := range blobtest.Faults() {
			for at := 1; at <= counter.Writes(); at++ {
				for _, crash := range []bool{true, false} {
					name := fmt.Sprintf("grows=%v write=%d %v crash=%v", grows, at, fault, crash)
					store := blob.NewMemory()
					runFaulty(t, name, view(store, grows), view(blobtest.NewFaulty(store, at, fault, crash), grows), ref, crash)
					sameObjects(t, name, store, clean)
				}
			}
		}
	}
}

func view(store blob.Store, grows bool) blob.Store {
	if grows {
		return store
	}
	return hidden{store}
}

// runFaulty runs the script against faulty, which is on top of store, and then
// finishes it.
func runFaulty(t *testing.T, name string, store, faulty blob.Store, ref *reference, crash bool) {
	t.Helper()
	w, err := tile.OpenWriter(t.Context(), faulty)
	var acked uint64
	if err == nil {
		acked, err = runScript(t, w)
	}
	// A failed Delete is not an error of Append, so there may be none.
	if err != nil && !errors.Is(err, blobtest.ErrInjected) {
		t.Fatalf("%s: %v", name, err)
	}
	if err != nil && w != nil && (w.Size() != acked || w.Root() != ref.root(t, acked)) {
		t.Errorf("%s: after the error size %d, root of it %v; want %d", name, w.Size(), w.Root() == ref.root(t, w.Size()), acked)
	}
	// Whatever was acknowledged can be read, also before anybody repairs.
	if tree, err := tile.NewReader(store).Tree(t.Context(), acked, ref.root(t, acked)); err != nil {
		t.Errorf("%s: tree of the acknowledged size %d: %v", name, acked, err)
	} else if acked > 0 {
		checkEntry(t, tree, acked-1)
		checkEntry(t, tree, (acked-1)/256*256)
	}
	if crash || w == nil {
		w = open(t, store)
		if w.Size() < acked {
			t.Errorf("%s: reopened at size %d, but %d was acknowledged", name, w.Size(), acked)
		}
	}
	if w.Root() != ref.root(t, w.Size()) {
		t.Errorf("%s: wrong root at size %d", name, w.Size())
	}
	if _, err := runScript(t, w); err != nil {
		t.Fatalf("%s: going on: %v", name, err)
	}
	if w.Size() != scriptSize || w.Root() != ref.root(t, scriptSize) {
		t.Errorf("%s: ended at size %d, want %d and its root", name, w.Size(), scriptSize)
	}
	// A tail that could not be removed is removed by the next to open.
	open(t, store)
}

func sameObjects(t *testing.T, name string, got, want blob.Store) {
	t.Helper()
	gotKeys, wantKeys := keysOf(t, got), keysOf(t, want)
	if !slices.Equal(gotKeys, wantKeys) {
		t.Errorf("%s: %d objects, want %d", name, len(gotKeys), len(wantKeys))
		for _, key := range gotKeys {
			if !slices.Contains(wantKeys, key) {
				t.Logf("too many: %s", key)
			}
		}
		for _, key := range wantKeys {
			if !slices.Contains(gotKeys, key) {
				t.Logf("missing: %s", key)
			}
		}
		return
	}
	for _, key := range wantKeys {
		a, errA := got.Get(t.Context(), key)
		b, errB := want.Get(t.Context(), key)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %s differs from the run without faults", name, key)
		}
	}
}

// TestOtherEntriesAfterAFault appends others after a failed Append, and crashes
// again while it does so. Nothing that was acknowledged may be lost, whatever
// the first failure has left, and in the end the others are what counts.
func TestOtherEntriesAfterAFault(t *testing.T) {
	t.Parallel()
	// The first write is that of the empty log's head, the tenth the head of
	// the fourth Append.
	for at := 2; at <= 10; at++ {
		for _, fault := range blobtest.Faults() {
			for dies := 1; dies <= 4; dies++ {
				for _, second := range blobtest.Faults() {
					name := fmt.Sprintf("%v at %d, then %v at %d", fault, at, second, dies)
					otherEntries(t, name, at, fault, dies, second)
				}
			}
		}
	}
}

func otherEntries(t *testing.T, name string, at int, fault blobtest.Fault, dies int, second blobtest.Fault) {
	t.Helper()
	store := blob.NewMemory()
	faulty := blobtest.NewFaulty(store, at, fault, false)
	w := open(t, faulty)
	var failed error
	for failed == nil && w.Size() < 40 {
		_, failed = w.Append(t.Context(), entriesFrom(w.Size(), 10))
	}
	if failed == nil {
		t.Fatalf("%s: nothing failed", name)
	}
	size, root := w.Size(), w.Root()
	faulty.Rearm(dies, second, true)
	_, err := w.Append(t.Context(), entriesFrom(5000, 7))
	if err != nil && !errors.Is(err, blobtest.ErrInjected) {
		t.Errorf("%s: other entries: %v", name, err)
	}
	if err == nil {
		size, root = w.Size(), w.Root()
	}
	w, err = tile.OpenWriter(t.Context(), store)
	if err != nil {
		t.Errorf("%s: reopen: %v", name, err)
		return
	}
	if w.Size() < size {
		t.Errorf("%s: reopened at size %d, %d were acknowledged", name, w.Size(), size)
	}
	if got, err := tile.NewReader(store).Root(t.Context(), size); err != nil || got != root {
		t.Errorf("%s: the acknowledged tree of size %d: %v", name, size, err)
	}
	before := w.Size()
	if _, err := w.Append(t.Context(), entriesFrom(6000, 7)); err != nil || w.Size() != before+7 {
		t.Errorf("%s: going on: %v", name, err)
	}
}

// TestStrayTails fails an Append that goes across a border, appends others that do
// not, and looks for what the first one has left: the same Writer removes it.
func TestStrayTails(t *testing.T) {
	t.Parallel()
	for _, grows := range []bool{true, false} {
		store, clean := blob.NewMemory(), blob.NewMemory()
		faulty := blobtest.NewFaulty(store, 0, blobtest.Lost, false)
		w := open(t, view(faulty, grows))
		if _, err := w.Append(t.Context(), entriesFrom(0, 250)); err != nil {
			t.Fatal(err)
		}
		faulty.Rearm(1, blobtest.Persisted, false)
		if _, err := w.Append(t.Context(), entriesFrom(250, 20)); !errors.Is(err, blobtest.ErrInjected) {
			t.Fatalf("%v, want a fault", err)
		}
		if keys := keysOf(t, store); !slices.Contains(keys, "tail/0-1") {
			t.Fatalf("the failed call has left nothing: %v", keys)
		}
		if _, err := w.Append(t.Context(), entriesFrom(250, 3)); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, view(clean, grows)).Append(t.Context(), entriesFrom(0, 253)); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*blob.Memory{store, clean} {
			// Full tiles of the failed call stay: only the same entries may follow.
			if err := s.Delete(t.Context(), "tile/0/000", "tile/entries/000"); err != nil {
				t.Fatal(err)
			}
		}
		sameObjects(t, fmt.Sprintf("grows=%v", grows), store, clean)
	}
}

func TestMismatch(t *testing.T) {
	t.Parallel()
	for _, foreign := range []string{"tile/entries/000", "tile/0/000"} {
		store := blob.NewMemory()
		w := open(t, store)
		if _, err := w.Append(t.Context(), entriesFrom(0, 200)); err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), blob.Object{Key: foreign, Data: []byte("something else")}); err != nil {
			t.Fatal(err)
		}
		before := blob.NewMemory()
		copyAll(t, before, store)
		root := w.Root()
		for range 2 {
			if _, err := w.Append(t.Context(), entriesFrom(200, 100)); !errors.Is(err, tile.ErrMismatch) {
				t.Errorf("%s: %v, want ErrMismatch", foreign, err)
			}
		}
		sameObjects(t, foreign, store, before)
		if w.Size() != 200 || w.Root() != root {
			t.Errorf("%s: size %d after the refusal, want 200", foreign, w.Size())
		}
		if err := store.Delete(t.Context(), foreign); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Append(t.Context(), entriesFrom(200, 100)); err != nil {
			t.Errorf("%s: after it was removed: %v", foreign, err)
		}
	}
}

func TestEntryTooLong(t *testing.T) {
	t.Parallel()
	store := blob.NewMemory()
	w := open(t, store)
	tooLong := make([]byte, tile.MaxEntry+1)
	longest := tooLong[:tile.MaxEntry]
	if _, err := w.Append(t.Context(), [][]byte{{1}, tooLong, {2}}); !errors.Is(err, tile.ErrTooLong) {
		t.Errorf("%v, want ErrTooLong", err)
	}
	if keys := keysOf(t, store); w.Size() != 0 || len(keys) != 1 {
		t.Errorf("size %d and objects %v after the refusal", w.Size(), keys)
	}
	if _, err := w.Append(t.Context(), [][]byte{longest, longest}); err != nil {
		t.Errorf("the longest entries: %v", err)
	}
}

// TestOtherKindOfStore copies a log between a store whose objects grow and one
// whose do not, at every size, lets a write fail there, and goes on. A reader of
// either kind finds what was acknowledged at any time.
func TestOtherKindOfStore(t *testing.T) {
	t.Parallel()
	ref := newReference(t, 700)
	for _, size := range []int{1, 16, 17, 255, 256, 300} {
		for _, grows := range []bool{true, false} {
			for _, fault := range blobtest.Faults() {
				for at := 1; at <= 6; at++ {
					name := fmt.Sprintf("size %d, grows=%v then %v, %v at %d", size, grows, !grows, fault, at)
					store := blob.NewMemory()
					w := open(t, view(store, grows))
					if _, err := w.Append(t.Context(), entriesFrom(0, size)); err != nil {
						t.Fatal(err)
					}
					otherKind(t, name, store, view(blobtest.NewFaulty(store, at, fault, true), !grows), ref, uint64(size))
					want := blob.NewMemory()
					w = open(t, view(store, !grows))
					clean := open(t, view(want, !grows))
					if _, err := clean.Append(t.Context(), entriesFrom(0, int(w.Size())+3)); err != nil {
						t.Fatal(err)
					}
					if _, err := w.Append(t.Context(), entriesFrom(w.Size(), 3)); err != nil {
						t.Fatalf("%s: go on: %v", name, err)
					}
					open(t, view(store, !grows)) // removes what could not be removed
					sameObjects(t, name, store, want)
				}
			}
		}
	}
}

// otherKind appends twice to the faulty store, and reads after each call.
func otherKind(t *testing.T, name string, store *blob.Memory, faulty blob.Store, ref *reference, acked uint64) {
	t.Helper()
	w, err := tile.OpenWriter(t.Context(), faulty)
	for range 3 {
		for _, s := range []blob.Store{store, hidden{store}} {
			tree, err := tile.NewReader(s).Tree(t.Context(), acked, ref.root(t, acked))
			if err != nil {
				t.Fatalf("%s: tree of the acknowledged size %d: %v", name, acked, err)
			}
			checkEntries(t, tree, 0, int(acked))
		}
		if err != nil {
			return
		}
		if _, err = w.Append(t.Context(), entriesFrom(acked, 20)); err == nil {
			acked += 20
		}
	}
}

// countingStore counts the bytes of all writes.
type countingStore struct {
	*blob.Memory
	bytes, puts int
}

func (c *countingStore) Put(ctx context.Context, objects ...blob.Object) error {
	c.puts += len(objects)
	for _, o := range objects {
		c.bytes += len(o.Data)
	}
	return c.Memory.Put(ctx, objects...)
}

func (c *countingStore) Extend(ctx context.Context, extensions ...blob.Extension) error {
	for _, e := range extensions {
		c.bytes += len(e.Data)
	}
	return c.Memory.Extend(ctx, extensions...)
}

// TestQuietLogWritesLittle appends long entries one at a time: what is written
// must stay near what was appended, which is written twice, in the tail and in
// the full bundle, and not grow with the length of the tail.
func TestQuietLogWritesLittle(t *testing.T) {
	t.Parallel()
	store := &countingStore{Memory: blob.NewMemory()}
	w := open(t, store)
	entry := bytes.Repeat([]byte{1}, 3_000)
	const n = 600
	for range n {
		if _, err := w.Append(t.Context(), [][]byte{entry}); err != nil {
			t.Fatal(err)
		}
	}
	if limit := n * (2*len(entry) + 500); store.bytes > limit {
		t.Errorf("%d entries of %d bytes: %d bytes written, want at most %d", n, len(entry), store.bytes, limit)
	}
}

// TestQuietLogOnBucket appends the same to a store whose objects do not grow: an
// entry costs a segment, the level's hashes and the head, and not the bundle.
func TestQuietLogOnBucket(t *testing.T) {
	t.Parallel()
	store := &countingStore{Memory: blob.NewMemory()}
	w := open(t, hidden{store})
	entry := bytes.Repeat([]byte{1}, 1_500)
	const n = 1024
	for range n {
		if _, err := w.Append(t.Context(), [][]byte{entry}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("an entry of %d bytes: %d bytes and %.2f objects written", len(entry), store.bytes/n, float64(store.puts)/n)
	// 8.5 entries of a segment and 128.5 hashes on average, the full bundle, the
	// full tile, a head.
	if limit := n * (10*(2+len(entry)) + 150*tile.HashSize); store.bytes > limit {
		t.Errorf("%d bytes written, want at most %d", store.bytes, limit)
	}
	if store.puts > 4*n {
		t.Errorf("%d objects written, want at most %d", store.puts, 4*n)
	}
}

// TestRandomRuns opens and closes writers at random sizes.
func TestRandomRuns(t *testing.T) {
	t.Parallel()
	ref := newReference(t, 3000)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		store := blob.NewMemory()
		w := open(t, store)
		for w.Size() < 2000 {
			if _, err := w.Append(t.Context(), entriesFrom(w.Size(), 1+rng.IntN(400))); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(3) == 0 {
				w = open(t, store)
			}
			if w.Root() != ref.root(t, w.Size()) {
				t.Fatalf("seed %d: wrong root at size %d", seed, w.Size())
			}
		}
	}
}
