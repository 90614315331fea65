package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/e2e/harness"
)

// streamed is where a stream said that a statement is.
type streamed struct {
	at   place
	leaf [32]byte
}

// TestStreamAcrossRollover sends statements over one gRPC stream while the shard
// ends: each is answered once. The same ones sent again are all found where they
// are, most of them in the shard that has ended.
func TestStreamAcrossRollover(t *testing.T) {
	const n = 600
	l := harness.NewLog(t)
	l.Init()
	l.Announce("2")
	l.Start()
	sub := harness.NewSubmitter(t, l, "acme")
	if err := sub.Enrol(t.Context(), l.Token("enrol")); err != nil {
		t.Fatal(err)
	}
	statements := chained(t, sub, n)
	answered := make(chan struct{})
	var once sync.Once
	var rollover sync.WaitGroup
	rollover.Go(func() {
		<-answered
		if out, err := l.Run("rollover", "--force", "--data", l.Dir); err != nil {
			t.Errorf("rollover: %v\n%s", err, out)
		}
	})
	// The second half is sent when the rollover has begun; much of it meets a
	// shard that is ending.
	first := stream(t, l, statements, func(k int) {
		if k == n/3 {
			once.Do(func() { close(answered) })
		}
	})
	rollover.Wait()
	shards := map[string]int{}
	for _, a := range first {
		shards[a.at.shard()]++
	}
	t.Logf("%d statements by shard: %v", n, shards)
	if shards["1"] == 0 {
		t.Error("none is in the shard that has ended")
	}
	more := stream(t, l, chained(t, sub, n/10), nil)
	for _, a := range more {
		if a.at.shard() != "2" {
			t.Errorf("behind the rollover a statement went to %+v", a.at)
		}
	}
	again := stream(t, l, statements, nil)
	for id, a := range again {
		if b := first[id]; a.at != b.at || a.leaf != b.leaf {
			t.Errorf("%s was at %+v, and sent again is at %+v", id, b.at, a.at)
		}
	}
	for _, all := range []map[statement.Identity]streamed{first, more} {
		for id, a := range all {
			if got := entryAt(t, l, a.at); entry.LeafHash(got) != a.leaf {
				t.Errorf("%s: the final tree holds another leaf at %+v", id, a.at)
			}
		}
	}
}

// chained signs n statements of one chain, the first of which opens a trial.
func chained(t *testing.T, sub *harness.Submitter, n int) []*harness.Signed {
	t.Helper()
	trial := fmt.Sprintf("trial-%d", n)
	var list []*harness.Signed
	for k := range n {
		kind, change := statement.KindProtocol, harness.Document(fmt.Append(nil, "protocol ", k), "text/plain")
		if k == 0 {
			kind, change = statement.KindTrial, harness.OpenTrial
		}
		x, err := sub.Say(kind, trial, change)
		if err != nil {
			t.Fatal(err)
		}
		sub.Took(x)
		list = append(list, x)
	}
	return list
}

// stream sends statements over a stream of its own and returns the answers,
// exactly one for each. It calls progress with the number of answers so far.
func stream(t *testing.T, l *harness.Log, statements []*harness.Signed, progress func(int)) map[statement.Identity]streamed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := client.NewStream(ctx, client.StreamConfig{
		Address: l.GRPC, Policy: l.Policy(), Now: time.Now, Window: 64,
		Retry: client.Retry{For: time.Minute, Base: 10 * time.Millisecond, Max: 200 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		defer s.CloseSend()
		for k, x := range statements {
			wait := client.Final
			if k%3 == 0 {
				wait = client.Pending
			}
			if err := s.Send(ctx, &client.Submission{Envelope: x.Envelope, Beacon: x.Beacon, Wait: wait}); err != nil {
				t.Errorf("send: %v", err)
				return
			}
		}
	})
	answers := map[statement.Identity]streamed{}
	for {
		r, err := s.Recv(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Err != nil {
			t.Fatalf("a statement was refused: %v", r.Err)
		}
		answers[r.Acknowledgement.Identity] = located(t, r.Acknowledgement, answers)
		if progress != nil {
			progress(len(answers))
		}
	}
	sending.Wait()
	for _, x := range statements {
		if _, ok := answers[x.Identity]; !ok {
			t.Errorf("%s was not answered", x.Identity)
		}
	}
	if len(answers) != len(statements) {
		t.Errorf("%d answers to %d statements", len(answers), len(statements))
	}
	return answers
}

// located returns what an acknowledgement says, which the client has verified.
func located(t *testing.T, a *client.Acknowledgement, before map[statement.Identity]streamed) streamed {
	t.Helper()
	if _, twice := before[a.Identity]; twice {
		t.Errorf("%s was answered twice", a.Identity)
	}
	if a.Promise != nil {
		return streamed{at: place{a.Promise.Origin, a.Promise.Index}, leaf: [32]byte(a.Promise.LeafHash)}
	}
	r, err := receipt.Parse(a.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	return streamed{at: place{r.Proof.Note.Checkpoint().Origin, r.Proof.Index}, leaf: entry.LeafHash(r.Entry)}
}
