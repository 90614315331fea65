package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/statefile"
)

const listURL = "https://log.test/v1/loglist"

// issuer signs lists of one log.
type issuer struct {
	*testing.T

	key *statement.PrivateKey
	log string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := statement.GenerateKey(rand32())
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t, key, "log.example"}
}

// rand32 gives the same bytes to every test.
func rand32() *bytes.Reader { return bytes.NewReader(bytes.Repeat([]byte{42}, 1<<10)) }

// shard is an announced one, with keys of its own.
func (s *issuer) shard(name string, seed byte) loglist.Shard {
	origin := s.log + "/" + name
	at := time.Unix(1_700_000_000, 0).UTC()
	return loglist.Shard{
		Origin: origin, State: loglist.Announced, Announced: at, Opens: at.Add(loglist.Notice), URL: "https://log.test/" + name,
		Keys: []*checkpoint.VerifierKey{
			testKey(s, origin, checkpoint.AlgEd25519, seed).Verifier(), testKey(s, origin, checkpoint.AlgMLDSA44, seed+1).Verifier(),
		},
	}
}

// list is a signed list. Its shards were announced when it was issued.
func (s *issuer) list(version uint64, shards ...loglist.Shard) []byte {
	s.Helper()
	l := &loglist.List{Log: s.log, Version: version, Issued: time.Unix(1_700_000_000, 0).UTC(), Shards: shards}
	raw, err := l.Sign(s.key)
	if err != nil {
		s.Fatal(err)
	}
	return raw
}

// raw answers with these bytes.
func raw(b []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) })
}

// listWorld is a witness that follows one list at listURL and nothing else.
func listWorld(t *testing.T, s *issuer) *world {
	t.Helper()
	w := newWorld(t, 0)
	w.c.Logs = nil
	w.c.Lists = []List{{URL: listURL, Keys: []*statement.PublicKey{s.key.Public()}, Rate: &Rate{PerMinute: 60}}}
	return w
}

// growthOf is a request of the shard, which begins.
func (s *issuer) growthOf(name string, seed byte) string {
	c := grown(s, 3, 3, "").checkpoint(s)
	c.Origin = s.log + "/" + name
	return addBody(0, nil, signed(s, c, testKey(s, c.Origin, checkpoint.AlgEd25519, seed)))
}

// refresh looks at the first list once.
func refresh(t *testing.T, w *Witness) error {
	t.Helper()
	return w.readList(t.Context(), w.lists[0])
}

// TestListFollowed: every shard of a list is followed, and one that is announced
// later needs no hand, nor a server after another start.
func TestListFollowed(t *testing.T) {
	s := newIssuer(t)
	one, two := s.shard("1", 10), s.shard("2", 20)
	w := listWorld(t, s)
	w.set("log.test", raw(s.list(1, one)))
	witness, err := New(w.c)
	if err != nil {
		t.Fatal(err)
	}
	if rec := add(witness, s.growthOf("1", 10)); rec.Code != http.StatusNotFound {
		t.Errorf("before the list was there: status %d", rec.Code)
	}
	if err := refresh(t, witness); err != nil {
		t.Fatal(err)
	}
	if got := witness.origins(); len(got) != 1 || got[0] != one.Origin {
		t.Errorf("%v", got)
	}
	f := witness.table.Load().byOrigin[one.Origin]
	if f.bucket == nil || len(f.gate.asked()) != 1 || f.gate.asked()[0].String() != one.URL {
		t.Errorf("%+v", f)
	}
	// A listed log is in quarantine like any other.
	if rec := add(witness, s.growthOf("1", 10)); rec.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", rec.Code)
	}
	w.set("log.test", raw(s.list(2, one, two)))
	if err := refresh(t, witness); err != nil {
		t.Fatal(err)
	}
	if witness.table.Load().byOrigin[one.Origin] != f {
		t.Error("the first shard has lost its quarantine and its rate")
	}
	if err := witness.Close(); err != nil {
		t.Fatal(err)
	}
	w.set("log.test", nil)
	again := open(t, w.c)
	if got := again.origins(); len(got) != 2 {
		t.Fatalf("after another start: %v", got)
	}
	w.set("log.test", status(http.StatusNotFound))
	second := again.table.Load().byOrigin[two.Origin]
	if err := again.catchUp(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, again, s.growthOf("2", 20))
	report, err := again.Report()
	if err != nil || len(report.Lists) != 1 || report.Lists[0].Version != 2 || report.Lists[0].From != listURL || report.Logs[1].List != listURL {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestListRefused: a list that may not take the place of the one in force does
// not, and is kept as evidence if its signer is to blame.
func TestListRefused(t *testing.T) {
	s := newIssuer(t)
	one, two, other := s.shard("1", 10), s.shard("2", 20), s.shard("1", 30)
	stranger := newIssuer(t)
	stranger.key = generate(t, 7)
	foreign := newIssuer(t)
	foreign.log = "other.example"
	moved := one
	moved.URL = "https://elsewhere.test/1"
	for name, tc := range map[string]struct {
		shows    http.Handler
		want     string // in the error; empty for none
		disputed int
	}{
		"the same":              {raw(s.list(2, one, two)), "", 0},
		"an older one":          {raw(s.list(1, one)), "", 0},
		"a newer one":           {raw(s.list(3, one, two)), "", 0},
		"a newer one, moved":    {raw(s.list(3, moved, two)), "", 0},
		"a shard is gone":       {raw(s.list(3, one)), "version 3", 1},
		"other keys":            {raw(s.list(3, other, two)), "version 3", 1},
		"another of its time":   {raw(s.list(2, one, s.shard("2", 40))), "same version", 1},
		"an older one, rewrite": {raw(s.list(1, other)), "version 1", 1},
		"not signed by its key": {raw(stranger.list(3, one, two)), "not signed by a key", 0},
		"of another log":        {raw(foreign.list(3, foreign.shard("1", 50))), "expected the list of", 0},
		"garbage":               {raw([]byte("{}")), "log list", 0},
		"empty":                 {raw(nil), "log list", 0},
		"too long":              {raw(make([]byte, loglist.MaxSize+1)), "at most 1048576 bytes", 0},
		"away":                  {status(http.StatusInternalServerError), "got 500", 0},
		"sent elsewhere":        {http.RedirectHandler("https://other.test/v1/loglist", http.StatusFound), "another server", 0},
		"sent to plain http": {http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Scheme == "http" {
				_, _ = w.Write(s.list(3, one, two))
				return
			}
			http.Redirect(w, r, "http://log.test/v1/loglist", http.StatusFound)
		}), "another server", 0},
		"in circles": {http.RedirectHandler(listURL, http.StatusFound), "too often", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := listWorld(t, s)
			witness := open(t, w.c)
			for _, v := range [][]byte{s.list(1, one), s.list(2, one, two)} {
				w.set("log.test", raw(v))
				if err := refresh(t, witness); err != nil {
					t.Fatal(err)
				}
			}
			w.set("other.test", raw(s.list(3, one, two)))
			w.set("log.test", tc.shows)
			for range 2 { // the second time it is evidence no more than once
				err := refresh(t, witness)
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
			}
			if got := witness.origins(); len(got) != 2 || !sameKeys(witness.table.Load().byOrigin[one.Origin].keys, one.Keys) {
				t.Errorf("%v", got)
			}
			j, err := witness.state.journal(s.log)
			if err != nil || len(j.Lists) != tc.disputed {
				t.Fatalf("%d lists in the journal, %v", len(j.Lists), err)
			}
			if tc.disputed > 0 {
				all, err := j.Portable(testName)
				if err != nil || len(all) != 1 || all[0].Kind != evidence.KindLogList {
					t.Fatalf("%+v, %v", all, err)
				}
				if _, err := all[0].Encode(); err != nil {
					t.Error(err)
				}
			}
			if name == "a newer one, moved" {
				if got := witness.table.Load().byOrigin[one.Origin].gate.asked()[0].String(); got != moved.URL {
					t.Errorf("its tiles are looked for at %s", got)
				}
			}
		})
	}
}

func generate(t *testing.T, seed byte) *statement.PrivateKey {
	t.Helper()
	key, err := statement.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 1<<10)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestListOfOneLog: a list speaks for the log that it was configured for.
func TestListOfOneLog(t *testing.T) {
	s := newIssuer(t)
	one, two := s.shard("1", 10), s.shard("2", 20)
	for log, want := range map[string]int{s.log: 2, "log.exampl": 0} {
		w := listWorld(t, s)
		w.c.Lists[0].Log = log
		w.set("log.test", raw(s.list(1, one, two)))
		witness := open(t, w.c)
		if err := refresh(t, witness); (err == nil) != (want > 0) || len(witness.origins()) != want {
			t.Errorf("%s: %v, %v", log, witness.origins(), err)
		}
	}
}

// TestDisputedIsBounded: who may sign a list cannot fill the disk.
func TestDisputedIsBounded(t *testing.T) {
	s := newIssuer(t)
	one := s.shard("1", 10)
	w := listWorld(t, s)
	witness := open(t, w.c)
	w.set("log.test", raw(s.list(1, one)))
	if err := refresh(t, witness); err != nil {
		t.Fatal(err)
	}
	for v := range uint64(maxDisputed + 5) {
		w.set("log.test", raw(s.list(v+2, s.shard("2", 20))))
		if err := refresh(t, witness); err == nil {
			t.Fatal("accepted")
		}
	}
	if j, err := witness.state.journal(s.log); err != nil || len(j.Lists) != maxDisputed {
		t.Errorf("%d lists, %v", len(j.Lists), err)
	}
}

// TestConfiguredWins: what a list says of a log that is configured, or in another
// list, counts if it says the same; else it is refused, loudly, and alone.
func TestConfiguredWins(t *testing.T) {
	s := newIssuer(t)
	one, two := s.shard("1", 10), s.shard("2", 20)
	for name, tc := range map[string]struct {
		keys []*checkpoint.VerifierKey
		loud bool
	}{
		"same keys":             {one.Keys, false},
		"same in another order": {[]*checkpoint.VerifierKey{one.Keys[1], one.Keys[0]}, false},
		"other keys":            {s.shard("1", 30).Keys, true},
		"fewer keys":            {one.Keys[:1], true},
	} {
		t.Run(name, func(t *testing.T) {
			w := listWorld(t, s)
			var out bytes.Buffer
			w.c.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}))
			w.c.Logs = []Log{{Origin: one.Origin, Keys: tc.keys}}
			w.set("log.test", raw(s.list(1, one, two)))
			witness := open(t, w.c)
			if err := refresh(t, witness); err != nil {
				t.Fatal(err)
			}
			known := witness.table.Load().byOrigin
			if len(known) != 2 || known[one.Origin].list != "" || len(known[one.Origin].gate.asked()) != 0 || !sameKeys(known[one.Origin].keys, tc.keys) {
				t.Errorf("%+v", known[one.Origin])
			}
			if loud := strings.Contains(out.String(), errConflict.Error()); loud != tc.loud {
				t.Errorf("said: %s", out.String())
			}
		})
	}
}

// TestListBound: lists cannot make a witness follow more logs than it has room for.
func TestListBound(t *testing.T) {
	listedLog := func(n int) *followed { return &followed{origin: fmt.Sprint("log-", n), list: "a list"} }
	var many []*followed
	for n := range maxListed + 3 {
		many = append(many, listedLog(n))
	}
	full, err := (&table{}).with(many)
	if err == nil || len(full.byOrigin) != maxListed || len(full.byHash) != maxListed {
		t.Errorf("%d logs, %v", len(full.byOrigin), err)
	}
	more, err := full.with([]*followed{{origin: "configured"}})
	if err != nil || len(more.byOrigin) != maxListed+1 || len(full.byOrigin) != maxListed {
		t.Errorf("a configured one: %d logs, before %d, %v", len(more.byOrigin), len(full.byOrigin), err)
	}
}

// TestListFile: a list in a file is there when New returns, and again when it
// changes.
func TestListFile(t *testing.T) {
	s := newIssuer(t)
	one, two := s.shard("1", 10), s.shard("2", 20)
	path := filepath.Join(t.TempDir(), "loglist.json")
	w := listWorld(t, s)
	w.c.Lists[0].URL, w.c.Lists[0].File = "", path
	w.c.ListInterval = time.Millisecond
	if err := os.WriteFile(path, s.list(1, one), 0o600); err != nil {
		t.Fatal(err)
	}
	witness := open(t, w.c)
	if got := witness.origins(); len(got) != 1 {
		t.Errorf("%v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- witness.Run(ctx) }()
	if err := os.WriteFile(path+".new", s.list(2, one, two), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	await(t, "the second shard is followed", func() bool { return len(witness.origins()) == 2 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestListIsDurable: a list that was not written is not in force after a start.
func TestListIsDurable(t *testing.T) {
	s := newIssuer(t)
	one, two := s.shard("1", 10), s.shard("2", 20)
	for point, want := range map[string]int{statefile.BeforeCommit: 1, statefile.AfterCommit: 2} {
		w := listWorld(t, s)
		witness, err := New(w.c)
		if err != nil {
			t.Fatal(err)
		}
		w.set("log.test", raw(s.list(1, one)))
		if err := refresh(t, witness); err != nil {
			t.Fatal(err)
		}
		witness.state.Hook = func(at string) error {
			if at == point {
				return errors.New("the disk is gone")
			}
			return nil
		}
		w.set("log.test", raw(s.list(2, one, two)))
		if err := refresh(t, witness); !errors.Is(err, statefile.ErrCommit) || len(witness.origins()) != 1 {
			t.Errorf("%s: %v, %v", point, err, witness.origins())
		}
		if err := witness.Close(); err != nil {
			t.Fatal(err)
		}
		w.set("log.test", nil)
		if got := open(t, w.c).origins(); len(got) != want {
			t.Errorf("%s: after another start %v", point, got)
		}
	}
}

// TestListKeyReplaced: a list that no configured key has signed is not followed;
// while the key that has signed it is configured, another one cannot rewrite it.
func TestListKeyReplaced(t *testing.T) {
	s := newIssuer(t)
	w := listWorld(t, s)
	w.set("log.test", raw(s.list(1, s.shard("1", 10))))
	witness, err := New(w.c)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(refresh(t, witness), witness.Close()); err != nil {
		t.Fatal(err)
	}
	next := newIssuer(t)
	next.key = generate(t, 7)
	w.c.Lists[0].Keys = []*statement.PublicKey{next.key.Public()}
	again := open(t, w.c)
	if got := again.origins(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	w.c.Lists[0].Keys = append(w.c.Lists[0].Keys, s.key.Public())
	again = open(t, w.c)
	w.set("log.test", raw(next.list(2, next.shard("1", 30))))
	if err := refresh(t, again); err == nil || len(again.origins()) != 1 {
		t.Errorf("%v, %v", err, again.origins())
	}
	w.set("log.test", raw(next.list(2, next.shard("1", 10), next.shard("2", 20))))
	if err := refresh(t, again); err != nil || len(again.origins()) != 2 {
		t.Errorf("%v, %v", err, again.origins())
	}
}

// TestFirstStateFile: a file of the time before there were lists is read.
func TestFirstStateFile(t *testing.T) {
	w := newWorld(t, 0)
	five := grown(t, 5, 5, "")
	w.before(w.c.StatePath, five.step(t, 0))
	db, err := bbolt.Open(w.c.StatePath, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte(heldBucket)), tx.DeleteBucket([]byte(listsBucket)), tx.DeleteBucket([]byte(disputedBucket)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(w.c.StatePath)
	if err != nil {
		t.Fatal(err)
	}
	report, err := f.Report()
	if err != nil || len(report.Logs) != 1 || report.Logs[0].Size != 5 || report.Running {
		t.Errorf("%+v, %v", report, err)
	}
	if j, err := f.Journal(testOrigin); err != nil || len(j.Entries)+len(j.Lists) != 0 {
		t.Errorf("%+v, %v", j, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	w.c.Logs[0].URL = ""
	mustAdd(t, open(t, w.c), grown(t, 8, 8, "").step(t, 5))
}
