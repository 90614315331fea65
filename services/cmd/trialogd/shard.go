package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
	"github.com/trialog/trialog/services/sequencer"
	"github.com/trialog/trialog/services/sequencer/ledger"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// shard is the sequencer with everything that it works with.
type shard struct {
	seq        *sequencer.Sequencer
	client     trialogv1.SequencerServiceClient // of seq, within the process
	tiles      *blob.Dir
	policy     *verify.Policy
	gatewayKey *statement.PrivateKey
	operator   *statement.PrivateKey // recovery key of the operator's organisation
	now        func() time.Time
	log        *slog.Logger
	server     *grpc.Server
	listener   *bufconn.Listener
	closers    []func() error
	enrolled   atomic.Bool
}

// operatorOrganisation is under what name the operator's keys are enrolled.
const operatorOrganisation = "log-operator"

func openShard(ctx context.Context, l layout, s settings, now func() time.Time, logger *slog.Logger) (_ *shard, err error) {
	sh := &shard{now: now, log: logger}
	defer func() {
		if err != nil {
			sh.close(logger)
		}
	}()
	text, err := os.ReadFile(l.policy())
	if err != nil {
		return nil, err
	}
	sidecar, err := os.ReadFile(l.sidecar())
	if err != nil {
		return nil, err
	}
	if sh.policy, err = verify.ParsePolicy(text, sidecar); err != nil {
		return nil, err
	}
	sh.policy = sh.policy.Remembering()
	c := sequencer.Config{Log: s.Log, Origin: s.Origin, Policy: sh.policy, Now: now, Logger: logger}
	if err := sh.openKeys(l, &c); err != nil {
		return nil, err
	}
	if err := sh.openStores(ctx, l, s, &c); err != nil {
		return nil, err
	}
	pool, err := witnessing.New(witnessing.Config{Policy: sh.policy.Notes(), Now: now, Logger: logger})
	if err != nil {
		return nil, err
	}
	sh.closers = append(sh.closers, pool.Close)
	c.Witness = pool
	if sh.seq, err = sequencer.New(c); err != nil {
		return nil, err
	}
	if err := sh.connect(); err != nil {
		return nil, err
	}
	return sh, nil
}

func (sh *shard) openKeys(l layout, c *sequencer.Config) (err error) {
	for _, file := range []string{logKeyEd25519, logKeyMLDSA} {
		k, err := readLogKey(l.key(file))
		if err != nil {
			return err
		}
		c.LogKeys = append(c.LogKeys, k)
	}
	if c.PendingKey, err = readKey(l.key(pendingKey)); err != nil {
		return err
	}
	if sh.operator, err = readKey(l.key(recoveryKey)); err != nil {
		return err
	}
	sh.gatewayKey, err = readKey(l.key(gatewayKey))
	return err
}

func (sh *shard) openStores(ctx context.Context, l layout, s settings, c *sequencer.Config) error {
	reg, err := register.OpenFile(l.register())
	if errors.Is(err, register.ErrOwned) {
		return fmt.Errorf("%s: %w", sequencer.Owned, err)
	} else if err != nil {
		return err
	}
	sh.closers = append(sh.closers, reg.Close)
	c.Register = reg
	store, err := pebblestore.Open(l.store(), pebblestore.Options{Logger: sh.log})
	if err != nil {
		return err
	}
	log, err := trillian.Open(ctx, trillian.Config{
		Storage: store, Admin: store.Admin(), Origin: s.Origin, Now: sh.now, Logger: sh.log, CloseStorage: store.Close,
	})
	if errors.Is(err, tlog.ErrNotFound) {
		// Init made a tree: a store without one is another store.
		err = &sequencer.RefusedError{Reason: sequencer.Rollback, Err: fmt.Errorf("the store holds no log of origin %q", s.Origin)}
	}
	if err != nil {
		return errors.Join(err, store.Close())
	}
	sh.closers = append(sh.closers, log.Close)
	c.Tree = log
	if sh.tiles, err = blob.OpenDir(l.tiles()); err != nil {
		return err
	}
	c.Tiles = sh.tiles
	// The ledger may be deleted at any time; its store would make the folder for
	// everybody to read.
	if err := makeFolder(l.ledger()); err != nil {
		return err
	}
	book, err := ledger.Open(l.ledger(), sh.log)
	if err != nil {
		return err
	}
	sh.closers = append(sh.closers, book.Close)
	c.Ledger = book
	return nil
}

// connect makes the sequencer's gRPC service reachable within the process.
func (sh *shard) connect() error {
	sh.listener = bufconn.Listen(1 << 20)
	// Calls use the stores, so Stop waits for them before the stores are closed.
	sh.server = grpc.NewServer(grpc.MaxConcurrentStreams(1<<16), grpc.WaitForHandlers(true))
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

// run works until ctx ends, and has ended everything that uses the stores when
// it returns. A sequencer that refuses does not end the process: verified reads
// go on, and /readyz says why nothing is taken in.
func (sh *shard) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer sh.server.Stop()
	defer cancel()
	work.Go(func() { _ = sh.server.Serve(sh.listener) }) // ends with Stop
	work.Go(func() { sh.enrolGateway(ctx) })
	err := sh.seq.Run(ctx)
	var refused *sequencer.RefusedError
	if errors.As(err, &refused) && refused.Reason != sequencer.Failed {
		sh.log.Error("the log refuses to sign", "reason", refused.Reason, "detail", refused.Err)
		<-ctx.Done()
		return nil
	}
	return err
}

// ready tells whether statements are taken in.
func (sh *shard) ready() error {
	if err := sh.seq.Ready(); err != nil {
		return err
	}
	if !sh.enrolled.Load() {
		return fmt.Errorf("%w: the gateway's key is not enrolled yet", errStarting)
	}
	return nil
}

// enrolGateway makes the enrolment of the gateway's key the first entry of a new
// log: without it nothing that the gateway receives could be verified.
func (sh *shard) enrolGateway(ctx context.Context) {
	for failures := 0; ; {
		err := sh.tryEnrolment(ctx)
		if err == nil {
			sh.enrolled.Store(true)
			return
		}
		if ctx.Err() != nil {
			return
		}
		// While the sequencer starts, nothing has failed.
		if !errors.Is(err, sequencer.ErrNotReady) {
			sh.log.Warn("the gateway's key is not enrolled yet", "error", err)
			failures++
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(enrolmentPause(failures)):
		}
	}
}

// enrolmentPause is for how long the enrolment is left alone after so many
// failures: witnesses that are down stay down for longer than a moment.
func enrolmentPause(failures int) time.Duration {
	const first, longest = 100 * time.Millisecond, 5 * time.Second
	return min(first<<min(failures, 10), longest)
}

func (sh *shard) tryEnrolment(ctx context.Context) error {
	if err := sh.seq.Ready(); err != nil {
		return errors.Join(sequencer.ErrNotReady, err)
	}
	known, err := sh.seq.Ledger().Key(sh.gatewayKey.ID())
	if err != nil {
		return err
	}
	if known == nil {
		env, err := sh.enrolment()
		if err != nil {
			return err
		}
		if _, err := sh.seq.Add(ctx, sequencer.Request{
			Envelope: env, Granted: []statement.Role{statement.Gateway, statement.Operator},
		}); err != nil {
			return err
		}
	}
	if sh.seq.Checkpoint() == nil {
		return errors.New("no checkpoint is published yet")
	}
	return nil
}

func (sh *shard) enrolment() ([]byte, error) {
	s := &statement.Statement{
		Log: sh.policy.Trust().Log, Organisation: operatorOrganisation, Kind: statement.KindKey,
		Signers: []statement.Signer{{
			Key: sh.gatewayKey.ID(), Meaning: statement.Responsibility,
			At: statement.Date(sh.now().UTC().Format("2006-01-02T15:04:05Z")),
		}},
		Chain: statement.Link{Number: 1}, Subject: statement.SubjectKey, Digest: sh.gatewayKey.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"),
			statement.KeyMember("publicKey", sh.gatewayKey.Public()),
			statement.ListMember("roles", string(statement.Gateway), string(statement.Operator)),
			statement.KeyMember("recovery", sh.operator.Public()),
		},
	}
	payload, err := statement.Build(s)
	if err != nil {
		return nil, err
	}
	env, err := statement.Sign(payload, sh.gatewayKey)
	if err != nil {
		return nil, err
	}
	return env.Bytes(), nil
}

// close closes everything that was opened, the newest first.
func (sh *shard) close(logger *slog.Logger) {
	for _, c := range slices.Backward(sh.closers) {
		if err := c(); err != nil {
			logger.Error("close", "error", err)
		}
	}
	sh.closers = nil
}
