package fsck

import (
	"cmp"
	"fmt"
	"slices"
)

// Kind says what is wrong.
type Kind string

// The kinds of findings.
const (
	// KindCheckpoint: the checkpoint cannot be read, or the policy refuses it.
	KindCheckpoint Kind = "checkpoint"
	// KindHistory: the log contradicts what the caller holds of it.
	KindHistory Kind = "history"
	// KindRoot: entries and tiles fit together, and give another root than the
	// signed one.
	KindRoot Kind = "root"
	// KindMissing: there is no such object.
	KindMissing Kind = "missing"
	// KindUnreadable: the source could not give the object.
	KindUnreadable Kind = "unreadable"
	// KindTruncated: the object ends too early.
	KindTruncated Kind = "truncated"
	// KindSurplus: the object goes on behind its end.
	KindSurplus Kind = "surplus"
	// KindHash: a hash of a tile is not the one that the signed root supports.
	KindHash Kind = "hash"
	// KindEntry: an entry of a bundle is not the one that the signed root supports.
	KindEntry Kind = "entry"
	// KindDispute: two objects contradict each other and the signed root
	// supports neither.
	KindDispute Kind = "dispute"
	// KindFormat: the log holds an entry that is none.
	KindFormat Kind = "format"
	// KindLog: the log holds a statement that is meant for another log.
	KindLog Kind = "log"
	// KindDuplicate: the log holds a statement twice.
	KindDuplicate Kind = "duplicate"
	// KindChain: a statement does not continue its writer's chain.
	KindChain Kind = "chain"
	// KindKey: a statement is signed by a key that is not enrolled.
	KindKey Kind = "key"
	// KindSignature: a statement's signatures do not verify.
	KindSignature Kind = "signature"
	// KindTime: the log's receive time steps back. It is a note, not a finding.
	KindTime Kind = "time"
	// KindShard: a statement about the shard's beginning or end is out of place,
	// or two shards are not linked.
	KindShard Kind = "shard"
	// KindUnchecked: something could not be checked. It is a note.
	KindUnchecked Kind = "unchecked"
)

// Support says which side of a contradiction the signed root supports.
type Support string

// The sides.
const (
	// SupportsBelow: what lies below the tile, in the end the entries.
	SupportsBelow Support = "below"
	// SupportsAbove: the tile above, against the object.
	SupportsAbove Support = "above"
	// SupportsNeither: both contradict it.
	SupportsNeither Support = "neither"
)

// Finding is one thing that is wrong, and where.
type Finding struct {
	// Shard is the origin of the log that it is about.
	Shard string `json:"shard,omitempty"`
	Kind  Kind   `json:"kind"`
	// Object is the path of the object as the source knows it, "tile/1/003",
	// or empty if no object is to blame.
	Object string `json:"object,omitempty"`
	// Offset is the first wrong byte if Exact, else the first byte of the Length
	// bytes among which it is. For missing objects it is 0.
	Offset int64 `json:"offset"`
	// Length is how many bytes are wrong, or may be; 0 if it is not known.
	Length int64 `json:"length,omitempty"`
	Exact  bool  `json:"exact"`
	// Entry is the index, in the log, of the first entry concerned; nil if it is
	// not about entries. Entries is how many follow one another.
	Entry   *uint64 `json:"entry,omitempty"`
	Entries uint64  `json:"entries,omitempty"`
	// Want and Got are hashes in hexadecimal, where it is about one.
	Want string `json:"want,omitempty"`
	Got  string `json:"got,omitempty"`
	// Supports is what the signed root supports, where two objects differ.
	Supports Support `json:"supports,omitempty"`
	// Detail says in a sentence what was expected.
	Detail string `json:"detail"`
}

// String writes the finding in one line: what, where, why.
func (f Finding) String() string {
	s := string(f.Kind)
	if f.Object != "" {
		s += " " + f.Object
	}
	switch {
	case f.Exact:
		s += fmt.Sprintf(" byte %d", f.Offset)
	case f.Length > 0:
		s += fmt.Sprintf(" bytes %d to %d", f.Offset, f.Offset+f.Length-1)
	}
	if f.Entry != nil {
		s += fmt.Sprintf(" entry %d", *f.Entry)
		if f.Entries > 1 {
			s += fmt.Sprintf(" and %d more", f.Entries-1)
		}
	}
	return s + ": " + f.Detail
}

// compare orders findings by place, so that a report does not depend on which
// worker was quicker.
func compare(a, b Finding) int {
	return cmp.Or(cmp.Compare(a.Shard, b.Shard), cmp.Compare(place(a), place(b)), cmp.Compare(index(a), index(b)),
		cmp.Compare(a.Object, b.Object), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Detail, b.Detail), cmp.Compare(a.Got, b.Got))
}

// place puts what is about the whole log first, then objects, then entries.
func place(f Finding) int {
	switch {
	case f.Kind == KindCheckpoint || f.Kind == KindHistory || f.Kind == KindRoot:
		return 0
	case f.Object != "" && f.Entry == nil:
		return 1
	}
	return 2
}

func index(f Finding) uint64 {
	if f.Entry == nil {
		return 0
	}
	return *f.Entry
}

func sorted(list []Finding) []Finding {
	slices.SortFunc(list, compare)
	return slices.CompactFunc(list, func(a, b Finding) bool { return compare(a, b) == 0 })
}
