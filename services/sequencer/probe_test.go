package sequencer

import (
	"errors"
	"fmt"
	"testing"

	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// TestJudgeProbe: who is not asked may have seen what this log has forgotten.
func TestJudgeProbe(t *testing.T) {
	w := newWorld(t)
	w.open()
	defer w.close()
	answer := func(n int, o witnessing.Outcome) witnessing.WitnessResult {
		return witnessing.WitnessResult{Witness: fmt.Sprintf("w%d", n), Outcome: o, Size: 9}
	}
	retiring := policyBy(t, w.logKeys, w.witness.keys, map[string]any{
		"format": verify.TrustFormat2,
		"retired": []any{map[string]any{
			"key": w.witness.keys[2].Verifier().String(), "until": []any{map[string]any{"origin": testOrigin, "size": 5}},
		}},
	})
	w.seq.c.Policy = retiring
	one := []witnessing.WitnessResult{answer(0, witnessing.Ahead), answer(1, witnessing.Behind)}
	if err := w.seq.judgeProbe(one, register.Record{Origin: testOrigin, Size: 5}); err != nil {
		t.Errorf("one is ahead, one retired: %v", err)
	}
	w.seq.c.Policy = w.policy
	for name, tt := range map[string]struct {
		results []witnessing.WitnessResult
		want    Reason
	}{
		"all behind":                  {[]witnessing.WitnessResult{answer(0, witnessing.Behind), answer(1, witnessing.Behind), answer(2, witnessing.Behind)}, ""},
		"one is ahead":                {[]witnessing.WitnessResult{answer(0, witnessing.Ahead), answer(1, witnessing.Behind), answer(2, witnessing.Behind)}, ""},
		"two are ahead":               {[]witnessing.WitnessResult{answer(0, witnessing.Ahead), answer(1, witnessing.Ahead), answer(2, witnessing.Behind)}, Rollback},
		"one is ahead, one not asked": {[]witnessing.WitnessResult{answer(0, witnessing.Ahead), answer(1, witnessing.Behind)}, Rollback},
		"another root, one not asked": {[]witnessing.WitnessResult{answer(0, witnessing.OtherRoot), answer(1, witnessing.Behind)}, Fork},
		"nobody says no":              {[]witnessing.WitnessResult{answer(0, witnessing.Behind), answer(1, witnessing.Unreachable)}, ""},
		// Those two are a quorum, whatever the one says.
		"two are not asked": {[]witnessing.WitnessResult{answer(0, witnessing.Ahead)}, ""},
	} {
		err := w.seq.judgeProbe(tt.results, register.Record{Origin: testOrigin, Size: 5})
		refused, _ := errors.AsType[*RefusedError](err)
		if (err == nil) != (tt.want == "") || refused != nil && refused.Reason != tt.want {
			t.Errorf("%s: %v, expected the reason %q", name, err, tt.want)
		}
	}
}

// TestLacks: what is to be published depends on what is, and on whether that
// satisfies the policy.
func TestLacks(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	now := w.seq.head()
	old := &published{note: now.note, tree: now.tree, outdated: true}
	for _, tt := range []struct {
		p    *published
		size uint64
		want bool
	}{
		{nil, 0, false},
		{nil, 1, true},
		{now, 0, false},
		{now, now.size(), false},
		{now, now.size() + 1, true},
		{old, 0, false}, // nobody has told the newest root yet
		{old, old.size() - 1, false},
		{old, old.size(), true},
		{old, old.size() + 1, true},
	} {
		if got := tt.p.lacks(tt.size); got != tt.want {
			t.Errorf("at size %d, outdated %t, of a tree of %d: %t", tt.p.size(), tt.p.isOutdated(), tt.size, got)
		}
	}
}
