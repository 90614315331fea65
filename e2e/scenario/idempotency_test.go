package scenario

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/e2e/harness"
)

// TestSameStatementInParallel submits one statement with two signatures 50 times
// at once, then with its signatures in the other order and its JSON written
// otherwise: one entry, one index.
func TestSameStatementInParallel(t *testing.T) {
	ctx := context.Background()
	l := harness.NewLog(t)
	l.Start()
	sub := harness.NewSubmitter(t, l, "acme")
	if err := sub.Enrol(ctx, l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	fill(ctx, t, sub, 1)
	second := harness.NewSubmitter(t, l, "acme")
	enrolFurther(ctx, t, sub, second)
	x := coSigned(t, sub, second)
	var wg sync.WaitGroup
	parallel := make([]uint64, 50)
	for i := range parallel {
		wg.Go(func() {
			a, err := sub.Clone().SendUntil(ctx, x, "WAIT_FINAL", "")
			if err != nil {
				t.Error(err)
				return
			}
			parallel[i] = a.Index
		})
	}
	wg.Wait()
	indexes := slices.Clone(parallel)
	for _, envelope := range rewritten(t, x.Envelope) {
		again := *x
		again.Envelope = envelope
		a, err := sub.Send(ctx, &again, "WAIT_FINAL", "")
		if err != nil {
			t.Fatal(err)
		}
		if !a.Duplicate {
			t.Error("a rewritten envelope was stored as a new entry")
		}
		indexes = append(indexes, a.Index)
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(indexes)))); n != 1 {
		t.Errorf("%d different indexes: %v", n, indexes)
	}
}

// rewritten returns the envelope with its signatures in the other order, and
// with its JSON indented.
func rewritten(t *testing.T, envelope []byte) [][]byte {
	t.Helper()
	var e struct {
		PayloadType string           `json:"payloadType"`
		Payload     string           `json:"payload"`
		Signatures  []map[string]any `json:"signatures"`
	}
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(e.Signatures)
	reordered, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{reordered, indented}
}

// enrolFurther enrols the key of other under the admin key of sub.
func enrolFurther(ctx context.Context, t *testing.T, sub, other *harness.Submitter) {
	t.Helper()
	x, err := sub.SayWith(statement.KindKey, "", func(st *statement.Statement) {
		st.Signers = append(st.Signers, statement.Signer{
			Key: other.Key.ID(), Meaning: statement.Responsibility, At: st.Signers[0].At,
		})
		st.Subject, st.Digest = statement.SubjectKey, other.Key.ID()
		st.Attributes = []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", other.Key.Public()),
			statement.ListMember("roles", "sponsor"),
		}
	}, sub.Key, other.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sub.SendUntil(ctx, x, "WAIT_FINAL", ""); err != nil {
		t.Fatal(err)
	}
}

// coSigned makes a statement that both keys sign.
func coSigned(t *testing.T, sub, other *harness.Submitter) *harness.Signed {
	t.Helper()
	x, err := sub.SayWith(statement.KindProtocol, "fill-0", func(st *statement.Statement) {
		st.Signers = append(st.Signers, statement.Signer{Key: other.Key.ID(), Meaning: statement.Approval, At: st.Signers[0].At})
		harness.Document([]byte("signed by two"), "text/plain")(st)
	}, sub.Key, other.Key)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
