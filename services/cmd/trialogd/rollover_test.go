package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/proofs"
)

// running is a log that runs in this process.
type running struct {
	*engine
	reads *proofs.Proofs
	stop  func()
}

// start runs a log with its socket until stop is called, and waits until it takes
// statements in.
func start(t *testing.T, l layout, s *config.Log) *running {
	t.Helper()
	e, err := openEngine(t.Context(), l, s, time.Now, quiet())
	if err != nil {
		t.Fatal(err)
	}
	reads, err := e.openProofs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e.activate = reads.Activate
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- run.All(ctx, run.Part{Name: "log", Run: e.run},
			run.Part{Name: "admin", Run: func(ctx context.Context) error { return e.serveAdmin(ctx, l.admin()) }})
	}()
	r := &running{e, reads, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("an orderly end gives %v", err)
		}
		e.close()
	})}
	t.Cleanup(r.stop)
	await(t, "the log is ready", func() bool { return e.ready() == nil })
	return r
}

// enrolOf returns a signed statement that enrols an organisation, behind a
// checkpoint.
func enrolOf(t *testing.T, log, organisation string, seen *checkpoint.Note) []byte {
	t.Helper()
	c := seen.Checkpoint()
	key, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := statement.Build(&statement.Statement{
		Log: log, Organisation: organisation, Kind: statement.KindKey,
		Signers: []statement.Signer{{
			Key: key.ID(), Meaning: statement.Responsibility, At: statement.Date(time.Now().UTC().Format("2006-01-02T15:04:05Z")),
		}},
		Beacon: &statement.Beacon{Origin: c.Origin, Size: c.Size, Note: statement.Digest(seen.Digest())},
		Chain:  statement.Link{Number: 1}, Subject: statement.SubjectKey, Digest: key.ID(),
		Attributes: []statement.Member{
			statement.TextMember("action", "enrol"), statement.KeyMember("publicKey", key.Public()),
			statement.ListMember("roles", string(statement.Site)), statement.KeyMember("recovery", recovery.Public()),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.Sign(payload, key)
	if err != nil {
		t.Fatal(err)
	}
	return env.Bytes()
}

func (r *running) add(ctx context.Context, env []byte, seen *checkpoint.Note) (*trialogv1.SubmitResponse, error) {
	resp, err := router{r.engine}.Add(ctx, &trialogv1.AddRequest{
		Submit: &trialogv1.SubmitRequest{Envelope: env, Beacon: string(seen.Bytes())}, GrantedRoles: []string{string(statement.Site)},
	})
	return resp.GetSubmitted(), err
}

// readsFrom checks that reads which name no shard are answered from origin.
func (r *running) readsFrom(t *testing.T, origin string) {
	t.Helper()
	if got := ask(t, r.reads.Handler(), http.MethodGet, "/checkpoint").Body.String(); !strings.HasPrefix(got, origin+"\n") {
		t.Errorf("reads are answered from %q, expected %s", got, origin)
	}
}

// TestRollover: with real witnesses, statements that come meanwhile are taken in,
// the list says what happened, reads move on, and what is sent again is found.
func TestRollover(t *testing.T) {
	l, _ := newData(t)
	if _, err := (&program{now: time.Now}).announce(t.Context(), l, "2", shardOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := l.readSettings()
	if err != nil {
		t.Fatal(err)
	}
	first, second := s.Shards[0].Origin, s.Shards[1].Origin
	startWitnesses(t, l, s)
	r := start(t, l, s)
	r.readsFrom(t, first)
	seen := r.shards[0].seq.Checkpoint()
	early := enrolOf(t, s.Log, "early", seen)
	before, err := r.add(t.Context(), early, seen)
	if err != nil || before.GetDuplicate() {
		t.Fatalf("%v, %v", before, err)
	}
	if _, err := askRollover(t.Context(), l.admin(), false); err == nil || !strings.Contains(err.Error(), "until then only with --force") {
		t.Fatalf("a month early: %v", err)
	}
	over := make(chan struct{})
	var senders sync.WaitGroup
	for sender := range 3 {
		senders.Go(func() {
			for n, last := 0, false; !last; n++ {
				select {
				case <-over:
					last = true // the one that follows is of the new shard
				default:
				}
				if _, err := r.add(t.Context(), enrolOf(t, s.Log, fmt.Sprintf("org-%d-%d", sender, n), seen), seen); err != nil {
					t.Errorf("statement %d of sender %d: %v", n, sender, err)
				}
			}
		})
	}
	done, err := askRollover(t.Context(), l.admin(), true)
	close(over)
	senders.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if done.Ended != first || done.Opened != second || done.Size < 3 {
		t.Errorf("%+v", done)
	}
	if _, err := askRollover(t.Context(), l.admin(), true); err == nil || !strings.Contains(err.Error(), "no shard behind "+second) {
		t.Errorf("once more: %v", err)
	}
	await(t, "reads have moved on", func() bool { return r.list.shard(second).State == loglist.Active })
	r.checkList(t, done)
	for range 2 {
		await(t, "reads answered from the new shard", func() bool {
			return strings.HasPrefix(ask(t, r.reads.Handler(), http.MethodGet, "/checkpoint").Body.String(), second+"\n")
		})
		again, err := r.add(t.Context(), early, seen)
		if err != nil || !again.GetDuplicate() || again.GetIndex() != before.GetIndex() {
			t.Errorf("sent again: %v, %v, want index %d", again, err, before.GetIndex())
		}
		r.stop()
		r = start(t, l, s)
		r.readsFrom(t, second)
		if r.shards[0].seq != nil {
			t.Error("a shard that has ended has a sequencer")
		}
	}
}

// checkList holds the published list against what the rollover said.
func (r *running) checkList(t *testing.T, done *rolledOver) {
	t.Helper()
	list, err := loglist.Parse(ask(t, r.list, http.MethodGet, "/v1/loglist").Body.Bytes(), r.list.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ended, active := list.Shard(done.Ended), list.Shard(done.Opened)
	if ended == nil || ended.State != loglist.Ended || ended.Final == nil || ended.Final.Size != done.Size {
		t.Errorf("the list says of the shard that has ended: %+v", ended)
	}
	if active == nil || active.State != loglist.Active || !active.Forced || active.Opens.After(time.Now()) {
		t.Errorf("the list says of the open shard: %+v", active)
	}
}

// TestListed: each shard has its place, and keeps it.
func TestListed(t *testing.T) {
	l, s := newData(t)
	one := s.Shards[0].Under(l.dir)
	two := config.NewShard(s.Log, "2")
	two = two.Under(l.dir)
	if _, err := makeLogKeys(two.Keys, two.Origin); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	list, err := listed(nil, 0, one, "", now, now)
	if err != nil || len(list) != 1 || !list[0].Forced {
		t.Fatalf("%+v, %v", list, err)
	}
	if list, err = listed(list, 1, two, "http://log.test/shards/2", now, now.Add(loglist.Notice)); err != nil || len(list) != 2 || list[1].Forced {
		t.Fatalf("%+v, %v", list, err)
	}
	if again, err := listed(list, 1, two, "http://other.test", now, now); err != nil || len(again) != 2 || again[1].URL != list[1].URL {
		t.Errorf("twice: %+v, %v", again, err)
	}
	for name, c := range map[string]struct {
		list  []loglist.Shard
		n     int
		place config.Shard
	}{
		"at another place": {list, 0, two},
		"a gap":            {nil, 1, two},
		"one in between":   {list, 2, one},
	} {
		if got, err := listed(c.list, c.n, c.place, "", now, now); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	other := two
	other.Keys = t.TempDir()
	if _, err := makeLogKeys(other.Keys, other.Origin); err != nil {
		t.Fatal(err)
	}
	if got, err := listed(list, 1, other, "", now, now); err == nil || !strings.Contains(err.Error(), "other keys") {
		t.Errorf("other keys: %+v, %v", got, err)
	}
}
