package timestamp

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/statement"
	api "github.com/trialog/trialog/api/timestamp"
	"github.com/trialog/trialog/services/internal/statefile"
)

// TestRecordFirst: what is in a token is recorded, and was before the token left.
func TestRecordFirst(t *testing.T) {
	w := newWorld(t)
	token := w.stamp("a text")
	records, err := w.state.oldest(10)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	r := records[0]
	if r.serial.int().Cmp(token.Serial) != 0 || !r.time.Equal(token.Time) || !bytes.Equal(r.imprint[:], token.Imprint) {
		t.Errorf("recorded %x %s %s of %+v", r.serial, r.time, r.imprint, token)
	}
}

// TestRecordFails: a token whose record may not be durable does not leave, whether
// the write failed or persisted all the same. Nothing more is issued until the
// file is opened again, and Run ends.
func TestRecordFails(t *testing.T) {
	for point, persisted := range map[string]int{statefile.BeforeCommit: 0, statefile.AfterCommit: 1} {
		w := newWorld(t)
		w.stamp("an earlier text") // begins the life
		cause := errors.New("the disk is gone")
		w.state.Hook = func(at string) error {
			if at == point {
				return cause
			}
			return nil
		}
		if _, err := w.tryStamp("a text"); refusedAs(err) != api.SystemFailure || !errors.Is(err, cause) {
			t.Errorf("%s: %v", point, err)
		}
		w.state.Hook = nil
		if _, err := w.tryStamp("a text"); refusedAs(err) != api.SystemFailure || !errors.Is(err, statefile.ErrCommit) {
			t.Errorf("%s, the next one: %v", point, err)
		}
		if err := w.Run(t.Context()); !errors.Is(err, cause) {
			t.Errorf("%s: Run ended with %v", point, err)
		}
		w.reopen()
		before, err := w.state.oldest(10)
		if err != nil || len(before) != 1+persisted {
			t.Errorf("%s: %d records, %v", point, len(before), err)
		}
		if next := w.stamp("a text").Serial; next.Cmp(before[len(before)-1].serial.int()) <= 0 {
			t.Errorf("%s: serial number %x behind %x", point, next, before[len(before)-1].serial)
		}
	}
}

// TestLifeFails: no serial number is given that another life might give too.
func TestLifeFails(t *testing.T) {
	for point, persisted := range map[string]bool{statefile.BeforeCommit: false, statefile.AfterCommit: true} {
		w := newWorld(t)
		w.state.Hook = func(at string) error {
			if at == point {
				return errors.New("the disk is gone")
			}
			return nil
		}
		if _, err := w.tryStamp("a text"); refusedAs(err) != api.SystemFailure {
			t.Errorf("%s: %v", point, err)
		}
		w.reopen()
		ms := uint64(w.clock.time().UnixMilli())
		want := ms
		if persisted {
			want++
		}
		if got, err := w.state.beginLife(ms); err != nil || got != want {
			t.Errorf("%s: life %d, %v, expected %d", point, got, err, want)
		}
	}
}

// TestSameRecordTwice: a serial number is never recorded for two tokens.
func TestSameRecordTwice(t *testing.T) {
	w := newWorld(t)
	r := &record{serial: serial{1}, time: time.UnixMilli(1)}
	if err := w.state.add(r); err != nil {
		t.Fatal(err)
	}
	if err := w.state.add(r); err == nil {
		t.Error("recorded twice")
	}
	w.stamp("a text") // that was no fault of the disk
}

// TestGroupCommit: what comes while a commit is under way goes into the next one
// together.
func TestGroupCommit(t *testing.T) {
	w := newWorld(t)
	commits := 0
	entered, release := make(chan struct{}), make(chan struct{})
	w.state.Hook = func(at string) error {
		if at == statefile.BeforeCommit {
			commits++
			if commits == 1 {
				close(entered)
				<-release
			}
		}
		return nil
	}
	const callers = 50
	var wg sync.WaitGroup
	add := func(i int) {
		wg.Go(func() {
			if err := w.state.add(&record{serial: serial{byte(i)}, time: time.UnixMilli(1)}); err != nil {
				t.Error(err)
			}
		})
	}
	add(0)
	<-entered
	for i := range callers {
		add(i + 1)
	}
	for queued := 0; queued < callers; {
		w.state.mu.Lock()
		queued = len(w.state.queue)
		w.state.mu.Unlock()
	}
	close(release)
	wg.Wait()
	if records, err := w.state.oldest(callers + 2); err != nil || len(records) != callers+1 || commits != 2 {
		t.Errorf("%d records in %d commits, %v", len(records), commits, err)
	}
}

// TestConcurrent: tokens that are asked for at once have serial numbers of their
// own, each with its record.
func TestConcurrent(t *testing.T) {
	w := newWorld(t)
	const callers, each = 16, 20
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				token, err := w.tryStamp(fmt.Sprint(c, ".", i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[token.Serial.Text(16)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	records, err := w.state.oldest(callers*each + 1)
	if err != nil || len(records) != callers*each || len(seen) != callers*each {
		t.Fatalf("%d records, %d serial numbers, %v", len(records), len(seen), err)
	}
	for _, r := range records {
		if !seen[r.serial.text()] {
			t.Errorf("a record of %s, which nobody got", r.serial.text())
		}
	}
	if !slices.IsSortedFunc(records, func(a, b *record) int { return bytes.Compare(a.serial[:], b.serial[:]) }) {
		t.Error("records are not in the order of their serial numbers")
	}
}

func TestRecordItem(t *testing.T) {
	long := bytes.Repeat([]byte{3}, 48)
	for _, digest := range [][]byte{bytes.Repeat([]byte{2}, 32), long} {
		r := &record{serial: serial{0, 1, 0xab}, time: time.UnixMilli(1_772_359_200_999), imprint: recordImprint(digest)}
		got, err := parseRecord(r.serial[:], r.value())
		if err != nil || !got.time.Equal(r.time) || got.serial != r.serial || got.imprint != r.imprint {
			t.Errorf("%+v, %v", got, err)
		}
		item, err := statement.DecodeItem(r.item("org"))
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		for _, m := range item.Attributes {
			values[m.Name] = m.Value.Text
		}
		if values["serial"] != "1ab000000000000000000000000000000" || values["time"] != "2026-03-01T10:00:00Z" || values["imprint"] != r.imprint.String() {
			t.Errorf("%v", values)
		}
	}
	if recordImprint(long) == recordImprint(append(long, 3)) || statement.Digest(long[:32]) == recordImprint(long) {
		t.Error("a long digest is not hashed")
	}
	for name, bad := range map[string][2][]byte{
		"short serial": {make([]byte, 17), make([]byte, 41)},
		"short value":  {make([]byte, 18), append([]byte{recordFormat}, make([]byte, 39)...)},
		"other format": {make([]byte, 18), append([]byte{2}, make([]byte, 40)...)},
	} {
		if _, err := parseRecord(bad[0], bad[1]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestStateInUse: one process has the file at a time, and the other is told so.
func TestStateInUse(t *testing.T) {
	w := newWorld(t)
	if _, err := Open(w.config); err == nil || !strings.Contains(err.Error(), "another process has it") {
		t.Error(err)
	}
}

// TestForeignState: a file that is not ours, or is damaged, is refused, not
// guessed at.
func TestForeignState(t *testing.T) {
	w := newWorld(t)
	w.stamp("a text")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(w.config.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(bucket, key string, value []byte) func(string) error {
		return func(path string) error {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), value) })
			return errors.Join(err, db.Close())
		}
	}
	for name, tt := range map[string]struct {
		spoil func(path string) error
		opens bool
	}{
		"untouched":    {func(string) error { return nil }, true},
		"other format": {spoil(metaBucket, "format", []byte("2")), false},
		"a text":       {func(path string) error { return os.WriteFile(path, []byte("a text"), 0o600) }, false},
		"of another program": {func(path string) error {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			err = db.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(tokensBucket)) })
			return errors.Join(err, db.Close())
		}, false},
		"strange life":  {spoil(metaBucket, "life", []byte("x")), true},
		"strange token": {spoil(tokensBucket, "x", []byte("x")), true},
		"strange batch": {spoil(batchBucket, envelopeKey, []byte("x")), true},
	} {
		path := filepath.Join(t.TempDir(), "state")
		if err := errors.Join(os.WriteFile(path, good, 0o600), tt.spoil(path)); err != nil {
			t.Fatal(err)
		}
		s, err := openState(path)
		if (err == nil) != tt.opens {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		_, lifeErr := s.beginLife(1)
		_, tokenErr := s.oldest(10)
		_, batchErr := s.batch()
		if (lifeErr == nil) != (name != "strange life") || (tokenErr == nil) != (name != "strange token") ||
			(batchErr == nil) != (name != "strange batch") {
			t.Errorf("%s: %v, %v, %v", name, lifeErr, tokenErr, batchErr)
		}
		_ = s.close()
	}
}

func TestRecordsCoding(t *testing.T) {
	for _, list := range [][][]byte{nil, {{}}, {{1}, {2, 3}, {}}, {bytes.Repeat([]byte{9}, 300)}} {
		got, err := decodeRecords(encodeRecords(list))
		if err != nil || len(got) != len(list) {
			t.Fatalf("%v: %v, %v", list, got, err)
		}
		for i := range got {
			if !bytes.Equal(got[i], list[i]) {
				t.Errorf("%v: %v", list, got)
			}
		}
	}
	for _, raw := range [][]byte{{0}, {0, 0, 0}, {0, 0, 0, 1}, {0, 0, 0, 2, 1}, {0xff, 0xff, 0xff, 0xff, 1}} {
		if got, err := decodeRecords(raw); err == nil {
			t.Errorf("%v: %v", raw, got)
		}
	}
	if _, err := decodeSerials(make([]byte, 19)); err == nil {
		t.Error("a serial number was cut off")
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(encodeRecords([][]byte{{1}, {2, 3}}))
	f.Add([]byte{0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := decodeRecords(raw)
		if err == nil && !bytes.Equal(encodeRecords(list), raw) {
			t.Errorf("%x reads as %x", raw, list)
		}
	})
}

// FuzzIssue: whatever is asked, the answer is a token over what was asked, or a
// refusal that can be encoded and read.
func FuzzIssue(f *testing.F) {
	w := newWorld(f)
	f.Add(goodQuery().der(f))
	q := goodQuery()
	q.Policy, q.Nonce, q.CertReq = policyOID, nil, false
	f.Add(q.der(f))
	q.Nonce = new(big.Int).Lsh(big.NewInt(1), 200)
	f.Add(q.der(f))
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, raw []byte) {
		reply, err := w.Issue(raw)
		if err != nil {
			e, ok := errors.AsType[*RefusalError](err)
			if !ok {
				t.Fatal(err)
			}
			der, err := e.Reply()
			if err != nil {
				t.Fatal(err)
			}
			_, err = api.ParseResponse(der)
			if back, ok := errors.AsType[*api.StatusError](err); !ok || back.Failure != e.Failure {
				t.Fatalf("%v reads as %v", e, err)
			}
			return
		}
		query, err := api.ParseRequest(raw)
		if err != nil {
			t.Fatal(err)
		}
		token, err := api.ParseResponse(reply)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(token.Imprint, query.Digest) || token.Hash != query.Hash ||
			(token.Nonce == nil) != (query.Nonce == nil) || token.Nonce != nil && token.Nonce.Cmp(query.Nonce) != 0 {
			t.Errorf("%+v answers %+v", token, query)
		}
	})
}
