package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/services/internal/statefile"
)

// TestFailedWriteGivesNoSignature: each way in which a durable write fails, also
// when it was stored all the same. No cosignature may go out, neither in the
// answer nor through the read interface, and nothing may be signed afterwards;
// after a restart the witness goes on from what the disk holds.
func TestFailedWriteGivesNoSignature(t *testing.T) {
	for name, tc := range map[string]struct {
		point string
		// persisted is whether a restart finds the write.
		persisted bool
	}{
		"failed":               {statefile.BeforeCommit, false},
		"failed but persisted": {statefile.AfterCommit, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, newClock())
			w, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
			mustAdd(t, w, five.step(t, 0))
			fault := errors.New("disk on fire")
			w.state.Hook = func(point string) error {
				if point == tc.point {
					return fault
				}
				return nil
			}
			checkNoSignature(t, w, eight.step(t, 5))
			if err := w.Run(context.Background()); !errors.Is(err, fault) || !errors.Is(err, statefile.ErrCommit) {
				t.Errorf("Run: %v", err)
			}
			// The disk has healed, but what it holds is not known any more.
			w.state.Hook = nil
			checkNoSignature(t, w, eight.step(t, 5))
			checkNoSignature(t, w, five.step(t, 5))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}

			w = open(t, cfg)
			want := map[bool]int{false: 200, true: 409}[tc.persisted]
			if rec := add(w, eight.step(t, 5)); rec.Code != want {
				t.Errorf("after a restart: status %d, want %d", rec.Code, want)
			}
			// Either way the same checkpoint gets its cosignature, and a fork none.
			body := eight.step(t, 8)
			cosignatures(t, body, mustAdd(t, w, body).Body.Bytes(), w.keys...)
			if rec := add(w, addBody(8, nil, signed(t, grown(t, 8, 6, "x").checkpoint(t), logKey(t)))); rec.Code != 422 {
				t.Errorf("fork after a restart: status %d", rec.Code)
			}
		})
	}
}

// checkNoSignature sends a request that has to fail with 500 and no cosignature
// anywhere.
func checkNoSignature(t *testing.T, w *Witness, body string) {
	t.Helper()
	if rec := add(w, body); rec.Code != 500 || strings.Contains(rec.Body.String(), "— ") {
		t.Errorf("status %d, body %s", rec.Code, rec.Body)
	}
	if rec := do(w, "GET", "/"+originHash(testOrigin)+"/checkpoint", nil, nil); rec.Code != 500 || strings.Contains(rec.Body.String(), "— ") {
		t.Errorf("read interface: status %d, body %s", rec.Code, rec.Body)
	}
}

func TestReadOnlyStateGivesNoSignature(t *testing.T) {
	cfg := testConfig(t, newClock())
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	five := grown(t, 5, 5, "")
	mustAdd(t, w, five.step(t, 0))
	if err := w.state.Close(); err != nil {
		t.Fatal(err)
	}
	// First with the file closed under the witness, then opened read-only.
	for _, body := range []string{five.step(t, 5), grown(t, 8, 8, "").step(t, 5)} {
		checkNoSignature(t, w, body)
	}
	if w.state, err = openState(cfg.StatePath, true); err != nil {
		t.Fatal(err)
	}
	rec := add(w, grown(t, 8, 8, "").step(t, 5))
	if rec.Code != 500 || strings.Contains(rec.Body.String(), "— ") {
		t.Errorf("read-only: status %d, body %s", rec.Code, rec.Body)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestJournalFailureStillRefuses: evidence that cannot be written changes no
// answer, but the broken state is noticed.
func TestJournalFailureStillRefuses(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	mustAdd(t, w, grown(t, 5, 5, "").step(t, 0))
	w.state.Hook = func(string) error { return errors.New("disk on fire") }
	if rec := add(w, addBody(5, nil, signed(t, grown(t, 5, 2, "x").checkpoint(t), logKey(t)))); rec.Code != 422 {
		t.Errorf("status %d, body %s", rec.Code, rec.Body)
	}
	if err := w.Run(context.Background()); err == nil {
		t.Error("Run does not report the failed write")
	}
}

// TestPanicInTransaction: a panic is not a lock that is held for ever.
func TestPanicInTransaction(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = w.state.Update(func(*bbolt.Tx) (bool, error) { panic("bug") })
	}()
	mustAdd(t, w, grown(t, 5, 5, "").step(t, 0))
}

// TestPanicInCommit: nobody knows what the disk holds then, so nothing is cosigned
// any more, although the server outlives the request.
func TestPanicInCommit(t *testing.T) {
	for _, point := range []string{statefile.BeforeCommit, statefile.AfterCommit} {
		w := open(t, testConfig(t, newClock()))
		w.state.Hook = func(at string) error {
			if at == point {
				panic("bug")
			}
			return nil
		}
		func() {
			defer func() { _ = recover() }()
			add(w, grown(t, 5, 5, "").step(t, 0))
		}()
		w.state.Hook = nil
		checkNoSignature(t, w, grown(t, 5, 5, "").step(t, 0))
		if err := w.state.Err(); !errors.Is(err, statefile.ErrCommit) {
			t.Errorf("%s: the state says %v", point, err)
		}
	}
}

func TestStateSurvivesRestart(t *testing.T) {
	c := newClock()
	cfg := testConfig(t, c)
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	first := cosignatures(t, grown(t, 5, 5, "").step(t, 0), mustAdd(t, w, grown(t, 5, 5, "").step(t, 0)).Body.Bytes(), w.keys...)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.add(-60e9)
	w = open(t, cfg)
	if rec := add(w, grown(t, 8, 8, "").step(t, 0)); rec.Code != 409 || rec.Body.String() != "5\n" {
		t.Errorf("status %d, body %q", rec.Code, rec.Body)
	}
	body := grown(t, 8, 8, "").step(t, 5)
	if got := cosignatures(t, body, mustAdd(t, w, body).Body.Bytes(), w.keys...); got != first {
		t.Errorf("time %d, want that of before the restart, %d", got, first)
	}
}

// TestDamagedStateIsRefused: a record that does not hold together is not a
// reason to begin at 0.
func TestDamagedStateIsRefused(t *testing.T) {
	good := func(t *testing.T, w *Witness) record {
		var r record
		err := w.state.View(func(tx *bbolt.Tx) error {
			return json.Unmarshal(tx.Bucket([]byte(logsBucket)).Get([]byte(testOrigin)), &r)
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, damage := range map[string]func(*record) []byte{
		"not JSON":       func(*record) []byte { return []byte("{") },
		"unknown member": func(*record) []byte { return []byte(`{"format":1,"more":1}`) },
		"other format":   func(r *record) []byte { r.Format = 2; return marshal(t, r) },
		"short root":     func(r *record) []byte { r.RootB = r.RootB[1:]; return marshal(t, r) },
		"other root":     func(r *record) []byte { r.RootB[0] ^= 1; return marshal(t, r) },
		"other size":     func(r *record) []byte { r.Size++; return marshal(t, r) },
		"no note":        func(r *record) []byte { r.Note = nil; return marshal(t, r) },
		"other log": func(r *record) []byte {
			r.Note = bytes.ReplaceAll(r.Note, []byte(testOrigin+"\n"), []byte(otherOrigin+"\n"))
			return marshal(t, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, testConfig(t, newClock()))
			mustAdd(t, w, grown(t, 5, 5, "").step(t, 0))
			r := good(t, w)
			raw := damage(&r)
			err := w.state.Update(func(tx *bbolt.Tx) (bool, error) {
				return true, tx.Bucket([]byte(logsBucket)).Put([]byte(testOrigin), raw)
			})
			if err != nil {
				t.Fatal(err)
			}
			checkNoSignature(t, w, grown(t, 8, 8, "").step(t, 5))
			checkNoSignature(t, w, grown(t, 8, 8, "").step(t, 0))
		})
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestOtherFormatIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	s, err := openState(path, false)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(func(tx *bbolt.Tx) (bool, error) {
		return true, tx.Bucket([]byte(metaBucket)).Put([]byte("format"), []byte("2"))
	})
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err := openState(path, false); err == nil {
		t.Error("accepted", s.Close())
	}
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a state file"), 1024), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := openState(path, false); err == nil {
		t.Error("a file of rubbish was accepted", s.Close())
	}
}

func TestRecordRoundTrip(t *testing.T) {
	five := grown(t, 5, 5, "")
	in := record{Size: 5, Root: five.root(t), Time: 1 << 62, Note: signed(t, five.checkpoint(t), logKey(t))}
	raw, err := in.encode()
	if err != nil {
		t.Fatal(err)
	}
	out, note, err := decodeRecord(testOrigin, raw)
	if err != nil {
		t.Fatal(err)
	}
	again, err := out.encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, again) || out.Time != in.Time || note.Checkpoint() != five.checkpoint(t) {
		t.Errorf("%s became %s", raw, again)
	}
	if _, _, err := decodeRecord("another.example", raw); err == nil {
		t.Error("the record of another origin was accepted")
	}
}
