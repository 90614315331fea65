package sequencer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/trialog/trialog/api/statement"
)

func TestMainJob(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	a := w.add(w.protocol("T1", "version 1"), w.admin)
	v := w.check(a.Receipt, "version 1")
	if v.NotBefore == nil || v.NotAfter == nil || v.Inclusion.Index != a.Index || v.Inclusion.OperatorsSeen != 3 {
		t.Errorf("verdict %+v", v)
	}
	// Stopped and started again, the log goes on.
	if err := w.halt(); err != nil {
		t.Fatal(err)
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	b := w.add(w.protocol("T1", "version 2"), w.admin)
	if b.Index != a.Index+1 {
		t.Errorf("index %d after %d", b.Index, a.Index)
	}
	w.check(b.Receipt, "version 2")
}

func TestSameStatementFiftyTimes(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	env := w.sign(w.protocol("T1", "the same"), w.admin)
	beacon := w.beacon()
	var wg sync.WaitGroup
	indexes, fresh := make([]uint64, 50), make([]bool, 50)
	for i := range indexes {
		wg.Go(func() {
			a, err := w.seq.Add(context.Background(), Request{Envelope: env.Bytes(), Beacon: beacon})
			if err != nil {
				t.Error(err)
				return
			}
			indexes[i], fresh[i] = a.Index, !a.Duplicate
		})
	}
	wg.Wait()
	n := 0
	for i := range indexes {
		if indexes[i] != indexes[0] {
			t.Errorf("answer %d has index %d, the first %d", i, indexes[i], indexes[0])
		}
		if fresh[i] {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d answers say that they stored the entry, expected 1", n)
	}
	if size := w.seq.Checkpoint().Checkpoint().Size; size != 3 {
		t.Errorf("the log has %d entries, expected 3", size)
	}
}

func TestManySubmitters(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	const n = 200
	var envs []*statement.Envelope
	for i := range n {
		trial := fmt.Sprintf("T%d", i+2)
		s := w.draft(statement.KindTrial, trial, []*statement.PrivateKey{w.admin}, func(s *statement.Statement) {
			s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(testLog, "acme", trial)
		})
		envs = append(envs, w.sign(s, w.admin))
	}
	beacon := w.beacon()
	var wg sync.WaitGroup
	for _, env := range envs {
		wg.Go(func() {
			a, err := w.seq.Add(context.Background(), Request{Envelope: env.Bytes(), Beacon: beacon})
			if err != nil {
				t.Error(err)
				return
			}
			w.check(a.Receipt, "")
		})
	}
	wg.Wait()
}

func TestChainIsChecked(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	s := w.protocol("T1", "one")
	s.Chain = statement.Link{Number: 1}
	_, err := w.seq.Add(context.Background(), Request{Envelope: w.sign(s, w.admin).Bytes(), Beacon: w.beacon()})
	var chain *ChainError
	if !errors.As(err, &chain) || chain.Number != 1 {
		t.Fatalf("error %v, expected the head of the chain", err)
	}
}
