package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
)

const (
	// maxStored bounds the beacons that are remembered as stored: neighbouring
	// entries name the same few.
	maxStored = 4096
	// maxMissing bounds those that are asked for again at each step.
	maxMissing = 1024
)

// beacons is what the mirror remembers of beacons; it may forget all of it.
type beacons struct {
	stored, missing map[[32]byte]struct{}
}

// fetchBeacons stores the checkpoint notes that statements name, so that the copy
// can be recovered from: what vouches for one is its digest. One that the source
// does not have is asked for again later and holds nothing up: the entries do not
// depend on it.
func (m *Mirror) fetchBeacons(ctx context.Context, entries [][]byte) error {
	for _, raw := range entries {
		digest, named := beaconOf(raw)
		if !named {
			continue
		}
		if _, ok := m.seen.stored[digest]; ok {
			continue
		}
		if err := m.fetchBeacon(ctx, digest); err != nil {
			return err
		}
	}
	return nil
}

// fetchMissing asks again for the beacons that the source did not have.
func (m *Mirror) fetchMissing(ctx context.Context) error {
	for digest := range maps.Clone(m.seen.missing) {
		if err := m.fetchBeacon(ctx, digest); err != nil {
			return err
		}
	}
	return nil
}

// beaconOf returns the digest of the note that an entry's statement names. An
// entry that is no statement names none: the mirror keeps what the log has, and
// judging statements is the auditor's work.
func beaconOf(raw []byte) (digest [32]byte, named bool) {
	e, err := entry.Parse(raw)
	if err != nil {
		return digest, false
	}
	_, s, err := statement.Parse(e.Envelope)
	if err != nil || s.Beacon == nil {
		return digest, false
	}
	return s.Beacon.Note, true
}

func (m *Mirror) fetchBeacon(ctx context.Context, digest [32]byte) error {
	key := beaconPrefix + hex.EncodeToString(digest[:])
	held, err := m.c.Store.Get(ctx, key)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("read the mirror's store: %w", err)
	}
	if err == nil && sha256.Sum256(held) == digest {
		m.seen.have(digest)
		return nil
	}
	note, err := m.c.Source.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		if m.seen.lacks(digest) {
			m.c.Logger.WarnContext(ctx, "the source lacks a beacon", "origin", m.c.Origin, "object", key)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read a beacon from the source: %w", err)
	}
	if len(note) > maxNote || sha256.Sum256(note) != digest {
		return &SourceError{Object: key, Err: errors.New("its digest is not its name")}
	}
	if _, err := checkpoint.Parse(note); err != nil {
		return &SourceError{Object: key, Err: fmt.Errorf("no checkpoint note: %w", err)}
	}
	if err := m.c.Store.Put(ctx, blob.Object{Key: key, Data: note}); err != nil {
		return fmt.Errorf("write a beacon: %w", err)
	}
	m.seen.have(digest)
	return nil
}

func (b *beacons) have(digest [32]byte) {
	delete(b.missing, digest)
	if b.stored == nil || len(b.stored) >= maxStored {
		b.stored = make(map[[32]byte]struct{})
	}
	b.stored[digest] = struct{}{}
}

// lacks notes a beacon that the source does not have; it returns true the first
// time.
func (b *beacons) lacks(digest [32]byte) bool {
	if b.missing == nil {
		b.missing = make(map[[32]byte]struct{})
	}
	if _, again := b.missing[digest]; again || len(b.missing) >= maxMissing {
		return false
	}
	b.missing[digest] = struct{}{}
	return true
}
