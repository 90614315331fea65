// Package scenario plays what users do, against real processes.
package scenario

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/e2e/harness"
)

// submitted is a document with its receipt.
type submitted struct {
	name     string
	document []byte
	receipt  []byte
}

// TestRegistryRecordsAndProtocols submits every registry record and protocol of
// the test data and verifies all of them when the servers have been stopped.
func TestRegistryRecordsAndProtocols(t *testing.T) {
	ctx := context.Background()
	records, err := filepath.Glob(harness.TestData(t, "ctgov_v2", "*.json"))
	if err != nil || len(records) == 0 {
		t.Fatalf("no registry records: %v", err)
	}
	protocols, err := filepath.Glob(harness.TestData(t, "usdm", "*"))
	if err != nil || len(protocols) == 0 {
		t.Fatalf("no protocols: %v", err)
	}
	l := harness.NewLog(t)
	l.Start()
	sub := harness.NewSubmitter(t, l, "acme")
	if err := sub.Enrol(ctx, l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	var done []submitted
	for _, path := range append(records, protocols...) {
		done = append(done, submit(ctx, t, sub, path))
	}
	policy := l.Policy()
	l.Stop()
	for _, d := range done {
		v, err := verify.Verify(verify.Input{Receipt: d.receipt, Policy: policy, Document: d.document, Now: time.Now()})
		if err != nil {
			t.Errorf("%s: %v", d.name, err)
			continue
		}
		if v.NotBefore == nil || v.NotAfter == nil || !v.Document.Checked {
			t.Errorf("%s: verified without bounds or document", d.name)
		}
		altered := append([]byte(nil), d.document...)
		altered[len(altered)/2] ^= 1
		if _, err := verify.Verify(verify.Input{Receipt: d.receipt, Policy: policy, Document: altered, Now: time.Now()}); err == nil {
			t.Errorf("%s: an altered document verifies", d.name)
		}
	}
}

// submit opens a trial for the file and submits the file in it.
func submit(ctx context.Context, t *testing.T, sub *harness.Submitter, path string) submitted {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(path)
	trial := strings.NewReplacer(".", "-", "_", "-").Replace(name)
	if err := sub.FetchBeacon(ctx); err != nil {
		t.Fatal(err)
	}
	x, err := sub.Say(statement.KindTrial, trial, harness.OpenTrial)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sub.SendUntil(ctx, x, "WAIT_FINAL", ""); err != nil {
		t.Fatal(err)
	}
	kind, media := statement.KindProtocol, "application/json"
	if strings.HasSuffix(name, ".pdf") {
		media = "application/pdf"
	}
	fill := harness.Document(content, media)
	if strings.HasPrefix(name, "NCT") {
		kind = statement.KindRegistration
		fill = func(s *statement.Statement) {
			harness.Document(content, media)(s)
			s.Attributes = []statement.Member{
				statement.TextMember("registry", "ClinicalTrials.gov"),
				statement.TextMember("registryId", strings.TrimSuffix(name, ".json")),
			}
		}
	}
	x, err = sub.Say(kind, trial, fill)
	if err != nil {
		t.Fatal(err)
	}
	a, err := sub.SendUntil(ctx, x, "WAIT_FINAL", "")
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if a.State != "STATE_FINAL" {
		t.Fatalf("%s: state %s", name, a.State)
	}
	return submitted{name: name, document: content, receipt: a.Receipt}
}
