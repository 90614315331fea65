package witness

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
)

// TestPortable: what requests have left in the journal, as files.
func TestPortable(t *testing.T) {
	five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
	fork := grown(t, 8, 3, "x")
	note := func(tr *tree) []byte { return signed(t, tr.checkpoint(t), logKey(t)) }
	falseEmpty := signedByHand(t, checkpoint.Checkpoint{Origin: testOrigin, Root: checkpoint.Hash{1}})
	for name, tc := range map[string]struct {
		before []string
		body   string
		status int
		kind   evidence.Kind
		proved bool
	}{
		"a false empty tree":             {nil, addBody(0, nil, falseEmpty), 422, evidence.KindFork, true},
		"another root":                   {[]string{five.step(t, 0)}, addBody(5, nil, note(grown(t, 5, 3, "x"))), 422, evidence.KindFork, true},
		"another root, stale":            {[]string{five.step(t, 0)}, addBody(0, nil, note(grown(t, 5, 3, "x"))), 409, evidence.KindFork, true},
		"another history, its own proof": {[]string{five.step(t, 0)}, addBody(5, fork.proof(t, 5), note(fork)), 422, evidence.KindInconsistent, true},
		"a true one, a wrong proof":      {[]string{five.step(t, 0)}, addBody(5, hashes(3), note(eight)), 422, evidence.KindUnproven, false},
		"a true one, no proof":           {[]string{five.step(t, 0)}, addBody(5, nil, note(eight)), 422, evidence.KindUnproven, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, testConfig(t, newClock()))
			for _, b := range tc.before {
				mustAdd(t, w, b)
			}
			if rec := add(w, tc.body); rec.Code != tc.status {
				t.Fatalf("status %d, %s", rec.Code, rec.Body)
			}
			j, err := w.state.journal(testOrigin)
			if err != nil {
				t.Fatal(err)
			}
			all, err := j.Portable(testName)
			if err != nil || len(all) != 1 {
				t.Fatalf("%d files, %v", len(all), err)
			}
			raw, err := all[0].Encode()
			if err != nil {
				t.Fatal(err)
			}
			found, err := evidence.Verify(raw, testPolicy(t))
			if err != nil || found.Kind != tc.kind || found.Conclusive != tc.proved {
				t.Errorf("%+v, %v", found, err)
			}
		})
	}
}

// TestPortableRejects: an entry that cannot be read is said to be one.
func TestPortableRejects(t *testing.T) {
	good := signed(t, grown(t, 5, 5, "").checkpoint(t), logKey(t))
	for name, e := range map[string]Evidence{
		"no note":        {Kind: Fork},
		"recorded":       {Kind: Fork, Refused: good, Recorded: []byte("x")},
		"short hash":     {Kind: Unproven, Refused: good, Recorded: good, Proof: [][]byte{{1}}},
		"unknown kind":   {Kind: "rumour", Refused: good, Recorded: good},
		"fork of nobody": {Kind: Fork, Refused: good},
	} {
		if all, err := (&Journal{Entries: []Evidence{e}}).Portable(""); err == nil {
			t.Errorf("%s: %d files", name, len(all))
		}
	}
}

// TestInspect: what the operator's socket answers.
func TestInspect(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	mustAdd(t, w, grown(t, 5, 5, "").step(t, 0))
	for path, want := range map[string]int{
		InspectStatus: 200, InspectJournal + "?origin=" + testOrigin: 200, InspectJournal: 200, "/other": 404,
	} {
		rec := serve(w.Inspect(), http.MethodGet, path)
		if rec.Code != want || want == 200 && rec.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: status %d, %v", path, rec.Code, rec.Header())
		}
	}
	if rec := serve(w.Inspect(), http.MethodPost, InspectStatus); rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", rec.Code)
	}
	r, err := w.Report()
	if err != nil || !r.Running || len(r.Logs) != 2 || !slices.IsSortedFunc(r.Logs, func(a, b LogStatus) int { return strings.Compare(a.Origin, b.Origin) }) {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := r.Logs[0]; got.Origin != testOrigin || got.Size != 5 || got.Time == 0 || got.State != "cosigning" || got.Evidence != 0 {
		t.Errorf("%+v", got)
	}
	w.state.Hook = func(string) error { return http.ErrAbortHandler }
	add(w, grown(t, 8, 8, "").step(t, 5))
	if rec := serve(w.Inspect(), http.MethodGet, InspectStatus); rec.Code != http.StatusInternalServerError {
		t.Errorf("with a broken state file: status %d", rec.Code)
	}
}

func serve(h http.Handler, method, path string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, path, http.NoBody))
	return rec
}
