package postgresstore_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/trillian/integration/storagetest"
	"github.com/google/trillian/storage"
	"github.com/google/trillian/storage/testonly"

	"github.com/trialog/trialog/internal/pgtest"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/postgresstore"
	"github.com/trialog/trialog/services/internal/tlog/tlogtest"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

const origin = "log.example/2026"

var shared pgtest.Shared

// TestMain lets the test binary be the child that TestStopped stops.
func TestMain(m *testing.M) {
	if url := os.Getenv(childEnv); url != "" {
		fmt.Fprintln(os.Stderr, child(url))
		os.Exit(1) //nolint:forbidigo // this is the main of the child
	}
	defer shared.Close()
	m.Run()
}

// openStore opens a database for the length of the test.
func openStore(t testing.TB, url string, opts postgresstore.Options) *postgresstore.Store {
	t.Helper()
	s, err := postgresstore.Create(context.Background(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// openLog opens the log in a database; Close closes the store too.
func openLog(t testing.TB, url string, change func(*trillian.Config)) (*trillian.Log, error) {
	t.Helper()
	ctx := context.Background()
	s, err := postgresstore.Create(ctx, url, postgresstore.Options{})
	if err != nil {
		return nil, err
	}
	cfg := trillian.Config{Storage: s, Admin: s.Admin(), Origin: origin, Create: true, CloseStorage: s.Close}
	if change != nil {
		change(&cfg)
	}
	l, err := trillian.Open(ctx, cfg)
	if err != nil {
		if cerr := s.Close(); cerr != nil {
			t.Errorf("closing the store: %v", cerr)
		}
		return nil, err
	}
	return l, nil
}

func mustOpen(t testing.TB, url string, change func(*trillian.Config)) *trillian.Log {
	t.Helper()
	l, err := openLog(t, url, change)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSuite(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*trillian.Config)
	}{
		{"Plain", nil},
		{"SmallBatchesAndClockRunsBackwards", func(c *trillian.Config) {
			c.BatchLimit = 7
			var mu sync.Mutex
			now := time.Unix(2e9, 0)
			c.Now = func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				now = now.Add(-time.Second)
				return now
			}
		}},
	} {
		if (testing.Short() || underRace) && c.change != nil {
			continue // it takes long, and the race detector has seen all of the code by then
		}
		t.Run(c.name, func(t *testing.T) {
			server := shared.Server(t)
			tlogtest.Run(t, func(t *testing.T) tlogtest.Opener {
				url := server.Database(t)
				return func(t *testing.T) tlog.Log { return mustOpen(t, url, c.change) }
			})
		})
	}
}

// queueLeaves is what Trillian's provider calls for LOG trees, which only its
// suites use: a function of its schema that ours leaves out.
const queueLeaves = `CREATE FUNCTION queue_leaves() RETURNS SETOF bytea LANGUAGE sql AS $$
	INSERT INTO LeafData (TreeId, LeafIdentityHash, LeafValue, ExtraData, QueueTimestampNanos)
		SELECT TreeId, LeafIdentityHash, LeafValue, ExtraData, QueueTimestampNanos FROM TempQueueLeaves;
	INSERT INTO Unsequenced (TreeId, Bucket, LeafIdentityHash, MerkleLeafHash, QueueTimestampNanos, QueueID)
		SELECT TreeId, 0, LeafIdentityHash, MerkleLeafHash, QueueTimestampNanos, QueueID FROM TempQueueLeaves;
	SELECT LeafIdentityHash FROM TempQueueLeaves WHERE IsDuplicate;
$$`

func TestTrillianLogStorageSuite(t *testing.T) {
	storagetest.RunLogStorageTests(t, func(_ context.Context, t *testing.T) (storage.LogStorage, storage.AdminStorage) {
		s := openForTrillian(t) //nolint:contextcheck // the suite's context is the background
		admin := s.Admin()
		return s, admin
	})
}

func openForTrillian(t *testing.T) *postgresstore.Store {
	t.Helper()
	server := shared.Server(t)
	url := server.Database(t)
	s := openStore(t, url, postgresstore.Options{WholeDequeue: true})
	server.Exec(t, url, "SET check_function_bodies = off", queueLeaves)
	return s
}

func TestTrillianAdminStorageSuite(t *testing.T) {
	server := shared.Server(t)
	tester := &testonly.AdminStorageTester{NewAdminStorage: func() storage.AdminStorage {
		return openStore(t, server.Database(t), postgresstore.Options{}).Admin()
	}}
	tester.RunAllTests(t)
}
