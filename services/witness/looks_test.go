package witness

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
)

// TestRecordChangedMeanwhile: while the sources were asked, the log has brought
// what the quarantine waited for. What the look found is older then, and neither
// takes the record's place nor moves its time back.
func TestRecordChangedMeanwhile(t *testing.T) {
	five, eight := grown(t, 5, 5, ""), grown(t, 8, 8, "")
	for name, shown := range map[string]*tree{"the same": eight, "another root": grown(t, 8, 5, "x")} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			w.before(w.c.StatePath, five.step(t, 0))
			w.set("log.test", says(w.cosignedBy(shown, w.c.Keys...)))
			witness := open(t, w.c)
			f := witness.table.Load().byOrigin[testOrigin]
			found, _, err := witness.askAll(t.Context(), f, f.gate.asked())
			if err != nil {
				t.Fatal(err)
			}
			l := look{w: witness, f: f, sources: f.gate.asked()}
			if err := l.record(found); err != nil {
				t.Fatal(err)
			}
			w.clock.add(time.Hour)
			c := eight.checkpoint(t)
			f.gate.wait("it has not caught up yet", &c)
			at := cosignatures(t, eight.step(t, 5), mustAdd(t, witness, eight.step(t, 5)).Body.Bytes(), witness.keys...)

			if err := l.judge(t.Context()); err == nil {
				t.Error("an old look has changed the record")
			}
			if got := recordOf(t, witness); got != c {
				t.Errorf("the record is %+v, want %+v", got, c)
			}
			report, err := witness.Report()
			if err != nil || report.Logs[0].Time != at {
				t.Errorf("%+v, %v, want the time %d", report, err, at)
			}
		})
	}
}

// without hides some of what a server has.
func without(h http.Handler, path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, path) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// TestLyingMirror: a mirror that has the edge of the tree and nothing else does not
// keep the log in quarantine while another source has the rest.
func TestLyingMirror(t *testing.T) {
	small, big := grown(t, 100, 100, ""), grown(t, 300, 300, "")
	for name, own := range map[string]bool{"signed by the log": false, "signed by the witness": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 0)
			w.c.Logs[0].URL = "https://liar.test/log"
			w.c.Logs[0].Mirrors = []string{"https://log.test/log", "https://third.test/log"}
			w.before(w.c.StatePath, small.step(t, 0))
			var keys []*checkpoint.SigningKey
			if own {
				keys = w.c.Keys
			}
			note := w.cosignedBy(big, keys...)
			w.set("liar.test", without(serves(note, big), "/tile/0/000"))
			w.set("log.test", serves(note, big))
			witness := open(t, w.c)
			state, err := catchUp(t, witness)
			if err != nil {
				t.Error(err)
			}
			w.wants(witness, state, cosigning, big.checkpoint(t))
		})
	}
}

// TestFreshAmongTwo: nothing is recorded, and sources show two checkpoints. The
// larger one is adopted if the other is in its past, and nothing for good if it is
// not: which of the two the witness had signed nobody knows.
func TestFreshAmongTwo(t *testing.T) {
	five, eight, fork := grown(t, 5, 5, ""), grown(t, 8, 8, ""), grown(t, 8, 3, "x")
	note := func(tr *tree) []byte { return signed(t, tr.checkpoint(t), logKey(t)) }
	none := checkpoint.Checkpoint{}
	for name, tc := range map[string]struct {
		log    http.Handler
		state  gateState
		record checkpoint.Checkpoint
		kinds  string
	}{
		"one history":   {serves(note(eight), eight), cosigning, eight.checkpoint(t), ""},
		"two histories": {serves(note(fork), fork), held, none, "inconsistent"},
		"without tiles": {says(note(eight)), quarantined, none, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.set("peer-0.test", says(note(five)))
			w.set("log.test", tc.log)
			witness := open(t, w.c)
			state, _ := catchUp(t, witness)
			w.wants(witness, state, tc.state, tc.record)
			if got := kinds(t, witness); got != tc.kinds {
				t.Errorf("the journal has %q, want %q", got, tc.kinds)
			}
		})
	}
}

// TestDeadPeer: a witness that has a record of some log does not wait for all of
// its peers when another log opens, or any of them could keep new shards out.
func TestDeadPeer(t *testing.T) {
	s := newIssuer(t)
	w := newWorld(t, 2)
	w.c.Lists = []List{{URL: listURL, Keys: []*statement.PublicKey{s.key.Public()}}}
	w.before(w.c.StatePath, grown(t, 5, 5, "").step(t, 0))
	list := raw(s.list(1, s.shard("1", 10)))
	w.set("log.test", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/loglist" {
			list.ServeHTTP(rw, r)
			return
		}
		rw.WriteHeader(http.StatusNotFound)
	}))
	w.set("peer-0.test", status(http.StatusNotFound))
	witness := open(t, w.c)
	if err := refresh(t, witness); err != nil {
		t.Fatal(err)
	}
	f := witness.table.Load().byOrigin[s.log+"/1"]
	if err := witness.catchUp(t.Context(), f); err != nil {
		t.Error(err)
	}
	mustAdd(t, witness, s.growthOf("1", 10))
}

// TestSlowList: servers of one list's logs that never answer do not keep logs
// waiting that they have nothing to do with.
func TestSlowList(t *testing.T) {
	s := newIssuer(t)
	w := newWorld(t, 0)
	synctest.Test(t, func(t *testing.T) {
		c := w.c
		c.Lists = []List{{URL: listURL, Keys: []*statement.PublicKey{s.key.Public()}}}
		witness := open(t, c)
		var logs []Log
		for n := range 4 * looksAtOnce {
			one := s.shard(strconv.Itoa(n), 10)
			logs = append(logs, Log{Origin: one.Origin, Keys: one.Keys, URL: "https://tarpit.test/" + strconv.Itoa(n)})
		}
		w.set("tarpit.test", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		witness.followListed(t.Context(), listURL, logs)
		// The log that is configured comes up once the others have all the room.
		done := make(chan error, 1)
		go func() { done <- witness.Run(t.Context()) }()
		synctest.Wait()
		w.set("log.test", status(http.StatusNotFound))
		<-time.After(askTimeout / 2) // of the bubble's clock
		if state, _ := witness.table.Load().byOrigin[testOrigin].gate.now(); state != cosigning {
			t.Errorf("the log is in state %s", state)
		}
		if err := witness.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestStolenListKey: what a key has signed that is not configured any more binds
// nobody, and is kept. Else who had it could keep the log's list from ever coming
// back, with one of the greatest version.
func TestStolenListKey(t *testing.T) {
	s := newIssuer(t)
	w := listWorld(t, s)
	w.set("log.test", raw(s.list(1<<50, s.shard("stolen", 10))))
	witness, err := New(w.c)
	if err != nil {
		t.Fatal(err)
	}
	if err := refresh(t, witness); err != nil {
		t.Fatal(err)
	}
	if err := witness.Close(); err != nil {
		t.Fatal(err)
	}
	next := newIssuer(t)
	next.key = generate(t, 7)
	w.c.Lists[0].Keys = []*statement.PublicKey{next.key.Public()}
	again := open(t, w.c)
	w.set("log.test", raw(next.list(2, next.shard("1", 30))))
	if err := refresh(t, again); err != nil {
		t.Error(err)
	}
	if got := again.origins(); len(got) != 1 || got[0] != s.log+"/1" {
		t.Errorf("follows %v", got)
	}
	if j, err := again.state.journal(s.log); err != nil || len(j.Lists) != 1 || !bytes.Equal(j.Lists[0].InForce, s.list(1<<50, s.shard("stolen", 10))) {
		t.Errorf("%+v, %v", j, err)
	}
	// The new one binds.
	w.set("log.test", raw(next.list(3, next.shard("1", 50))))
	if err := refresh(t, again); err == nil {
		t.Error("the new key has rewritten its own list")
	}
}

// TestOldListMovesNothing: who hands out an older list, which needs no key, cannot
// send the witness to where a shard was before.
func TestOldListMovesNothing(t *testing.T) {
	s := newIssuer(t)
	one := s.shard("1", 10)
	w := listWorld(t, s)
	witness := open(t, w.c)
	before := s.list(1, one)
	one.URL = "https://new.test/1"
	for _, list := range [][]byte{s.list(2, one), before} {
		w.set("log.test", raw(list))
		if err := refresh(t, witness); err != nil {
			t.Fatal(err)
		}
	}
	if got := witness.table.Load().byOrigin[one.Origin].gate.asked()[0].String(); got != one.URL {
		t.Errorf("its tiles are looked for at %s", got)
	}
}

// TestListsOfOneKey: two lists that one key signs are told apart after a start.
func TestListsOfOneKey(t *testing.T) {
	s, other := newIssuer(t), newIssuer(t)
	other.log = "other.example"
	w := listWorld(t, s)
	const second = "https://other.test/v1/loglist"
	w.c.Lists = append(w.c.Lists, List{URL: second, Keys: w.c.Lists[0].Keys})
	w.set("log.test", raw(s.list(1, s.shard("1", 10))))
	w.set("other.test", raw(other.list(1, other.shard("1", 20))))
	first, err := New(w.c)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range first.lists {
		if err := first.readList(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, w.c)
	for origin, want := range map[string]string{s.log + "/1": listURL, other.log + "/1": second} {
		if f := again.table.Load().byOrigin[origin]; f == nil || f.list != want {
			t.Errorf("%s: %+v", origin, f)
		}
	}
}

// TestListNameIsBound: two lists of one log do not free either of them to become
// another log's.
func TestListNameIsBound(t *testing.T) {
	s, other := newIssuer(t), newIssuer(t)
	other.log = "other.example"
	w := listWorld(t, s)
	w.c.Lists = append(w.c.Lists, List{URL: "https://second.test/v1/loglist", Keys: w.c.Lists[0].Keys})
	w.set("log.test", raw(s.list(1, s.shard("1", 10))))
	w.set("second.test", raw(s.list(2, s.shard("1", 10), s.shard("2", 20))))
	witness := open(t, w.c)
	for _, l := range witness.lists {
		if err := witness.readList(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	w.set("log.test", raw(other.list(1, other.shard("1", 30))))
	if err := refresh(t, witness); err == nil || !strings.Contains(err.Error(), "expected the list of") {
		t.Errorf("it has become the list of another log: %v", err)
	}
}

// TestRepeatedExtensionLines: what the log has signed with an extension line, and
// anybody can send again, is written once in a second, also by turns.
func TestRepeatedExtensionLines(t *testing.T) {
	cfg := testConfig(t, newClock())
	cfg.Logs[0].Rate = &Rate{PerMinute: 1, Burst: 2}
	w := open(t, cfg)
	five := grown(t, 5, 5, "")
	text := append(five.checkpoint(t).Body(), "extension\n"...)
	plain, extended := five.step(t, 5), addBody(5, nil, signedText(t, text, logKey(t)))
	mustAdd(t, w, five.step(t, 0)) // one token
	mustAdd(t, w, extended)        // the other one
	writes := 0
	w.state.Hook = func(string) error { writes++; return nil }
	mustAdd(t, w, extended)
	if rec := add(w, plain); rec.Code != http.StatusTooManyRequests {
		t.Errorf("by turns: status %d", rec.Code)
	}
	if writes != 0 {
		t.Errorf("%d writes", writes)
	}
}

// TestHeldMeanwhile: a request that was let in just before its log was held gets no
// cosignature.
func TestHeldMeanwhile(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	err := w.state.Update(func(tx *bbolt.Tx) (bool, error) {
		return true, tx.Bucket([]byte(heldBucket)).Put([]byte(testOrigin), []byte("it has signed two roots"))
	})
	if err != nil {
		t.Fatal(err)
	}
	rec := add(w, grown(t, 5, 5, "").step(t, 0))
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "problems/witness/held") {
		t.Errorf("status %d, %s", rec.Code, rec.Body)
	}
}
