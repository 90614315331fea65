package sequencer

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
)

// submission of a request under a tag.
func streamed(tag uint64, r Request) *trialogv1.StreamSubmission {
	s := &trialogv1.StreamSubmission{Tag: tag, Envelope: r.Envelope, Beacon: string(r.Beacon)}
	if r.Pending {
		s.Wait = trialogv1.Wait_WAIT_PENDING
	}
	return s
}

// chained makes n protocols of T1, each the successor of the one before.
func (w *world) chained(n int) []Request {
	w.t.Helper()
	requests := make([]Request, n)
	for i := range requests {
		note := w.seq.Checkpoint()
		s := w.draft(statement.KindProtocol, "T1", []*statement.PrivateKey{w.admin}, func(s *statement.Statement) {
			s.MediaType, s.Subject, s.Digest, s.Beacon = "text/plain", statement.SubjectSHA256, sum(strconv.Itoa(i)), beaconOf(note)
		})
		env := w.sign(s, w.admin)
		requests[i] = Request{Envelope: env.Bytes(), Beacon: note.Bytes()}
		w.advance(s, s.Identity(env.Payload))
	}
	return requests
}

// sameReceipt holds a receipt in parts against one that Find gives: the same
// evidence, each under a checkpoint of its own.
func (w *world) sameReceipt(got *receipt.Receipt, raw []byte) {
	w.t.Helper()
	want, err := receipt.Parse(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	if got.Proof.Index != want.Proof.Index || !reflect.DeepEqual(got.Entry, want.Entry) ||
		!reflect.DeepEqual(got.Beacon, want.Beacon) || len(got.Enrolments) != len(want.Enrolments) {
		w.t.Errorf("index %d: the receipt in parts is another than that of index %d", got.Proof.Index, want.Proof.Index)
		return
	}
	for i, e := range got.Enrolments {
		if e.Proof.Index != want.Enrolments[i].Proof.Index || !reflect.DeepEqual(e.Entry, want.Enrolments[i].Entry) {
			w.t.Errorf("index %d: enrolment %d is another one", got.Proof.Index, i)
		}
	}
}

// nothingUnderWay fails the test if room is booked that nobody uses.
func (w *world) nothingUnderWay() {
	w.t.Helper()
	await(func() bool { return w.seq.intake.load() == load{} })
	w.seq.waiting.mu.Lock()
	defer w.seq.waiting.mu.Unlock()
	if w.seq.waiting.used != (load{}) {
		w.t.Errorf("%+v waits for FINAL although nobody does", w.seq.waiting.used)
	}
}

// TestStreamInOrder: a chain is taken in the order in which it was sent, however
// the messages are cut, and each receipt holds.
func TestStreamInOrder(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	requests := w.chained(500)
	c := openStream(t.Context(), w.seq)
	sizes, next := []int{1, 17, 256, 3, 223}, 0
	for _, size := range sizes {
		var subs []*trialogv1.StreamSubmission
		for range size {
			r := requests[next]
			if next > 0 {
				r.Beacon = nil // it was sent before in the stream
			}
			subs = append(subs, streamed(uint64(next), r))
			next++
		}
		c.submit(subs...)
	}
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}
	for i := range requests {
		a := c.answer(uint64(i))
		f := a.GetFinal()
		if f == nil || f.GetProof().GetIndex() != uint64(i)+2 || f.GetDuplicate() || len(f.GetEntry()) > 0 {
			t.Fatalf("statement %d: answer %v", i, a)
		}
		if i%50 == 0 {
			w.check(a.raw, strconv.Itoa(i))
			raw, _, err := w.seq.Find(t.Context(), identityOf(t, requests[i]))
			if err != nil {
				t.Fatal(err)
			}
			w.sameReceipt(a.receipt, raw)
		}
	}
	if c.newest > 30 {
		t.Errorf("%d parts for receipts that have all but their paths in common", c.newest)
	}
	w.nothingUnderWay()
	if err := w.halt(); err != nil {
		t.Error(err)
	}
}

func identityOf(t testing.TB, r Request) statement.Identity {
	t.Helper()
	env, stmt, err := statement.Parse(r.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	return stmt.Identity(env.Payload)
}

// TestStreamDuplicates: the same statement in one stream, in two, and by Add is
// one entry; an envelope that is written otherwise gets the logged one back.
func TestStreamDuplicates(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	var requests []Request
	for i := range 40 {
		requests = append(requests, w.newTrial(fmt.Sprint("D", i)))
	}
	const streams = 3
	clients := make([]*streamClient, streams)
	for n := range clients {
		clients[n] = openStream(t.Context(), w.seq)
		for i, r := range requests { // each twice in each stream
			clients[n].submit(streamed(uint64(i), r), streamed(uint64(1000+i), r))
		}
	}
	var mu sync.Mutex
	byAdd := map[int]uint64{}
	var wg sync.WaitGroup
	for i, r := range requests {
		wg.Go(func() {
			a, err := w.seq.Add(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if byAdd[i] = a.Index; a.Duplicate {
				byAdd[i] |= 1 << 63
			}
		})
	}
	wg.Wait()
	for _, c := range clients {
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range requests {
		index, fresh := byAdd[i]&^(1<<63), 1-int(byAdd[i]>>63)
		for _, c := range clients {
			for _, tag := range []uint64{uint64(i), uint64(1000 + i)} {
				f := c.answer(tag).GetFinal()
				if f.GetProof().GetIndex() != index {
					t.Errorf("statement %d is at %d and at %d", i, f.GetProof().GetIndex(), index)
				}
				if !f.GetDuplicate() {
					fresh++
				}
			}
		}
		if fresh != 1 {
			t.Errorf("%d answers say that they stored statement %d", fresh, i)
		}
	}
	other := Request{Envelope: append([]byte(" "), requests[0].Envelope...)}
	c := openStream(t.Context(), w.seq)
	c.submit(streamed(1, other), streamed(2, requests[0]))
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}
	raw, _, err := w.seq.Find(t.Context(), identityOf(t, other))
	if err != nil {
		t.Fatal(err)
	}
	if a := c.answer(1); len(a.GetFinal().GetEntry()) == 0 || !a.GetFinal().GetDuplicate() {
		t.Errorf("another envelope of a logged statement: %v", a)
	}
	if a := c.answer(2); len(a.GetFinal().GetEntry()) != 0 {
		t.Error("the logged envelope is sent back to who has it")
	}
	w.sameReceipt(c.answer(1).receipt, raw)
	w.check(c.answer(1).raw, "")
	w.nothingUnderWay()
}

// TestStreamBreaks: whatever of a broken stream was taken in, all of it or a
// part, sending it again leads to one entry each, in the chain's order.
func TestStreamBreaks(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for name, end := range map[string]func(*streamClient){
		"client gone":    func(c *streamClient) { c.cancel() },
		"transport":      func(c *streamClient) { c.broken <- errors.New("connection reset") },
		"too many":       func(c *streamClient) { c.submit(make([]*trialogv1.StreamSubmission, maxSubmissions+1)...) },
		"empty message":  func(c *streamClient) { c.submit() },
		"properly ended": func(c *streamClient) { close(c.in) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if err := w.start(); err != nil {
				t.Fatal(err)
			}
			w.enrol()
			requests := w.chained(120)
			c := openStream(t.Context(), w.seq)
			for i, r := range requests {
				c.submit(streamed(uint64(i), r))
				if i == 60 {
					await(func() bool { return c.answered() > 0 })
				}
			}
			end(c)
			<-c.done
			switch {
			case name == "properly ended" && (c.err != nil || c.answered() != len(requests)):
				t.Fatalf("%d answers, %v", c.answered(), c.err)
			case name != "properly ended" && c.err == nil:
				t.Fatal("a broken stream ended properly")
			case (name == "too many" || name == "empty message") && status.Code(c.err) != codes.InvalidArgument:
				t.Errorf("ended with %v", c.err)
			}
			again := openStream(t.Context(), w.seq)
			for i, r := range requests {
				again.submit(streamed(uint64(i), r))
			}
			if err := again.finish(); err != nil {
				t.Fatal(err)
			}
			for i := range requests {
				f := again.answer(uint64(i)).GetFinal()
				if f.GetProof().GetIndex() != uint64(i)+2 {
					t.Fatalf("statement %d: %v", i, again.answer(uint64(i)))
				}
				if before := c.answer(uint64(i)).GetFinal(); before != nil &&
					(before.GetProof().GetIndex() != f.GetProof().GetIndex() || !f.GetDuplicate()) {
					t.Errorf("statement %d was answered twice: %v, %v", i, before, f)
				}
			}
			w.nothingUnderWay()
			if err := w.halt(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStreamWindow: what is not answered is bounded, and so is what is read.
func TestStreamWindow(t *testing.T) {
	for name, limits := range map[string]Limits{"items": {Window: 4}, "bytes": {WindowBytes: 20000}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.limits.Window, w.limits.WindowBytes = limits.Window, limits.WindowBytes
			if err := w.start(); err != nil {
				t.Fatal(err)
			}
			w.enrol()
			w.witness.setDown(true, true, true)
			c := openStream(t.Context(), w.seq)
			for i := range 30 {
				r := w.newTrial(fmt.Sprint("W", i))
				if i > 0 {
					r.Beacon = nil // it was sent before
				}
				c.submit(streamed(uint64(i), r))
			}
			full := func() bool {
				w.seq.waiting.mu.Lock()
				defer w.seq.waiting.mu.Unlock()
				return w.seq.waiting.used.items >= 3
			}
			await(full)
			// Whoever read too much would have to do so before the stop below.
			c.mu.Lock()
			read := c.received
			c.mu.Unlock()
			if read > 5 || c.answered() > 0 {
				t.Errorf("%d messages were read, %d answered, with a window of 4", read, c.answered())
			}
			w.witness.setDown(false, false, false)
			if err := c.finish(); err != nil {
				t.Fatal(err)
			}
			if c.answered() != 30 || c.received != 30 {
				t.Errorf("%d answers for %d messages", c.answered(), c.received)
			}
			w.nothingUnderWay()
		})
	}
}

// TestStreamWaitsForRoom: a stream that finds no room in the log waits for it;
// only if that takes too long is a submission sent away.
func TestStreamWaitsForRoom(t *testing.T) {
	for name, patience := range map[string]time.Duration{"patient": time.Minute, "impatient": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.limits.Queue = 6
			var g *gate
			w.wrap = func(c *Config) { g = &gate{Log: c.Tree}; c.Tree = g }
			if err := w.start(); err != nil {
				t.Fatal(err)
			}
			w.enrol()
			w.seq.c.Limits.FinalWait = patience // from now on
			reached, open := g.shut()
			c := openStream(t.Context(), w.seq)
			var subs []*trialogv1.StreamSubmission
			for i := range 40 {
				r := w.newTrial(fmt.Sprint("R", i))
				r.Pending = true
				subs = append(subs, streamed(uint64(i), r))
			}
			c.submit(subs...)
			<-reached
			if name == "impatient" {
				await(func() bool { return c.answered() > 0 })
			}
			if held := w.seq.intake.load().items; held > 6 {
				t.Errorf("%d submissions are under way, expected at most 6", held)
			}
			open <- nil
			if err := c.finish(); err != nil {
				t.Fatal(err)
			}
			busy := 0
			for i := range subs {
				a := c.answer(uint64(i))
				if a.GetPending() != nil {
					continue
				}
				busy++
				if told := read(status.FromProto(a.GetError()).Err()); told.code != codes.ResourceExhausted || told.retry <= 0 {
					t.Errorf("answer %v", a)
				}
			}
			if (busy > 0) != (name == "impatient") {
				t.Errorf("%d of %d were sent away", busy, len(subs))
			}
			w.nothingUnderWay()
		})
	}
}

// TestStreamPromises: PENDING when asked for, and when there is no quorum.
func TestStreamPromises(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	w.seq.c.Limits.FinalWait = 30 * time.Millisecond // from now on
	w.witness.setDown(true, true, false)
	c := openStream(t.Context(), w.seq)
	requests := []Request{w.newTrial("P0"), w.newTrial("P1"), w.newTrial("P2")}
	requests[1].Pending = true
	bad := w.newTrial("P3")
	bad.Envelope = []byte("{}")
	c.submit(streamed(0, requests[0]), streamed(1, requests[1]), streamed(3, bad), streamed(2, requests[2]))
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}
	for i, r := range requests {
		p, err := receipt.ParsePending(c.answer(uint64(i)).GetPending().GetPromise(), w.pending.Public())
		if err != nil {
			t.Fatalf("statement %d: %v, %v", i, c.answer(uint64(i)), err)
		}
		if p.Identity != identityOf(t, r) || p.Index != c.answer(uint64(i)).GetPending().GetIndex() || p.Index != 2+uint64(i) {
			t.Errorf("promise %+v for statement %d", p, i)
		}
	}
	if told := read(status.FromProto(c.answer(3).GetError()).Err()); told.code != codes.InvalidArgument {
		t.Errorf("answer to what is no statement: %+v", told)
	}
	w.nothingUnderWay()
}

// TestStreamAtTheEnd: when Run ends, whoever waits in a stream is answered, and
// the stream ends, although its client would go on.
func TestStreamAtTheEnd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	w.witness.setDown(true, true, true)
	c := openStream(t.Context(), w.seq)
	c.submit(streamed(1, w.newTrial("E1")), streamed(2, w.newTrial("E2")))
	await(func() bool { return w.seq.durable.Load() == 4 })
	if err := w.halt(); err != nil {
		t.Fatal(err)
	}
	<-c.done
	if !errors.Is(c.err, ErrNotReady) {
		t.Errorf("the stream ended with %v", c.err)
	}
	for tag := range uint64(2) {
		if c.answer(tag+1).GetPending() == nil {
			t.Errorf("answer %v, expected a promise", c.answer(tag+1))
		}
	}
	w.nothingUnderWay()
	late := openStream(context.Background(), w.seq)
	<-late.done
	if !errors.Is(late.err, ErrNotReady) {
		t.Errorf("a stream after the end ended with %v", late.err)
	}
}

// TestStreamSlowReader: a client that does not read holds up its own stream
// only, and nothing that others need.
func TestStreamSlowReader(t *testing.T) {
	w := newWorld(t)
	w.limits.Window, w.limits.Queue = 8, 16
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	slow := openStream(t.Context(), w.seq)
	slow.blocked = make(chan struct{})
	for i := range 100 {
		r := w.newTrial(fmt.Sprint("S", i))
		r.Pending = true
		slow.submit(streamed(uint64(i), r))
	}
	await(func() bool { return w.seq.durable.Load() > 2 && w.seq.intake.load() == load{} })
	for i := range 20 {
		if _, err := w.seq.Add(t.Context(), w.newTrial(fmt.Sprint("Q", i))); err != nil {
			t.Fatal(err)
		}
	}
	if size := w.seq.durable.Load(); size > 2+20+8+1 {
		t.Errorf("%d entries, although the slow client's window is 8", size)
	}
	close(slow.blocked)
	if err := slow.finish(); err != nil {
		t.Fatal(err)
	}
	if slow.answered() != 100 {
		t.Errorf("%d answers", slow.answered())
	}
}

// TestPartsAreSentAgain: nothing refers to a part that the client may have
// forgotten.
func TestPartsAreSentAgain(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	r := w.newTrial("A1")
	if _, err := w.seq.Add(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	p := newParts(w.seq)
	client := &streamClient{parts: map[uint64]*trialogv1.ReceiptPart{}}
	for round, others := range []int{0, 100, keptParts - 100, keptParts + 3, clientParts, 1} {
		for range others {
			p.add(&trialogv1.ReceiptPart{Part: &trialogv1.ReceiptPart_Beacon{Beacon: "another"}})
		}
		sub, out, found, err := w.seq.known(t.Context(), r)
		if err != nil || !found {
			t.Fatal(found, err)
		}
		f, err := p.final(t.Context(), w.seq.head(), &item{out: out, stmt: sub.stmt, signers: signersOf(sub.stmt), asSent: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range p.take() {
			client.newest = part.GetNumber()
			client.parts[client.newest] = part
			delete(client.parts, client.newest-clientParts)
		}
		got, err := client.assemble(f, r.Envelope)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		raw, err := got.Encode()
		if err != nil {
			t.Fatal(err)
		}
		w.check(raw, "")
	}
}
