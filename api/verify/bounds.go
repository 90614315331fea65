package verify

import (
	"fmt"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// checkBeacon proves the checkpoint that the submitter had seen before signing.
func (c *checker) checkBeacon() *Failure {
	b := c.stmt.Beacon
	if b == nil {
		if c.receipt.Beacon != nil {
			return fail(LinkBeacon, "the receipt carries a beacon, the statement names none")
		}
		return nil
	}
	if c.receipt.Beacon == nil {
		return fail(LinkBeacon, "the statement names a beacon, the receipt carries none")
	}
	note, err := checkpoint.Parse(c.receipt.Beacon)
	if err != nil {
		return fail(LinkBeacon, "%w", err)
	}
	if note.Digest() != checkpoint.Hash(b.Note) {
		return fail(LinkBeacon, "the receipt's beacon is not the one that the statement names")
	}
	cosigned, err := c.note(note.Bytes(), note.Digest())
	if err != nil {
		return fail(LinkBeacon, "%w", err)
	}
	if cosigned.Origin != b.Origin || cosigned.Size != b.Size {
		return fail(LinkBeacon, "the statement names %s at size %d, the note is of %s at size %d",
			b.Origin, b.Size, cosigned.Origin, cosigned.Size)
	}
	here, there := c.policy.shard(c.cosigned.Origin), c.policy.shard(cosigned.Origin)
	if there > here || there == here && cosigned.Size > c.receipt.Proof.Index {
		return fail(LinkBeacon, "the beacon at size %d is younger than the entry at index %d", b.Size, c.receipt.Proof.Index)
	}
	t, ok := cosigned.NotBefore()
	if !ok {
		return fail(LinkBeacon, "the beacon's cosignatures state no time")
	}
	c.verdict.NotBefore = &Bound{
		Time: unix(t), Source: fmt.Sprintf("cosignatures of the beacon, %s at size %d", b.Origin, b.Size),
		Witnesses: c.witnesses(cosigned),
	}
	c.caveat(dissent("lower", c.verdict.NotBefore, func(t time.Time) bool {
		return t.Before(c.verdict.NotBefore.Time.Add(-MaxSkew))
	}))
	return nil
}

// caveat adds a caveat, if there is one.
func (c *checker) caveat(text string) {
	if text != "" {
		c.verdict.Caveats = append(c.verdict.Caveats, text)
	}
}

// checkBounds computes the upper bound and holds the bounds against each other
// and against the verifier's time.
func (c *checker) checkBounds() *Failure {
	t, ok := c.cosigned.NotAfter()
	if !ok {
		return fail(LinkTime, "the receipt's cosignatures state no time")
	}
	v := &c.verdict
	v.NotAfter = &Bound{
		Time:      unix(t),
		Source:    fmt.Sprintf("cosignatures of the receipt, %s at size %d", c.cosigned.Origin, c.cosigned.Size),
		Witnesses: v.Inclusion.Witnesses,
	}
	if v.NotAfter.Time.After(c.in.Now.Add(MaxSkew)) {
		return fail(LinkTime, "the receipt is dated %s, after this machine's time %s: one of the clocks is wrong",
			v.NotAfter.Time.Format(timeFormat), c.in.Now.UTC().Format(timeFormat))
	}
	cosigned := v.NotAfter.Time
	c.caveat(dissent("upper", v.NotAfter, func(t time.Time) bool { return t.After(cosigned.Add(MaxSkew)) }))
	if f := c.evaluateTokens(); f != nil {
		return f
	}
	if v.NotBefore == nil {
		return nil
	}
	if gap := v.NotBefore.Time.Sub(v.NotAfter.Time); gap > MaxSkew {
		return fail(LinkTime, "the beacon is dated %s, after the receipt's %s",
			v.NotBefore.Time.Format(timeFormat), v.NotAfter.Time.Format(timeFormat))
	} else if gap > 0 {
		whose := "the witnesses' clocks"
		if v.NotAfter.Authority != "" {
			whose = fmt.Sprintf("the clocks of %s and of the beacon's witnesses", v.NotAfter.Authority)
		}
		c.caveat(fmt.Sprintf("%s disagree: the bounds cross by %s", whose, gap))
	}
	return nil
}

const timeFormat = "2006-01-02T15:04:05Z"
