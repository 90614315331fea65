package sequencer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/internal/blob"
)

// submitter hands statements in as a careful client does: the same envelope again
// until it is answered. It remembers every acknowledgement.
type submitter struct {
	*world
	s *saboteur

	mu    sync.Mutex
	acked map[statement.Identity]uint64
	leafs map[uint64]statement.Digest
	finals,
	pendings int
	restarts int
}

func newSubmitter(t *testing.T, s *saboteur) *submitter {
	t.Helper()
	w := newWorld(t)
	w.wrap = s.wrap
	w.limits.BatchDelay = 2 * time.Millisecond
	return &submitter{world: w, s: s, acked: map[statement.Identity]uint64{}, leafs: map[uint64]statement.Digest{}}
}

// restart starts the shard, again if it was stopped. Only the one sabotaged
// write may stop it, so that it stops once.
func (c *submitter) restart() {
	c.t.Helper()
	for range 3 {
		if err := c.halt(); err != nil && !errors.Is(err, errSabotage) {
			c.t.Fatalf("it ended with %v", err)
		}
		c.restarts++
		err := c.start()
		if err == nil {
			return
		}
		if !errors.Is(err, errSabotage) {
			c.t.Fatalf("it does not start again: %v", err)
		}
	}
	c.t.Fatal("it does not start again")
}

// ack holds an acknowledgement against all others, and verifies it.
func (c *submitter) ack(a *Answer) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if index, ok := c.acked[a.Identity]; ok && index != a.Index {
		c.t.Errorf("one statement was acknowledged at the indexes %d and %d", index, a.Index)
	}
	c.acked[a.Identity] = a.Index
	var leaf statement.Digest
	if a.Receipt != nil {
		c.finals++
		c.check(a.Receipt, "")
		r, err := receipt.Parse(a.Receipt)
		if err != nil {
			c.t.Fatal(err)
		}
		leaf = entry.LeafHash(r.Entry)
		c.isPublished(r.Proof.Note)
	} else {
		c.pendings++
		p, err := receipt.ParsePending(a.Promise, c.pending.Public())
		if err != nil {
			c.t.Fatal(err)
		}
		if p.Index != a.Index || p.Identity != a.Identity || p.Origin != testOrigin || p.Log != testLog ||
			p.Deadline.Sub(p.Received) != c.seq.c.Limits.Promise {
			c.t.Errorf("promise %+v for index %d", p, a.Index)
		}
		leaf = p.LeafHash
	}
	if known, ok := c.leafs[a.Index]; ok && known != leaf {
		c.t.Errorf("two leaves were acknowledged at index %d", a.Index)
	}
	c.leafs[a.Index] = leaf
}

// isPublished: FINAL comes after the checkpoint was published, not before.
func (c *submitter) isPublished(n *checkpoint.Note) {
	c.t.Helper()
	tiles, err := blob.OpenDir(filepath.Join(c.dir, "tiles"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer tiles.Close()
	raw, err := tiles.Get(context.Background(), CheckpointKey)
	if err != nil {
		c.t.Fatal(err)
	}
	p, err := checkpoint.Parse(raw)
	if err != nil || p.Checkpoint().Size < n.Checkpoint().Size {
		c.t.Errorf("a receipt under size %d was given before it was published: %v", n.Checkpoint().Size, err)
	}
}

// wave submits requests at the same time, each by two clients, until all are
// acknowledged.
func (c *submitter) wave(requests []Request) {
	c.t.Helper()
	todo := append(append([]Request{}, requests...), requests...)
	for round := 0; len(todo) > 0; round++ {
		if round == 10 {
			c.t.Fatalf("%d submissions are not acknowledged", len(todo))
		}
		var mu sync.Mutex
		var failed []Request
		var wg sync.WaitGroup
		for i, r := range todo {
			r.Pending = i%3 == 0
			wg.Go(func() {
				add := c.seq.Add
				if i%2 == 0 {
					add = func(ctx context.Context, r Request) (*Answer, error) { return addByStream(ctx, c.seq, r) }
				}
				a, err := add(context.Background(), r)
				if err == nil {
					c.ack(a)
					return
				}
				if !errors.Is(err, ErrNotReady) {
					c.t.Errorf("a good statement: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, r)
			})
		}
		wg.Wait()
		todo = failed
		if c.seq.Ready() != nil {
			c.restart()
		}
	}
}

// script is a small life of a shard: about ten entries in four waves.
func (c *submitter) script() {
	c.t.Helper()
	if err := c.start(); err != nil {
		if !errors.Is(err, errSabotage) {
			c.t.Fatal(err)
		}
		c.restart()
	}
	s, keys := enrolment{org: "acme", key: c.admin, roles: []string{"sponsor", "admin"}, recovery: c.recovery}.draft(c.world)
	c.wave([]Request{{Envelope: c.sign(s, keys...).Bytes(), Granted: statement.Roles()}})
	for wave := range 3 {
		// The next wave names a new beacon, which has to be stored.
		await(func() bool {
			if c.seq.Ready() != nil {
				c.restart()
			}
			return c.seq.head().size() == uint64(len(c.acked))
		})
		var requests []Request
		for i := range 3 {
			requests = append(requests, c.newTrial(fmt.Sprintf("W%d.%d", wave, i)))
		}
		c.wave(requests)
	}
}

// newTrial is a request that opens a trial.
func (w *world) newTrial(name string) Request {
	w.t.Helper()
	note := w.seq.Checkpoint() // once: it may change
	s := w.draft(statement.KindTrial, name, []*statement.PrivateKey{w.admin}, func(s *statement.Statement) {
		s.Subject, s.Digest = statement.SubjectTrial, statement.TrialDigest(testLog, "acme", name)
		s.Beacon = beaconOf(note)
	})
	r := Request{Envelope: w.sign(s, w.admin).Bytes()}
	if note != nil {
		r.Beacon = note.Bytes()
	}
	return r
}

// settle starts the shard once more, without faults, and holds the whole log
// against what was acknowledged.
func (c *submitter) settle(entries int) {
	c.t.Helper()
	c.s.disarm()
	if err := c.halt(); err != nil && !errors.Is(err, errSabotage) {
		c.t.Fatalf("it ended with %v", err)
	}
	if err := c.start(); err != nil {
		c.t.Fatalf("it does not start again: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, err := c.seq.waitPublished(ctx, uint64(entries)-1)
	if err != nil {
		c.t.Fatal(err)
	}
	if p.size() != uint64(entries) {
		c.t.Errorf("the log has %d entries, expected %d", p.size(), entries)
	}
	if len(c.acked) != entries {
		c.t.Errorf("%d statements were acknowledged, expected %d", len(c.acked), entries)
	}
	for id, index := range c.acked {
		raw, at, err := c.seq.Find(ctx, id)
		if err != nil || at != index {
			c.t.Errorf("acknowledged at index %d, found at %d: %v", index, at, err)
			continue
		}
		c.check(raw, "")
		if leaf, err := p.tree.LeafHash(ctx, index); err != nil || leaf != c.leafs[index] {
			c.t.Errorf("another leaf is at index %d than was acknowledged: %v", index, err)
		}
	}
	if size, err := c.seq.Ledger().Size(); err != nil || size != uint64(entries) {
		c.t.Errorf("the ledger has %d entries, expected %d: %v", size, entries, err)
	}
}

const scriptEntries = 10

// TestEachWriteFails lets each durable write of the pipeline fail once, in each
// way in which it can.
func TestEachWriteFails(t *testing.T) {
	free := &saboteur{}
	c := newSubmitter(t, free)
	c.script()
	c.settle(scriptEntries)
	if c.restarts != 0 || c.finals == 0 || c.pendings == 0 {
		t.Fatalf("without faults: %d restarts, %d receipts, %d promises", c.restarts, c.finals, c.pendings)
	}
	for _, tt := range []struct {
		kind  string
		times int
		how   []harm
	}{
		{"append", 3, []harm{refused, lost, partly, persisted}},
		{"ledger", 3, []harm{lost, persisted}},
		{"integrate", 2, []harm{lost, persisted}},
		{"put beacon", 2, []harm{lost, persisted}},
		{"put tail", 1, []harm{lost, partly, persisted}},
		{"extend", 2, []harm{lost, partly, persisted}},
		{"put head", 2, []harm{lost, persisted}},
		{"register", 2, []harm{lost, persisted}},
		{"put candidate", 2, []harm{lost, persisted}},
		{"cosign", 2, []harm{refused, lost, persisted}},
		{"put checkpoint", 2, []harm{lost, persisted}},
	} {
		if tt.times > free.hits(tt.kind) {
			t.Errorf("there were only %d writes of the kind %q", free.hits(tt.kind), tt.kind)
		}
		for _, how := range tt.how {
			for at := 1; at <= tt.times; at++ {
				t.Run(fmt.Sprintf("%s %d %s", tt.kind, at, how), func(t *testing.T) {
					s := &saboteur{kind: tt.kind, at: at, how: how}
					c := newSubmitter(t, s)
					c.script()
					if s.hits(tt.kind) < at {
						t.Errorf("there was no write number %d", at)
					}
					c.settle(scriptEntries)
				})
			}
		}
	}
}

// TestFullTilesFail is the same for a batch that fills tiles.
func TestFullTilesFail(t *testing.T) {
	for _, how := range []harm{lost, partly, persisted} {
		t.Run(string(how), func(t *testing.T) {
			s := &saboteur{kind: "put tile", at: 1, how: how}
			c := newSubmitter(t, s)
			c.script()
			var requests []Request
			for i := range 300 {
				requests = append(requests, c.newTrial(fmt.Sprintf("X%d", i)))
			}
			c.wave(requests)
			if s.hits("put tile") == 0 || c.restarts == 0 {
				t.Errorf("%d full tiles were written, %d restarts", s.hits("put tile"), c.restarts)
			}
			c.settle(scriptEntries + 300)
		})
	}
}

// TestClockOutOfRange: what cannot be placed ends the sequencer, and everybody
// who waits is told.
func TestClockOutOfRange(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	at := time.Now()
	w.now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return at
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	w.limits.BatchDelay = 10 * time.Millisecond
	mu.Lock()
	at = time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)
	mu.Unlock()
	var wg sync.WaitGroup
	for i := range 10 {
		r := w.newTrial(fmt.Sprint("C", i/2)) // and each twice
		wg.Go(func() {
			if _, err := w.seq.Add(context.Background(), r); !errors.Is(err, ErrNotReady) {
				t.Errorf("error %v, expected ErrNotReady", err)
			}
		})
	}
	wg.Wait()
	<-w.done
	var refused *RefusedError
	if !errors.As(w.err, &refused) || refused.Reason != Failed {
		t.Errorf("it ended with %v", w.err)
	}
}
