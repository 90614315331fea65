package parts

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// Window is how many of a stream's parts may be referred to: the newest ones.
const Window = 1024

// Limits of what an answer may hold; those of package receipt.
const (
	maxEnrolments = 32
	maxPath       = 63 * hashSize
	maxIndex      = math.MaxInt64
	maxMillis     = math.MaxInt64 / int64(time.Millisecond) // of package entry
)

// Proof is an inclusion proof under a checkpoint that is a part of its own.
type Proof struct {
	// Checkpoint is the number of the part that holds the note.
	Checkpoint uint64
	// Index of the entry.
	Index uint64
	// Path is the RFC 6962 inclusion path, leaf to root: hashes of 32 bytes, one
	// after the other.
	Path []byte
}

// Final is a receipt in parts.
type Final struct {
	Proof Proof
	// ReceivedMillis is the receive time by the log's clock, ms since 1970 UTC.
	ReceivedMillis int64
	// Entry is the entry of a duplicate whose logged envelope differs from the
	// one that was sent; else empty.
	Entry []byte
	// Beacon is the number of the part that holds the beacon; 0 for none.
	Beacon uint64
	// Enrolments are numbers of parts, in the receipt's order.
	Enrolments []uint64
	// Duplicate tells that the statement was in the log before.
	Duplicate bool
}

// Included is what a checked answer proves.
type Included struct {
	// Origin and Size are the checkpoint's.
	Origin string
	Size   uint64
	Index  uint64
	// Leaf is the RFC 6962 leaf hash of the entry.
	Leaf [32]byte
}

// kind says what a part is.
type kind byte

const (
	noPart kind = iota
	checkpointPart
	beaconPart
	enrolmentPart
)

// part is what a Checker keeps of one: not its text, which a stranger may make
// long.
type part struct {
	kind   kind
	origin string
	size   uint64
	root   checkpoint.Hash
}

// Checker holds the parts and answers of one stream against a policy. It is not
// safe for concurrent use.
type Checker struct {
	policy *verify.Policy
	last   uint64 // number of the newest part
	ring   []part // by number modulo Window
	buffer []byte
}

// NewChecker makes the checker of a new stream. A policy that is Remembering
// judges a note once for all streams.
func NewChecker(policy *verify.Policy) *Checker { return &Checker{policy: policy} }

// AddCheckpoint takes a checkpoint note in. It must satisfy the policy, and its
// number be one more than that of the part before, from 1.
func (c *Checker) AddCheckpoint(number uint64, note string) error {
	if err := c.follows(number); err != nil {
		return err
	}
	cosigned, err := c.policy.CheckNote([]byte(note))
	if err != nil {
		return fmt.Errorf("part %d: the checkpoint: %w", number, err)
	}
	c.add(part{kind: checkpointPart, origin: cosigned.Origin, size: cosigned.Size, root: cosigned.Root})
	return nil
}

// AddBeacon takes the note of a beacon in, as AddCheckpoint does.
func (c *Checker) AddBeacon(number uint64, note string) error {
	if err := c.follows(number); err != nil {
		return err
	}
	if _, err := c.policy.CheckNote([]byte(note)); err != nil {
		return fmt.Errorf("part %d: the beacon: %w", number, err)
	}
	c.add(part{kind: beaconPart})
	return nil
}

// AddEnrolment takes the entry of an enrolment in, which must be included where
// its proof says.
func (c *Checker) AddEnrolment(number uint64, raw []byte, p Proof) error {
	if err := c.follows(number); err != nil {
		return err
	}
	if _, err := entry.Parse(raw); err != nil {
		return fmt.Errorf("part %d: the enrolment: %w", number, err)
	}
	if _, err := c.included(entry.LeafHash(raw), p); err != nil {
		return fmt.Errorf("part %d: the enrolment: %w", number, err)
	}
	c.add(part{kind: enrolmentPart})
	return nil
}

// follows checks the number of the next part.
func (c *Checker) follows(number uint64) error {
	if number != c.last+1 {
		return fmt.Errorf("part %d: expected number %d", number, c.last+1)
	}
	return nil
}

func (c *Checker) add(p part) {
	c.last++
	if len(c.ring) < Window {
		c.ring = append(c.ring, p)
		return
	}
	c.ring[(c.last-1)%Window] = p
}

// find returns a part that may be referred to; nil for any other number.
func (c *Checker) find(number uint64, want kind) *part {
	if number == 0 || number > c.last || c.last-number >= Window {
		return nil
	}
	if p := &c.ring[(number-1)%Window]; p.kind == want {
		return p
	}
	return nil
}

// included checks that leaf is where p says.
func (c *Checker) included(leaf [hashSize]byte, p Proof) (*part, error) {
	under := c.find(p.Checkpoint, checkpointPart)
	if under == nil {
		return nil, fmt.Errorf("part %d is not one of the newest %d, or no checkpoint", p.Checkpoint, Window)
	}
	if p.Index > maxIndex || len(p.Path) > maxPath {
		return nil, fmt.Errorf("expected an index below 2^63 and at most %d hashes", maxPath/hashSize)
	}
	root, ok := rootOf(leaf, p.Index, under.size, p.Path)
	if !ok {
		return nil, fmt.Errorf("no path of %d bytes belongs to index %d in a tree of %d", len(p.Path), p.Index, under.size)
	}
	if root != [hashSize]byte(under.root) {
		return nil, fmt.Errorf("the entry is not at index %d of the tree of size %d: the path leads to another root", p.Index, under.size)
	}
	return under, nil
}

// Check holds an answer against the envelope that it answers. An error says that
// the answer proves nothing.
func (c *Checker) Check(envelope []byte, f Final) (Included, error) {
	if err := c.refers(f); err != nil {
		return Included{}, err
	}
	var leaf [hashSize]byte
	if len(f.Entry) == 0 {
		if len(envelope) == 0 || entry.HeaderSize+len(envelope) > entry.MaxSize {
			return Included{}, fmt.Errorf("an envelope of %d bytes is in no entry", len(envelope))
		}
		leaf, c.buffer = leafOf(c.buffer, f.ReceivedMillis, envelope)
	} else {
		if err := sameStatement(envelope, f); err != nil {
			return Included{}, err
		}
		leaf = entry.LeafHash(f.Entry)
	}
	under, err := c.included(leaf, f.Proof)
	if err != nil {
		return Included{}, err
	}
	return Included{Origin: under.origin, Size: under.size, Index: f.Proof.Index, Leaf: leaf}, nil
}

// refers checks the parts that an answer names, and its receive time.
func (c *Checker) refers(f Final) error {
	if f.ReceivedMillis < 0 || f.ReceivedMillis > maxMillis {
		return fmt.Errorf("receive time %d ms is out of range", f.ReceivedMillis)
	}
	if f.Beacon != 0 && c.find(f.Beacon, beaconPart) == nil {
		return fmt.Errorf("part %d is not one of the newest %d, or no beacon", f.Beacon, Window)
	}
	if len(f.Enrolments) > maxEnrolments {
		return fmt.Errorf("%d enrolments, expected at most %d", len(f.Enrolments), maxEnrolments)
	}
	for i, number := range f.Enrolments {
		if c.find(number, enrolmentPart) == nil {
			return fmt.Errorf("part %d is not one of the newest %d, or no enrolment", number, Window)
		}
		if slices.Contains(f.Enrolments[:i], number) {
			return fmt.Errorf("part %d is named twice", number)
		}
	}
	return nil
}

// sameStatement checks the entry of a duplicate: another envelope, perhaps with
// its signatures in another order, around the payload that was sent. The payload
// names the signers, so that its identity is the same too.
func sameStatement(envelope []byte, f Final) error {
	e, err := entry.Parse(f.Entry)
	if err != nil {
		return err
	}
	switch {
	case !f.Duplicate:
		return errors.New("an entry came with an answer that is no duplicate's")
	case e.Received.UnixMilli() != f.ReceivedMillis:
		return fmt.Errorf("the entry was received at %d ms, the answer says %d", e.Received.UnixMilli(), f.ReceivedMillis)
	case bytes.Equal(e.Envelope, envelope):
		return errors.New("the entry came with an envelope that does not differ")
	}
	sent, err := statement.ParseEnvelope(envelope)
	if err != nil {
		return fmt.Errorf("the envelope that was sent: %w", err)
	}
	logged, err := statement.ParseEnvelope(e.Envelope)
	if err != nil {
		return fmt.Errorf("the logged envelope: %w", err)
	}
	if !bytes.Equal(sent.Payload, logged.Payload) {
		return errors.New("the entry is of another statement")
	}
	return nil
}
