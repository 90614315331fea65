package trustbundle_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/verify"
)

const mostWitnesses = 6

// drawPolicy makes a policy of some of the witnesses with keys, in nested groups.
func drawPolicy(t *rapid.T, label string, log *testlog.NoteKey, keys []*testlog.NoteKey) *verify.Policy {
	var text strings.Builder
	fmt.Fprintf(&text, "log %s\n", log)
	var open []string // names that are in no group yet
	for i, k := range keys {
		if rapid.IntRange(0, 5).Draw(t, label+" leaves one out") > 0 {
			open = append(open, fmt.Sprintf("w%d", i))
			fmt.Fprintf(&text, "witness w%d %s\n", i, k)
		}
	}
	for n := 0; len(open) > 1 && n < 4; n++ {
		open = rapid.Permutation(open).Draw(t, label+" order")
		members := open[:rapid.IntRange(1, len(open)).Draw(t, label+" members")]
		k := rapid.IntRange(1, len(members)).Draw(t, label+" of them")
		fmt.Fprintf(&text, "group g%d %d %s\n", n, k, strings.Join(members, " "))
		open = append(open[len(members):len(open):len(open)], fmt.Sprintf("g%d", n))
	}
	quorum := "none"
	if len(open) > 0 {
		quorum = rapid.SampledFrom(open).Draw(t, label+" quorum")
	}
	fmt.Fprintf(&text, "quorum %s\n", quorum)
	notes, err := checkpoint.ParsePolicy([]byte(text.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	operators := map[string]string{}
	for _, op := range notes.Operators() {
		operators[op.Name] = "somebody"
	}
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": testlog.Log, "logOperator": "L", "requiredLogKeys": []string{log.String()},
		"operators": operators, "acceptReceived": false,
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := verify.ParsePolicy([]byte(text.String()), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestKeepsReceiptsProperty holds KeepsReceipts against a look at every set of keys.
func TestKeepsReceiptsProperty(t *testing.T) {
	log := testlog.NewNoteKey(testlog.Log+"/2026", checkpoint.AlgEd25519)
	var keys []*testlog.NoteKey
	for i := range mostWitnesses {
		keys = append(keys, testlog.NewNoteKey(fmt.Sprintf("w%d.example", i), checkpoint.AlgEd25519Cosignature))
	}
	kept, lost := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		old, next := drawPolicy(t, "old", log, keys), drawPolicy(t, "next", log, keys)
		if rapid.Bool().Draw(t, "the same") {
			next = old
		}
		want := true
		for set := range 1 << mostWitnesses {
			in := func(name string) bool { return set>>(name[1]-'0')&1 == 1 }
			want = want && (!old.Notes().Quorum(in) || next.Notes().Quorum(in))
		}
		if got := trustbundle.KeepsReceipts(old, next); (got == nil) != want {
			t.Fatalf("every set says %t: %v\n%s\n%s", want, got, old.Notes().Bytes(), next.Notes().Bytes())
		}
		if want {
			kept++
		} else {
			lost++
		}
	})
	if kept < 10 || lost < 10 {
		t.Errorf("%d kept, %d lost: too few to tell", kept, lost)
	}
}
