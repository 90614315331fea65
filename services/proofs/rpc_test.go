package proofs_test

import (
	"bytes"
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/proofs"
)

// rpcClient asks over gRPC.
type rpcClient struct {
	trialogv1.ProofServiceClient
}

func (s *service) grpc(t *testing.T) rpcClient {
	t.Helper()
	return rpcClient{trialogv1.NewProofServiceClient(listen(t, s.Proofs, 1)[0])}
}

func (c rpcClient) refresh(t *testing.T, raw []byte) []byte {
	t.Helper()
	resp, err := c.RefreshReceipt(t.Context(), &trialogv1.RefreshReceiptRequest{Receipt: raw})
	if err != nil {
		t.Errorf("refresh: %v", err)
	}
	return resp.GetReceipt()
}

// split cuts hashes that were written one after the other.
func split(t *testing.T, path []byte) []tlog.Hash {
	t.Helper()
	if len(path)%32 != 0 {
		t.Fatalf("a path of %d bytes", len(path))
	}
	var list []tlog.Hash
	for h := range slices.Chunk(path, 32) {
		list = append(list, tlog.Hash(h))
	}
	return list
}

func TestRPCProofs(t *testing.T) {
	t.Parallel()
	old, active, s := twoShards(t)
	c := s.grpc(t)
	roots := map[uint64]tlog.Hash{}
	shard := newShard(t, old.origin)
	shard.mark = old.mark
	for _, size := range []uint64{1, 17, 256, 300} {
		roots[size] = shard.grow(t, size).writer.Root()
	}
	for _, size := range []uint64{0, 1, 17, 256, 300} {
		want := max(size, 1)
		if size == 0 {
			want = 300
		}
		for _, index := range []uint64{0, want / 2, want - 1} {
			p, err := c.GetInclusionProof(t.Context(), &trialogv1.GetInclusionProofRequest{Origin: old.origin, Index: index, Size: size})
			if err != nil {
				t.Fatalf("index %d, size %d: %v", index, size, err)
			}
			leaf := tlog.RecordHash(append(entryAt(index), old.mark...))
			if !bytes.Equal(p.GetLeafHash(), leaf[:]) || p.GetSize() != want || tlog.Hash(p.GetRoot()) != roots[want] {
				t.Errorf("index %d, size %d: %v", index, size, p)
			}
			if err := tlog.CheckRecord(split(t, p.GetPath()), int64(want), roots[want], int64(index), leaf); err != nil {
				t.Errorf("index %d, size %d: %v", index, size, err)
			}
		}
		for first, root := range roots {
			if first > want {
				continue
			}
			p, err := c.GetConsistencyProof(t.Context(), &trialogv1.GetConsistencyProofRequest{Origin: old.origin, First: first, Second: size})
			if err != nil || p.GetSecond() != want || tlog.Hash(p.GetFirstRoot()) != root || tlog.Hash(p.GetSecondRoot()) != roots[want] {
				t.Errorf("%d to %d: %v, %v", first, size, p, err)
				continue
			}
			if err := tlog.CheckTree(split(t, p.GetPath()), int64(want), roots[want], int64(first), root); err != nil {
				t.Errorf("%d to %d: %v", first, size, err)
			}
		}
	}
	p, err := c.GetInclusionProof(t.Context(), &trialogv1.GetInclusionProofRequest{Index: 39})
	if err != nil || p.GetSize() != 40 || tlog.Hash(p.GetRoot()) != tlog.Hash(active.writer.Root()) {
		t.Errorf("without an origin: %v, %v", p, err)
	}
}

func TestRPCCheckpointAndEntries(t *testing.T) {
	t.Parallel()
	old, active, s := twoShards(t)
	c := s.grpc(t)
	for origin, l := range map[string]*testLog{"": active, active.origin: active, old.origin: old} {
		resp, err := c.GetCheckpoint(t.Context(), &trialogv1.GetCheckpointRequest{Origin: origin})
		if err != nil || resp.GetCheckpoint() != string(l.get(t, "checkpoint")) {
			t.Errorf("%q: %v, %v", origin, resp, err)
		}
	}
	for _, r := range []struct{ first, count, want uint64 }{
		{0, 1, 1}, {0, 300, 300}, {0, 1024, 300}, {250, 10, 10}, {255, 2, 2}, {299, 1, 1}, {299, 1024, 1},
	} {
		resp, err := c.GetEntries(t.Context(), &trialogv1.GetEntriesRequest{Origin: old.origin, First: r.first, Count: uint32(r.count)})
		if err != nil || uint64(len(resp.GetEntries())) != r.want || resp.GetFirst() != r.first {
			t.Errorf("%+v: %d, %v", r, len(resp.GetEntries()), err)
			continue
		}
		for i, e := range resp.GetEntries() {
			if !bytes.Equal(e, append(entryAt(r.first+uint64(i)), old.mark...)) {
				t.Errorf("%+v: entry %d differs", r, i)
			}
		}
	}
}

// TestRPCLargeEntries: an answer stays below what a client takes, and goes on
// behind it.
func TestRPCLargeEntries(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	var entries [][]byte
	for i := range 300 {
		entries = append(entries, bytes.Repeat([]byte{byte(i)}, 65_000))
	}
	if _, err := l.writer.Append(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	l.publish(t)
	c := l.serve(t).grpc(t)
	var got [][]byte
	for len(got) < len(entries) {
		resp, err := c.GetEntries(t.Context(), &trialogv1.GetEntriesRequest{First: uint64(len(got)), Count: 1024})
		if err != nil || len(resp.GetEntries()) == 0 {
			t.Fatalf("after %d: %d, %v", len(got), len(resp.GetEntries()), err)
		}
		got = append(got, resp.GetEntries()...)
	}
	for i := range entries {
		if !bytes.Equal(got[i], entries[i]) {
			t.Errorf("entry %d differs", i)
		}
	}
}

// refused checks the code of an error, the field that it names, and the kind.
func refused(t *testing.T, name string, err error, code codes.Code, field, kind string) {
	t.Helper()
	s := status.Convert(err)
	var gotField, gotKind string
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			gotField = d.GetFieldViolations()[0].GetField()
		case *errdetails.ErrorInfo:
			gotKind = d.GetReason()
		}
	}
	if s.Code() != code || gotField != field || gotKind != kind || s.Message() == "" {
		t.Errorf("%s: %v, field %q, kind %q; expected %v, %q, %q", name, err, gotField, gotKind, code, field, kind)
	}
}

func TestRPCRefuses(t *testing.T) {
	t.Parallel()
	old, active, s := twoShards(t)
	c, ctx := s.grpc(t), t.Context()
	inclusion := func(index, size uint64) error {
		_, err := c.GetInclusionProof(ctx, &trialogv1.GetInclusionProofRequest{Index: index, Size: size})
		return err
	}
	consistency := func(first, second uint64) error {
		_, err := c.GetConsistencyProof(ctx, &trialogv1.GetConsistencyProofRequest{First: first, Second: second})
		return err
	}
	entries := func(first uint64, count uint32) error {
		_, err := c.GetEntries(ctx, &trialogv1.GetEntriesRequest{First: first, Count: count})
		return err
	}
	refresh := func(raw []byte) error {
		_, err := c.RefreshReceipt(ctx, &trialogv1.RefreshReceiptRequest{Receipt: raw})
		return err
	}
	other := active.receiptOf(t, 1)
	other.Entry = []byte("another")
	for _, r := range []struct {
		name  string
		err   error
		code  codes.Code
		field string
		kind  string
	}{
		{"index = size", inclusion(40, 0), codes.NotFound, "index", "not-published"},
		{"largest index", inclusion(math.MaxUint64, 0), codes.NotFound, "index", "not-published"},
		{"index = given size", inclusion(20, 20), codes.InvalidArgument, "index", "range"},
		{"size beyond", inclusion(3, 41), codes.NotFound, "size", "not-published"},
		{"largest size", inclusion(3, math.MaxUint64), codes.NotFound, "size", "not-published"},
		{"first beyond", consistency(41, 0), codes.NotFound, "first", "not-published"},
		{"second beyond", consistency(3, 41), codes.NotFound, "second", "not-published"},
		{"first after second", consistency(21, 20), codes.InvalidArgument, "first", "range"},
		{"no entries", entries(0, 0), codes.InvalidArgument, "count", "range"},
		{"too many entries", entries(0, 1025), codes.InvalidArgument, "count", "range"},
		{"entries beyond", entries(40, 1), codes.NotFound, "first", "not-published"},
		{"no receipt", refresh(nil), codes.InvalidArgument, "receipt", "receipt"},
		{"no receipt file", refresh([]byte("x")), codes.InvalidArgument, "receipt", "receipt"},
		{"other entry", refresh(encode(t, other)), codes.NotFound, "entry", "other-entry"},
	} {
		refused(t, r.name, r.err, r.code, r.field, r.kind)
	}
	for name, call := range map[string]func(origin string) error{
		"checkpoint": func(o string) error {
			_, err := c.GetCheckpoint(ctx, &trialogv1.GetCheckpointRequest{Origin: o})
			return err
		},
		"inclusion": func(o string) error {
			_, err := c.GetInclusionProof(ctx, &trialogv1.GetInclusionProofRequest{Origin: o})
			return err
		},
		"consistency": func(o string) error {
			_, err := c.GetConsistencyProof(ctx, &trialogv1.GetConsistencyProofRequest{Origin: o})
			return err
		},
		"entries": func(o string) error {
			_, err := c.GetEntries(ctx, &trialogv1.GetEntriesRequest{Origin: o, Count: 1})
			return err
		},
	} {
		refused(t, name+" of nobody's shard", call("log.example/2024"), codes.NotFound, "origin", "no-such-shard")
		put := old.get(t, "checkpoint")
		old.put(t, "checkpoint", bytes.Replace(put, []byte("\n300\n"), []byte("\n301\n"), 1))
		refused(t, name+" of a bad checkpoint", call(old.origin), codes.Unavailable, "", "unverifiable")
		old.put(t, "checkpoint", put)
	}
}

// TestRPCRefusesDamage flips a bit in each object: no proof leaves that does not
// verify, and the log says where.
func TestRPCRefusesDamage(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 700)
	l.publish(t)
	for _, key := range []string{"tail/0-2", "tail/1-0", "tile/0/000", "tile/0/001", "tile/entries/000", "tail/entries-2"} {
		whole := l.get(t, key)
		bad := bytes.Clone(whole)
		bad[len(bad)/3] ^= 4
		l.put(t, key, bad)
		s := l.serve(t)
		c := s.grpc(t)
		failed := 0
		for index := uint64(0); index < 700; index += 50 {
			_, err := c.GetInclusionProof(t.Context(), &trialogv1.GetInclusionProofRequest{Index: index})
			_, entryErr := c.GetEntries(t.Context(), &trialogv1.GetEntriesRequest{First: index, Count: 50})
			for _, err := range []error{err, entryErr} {
				if err != nil {
					refused(t, key, err, codes.Unavailable, "", "unverifiable")
					failed++
				}
			}
		}
		if line := s.lines.take(); failed == 0 || !strings.Contains(line, object(key)) && !strings.Contains(line, "right edge") {
			t.Errorf("%s: %d refused, logged %q", key, failed, line)
		}
		l.put(t, key, whole)
	}
}

// TestRPCBusy: receipts beyond those that fit in memory are refused for now.
func TestRPCBusy(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 5)
	l.publish(t)
	s := l.serve(t)
	release := s.fillRenewals(t)
	_, err := s.grpc(t).RefreshReceipt(t.Context(), &trialogv1.RefreshReceiptRequest{Receipt: encode(t, l.receiptOf(t, 1))})
	refused(t, "busy", err, codes.Unavailable, "", "busy")
	release()
}

// TestOneLooks: while one request looks for a newer checkpoint, others are
// answered from the one that is held.
func TestOneLooks(t *testing.T) {
	t.Parallel()
	l := newLog(t).grow(t, 5)
	l.publish(t)
	clock := &manual{}
	store := &gate{Store: l.store, open: make(chan struct{}), waits: make(chan struct{}, 100)}
	s := l.serve(t, func(c *proofs.Config) { c.Refresh, c.Now, c.Store = 1, clock.now, store })
	close(store.open)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for len(store.waits) > 0 {
		<-store.waits
	}
	store.block()
	clock.advance()
	done := make(chan int)
	go func() { done <- s.get(t, "/v1/entries/1").Code }()
	<-store.waits // the first one looks, and waits for the store
	for range 3 {
		if code := s.get(t, "/v1/entries/1").Code; code != http.StatusOK {
			t.Errorf("status %d", code)
		}
	}
	close(store.open)
	if code := <-done; code != http.StatusOK {
		t.Errorf("status %d of the one that looked", code)
	}
}

// fillRenewals lets as many receipts be on their way as fit in memory.
func (s *service) fillRenewals(t *testing.T) (release func()) {
	t.Helper()
	const atOnce = 8
	reading, hold := make(chan struct{}), make(chan struct{})
	var open sync.WaitGroup
	for range atOnce {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/receipts:refresh",
			&held{reading, hold, strings.NewReader("x")})
		open.Go(func() { s.handler.ServeHTTP(httptest.NewRecorder(), r) })
		<-reading
	}
	return func() { close(hold); open.Wait() }
}

// manual is a clock that a test moves.
type manual struct{ at atomic.Int64 }

func (m *manual) now() time.Time { return time.Unix(m.at.Load(), 0) }

func (m *manual) advance() { m.at.Add(1) }

// gate is a Store whose reads wait while it is closed.
type gate struct {
	blob.Store

	mu    sync.Mutex
	open  chan struct{}
	waits chan struct{}
}

// block closes the gate.
func (g *gate) block() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) Get(ctx context.Context, key string) ([]byte, error) {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if key == "checkpoint" {
		g.waits <- struct{}{}
		<-open
	}
	return g.Store.Get(ctx, key)
}
