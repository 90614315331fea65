package fsck

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/tile"
	"github.com/trialog/trialog/api/verify"
)

// Config says what to check and by what. Source is required, and Policy or Head.
type Config struct {
	Source Source
	// Policy judges the object "checkpoint". Its log's name is what every
	// statement must be meant for.
	Policy *verify.Policy
	// Head is believed instead of the object "checkpoint", which is not read
	// then: for who has the tree head from elsewhere.
	Head *checkpoint.Checkpoint
	// Origin is that of the shard to be checked; empty: whichever of the policy.
	Origin string
	// Expect is what the caller holds of the log from earlier: a cosigned
	// checkpoint note, or a receipt. The log must extend it.
	Expect []byte
	// Copies are further copies of the same log. They serve to find the exact
	// byte of a wrong entry, and are not checked.
	Copies []Source
	// From and To restrict the check to the bundles and tiles that hold entries
	// From ≤ index < To, and to what is above them; To 0: to the end. It implies
	// TreeOnly, and leaves Expect out.
	From, To uint64
	// Shallow leaves out the signatures of statements: the tree and the order of
	// the statements are checked all the same, at several times the speed.
	Shallow bool
	// TreeOnly leaves out what the entries say: for entries that are no
	// statements.
	TreeOnly bool
	// Workers is how many bundles are checked at a time; 0: one for each
	// processor.
	Workers int
	// Progress is told, now and then, how many of the entries were checked. It is
	// called by one goroutine at a time.
	Progress func(done, total uint64)
	// OnBundle is shown what is trusted of each bundle, in the order of the log, by
	// one goroutine at a time: for who holds other copies of the entries against
	// it. An error ends the check.
	OnBundle func(Bundle) error
	// OnTile is shown the trusted hashes of each hash tile of level 1 and above
	// and of the growing tile of level 0, by one goroutine at a time.
	OnTile func(p tile.Path, hashes []Trusted)
	// OnFinding is shown findings as they come up, in no particular order, by one
	// goroutine at a time. If it returns false the check ends early.
	OnFinding func(Finding) bool
}

// Bundle is what the signed root supports of a bundle.
type Bundle struct {
	First  uint64 // index of the first entry
	Leaves []Trusted
	// Entries are the entries that are right, at their places; nil where the
	// stored one is wrong.
	Entries [][]byte
}

// Report is the outcome. Two checks of the same bytes give the same report.
type Report struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"` // hexadecimal
	// NoteDigest is the SHA-256 of the checkpoint note, in hexadecimal; empty
	// with Config.Head.
	NoteDigest string `json:"noteDigest,omitempty"`
	// Repaired tells that the checkpoint was damaged and that what is reported
	// follows from the one that its signatures support.
	Repaired bool `json:"repaired,omitempty"`
	// Complete is false if the check ended before everything was looked at.
	Complete bool   `json:"complete"`
	Entries  uint64 `json:"entries"` // found right
	Objects  uint64 `json:"objects"` // read
	Bytes    uint64 `json:"bytes"`
	// Signatures is how many signatures of statements were verified.
	Signatures uint64 `json:"signatures"`
	// Findings is what is wrong, sorted by place; never nil.
	Findings []Finding `json:"findings"`
	// Notes is what is worth knowing and wrong in nobody's terms.
	Notes []Finding `json:"notes,omitempty"`

	first, last *facts // for the links between shards
}

// Clean tells whether everything was looked at and nothing is wrong.
func (r *Report) Clean() bool { return r.Complete && len(r.Findings) == 0 }

// Add adds what else was found about the same log.
func (r *Report) Add(findings, notes []Finding) {
	for _, list := range [][]Finding{findings, notes} {
		for i := range list {
			list[i].Shard = r.Origin
		}
	}
	r.Findings = sorted(append(r.Findings, findings...))
	r.Notes = sorted(append(r.Notes, notes...))
}

// errStopped ends a check when the caller has seen enough.
var errStopped = errors.New("the caller has seen enough")

// Check checks one shard. An error means that it could not be checked: the
// source does not answer, or the configuration makes no sense. Whatever is wrong
// with the log is in the report.
func Check(ctx context.Context, cfg Config) (*Report, error) {
	var log string
	if cfg.Policy != nil {
		log = cfg.Policy.Trust().Log
	}
	return check(ctx, cfg, newHistory(log))
}

func check(ctx context.Context, cfg Config, past *history) (*Report, error) {
	if cfg.Source == nil || cfg.Policy == nil && cfg.Head == nil {
		return nil, errors.New("check the log: a source and a policy are required")
	}
	if cfg.From > 0 || cfg.To > 0 {
		cfg.TreeOnly, cfg.Expect = true, nil
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	c := &checker{cfg: cfg, report: &Report{Origin: cfg.Origin, Findings: []Finding{}}}
	c.reader.source = cfg.Source
	ctx, c.stop = context.WithCancelCause(ctx)
	defer c.stop(nil)
	err := c.run(ctx, past)
	if errors.Is(context.Cause(ctx), errStopped) {
		err = nil
	}
	r := c.report
	r.Objects, r.Bytes = c.reader.objects.Load(), c.reader.bytes.Load()
	findings, notes := r.Findings, r.Notes
	r.Findings, r.Notes = []Finding{}, nil
	r.Add(findings, notes)
	if err != nil {
		return r, fmt.Errorf("check the log: %w", err)
	}
	return r, nil
}

// checker is one run of Check.
type checker struct {
	cfg    Config
	reader reader
	stop   context.CancelCauseFunc

	mu     sync.Mutex // guards report while workers run
	report *Report
}

func (c *checker) find(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Findings = append(c.report.Findings, f)
	if c.cfg.OnFinding != nil && !c.cfg.OnFinding(f) {
		c.stop(errStopped)
	}
}

func (c *checker) note(f Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Notes = append(c.report.Notes, f)
}

func (c *checker) run(ctx context.Context, past *history) error {
	head, err := c.head(ctx)
	if err != nil || head == nil {
		return err
	}
	c.report.Origin, c.report.Size, c.report.Root = head.Origin, head.Size, hexOf(hash(head.Root))
	expect, err := c.expected(head)
	if err != nil {
		return err
	}
	if err := c.tree(ctx, head, past, expect); err != nil {
		return err
	}
	if expect != nil {
		expect.judge(c.find)
	}
	c.report.Complete = ctx.Err() == nil
	return nil
}

// future is the outcome of a leafTask, to be taken in the order of the log.
type future chan outcome

type outcome struct {
	facts  []facts
	sound  uint64
	bundle Bundle
	err    error
}

// tree walks the tree: one goroutine settles hash tiles, the workers check
// bundles, and this one takes what they found in the order of the log.
func (c *checker) tree(ctx context.Context, head *checkpoint.Checkpoint, past *history, expect *expectation) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	trace := func(p tile.Path, hashes []Trusted) {
		expect.see(p, hashes)
		if c.cfg.OnTile != nil {
			c.cfg.OnTile(p, hashes)
		}
	}
	l := &leaves{reader: &c.reader, report: c.find, trace: expect.see}
	l.budget.Store(1 << 31)
	for _, s := range c.cfg.Copies {
		l.copies = append(l.copies, &reader{source: s})
	}
	order := make(chan future, 2*c.cfg.Workers)
	slots := make(chan struct{}, c.cfg.Workers)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	w := &walker{reader: &c.reader, size: head.Size, root: hash(head.Root), report: c.find, trace: trace, from: c.cfg.From, to: c.cfg.To}
	w.next = func(task leafTask) error {
		done := make(future, 1)
		select {
		case order <- done:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		workers.Go(func() {
			defer func() { <-slots }()
			done <- c.leaf(ctx, l, task)
		})
		return nil
	}
	walked := make(chan error, 1)
	go func() {
		defer close(order)
		walked <- w.walk(ctx)
	}()
	err := c.collect(ctx, order, head, past)
	if err != nil {
		cancel()
	}
	return errors.Join(err, <-walked)
}

func (c *checker) leaf(ctx context.Context, l *leaves, task leafTask) outcome {
	entries, hashes, err := l.check(ctx, task)
	o := outcome{err: err, sound: uint64(len(entries))}
	if c.cfg.OnBundle != nil {
		o.bundle = Bundle{First: task.index * tile.FullWidth, Leaves: hashes, Entries: make([][]byte, len(hashes))}
		for _, e := range entries {
			o.bundle.Entries[e.index%tile.FullWidth] = e.raw
		}
	}
	if c.cfg.TreeOnly {
		return o
	}
	for _, e := range entries {
		o.facts = append(o.facts, read(e, !c.cfg.Shallow))
	}
	return o
}

// collect takes outcomes in the order of the log.
func (c *checker) collect(ctx context.Context, order <-chan future, head *checkpoint.Checkpoint, past *history) error {
	h := &shardHistory{
		history: past, size: head.Size, report: c.find, note: c.note,
		work: new(sync.WaitGroup), limit: make(chan struct{}, c.cfg.Workers),
	}
	defer h.work.Wait()
	done := c.cfg.From / tile.FullWidth * tile.FullWidth
	for next := range order {
		var o outcome
		select {
		case o = <-next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if o.err != nil {
			return o.err
		}
		for i := range o.facts {
			c.take(h, &o.facts[i])
		}
		c.report.Entries += o.sound
		if c.cfg.OnBundle != nil {
			if err := c.cfg.OnBundle(o.bundle); err != nil {
				return err
			}
		}
		done = min(done+tile.FullWidth, head.Size)
		if c.cfg.Progress != nil {
			c.cfg.Progress(done, head.Size)
		}
	}
	h.end()
	c.report.Signatures = h.signatures
	return nil
}

func (c *checker) take(h *shardHistory, f *facts) {
	h.take(*f)
	if f.index == 0 {
		c.report.first = f
	}
	if f.index == h.size-1 {
		c.report.last = f
	}
}
