package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/trialog/trialog/api/checkpoint"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/blob/bucket"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer"
	"github.com/trialog/trialog/services/sequencer/ledger"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// shard is one shard with everything that it works with.
type shard struct {
	place    config.Shard
	tiles    blob.Store
	register register.Register
	log      *slog.Logger
	closers  []func() error

	// Of a shard that has ended, and has a successor, there is only what is read.
	tree     tlog.Log
	seq      *sequencer.Sequencer
	client   trialogv1.SequencerServiceClient // of seq, within the process
	server   *grpc.Server
	listener *bufconn.Listener
}

// openShard opens the shard at place. Its predecessors, oldest first, are open.
func (e *engine) openShard(ctx context.Context, place config.Shard, last bool) (_ *shard, err error) {
	sh := &shard{place: place, log: e.log.With("shard", place.Name())}
	defer func() {
		if err != nil {
			sh.close()
		}
	}()
	reg, err := openRegister(ctx, place)
	if errors.Is(err, register.ErrOwned) {
		return nil, fmt.Errorf("%s: %w", sequencer.Owned, err)
	} else if err != nil {
		return nil, err
	}
	sh.register = reg
	sh.closers = append(sh.closers, reg.Close)
	tiles, err := bucket.Open(ctx, place.Tiles)
	if err != nil {
		return nil, err
	}
	sh.tiles = tiles
	sh.closers = append(sh.closers, tiles.Close)
	if record, err := reg.Read(ctx); err == nil && record.Sealed && !last {
		return sh, nil
	}
	return sh, e.openSequencer(ctx, sh)
}

func (e *engine) openSequencer(ctx context.Context, sh *shard) error {
	c := sequencer.Config{
		Log: e.c.Log, Origin: sh.place.Origin, Policy: e.policy, PendingKey: e.pendingKey, Now: e.now, Logger: sh.log,
		Register: sh.register, Tiles: sh.tiles, Predecessors: e.predecessors(), Clock: e.clock,
	}
	for _, file := range []string{logKeyEd25519, logKeyMLDSA} {
		k, err := readLogKey(filepath.Join(sh.place.Keys, file))
		if err != nil {
			return err
		}
		c.LogKeys = append(c.LogKeys, k)
	}
	tree, err := openTree(ctx, sh.place, e.now, sh.log)
	if errors.Is(err, tlog.ErrNotFound) {
		// Init made a tree: a store without one is another store.
		err = &sequencer.RefusedError{
			Reason: sequencer.Rollback, Err: fmt.Errorf("the store holds no log of origin %q", sh.place.Origin),
		}
	}
	if errors.Is(err, tlog.ErrOwned) {
		return fmt.Errorf("%s: %w", sequencer.Owned, err)
	}
	if err != nil {
		return err
	}
	sh.closers = append(sh.closers, tree.Close)
	sh.tree, c.Tree = tree, tree
	// The ledger may be deleted at any time; its store would make the folder for
	// everybody to read.
	if err := makeFolder(sh.place.Ledger); err != nil {
		return err
	}
	book, err := ledger.Open(sh.place.Ledger, sh.log)
	if err != nil {
		return err
	}
	sh.closers = append(sh.closers, book.Close)
	c.Ledger = book
	if c.Witness, err = e.openPool(sh); err != nil {
		return err
	}
	if sh.seq, err = sequencer.New(c); err != nil {
		return err
	}
	return sh.connect()
}

// openPool makes the pool of the witnesses that cosign the shard's checkpoints at
// once. Witnesses that are asked at anchor pace are left out, and so are keys that
// the policy has retired: they do not count for anything new.
func (e *engine) openPool(sh *shard) (*witnessing.Pool, error) {
	pool, err := witnessing.New(witnessing.Config{
		Policy: e.policy.Notes(), Now: e.now, Logger: sh.log,
		Without: func(w checkpoint.WitnessEntry) bool { return e.anchors.holds(w.Key) || e.retired(w.Key) },
	})
	if err != nil {
		return nil, err
	}
	sh.closers = append(sh.closers, pool.Close)
	return pool, nil
}

// retired tells whether the policy has retired a witness's key.
func (e *engine) retired(key *checkpoint.VerifierKey) bool {
	return slices.ContainsFunc(e.policy.Trust().Retired, func(r verify.Retired) bool { return r.Key.String() == key.String() })
}

// renewal returns the part that has the last checkpoint of a shard without a
// sequencer cosigned anew, should the policy have changed.
func (e *engine) renewal(sh *shard) (run.Part, error) {
	pool, err := e.openPool(sh)
	if err != nil {
		return run.Part{}, err
	}
	r := &sequencer.Renewal{
		Origin: sh.place.Origin, Tiles: sh.tiles, Register: sh.register, Witness: pool, Policy: e.policy, Logger: sh.log,
	}
	return run.Part{Name: "renewal " + sh.place.Name(), Run: r.Run}, nil
}

// connect makes the sequencer's gRPC service reachable within the process.
func (sh *shard) connect() error {
	sh.listener = bufconn.Listen(1 << 20)
	// Calls use the stores, so Stop waits for them before the stores are closed.
	sh.server = grpc.NewServer(append(sequencer.ServerOptions(), grpc.MaxConcurrentStreams(1<<16), grpc.WaitForHandlers(true))...)
	sh.seq.Register(sh.server)
	conn, err := grpc.NewClient("passthrough:///sequencer",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return sh.listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	sh.closers = append(sh.closers, conn.Close)
	sh.client = trialogv1.NewSequencerServiceClient(conn)
	return nil
}

// opened tells whether a checkpoint of the shard is published.
func (sh *shard) opened() bool { return sh.seq == nil || sh.seq.Checkpoint() != nil }

// run works until ctx ends, and has ended everything that uses the stores when
// it returns. A sequencer that refuses, or has ended its shard, does not end the
// process: verified reads go on.
func (sh *shard) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer sh.server.Stop()
	defer cancel()
	work.Go(func() { _ = sh.server.Serve(sh.listener) }) // ends with Stop
	err := sh.seq.Run(ctx)
	var refused *sequencer.RefusedError
	switch {
	case errors.Is(err, sequencer.ErrEnded):
		sh.log.Info("the shard has ended")
	case errors.As(err, &refused) && refused.Reason != sequencer.Failed:
		sh.log.Error("the log refuses to sign", "reason", refused.Reason, "detail", refused.Err)
	default:
		return err
	}
	<-ctx.Done()
	return nil
}

// close closes everything that was opened, the newest first.
func (sh *shard) close() {
	for _, c := range slices.Backward(sh.closers) {
		if err := c(); err != nil {
			sh.log.Error("close", "error", err)
		}
	}
	sh.closers = nil
}
