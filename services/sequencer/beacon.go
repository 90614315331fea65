package sequencer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
)

const (
	// maxBeacons bounds the remembered beacons.
	maxBeacons = 256
	// maxBeacon bounds a beacon in bytes: a note with the signatures of some
	// twenty witnesses, post-quantum ones included.
	maxBeacon = 128 << 10
)

// beacon is a note that was found good as a beacon.
type beacon struct {
	digest checkpoint.Hash
	note   []byte
	origin string
	size   uint64
	stored atomic.Bool // with the shard's own tiles
}

// object returns the beacon as a blob, and whether it has yet to be stored.
func (b *beacon) object() (blob.Object, bool) {
	if b == nil || b.stored.Load() {
		return blob.Object{}, false
	}
	return blob.Object{Key: BeaconPrefix + hex.EncodeToString(b.digest[:]), Data: b.note}, true
}

func (b *beacon) kept() {
	if b != nil {
		b.stored.Store(true)
	}
}

// checkBeacon finds out whether the statement's beacon is a checkpoint of this
// log that a quorum has cosigned. note may be empty if the log holds it already.
func (s *Sequencer) checkBeacon(ctx context.Context, named *statement.Beacon, note []byte) (*beacon, error) {
	head := s.head()
	if named == nil {
		if len(note) > 0 {
			return nil, &statement.FieldError{Field: "beacon", Reason: "is given, but the statement names none"}
		}
		if head != nil || len(s.lineage) > 0 {
			return nil, &statement.FieldError{Field: "predicate.beacon", Reason: "missing, only the first statements of a log may lack one"}
		}
		return nil, nil //nolint:nilnil // none is named, and none is needed
	}
	digest := checkpoint.Hash(named.Note)
	if len(note) > 0 && sha256.Sum256(note) != digest {
		return nil, &statement.FieldError{Field: "beacon", Reason: "its SHA-256 is not predicate.beacon.sha256"}
	}
	b, known := s.beacons.get(digest)
	if !known {
		var err error
		if b, err = s.loadBeacon(ctx, head, named, note); err != nil {
			return nil, err
		}
	}
	if named.Origin != b.origin || named.Size != b.size {
		return nil, &statement.FieldError{
			Field:  "predicate.beacon",
			Reason: fmt.Sprintf("the note is of %s at size %d", b.origin, b.size),
		}
	}
	return b, nil
}

// strangeLine returns the number of the first signature line, from 1, that is by
// a key which the policy does not name, or by one that has signed already; 0 if
// there is none. The note is kept and published: it has no room for other things.
func (s *Sequencer) strangeLine(n *checkpoint.Note) int {
	open := map[string]int{}
	add := func(k *checkpoint.VerifierKey) { open[lineKey(k.Name(), k.ID())] = 1 }
	for _, l := range s.c.Policy.Notes().Logs() {
		add(l.Key)
	}
	for _, w := range s.c.Policy.Notes().Witnesses() {
		add(w.Key)
	}
	for _, k := range s.c.Policy.Trust().RequiredLogKeys {
		add(k)
	}
	for i, sig := range n.Signatures() {
		key := lineKey(sig.Name, sig.KeyID)
		if open[key] == 0 {
			return i + 1
		}
		open[key] = 0
	}
	return 0
}

// hasPublished tells whether a note is the published one, of this shard or of a
// predecessor. A policy that has dropped a witness since does not name its line:
// who takes the log's own checkpoint for a beacon is not to be sent away for that.
func (s *Sequencer) hasPublished(head *published, digest checkpoint.Hash) bool {
	if head != nil && head.note.Digest() == digest {
		return true
	}
	return slices.ContainsFunc(s.lineage, func(a *ancestor) bool {
		final := a.final.Load()
		return final != nil && final.note.Digest() == digest
	})
}

func lineKey(name string, id uint32) string { return fmt.Sprintf("%s+%08x", name, id) }

func (s *Sequencer) loadBeacon(ctx context.Context, head *published, named *statement.Beacon, note []byte) (*beacon, error) {
	bad := func(format string, args ...any) error {
		return &statement.FieldError{Field: "beacon", Reason: fmt.Sprintf(format, args...)}
	}
	digest := checkpoint.Hash(named.Note)
	stored := false
	if len(note) > maxBeacon {
		return nil, bad("is %d bytes, expected at most %d", len(note), maxBeacon)
	}
	if len(note) == 0 {
		var err error
		if note, stored, err = s.storedNote(ctx, digest); err != nil {
			return nil, fmt.Errorf("read a beacon: %w", err)
		} else if note == nil {
			return nil, bad("missing, the log does not hold the note that predicate.beacon.sha256 names")
		}
	}
	parsed, err := checkpoint.Parse(note)
	if err != nil {
		return nil, bad("%s", err)
	}
	cosigned, err := s.c.Policy.CheckNote(note)
	if err != nil && s.hasPublished(head, digest) {
		return nil, errOutdated // there is no other one to be had
	} else if err != nil {
		return nil, bad("%s", err)
	}
	if line := s.strangeLine(parsed); line > 0 && !stored && !s.hasPublished(head, digest) {
		return nil, bad("signature line %d is by a key that the policy does not name, or the second one by its key", line)
	}
	shard := s.publishedOf(cosigned.Origin, head)
	if shard == nil && cosigned.Origin != s.c.Origin {
		return nil, bad("is of origin %q, expected %q or an earlier shard", cosigned.Origin, s.c.Origin)
	}
	if cosigned.Size == 0 || cosigned.Size > shard.size() {
		return nil, bad("is of size %d, expected 1 to %d, the newest published size", cosigned.Size, shard.size())
	}
	root, err := shard.tree.RootAt(ctx, cosigned.Size)
	if err != nil {
		return nil, fmt.Errorf("compute the root at the beacon's size: %w", err)
	}
	if root != cosigned.Root {
		// A quorum has signed another tree than ours: this must not go unseen.
		s.log.Error("a beacon with valid cosignatures contradicts the log", "beacon_size", cosigned.Size,
			"beacon", hex.EncodeToString(digest[:]))
		return nil, bad("contradicts the log at size %d", cosigned.Size)
	}
	b := &beacon{digest: digest, note: note, origin: cosigned.Origin, size: cosigned.Size}
	b.stored.Store(stored)
	return s.beacons.put(b.digest, b), nil
}

// storedNote returns the note with this digest that the log holds, nil if there
// is none, and whether it lies with the shard's own tiles.
func (s *Sequencer) storedNote(ctx context.Context, digest checkpoint.Hash) (note []byte, own bool, err error) {
	key := BeaconPrefix + hex.EncodeToString(digest[:])
	raw, err := s.c.Tiles.Get(ctx, key)
	switch {
	case err == nil && sha256.Sum256(raw) != digest:
		return nil, false, fmt.Errorf("the stored note %s is damaged", hex.EncodeToString(digest[:]))
	case err == nil:
		return raw, true, nil
	case !errors.Is(err, blob.ErrNotFound):
		return nil, false, err
	}
	for _, a := range slices.Backward(s.lineage) {
		if final := a.final.Load(); final != nil && final.note.Digest() == digest {
			return final.note.Bytes(), false, nil
		}
		raw, err := a.Tiles.Get(ctx, key)
		switch {
		case err == nil && sha256.Sum256(raw) == digest:
			return raw, false, nil
		case err != nil && !errors.Is(err, blob.ErrNotFound):
			return nil, false, fmt.Errorf("predecessor %q: %w", a.Origin, err)
		}
	}
	return nil, false, nil
}
