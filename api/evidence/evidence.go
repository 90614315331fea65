// Package evidence is one portable file that shows that a log, a witness or the
// signer of a log list said two things that cannot both be true: two signed tree
// heads that contradict each other, or a promise and what became of it.
//
// Whoever holds the file and a policy checks it offline with Verify; neither the
// sender nor the log is asked or believed. A file that is conclusive could not be
// made without the accused party's own keys. Who wrote it and when are claims.
package evidence

import (
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// Format is the value of the member format of an evidence file.
const Format = "trialog-evidence@v1"

// Ending is that of the name of an evidence file.
const Ending = ".evidence"

// MaxSize is the greatest length of an evidence file in bytes.
const MaxSize = 1 << 20

// maxHashes bounds the hashes of a file: no proof in a tree of fewer than 2^64
// leaves has more.
const maxHashes = 64

// maxBy bounds the name of who wrote a file, in bytes.
const maxBy = 200

// Kind says what a file shows.
type Kind string

// The kinds. What makes each of them conclusive is said at its constructor, and
// in docs/formats.md.
const (
	KindFork            Kind = "fork"
	KindInconsistent    Kind = "inconsistent"
	KindUnproven        Kind = "unproven"
	KindPromise         Kind = "promise"
	KindOverdue         Kind = "overdue"
	KindPromiseFork     Kind = "promise-fork"
	KindWitnessFork     Kind = "witness-fork"
	KindWitnessRollback Kind = "witness-rollback"
	KindLogList         Kind = "loglist"
)

// Evidence is the content of an evidence file. A value comes from Parse or from
// one of the constructors; By and At may be set afterwards.
type Evidence struct {
	Kind Kind
	// Notes are the signed tree heads: one or two of a fork, two of the other
	// kinds that compare heads, the older tree's first; one of a promise.
	Notes []*checkpoint.Note
	// Hashes are those of the proof: see NewInconsistent, NewUnproven and
	// NewPromise.
	Hashes [][32]byte
	// Promise is a pending record as the log signed it (receipt.Pending).
	Promise []byte
	// Promises are the two pending records of a KindPromiseFork.
	Promises [][]byte
	// Leaf is the leaf hash that the tree of a broken promise has instead; nil
	// for all other kinds.
	Leaf *[32]byte
	// Lists are two signed log lists (package loglist).
	Lists [][]byte
	// By and At say who wrote the file and when, in ms. They are claims; empty
	// and zero if nothing was said.
	By string
	At time.Time
}

// NewFork holds two notes of one origin and size with different roots, or one
// note of size 0 whose root is not the empty tree's (b is nil).
//
// It is conclusive against the log if a key that the policy lists for the origin
// signed each of them.
func NewFork(a, b *checkpoint.Note) *Evidence {
	e := &Evidence{Kind: KindFork, Notes: []*checkpoint.Note{a}}
	if b != nil {
		e.Notes = append(e.Notes, b)
	}
	return e
}

// NewInconsistent holds two notes of one origin, of sizes 0 < m < n, and the
// hashes SUBPROOF(m, D[n], false) of RFC 6962, section 2.1.2, in the newer tree:
// a consistency proof that begins with the hash of a subtree even where m is a
// power of two. [Hashes] makes them.
//
// It is conclusive against the log if a key that the policy lists for the origin
// signed both notes, the hashes lead to the newer root, and what they lead to for
// the first m leaves is not the older root: then the older tree is no beginning
// of the newer one.
func NewInconsistent(older, newer *checkpoint.Note, hashes [][32]byte) *Evidence {
	return &Evidence{Kind: KindInconsistent, Notes: []*checkpoint.Note{older, newer}, Hashes: hashes}
}

// NewUnproven holds two notes of one origin, of sizes m < n, and what somebody
// gave for a consistency proof (RFC 6962, section 2.1.2) and is none.
//
// It is never conclusive: whoever holds two genuine notes can send a wrong proof.
// It is kept to ask the log for a right one with.
func NewUnproven(older, newer *checkpoint.Note, proof [][32]byte) *Evidence {
	return &Evidence{Kind: KindUnproven, Notes: []*checkpoint.Note{older, newer}, Hashes: proof}
}

// NewPromise holds a pending record and a note whose tree has another leaf at the
// promised index, with that leaf's hash and its inclusion path (RFC 6962, section
// 2.1.1), leaf to root.
//
// It is conclusive against the log if one of the policy's pending keys signed the
// record and a key that the policy lists for its origin the note, the path is
// right, and the leaf is not the promised one.
func NewPromise(record []byte, note *checkpoint.Note, leaf [32]byte, path [][32]byte) *Evidence {
	return &Evidence{Kind: KindPromise, Promise: record, Notes: []*checkpoint.Note{note}, Leaf: &leaf, Hashes: path}
}

// NewOverdue holds a pending record and a cosigned note whose tree does not reach
// to the promised index although the deadline has passed.
//
// It is never conclusive. A promise is kept by the log's own signature, in time,
// and that there is none cannot be shown: a log that signed and reached no quorum
// looks the same, and anybody can have witnesses sign an old tree head again. The
// file is kept to ask the log for that signature with. It is worth asking if one of
// the policy's pending keys signed the record, the note satisfies the policy and is
// of the record's origin, its size is not above the index, and the cosignatures put
// it behind the deadline by more than verify.MaxSkew.
func NewOverdue(record []byte, note *checkpoint.Note) *Evidence {
	return &Evidence{Kind: KindOverdue, Promise: record, Notes: []*checkpoint.Note{note}}
}

// NewPromiseFork holds two pending records that promise one place to two entries.
//
// It is conclusive against the log if the policy's pending keys signed both, both
// are of the policy's log, of one origin and of one index, and they name different
// leaf hashes: no tree keeps both.
func NewPromiseFork(a, b []byte) *Evidence {
	return &Evidence{Kind: KindPromiseFork, Promises: [][]byte{a, b}}
}

// NewWitnessFork holds two notes of one origin and size with different roots.
//
// It is conclusive against a witness of the policy if one key of it signed both.
func NewWitnessFork(a, b *checkpoint.Note) *Evidence {
	return &Evidence{Kind: KindWitnessFork, Notes: []*checkpoint.Note{a, b}}
}

// NewWitnessRollback holds two notes of one origin, of sizes m < n.
//
// It is conclusive against a witness of the policy if one key of it signed the
// smaller tree at a later time than the larger one: a cosignature says that the
// tree is the largest that the witness has seen by then
// (c2sp.org/tlog-cosignature). A witness whose clock went back looks the same, and
// said what was not true.
func NewWitnessRollback(smaller, larger *checkpoint.Note) *Evidence {
	return &Evidence{Kind: KindWitnessRollback, Notes: []*checkpoint.Note{smaller, larger}}
}

// NewLogList holds two signed log lists, in any order.
//
// It is conclusive against whoever signs the log list if one key of the policy
// signed both, both are of the policy's log, and the one with the greater version
// may not follow the other (loglist.Follows), or both have one version and
// different contents.
func NewLogList(a, b []byte) *Evidence {
	return &Evidence{Kind: KindLogList, Lists: [][]byte{a, b}}
}

// Refused makes evidence of two notes and proof, what somebody gave for the
// standard consistency proof between them (nil if nothing was given): a fork if
// both have one size or the newer one claims a root that no empty tree has;
// inconsistent if the proof itself shows that; else unproven. It returns nil if
// they do not contradict each other: they are of two logs, or of one tree, the
// older one is empty, or the proof is right. older is nil if there was none; the
// notes change places if it is the larger tree.
func Refused(older, newer *checkpoint.Note, proof [][32]byte) *Evidence {
	if newer.Checkpoint().CheckRoot() != nil {
		return NewFork(newer, nil)
	}
	if older == nil || older.Checkpoint().Origin != newer.Checkpoint().Origin {
		return nil
	}
	if older.Checkpoint().CheckRoot() != nil {
		return NewFork(older, nil)
	}
	if older.Checkpoint().Size > newer.Checkpoint().Size {
		older, newer = newer, older
	}
	m, n := older.Checkpoint(), newer.Checkpoint()
	switch {
	case m.Size == n.Size && m.Root != n.Root:
		return NewFork(older, newer)
	case m.Size == n.Size, m.Size == 0:
		return nil
	}
	if len(proof) > maxHashes { // no proof at all, and no file would hold it
		return NewUnproven(older, newer, nil)
	}
	hashes := FromConsistency(m.Size, m.Root, proof)
	first, whole, ok := Roots(m.Size, n.Size, hashes)
	switch {
	case !ok || whole != n.Root:
		return NewUnproven(older, newer, proof)
	case first == m.Root:
		return nil
	}
	return NewInconsistent(older, newer, hashes)
}
