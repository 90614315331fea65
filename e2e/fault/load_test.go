// Package fault kills real processes under load and checks that nothing that was
// acknowledged is ever lost.
package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/e2e/harness"
)

// ack is an acknowledgement that a client holds.
type ack struct {
	signed *harness.Signed
	answer *harness.Answer
}

// load is submitters that work until they are told to stop.
type load struct {
	t    *testing.T
	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex
	acks []ack
}

// startLoad enrols n organisations and lets each submit one statement after the
// other, FINAL and PENDING in turn, every outcome resolved by the same bytes.
func startLoad(t *testing.T, l *harness.Log, n int) *load {
	t.Helper()
	return startLoadAt(t, l, l.URL, n)
}

// startLoadAt is startLoad at an address that leads to the log.
func startLoadAt(t *testing.T, l *harness.Log, url string, n int) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ld := &load{t: t, stop: cancel}
	t.Cleanup(ld.end)
	for i := range n {
		sub := harness.NewSubmitter(t, l, fmt.Sprintf("org-%d", i)).At(url)
		if err := sub.Enrol(ctx, l.Token("enrol")); err != nil {
			t.Fatal(err)
		}
		trial := fmt.Sprintf("trial-%d", i)
		ld.say(ctx, sub, statement.KindTrial, trial, "WAIT_FINAL", harness.OpenTrial)
		ld.done.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				wait := "WAIT_FINAL"
				if k%3 == 0 {
					wait = "WAIT_PENDING"
				}
				ld.say(ctx, sub, statement.KindProtocol, trial, wait,
					harness.Document(fmt.Appendf(nil, "%s %d", trial, k), "text/plain"))
			}
		})
	}
	return ld
}

// say submits one statement. A client that is stopped before it knows the
// outcome holds no acknowledgement.
func (ld *load) say(ctx context.Context, sub *harness.Submitter, kind statement.Kind, trial, wait string, change func(*statement.Statement)) {
	x, err := sub.Say(kind, trial, change)
	if err != nil {
		ld.t.Error(err)
		return
	}
	a, err := sub.SendUntil(ctx, x, wait, "")
	switch {
	case err == nil:
		ld.mu.Lock()
		ld.acks = append(ld.acks, ack{x, a})
		ld.mu.Unlock()
	case ctx.Err() == nil:
		ld.t.Errorf("a statement was refused: %v", err)
	}
}

func (ld *load) count() int {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	return len(ld.acks)
}

// await waits until n more acknowledgements have come in.
func (ld *load) await(n int) {
	ld.t.Helper()
	ld.awaitWithin(60*time.Second, n)
}

func (ld *load) awaitWithin(limit time.Duration, n int) {
	ld.t.Helper()
	want := ld.count() + n
	deadline := time.After(limit)
	for ld.count() < want {
		select {
		case <-deadline:
			ld.t.Fatalf("after %s: %d acknowledgements, expected %d more", limit, ld.count(), want-ld.count())
		case <-time.After(time.Millisecond): // between two looks
		}
	}
}

// endsOrGoesOn waits until the process has ended, or n more acknowledgements have
// come in, and tells whether it has ended.
func (ld *load) endsOrGoesOn(l *harness.Log, n int) bool {
	ld.t.Helper()
	want := ld.count() + n
	deadline := time.After(60 * time.Second)
	for ld.count() < want {
		select {
		case <-l.Ended():
			return true
		case <-deadline:
			ld.t.Fatalf("the log neither ends nor goes on:\n%s", l.Output())
		case <-time.After(time.Millisecond): // between two looks
		}
	}
	return false
}

// some returns the newest n acknowledgements.
func (ld *load) some(n int) []ack {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	return slices.Clone(ld.acks[len(ld.acks)-n:])
}

func (ld *load) end() {
	ld.stop()
	ld.done.Wait()
}

// check holds every acknowledgement against the final tree: I1, I2 and I4.
func (ld *load) check(l *harness.Log) {
	t := ld.t
	t.Helper()
	policy := l.Policy()
	at := map[place]statement.Identity{}
	finals := 0
	for _, a := range ld.acks {
		if a.answer.State == "STATE_FINAL" {
			finals++
		}
		there, leaf := where(t, policy, a)
		if other, ok := at[there]; ok && other != a.signed.Identity {
			t.Errorf("%+v was given to two statements", there)
		}
		at[there] = a.signed.Identity
		if got := entryAt(t, l, there); entry.LeafHash(got) != leaf {
			t.Errorf("the final tree holds another leaf at %+v", there)
		}
	}
	t.Logf("%d acknowledgements, %d of them final, all in the final tree", len(ld.acks), finals)
	if finals == 0 || finals == len(ld.acks) {
		t.Error("the load did not mix final and pending acknowledgements")
	}
}

// place is where an entry is: in which shard, and its index there.
type place struct {
	origin string
	index  uint64
}

// shard is the name of the place's shard.
func (p place) shard() string { return p.origin[strings.LastIndexByte(p.origin, '/')+1:] }

// where verifies an acknowledgement and returns the place and the hash of its
// entry.
func where(t *testing.T, policy *verify.Policy, a ack) (place, [32]byte) {
	t.Helper()
	if a.answer.State == "STATE_FINAL" {
		return checkFinal(t, policy, a)
	}
	return checkPromise(t, policy, a)
}

// checkFinal verifies a receipt and returns the place and the hash of its entry.
func checkFinal(t *testing.T, policy *verify.Policy, a ack) (place, [32]byte) {
	t.Helper()
	v, err := verify.Verify(verify.Input{Receipt: a.answer.Receipt, Policy: policy, StatementOnly: true, Now: time.Now()})
	if err != nil {
		t.Fatalf("index %d: %v", a.answer.Index, err)
	}
	if v.Statement.Identity != a.signed.Identity || v.Inclusion.Index != a.answer.Index {
		t.Errorf("the receipt of %s is about %s", a.signed.Identity, v.Statement.Identity)
	}
	r, err := receipt.Parse(a.answer.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	return place{r.Proof.Note.Checkpoint().Origin, r.Proof.Index}, entry.LeafHash(r.Entry)
}

// checkPromise verifies a promise and returns the place and the hash of its entry.
func checkPromise(t *testing.T, policy *verify.Policy, a ack) (place, [32]byte) {
	t.Helper()
	p, err := receipt.ParsePending(a.answer.Pending, policy.Trust().PendingKeys...)
	if err != nil {
		t.Fatalf("index %d: %v", a.answer.Index, err)
	}
	if p.Identity != a.signed.Identity || p.Index != a.answer.Index {
		t.Errorf("the promise for %s is for %s at %d", a.signed.Identity, p.Identity, p.Index)
	}
	return place{p.Origin, p.Index}, [32]byte(p.LeafHash)
}

// askEntry asks for a verified entry of the published tree.
func askEntry(l *harness.Log, where place) (status int, body []byte, err error) {
	return l.Get(fmt.Sprintf("/shards/%s/v1/entries/%d", where.shard(), where.index))
}

// entryAt reads a verified entry of the published tree.
func entryAt(t *testing.T, l *harness.Log, where place) []byte {
	t.Helper()
	status, body, err := askEntry(l, where)
	if err != nil || status != http.StatusOK {
		t.Fatalf("entry %+v: status %d, %v: %s", where, status, err, body)
	}
	var e struct {
		Entry []byte `json:"entry"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	return e.Entry
}

// settle waits until the published trees hold every acknowledged entry.
func (ld *load) settle(l *harness.Log) {
	ld.t.Helper()
	policy := l.Policy()
	last := map[string]uint64{}
	for _, a := range ld.acks {
		if a.answer.State == "STATE_FINAL" {
			continue // it was published before it was acknowledged
		}
		there, _ := checkPromise(ld.t, policy, a)
		last[there.origin] = max(last[there.origin], there.index)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for origin, index := range last {
		for there := (place{origin, index}); ; {
			status, body, err := askEntry(l, there)
			if err == nil && status == http.StatusOK {
				break
			}
			select {
			case <-ctx.Done():
				ld.t.Fatalf("%+v is not published: status %d, %v: %s", there, status, err, bytes.TrimSpace(body))
			case <-time.After(20 * time.Millisecond): // between two looks
			}
		}
	}
}

// TestKilledAtRandom kills trialogd 20 times at random moments under load.
func TestKilledAtRandom(t *testing.T) {
	const rounds, submitters = 20, 6
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l := harness.NewLog(t)
	l.Start()
	ld := startLoad(t, l, submitters)
	for range rounds {
		ld.await(random.IntN(60))
		// At a random moment of whatever is being done then.
		timer := time.NewTimer(time.Duration(random.IntN(20_000)) * time.Microsecond)
		<-timer.C
		l.Kill()
		l.Start()
	}
	ld.await(20)
	ld.end()
	ld.settle(l)
	ld.check(l)
}

// borders are the named places between two steps of the pipeline.
func borders() []string {
	return []string{
		"append.before", "append.after", "integrate.before", "integrate.after", "tiles.before", "tiles.after",
		"register.before", "register.after", "sign.before", "sign.after", "cosign.before", "publish.before", "publish.after",
	}
}

// TestKilledAtEachBorder kills trialogd once at each border of the pipeline's
// steps, and lets the same write fail, once without and once with its effect.
func TestKilledAtEachBorder(t *testing.T) {
	const submitters = 4
	l := harness.NewLog(t, "faults")
	l.Start()
	ld := startLoad(t, l, submitters)
	for _, place := range borders() {
		for _, action := range []string{"kill", "error"} {
			fault := fmt.Sprintf("TRIALOG_FAULT=%s=%s@3", place, action)
			l.Kill()
			l.Launch(fault)
			ended := ld.endsOrGoesOn(l, 20*submitters)
			if action == "kill" && !ended {
				t.Fatalf("%s did not end the process:\n%s", fault, l.Output())
			}
			if !ended && place != "append.after" && place != "register.after" {
				// Reading back resolves these two; after any other only a start can tell.
				t.Errorf("the process goes on after %s", fault)
			}
			l.Kill()
			l.Start()
			ld.await(submitters)
		}
	}
	ld.end()
	ld.settle(l)
	ld.check(l)
}
