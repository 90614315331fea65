// Package generate makes the vectors of api/vectors from fixed seeds. Each
// vector states its own outcome; the generator stops if the packages of api do
// not agree.
package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/vectors"
	"github.com/trialog/trialog/api/verify"
)

// Files returns index.json and every file below the folder files, by path
// relative to api/vectors.
func Files() (map[string][]byte, error) {
	g := &set{files: map[string][]byte{}}
	err := testlog.Do(func() {
		g.begin()
		g.accepted()
		g.checkpoints()
		g.entries()
		g.enrolments()
		g.signatures()
		g.keyStatus()
		g.beacons()
		g.contents()
		g.statements()
		g.rules()
		g.envelopes()
		g.notes()
		g.policies()
		g.receipts()
		g.openings()
		g.records()
		g.promises()
		g.logLists()
		g.timeStamps()
		g.trustBundles()
		g.evidence()
	})
	if err := errors.Join(append(g.wrong, err)...); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name, data := range g.files {
		out["files/"+name] = data
	}
	var index bytes.Buffer
	e := json.NewEncoder(&index)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(g.list); err != nil {
		return nil, fmt.Errorf("encode the list: %w", err)
	}
	out["index.json"] = index.Bytes()
	return out, nil
}

// set is the vectors in the making.
type set struct {
	*testlog.Story
	files map[string][]byte
	list  []vectors.Vector
	wrong []error // outcomes that are not as stated
	// The two halves of the honest policy.
	policyText, sidecar []byte
	Tokens              testlog.Batch // of the log's operator
	ShardEnd            *testlog.Logged
}

func (g *set) begin() {
	g.Story = testlog.Tell()
	g.policyText, g.sidecar = g.PolicyText(), g.Sidecar().Encode()
	// What several vectors share has a name of its own.
	g.file("common/policy", g.policyText)
	g.file("common/trust.json", g.sidecar)
	g.file("common/protocol-1.pdf", g.Pdf)
	g.file("common/protocol-2.pdf", g.Pdf2)
	g.file("common/sap.pdf", g.SAPSealed.Document)
	g.file("common/sap.opening", g.SAPSealed.Opening.Encode())
	g.file("common/report.pdf", g.SourceDoc.Document)
	g.file("common/report.opening", g.SourceDoc.Opening.Encode())
	g.file("common/consent-3.pdf", g.Consents.Items[2].Document)
	g.file("common/consent-3.opening", g.Consents.Items[2].Opening.Encode())
}

// stopf stops the generator.
func stopf(format string, args ...any) { testlog.Check(fmt.Errorf(format, args...)) }

// wrongf notes an outcome that is not as stated.
func (g *set) wrongf(format string, args ...any) {
	g.wrong = append(g.wrong, fmt.Errorf(format, args...))
}

// file keeps data under name, or under the name that it has already.
func (g *set) file(name string, data []byte) string {
	for known, other := range g.files {
		if bytes.Equal(other, data) && strings.HasPrefix(known, "common/") {
			return known
		}
	}
	if other, ok := g.files[name]; ok && !bytes.Equal(other, data) {
		stopf("two files %s", name)
	}
	g.files[name] = data
	return name
}

func (g *set) add(v vectors.Vector) {
	if slices.ContainsFunc(g.list, func(o vectors.Vector) bool { return o.ID == v.ID }) {
		stopf("two vectors %s", v.ID)
	}
	g.list = append(g.list, v)
}

// judged is the input of one vector of op verify; zero members are the honest
// defaults.
type judged struct {
	receipt       []byte
	policy        []byte
	sidecar       []byte
	document      []byte
	opening       []byte
	keyring       []byte
	statementOnly bool
	now           time.Time
}

// verify adds a vector of op verify; an empty link means that it is accepted.
func (g *set) verify(id, what string, link verify.Link, in judged) {
	if in.policy == nil {
		in.policy = g.policyText
	}
	if in.sidecar == nil {
		in.sidecar = g.sidecar
	}
	if in.now.IsZero() {
		in.now = testlog.Now()
	}
	id = "verify-" + id
	v := vectors.Vector{
		ID: id, What: what, Op: "verify", Expect: vectors.Accept, Link: string(link),
		Inputs: map[string]string{
			"policy": "common/policy", "trust": "common/trust.json",
			"receipt": g.file("verify/"+id+".receipt", in.receipt),
		},
		Args: map[string]string{"now": in.now.Format(time.RFC3339)},
	}
	if !bytes.Equal(in.policy, g.policyText) {
		v.Inputs["policy"] = g.file("verify/"+id+".policy", in.policy)
	}
	if !bytes.Equal(in.sidecar, g.sidecar) {
		v.Inputs["trust"] = g.file("verify/"+id+".trust.json", in.sidecar)
	}
	for _, f := range []struct {
		name, suffix string
		data         []byte
	}{{"document", ".document", in.document}, {"opening", ".opening", in.opening}, {"keyring", ".keyring", in.keyring}} {
		if f.data != nil {
			v.Inputs[f.name] = g.file("verify/"+id+f.suffix, f.data)
		}
	}
	if in.statementOnly {
		v.Args["statementOnly"] = "true"
	}
	verdict, err := verify.Verify(verify.Input{
		Receipt: in.receipt, Policy: testlog.Must(verify.ParsePolicy(in.policy, in.sidecar)), Document: in.document,
		Opening: in.opening, Keyring: in.keyring, StatementOnly: in.statementOnly, Now: in.now,
	})
	switch {
	case link == "" && err != nil:
		g.wrongf("%s is refused: %w", id, err)
	case link != "" && (err == nil || verdict.Failure.Link != link):
		g.wrongf("%s is to fail at %s, found: %v", id, link, err)
	case link == "":
		v.Verdict = g.file("verify/"+id+".verdict.json", append(testlog.Must(json.MarshalIndent(verdict, "", " ")), '\n'))
	default:
		v.Expect = vectors.Reject
	}
	g.add(v)
}

// receipt encodes the honest receipt of an entry after changes.
func (g *set) receipt(l *testlog.Logged, note *checkpoint.Note, changes ...func(*receipt.Receipt)) []byte {
	r := g.Receipt(l, note)
	for _, change := range changes {
		change(r)
	}
	return testlog.Must(r.Encode())
}

// latest returns the note of the first shard as it is now; hostile entries are
// added after the story.
func (g *set) latest() *checkpoint.Note { return g.Note(g.First, g.First.Size()) }
