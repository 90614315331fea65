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

// record reads the promise and returns what is missing for it to bind the log of
// the note.
func (j *judge) record() (*receipt.Pending, string) {
	p, err := receipt.ParsePending(j.e.Promise, j.trust.PendingKeys...)
	if err != nil {
		return nil, err.Error()
	}
	j.f.Promise = &Promise{
		Identity: p.Identity.String(), Index: p.Index, LeafHash: p.LeafHash.String(), Received: p.Received, Deadline: p.Deadline,
	}
	switch {
	case p.Log != j.trust.Log:
		return nil, fmt.Sprintf("the promise is of the log %q, the policy is about %q", p.Log, j.trust.Log)
	case p.Origin != j.f.Origin:
		return nil, fmt.Sprintf("the promise is about %q, the tree head about %q", p.Origin, j.f.Origin)
	}
	return p, ""
}

func (j *judge) otherLeaf() string {
	p, missing := j.record()
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

func (j *judge) overdue() string {
	p, missing := j.record()
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
	j.accuse(j.log())
	j.sayf("%s did not keep its promise in time: what it received at %s was to be in the tree, at place %d, by %s. "+
		"At %s a quorum of witnesses had still seen a tree of %s only.",
		capital(j.log()), at(p.Received), p.Index, at(p.Deadline), at(j.f.NotBefore), entries(c.Size))
	j.caveatf("The log was late; that the entry is lost is not shown. A log that signed in time and could not show that " +
		"to the witnesses can say so: the tree head that it signed.")
	return ""
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
	j.sayf("%s rewrote the history of the log: version %d contradicts version %d, which it had signed before: %s.",
		capital(signer), b.Version, a.Version, reason)
	return ""
}

// same compares two lists by their one spelling.
func same(a, b *loglist.List) bool {
	one, errA := a.Encode()
	other, errB := b.Encode()
	return errA == nil && errB == nil && bytes.Equal(one, other)
}
