package parts

import (
	"fmt"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/verify"
)

// content is what an Assembler keeps of a part.
type content struct {
	note      *checkpoint.Note // of a checkpoint
	beacon    []byte
	enrolment receipt.Enrolment
}

// Assembler is a Checker that keeps what the parts hold, and makes receipts of
// it. It is not safe for concurrent use.
type Assembler struct {
	checker *Checker
	ring    []content // by number modulo Window
}

// NewAssembler makes the assembler of a new stream.
func NewAssembler(policy *verify.Policy) *Assembler { return &Assembler{checker: NewChecker(policy)} }

// AddCheckpoint is Checker.AddCheckpoint.
func (a *Assembler) AddCheckpoint(number uint64, note string) error {
	if err := a.checker.AddCheckpoint(number, note); err != nil {
		return err
	}
	n, err := checkpoint.Parse([]byte(note))
	if err != nil {
		return fmt.Errorf("part %d: the checkpoint: %w", number, err)
	}
	a.keep(number, content{note: n})
	return nil
}

// AddBeacon is Checker.AddBeacon.
func (a *Assembler) AddBeacon(number uint64, note string) error {
	if err := a.checker.AddBeacon(number, note); err != nil {
		return err
	}
	a.keep(number, content{beacon: []byte(note)})
	return nil
}

// AddEnrolment is Checker.AddEnrolment.
func (a *Assembler) AddEnrolment(number uint64, raw []byte, p Proof) error {
	if err := a.checker.AddEnrolment(number, raw, p); err != nil {
		return err
	}
	a.keep(number, content{enrolment: receipt.Enrolment{Entry: raw, Proof: a.proof(p)}})
	return nil
}

func (a *Assembler) keep(number uint64, k content) {
	if len(a.ring) < Window {
		a.ring = append(a.ring, k)
		return
	}
	a.ring[(number-1)%Window] = k
}

// part returns what was kept of a part that the checker has found.
func (a *Assembler) part(number uint64) content { return a.ring[(number-1)%Window] }

// proof makes a proof of one that was checked.
func (a *Assembler) proof(p Proof) *receipt.Proof {
	out := &receipt.Proof{Index: p.Index, Note: a.part(p.Checkpoint).note}
	if len(p.Path) > 0 {
		out.Path = make([][32]byte, len(p.Path)/hashSize)
	}
	for i := range out.Path {
		out.Path[i] = [hashSize]byte(p.Path[i*hashSize:])
	}
	return out
}

// Check is Checker.Check.
func (a *Assembler) Check(envelope []byte, f Final) (Included, error) {
	return a.checker.Check(envelope, f)
}

// Receipt holds an answer against the envelope that it answers, as Check does,
// and makes the receipt of it. Encode of the receipt gives the bytes that the log
// would have sent whole.
func (a *Assembler) Receipt(envelope []byte, f Final) (*receipt.Receipt, Included, error) {
	in, err := a.checker.Check(envelope, f)
	if err != nil {
		return nil, Included{}, err
	}
	r := &receipt.Receipt{Proof: a.proof(f.Proof), Entry: f.Entry}
	if len(r.Entry) == 0 {
		if r.Entry, err = entry.Encode(time.UnixMilli(f.ReceivedMillis), envelope); err != nil {
			return nil, Included{}, err
		}
	}
	if f.Beacon != 0 {
		r.Beacon = a.part(f.Beacon).beacon
	}
	for _, number := range f.Enrolments {
		r.Enrolments = append(r.Enrolments, a.part(number).enrolment)
	}
	return r, in, nil
}
