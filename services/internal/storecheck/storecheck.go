// Package storecheck holds everything that a shard keeps against each other: the
// tiles against the register and the published checkpoint, the store's leaves,
// identity index, tree nodes and root against the tiles, notes against their
// signatures. It says where something is wrong, and which side the signed root
// supports.
//
// The store is read row by row, as it is: a Log would refuse what is damaged and
// say little of where.
package storecheck

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog"
)

// The kinds of findings beyond those of package fsck.
const (
	// KindEngine: the storage engine itself says that its files are damaged.
	KindEngine fsck.Kind = "engine"
	// KindLeaf: a leaf of the store is not the one that the signed root supports.
	KindLeaf fsck.Kind = "leaf"
	// KindIdentity: the identity index is wrong or incomplete.
	KindIdentity fsck.Kind = "identity"
	// KindNode: a stored tree node is not the one that the signed root supports.
	KindNode fsck.Kind = "node"
	// KindStoreRoot: the root that the store holds is not that of its leaves.
	KindStoreRoot fsck.Kind = "store-root"
	// KindRow: a row of the store cannot be read.
	KindRow fsck.Kind = "row"
	// KindRegister: the register is damaged, or contradicts the log.
	KindRegister fsck.Kind = "register"
	// KindCandidate: the note that the log signed itself is damaged, or
	// contradicts the log.
	KindCandidate fsck.Kind = "candidate"
	// KindBeacon: a kept beacon is not the note that its name says.
	KindBeacon fsck.Kind = "beacon"
	// KindHead: tail/head is damaged, or contradicts the tiles.
	KindHead fsck.Kind = "head"
	// KindLeftover: an object or a row that belongs to nothing. It is a note
	// where it does no harm.
	KindLeftover fsck.Kind = "leftover"
)

// Register is what is asked of the shard's register.
type Register interface {
	Read(ctx context.Context) (register.Record, error)
}

// Config says what to check. Origin, Policy and Tiles are required.
type Config struct {
	Origin string
	Policy *verify.Policy
	Tiles  blob.Store
	// Store shows the store's rows; nil leaves the store out.
	Store tlog.Rows
	// Register may be nil, which leaves it out.
	Register Register
	// Identity computes the identity of a leaf from its value; false if the value
	// has none. nil means that of statements.
	Identity func(value []byte) ([32]byte, bool)
	// Shallow and TreeOnly are those of fsck.Config.
	Shallow, TreeOnly bool
	Workers           int
	Progress          func(done, total uint64)
	OnFinding         func(fsck.Finding) bool
}

// Report is the outcome.
type Report struct {
	*fsck.Report
	// StoreSize is how many leaves the store's root counts, StoreRows how many
	// rows of it were read.
	StoreSize uint64 `json:"storeSize"`
	StoreRows uint64 `json:"storeRows"`
}

// Check checks a shard while nothing writes to it. An error means that it could
// not be checked; whatever is wrong is in the report.
func Check(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Origin == "" || cfg.Policy == nil || cfg.Tiles == nil {
		return nil, errors.New("check the shard: origin, policy and tiles are required")
	}
	if cfg.Identity == nil {
		cfg.Identity = entry.Identity
	}
	c := &checker{cfg: cfg, report: &Report{Report: &fsck.Report{Origin: cfg.Origin}}}
	if err := c.run(ctx); err != nil {
		return c.report, fmt.Errorf("check the shard: %w", err)
	}
	c.report.Add(c.findings, c.notes)
	return c.report, nil
}

type checker struct {
	cfg    Config
	report *Report

	mu              sync.Mutex
	findings, notes []fsck.Finding
}

func (c *checker) find(f fsck.Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.findings = append(c.findings, f)
	if c.cfg.OnFinding != nil {
		c.cfg.OnFinding(f)
	}
}

func (c *checker) note(f fsck.Finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes = append(c.notes, f)
}

func (c *checker) run(ctx context.Context) error {
	notes, err := c.notesOf(ctx)
	if err != nil {
		return err
	}
	if err := c.objects(ctx, notes.head.Size); err != nil {
		return err
	}
	s := newStoreCheck(c, notes.head.Size, notes.marks)
	if err := s.scan(ctx); err != nil {
		return err
	}
	report, err := fsck.Check(ctx, fsck.Config{
		Source: source{c.cfg.Tiles}, Policy: c.cfg.Policy, Head: notes.head, Origin: c.cfg.Origin, Expect: notes.published,
		Shallow: c.cfg.Shallow, TreeOnly: c.cfg.TreeOnly, Workers: c.cfg.Workers, Progress: c.cfg.Progress,
		OnFinding: c.cfg.OnFinding,
		OnBundle:  func(b fsck.Bundle) error { return s.bundle(ctx, b) },
		OnTile:    s.tile,
	})
	if report != nil {
		c.report.Report = report
	}
	if err != nil || !report.Complete {
		return err
	}
	return s.finish(ctx)
}

// source reads the tiles as package fsck wants them.
type source struct{ store blob.Store }

// Get implements fsck.Source.
func (s source) Get(ctx context.Context, path string) ([]byte, error) {
	data, err := s.store.Get(ctx, path)
	if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrKey) {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return data, err
}
