package pebblestore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"
	"github.com/google/trillian/storage/tree"
	"github.com/google/trillian/types"
	"github.com/transparency-dev/merkle/compact"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
)

var at = time.Unix(1e9, 0)

func newTree(t *testing.T, s *pebblestore.Store, like *trillian.Tree) *trillian.Tree {
	t.Helper()
	tr, err := storage.CreateTree(context.Background(), s.Admin(), like)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func storeRoot(s *pebblestore.Store, tr *trillian.Tree, size, nanos uint64) error {
	root, err := (&types.LogRootV1{TreeSize: size, TimestampNanos: nanos, RootHash: make([]byte, 32)}).MarshalBinary()
	if err != nil {
		return err
	}
	return s.ReadWriteTransaction(context.Background(), tr, func(ctx context.Context, tx storage.LogTreeTX) error {
		return tx.StoreSignedLogRoot(ctx, &trillian.SignedLogRoot{LogRoot: root})
	})
}

func leaf(index int64, name string) *trillian.LogLeaf {
	h := sha256.Sum256([]byte(name))
	return &trillian.LogLeaf{LeafIndex: index, LeafIdentityHash: h[:], MerkleLeafHash: h[:], LeafValue: []byte(name)}
}

// TestNeedsInit: a tree without a root gives a transaction with which it can be
// given one, and takes no leaves before.
func TestNeedsInit(t *testing.T) {
	ctx := context.Background()
	s := open(t, vfs.NewMem(), "store")
	tr := newTree(t, s, testonly.PreorderedLogTree)
	tx, err := s.SnapshotForTree(ctx, tr)
	if !errors.Is(err, storage.ErrTreeNeedsInit) || tx == nil {
		t.Fatalf("SnapshotForTree: %v, %v", tx, err)
	}
	if _, err := tx.LatestSignedLogRoot(ctx); !errors.Is(err, storage.ErrTreeNeedsInit) {
		t.Errorf("LatestSignedLogRoot: %v", err)
	}
	if err := errors.Join(tx.Commit(ctx), tx.Close(), tx.Close()); err != nil {
		t.Errorf("ending the transaction: %v", err)
	}
	if _, err := s.AddSequencedLeaves(ctx, tr, []*trillian.LogLeaf{leaf(0, "a")}, at); !errors.Is(err, storage.ErrTreeNeedsInit) {
		t.Errorf("AddSequencedLeaves: %v", err)
	}
	if _, err := s.QueueLeaves(ctx, tr, []*trillian.LogLeaf{leaf(0, "a")}, at); !errors.Is(err, storage.ErrTreeNeedsInit) {
		t.Errorf("QueueLeaves: %v", err)
	}
	if err := storeRoot(s, tr, 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddSequencedLeaves(ctx, tr, []*trillian.LogLeaf{leaf(0, "a")}, at); err != nil {
		t.Errorf("after initialisation: %v", err)
	}
	if _, err := s.SnapshotForTree(ctx, &trillian.Tree{TreeId: 5}); status.Code(err) != codes.NotFound {
		t.Errorf("unknown tree: %v", err)
	}
}

// TestStaleWriter: roots only get newer and bigger, and nodes do not change.
func TestStaleWriter(t *testing.T) {
	ctx := context.Background()
	s := open(t, vfs.NewMem(), "store")
	tr := newTree(t, s, testonly.PreorderedLogTree)
	for _, c := range []struct {
		size, nanos uint64
		ok          bool
	}{{0, 10, true}, {5, 11, true}, {5, 11, false}, {6, 11, false}, {6, 10, false}, {4, 12, false}, {5, 12, true}} {
		if err := storeRoot(s, tr, c.size, c.nanos); (err == nil) != c.ok {
			t.Errorf("root of size %d and time %d: %v, want success %v", c.size, c.nanos, err, c.ok)
		}
	}
	set := func(index uint64, hash byte) error {
		return s.ReadWriteTransaction(ctx, tr, func(ctx context.Context, tx storage.LogTreeTX) error {
			h := sha256.Sum256([]byte{hash})
			n := tree.Node{ID: compact.NewNodeID(0, index), Hash: h[:]}
			if err := tx.SetMerkleNodes(ctx, []tree.Node{n}); err != nil {
				return err
			}
			got, err := tx.GetMerkleNodes(ctx, []compact.NodeID{n.ID}) // its own write
			if err == nil && !bytes.Equal(got[0].Hash, n.Hash) {
				t.Errorf("node %d is %x in its own transaction", index, got[0].Hash)
			}
			return err
		})
	}
	for i, c := range []struct {
		index uint64
		hash  byte
		ok    bool
	}{{0, 1, true}, {0, 1, true}, {0, 2, false}, {2, 1, false}, {1, 1, true}, {2, 1, true}} {
		if err := set(c.index, c.hash); (err == nil) != c.ok {
			t.Errorf("%d: node %d: %v, want success %v", i, c.index, err, c.ok)
		}
	}
}

// TestStatuses: what AddSequencedLeaves answers for each leaf, and what it stores.
func TestStatuses(t *testing.T) {
	ctx := context.Background()
	s := open(t, vfs.NewMem(), "store")
	tr := newTree(t, s, testonly.PreorderedLogTree)
	if err := storeRoot(s, tr, 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddSequencedLeaves(ctx, tr, []*trillian.LogLeaf{leaf(0, "a"), leaf(1, "b")}, at); err != nil {
		t.Fatal(err)
	}
	batch := []*trillian.LogLeaf{leaf(0, "a"), leaf(1, "x"), leaf(2, "a"), leaf(3, "c"), leaf(4, "c"), leaf(3, "c"), leaf(3, "d")}
	want := []codes.Code{codes.AlreadyExists, codes.FailedPrecondition, codes.FailedPrecondition, codes.OK, codes.FailedPrecondition, codes.AlreadyExists, codes.FailedPrecondition}
	check := func(res []*trillian.QueuedLogLeaf, err error) {
		t.Helper()
		if err != nil || len(res) != len(want) {
			t.Fatalf("%d answers, %v", len(res), err)
		}
		for i, r := range res {
			if got := codes.Code(r.Status.Code); got != want[i] {
				t.Errorf("leaf %d: %v, want %v", i, got, want[i])
			}
		}
	}
	check(s.AddSequencedLeavesAtomic(ctx, tr, batch, at))
	if _, found, err := s.FindIndex(ctx, tr, batch[3].LeafIdentityHash); err != nil || found {
		t.Fatalf("a refused batch left an identity: %v, %v", found, err)
	}
	check(s.AddSequencedLeaves(ctx, tr, batch, at))
	if index, found, err := s.FindIndex(ctx, tr, batch[3].LeafIdentityHash); err != nil || !found || index != 3 {
		t.Fatalf("FindIndex = %d, %v, %v; want 3", index, found, err)
	}
	short := leaf(9, "s")
	short.LeafIdentityHash = short.LeafIdentityHash[1:]
	for name, l := range map[string]*trillian.LogLeaf{"index": leaf(-1, "n"), "identity": short} {
		if _, err := s.AddSequencedLeaves(ctx, tr, []*trillian.LogLeaf{l}, at); status.Code(err) != codes.InvalidArgument {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}

// TestIdentityRace: of writers of one identity at different indexes one succeeds.
func TestIdentityRace(t *testing.T) {
	ctx := context.Background()
	s := open(t, vfs.NewMem(), "store")
	tr := newTree(t, s, testonly.PreorderedLogTree)
	if err := storeRoot(s, tr, 0, 1); err != nil {
		t.Fatal(err)
	}
	const writers, width = 4, 1500
	for round := range int64(6) {
		shared := fmt.Sprint("shared ", round)
		var won atomic.Int64
		var wg sync.WaitGroup
		start := make(chan struct{})
		for w := range int64(writers) {
			// The shared identity comes first, and much work lies between looking it up
			// and writing it: without a lock all writers would find it free.
			first := (round*writers + w) * width
			leaves := []*trillian.LogLeaf{leaf(first, shared)}
			for i := first + 1; i < first+width; i++ {
				leaves = append(leaves, leaf(i, fmt.Sprint("own ", i)))
			}
			wg.Go(func() {
				<-start
				res, err := s.AddSequencedLeaves(ctx, tr, leaves, at)
				if err != nil {
					t.Error(err)
				} else if res[0].Status.Code == 0 {
					won.Add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d writers stored one identity", round, won.Load())
		}
	}
}

// TestHardDelete: nothing of the tree is left, and nothing of another is gone.
func TestHardDelete(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem()
	s := open(t, mem, "store")
	gone, kept := newTree(t, s, testonly.PreorderedLogTree), newTree(t, s, testonly.PreorderedLogTree)
	for _, tr := range []*trillian.Tree{gone, kept} {
		if err := storeRoot(s, tr, 0, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := s.AddSequencedLeaves(ctx, tr, []*trillian.LogLeaf{leaf(0, "a")}, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := storage.SoftDeleteTree(ctx, s.Admin(), gone.TreeId); err != nil {
		t.Fatal(err)
	}
	if ids, err := s.GetActiveLogIDs(ctx); err != nil || len(ids) != 1 || ids[0] != kept.TreeId {
		t.Errorf("GetActiveLogIDs = %v, %v; want the tree that is kept", ids, err)
	}
	if err := storage.HardDeleteTree(ctx, s.Admin(), gone.TreeId); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddSequencedLeaves(ctx, gone, []*trillian.LogLeaf{leaf(1, "b")}, at); status.Code(err) != codes.NotFound {
		t.Errorf("adding to a tree that is gone: %v", err)
	}
	if _, found, err := s.FindIndex(ctx, kept, leaf(0, "a").LeafIdentityHash); err != nil || !found {
		t.Errorf("the other tree lost its leaf: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	prefix := binary.BigEndian.AppendUint64(nil, uint64(gone.TreeId))
	eachRow(t, mem, func(key []byte) {
		if len(key) > 8 && bytes.Equal(key[1:9], prefix) {
			t.Errorf("row %x is left", key)
		}
	})
}

func eachRow(t *testing.T, fs vfs.FS, f func(key []byte)) {
	t.Helper()
	db, err := pebble.Open("store", &pebble.Options{FS: fs, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		f(it.Key())
		n++
	}
	if err := errors.Join(it.Error(), it.Close(), db.Close()); err != nil || n == 0 {
		t.Fatalf("%d rows, %v", n, err)
	}
}

// TestCloseEndsTransactions: a transaction that nobody ended does not keep the
// store open, and says ErrClosed afterwards.
func TestCloseEndsTransactions(t *testing.T) {
	ctx := context.Background()
	s := open(t, vfs.NewMem(), "store")
	tr := newTree(t, s, testonly.PreorderedLogTree)
	if err := storeRoot(s, tr, 0, 1); err != nil {
		t.Fatal(err)
	}
	tx, err := s.SnapshotForTree(ctx, tr)
	if err != nil {
		t.Fatal(err)
	}
	atx, err := s.Admin().Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = s.ReadWriteTransaction(ctx, tr, func(ctx context.Context, tx storage.LogTreeTX) error {
		return s.Close() // in the middle of a transaction
	})
	if !errors.Is(err, tlog.ErrClosed) {
		t.Errorf("committing after Close: %v", err)
	}
	_, err = tx.GetLeavesByRange(ctx, 0, 1)
	_, aerr := atx.GetTree(ctx, tr.TreeId)
	for _, err := range []error{err, aerr, tx.Commit(ctx), atx.Commit(), s.CheckDatabaseAccessible(ctx)} {
		if !errors.Is(err, tlog.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if err := errors.Join(tx.Close(), atx.Close(), s.Close()); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	mem := vfs.NewMem()
	s := open(t, mem, "store")
	if _, err := pebblestore.Open("store", pebblestore.Options{FS: mem}); !errors.Is(err, tlog.ErrLocked) {
		t.Errorf("second handle: %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key, value string
		want       error
	}{
		"another format": {"F", "trialog/pebblestore 2", tlog.ErrInvalid},
		"no format mark": {"x", "y", tlog.ErrCorrupt},
	} {
		fs := vfs.NewMem()
		db, err := pebble.Open("store", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatValueSeparation})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set([]byte(c.key), []byte(c.value), pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := pebblestore.Open("store", pebblestore.Options{FS: fs}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	dir := t.TempDir()
	open(t, vfs.Default, dir)
	if _, err := pebblestore.Open(dir, pebblestore.Options{}); !errors.Is(err, tlog.ErrLocked) {
		t.Errorf("second handle on the disk: %v, want ErrLocked", err)
	}
}

// TestFlippedBytes flips a byte in each place of the tables. Reading gives the
// right leaves or ErrCorrupt, never other leaves.
func TestFlippedBytes(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem()
	s := open(t, mem, "store")
	tr := newTree(t, s, testonly.PreorderedLogTree)
	if err := storeRoot(s, tr, 0, 1); err != nil {
		t.Fatal(err)
	}
	var leaves []*trillian.LogLeaf
	for i := range int64(200) {
		leaves = append(leaves, leaf(i, string(binary.BigEndian.AppendUint64(nil, uint64(i)))))
	}
	if _, err := s.AddSequencedLeaves(ctx, tr, leaves, at); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, mem, "store").Close() // opening writes the log's content to a table
	names, err := mem.List("store")
	if err != nil {
		t.Fatal(err)
	}
	caught := 0
	for _, name := range names {
		if filepath.Ext(name) != ".sst" {
			continue
		}
		data, err := mem.UnsafeGetFileDataBuffer(mem.PathJoin("store", name))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(data); i += 1 + len(data)/60 {
			data[i] ^= 0x10
			if readAll(t, mem, tr, leaves) {
				caught++
			}
			data[i] ^= 0x10
		}
	}
	if caught < 30 {
		t.Fatalf("%d flipped bytes were caught", caught)
	}
}

// readAll reports whether corruption was found; wrong leaves fail the test.
func readAll(t *testing.T, fs vfs.FS, tr *trillian.Tree, want []*trillian.LogLeaf) bool {
	t.Helper()
	ctx := context.Background()
	s, err := pebblestore.Open("store", pebblestore.Options{FS: fs})
	if err != nil {
		return true
	}
	defer s.Close() // what it says about the damage is not tested here
	tx, err := s.SnapshotForTree(ctx, tr)
	if err != nil {
		return true
	}
	defer tx.Close()
	got, err := tx.GetLeavesByRange(ctx, 0, 500)
	if err != nil {
		if !errors.Is(err, tlog.ErrCorrupt) {
			t.Errorf("damage was reported as %v", err)
		}
		if s.Err() == nil {
			t.Error("the store takes writes after damage was found")
		}
		return true
	}
	if len(got) != len(want) {
		t.Errorf("%d leaves, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i].LeafValue, want[i].LeafValue) {
			t.Errorf("leaf %d was read wrong", i)
		}
	}
	return false
}
