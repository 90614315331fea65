package witness

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/internal/statefile"
)

// TestQuarantineAnswers: how a log in quarantine is answered, and that reads go on.
func TestQuarantineAnswers(t *testing.T) {
	w := newWorld(t, 0)
	five := grown(t, 5, 5, "")
	w.before(w.c.StatePath, five.step(t, 0))
	witness := open(t, w.c)
	body := grown(t, 8, 8, "").step(t, 5)
	kick := witness.table.Load().byOrigin[testOrigin].gate.kick
	if rec := add(witness, addBody(5, nil, signed(t, five.checkpoint(t), testKey(t, testOrigin, checkpoint.AlgEd25519, 77)))); rec.Code != http.StatusForbidden || len(kick) != 0 {
		t.Errorf("not signed by the log: status %d, %d looks asked for", rec.Code, len(kick))
	}
	for _, ask := range []string{body, addBody(5, nil, signed(t, five.checkpoint(t), logKey(t))), addBody(9, nil, signed(t, five.checkpoint(t), logKey(t)))} {
		rec := add(witness, ask)
		if rec.Code != http.StatusServiceUnavailable || rec.Header().Get("Retry-After") != "1" ||
			!strings.Contains(rec.Body.String(), `"type":"https://trialog.dev/problems/witness/quarantine"`) {
			t.Errorf("status %d, %v, %s", rec.Code, rec.Header(), rec.Body)
		}
	}
	if len(kick) != 1 {
		t.Errorf("the log has asked, and %d looks are asked for", len(kick))
	}
	if rec := do(witness, http.MethodGet, "/"+originHash(testOrigin)+"/checkpoint", nil, nil); rec.Code != http.StatusOK {
		t.Errorf("a read: status %d", rec.Code)
	}
	w.set("log.test", status(http.StatusNotFound))
	if state, err := catchUp(t, witness); state != cosigning {
		t.Fatalf("%s, %v", state, err)
	}
	cosignatures(t, body, mustAdd(t, witness, body).Body.Bytes(), witness.keys...)
}

// TestQuarantineNeeds: how many sources must have answered.
func TestQuarantineNeeds(t *testing.T) {
	five := grown(t, 5, 5, "")
	for name, tc := range map[string]struct {
		peers, up int // of the log and the peers, in this order
		recorded  bool
		need      [2]int
		open      bool
	}{
		"fresh, all":                     {peers: 2, up: 3, open: true},
		"fresh, one away":                {peers: 2, up: 2},
		"fresh, two are enough":          {peers: 2, up: 2, need: [2]int{0, 2}, open: true},
		"fresh, more than there are":     {peers: 1, up: 2, need: [2]int{0, 9}, open: true},
		"fresh, alone":                   {up: 1, open: true},
		"fresh, alone and away":          {},
		"recorded, majority of 3":        {peers: 2, up: 2, recorded: true, open: true},
		"recorded, fewer than that":      {peers: 2, up: 1, recorded: true},
		"recorded, half of 4 is no more": {peers: 3, up: 2, recorded: true},
		"recorded, majority of 4":        {peers: 3, up: 3, recorded: true, open: true},
		"recorded, all are asked for":    {peers: 2, up: 2, recorded: true, need: [2]int{3, 0}},
		"recorded, one is enough":        {peers: 2, up: 1, recorded: true, need: [2]int{1, 0}, open: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.peers)
			w.c.Answers, w.c.FreshAnswers = tc.need[0], tc.need[1]
			if tc.recorded {
				w.before(w.c.StatePath, five.step(t, 0))
			}
			witness := open(t, w.c)
			for i, host := range []string{"log.test", "peer-0.test", "peer-1.test", "peer-2.test"} {
				if i < tc.up {
					w.set(host, status(http.StatusNotFound))
				}
			}
			state, err := catchUp(t, witness)
			if (state == cosigning) != tc.open || (err == nil) != tc.open {
				t.Errorf("%s, %v", state, err)
			}
		})
	}
}

// TestNoAnswer: what a source says that counts for nothing.
func TestNoAnswer(t *testing.T) {
	five := grown(t, 5, 5, "")
	good := signed(t, five.checkpoint(t), logKey(t))
	other := signed(t, checkpoint.Checkpoint{Origin: otherOrigin, Size: 1}, testKey(t, otherOrigin, checkpoint.AlgEd25519, 9))
	f := newFixture(t)
	for name, h := range map[string]http.Handler{
		"500":               status(http.StatusInternalServerError),
		"403":               status(http.StatusForbidden),
		"empty":             says(nil),
		"garbage":           says([]byte("<html>")),
		"another log":       says(other),
		"another's key":     says(signed(t, five.checkpoint(t), testKey(t, testOrigin, checkpoint.AlgEd25519, 77))),
		"a bad signature":   says(f.flipped(good, 0)),
		"a false empty one": says(signedByHand(t, checkpoint.Checkpoint{Origin: testOrigin, Root: checkpoint.Hash{1}})),
		"too long":          says(append(good, strings.Repeat("x", 200<<10)...)),
		"sent elsewhere": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://peer-0.test/checkpoint", http.StatusFound)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			w.set("log.test", h)
			w.set("peer-0.test", says(good)) // where nobody is to be sent to
			witness := open(t, w.c)
			state, err := catchUp(t, witness)
			if err == nil {
				t.Error("it counts as an answer")
			}
			w.wants(witness, state, quarantined, checkpoint.Checkpoint{})
			w.set("log.test", says(good))
			state, _ = catchUp(t, witness)
			w.wants(witness, state, cosigning, five.checkpoint(t))
		})
	}
}

// TestOldStateFile: a state file that was put back catches up with what the
// witness's own key has signed since, and refuses the fork that it would have
// signed. Without sources it signs it: that is the limit that is documented.
func TestOldStateFile(t *testing.T) {
	five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
	fork := grown(t, 8, 5, "x")
	for name, tc := range map[string]struct {
		shows func(w *world) http.Handler
	}{
		"with tiles":    {func(w *world) http.Handler { return serves(w.cosignedBy(eight, w.c.Keys...), eight) }},
		"one key":       {func(w *world) http.Handler { return serves(w.cosignedBy(eight, w.c.Keys[1]), eight) }},
		"without tiles": {func(w *world) http.Handler { return says(w.cosignedBy(eight, w.c.Keys...)) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			w.before(w.c.StatePath, five.step(t, 0)) // the copy that is put back
			w.clock.add(time.Hour)
			w.set("log.test", tc.shows(w))
			signedAt := uint64(w.clock.now().Unix())
			w.clock.add(-time.Minute)
			witness := open(t, w.c)
			state, err := catchUp(t, witness)
			if err != nil {
				t.Error(err)
			}
			w.wants(witness, state, cosigning, eight.checkpoint(t))
			if rec := add(witness, fork.step(t, 5)); rec.Code != http.StatusConflict || rec.Body.String() != "8\n" {
				t.Errorf("the fork: status %d, %s", rec.Code, rec.Body)
			}
			if rec := add(witness, addBody(8, nil, signed(t, fork.checkpoint(t), logKey(t)))); rec.Code != http.StatusUnprocessableEntity {
				t.Errorf("the fork at one size: status %d, %s", rec.Code, rec.Body)
			}
			nine := grown(t, 9, 9, "").step(t, 8)
			if at := cosignatures(t, nine, mustAdd(t, witness, nine).Body.Bytes(), witness.keys...); at != signedAt {
				t.Errorf("signed at %d, and before at %d: times went back", at, signedAt)
			}
		})
	}
	t.Run("without sources", func(t *testing.T) {
		w := newWorld(t, 0)
		w.before(w.c.StatePath, five.step(t, 0))
		w.before(w.c.StatePath, fork.step(t, 5))
	})
}

// TestSignedLater: what was signed later than the record, of its own size or of a
// smaller one, moves the time, and no signature is given that is older.
func TestSignedLater(t *testing.T) {
	five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
	for name, shown := range map[string]*tree{"the same size": eight, "a smaller one": five} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			w.before(w.c.StatePath, eight.step(t, 0))
			w.clock.add(time.Minute)
			w.set("log.test", serves(w.cosignedBy(shown, w.c.Keys...), eight))
			witness := open(t, w.c)
			state, err := catchUp(t, witness)
			if err != nil {
				t.Error(err)
			}
			w.wants(witness, state, cosigning, eight.checkpoint(t))
			at := uint64(w.clock.now().Unix())
			raw, err := witness.state.note(testOrigin)
			if err != nil {
				t.Fatal(err)
			}
			n, err := checkpoint.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if later := signedAt(witness.own(n), at); later != (shown == eight) {
				t.Errorf("the record's lines are of the later time: %t", later)
			}
			again := addBody(8, nil, signed(t, eight.checkpoint(t), logKey(t)))
			if got := cosignatures(t, again, mustAdd(t, witness, again).Body.Bytes(), witness.keys...); got != at {
				t.Errorf("signed at %d, and before at %d", got, at)
			}
		})
	}
}

// TestOwnForks: once the witness's own key has signed what contradicts the record,
// nothing of the log is cosigned any more, also after another start.
func TestOwnForks(t *testing.T) {
	five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
	four := grown(t, 4, 4, "")
	for name, tc := range map[string]struct {
		has, shown *tree
		kind       string
		files      []evidence.Kind
	}{
		"another root at the size": {eight, grown(t, 8, 5, "x"), "double", []evidence.Kind{evidence.KindWitnessFork, evidence.KindFork}},
		"a larger one":             {five, grown(t, 8, 3, "x"), "inconsistent", []evidence.Kind{evidence.KindInconsistent}},
		"a larger one from 4":      {four, grown(t, 8, 3, "x"), "inconsistent", []evidence.Kind{evidence.KindInconsistent}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			w.before(w.c.StatePath, tc.has.step(t, 0))
			w.set("log.test", serves(w.cosignedBy(tc.shown, w.c.Keys...), tc.shown))
			witness, err := New(w.c)
			if err != nil {
				t.Fatal(err)
			}
			state, err := catchUp(t, witness)
			if h := (*holdError)(nil); !errors.As(err, &h) {
				t.Errorf("%v", err)
			}
			w.wants(witness, state, held, tc.has.checkpoint(t))
			if got := kinds(t, witness); got != tc.kind {
				t.Errorf("the journal has %q", got)
			}
			checkPortable(t, witness, tc.files...)
			if err := witness.Close(); err != nil {
				t.Fatal(err)
			}
			// The source shows the good one now, and it is too late.
			w.set("log.test", status(http.StatusNotFound))
			again := open(t, w.c)
			rec := add(again, grown(t, 9, 9, "").step(t, tc.has.size))
			if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "problems/witness/held") || rec.Header().Get("Retry-After") != "" {
				t.Errorf("after another start: status %d, %s", rec.Code, rec.Body)
			}
			report, err := again.Report()
			if err != nil || report.Logs[0].State != "held" || report.Logs[0].Reason == "" || report.Logs[0].Evidence != 1 {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

// checkPortable holds the journal's evidence files, written and read again,
// against the kinds that are wanted.
func checkPortable(t *testing.T, w *Witness, want ...evidence.Kind) {
	t.Helper()
	j, err := w.state.journal(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	all, err := j.Portable(testName)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(want) {
		t.Fatalf("%d files, want %d", len(all), len(want))
	}
	for i, e := range all {
		raw, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		found, err := evidence.Verify(raw, testPolicy(t))
		if err != nil || found.Kind != want[i] || found.By != testName || !found.Conclusive {
			t.Errorf("file %d: %+v, %v", i, found, err)
		}
	}
}

// testPolicy names the log and the witness.
func testPolicy(t *testing.T) *verify.Policy {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "log %s\nlog %s\n", logKey(t).Verifier(), logKeyPQ(t).Verifier())
	for i, k := range witnessKeys(t) {
		fmt.Fprintf(&text, "witness w%d %s\n", i, k.Verifier())
	}
	text.WriteString("group w any w0 w1\nquorum w\n")
	sidecar, err := json.Marshal(map[string]any{
		"format": verify.TrustFormat, "log": "log.example", "logOperator": "Log", "operators": map[string]string{"w": "Witness"},
		"requiredLogKeys": []string{logKey(t).Verifier().String()}, "acceptReceived": false,
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

// TestLogShown: what the log alone has signed is adopted as far as it is proved.
func TestLogShown(t *testing.T) {
	five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
	fork := grown(t, 8, 3, "x")
	note := func(tr *tree) []byte { return signed(t, tr.checkpoint(t), logKey(t)) }
	forged := func(w *world) []byte {
		raw := w.cosignedBy(eight, w.c.Keys...)
		f := &fixture{T: t}
		return f.flipped(f.flipped(raw, 1), 2)
	}
	none := checkpoint.Checkpoint{}
	for name, tc := range map[string]struct {
		has    *tree
		shows  func(w *world) map[string]http.Handler
		state  gateState
		record checkpoint.Checkpoint
		kinds  string
	}{
		"fresh": {nil, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": serves(note(eight), eight), "peer-0.test": says(note(five))}
		}, cosigning, eight.checkpoint(t), ""},
		"fresh, two roots": {nil, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": says(note(eight)), "peer-0.test": says(note(fork))}
		}, held, none, "fork"},
		"larger": {five, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": serves(note(eight), eight)}
		}, cosigning, eight.checkpoint(t), ""},
		"larger, forged lines of ours": {five, func(w *world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": serves(forged(w), eight)}
		}, cosigning, eight.checkpoint(t), ""},
		"larger, another history": {five, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": serves(note(fork), fork)}
		}, cosigning, five.checkpoint(t), "inconsistent"},
		"larger, and two roots of it": {five, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": serves(note(eight), eight), "peer-0.test": says(note(fork))}
		}, cosigning, five.checkpoint(t), "fork fork"},
		"larger, without tiles": {five, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": says(note(eight))}
		}, quarantined, five.checkpoint(t), ""},
		"larger, wrong tiles": {five, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": serves(note(eight), fork)}
		}, quarantined, five.checkpoint(t), ""},
		"the same": {five, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": says(note(five))}
		}, cosigning, five.checkpoint(t), ""},
		"the same size, another root": {eight, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": says(note(fork))}
		}, cosigning, eight.checkpoint(t), "fork"},
		"smaller": {eight, func(*world) map[string]http.Handler {
			return map[string]http.Handler{"log.test": says(note(five))}
		}, cosigning, eight.checkpoint(t), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			if tc.has != nil {
				w.before(w.c.StatePath, tc.has.step(t, 0))
			}
			w.set("peer-0.test", status(http.StatusNotFound))
			for host, h := range tc.shows(w) {
				w.set(host, h)
			}
			witness := open(t, w.c)
			state, _ := catchUp(t, witness)
			w.wants(witness, state, tc.state, tc.record)
			if got := kinds(t, witness); got != tc.kinds {
				t.Errorf("the journal has %q, want %q", got, tc.kinds)
			}
			checkCosigned(t, witness)
		})
	}
}

// checkCosigned: whatever the record is, it has a line by each of the witness's
// keys, as the read interface promises.
func checkCosigned(t *testing.T, w *Witness) {
	t.Helper()
	raw, err := w.state.note(testOrigin)
	if err != nil || raw == nil {
		return
	}
	n, err := checkpoint.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(w.own(n)); got != len(w.keys) {
		t.Errorf("the record has %d lines of the witness, want %d", got, len(w.keys))
	}
}

// TestUnpublished: another witness has signed what the log has not published yet,
// because it waits for this one. The log may bring that very checkpoint.
func TestUnpublished(t *testing.T) {
	five, eight, nine := grown(t, 5, 5, ""), grown(t, 8, 8, ""), grown(t, 9, 9, "")
	w := newWorld(t, 1)
	w.before(w.c.StatePath, five.step(t, 0))
	w.set("log.test", serves(w.cosignedBy(five, w.c.Keys...), five))
	w.set("peer-0.test", says(signed(t, eight.checkpoint(t), logKey(t))))
	witness := open(t, w.c)
	if state, err := catchUp(t, witness); state != quarantined || err == nil {
		t.Fatalf("%s, %v", state, err)
	}
	fork := grown(t, 8, 5, "x")
	for name, body := range map[string]string{"a larger one": nine.step(t, 5), "a fork": fork.step(t, 5), "a smaller one": grown(t, 6, 6, "").step(t, 5)} {
		if rec := add(witness, body); rec.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d", name, rec.Code)
		}
	}
	// First the log asks for it again, as a log that starts does.
	if rec := add(witness, addBody(8, nil, signed(t, eight.checkpoint(t), logKey(t)))); rec.Code != http.StatusConflict || rec.Body.String() != "5\n" {
		t.Errorf("the probe: status %d, %s", rec.Code, rec.Body)
	}
	mustAdd(t, witness, eight.step(t, 5))
	mustAdd(t, witness, nine.step(t, 8))
}

// TestPeersOnly: without tiles there is no proof; what the witness itself has
// signed is adopted, what the log has signed only where nothing is recorded.
func TestPeersOnly(t *testing.T) {
	five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
	w := newWorld(t, 1)
	w.c.Logs[0].URL = ""
	w.before(w.c.StatePath, five.step(t, 0))
	w.set("peer-0.test", says(signed(t, eight.checkpoint(t), logKey(t))))
	witness := open(t, w.c)
	state, err := catchUp(t, witness)
	if err != nil {
		t.Error(err)
	}
	w.wants(witness, state, cosigning, five.checkpoint(t))
	w.c.StatePath = filepath.Join(t.TempDir(), "lost")
	lost := open(t, w.c)
	state, _ = catchUp(t, lost)
	w.wants(lost, state, cosigning, eight.checkpoint(t))
}

// TestAdoptionIsDurable: an adoption that was not written is none.
func TestAdoptionIsDurable(t *testing.T) {
	five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
	for _, own := range []bool{false, true} {
		for _, point := range []string{statefile.BeforeCommit, statefile.AfterCommit} {
			w := newWorld(t, 0)
			w.before(w.c.StatePath, five.step(t, 0))
			var keys []*checkpoint.SigningKey
			if own {
				keys = w.c.Keys
			}
			w.set("log.test", serves(w.cosignedBy(eight, keys...), eight))
			witness, err := New(w.c)
			if err != nil {
				t.Fatal(err)
			}
			witness.state.Hook = func(at string) error {
				if at == point {
					return errors.New("the disk is gone")
				}
				return nil
			}
			if state, err := catchUp(t, witness); state != quarantined || !errors.Is(err, statefile.ErrCommit) {
				t.Errorf("own %t, %s: %s, %v", own, point, state, err)
			}
			if rec := add(witness, eight.step(t, 5)); rec.Code == http.StatusOK {
				t.Errorf("own %t, %s: cosigned", own, point)
			}
			if err := witness.Close(); err != nil {
				t.Fatal(err)
			}
			again := open(t, w.c)
			state, err := catchUp(t, again)
			if err != nil {
				t.Error(err)
			}
			w.wants(again, state, cosigning, eight.checkpoint(t))
		}
	}
}

// TestQuarantineEnds: Run asks again by itself, and at once when the log asks.
func TestQuarantineEnds(t *testing.T) {
	w := newWorld(t, 0)
	witness := open(t, w.c)
	done := make(chan error, 1)
	go func() { done <- witness.Run(t.Context()) }()
	body := grown(t, 5, 5, "").step(t, 0)
	if rec := add(witness, body); rec.Code != http.StatusServiceUnavailable {
		t.Fatalf("status %d", rec.Code)
	}
	w.set("log.test", status(http.StatusNotFound))
	await(t, "the log is cosigned", func() bool {
		rec := add(witness, body)
		if rec.Code != http.StatusOK && rec.Code != http.StatusServiceUnavailable {
			t.Fatalf("status %d, %s", rec.Code, readAll(t, rec.Body))
		}
		return rec.Code == http.StatusOK
	})
	if err := witness.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
