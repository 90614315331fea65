package trillian_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/trillian"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/tree"
	"github.com/google/trillian/types"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/protobuf/proto"

	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
	adapter "github.com/trialog/trialog/services/internal/tlog/trillian"
)

// liar is a storage whose answers can be changed after the fact.
type liar struct {
	adapter.Storage
	leaf  func(*trillian.LogLeaf)
	node  func(*tree.Node)
	root  func(*types.LogRootV1)
	find  func(int64) int64
	drops bool // commits nothing, and says it did
}

func (l *liar) FindIndex(ctx context.Context, t *trillian.Tree, identity []byte) (int64, bool, error) {
	at, found, err := l.Storage.FindIndex(ctx, t, identity)
	if l.find != nil {
		at = l.find(at)
	}
	return at, found, err
}

func (l *liar) AddSequencedLeavesAtomic(ctx context.Context, t *trillian.Tree, leaves []*trillian.LogLeaf, at time.Time) ([]*trillian.QueuedLogLeaf, error) {
	if l.drops {
		last := proto.Clone(leaves[len(leaves)-1]).(*trillian.LogLeaf)
		last.LeafValue = []byte("something else")
		last.MerkleLeafHash = rfc6962.DefaultHasher.HashLeaf(last.LeafValue)
		leaves = append(append([]*trillian.LogLeaf(nil), leaves[:len(leaves)-1]...), last)
	}
	return l.Storage.AddSequencedLeavesAtomic(ctx, t, leaves, at)
}

func (l *liar) SnapshotForTree(ctx context.Context, t *trillian.Tree) (storage.ReadOnlyLogTreeTX, error) {
	tx, err := l.Storage.SnapshotForTree(ctx, t)
	return &liarTX{tx, l}, err
}

type liarTX struct {
	storage.ReadOnlyLogTreeTX
	l *liar
}

func (t *liarTX) GetLeavesByRange(ctx context.Context, start, count int64) ([]*trillian.LogLeaf, error) {
	leaves, err := t.ReadOnlyLogTreeTX.GetLeavesByRange(ctx, start, count)
	for _, leaf := range leaves {
		if t.l.leaf != nil {
			t.l.leaf(leaf)
		}
	}
	return leaves, err
}

func (t *liarTX) GetMerkleNodes(ctx context.Context, ids []compact.NodeID) ([]tree.Node, error) {
	nodes, err := t.ReadOnlyLogTreeTX.GetMerkleNodes(ctx, ids)
	for i := range nodes {
		if t.l.node != nil {
			t.l.node(&nodes[i])
		}
	}
	return nodes, err
}

func (t *liarTX) LatestSignedLogRoot(ctx context.Context) (*trillian.SignedLogRoot, error) {
	slr, err := t.ReadOnlyLogTreeTX.LatestSignedLogRoot(ctx)
	if err != nil || t.l.root == nil {
		return slr, err
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(slr.LogRoot); err != nil {
		return nil, err
	}
	t.l.root(&root)
	slr.LogRoot, err = root.MarshalBinary()
	return slr, err
}

// TestLies changes what the storage answers, and expects ErrCorrupt.
func TestLies(t *testing.T) {
	ctx := context.Background()
	flip := func(b []byte) { b[len(b)-1] ^= 1 }
	otherValue := func(l *trillian.LogLeaf) {
		if l.LeafIndex == 300 { // with a row that is right in itself
			l.LeafValue = []byte("x")
			l.MerkleLeafHash = rfc6962.DefaultHasher.HashLeaf(l.LeafValue)
		}
	}
	leaves := func(l *adapter.Log) error { _, err := l.Leaves(ctx, 290, 20); return err }
	find := func(l *adapter.Log) error { _, _, err := l.Find(ctx, tlogtest.Leaf(300).Identity); return err }
	rootAt := func(l *adapter.Log) error { _, err := l.RootAt(ctx, 300); return err }
	integrate := func(l *adapter.Log) error {
		if err := l.Append(ctx, 600, tlogtest.Leaves(600, 10)); err != nil {
			return err
		}
		_, err := l.Integrate(ctx)
		return err
	}
	for _, c := range []struct {
		name string
		lie  liar
		do   func(*adapter.Log) error
	}{
		{"LeafValue", liar{leaf: func(l *trillian.LogLeaf) { flip(l.LeafValue) }}, leaves},
		{"LeafHash", liar{leaf: func(l *trillian.LogLeaf) { flip(l.MerkleLeafHash) }}, leaves},
		{"LeafIndex", liar{leaf: func(l *trillian.LogLeaf) { l.LeafIndex++ }}, leaves},
		{"LeafIdentitySize", liar{leaf: func(l *trillian.LogLeaf) { l.LeafIdentityHash = nil }}, leaves},
		{"LeafReplaced", liar{leaf: otherValue}, leaves},
		{"LeafReplacedFind", liar{leaf: otherValue}, find},
		{"NodesOfLeaves", liar{node: func(n *tree.Node) { flip(n.Hash) }}, leaves},
		{"NodesOfRoot", liar{node: func(n *tree.Node) { flip(n.Hash) }}, rootAt},
		{"NodeIDs", liar{node: func(n *tree.Node) { n.ID.Index++ }}, rootAt},
		{"FindElsewhere", liar{find: func(at int64) int64 { return at + 1 }}, find},
		{"FindBeyond", liar{find: func(int64) int64 { return 5000 }}, find},
		{"FindNegative", liar{find: func(int64) int64 { return -1 }}, find},
		{"RootHash", liar{root: func(r *types.LogRootV1) { flip(r.RootHash) }}, integrate},
		{"RootBack", liar{root: func(r *types.LogRootV1) { r.TreeSize = 10 }}, integrate},
		{"RootAhead", liar{root: func(r *types.LogRootV1) { r.TreeSize++ }}, integrate},
		{"RootSize", liar{root: func(r *types.LogRootV1) { r.RootHash = r.RootHash[:31] }}, integrate},
		{"StoredAnotherLeaf", liar{drops: true}, integrate},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lie liar
			l := mustOpen(t, vfs.NewMem(), "store", func(cfg *adapter.Config) { //nolint:contextcheck // it is the background's, as ctx is
				lie.Storage = cfg.Storage
				cfg.Storage = &lie
			})
			defer l.Close()
			if err := l.Append(ctx, 0, tlogtest.Leaves(0, 600)); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Integrate(ctx); err != nil {
				t.Fatal(err)
			}
			writes := strings.HasPrefix(c.name, "Root") || c.name == "StoredAnotherLeaf"
			if !writes { // a read must be right before, so that the lie is why it fails
				if err := c.do(l); err != nil {
					t.Fatalf("before the lie: %v", err)
				}
			}
			c.lie.Storage = lie.Storage
			lie = c.lie
			if err := c.do(l); !errors.Is(err, tlog.ErrCorrupt) {
				t.Fatalf("error %v, want ErrCorrupt", err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem()
	for _, c := range []struct {
		name   string
		change func(*adapter.Config)
		want   error
	}{
		{"NoOrigin", func(c *adapter.Config) { c.Origin = "" }, tlog.ErrInvalid},
		{"LongOrigin", func(c *adapter.Config) { c.Origin = strings.Repeat("x", 201) }, tlog.ErrInvalid},
		{"NoStorage", func(c *adapter.Config) { c.Storage = nil }, tlog.ErrInvalid},
		{"NoAdmin", func(c *adapter.Config) { c.Admin = nil }, tlog.ErrInvalid},
		{"NegativeLimit", func(c *adapter.Config) { c.BatchLimit = -1 }, tlog.ErrInvalid},
		{"Absent", func(c *adapter.Config) { c.Create = false }, tlog.ErrNotFound},
	} {
		if _, err := openLog(t, mem, "store", c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	l := mustOpen(t, mem, "store", nil)
	if err := l.Append(ctx, 0, tlogtest.Leaves(0, 5)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Integrate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(t, mem, "store", nil); !errors.Is(err, tlog.ErrLocked) {
		t.Errorf("second handle: %v, want ErrLocked", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(t, mem, "store", func(c *adapter.Config) { c.Origin, c.Create = "another", false }); !errors.Is(err, tlog.ErrNotFound) {
		t.Errorf("another origin: %v, want ErrNotFound", err)
	}
	for name, lie := range map[string]liar{
		"edge": {node: func(n *tree.Node) { n.Hash[0] ^= 1 }},
		"root": {root: func(r *types.LogRootV1) { r.RootHash[0] ^= 1 }},
		"leaf": {leaf: func(l *trillian.LogLeaf) { l.LeafValue[0] ^= 1 }},
	} {
		_, err := openLog(t, mem, "store", func(c *adapter.Config) { lie.Storage, c.Storage = c.Storage, &lie })
		if !errors.Is(err, tlog.ErrCorrupt) {
			t.Errorf("wrong %s: %v, want ErrCorrupt", name, err)
		}
	}
}

// TestClockStepsBack: Trillian refuses a root that is not newer than the last one.
func TestClockStepsBack(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem()
	now := time.Unix(3e9, 0)
	clock := func(c *adapter.Config) { c.Now = func() time.Time { return now } }
	l := mustOpen(t, mem, "store", clock)
	for i := range uint64(6) {
		now = now.Add(-24 * time.Hour)
		if i == 3 { // also the time of the last root of an earlier process
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = mustOpen(t, mem, "store", clock)
		}
		if err := l.Append(ctx, i, tlogtest.Leaves(i, 1)); err != nil {
			t.Fatal(err)
		}
		if root, err := l.Integrate(ctx); err != nil || root.Size != i+1 {
			t.Fatalf("after %d steps back: size %d, %v", i+1, root.Size, err)
		}
	}
	tlogtest.CheckWhole(t, l, tlogtest.Leaves(0, 6))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFrozen: a frozen tree takes nothing, and is read as before.
func TestFrozen(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem()
	l := mustOpen(t, mem, "store", nil)
	if err := l.Append(ctx, 0, tlogtest.Leaves(0, 5)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Integrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, mem, "store", func(c *adapter.Config) {
		trees, err := storage.ListTrees(ctx, c.Admin, false)
		if err != nil || len(trees) != 1 {
			t.Fatalf("%d trees, %v; want the one that was created", len(trees), err)
		}
		if _, err := storage.UpdateTree(ctx, c.Admin, trees[0].TreeId, func(t *trillian.Tree) { t.TreeState = trillian.TreeState_FROZEN }); err != nil {
			t.Fatal(err)
		}
	})
	if err := l.Append(ctx, 5, tlogtest.Leaves(5, 1)); err == nil {
		t.Error("a frozen log took a leaf")
	}
	if _, err := l.Integrate(ctx); err == nil {
		t.Error("a frozen log was integrated")
	}
	tlogtest.CheckWhole(t, l, tlogtest.Leaves(0, 5))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestTornStore cuts the newest write-ahead log at every kind of place. What is
// left must be a prefix of what was stored, whole, with its root: a shorter log,
// which the register refuses, never a wrong one.
func TestTornStore(t *testing.T) {
	ctx := context.Background()
	live := vfs.NewCrashableMem()
	// Few enough for one write-ahead log: older ones are not torn.
	all := tlogtest.Leaves(0, 160)
	l := mustOpen(t, live, "store", nil)
	for n := 0; n < len(all); n += 20 {
		if err := l.Append(ctx, uint64(n), all[n:n+20]); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Integrate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// One state of the disk: a copy of a live store file by file would be none.
	mem := live.CrashClone(vfs.CrashCloneCfg{})
	copyTo := func() *vfs.MemFS {
		dst := vfs.NewMem()
		if _, err := vfs.Clone(mem, dst, "store", "store"); err != nil {
			t.Fatal(err)
		}
		return dst
	}
	path, data := newestLog(t, mem)
	rng := rand.New(rand.NewPCG(5, 6))
	seen := map[uint64]bool{}
	for range 25 {
		torn := copyTo()
		writeFile(t, torn, path, data[:rng.IntN(len(data))])
		after, err := openLog(t, torn, "store", nil)
		if err != nil {
			t.Fatalf("torn log: %v", err)
		}
		root, err := after.Integrate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		seen[root.Size] = true
		tlogtest.CheckWhole(t, after, all[:root.Size])
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) < 3 {
		t.Fatalf("the cuts left only sizes %v", seen)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func newestLog(t *testing.T, fs vfs.FS) (path string, data []byte) {
	t.Helper()
	names, err := fs.List("store")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if filepath.Ext(n) == ".log" {
			path = max(path, fs.PathJoin("store", n))
		}
	}
	return path, readFile(t, fs, path)
}

func readFile(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(t *testing.T, fs vfs.FS, path string, data []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(data)); err != nil { // Write may change its argument
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestQuiet: Trillian's chatter arrives at debug level, in the first logger.
func TestQuiet(t *testing.T) {
	var out bytes.Buffer
	h := adapter.QuietHandler(slog.NewTextHandler(&out, nil))
	slog.New(h).Info("sequenced leaves")
	slog.New(h).Warn("fresh log")
	if out.Len() > 0 {
		t.Errorf("logged %q above debug level", out.String())
	}
	slog.New(h).Error("failed")
	if !strings.Contains(out.String(), "failed") {
		t.Error("an error was swallowed")
	}
}
