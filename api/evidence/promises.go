package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/verify"
)

// record reads a promise and returns what is missing for it to bind the policy's
// log.
func (j *judge) record(raw []byte) (*receipt.Pending, string) {
	p, err := receipt.ParsePending(raw, j.trust.PendingKeys...)
	if err != nil {
		return nil, err.Error()
	}
	j.f.Promises = append(j.f.Promises, Promise{
		Identity: p.Identity.String(), Origin: p.Origin, Index: p.Index, LeafHash: p.LeafHash.String(),
		Received: p.Received, Deadline: p.Deadline,
	})
	if p.Log != j.trust.Log {
		return nil, fmt.Sprintf("the promise is of the log %q, the policy is about %q", p.Log, j.trust.Log)
	}
	return p, ""
}

// recordOfNote is record of the only promise, which must be about the log of the
// note.
func (j *judge) recordOfNote() (*receipt.Pending, string) {
	p, missing := j.record(j.e.Promise)
	if missing == "" && p.Origin != j.f.Origin {
		missing = fmt.Sprintf("the promise is about %q, the tree head about %q", p.Origin, j.f.Origin)
	}
	return p, missing
}

func (j *judge) twoPromises() string {
	a, missing := j.record(j.e.Promises[0])
	if missing != "" {
		return missing
	}
	b, missing := j.record(j.e.Promises[1])
	switch {
	case missing != "":
		return missing
	case a.Origin != b.Origin:
		return fmt.Sprintf("the promises are about %q and %q", a.Origin, b.Origin)
	case a.Index != b.Index:
		return fmt.Sprintf("the promises are of two places, %d and %d", a.Index, b.Index)
	case a.LeafHash == b.LeafHash:
		return "both promises are of the same entry"
	}
	j.f.Origin = a.Origin
	j.accuse(j.log())
	j.sayf("%s promised one place to two different entries: place %d to what it received at %s, and to what it received at %s.",
		capital(j.log()), a.Index, at(a.Received), at(b.Received))
	j.sayf("It can keep one of the two promises at most.")
	return ""
}

func (j *judge) otherLeaf() string {
	p, missing := j.recordOfNote()
	if missing == "" {
		missing = j.signedByLog()
	}
	if missing != "" {
		return missing
	}
	c := j.e.Notes[0].Checkpoint()
	if c.Size <= p.Index {
		return fmt.Sprintf("the tree of %s does not reach to the promised place %d", entries(c.Size), p.Index)
	}
	if *j.e.Leaf == [32]byte(p.LeafHash) {
		return "the promise was kept: the entry is the promised one"
	}
	path := make([][]byte, len(j.e.Hashes))
	for i := range j.e.Hashes {
		path[i] = j.e.Hashes[i][:]
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.Index, c.Size, j.e.Leaf[:], path, c.Root[:]); err != nil {
		return fmt.Sprintf("it is not proven what the tree has at the promised place %d", p.Index)
	}
	j.accuse(j.log())
	j.sayf("%s broke its promise: it promised, for what it received at %s, place %d, and signed a tree of %s that has another entry there.",
		capital(j.log()), at(p.Received), p.Index, entries(c.Size))
	return ""
}

// overdue is never conclusive; it says how far the file goes.
func (j *judge) overdue() string {
	p, missing := j.recordOfNote()
	if missing != "" {
		return missing
	}
	c, err := j.policy.CheckNote(j.e.Notes[0].Bytes())
	if err != nil {
		return "the tree head does not satisfy the policy: " + err.Error()
	}
	if c.Size > p.Index {
		return fmt.Sprintf("the tree of %s reaches to the promised place %d", entries(c.Size), p.Index)
	}
	seconds, ok := c.NotBefore()
	if !ok {
		return "the witnesses' signatures state no time"
	}
	j.f.NotBefore = time.Unix(int64(seconds), 0).UTC() //nolint:gosec // at most 2^63-1
	if late := j.f.NotBefore.Sub(p.Deadline); late <= verify.MaxSkew {
		return fmt.Sprintf("the witnesses signed at %s, which is not behind the promised %s by more than clocks may be wrong (%s)",
			at(j.f.NotBefore), at(p.Deadline), verify.MaxSkew)
	}
	j.f.Ask = fmt.Sprintf("Ask the log for the tree head that it signed by %s and that reaches to place %d. If it has none to give, "+
		"that speaks against it.", at(p.Deadline), p.Index)
	return fmt.Sprintf("the log promised place %d by %s, and at %s a quorum of witnesses signed a tree of %s; but a log that signed "+
		"its tree in time and could not show it to the witnesses looks the same, and anybody can have witnesses sign an old tree head again",
		p.Index, at(p.Deadline), at(j.f.NotBefore), entries(c.Size))
}

func (j *judge) logLists() string {
	// With one key at a time: two keys are two signers, each of whom may have kept
	// to what it said.
	for _, key := range j.trust.LogListKeys {
		a, errA := loglist.Parse(j.e.Lists[0], key)
		b, errB := loglist.Parse(j.e.Lists[1], key)
		if errA != nil || errB != nil {
			continue
		}
		return j.contradict(a, b, Party{Role: RoleListSigner, Name: key.ID().String()})
	}
	return "no key that the policy names for log lists signed both"
}

// contradict returns what is missing for two lists by one key to contradict each
// other.
func (j *judge) contradict(a, b *loglist.List, signer Party) string {
	for _, l := range []*loglist.List{a, b} {
		j.f.Lists = append(j.f.Lists, List{Version: l.Version, Issued: l.Issued, Shards: len(l.Shards)})
		if l.Log != j.trust.Log {
			return fmt.Sprintf("a list is of the log %q, the policy is about %q", l.Log, j.trust.Log)
		}
	}
	if a.Version > b.Version {
		a, b = b, a
	}
	if a.Version == b.Version {
		if same(a, b) {
			return "both lists say the same"
		}
		j.accuse(signer)
		j.sayf("%s signed two different lists with the version %d.", capital(signer), a.Version)
		return ""
	}
	err := loglist.Follows(a, b)
	if err == nil {
		return "the newer list may follow the older one"
	}
	reason := err.Error()
	if history, ok := errors.AsType[*loglist.HistoryError](err); ok {
		reason = history.Reason
		if history.Origin != "" {
			reason = history.Origin + " " + reason
		}
	}
	j.accuse(signer)
	j.sayf("%s rewrote the history of the log: its version %d may not follow its version %d: %s.",
		capital(signer), b.Version, a.Version, reason)
	return ""
}

// same compares two lists by their one spelling.
func same(a, b *loglist.List) bool {
	one, errA := a.Encode()
	other, errB := b.Encode()
	return errA == nil && errB == nil && bytes.Equal(one, other)
}
