package sequencer

import (
	"context"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/trialog/trialog/api/entry"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

const (
	// keptParts is how many of the newest parts a stream's answers refer to; the
	// client keeps 1024. The difference is for the parts of one message.
	keptParts = 512
	// maxMemory bounds each thing that a stream remembers of what it has sent.
	maxMemory = 4096
)

// parts builds the FINAL answers of one stream, and what they have in common.
type parts struct {
	s      *Sequencer
	newest uint64 // number of the part that was sent last
	unsent []*trialogv1.ReceiptPart
	bytes  int // of unsent

	notes   map[statement.Digest]uint64 // checkpoints by their digests
	beacons map[statement.Digest]uint64
	chains  map[string][]*enrolmentPart // enrolments by signers
	entries map[statement.Digest]*enrolmentPart

	head       *published // the checkpoint that headNumber is the part of
	headNumber uint64
}

// enrolmentPart is an enrolment that was sent under a checkpoint that was sent.
type enrolmentPart struct{ number, checkpoint uint64 }

func newParts(s *Sequencer) *parts {
	return &parts{
		s: s, notes: map[statement.Digest]uint64{}, beacons: map[statement.Digest]uint64{},
		chains: map[string][]*enrolmentPart{}, entries: map[statement.Digest]*enrolmentPart{},
	}
}

// usable tells whether the client still has the part.
func (p *parts) usable(number uint64) bool { return number > 0 && number+keptParts > p.newest }

// add sends a part along, under the next number.
func (p *parts) add(part *trialogv1.ReceiptPart) uint64 {
	p.newest++
	part.Number = p.newest
	p.unsent = append(p.unsent, part)
	p.bytes += proto.Size(part)
	return p.newest
}

// take returns the parts that the next message has to carry.
func (p *parts) take() []*trialogv1.ReceiptPart {
	unsent := p.unsent
	p.unsent, p.bytes = nil, 0
	return unsent
}

// final builds the answer for an entry that the published checkpoint holds.
func (p *parts) final(ctx context.Context, head *published, it *item) (*trialogv1.StreamFinal, error) {
	out := it.out
	if head.outdated {
		return nil, errOutdated
	}
	b, err := head.block(ctx, out.index)
	if err != nil {
		return nil, err
	}
	path, err := b.path(out.index, out.leaf)
	if err != nil {
		return nil, err
	}
	f := &trialogv1.StreamFinal{
		Proof:      &trialogv1.StreamProof{Checkpoint: p.checkpoint(head), Index: out.index, Path: flat(path)},
		ReceivedMs: out.received.UnixMilli(), Duplicate: out.duplicate,
	}
	if !it.asSent {
		if f.Entry, err = head.tree.Entry(ctx, out.index); err != nil {
			return nil, storeError(fmt.Sprintf("read entry %d", out.index), err)
		}
	}
	if it.stmt.Beacon != nil {
		if f.Beacon, err = p.beacon(ctx, it.stmt.Beacon.Note); err != nil {
			return nil, err
		}
	}
	f.Enrolments, err = p.enrolments(ctx, head, it)
	return f, err
}

func flat(path [][32]byte) []byte {
	raw := make([]byte, 0, 32*len(path))
	for i := range path {
		raw = append(raw, path[i][:]...)
	}
	return raw
}

// checkpoint returns the number of the published checkpoint's part.
func (p *parts) checkpoint(head *published) uint64 {
	if p.head != head || !p.usable(p.headNumber) {
		p.head, p.headNumber = head, p.note(&receipt.Proof{Note: head.note})
	}
	return p.headNumber
}

// note returns the number of the part that holds a proof's checkpoint.
func (p *parts) note(proof *receipt.Proof) uint64 {
	digest := statement.Digest(proof.Note.Digest())
	number := p.notes[digest]
	if !p.usable(number) {
		number = p.add(&trialogv1.ReceiptPart{Part: &trialogv1.ReceiptPart_Checkpoint{Checkpoint: string(proof.Note.Bytes())}})
		bound(p.notes)
		p.notes[digest] = number
	}
	return number
}

func (p *parts) beacon(ctx context.Context, digest statement.Digest) (uint64, error) {
	number := p.beacons[digest]
	if !p.usable(number) {
		raw, err := p.s.beaconNote(ctx, digest)
		if err != nil {
			return 0, err
		}
		number = p.add(&trialogv1.ReceiptPart{Part: &trialogv1.ReceiptPart_Beacon{Beacon: string(raw)}})
		bound(p.beacons)
		p.beacons[digest] = number
	}
	return number, nil
}

// enrolments returns the numbers of the parts that hold the enrolments of the
// signers, and of whom those rest on.
func (p *parts) enrolments(ctx context.Context, head *published, it *item) ([]uint64, error) {
	chain, ok := p.chains[it.signers]
	for _, e := range chain {
		ok = ok && p.usable(e.number) && p.usable(e.checkpoint)
	}
	if !ok {
		list, err := p.s.enrolments(ctx, head, it.stmt)
		if err != nil {
			return nil, err
		}
		chain = make([]*enrolmentPart, len(list))
		for i := range list {
			chain[i] = p.enrolment(list[i])
		}
		bound(p.chains)
		p.chains[it.signers] = chain
	}
	if len(chain) == 0 {
		return nil, nil
	}
	numbers := make([]uint64, len(chain))
	for i, e := range chain {
		numbers[i] = e.number
	}
	return numbers, nil
}

func (p *parts) enrolment(e receipt.Enrolment) *enrolmentPart {
	leaf := statement.Digest(entry.LeafHash(e.Entry))
	if known := p.entries[leaf]; known != nil && p.usable(known.number) && p.usable(known.checkpoint) {
		return known
	}
	sent := &enrolmentPart{checkpoint: p.note(e.Proof)}
	sent.number = p.add(&trialogv1.ReceiptPart{Part: &trialogv1.ReceiptPart_Enrolment{Enrolment: &trialogv1.EnrolmentPart{
		Entry: e.Entry,
		Proof: &trialogv1.StreamProof{Checkpoint: sent.checkpoint, Index: e.Proof.Index, Path: flat(e.Proof.Path)},
	}}})
	bound(p.entries)
	p.entries[leaf] = sent
	return sent
}

// bound forgets everything when there is too much of it: it is sent again.
func bound[K comparable, V any](m map[K]V) {
	if len(m) >= maxMemory {
		clear(m)
	}
}

// signersOf names what decides which enrolments a receipt needs.
func signersOf(stmt *statement.Statement) string {
	ids := stmt.SignerIDs()
	b := make([]byte, 0, 32*len(ids)+1+len(stmt.Organisation)+32)
	for i := range ids {
		b = append(b, ids[i][:]...)
	}
	b = append(b, byte(0))
	if stmt.Received != nil {
		b[len(b)-1] = 1
	}
	if own, _ := stmt.EnrolledKey(); own != nil { // it proves itself
		id := own.ID()
		b = append(b, id[:]...)
	}
	return string(append(binary.AppendUvarint(b, uint64(len(ids))), stmt.Organisation...))
}
