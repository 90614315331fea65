package postgresstore_test

import (
	"bytes"
	"context"
	"strconv"
	"testing"
	"time"

	trillianapi "github.com/google/trillian"
	"github.com/google/trillian/log"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/postgresql"
	"github.com/google/trillian/storage/testonly"
	"github.com/google/trillian/types"
	"github.com/google/trillian/util/clock"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/transparency-dev/merkle/compact"

	"github.com/trialog/trialog/services/internal/tlog/postgresstore"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

// stock is Trillian's own storage on a database, in sessions that name an epoch.
func stock(t *testing.T, database, epoch string) (storage.LogStorage, *trillianapi.Tree) {
	t.Helper()
	ctx := context.Background()
	cfg, err := pgxpool.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	if epoch != "" {
		cfg.ConnConfig.RuntimeParams["trialog.epoch"] = epoch
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	all, err := storage.ListTrees(ctx, postgresql.NewAdminStorage(pool), false)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d trees, %v", len(all), err)
	}
	return postgresql.NewLogStorage(pool, nil), all[0]
}

// TestTrillianReadsIt: Trillian's own provider finds in the tables what was put
// there, integrates what was appended, and writes nothing unless it is the owner.
func TestTrillianReadsIt(t *testing.T) {
	ctx := context.Background()
	database := shared.Server(t).Database(t)
	l := mustOpen(t, database, func(c *trillian.Config) { c.BatchLimit = 100 })
	all := tlogtest.Leaves(0, 700)
	var m tlogtest.Tree
	m.Add(t, all...)
	if err := l.Append(ctx, 0, all[:600]); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Integrate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(ctx, 600, all[600:]); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	stranger, tree := stock(t, database, "")
	compare(t, stranger, tree, &m, 600)
	if n, err := log.IntegrateBatch(ctx, tree, 100, 0, 0, clock.System, stranger, quota.Noop()); err == nil {
		t.Fatalf("somebody who is not the owner integrated %d leaves", n)
	}
	compare(t, stranger, tree, &m, 600)
	owner, _ := stock(t, database, strconv.Itoa(count(t, database, `SELECT Epoch FROM TrialogOwner`)))
	if n, err := log.IntegrateBatch(ctx, tree, 1000, 0, 0, clock.System, owner, quota.Noop()); err != nil || n != 100 {
		t.Fatalf("Trillian's provider integrated %d leaves, %v", n, err)
	}
	compare(t, stranger, tree, &m, 700)
	l = mustOpen(t, database, nil)
	tlogtest.CheckWhole(t, l, all)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// compare reads root, right edge and leaves.
func compare(t *testing.T, s storage.LogStorage, tree *trillianapi.Tree, m *tlogtest.Tree, size uint64) {
	t.Helper()
	ctx := context.Background()
	tx, err := s.SnapshotForTree(ctx, tree)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	slr, err := tx.LatestSignedLogRoot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(slr.LogRoot); err != nil {
		t.Fatal(err)
	}
	if want := m.Root(t, size); root.TreeSize != size || !bytes.Equal(root.RootHash, want.Hash[:]) {
		t.Fatalf("root %d %x, want %d %x", root.TreeSize, root.RootHash, size, want.Hash)
	}
	ids := compact.RangeNodes(0, size, nil)
	if nodes, err := tx.GetMerkleNodes(ctx, ids); err != nil || len(nodes) != len(ids) {
		t.Fatalf("%d of %d nodes, %v", len(nodes), len(ids), err)
	}
	leaves, err := tx.GetLeavesByRange(ctx, 0, int64(size))
	if err != nil || len(leaves) != int(size) {
		t.Fatalf("%d of %d leaves, %v", len(leaves), size, err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestHeadsArePruned keeps the newest roots, whatever their number.
func TestHeadsArePruned(t *testing.T) {
	ctx := context.Background()
	database := shared.Server(t).Database(t)
	s := openStore(t, database, postgresstore.Options{KeepHeads: 5})
	l, err := trillian.Open(ctx, trillian.Config{Storage: s, Admin: s.Admin(), Origin: origin, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	_, tree := stock(t, database, "")
	const heads = `SELECT count(*) FROM TreeHead`
	var size uint64
	grow := func() {
		if err := l.Append(ctx, size, tlogtest.Leaves(size, 1)); err != nil {
			t.Fatal(err)
		}
		size++
		if _, err := l.Integrate(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		grow()
	}
	if err := s.PruneHeads(ctx, tree.TreeId); err != nil {
		t.Fatal(err)
	}
	if n := count(t, database, heads); n != 4 {
		t.Fatalf("%d of 4 roots are left, at least 5 are kept", n)
	}
	for range 40 {
		grow()
	}
	for end := time.Now().Add(time.Minute); count(t, database, heads) > 12; {
		if time.Now().After(end) {
			t.Fatalf("%d roots are left behind 40 integrations", count(t, database, heads))
		}
	}
	if err := s.PruneHeads(ctx, tree.TreeId); err != nil {
		t.Fatal(err)
	}
	if n := count(t, database, `SELECT max(TreeSize) - min(TreeSize) + count(*) FROM TreeHead`); n != 4+5 {
		t.Fatalf("the roots left are not the newest 5: %d", n)
	}
	if n := count(t, database, `SELECT max(TreeSize) FROM TreeHead`); n != int(size) {
		t.Fatalf("the newest root has size %d, want %d", n, size)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNotNewer refuses a root that is not newer than the last.
func TestNotNewer(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, shared.Server(t).Database(t), postgresstore.Options{})
	tree, err := storage.CreateTree(ctx, s.Admin(), testonly.PreorderedLogTree)
	if err != nil {
		t.Fatal(err)
	}
	nothing := func() {}
	if err := writeRoot(s, tree, 7, nothing, nothing); err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint64{0, 6, 7} {
		if err := writeRoot(s, tree, size, nothing, nothing); err == nil {
			t.Errorf("a root of size %d after one of size 7", size)
		}
	}
	if err := writeRoot(s, tree, 8, nothing, nothing); err != nil {
		t.Fatal(err)
	}
}
