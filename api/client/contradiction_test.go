package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
)

// evidenceOf returns the kind of the evidence in an error; "" if there is none.
func (f *fixture) evidenceOf(t *testing.T, err error) evidence.Kind {
	t.Helper()
	untrue, ok := errors.AsType[*client.UntrueError](err)
	if !ok || untrue.Evidence == nil {
		return ""
	}
	raw, err := untrue.Evidence.Encode()
	if err != nil {
		t.Fatal(err)
	}
	found, err := evidence.Verify(raw, f.policy)
	if err != nil || found.Conclusive == (found.Kind == evidence.KindOverdue) {
		t.Fatalf("%+v, %v", found, err)
	}
	return found.Kind
}

func (f *fixture) note(t *testing.T) *checkpoint.Note {
	t.Helper()
	_, n, err := f.through(t, func(http.ResponseWriter, *http.Request) bool { return false }).Checkpoint(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// grow submits n statements, by a client that remembers nothing.
func (f *fixture) grow(n int) {
	f.Client = f.dial(f.policy, time.Minute)
	for range n {
		f.mustSubmit(milestone())
	}
}

// promised submits a statement and returns with the promise.
func (f *fixture) promised() (*client.Acknowledgement, error) {
	envelope, beacon := f.sign(milestone())
	return f.Submit(context.Background(), envelope, beacon, client.Pending)
}

func TestCompare(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	f.grow(2)
	early := f.note(t)
	f.grow(5)
	before := f.note(t)
	if e, err := f.Compare(ctx, before, early); e != nil || err != nil {
		t.Errorf("an honest log: %+v, %v", e, err)
	}
	if e, err := f.Compare(ctx, before, before); e != nil || err != nil {
		t.Errorf("one tree: %+v, %v", e, err)
	}
	f.log.Rewrite(6)
	forked := f.note(t)
	f.grow(3)
	later := f.note(t)
	for _, tt := range []struct {
		name string
		a, b *checkpoint.Note
		want evidence.Kind
	}{
		{"one size", before, forked, evidence.KindFork},
		{"two sizes", before, later, evidence.KindInconsistent},
		{"in the other order", later, before, evidence.KindInconsistent},
		{"before it was rewritten", early, later, ""},
		{"behind it", forked, later, ""},
	} {
		e, err := f.Compare(ctx, tt.a, tt.b)
		if err != nil || (e == nil) != (tt.want == "") || e != nil && (e.Kind != tt.want || !e.Judge(f.policy).Conclusive) {
			t.Errorf("%s: %+v, %v", tt.name, e, err)
		}
	}
	// The tiles are those of another tree than the larger one.
	if e, err := f.Compare(ctx, early, before); e != nil || f.evidenceOf(t, err) != "" || !strings.Contains(err.Error(), "not those of the tree") {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestCompareSaysWhatItCouldNotFindOut(t *testing.T) {
	f := newFixture(t)
	f.grow(1)
	a := f.note(t)
	f.grow(4)
	b := f.note(t)
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"no tiles": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/tile/") {
				http.NotFound(w, r)
				return true
			}
			return false
		},
		"half a tile": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/tile/") {
				_, _ = io.WriteString(w, "x")
				return true
			}
			return false
		},
	} {
		if e, err := f.through(t, answer).Compare(context.Background(), a, b); e != nil || err == nil {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
	other, err := checkpoint.NewNote(checkpoint.Checkpoint{Origin: "log.example.org/other/1", Size: 9}.Body(), a.Signatures()...)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := f.Compare(context.Background(), a, other); e != nil || err == nil {
		t.Errorf("two logs: %+v, %v", e, err)
	}
}

// A client holds every checkpoint against the largest that it has met.
func TestCheckpointsAreHeldAgainstEachOther(t *testing.T) {
	for _, tt := range []struct {
		name string
		lie  func(*fixture)
		want evidence.Kind
	}{
		{"honest", func(f *fixture) { f.grow(3) }, ""},
		{"the same", func(*fixture) {}, ""},
		{"of one size", func(f *fixture) { f.log.Rewrite(2) }, evidence.KindFork},
		{"of a larger one", func(f *fixture) { f.log.Rewrite(2); f.grow(3) }, evidence.KindInconsistent},
		{"of a smaller one", func(f *fixture) { f.log.Rewrite(2); f.log.Lose(5) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.grow(6)
			c := f.through(t, func(http.ResponseWriter, *http.Request) bool { return false })
			if err := checkpointOf(c); err != nil {
				t.Fatal(err)
			}
			tt.lie(f)
			err := checkpointOf(c)
			if got := f.evidenceOf(t, err); got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("%q, %v", got, err)
			}
			if again := checkpointOf(c); (again == nil) != (err == nil) {
				t.Errorf("asked again: %v", again)
			}
		})
	}
}

// The checkpoints of beacons and receipts are held against it too, where that
// costs no request.
func TestBeaconsAndReceiptsAreHeldAgainstIt(t *testing.T) {
	f := newFixture(t)
	f.grow(1)
	ack := f.mustSubmit(milestone())
	c := f.through(t, func(http.ResponseWriter, *http.Request) bool { return false })
	if err := checkpointOf(c); err != nil {
		t.Fatal(err)
	}
	f.log.Rewrite(int(ack.Index) - 1)
	for name, err := range map[string]error{"beacon": beaconOf(c), "receipt": receiptOf(ack.Identity)(c)} {
		if got := f.evidenceOf(t, err); got != evidence.KindFork {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// A client remembers the heads of some thirty sizes.
func TestOldHeadsAreForgotten(t *testing.T) {
	f := newFixture(t)
	f.grow(2)
	ack := f.mustSubmit(milestone())
	c := f.through(t, func(http.ResponseWriter, *http.Request) bool { return false })
	for range 40 {
		f.grow(1)
		if err := receiptOf(ack.Identity)(c); err != nil {
			t.Fatal(err)
		}
	}
	f.log.Rewrite(int(ack.Index) - 1)
	// Of a size that is remembered, and of one that is not.
	if got := f.evidenceOf(t, receiptOf(ack.Identity)(c)); got != evidence.KindFork {
		t.Errorf("the newest: %q", got)
	}
	f.log.Lose(int(ack.Index) + 3)
	if err := receiptOf(ack.Identity)(c); err != nil {
		t.Errorf("one long ago: %v", err)
	}
}

func TestStreamHoldsReceiptsAgainstEachOther(t *testing.T) {
	f := newFixture(t)
	f.grow(2)
	s := f.stream()
	list := f.series(1)
	first := all(t, s, list)[0]
	if first.Err != nil {
		t.Fatal(first.Err)
	}
	f.log.Rewrite(int(first.Acknowledgement.Index) - 1)
	if got := f.evidenceOf(t, all(t, s, list)[0].Err); got != evidence.KindFork {
		t.Errorf("%q", got)
	}
}

func TestKept(t *testing.T) {
	for _, tt := range []struct {
		name string
		lie  func(f *fixture, index int)
		kept bool
		want evidence.Kind
	}{
		{"kept", func(f *fixture, _ int) { f.grow(2) }, true, ""},
		{"another entry", func(f *fixture, index int) { f.log.Rewrite(index); f.grow(2) }, false, evidence.KindPromise},
		{"moved", func(f *fixture, index int) { f.log.Move(index) }, false, evidence.KindPromise},
		{"lost", func(f *fixture, index int) { f.log.Lose(index) }, false, evidence.KindOverdue},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.grow(4)
			ack, err := f.promised()
			if err != nil {
				t.Fatal(err)
			}
			tt.lie(f, int(ack.Index))
			c := f.through(t, func(http.ResponseWriter, *http.Request) bool { return false })
			kept, err := c.Kept(context.Background(), ack.Pending)
			if got := f.evidenceOf(t, err); kept != tt.kept || got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("%t, %q, %v", kept, got, err)
			}
		})
	}
}

func TestPromised(t *testing.T) {
	f := newFixture(t)
	ack, err := f.promised()
	if err != nil {
		t.Fatal(err)
	}
	p, err := receipt.ParsePending(ack.Pending, f.policy.Trust().PendingKeys...)
	if err != nil {
		t.Fatal(err)
	}
	again := func(change func(*receipt.Pending)) []byte {
		q := *p
		change(&q)
		raw, err := q.Sign(testlog.Ed25519Key("pending records"))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for name, raw := range map[string][]byte{
		"the same":         ack.Pending,
		"another deadline": again(func(q *receipt.Pending) { q.Deadline = q.Deadline.Add(time.Hour) }),
		"another place":    again(func(q *receipt.Pending) { q.Index++; q.LeafHash[0] ^= 1 }),
		"none":             []byte("{}"),
	} {
		if err := client.Promised(f.policy, ack.Pending, raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err = client.Promised(f.policy, ack.Pending, again(func(q *receipt.Pending) { q.LeafHash[0] ^= 1 }))
	if got := f.evidenceOf(t, err); got != evidence.KindPromiseFork {
		t.Errorf("another entry: %q, %v", got, err)
	}
}

func TestKeptRefuses(t *testing.T) {
	f := newFixture(t)
	ack, err := f.promised()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Kept(context.Background(), []byte("{}")); err == nil {
		t.Error("no promise was accepted")
	}
	tiles := func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/tile/") {
			_, _ = w.Write(make([]byte, 32*8))
			return true
		}
		return false
	}
	kept, err := f.through(t, tiles).Kept(context.Background(), ack.Pending)
	if kept || err == nil || f.evidenceOf(t, err) != "" {
		t.Errorf("tiles of nothing: %t, %v", kept, err)
	}
	bare, err := client.New(client.Config{Server: f.server.URL, Now: f.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bare.Kept(context.Background(), ack.Pending); !errors.Is(err, client.ErrNoPolicy) {
		t.Errorf("without a policy: %v", err)
	}
}
