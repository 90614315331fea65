package trillian_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/trialog/trialog/services/internal/tlog"
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

func reportLeaves(b *testing.B, n uint64) {
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "leaves/s")
}

// BenchmarkAppendIntegrate is one batch after the other, each durable and
// integrated before the next.
func BenchmarkAppendIntegrate(b *testing.B) {
	ctx := context.Background()
	l := mustOpen(b, vfs.Default, b.TempDir(), nil)
	defer l.Close()
	rng := rand.NewChaCha8([32]byte{1})
	leaves := make([]tlog.Leaf, benchBatch)
	var size uint64
	for b.Loop() {
		benchLeaves(leaves, size, rng)
		if err := l.Append(ctx, size, leaves); err != nil {
			b.Fatal(err)
		}
		if _, err := l.Integrate(ctx); err != nil {
			b.Fatal(err)
		}
		size += benchBatch
	}
	reportLeaves(b, size)
}

// BenchmarkAppendIntegratePipelined appends a batch while the one before it is
// integrated.
func BenchmarkAppendIntegratePipelined(b *testing.B) {
	ctx := context.Background()
	l := mustOpen(b, vfs.Default, b.TempDir(), nil)
	defer l.Close()
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
	reportLeaves(b, size)
}

// BenchmarkLeaves reads a batch back and proves it to be in the log.
func BenchmarkLeaves(b *testing.B) {
	ctx := context.Background()
	l := mustOpen(b, vfs.Default, b.TempDir(), nil)
	defer l.Close()
	leaves := make([]tlog.Leaf, 16*benchBatch)
	benchLeaves(leaves, 0, rand.NewChaCha8([32]byte{1}))
	if err := l.Append(ctx, 0, leaves); err != nil {
		b.Fatal(err)
	}
	if _, err := l.Integrate(ctx); err != nil {
		b.Fatal(err)
	}
	var n uint64
	for b.Loop() {
		got, err := l.Leaves(ctx, n%(15*benchBatch), benchBatch)
		if err != nil || len(got) != benchBatch {
			b.Fatal(len(got), err)
		}
		n += benchBatch
	}
	reportLeaves(b, n)
}
