package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/commit"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/backend"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// fillOptions say how far a log is filled.
type fillOptions struct {
	data  string
	to    uint64
	bytes int
	limit time.Duration
}

func (p *program) newFill() *cobra.Command {
	var o fillOptions
	cmd := &cobra.Command{
		Use:   "fill",
		Short: "Fill a stopped log up to a size, past the judging of statements",
		Long: `Fill the newest shard of a stopped log up to a size. Signing as many statements
would take too long. So each entry but the last is a frame around random bytes
and goes through steps 2 to 4 like any other: store, integration, bundles and
tiles. The ledger is told that it opened a trial and a chain of its own. The
last one is a real statement, because a log reads its last one when it starts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.fill(cmd.Context(), o)
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "data folder of the log")
	f.Uint64Var(&o.to, "to", 100_000, "entries that the log is to hold")
	f.IntVar(&o.bytes, "bytes", 300, "random bytes of an entry")
	f.DurationVar(&o.limit, "limit", time.Hour, "stop at the size that is reached then")
	_ = cmd.MarkFlagRequired("data") // it was just defined
	return cmd
}

// fillBatch is how many entries are stored at once, the sequencer's default.
const fillBatch = 2048

// filler is a shard that is filled.
type filler struct {
	o      fillOptions
	now    func() time.Time
	log    string // name of the TrialLog
	tree   tlog.Log
	tiles  *tile.Writer
	commit *commit.Log
	ledger *ledger.Ledger
	key    *statement.PrivateKey
	source *noise
	begin  time.Time
}

// filled is a batch on its way to the ledger.
type filled struct {
	first uint64
	n     int
	root  tlog.Root
}

func (p *program) fill(ctx context.Context, o fillOptions) (r *report, err error) {
	shard, name, err := newestShard(o.data)
	if err != nil {
		return nil, err
	}
	f := &filler{o: o, now: p.now, log: name, begin: p.now()}
	if f.source, err = newNoise(); err != nil {
		return nil, err
	}
	if f.key, err = statement.GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	if f.tree, err = backend.Open(ctx, shard.Store, backend.Config{Origin: shard.Origin, Now: p.now}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.tree.Close()) }()
	store, err := blob.OpenDir(strings.TrimPrefix(shard.Tiles, "file:"))
	if err != nil {
		return nil, err
	}
	if f.tiles, err = tile.OpenWriter(ctx, store); err != nil {
		return nil, err
	}
	if f.ledger, err = ledger.Open(shard.Ledger, nil); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.ledger.Close()) }()
	first := f.tiles.Size()
	if known, err := f.ledger.Size(); err != nil || known != first || first == 0 {
		return nil, errors.Join(err, fmt.Errorf("the ledger holds %d entries, the tiles %d: start the log once and stop it", known, first))
	}
	f.commit = commit.New(f.tree, f.tiles)
	begin, used := p.now(), cpuSeconds()
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	n, seconds := float64(f.tiles.Size()-first), p.now().Sub(begin).Seconds()
	return &report{
		Figures: map[string]float64{
			"entries": float64(f.tiles.Size()), "added": n, "seconds": seconds, "per_second": n / seconds,
			"cpu_us": (cpuSeconds() - used) / n * 1e6,
		},
		Notes: []string{fmt.Sprintf("frames of %d random bytes through steps 2 to 4 and the ledger, batch %d", o.bytes, fillBatch)},
	}, nil
}

// newestShard reads where the log's newest shard is, and the log's name.
func newestShard(data string) (shard config.Shard, log string, err error) {
	raw, err := os.ReadFile(filepath.Join(data, "trialog.json"))
	if err != nil {
		return shard, "", err
	}
	c, err := config.ParseLog(raw)
	if err != nil {
		return shard, "", err
	}
	return c.Shards[len(c.Shards)-1].Under(data), c.Log, nil
}

// run fills the log: one goroutine stores, one integrates and writes tiles, one
// keeps the ledger.
func (f *filler) run(ctx context.Context) error {
	stored := make(chan commit.Stored, 2)
	integrated := make(chan filled, 8)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(integrated)
		return f.commit.Follow(ctx, stored, func(tlog.Root) {})
	})
	group.Go(func() error {
		for b := range integrated {
			if err := f.note(b); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		defer close(stored)
		for over := false; !over; {
			b := filled{first: f.commit.Next()}
			over = f.o.to <= b.first+fillBatch || f.now().Sub(f.begin) > f.o.limit
			leaves, err := f.leaves(&b, over)
			if err != nil {
				return err
			}
			if err := f.commit.Store(ctx, leaves); err != nil {
				return err
			}
			done := func(root tlog.Root) {
				b.root = root
				select {
				case integrated <- b:
				case <-ctx.Done():
				}
			}
			select {
			case stored <- commit.Stored{Size: b.first + uint64(b.n), Done: done}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}

// leaves makes the next batch; last says that it ends with a statement.
func (f *filler) leaves(b *filled, last bool) ([]tlog.Leaf, error) {
	b.n = int(min(fillBatch, max(1, f.o.to-min(f.o.to, b.first))))
	leaves := make([]tlog.Leaf, b.n)
	for i := range leaves {
		body := f.source.bytes(f.o.bytes)
		id := statement.Identity(sha256.Sum256(body))
		if last && i == b.n-1 {
			var err error
			if id, body, err = f.statement(b.first + uint64(i)); err != nil {
				return nil, err
			}
		}
		value, err := entry.Encode(f.now(), body)
		if err != nil {
			return nil, err
		}
		leaves[i] = tlog.Leaf{Identity: id, Value: value}
	}
	return leaves, nil
}

// statement makes a statement that a log can read; its signer is not enrolled.
func (f *filler) statement(index uint64) (id statement.Identity, envelope []byte, err error) {
	s := f.opening(index)
	payload, err := statement.Build(s)
	if err != nil {
		return id, nil, err
	}
	env, err := statement.Sign(payload, f.key)
	if err != nil {
		return id, nil, err
	}
	return s.Identity(payload), env.Bytes(), nil
}

// opening is the statement that opens the trial of an index.
func (f *filler) opening(index uint64) *statement.Statement {
	s := &statement.Statement{
		Log: f.log, Organisation: "bench-fill", Trial: fmt.Sprintf("F-%d", index), Kind: statement.KindTrial,
		Signers: []statement.Signer{{Key: f.key.ID(), Meaning: statement.Authorship, At: "2026-01-01T00:00:00Z"}},
		Chain:   statement.Link{Number: 1}, Subject: statement.SubjectTrial,
	}
	s.Digest = statement.TrialDigest(s.Log, s.Organisation, s.Trial)
	return s
}

// note tells the ledger of a batch.
func (f *filler) note(b filled) error {
	change := f.ledger.Change()
	e := &entry.Entry{Received: f.now()}
	for i := range uint64(b.n) {
		s := f.opening(b.first + i)
		if err := change.Apply(b.first+i, e, s, s.Digest); err != nil {
			return errors.Join(err, change.Discard())
		}
	}
	if b.root.Size == b.first+uint64(b.n) {
		change.Reached(b.root.Hash)
	}
	return change.Commit()
}
