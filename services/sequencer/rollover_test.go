package sequencer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// TestRollover: across the end of a shard a repeated statement finds its entry,
// chains and references go on, and every receipt verifies offline.
func TestRollover(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	h := newShards(t, 2)
	first, second := h.list[0], h.list[1]
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	old, request := first.populate()
	offline := first.protocol("T1", "written before the end") // and sent after it
	late := Request{Envelope: first.sign(offline, first.admin).Bytes(), Beacon: first.beacon()}
	second.launch()
	if r := second.waits(); r.Reason != Standby {
		t.Errorf("it waits with %v", r)
	}
	if _, err := second.seq.Add(t.Context(), late); !errors.Is(err, ErrNotReady) {
		t.Errorf("a standby answers %v", err)
	}
	if _, err := second.seq.StartStatement(t.Context(), h.operator); !errors.Is(err, ErrNotReady) {
		t.Errorf("a standby starts: %v", err)
	}
	end := first.end(second.origin)
	first.check(end.Receipt, "")
	if err := second.ready(); err != nil {
		t.Fatal(err)
	}
	if _, err := second.seq.Add(t.Context(), late); !errors.Is(err, ErrNotReady) {
		t.Errorf("taken in before the shard-start: %v", err)
	}
	if a, err := second.seq.Add(t.Context(), request); err != nil || !a.Duplicate || a.Index != old.Index {
		t.Errorf("before the shard-start the old entry is %+v, %v", a, err)
	}
	start := second.begin()
	second.check(start.Receipt, "")
	if at := place(t, start.Receipt); at != (ledger.Place{Origin: second.origin}) {
		t.Errorf("the shard-start is at %v", at)
	}
	for _, pending := range []bool{false, true} {
		request.Pending = pending
		again, err := second.seq.Add(t.Context(), request)
		if streamed, err := addByStream(t.Context(), second.seq, request); err != nil || !reflect.DeepEqual(streamed, again) {
			t.Errorf("by a stream: %+v, %v; expected %+v", streamed, err, again)
		}
		if err != nil || !again.Duplicate || again.Identity != old.Identity || again.Index != old.Index || again.Promise != nil {
			t.Fatalf("the statement again: %+v, %v; expected %+v", again, err, old)
		}
		second.check(again.Receipt, "version 1")
		if at := place(t, again.Receipt); at != (ledger.Place{Origin: first.origin, Index: old.Index}) {
			t.Errorf("it is at %v", at)
		}
	}
	a, err := second.seq.Add(t.Context(), late)
	if err != nil || a.Duplicate || a.Index != 1 {
		t.Fatalf("a statement with a beacon of the first shard: %+v, %v", a, err)
	}
	second.check(a.Receipt, "written before the end")
	second.advance(offline, a.Identity)
	amended := second.protocol("T1", "version 2")
	amended.Amends, amended.Supersedes = old.Identity, a.Identity
	second.check(second.add(amended, second.admin).Receipt, "version 2")
	for _, s := range h.list {
		for id, at := range map[statement.Identity]ledger.Place{
			old.Identity: {Origin: first.origin, Index: old.Index}, end.Identity: {Origin: first.origin, Index: end.Index},
		} {
			raw, index, err := s.seq.Find(t.Context(), id)
			if err != nil || index != at.Index || place(t, raw) != at {
				t.Fatalf("%s finds %d, %v; expected %v", s.origin, index, err, at)
			}
			s.check(raw, documentOf(id, old.Identity))
		}
		if err := s.halt(); err != nil {
			t.Error(err)
		}
	}
}

func documentOf(id, protocol statement.Identity) string {
	if id == protocol {
		return "version 1"
	}
	return ""
}

// TestEndedShardServes: a sealed shard starts, serves what it holds, and takes
// nothing in; nor does it sign anything.
func TestEndedShardServes(t *testing.T) {
	h, old, request := rolledOver(t, 2)
	first := h.list[0]
	if err := first.halt(); err != nil {
		t.Fatal(err)
	}
	first.forgetLedger()
	bodies := first.witness.bodies()
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	if err := first.seq.Ready(); !errors.Is(err, ErrEnded) {
		t.Errorf("ready: %v", err)
	}
	raw, index, err := first.seq.Find(t.Context(), old.Identity)
	if err != nil || index != old.Index {
		t.Fatal(index, err)
	}
	first.check(raw, "version 1")
	again, err := first.seq.Add(t.Context(), request)
	if err != nil || !again.Duplicate || again.Index != old.Index {
		t.Errorf("the statement again: %+v, %v", again, err)
	}
	next := first.protocol("T1", "too late")
	if _, err := first.seq.Add(t.Context(), Request{Envelope: first.sign(next, first.admin).Bytes(), Beacon: first.beacon()}); !errors.Is(err, ErrEnded) {
		t.Errorf("a new statement: %v", err)
	}
	if first.witness.bodies() != bodies {
		t.Error("it has signed something new")
	}
}

// TestRolloverUnderLoad: whoever submits while the shard ends has his statement
// in exactly one shard, and a retry on the other side finds it.
func TestRolloverUnderLoad(t *testing.T) {
	h := newShards(t, 2)
	first, second := h.list[0], h.list[1]
	if err := first.start(); err != nil {
		t.Fatal(err)
	}
	first.populate()
	second.launch()
	const clients, each = 50, 12
	requests := make([][]Request, clients)
	for i := range requests {
		for j := range each {
			requests[i] = append(requests[i], first.newTrial(fmt.Sprint("L", i, "-", j)))
		}
	}
	var active atomic.Pointer[Sequencer]
	active.Store(first.seq)
	// submit is what a router does: it goes on to the next shard when one ends.
	submit := func(r Request) (*Answer, error) {
		for {
			a, err := active.Load().Add(context.Background(), r)
			if err == nil || !errors.Is(err, ErrEnded) && !errors.Is(err, ErrNotReady) {
				return a, err
			}
			await(func() bool { return active.Load() == second.seq && second.seq.Ready() == nil })
		}
	}
	var mu sync.Mutex
	places := map[statement.Identity]ledger.Place{}
	some := make(chan struct{})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for _, r := range requests[i] {
				a, err := submit(r)
				if err != nil {
					t.Errorf("submit: %v", err)
					return
				}
				mu.Lock()
				places[a.Identity] = place(t, a.Receipt)
				if len(places) == clients*each/3 {
					close(some)
				}
				mu.Unlock()
			}
		})
	}
	<-some
	begun := time.Now()
	first.end(second.origin)
	if err := second.ready(); err != nil {
		t.Fatal(err)
	}
	second.begin()
	active.Store(second.seq)
	t.Logf("from the shard-end's submission to the successor's first checkpoint: %s", time.Since(begun))
	wg.Wait()
	count := map[string]int{}
	taken := map[ledger.Place]bool{}
	for _, list := range requests {
		for _, r := range list {
			again, err := second.seq.Add(t.Context(), r)
			if err != nil || !again.Duplicate {
				t.Fatalf("again: %+v, %v", again, err)
			}
			second.check(again.Receipt, "")
			at := place(t, again.Receipt)
			if at != places[again.Identity] || taken[at] {
				t.Errorf("a statement is at %v, and was at %v", at, places[again.Identity])
			}
			taken[at] = true
			count[at.Origin]++
			if _, err := first.seq.Add(t.Context(), r); (err == nil) != (at.Origin == first.origin) {
				t.Errorf("the ended shard answers %v for an entry at %v", err, at)
			}
		}
	}
	if len(count) != 2 || count[first.origin]+count[second.origin] != clients*each {
		t.Errorf("entries by shard: %v", count)
	}
	size := first.seq.Checkpoint().Checkpoint().Size
	rec, err := first.register.Read(t.Context())
	if err != nil || !rec.Sealed || rec.Size != size {
		t.Errorf("published %d, registered %+v, %v", size, rec, err)
	}
}

// TestThreeShards: what two ended shards leave is carried on, and a deleted
// ledger is the same again.
func TestThreeShards(t *testing.T) {
	h, old, request := rolledOver(t, 3)
	last := h.list[2]
	amended := last.protocol("T1", "version 2")
	amended.Amends = old.Identity
	last.check(last.add(amended, last.admin).Receipt, "version 2")
	before := readLedger(t, last)
	if err := last.halt(); err != nil {
		t.Fatal(err)
	}
	for _, round := range []func(){func() {}, last.forgetLedger} {
		round()
		if err := last.start(); err != nil {
			t.Fatal(err)
		}
		if after := readLedger(t, last); !reflect.DeepEqual(after, before) || len(after) < 10 {
			t.Errorf("the ledger is\n%v, expected\n%v", after, before)
		}
		again, err := last.seq.Add(t.Context(), request)
		if err != nil || !again.Duplicate {
			t.Fatal(again, err)
		}
		last.check(again.Receipt, "version 1")
		if at := place(t, again.Receipt); at != (ledger.Place{Origin: h.list[0].origin, Index: old.Index}) {
			t.Errorf("found at %v", at)
		}
		if err := last.halt(); err != nil {
			t.Fatal(err)
		}
	}
}

// readLedger lists what a shard's ledger says.
func readLedger(t *testing.T, s *shard) []any {
	t.Helper()
	view := s.seq.Ledger()
	var list []any
	add := func(v any, err error) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	for _, sh := range view.Shards() {
		list = append(list, sh)
	}
	for _, key := range []*statement.PrivateKey{s.admin, s.all.operator} {
		k, err := view.Key(key.ID())
		add(*k, err)
		for _, trial := range []string{"", "T1"} {
			head, err := view.Chain(trial, key.ID())
			add(head, err)
			place, found, err := view.Find(head.Identity)
			add(fmt.Sprint(place, found), err)
		}
	}
	trial, err := view.Trial("T1")
	add(*trial, err)
	return list
}
