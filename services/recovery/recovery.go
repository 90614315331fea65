// Package recovery brings a shard's store back to what was signed, from the
// log's own tiles or from a mirror, after the store, the tiles or the register
// were lost or put back to an older copy.
//
// It signs nothing and asks no witness: it only makes store, tiles and register
// agree again, and the ordinary start of the sequencer then decides whether the
// shard may open. Until it has come to its end the store is behind the register,
// and no sequencer opens. It may be killed at any point and run again.
//
// Nothing that it reads is trusted. Every entry is verified against the hash
// tiles and a root; a mirror's root must be cosigned by the policy's quorum. The
// one exception is what the log's own tiles hold beyond every signed checkpoint:
// promises may have been given for it, so it is adopted, and who can write to the
// tile store could have added to it. The report says how much that is.
package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog"
)

// Keys of the objects that the sequencer keeps beside the tiles.
const (
	checkpointKey = "checkpoint"
	candidateKey  = "candidate"
	beaconPrefix  = "beacon/"
)

// batch is how many entries are read and stored at a time.
const batch = 1024

// Config says what is to be recovered, and from what. Run owns none of it; nobody
// else may use the shard's stores meanwhile.
type Config struct {
	// Origin is that of the shard.
	Origin string
	// Policy is the one that the log publishes by.
	Policy *verify.Policy
	// Log is the store. It may be empty, old or whole. One whose entries
	// contradict the tiles is refused: give an empty one in its place.
	Log      tlog.Log
	Register register.Register
	// Tiles is the shard's own tile store.
	Tiles blob.Store
	// Source is a copy of the tiles, nil if there is none.
	Source tile.Source
	// RecreateRegister makes a register that is missing, at the greatest size
	// for which there is evidence. Whoever sets it says that no newer checkpoint
	// exists anywhere: if one does, the log forks, and witnesses refuse it.
	RecreateRegister bool
	// RewriteTiles writes all of the log's own tiles again.
	RewriteTiles bool
	// SignedOnly adopts nothing beyond the newest signed checkpoint. Promises
	// for what lies behind it are then broken, and are evidence against the log.
	SignedOnly bool

	Logger *slog.Logger
	// Progress, if not nil, is told how many entries of how many have been
	// imported.
	Progress func(done, of uint64)
}

// Reason is why a recovery was refused.
type Reason string

// The reasons.
const (
	// Fork: two places, or a place and something signed, contradict each other.
	Fork Reason = "fork"
	// Incomplete: what was signed or registered is larger than what is there.
	Incomplete Reason = "incomplete"
	// Corrupt: what was read does not verify, and nobody else has it.
	Corrupt Reason = "corrupt"
	// OtherLog: the source, the tiles or the register are of another origin.
	OtherLog Reason = "other-log"
	// RegisterMissing: there is no register, and none was to be made.
	RegisterMissing Reason = "register-missing"
)

// RefusedError says why the shard cannot be recovered from what is there.
type RefusedError struct {
	Reason Reason
	Err    error
}

// Error implements error.
func (e *RefusedError) Error() string { return string(e.Reason) + ": " + e.Err.Error() }

// Unwrap returns the error with the place.
func (e *RefusedError) Unwrap() error { return e.Err }

func refuse(r Reason, format string, args ...any) error {
	return &RefusedError{Reason: r, Err: fmt.Errorf(format, args...)}
}

// Report is what was found and done. After an error it holds what was found and
// done until then.
type Report struct {
	Origin string `json:"origin"`
	// Problems are what was wrong, and what somebody should know, for a person.
	Problems []string `json:"problems,omitempty"`

	// StoreSize, TilesSize and SourceSize are how many entries were found;
	// RegisterSize is where the register was, and means nothing if there was
	// none.
	StoreSize       uint64 `json:"storeSize"`
	TilesSize       uint64 `json:"tilesSize"`
	SourceSize      uint64 `json:"sourceSize"`
	RegisterSize    uint64 `json:"registerSize"`
	RegisterMissing bool   `json:"registerMissing,omitempty"`

	// Imported is how many entries were added to the store, Unsigned how many of
	// all lie beyond the newest signed checkpoint.
	Imported uint64 `json:"imported"`
	Unsigned uint64 `json:"unsigned"`
	// TilesWritten is how many entries the tiles were extended by, or all of
	// them if TilesRewritten.
	TilesWritten   uint64 `json:"tilesWritten"`
	TilesRewritten bool   `json:"tilesRewritten,omitempty"`
	// Beacons is how many beacon notes were fetched, MissingBeacons are the
	// digests of those that nobody has: receipts of the statements that name
	// them can no longer be made.
	Beacons        uint64   `json:"beacons"`
	MissingBeacons []string `json:"missingBeacons,omitempty"`
	// CheckpointRestored says that the published note was taken from the source.
	CheckpointRestored bool `json:"checkpointRestored,omitempty"`
	// RegisterMoved and RegisterCreated say what became of the register.
	RegisterMoved   bool `json:"registerMoved,omitempty"`
	RegisterCreated bool `json:"registerCreated,omitempty"`

	// Size and Root are those of the store now, Registered is the register's.
	Size       uint64          `json:"size"`
	Root       [32]byte        `json:"-"`
	Registered register.Record `json:"-"`
}

// recovery is one run.
type recovery struct {
	c      Config
	log    *slog.Logger
	report *Report

	registered *register.Record // nil if there is none
	evidence   []evidence
	own, other *place // nil if it has no entries that can be used
	// published is the size of the own published checkpoint, and whether there is
	// a good one; offered is the source's.
	published     uint64
	hasPublished  bool
	offered       []byte
	offeredSize   uint64
	damaged       bool   // the own tiles
	promised      uint64 // how many entries the head of damaged tiles speaks of
	stored        uint64 // entries in the store without a gap, at first
	target        evidence
	beaconsNeeded map[[32]byte]struct{}
}

// Run recovers one shard. The error is a *RefusedError if a person has to decide,
// and any other if it may be gone when Run is called again.
func Run(ctx context.Context, c Config) (*Report, error) {
	if c.Policy == nil || c.Log == nil || c.Register == nil || c.Tiles == nil || c.Logger == nil {
		return nil, errors.New("recovery: expected a policy, a store, a register, tiles and a logger")
	}
	r := &recovery{
		c: c, log: c.Logger.With("origin", c.Origin), report: &Report{Origin: c.Origin},
		beaconsNeeded: map[[32]byte]struct{}{},
	}
	// The first two steps write nothing.
	for _, step := range []struct {
		doing string
		do    func(context.Context) error
	}{
		{"look at what is there", r.look},
		{"compare what is there", r.compare},
		{"import entries", r.importEntries},
		{"check the store", r.checkStore},
		// Before the tiles: while those are incomplete, the next run looks for
		// beacons again.
		{"fetch beacons", r.fetchBeacons},
		{"write the tiles", r.writeTiles},
		{"move the register", r.settleRegister},
		{"restore the published checkpoint", r.restorePublished},
	} {
		if err := step.do(ctx); err != nil {
			return r.report, fmt.Errorf("recover %s: %s: %w", c.Origin, step.doing, err)
		}
	}
	r.log.Info("recovered", "size", r.report.Size, "imported", r.report.Imported, "registered", r.report.Registered.Size)
	return r.report, nil
}

// problemf notes what was found wrong.
func (r *recovery) problemf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if slices.Contains(r.report.Problems, text) {
		return
	}
	r.report.Problems = append(r.report.Problems, text)
	r.log.Warn("recovery", "problem", text)
}
