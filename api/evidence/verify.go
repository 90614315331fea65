package evidence

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/verify"
)

// Verify says what an evidence file shows by a policy. The error is Parse's: the
// file cannot be read. Evidence that shows nothing is a finding too, with the
// reason in Missing.
//
// Only valid signatures by keys of the policy count. A line that does not verify
// is as good as not there: whoever has the note could have left it out.
func Verify(raw []byte, policy *verify.Policy) (*Finding, error) {
	e, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	return e.Judge(policy), nil
}

// Judge is Verify of evidence that was parsed, or was just made.
func (e *Evidence) Judge(policy *verify.Policy) *Finding {
	j := &judge{
		e: e, policy: policy, trust: policy.Trust(),
		f: &Finding{Kind: e.Kind, By: e.By, At: e.At, PolicyFingerprint: policy.Fingerprint()},
	}
	missing := e.incomplete()
	if missing == "" {
		for _, n := range e.Notes {
			j.f.Heads = append(j.f.Heads, j.head(n))
		}
		if len(e.Notes) > 0 {
			j.f.Origin = e.Notes[0].Checkpoint().Origin
		}
		missing = j.judge()
	}
	if missing != "" {
		j.f.Missing, j.f.Against = missing, nil
		j.f.Sentences = []string{"This shows nothing by itself: " + missing + "."}
		if j.f.Ask != "" {
			j.f.Sentences = append(j.f.Sentences, j.f.Ask)
		}
		return j.f
	}
	j.f.Conclusive = true
	j.warnRetired()
	return j.f
}

// judge judges one file.
type judge struct {
	e      *Evidence
	policy *verify.Policy
	trust  verify.Trust
	f      *Finding
	// firm are the witnesses that are accused by a key which the policy does not
	// retire.
	firm []Party
}

// judge returns what is missing for the evidence to be conclusive; "" if nothing
// is, and then the finding is filled in.
func (j *judge) judge() string {
	switch j.e.Kind {
	case KindFork:
		return j.fork()
	case KindInconsistent:
		return j.inconsistent()
	case KindUnproven:
		return j.unproven()
	case KindPromise:
		return j.otherLeaf()
	case KindOverdue:
		return j.overdue()
	case KindPromiseFork:
		return j.twoPromises()
	case KindWitnessFork:
		return j.witnessFork()
	case KindWitnessRollback:
		return j.witnessRollback()
	case KindLogList:
		return j.logLists()
	}
	return "its kind is not known"
}

// incomplete says what a value that Parse would not have made lacks; "" if nothing.
func (e *Evidence) incomplete() string {
	s, known := shapeOf(e.Kind)
	switch {
	case !known:
		return fmt.Sprintf("nothing is known of evidence of the kind %q", e.Kind)
	case len(e.Notes) < s.notesLeast || len(e.Notes) > s.notesMost || slices.Contains(e.Notes, nil):
		return "a tree head is missing"
	case s.leaf && e.Leaf == nil:
		return "the leaf hash is missing"
	case s.promises && len(e.Promises) != 2:
		return "a promise is missing"
	case s.lists && len(e.Lists) != 2:
		return "a log list is missing"
	}
	return ""
}

// head finds the signatures on a note that count.
func (j *judge) head(n *checkpoint.Note) Head {
	c, digest := n.Checkpoint(), n.Digest()
	h := Head{Size: c.Size, Root: hex.EncodeToString(c.Root[:]), Note: hex.EncodeToString(digest[:])}
	logKeys := j.logKeys(c.Origin)
	for _, sig := range n.Signatures() {
		for _, key := range logKeys {
			if _, ok := signed(key, n, sig); ok {
				h.SignedByLog = true
			}
		}
		for _, w := range j.policy.Notes().Witnesses() {
			t, ok := signed(w.Key, n, sig)
			if !ok || !j.counts(w.Key, c) {
				continue
			}
			s := Cosignature{Witness: w.Name, key: w.Key}
			if t > 0 {
				s.Time = time.Unix(int64(t), 0).UTC() //nolint:gosec // at most 2^63-1
			}
			h.Witnesses = append(h.Witnesses, s)
		}
	}
	return h
}

// signed tells whether a signature line is a valid one by key, and the time that
// it states.
func signed(key *checkpoint.VerifierKey, n *checkpoint.Note, sig checkpoint.Signature) (uint64, bool) {
	if sig.Name != key.Name() || sig.KeyID != key.ID() {
		return 0, false
	}
	t, err := key.VerifyCheckpoint(n, sig)
	return t, err == nil
}

// logKeys are all keys that the policy has for a log, in either half.
func (j *judge) logKeys(origin string) []*checkpoint.VerifierKey {
	keys := slices.Clone(j.trust.RequiredLogKeys)
	for _, l := range j.policy.Notes().Logs() {
		keys = append(keys, l.Key)
	}
	return slices.DeleteFunc(keys, func(k *checkpoint.VerifierKey) bool { return k.Name() != origin })
}

// signedByLog returns what is missing for the log to be bound by all notes.
func (j *judge) signedByLog() string {
	if len(j.logKeys(j.f.Origin)) == 0 {
		return fmt.Sprintf("the policy lists no log %q", j.f.Origin)
	}
	for i, h := range j.f.Heads {
		if c := j.e.Notes[i].Checkpoint(); c.Origin != j.f.Origin {
			return fmt.Sprintf("the tree heads are of two logs, %q and %q", j.f.Origin, c.Origin)
		}
		if !h.SignedByLog {
			return fmt.Sprintf("no key that the policy lists for the log signed the tree head of size %d", h.Size)
		}
	}
	return ""
}

// log is the log as a party.
func (j *judge) log() Party { return Party{RoleLog, j.f.Origin, j.trust.LogOperator} }

// witness is a witness as a party.
func (j *judge) witness(name string) Party {
	p := Party{Role: RoleWitness, Name: name}
	for _, o := range j.policy.Notes().Operators() {
		if slices.Contains(o.Witnesses, name) {
			p.RunBy = j.trust.RunBy[o.Name]
		}
	}
	return p
}

// pairs are the signatures of one witness key on both heads.
func (j *judge) pairs() [][2]Cosignature {
	var list [][2]Cosignature
	for _, a := range j.f.Heads[0].Witnesses {
		for _, b := range j.f.Heads[1].Witnesses {
			if a.key == b.key {
				list = append(list, [2]Cosignature{a, b})
			}
		}
	}
	return list
}

// accuse adds a party once.
func (j *judge) accuse(p Party) bool {
	if slices.Contains(j.f.Against, p) {
		return false
	}
	j.f.Against = append(j.f.Against, p)
	return true
}

// accuseBoth adds the witnesses one key of which signed both heads, which
// contradict each other whatever the order.
func (j *judge) accuseBoth() {
	for _, pair := range j.pairs() {
		if p, first := j.accuseWitness(pair[0]); first {
			j.sayf("%s signed both as well, which a witness that keeps what it has seen does not do.", capital(p))
		}
	}
}

func (j *judge) sayf(format string, args ...any) {
	j.f.Sentences = append(j.f.Sentences, fmt.Sprintf(format, args...))
}

func (j *judge) caveatf(format string, args ...any) {
	j.f.Caveats = append(j.f.Caveats, fmt.Sprintf(format, args...))
}

// String names the party for a sentence.
func (p Party) String() string {
	text := "the log " + p.Name
	switch p.Role {
	case RoleLog:
	case RoleWitness:
		text = "the witness " + p.Name
	case RoleListSigner:
		text = "the signer of the log list (key " + p.Name + ")"
	}
	if p.RunBy != "" {
		text += " (run by " + p.RunBy + ")"
	}
	return text
}
