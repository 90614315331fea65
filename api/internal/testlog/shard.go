package testlog

import (
	"encoding/base64"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// Start is when the log takes in its first entry; each further one follows
// after Interval.
const (
	Start    = 1772323200 // 2026-03-01T00:00:00Z
	Interval = 600
)

// Shard is one tree in memory.
type Shard struct {
	Origin  string
	Keys    []*NoteKey // Ed25519 and ML-DSA-44
	Entries [][]byte
	start   uint64
}

// NewShard makes an empty shard that begins at start.
func NewShard(origin string, start uint64) *Shard {
	return &Shard{Origin: origin, start: start, Keys: []*NoteKey{
		NewNoteKey(origin, checkpoint.AlgEd25519), NewNoteKey(origin, checkpoint.AlgMLDSA44),
	}}
}

// Size returns the number of entries.
func (s *Shard) Size() uint64 { return uint64(len(s.Entries)) }

// Time returns when the entry at index is taken in, in Unix seconds.
func (s *Shard) Time(index uint64) uint64 { return s.start + index*Interval }

// Add appends the frame of an envelope and returns its index.
func (s *Shard) Add(envelope []byte) uint64 {
	received := time.Unix(int64(s.Time(s.Size())), 0) //nolint:gosec // far below the limit
	return s.AddEntry(Must(entry.Encode(received, envelope)))
}

// AddEntry appends bytes, whatever they are.
func (s *Shard) AddEntry(raw []byte) uint64 {
	s.Entries = append(s.Entries, raw)
	return s.Size() - 1
}

// Checkpoint returns the tree head at size.
func (s *Shard) Checkpoint(size uint64) checkpoint.Checkpoint {
	root := Must(statement.BatchRoot(s.Entries[:size]))
	return checkpoint.Checkpoint{Origin: s.Origin, Size: size, Root: checkpoint.Hash(root)}
}

// Cosign is one cosignature to be made.
type Cosign struct {
	Key  *NoteKey
	Time uint64
}

// Note signs the checkpoint at size with both log keys and cosigns it.
func (s *Shard) Note(size uint64, cosign ...Cosign) *checkpoint.Note {
	return s.NoteBy(s.Keys, s.Checkpoint(size).Body(), s.Time(size), cosign...)
}

// NoteBy signs a note text with the given log keys at time t and cosigns it.
func (s *Shard) NoteBy(keys []*NoteKey, text []byte, t uint64, cosign ...Cosign) *checkpoint.Note {
	sigs := make([]checkpoint.Signature, 0, len(keys)+len(cosign))
	for _, k := range keys {
		sigs = append(sigs, k.Sign(text, t))
	}
	for _, c := range cosign {
		sigs = append(sigs, c.Key.Sign(text, c.Time))
	}
	return Must(checkpoint.NewNote(text, sigs...))
}

// Proof proves the entry at index under a note of this shard.
func (s *Shard) Proof(index uint64, note *checkpoint.Note) *receipt.Proof {
	p := &receipt.Proof{Index: index, Note: note}
	for _, h := range Must(statement.BatchPath(s.Entries[:note.Checkpoint().Size], int(index))) { //nolint:gosec // small
		p.Path = append(p.Path, [32]byte(h))
	}
	return p
}

func fromBase64(s string) []byte { return Must(base64.StdEncoding.DecodeString(s)) }
