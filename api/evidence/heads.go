package evidence

import (
	"fmt"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// timeFormat is how sentences show times, which are UTC.
const timeFormat = "2006-01-02 15:04:05 UTC"

func (j *judge) fork() string {
	if missing := j.signedByLog(); missing != "" {
		return missing
	}
	a := j.e.Notes[0].Checkpoint()
	if len(j.e.Notes) == 1 {
		if a.CheckRoot() == nil {
			return "a single tree head contradicts nothing, unless it is of an empty tree and has another root than that"
		}
		j.accuse(j.log())
		j.sayf("%s signed a tree head that cannot be: it says that the tree is empty, and gives it a root that no empty tree has.",
			capital(j.log()))
		return ""
	}
	if missing := sameSizeOtherRoot(a, j.e.Notes[1].Checkpoint()); missing != "" {
		return missing
	}
	j.accuse(j.log())
	j.sayf("%s signed two different trees of the same size, %s.", capital(j.log()), entries(a.Size))
	j.sayf("Only one of them can be the log: whoever was shown the one was not shown the other.")
	j.accuseBoth()
	return ""
}

// sameSizeOtherRoot returns what is missing for two heads to be a fork.
func sameSizeOtherRoot(a, b checkpoint.Checkpoint) string {
	switch {
	case a.Size != b.Size:
		return fmt.Sprintf("the trees are of different sizes, %d and %d, and the file does not compare them", a.Size, b.Size)
	case a.Root == b.Root:
		return "both tree heads are of the same tree"
	}
	return ""
}

func (j *judge) inconsistent() string {
	if missing := j.signedByLog(); missing != "" {
		return missing
	}
	m, n := j.e.Notes[0].Checkpoint(), j.e.Notes[1].Checkpoint()
	if missing := smallerFirst(m, n); missing != "" {
		return missing
	}
	first, whole, ok := Roots(m.Size, n.Size, j.e.Hashes)
	switch {
	case !ok:
		return fmt.Sprintf("%d hashes are not as many as a proof from %s to %d has", len(j.e.Hashes), entries(m.Size), n.Size)
	case whole != n.Root:
		return "the hashes do not belong to the larger tree"
	case first == m.Root:
		return "the larger tree does begin with the smaller one"
	}
	j.accuse(j.log())
	j.sayf("%s signed two trees that cannot both be the log: the one of %s does not begin with the one of %s.",
		capital(j.log()), entries(n.Size), entries(m.Size))
	j.sayf("An entry of the smaller one was changed, moved or left out in the larger one, or another was put in front of it.")
	j.accuseBoth()
	return ""
}

func smallerFirst(m, n checkpoint.Checkpoint) string {
	if m.Size == 0 || m.Size >= n.Size {
		return fmt.Sprintf("expected a tree with entries and then a larger one, found sizes %d and %d", m.Size, n.Size)
	}
	return ""
}

// unproven is never conclusive; it says how far the file goes.
func (j *judge) unproven() string {
	if missing := j.signedByLog(); missing != "" {
		return missing
	}
	m, n := j.e.Notes[0].Checkpoint(), j.e.Notes[1].Checkpoint()
	if missing := smallerFirst(m, n); missing != "" {
		return missing
	}
	first, whole, ok := Roots(m.Size, n.Size, FromConsistency(m.Size, m.Root, j.e.Hashes))
	switch {
	case !ok || whole != n.Root:
		j.f.Ask = "Ask the log for a proof that the larger tree begins with the smaller one. If it has none to give, that speaks against it."
		return fmt.Sprintf("the log signed trees of %d and of %s, and what was given for a proof that the larger one begins with the "+
			"smaller one is none, but anybody can give a wrong proof", m.Size, entries(n.Size))
	case first == m.Root:
		return "the proof is right: the larger tree does begin with the smaller one"
	}
	return `the hashes show more than the file says: its kind should be "inconsistent"`
}

func (j *judge) witnessFork() string {
	a, b := j.e.Notes[0].Checkpoint(), j.e.Notes[1].Checkpoint()
	if missing := j.oneOrigin(); missing != "" {
		return missing
	}
	if missing := sameSizeOtherRoot(a, b); missing != "" {
		return missing
	}
	for _, pair := range j.pairs() {
		if p, first := j.accuseWitness(pair[0]); first {
			j.sayf("%s signed two different trees of the log %s of the same size, %s%s.",
				capital(p), j.f.Origin, entries(a.Size), times(pair[0], pair[1]))
		}
	}
	if len(j.f.Against) == 0 {
		return "no key of a witness of the policy signed both"
	}
	j.sayf("A witness signs one history of a log and keeps to it: its signature is there so that nobody is shown another.")
	return ""
}

func (j *judge) witnessRollback() string {
	m, n := j.e.Notes[0].Checkpoint(), j.e.Notes[1].Checkpoint()
	if missing := j.oneOrigin(); missing != "" {
		return missing
	}
	if m.Size >= n.Size {
		return fmt.Sprintf("expected the smaller tree first, found sizes %d and %d", m.Size, n.Size)
	}
	for _, pair := range j.pairs() {
		smaller, larger := pair[0], pair[1]
		// A cosignature without a time says nothing about when.
		if smaller.Time.IsZero() || larger.Time.IsZero() || !smaller.Time.After(larger.Time) {
			continue
		}
		if p, first := j.accuseWitness(smaller); first {
			j.sayf("%s went back: at %s, by its own clock, it signed that the largest tree of the log %s that it had seen has %s, "+
				"after it had signed one of %d at %s.",
				capital(p), smaller.Time.Format(timeFormat), j.f.Origin, entries(m.Size), n.Size, larger.Time.Format(timeFormat))
		}
	}
	if len(j.f.Against) == 0 {
		return "no key of a witness of the policy signed the smaller tree at a later time than the larger one"
	}
	j.caveatf("A witness whose clock went back looks the same, and so does one that was restored from an old copy: " +
		"what it signed is not true, why is not shown.")
	return ""
}

func (j *judge) oneOrigin() string {
	if c := j.e.Notes[1].Checkpoint(); c.Origin != j.f.Origin {
		return fmt.Sprintf("the tree heads are of two logs, %q and %q", j.f.Origin, c.Origin)
	}
	return ""
}

// times says when two signatures were made, as far as they say it.
func times(a, b Cosignature) string {
	if a.Time.IsZero() || b.Time.IsZero() {
		return ""
	}
	return fmt.Sprintf(", at %s and at %s", at(a.Time), at(b.Time))
}

func at(t time.Time) string { return t.UTC().Format(timeFormat) }

func entries(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// capital is a party at the begin of a sentence.
func capital(p Party) string {
	text := p.String()
	return strings.ToUpper(text[:1]) + text[1:]
}
