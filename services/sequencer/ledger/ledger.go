// Package ledger knows what the statements of a log add up to: the heads of the
// writers' chains, the enrolled keys and recovery keys, the trials with their
// owners and the kinds that were said in them.
//
// It is derived from the log and from nothing else. It is not synced to disk
// and may be deleted: what is missing is read again from the log. It is trusted
// for convenience only; a wrong ledger could refuse good statements or accept
// ones that every verifier refuses, never change what is logged.
package ledger

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
)

// Head is the newest statement of a writer's chain.
type Head struct {
	Number   uint64             `json:"n"`
	Identity statement.Identity `json:"id"`
	Received int64              `json:"at"` // ms, by the log's clock
}

// Key is an enrolled key.
type Key struct {
	Organisation string           `json:"org"`
	Roles        []statement.Role `json:"roles"`
	Index        uint64           `json:"index"` // of the enrolment
	DER          []byte           `json:"der"`
	// By are the co-signers of the enrolment whose own enrolment its proof needs.
	By      []statement.KeyID `json:"by,omitempty"`
	Revoked bool              `json:"revoked,omitempty"`
	// SuspectOrigin and SuspectFrom name the first entry that is suspect.
	SuspectOrigin string `json:"shard,omitempty"`
	SuspectFrom   uint64 `json:"from,omitempty"`
}

// Organisation is an organisation by its first enrolment.
type Organisation struct {
	First    statement.KeyID `json:"first"`
	Recovery []byte          `json:"recovery"` // DER
}

// Trial is a trial by its first statement.
type Trial struct {
	Owner string             `json:"owner"`
	First statement.Identity `json:"first"`
}

// reader is what a ledger and a change to it have in common.
type reader interface {
	Get(key []byte) ([]byte, func() error, error)
}

// View reads the ledger, or the ledger as a change will leave it.
type View struct{ from reader }

// Ledger is the derived state of one shard.
type Ledger struct {
	View
	db *pebble.DB
}

// Change collects what new entries change. It is read like the ledger, and takes
// effect with Commit.
type Change struct {
	View
	batch *pebble.Batch
}

// Open opens or creates the ledger in the folder dir. logger may be nil.
func Open(dir string, logger *slog.Logger) (*Ledger, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	db, err := pebble.Open(dir, &pebble.Options{Logger: pebbleLogger{logger}})
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	return &Ledger{View: View{from: closers{db}}, db: db}, nil
}

// Close closes the ledger.
func (l *Ledger) Close() error { return l.db.Close() }

// closers adapts pebble's reader, whose closer is an interface.
type closers struct{ pebble.Reader }

// Get implements reader.
func (c closers) Get(key []byte) ([]byte, func() error, error) {
	v, closer, err := c.Reader.Get(key)
	if err != nil {
		return nil, nil, err
	}
	return v, closer.Close, nil
}

// pebbleLogger hands Pebble's messages on. Pebble calls Fatalf when its files
// are beyond use; the ledger can be made again, the process cannot go on.
type pebbleLogger struct{ log *slog.Logger }

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("ledger store", "message", fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("ledger store", "message", fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger, which must not return.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	panic("ledger store: " + fmt.Sprintf(format, args...)) //nolint:forbidigo // Pebble would go on otherwise
}

// Keys of the store: one letter, then names, each ended by a zero byte, which
// no token contains.
func dbKey(table byte, parts ...string) []byte {
	k := []byte{table}
	for _, p := range parts {
		k = append(k, p...)
		k = append(k, 0)
	}
	return k
}

const (
	tableSize  = 's'
	tableChain = 'c'
	tableKey   = 'k'
	tableOrg   = 'o'
	tableTrial = 't'
	tableKind  = 'e'
	tableParty = 'd' // organisations that a trial's owner has delegated to
)

// get decodes the value at key into v; false if there is none.
func (v View) get(key []byte, into any) (bool, error) {
	raw, done, err := v.from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read the ledger: %w", err)
	}
	err = json.Unmarshal(raw, into)
	if err := errors.Join(err, done()); err != nil {
		return false, fmt.Errorf("read the ledger: %w", err)
	}
	return true, nil
}

// Size returns how many entries of the log are in the ledger.
func (v View) Size() (uint64, error) {
	raw, done, err := v.from.Get([]byte{tableSize})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, fmt.Errorf("read the ledger's size: %w", err)
	}
	if len(raw) != 8 {
		return 0, errors.Join(fmt.Errorf("read the ledger's size: %d bytes, expected 8", len(raw)), done())
	}
	return binary.BigEndian.Uint64(raw), done()
}

// Chain returns the head of writer's chain in trial ("" outside trials); the
// zero Head if there is none.
func (v View) Chain(trial string, writer statement.KeyID) (Head, error) {
	var h Head
	_, err := v.get(chainKey(trial, writer), &h)
	return h, err
}

func chainKey(trial string, writer statement.KeyID) []byte {
	return append(dbKey(tableChain, trial), writer[:]...)
}

// Key returns an enrolled key; nil if id is not enrolled.
func (v View) Key(id statement.KeyID) (*Key, error) {
	var k Key
	ok, err := v.get(append([]byte{tableKey}, id[:]...), &k)
	if !ok {
		return nil, err
	}
	return &k, nil
}

// Organisation returns an organisation; nil if it has no key.
func (v View) Organisation(name string) (*Organisation, error) {
	var o Organisation
	ok, err := v.get(dbKey(tableOrg, name), &o)
	if !ok {
		return nil, err
	}
	return &o, nil
}

// Trial returns a trial; nil if nothing was said of it.
func (v View) Trial(name string) (*Trial, error) {
	var t Trial
	ok, err := v.get(dbKey(tableTrial, name), &t)
	if !ok {
		return nil, err
	}
	return &t, nil
}

// Said tells whether a statement of kind was said in trial.
func (v View) Said(trial string, kind statement.Kind) (bool, error) {
	return v.has(dbKey(tableKind, trial, string(kind)))
}

// Delegated tells whether the trial's owner has delegated a task to
// organisation.
func (v View) Delegated(trial, organisation string) (bool, error) {
	return v.has(dbKey(tableParty, trial, organisation))
}

func (v View) has(key []byte) (bool, error) {
	_, done, err := v.from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read the ledger: %w", err)
	}
	return true, done()
}

// Change starts a change on top of the ledger.
func (l *Ledger) Change() *Change {
	b := l.db.NewIndexedBatch()
	return &Change{View: View{from: closers{b}}, batch: b}
}

// Discard forgets a change.
func (c *Change) Discard() error { return c.batch.Close() }

// Commit makes the change part of the ledger, not durably: after a crash the
// entries are read from the log again.
func (c *Change) Commit() error {
	if err := c.batch.Commit(pebble.NoSync); err != nil {
		return errors.Join(fmt.Errorf("change the ledger: %w", err), c.batch.Close())
	}
	return c.batch.Close()
}

func (c *Change) set(key []byte, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("change the ledger: %w", err)
	}
	return c.batch.Set(key, raw, nil)
}

// Apply adds the statement of the entry at index, which must be the next one.
// The statement must have been admitted; Apply does not judge it.
func (c *Change) Apply(index uint64, e *entry.Entry, s *statement.Statement, id statement.Identity) error {
	size, err := c.Size()
	if err != nil {
		return err
	}
	if size != index {
		return fmt.Errorf("the ledger holds %d entries, the next one cannot be %d", size, index)
	}
	head := Head{Number: s.Chain.Number, Identity: id, Received: e.Received.UnixMilli()}
	if err := c.set(chainKey(s.Trial, s.Writer()), head); err != nil {
		return err
	}
	if err := c.applyKind(index, s, id); err != nil {
		return err
	}
	return c.batch.Set([]byte{tableSize}, binary.BigEndian.AppendUint64(nil, index+1), nil)
}

func (c *Change) applyKind(index uint64, s *statement.Statement, id statement.Identity) error {
	switch s.Kind {
	case statement.KindKey:
		return c.applyKey(index, s)
	case statement.KindTrial:
		if known, err := c.Trial(s.Trial); err != nil || known != nil {
			return err
		}
		if err := c.set(dbKey(tableTrial, s.Trial), Trial{Owner: s.Organisation, First: id}); err != nil {
			return err
		}
	case statement.KindDelegation:
		if to := s.TextAttribute("toOrganisation"); to != "" {
			if err := c.set(dbKey(tableParty, s.Trial, to), true); err != nil {
				return err
			}
		}
	default:
	}
	if s.Trial == "" {
		return nil
	}
	key := dbKey(tableKind, s.Trial, string(s.Kind))
	if said, err := c.has(key); err != nil || said {
		return err
	}
	return c.set(key, true)
}

func (c *Change) applyKey(index uint64, s *statement.Statement) error {
	key, enrols := s.EnrolledKey()
	if !enrols {
		id := s.DigestAttribute("revokes")
		k, err := c.Key(id)
		if err != nil || k == nil {
			return err
		}
		k.Revoked = true
		k.SuspectOrigin, k.SuspectFrom = s.TextAttribute("suspectOrigin"), s.CountAttribute("suspectFrom")
		return c.set(append([]byte{tableKey}, id[:]...), k)
	}
	id := key.ID()
	k := Key{Organisation: s.Organisation, Roles: s.RolesAttribute(), Index: index, DER: key.DER()}
	for _, signer := range s.SignerIDs() {
		if signer != id {
			k.By = append(k.By, signer)
		}
	}
	if err := c.set(append([]byte{tableKey}, id[:]...), k); err != nil {
		return err
	}
	recovery, first := s.RecoveryKey()
	if !first {
		return nil
	}
	return c.set(dbKey(tableOrg, s.Organisation), Organisation{First: id, Recovery: recovery.DER()})
}
