package verify

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/trialog/trialog/api/timestamp"
)

// evaluateTokens judges the receipt's time-stamp tokens and lets the best one
// narrow the upper bound.
//
// A token counts only if it verifies against an authority that the policy
// names, and only if neither the witnesses nor the beacon contradict it: an
// authority that is lost, or in league with the log, moves nothing by itself.
//
// A token that names itself as one of a named authority and does not verify
// fails the link, although leaving it out would pass. It is evidence that
// somebody altered, or a checkpoint's token put beside another checkpoint, and a
// verdict that said nothing of it would hide that. A token of somebody else is
// only listed: the policy has no opinion on it.
func (c *checker) evaluateTokens() *Failure {
	v := &c.verdict
	if len(c.receipt.Tokens) == 0 {
		return nil
	}
	v.CosignedNotAfter = v.NotAfter
	digest := sha256.Sum256(c.receipt.Proof.Note.Text())
	best, idle := -1, 0
	for i, raw := range c.receipt.Tokens {
		stamp, f := c.evaluateToken(raw, digest)
		if f != nil {
			return fail(LinkTime, "time-stamp token %d: %w", i+1, f)
		}
		switch stamp.Status {
		case StampVerified:
			if stamp.NotAfter.Before(v.NotAfter.Time) && (best < 0 || stamp.NotAfter.Before(v.TimeStamps[best].NotAfter)) {
				best = i
			}
		case StampContradicted:
			v.Caveats = append(v.Caveats, fmt.Sprintf("a time-stamp of %s does not count: %s", stamp.Authority, stamp.Reason))
		case StampNotEvaluated:
			idle++
		case StampNarrows:
		}
		v.TimeStamps = append(v.TimeStamps, stamp)
	}
	if idle > 0 {
		v.Caveats = append(v.Caveats, fmt.Sprintf("%d of %d time-stamp tokens were not evaluated: "+
			"they cannot be read, or are of no authority that the policy names", idle, len(c.receipt.Tokens)))
	}
	if best >= 0 {
		stamp := &v.TimeStamps[best]
		if v.NotAfter.Time.Sub(stamp.NotAfter) > MaxSkew {
			c.caveat(fmt.Sprintf("the upper bound rests on the time-stamp of %s: by the cosignatures alone it is %s",
				stamp.Authority, v.NotAfter.Time.Format(timeFormat)))
		}
		stamp.Status = StampNarrows
		v.NotAfter = &Bound{
			Time: stamp.NotAfter, Authority: stamp.Authority, Witnesses: []Witness{},
			Source: fmt.Sprintf("time-stamp of %s on the receipt's checkpoint, %s at size %d",
				stamp.Authority, c.cosigned.Origin, c.cosigned.Size),
		}
	}
	return nil
}

// evaluateToken judges one token. The error is that of a token which is not
// what it says it is.
func (c *checker) evaluateToken(raw []byte, digest [32]byte) (TimeStamp, error) {
	t, err := timestamp.Parse(raw)
	if err != nil {
		return TimeStamp{Status: StampNotEvaluated, Reason: err.Error()}, nil //nolint:nilerr // said in the verdict
	}
	stamp := TimeStamp{
		Status: StampNotEvaluated, Time: t.Time, AccuracyMicroseconds: t.Accuracy.Microseconds(), Serial: t.Serial.String(),
		Reason: "the policy names no authority that it is of",
	}
	var broken error
	for _, a := range c.policy.trust.TimeAuthorities {
		if err := t.Verify(a.Certificate, timestamp.Expect{Digest: digest}); err != nil {
			if broken == nil && t.Claims(a.Certificate) {
				broken = fmt.Errorf("it names itself as one of %s: %w", a.Name, err)
			}
			continue
		}
		if a.Policy != nil && !a.Policy.Equal(t.Policy) {
			stamp.Authority = a.Name
			stamp.Reason = fmt.Sprintf("made under policy %s, %s is believed under %s only", t.Policy, a.Name, a.Policy)
			broken = nil
			continue
		}
		stamp.Authority = a.Name
		c.hold(&stamp, t)
		return stamp, nil
	}
	if stamp.Authority != "" {
		return stamp, nil
	}
	return stamp, broken
}

// hold computes the bound of a verified token alone, and holds it against what
// the witnesses say.
func (c *checker) hold(stamp *TimeStamp, t *timestamp.Token) {
	margin := t.Accuracy
	if margin == 0 {
		// RFC 3161, section 2.4.2: without an accuracy, nothing is said of it.
		margin = MaxSkew
	}
	// In whole seconds, as cosignatures are; rounded up, or it would say more
	// than the token does.
	stamp.NotAfter = t.Time.Add(margin).Add(time.Second - 1).Truncate(time.Second)
	if last := unix(lastSecond); stamp.NotAfter.After(last) {
		stamp.NotAfter = last
	}
	stamp.Status, stamp.Reason = StampVerified, ""
	switch first, ok := c.firstCosignature(); {
	case t.Time.After(c.in.Now.Add(MaxSkew)):
		stamp.Reason = fmt.Sprintf("it is dated %s, after this machine's time", t.Time.Format(timeFormat))
	case ok && t.Time.Before(first.Add(-MaxSkew)):
		// Witnesses cosign at once what they are sent. Whoever says that the
		// checkpoint was there long before any of them saw it is alone.
		stamp.Reason = fmt.Sprintf("it is dated %s, the first of the witnesses cosigned at %s",
			t.Time.Format(timeFormat), first.Format(timeFormat))
	case c.verdict.NotBefore != nil && stamp.NotAfter.Before(c.verdict.NotBefore.Time.Add(-MaxSkew)):
		stamp.Reason = fmt.Sprintf("it is dated %s, before the beacon, which is not before %s",
			t.Time.Format(timeFormat), c.verdict.NotBefore.Time.Format(timeFormat))
	default:
		return
	}
	stamp.Status = StampContradicted
}

// firstCosignature returns the earliest time that a witness states on the
// receipt's checkpoint.
func (c *checker) firstCosignature() (time.Time, bool) {
	var first uint64
	for _, s := range c.cosigned.Witnesses {
		if s.Time != 0 && (first == 0 || s.Time < first) {
			first = s.Time
		}
	}
	return unix(first), first != 0
}

// dissent names the witnesses of a bound whose clocks say otherwise: for an
// upper bound those that are later than it by more than MaxSkew, for a lower
// one those that are earlier. Nothing in a note tells a late cosignature from a
// wrong clock, nor the clocks of a few that are wrong from those of the rest:
// the policy says how many must agree, a reader may want to ask.
func dissent(what string, b *Bound, otherwise func(time.Time) bool) string {
	var rests, others []string
	for _, w := range b.Witnesses {
		switch {
		case w.Time.Unix() == 0: // states none
		case otherwise(w.Time):
			others = append(others, fmt.Sprintf("%s (%s)", w.Name, w.Time.Format(timeFormat)))
		default:
			rests = append(rests, w.Name)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return fmt.Sprintf("the witnesses' times differ by more than %s: the %s bound, %s, rests on %s, and differs from %s",
		MaxSkew, what, b.Time.Format(timeFormat), strings.Join(rests, ", "), strings.Join(others, ", "))
}
