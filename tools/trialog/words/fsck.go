package words

import (
	"fmt"

	"github.com/trialog/trialog/api/fsck"
)

// Shard names a log, also one of which nothing could be read.
func Shard(origin string) string { return Or(origin, "the log") }

// Or returns s, or instead if s is empty.
func Or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

// Findings counts.
func Findings(n int) string {
	if n == 1 {
		return "1 thing is wrong"
	}
	return fmt.Sprintf("%d things are wrong", n)
}

// Place says where a finding is: "tile/entries/001, byte 3000, entry 257".
func Place(f fsck.Finding) string {
	text := f.Object
	add := func(s string) {
		if text != "" {
			text += ", "
		}
		text += s
	}
	switch {
	case f.Exact:
		add(fmt.Sprintf("byte %d", f.Offset))
	case f.Length > 0:
		add(fmt.Sprintf("within bytes %d to %d", f.Offset, f.Offset+f.Length-1))
	}
	switch {
	case f.Entry != nil && f.Entries > 1:
		add(fmt.Sprintf("entries %d to %d", *f.Entry, *f.Entry+f.Entries-1))
	case f.Entry != nil:
		add(fmt.Sprintf("entry %d", *f.Entry))
	}
	return Or(text, "the log as a whole")
}

// Finding says what is wrong, for people who do not know how a log is built.
func Finding(f fsck.Finding) string {
	switch f.Kind {
	case fsck.KindCheckpoint:
		return "the log's signed summary is damaged, or the policy does not accept who signed it"
	case fsck.KindHistory:
		return "the log is not the one that your earlier file shows: " + f.Detail
	case fsck.KindRoot:
		return "the files fit together, but they are those of another log than was signed for"
	case fsck.KindMissing:
		return "the file is missing"
	case fsck.KindUnreadable:
		return "the file cannot be read, or the server does not give it out"
	case fsck.KindTruncated:
		return "the file ends too early"
	case fsck.KindSurplus:
		return "the file goes on behind its end"
	case fsck.KindHash:
		return "this file of the tree is wrong here; the entries that it sums up are right"
	case fsck.KindEntry:
		return "this is not what was signed for; the tree above it is right"
	case fsck.KindDispute:
		return "two files contradict each other, and the signatures support neither"
	case fsck.KindFormat:
		return "what was signed for is no statement that can be read"
	case fsck.KindLog:
		return "the statement was meant for another log"
	case fsck.KindDuplicate:
		return "the same statement is in the log twice"
	case fsck.KindChain:
		return "the statement does not follow the one before it by the same signer"
	case fsck.KindKey:
		return "a signer was not known to the log when this was said"
	case fsck.KindSignature:
		return "the statement's signatures do not hold"
	case fsck.KindShard:
		return "the parts of the log do not fit together: " + f.Detail
	case fsck.KindTime, fsck.KindUnchecked:
	}
	return FindingNote(f)
}

// FindingNote says what is worth knowing although nothing is wrong.
func FindingNote(f fsck.Finding) string {
	if f.Kind == fsck.KindTime && f.Entry != nil {
		return fmt.Sprintf("the log's own clock steps back at %d places, first at entry %d", f.Entries, *f.Entry)
	}
	return f.Detail
}
