package sequencer

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/sequencer/ledger"
)

// arm lets the n-th write of a kind from now on fail.
func (s *saboteur) arm(kind string, n int, how harm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kind, s.at, s.how = kind, s.seen[kind]+n, how
}

// fired tells whether the write that was to fail has come.
func (s *saboteur) fired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[s.kind] >= s.at
}

// alive starts the shard again if it has stopped.
func (s *shard) alive() {
	s.t.Helper()
	select {
	case <-s.done:
		_ = s.halt()
		if err := s.start(); err != nil {
			s.t.Fatal(err)
		}
	default:
	}
}

// insist says a statement again and again, as an operator does, until done.
func (s *shard) insist(done func() bool, build func() ([]byte, error)) {
	s.t.Helper()
	for s.alive(); !done(); s.alive() {
		env, err := build()
		if err == nil {
			_, err = s.seq.Add(s.t.Context(), Request{Envelope: env, Pending: true})
		}
		if err != nil && !errors.Is(err, ErrNotReady) && !errors.Is(err, ErrEnded) && !errors.Is(err, errSabotage) {
			if _, chain := errors.AsType[*ChainError](err); !chain {
				if kind, field := refusal(err); kind != "wrong" || field != "predicate.kind" { // it has started
					s.t.Fatal(err)
				}
			}
		}
		<-time.After(time.Millisecond)
	}
}

// TestRolloverBorders lets each durable write of a rollover fail, with and
// without effect. Repeating what was asked for brings it to its end.
func TestRolloverBorders(t *testing.T) {
	type border struct {
		kind string
		n    int
	}
	common := []border{{"append", 1}, {"ledger", 1}, {"integrate", 1}, {"put candidate", 1}, {"put checkpoint", 1}, {"register", 1}, {"cosign", 1}}
	for side, list := range map[string][]border{
		"end":   append(common, border{"register", 2}, border{"put beacon", 1}), // the second one seals
		"start": append(common, border{"put beacon", 1}),
	} {
		for _, at := range list {
			for _, how := range []harm{lost, persisted} {
				t.Run(fmt.Sprintf("%s/%s %d/%s", side, at.kind, at.n, how), func(t *testing.T) {
					h := newShards(t, 2)
					first, second := h.list[0], h.list[1]
					var sab saboteur
					if side == "end" {
						first.wrap = sab.wrap
					} else {
						second.wrap = sab.wrap
					}
					if err := first.start(); err != nil {
						t.Fatal(err)
					}
					old, request := first.populate()
					size := first.seq.Checkpoint().Checkpoint().Size
					second.launch()
					if side == "end" {
						sab.arm(at.kind, at.n, how)
					}
					first.insist(func() bool { return errors.Is(first.seq.Ready(), ErrEnded) }, func() ([]byte, error) {
						return first.seq.EndStatement(t.Context(), h.operator, second.origin)
					})
					if side == "start" {
						sab.arm(at.kind, at.n, how)
					}
					second.insist(func() bool { return second.seq.head().size() > 0 }, func() ([]byte, error) {
						return second.seq.StartStatement(t.Context(), h.operator)
					})
					if !sab.fired() {
						t.Fatal("nothing has failed")
					}
					if got := first.seq.Checkpoint().Checkpoint().Size; got != size+1 {
						t.Errorf("the first shard has %d entries, expected %d and a shard-end", got, size)
					}
					h.sound(old, request)
				})
			}
		}
	}
}

// sound checks that the first shard has ended and the second is open, after both
// have started again.
func (h *shards) sound(old *Answer, request Request) {
	h.t.Helper()
	for _, s := range h.list[:2] {
		_ = s.halt()
		if err := s.start(); err != nil {
			h.t.Fatal(err)
		}
	}
	first, second := h.list[0], h.list[1]
	last, err := first.seq.statementAt(h.t.Context(), first.seq.head().size()-1)
	if err != nil || last.Kind != statement.KindShardEnd || !errors.Is(first.seq.Ready(), ErrEnded) {
		h.t.Errorf("the first shard's last entry is a %q, %v, ready: %v", last.Kind, err, first.seq.Ready())
	}
	opening, err := second.seq.statementAt(h.t.Context(), 0)
	if err != nil || opening.Kind != statement.KindShardStart {
		h.t.Errorf("the second shard's first entry is a %q, %v", opening.Kind, err)
	}
	again, err := second.seq.Add(h.t.Context(), request)
	if err != nil || !again.Duplicate || again.Identity != old.Identity {
		h.t.Fatalf("the old statement again: %+v, %v", again, err)
	}
	second.check(again.Receipt, "version 1")
	if at := place(h.t, again.Receipt); at != (ledger.Place{Origin: first.origin, Index: old.Index}) {
		h.t.Errorf("it is at %v", at)
	}
	fresh := second.protocol("T1", "version 2")
	second.check(second.add(fresh, second.admin).Receipt, "version 2")
}
