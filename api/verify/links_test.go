package verify_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// TestLinks breaks each link of an honest chain of evidence, one at a time. The
// many ways to break one are the vectors of api/vectors.
func TestLinks(t *testing.T) {
	s := tell(t)
	plain := s.Receipt(s.Plain, s.Final)
	changed := func(change func(*receipt.Receipt)) []byte {
		r := *plain
		proof := *plain.Proof
		r.Proof = &proof
		change(&r)
		return encode(t, &r)
	}
	other := s.Receipt(s.Trial, s.Final)
	for _, c := range []struct {
		link   verify.Link
		change func(*verify.Input)
		words  string
	}{
		{"", func(*verify.Input) {}, ""},
		{verify.LinkPolicy, func(in *verify.Input) { in.Policy = nil }, "no policy"},
		{verify.LinkPolicy, func(in *verify.Input) { in.Policy = &verify.Policy{} }, "no policy"},
		{verify.LinkReceipt, func(in *verify.Input) { in.Receipt = []byte("{}") }, "format"},
		{verify.LinkReceipt, func(in *verify.Input) { in.Receipt = nil }, "ends too early"},
		{verify.LinkCheckpoint, func(in *verify.Input) {
			in.Receipt = changed(func(r *receipt.Receipt) { r.Proof.Note = s.First.Note(s.Final.Checkpoint().Size) })
		}, "quorum not met"},
		{verify.LinkInclusion, func(in *verify.Input) { in.Receipt = changed(func(r *receipt.Receipt) { r.Proof.Index++ }) }, "is not at index"},
		{verify.LinkInclusion, func(in *verify.Input) { in.Receipt = changed(func(r *receipt.Receipt) { r.Entry = other.Entry }) }, "is not at index"},
		{verify.LinkEnrolment, func(in *verify.Input) { in.Receipt = changed(func(r *receipt.Receipt) { r.Enrolments = nil }) }, "does not prove the enrolment"},
		{verify.LinkGrade, func(in *verify.Input) { in.Receipt = encode(t, s.Receipt(s.Received, s.Final)) }, "grade received"},
		{verify.LinkKeyStatus, func(in *verify.Input) { in.Keyring = []byte{} }, "the keyring"},
		{verify.LinkBeacon, func(in *verify.Input) { in.Receipt = changed(func(r *receipt.Receipt) { r.Beacon = nil }) }, "carries none"},
		{verify.LinkTime, func(in *verify.Input) { in.Now = time.Time{} }, "one of the clocks is wrong"},
		{verify.LinkRecord, func(in *verify.Input) {
			in.Receipt = changed(func(r *receipt.Receipt) { r.Record = &receipt.Record{Data: s.Audit.Records[0]} })
		}, "needs a batch"},
		{verify.LinkOpening, func(in *verify.Input) { in.Opening = s.SourceDoc.Opening.Encode() }, "the opening is for"},
		{verify.LinkDocument, func(in *verify.Input) { in.Document = []byte{} }, "SHA-256 differs"},
		{verify.LinkDocument, func(in *verify.Input) { in.Document = nil }, "none was given"},
	} {
		in := honest(t, s, s.Plain, s.Pdf)
		c.change(&in)
		verdict, err := verify.Verify(in)
		if c.link == "" {
			if err != nil || !verdict.Verified {
				t.Fatalf("the honest receipt is refused: %v", err)
			}
			continue
		}
		var f *verify.Failure
		if !errors.As(err, &f) || verdict.Failure != f || verdict.Verified {
			t.Errorf("%s: error %v, verdict %+v", c.link, err, verdict)
		} else if f.Link != c.link || !strings.Contains(f.Reason, c.words) {
			t.Errorf("fails with %q, want link %s and %q", f, c.link, c.words)
		}
	}
}

// TestFailureCarriesEvidence: the error behind a failure is the one of the
// package that found it.
func TestFailureCarriesEvidence(t *testing.T) {
	s := tell(t)
	r := s.Receipt(s.Plain, s.First.Note(s.Final.Checkpoint().Size, s.CosignAt(7)...))
	_, err := verify.Verify(verify.Input{Receipt: encode(t, r), Policy: s.Policy(), Document: s.Pdf, Now: testlog.Now()})
	var quorum *checkpoint.QuorumError
	if !errors.As(err, &quorum) || len(quorum.Signed) != 1 || quorum.Signed[0].Time != 7 {
		t.Errorf("error %v holds no *checkpoint.QuorumError with the one cosignature", err)
	}
}

// TestBounds shows where the two bounds come from, each with one clock of three
// that lies.
func TestBounds(t *testing.T) {
	s := tell(t)
	size := s.Final.Checkpoint().Size
	at := s.First.Time(size)
	for _, c := range []struct {
		name  string
		times []uint64
		want  uint64
	}{
		{"agree", []uint64{at + 1, at + 2, at + 3}, at + 2},
		{"one far behind", []uint64{at + 1, at + 2, 1}, at + 1},
		{"one far ahead", []uint64{at + 1, at + 2, math.MaxInt64}, at + 2},
		{"two only", []uint64{at + 1, 0, at + 3}, at + 3},
	} {
		r := s.Receipt(s.Plain, s.First.Note(size, s.CosignAt(c.times...)...))
		v, err := verify.Verify(verify.Input{Receipt: encode(t, r), Policy: s.Policy(), Document: s.Pdf, Now: testlog.Now()})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := v.NotAfter.Time.Unix(); got != int64(c.want) {
			t.Errorf("%s: not after %d, want %d", c.name, got, c.want)
		}
		// The beacon of entry n is the tree of n entries, two operators by n's time + 2.
		if got, want := v.NotBefore.Time.Unix(), int64(s.First.Time(s.Plain.Index)+2); got != want {
			t.Errorf("%s: not before %d, want %d", c.name, got, want)
		}
		if _, err := json.Marshal(v); err != nil {
			t.Errorf("%s: the verdict cannot be written: %v", c.name, err)
		}
	}
}

// TestAssurance: what the witnesses are worth depends on who runs those that
// cosigned.
func TestAssurance(t *testing.T) {
	s := tell(t)
	r := encode(t, s.Receipt(s.Plain, s.Final))
	size := s.Final.Checkpoint().Size
	two := encode(t, s.Receipt(s.Plain, s.First.Note(size, s.Cosign(s.First.Time(size))[:2]...)))
	for _, c := range []struct {
		name    string
		receipt []byte
		runBy   [3]string
		want    verify.Assurance
	}{
		{"three organisations", r, [3]string{"E", "R", "U"}, verify.Independent},
		{"one organisation", r, [3]string{"V", "V", "V"}, verify.Demonstration},
		{"the log's own and one other", r, [3]string{"Log Operator L", "Log Operator L", "U"}, verify.Demonstration},
		{"the log's own and two others", r, [3]string{"Log Operator L", "R", "U"}, verify.Independent},
		{"only those of one organisation cosigned", two, [3]string{"E", "E", "U"}, verify.Demonstration},
	} {
		side := s.Sidecar()
		for i, op := range s.Operators {
			side.Operators[op.Group] = c.runBy[i]
		}
		p, err := verify.ParsePolicy(s.PolicyText(), side.Encode())
		if err != nil {
			t.Fatal(err)
		}
		v, err := verify.Verify(verify.Input{Receipt: c.receipt, Policy: p, Document: s.Pdf, Now: testlog.Now()})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		said := strings.Contains(strings.Join(v.Caveats, "\n"), "demonstration, not assurance")
		if v.Assurance != c.want || said != (c.want == verify.Demonstration) {
			t.Errorf("%s: %s, caveats %q; want %s", c.name, v.Assurance, v.Caveats, c.want)
		}
	}
}

// TestDeterministic: the same input gives the same verdict, also where several
// enrolments name the same recovery key.
func TestDeterministic(t *testing.T) {
	s := tell(t)
	var l *testlog.Logged
	if err := testlog.Do(func() {
		again := &testlog.Member{
			Org: "sponsor-a", Key: testlog.Ed25519Key("again"), Recovery: s.Recovery.Key, Roles: []statement.Role{statement.Sponsor},
		}
		s.Enrol(again, []*testlog.Member{s.Admin})
		next := &testlog.Member{Org: "sponsor-a", Key: testlog.Ed25519Key("next"), Roles: []statement.Role{statement.Sponsor}}
		l = s.Enrol(next, []*testlog.Member{s.Recovery, again})
		l.Signers = append(l.Signers, s.Admin)
	}); err != nil {
		t.Fatal(err)
	}
	in := verify.Input{
		Receipt: encode(t, s.Receipt(l, s.Note(s.First, s.First.Size()))), Policy: s.Policy(), Now: testlog.Now(),
	}
	var first string
	for range 20 {
		v, err := verify.Verify(in)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(raw)
		} else if first != string(raw) {
			t.Fatalf("two verdicts of one input:\n%s\n%s", first, raw)
		}
	}
}
