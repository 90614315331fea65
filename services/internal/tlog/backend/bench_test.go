package backend_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trialog/trialog/internal/pgtest"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/backend"
)

const benchBatch = 2048

// benchLeaves refills leaves with values of 300 random bytes and new identities.
func benchLeaves(leaves []tlog.Leaf, first uint64, rng *rand.ChaCha8) {
	for i := range leaves {
		if leaves[i].Value == nil {
			leaves[i].Value = make([]byte, 300)
		}
		rng.Read(leaves[i].Value)
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], first+uint64(i))
		leaves[i].Identity = sha256.Sum256(n[:])
	}
}

// benchServer is set up as a server of this size would be.
func benchServer(b *testing.B) *pgtest.Server {
	return pgtest.New(b, "shared_buffers=1GB", "max_wal_size=8GB")
}

func benchLog(b *testing.B, url string) tlog.Log {
	b.Helper()
	l, err := backend.Create(context.Background(), url, backend.Config{Origin: origin})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkAppendIntegrate appends a batch while the one before it is integrated,
// on each back end; Copy is the rate at which the same rows can be put, durably
// and by batches of the same size, into one table with two unique indexes.
func BenchmarkAppendIntegrate(b *testing.B) {
	b.Run("Pebble", func(b *testing.B) { appendIntegrate(b, benchLog(b, "pebble:"+b.TempDir())) })
	b.Run("Postgres", func(b *testing.B) { appendIntegrate(b, benchLog(b, benchServer(b).Database(b))) })
	b.Run("Copy", copyOnly)
}

// BenchmarkOneLeaf appends a leaf and integrates it, one after the other.
func BenchmarkOneLeaf(b *testing.B) {
	b.Run("Pebble", func(b *testing.B) { oneLeaf(b, benchLog(b, "pebble:"+b.TempDir())) })
	b.Run("Postgres", func(b *testing.B) { oneLeaf(b, benchLog(b, benchServer(b).Database(b))) })
}

func oneLeaf(b *testing.B, l tlog.Log) {
	ctx := context.Background()
	rng := rand.NewChaCha8([32]byte{1})
	leaves := make([]tlog.Leaf, 1)
	var size uint64
	for b.Loop() {
		benchLeaves(leaves, size, rng)
		if err := l.Append(ctx, size, leaves); err != nil {
			b.Fatal(err)
		}
		size++
		if _, err := l.Integrate(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func appendIntegrate(b *testing.B, l tlog.Log) {
	ctx := context.Background()
	rng := rand.NewChaCha8([32]byte{1})
	leaves := make([]tlog.Leaf, benchBatch)
	appended := make(chan struct{}, 1)
	done := make(chan error)
	go func() {
		for range appended {
			if _, err := l.Integrate(ctx); err != nil {
				done <- err
				return
			}
		}
		_, err := l.Integrate(ctx)
		done <- err
	}()
	var size uint64
	for b.Loop() {
		benchLeaves(leaves, size, rng)
		if err := l.Append(ctx, size, leaves); err != nil {
			b.Fatal(err)
		}
		size += benchBatch
		appended <- struct{}{}
	}
	close(appended)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size)/b.Elapsed().Seconds(), "leaves/s")
}

func copyOnly(b *testing.B) {
	ctx := context.Background()
	server := benchServer(b)
	url := server.Database(b)
	server.Exec(b, url, `CREATE TABLE lean (tree BIGINT, seq BIGINT, identity BYTEA, queued BIGINT, value BYTEA,
		PRIMARY KEY (tree, seq), UNIQUE (tree, identity))`)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(ctx)
	rng := rand.NewChaCha8([32]byte{1})
	leaves := make([]tlog.Leaf, benchBatch)
	var size uint64
	for b.Loop() {
		benchLeaves(leaves, size, rng)
		n, err := conn.CopyFrom(ctx, pgx.Identifier{"lean"}, []string{"tree", "seq", "identity", "queued", "value"},
			pgx.CopyFromSlice(len(leaves), func(i int) ([]any, error) {
				return []any{int64(1), int64(size) + int64(i), leaves[i].Identity[:], int64(1), leaves[i].Value}, nil
			}))
		if err != nil || n != benchBatch {
			b.Fatal(n, err)
		}
		size += benchBatch
	}
	b.ReportMetric(float64(size)/b.Elapsed().Seconds(), "leaves/s")
}
