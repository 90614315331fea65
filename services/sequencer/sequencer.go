package sequencer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/sequencer/ledger"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// Keys of the objects that the sequencer keeps beside the tiles.
const (
	// CheckpointKey holds the newest published note, always cosigned by a quorum.
	CheckpointKey = "checkpoint"
	// candidateKey holds the newest note that the log itself has signed.
	candidateKey = "candidate"
	// BeaconPrefix holds the notes that statements name as beacons, by digest.
	BeaconPrefix = "beacon/"
)

// maxKeys bounds the remembered keys and their enrolments.
const maxKeys = 1024

// Witnesses is what the publisher needs of the witnesses; *witnessing.Pool.
type Witnesses interface {
	Cosign(ctx context.Context, note *checkpoint.Note, prove witnessing.ProveFunc) (*checkpoint.Note, error)
	Probe(ctx context.Context, note *checkpoint.Note) ([]witnessing.WitnessResult, error)
	Unasked(results []witnessing.WitnessResult) bool
}

// Config is everything that a Sequencer works with. It owns none of it.
type Config struct {
	Log    string // name of the TrialLog
	Origin string // of this shard

	Tree     tlog.Log
	Tiles    blob.Store // in a failure domain apart from the tree's
	Register register.Register
	Ledger   *ledger.Ledger
	Witness  Witnesses

	// Policy is the one that the log publishes by.
	Policy *verify.Policy
	// Predecessors are the earlier shards of the log, oldest first.
	Predecessors []Predecessor
	// LogKeys sign checkpoints: Ed25519 and ML-DSA-44, both named Origin.
	LogKeys []*checkpoint.SigningKey
	// PendingKey signs promises, nothing else.
	PendingKey *statement.PrivateKey

	Now    func() time.Time
	Logger *slog.Logger

	// Clock compares the machine's clock with independent sources: verified while
	// most of them agree, an error while most of them disagree, which keeps new
	// statements out. It must be quick, and may be called concurrently. nil: the
	// clock is never compared.
	Clock func() (verified bool, err error)

	Limits Limits

	// commitLedger takes the place of the change's Commit, for tests.
	commitLedger func(*ledger.Change) error
}

// Limits are the sequencer's sizes and times; zero values mean the defaults.
type Limits struct {
	BatchSize  int           // entries of a batch; 2048
	BatchDelay time.Duration // how long a batch waits for company; 5 ms
	Queue      int           // submissions under way up to step 4, over all callers; 16384
	QueueBytes int64         // of memory that they hold; 128 MiB
	Waiting    int           // submissions past step 4 that wait for FINAL; 65536
	// WaitingBytes is the memory that those hold; 64 MiB.
	WaitingBytes int64
	Window       int   // submissions of one stream that are not answered; 8192
	WindowBytes  int64 // of memory that they hold; 32 MiB
	// Interval is the least time between two checkpoints; 100 ms.
	Interval time.Duration
	// RetryQuorum is the pause after a candidate without a quorum; 1 s.
	RetryQuorum time.Duration
	// RetryProbe is the pause between two questions to witnesses at the start;
	// 250 ms.
	RetryProbe time.Duration
	// FinalWait is how long Add waits for FINAL before it answers PENDING; 10 s.
	FinalWait time.Duration
	// Promise is the time within which a pending entry will be in a checkpoint
	// that the log has signed; 60 s.
	Promise time.Duration
}

func (l Limits) withDefaults() Limits {
	setInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	setBytes := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	setTime := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	setInt(&l.BatchSize, 2048)
	setInt(&l.Queue, 16384)
	setInt(&l.Waiting, 65536)
	setInt(&l.Window, 8192)
	setBytes(&l.QueueBytes, 128<<20)
	setBytes(&l.WaitingBytes, 64<<20)
	setBytes(&l.WindowBytes, 32<<20)
	setTime(&l.BatchDelay, 5*time.Millisecond)
	setTime(&l.Interval, 100*time.Millisecond)
	setTime(&l.RetryQuorum, time.Second)
	setTime(&l.RetryProbe, 250*time.Millisecond)
	setTime(&l.FinalWait, 10*time.Second)
	setTime(&l.Promise, time.Minute)
	return l
}

// Sequencer is a shard's owner. Make it with New, then Run it.
type Sequencer struct {
	c       Config
	log     *slog.Logger
	reader  *tile.Reader
	beacons memo[checkpoint.Hash, *beacon]              // many statements share one
	keys    memo[statement.KeyID, *statement.PublicKey] // that are enrolled
	// enrolled holds entries that enrol keys, by place: every receipt has one. They
	// are held against the tree's leaf hash before they are used.
	enrolled memo[ledger.Place, []byte]
	lineage  []*ancestor      // see Config.Predecessors
	queue    chan *submission // has room for all that intake lets in
	intake   *intake
	turns    *turns
	waiting  budget
	// sentAway counts who found no room, lookup is held by the one of them whose
	// statement is looked for.
	sentAway atomic.Uint64
	lookup   sync.Mutex
	stored   atomic.Uint64 // entries that are past step 2
	durable  atomic.Uint64 // entries that are past step 4
	endsAt   atomic.Uint64 // size of the shard with its last entry; 0 while it goes on
	stopped  atomic.Bool   // Run has returned
	// unpromised: the key for promises has failed to sign the newest one.
	unpromised atomic.Bool

	mu        sync.Mutex
	ready     bool
	ended     bool       // the register is sealed
	refused   error      // why Run has ended
	published *published // the newest published checkpoint; nil before the first
	changed   chan struct{}
}

// published is a checkpoint that a quorum has cosigned.
type published struct {
	note   *checkpoint.Note
	tree   *tile.Tree
	blocks blocks
	// outdated: the quorum was that of an earlier policy. The tree is the log's all
	// the same, but who verifies by the policy of today would refuse the note.
	outdated bool
}

// covers tells whether FINAL can be said of the entry at index.
func (p *published) covers(index uint64) bool { return p.size() > index && !p.outdated }

func (p *published) size() uint64 {
	if p == nil {
		return 0
	}
	return p.tree.Size()
}

func (p *published) isOutdated() bool { return p != nil && p.outdated }

// New checks the configuration and makes a Sequencer.
func New(c Config) (*Sequencer, error) {
	c.Limits = c.Limits.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the default of the clock that is handed in
	}
	if err := statement.CheckLog("log", c.Log); err != nil {
		return nil, fmt.Errorf("sequencer: %w", err)
	}
	if c.Policy.Trust().Log != c.Log {
		return nil, fmt.Errorf("sequencer: the policy is about log %q, not %q", c.Policy.Trust().Log, c.Log)
	}
	if err := c.checkKeys(); err != nil {
		return nil, fmt.Errorf("sequencer: %w", err)
	}
	s := &Sequencer{
		c: c, log: c.Logger.With("origin", c.Origin), reader: tile.NewReader(c.Tiles),
		queue: make(chan *submission, c.Limits.Queue+1), changed: make(chan struct{}),
		intake: newIntake(c.Limits.Queue, c.Limits.QueueBytes, c.Now), turns: newTurns(runtime.GOMAXPROCS(0)),
		waiting: budget{limit: load{c.Limits.Waiting, c.Limits.WaitingBytes}},
	}
	var err error
	if s.lineage, err = newLineage(&c); err != nil {
		return nil, fmt.Errorf("sequencer: %w", err)
	}
	s.beacons.limit, s.keys.limit, s.enrolled.limit = maxBeacons, maxKeys, maxKeys
	return s, nil
}

// checkKeys checks that what the keys sign is what the policy expects. Nothing
// is ever signed with another key, for example one of a wrong file.
func (c *Config) checkKeys() error {
	signs := map[checkpoint.Algorithm]bool{}
	for _, k := range c.LogKeys {
		if k.Verifier().Name() != c.Origin {
			return fmt.Errorf("log key %s is not named like the origin %q", k.Verifier(), c.Origin)
		}
		if !slices.ContainsFunc(c.Policy.Notes().Logs(), func(l checkpoint.LogEntry) bool {
			return l.Key.String() == k.Verifier().String()
		}) {
			return fmt.Errorf("the policy does not name the log key %s", k.Verifier())
		}
		signs[k.Verifier().Algorithm()] = true
	}
	if !signs[checkpoint.AlgEd25519] || !signs[checkpoint.AlgMLDSA44] {
		return errors.New("the log needs an Ed25519 and an ML-DSA-44 key")
	}
	if !slices.ContainsFunc(c.Policy.Trust().PendingKeys, func(k *statement.PublicKey) bool {
		return k.ID() == c.PendingKey.ID()
	}) {
		return fmt.Errorf("the policy does not name the key %s, which signs promises", c.PendingKey.ID())
	}
	return nil
}

// Run starts the shard, and works until ctx ends or something happens that only
// a restart can resolve. It returns a *RefusedError if nothing may be signed;
// the Sequencer then still answers reads.
func (s *Sequencer) Run(ctx context.Context) error {
	err := s.run(ctx)
	s.mu.Lock()
	s.ready = false
	if s.refused = err; err == nil {
		s.refused = ErrNotReady
	}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.stopped.Store(true)
	s.drain()
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		return nil
	}
	return err
}

func (s *Sequencer) run(ctx context.Context) error {
	start, err := s.start(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.stored.Store(start.root.Size)
	s.durable.Store(start.root.Size)
	if start.ended {
		s.endsAt.Store(start.root.Size)
	}
	grown := make(chan tlog.Root, 1)
	if start.root.Size > start.registered.Size || s.head().size() < start.root.Size || s.head().isOutdated() {
		grown <- start.root
	}
	var work sync.WaitGroup
	work.Go(func() {
		cancel(newWriter(s, start, grown).run(ctx))
	})
	for _, a := range s.lineage {
		if a.final.Load().isOutdated() {
			work.Go(func() { s.awaitRenewal(ctx, a) })
		}
	}
	work.Go(func() {
		p := &publisher{s: s, tiles: start.tiles, registered: start.registered, grown: grown, settled: start.settled}
		cancel(p.run(ctx))
	})
	s.mu.Lock()
	s.ready, s.ended = true, start.registered.Sealed
	s.mu.Unlock()
	s.log.Info("sequencer ready", "size", start.root.Size, "registered", start.registered.Size, "published", s.head().size())
	<-ctx.Done()
	work.Wait()
	return context.Cause(ctx)
}

// Ready returns nil if statements are taken in, else why not: a *RefusedError,
// ErrEnded, or ErrNotReady.
func (s *Sequencer) Ready() error {
	s.mu.Lock()
	ready, ended, refused := s.ready, s.ended, s.refused
	s.mu.Unlock()
	switch {
	case refused != nil:
		return refused
	case !ready:
		return ErrNotReady
	case ended:
		return ErrEnded
	}
	_, err := s.clock()
	return err
}

// clock tells whether the time is known to be right. The error is a
// *RefusedError, and is gone as soon as the sources agree again.
func (s *Sequencer) clock() (verified bool, err error) {
	if s.c.Clock == nil {
		return false, nil
	}
	verified, err = s.c.Clock()
	if err != nil {
		return false, refuse(Clock, "%w", err)
	}
	return verified, nil
}

// end notes that the register is sealed.
func (s *Sequencer) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

// Checkpoint returns the newest published note; nil before the first one.
func (s *Sequencer) Checkpoint() *checkpoint.Note {
	if head := s.head(); head != nil {
		return head.note
	}
	return nil
}

func (s *Sequencer) head() *published {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published
}

// publish makes p the newest published checkpoint and wakes who waits for it.
func (s *Sequencer) publish(p *published) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = p
	close(s.changed)
	s.changed = make(chan struct{})
}

// watch returns the newest published checkpoint, a channel that is closed when
// there is a newer one or Run has ended, and why it has.
func (s *Sequencer) watch() (*published, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published, s.changed, s.refused
}

// waitPublished waits until a published checkpoint holds index.
func (s *Sequencer) waitPublished(ctx context.Context, index uint64) (*published, error) {
	for {
		p, changed, refused := s.watch()
		if p.covers(index) {
			return p, nil
		}
		if refused != nil {
			return nil, ErrNotReady
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Sequencer) commitLedger(change *ledger.Change) error {
	if s.c.commitLedger != nil {
		return s.c.commitLedger(change)
	}
	return change.Commit()
}

// drain answers what waits in the queue when nobody will take it any more.
func (s *Sequencer) drain() {
	for {
		select {
		case sub := <-s.queue:
			s.answer(sub, outcome{err: ErrNotReady})
		default:
			return
		}
	}
}

// answer ends a submission's way and gives its room back.
func (s *Sequencer) answer(sub *submission, out outcome) {
	s.intake.release(sub.ticket)
	sub.done(out)
}
