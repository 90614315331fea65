package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/trialog/trialog/api/checkpoint"
)

func TestReadInterface(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	five := grown(t, 5, 5, "")
	c := five.checkpoint(t)
	// The unknown key's line and the repeated ones are not the witness's to pass on.
	stranger := testKey(t, "stranger.example", checkpoint.AlgEd25519, 50)
	note := signed(t, c, stranger, logKey(t), logKeyPQ(t), logKey(t), logKeyPQ(t))
	answer := mustAdd(t, w, addBody(0, nil, note)).Body.String()

	rec := do(w, "GET", "/"+originHash(testOrigin)+"/checkpoint", nil, nil)
	want := string(signed(t, c, logKey(t), logKeyPQ(t))) + answer
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("status %d, type %q", rec.Code, rec.Header().Get("Content-Type"))
	}
	got, err := checkpoint.Parse(rec.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Text(), c.Body()) || len(got.Signatures()) != 4 || !strings.HasSuffix(rec.Body.String(), answer) {
		// ML-DSA-44 signatures are randomised, so want differs in that line.
		t.Errorf("%s, because: %s; for example\n%s\ngot\n%s", "a note with the log's two and the witness's two lines", ruleNote, want, rec.Body)
	}
	if head := do(w, "HEAD", "/"+originHash(testOrigin)+"/checkpoint", nil, nil); head.Code != 200 {
		t.Errorf("HEAD: status %d", head.Code)
	}
}

func TestTimesNeverGoBack(t *testing.T) {
	for name, tc := range map[string]struct {
		step time.Duration
		want int64 // of the second cosignature, after the first; -1 is a refusal
	}{
		"forward":               {90 * time.Second, 90},
		"still":                 {0, 0},
		"a second back":         {-time.Second, 0},
		"five minutes back":     {-5 * time.Minute, 0},
		"more than five":        {-5*time.Minute - time.Second, -1},
		"a year back":           {-365 * 24 * time.Hour, -1},
		"before 1970":           {-100 * 365 * 24 * time.Hour, -1},
		"forward by sixty days": {60 * 24 * time.Hour, 60 * 24 * 3600},
	} {
		for _, growth := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s growth %t", name, growth), func(t *testing.T) {
				c := newClock()
				w := open(t, testConfig(t, c))
				five := grown(t, 5, 5, "")
				first := cosignatures(t, five.step(t, 0), mustAdd(t, w, five.step(t, 0)).Body.Bytes(), w.keys...)
				if first != uint64(c.now().Unix()) {
					t.Errorf("first time %d, want the clock's %d", first, c.now().Unix())
				}
				c.add(tc.step)
				next := five
				if growth {
					next = grown(t, 6, 6, "")
				}
				body := next.step(t, 5)
				rec := add(w, body)
				if tc.want < 0 {
					if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "problems/witness/clock") {
						t.Fatalf("status %d, body %s", rec.Code, rec.Body)
					}
					return
				}
				if rec.Code != 200 {
					t.Fatalf("status %d, body %s", rec.Code, rec.Body)
				}
				if got := cosignatures(t, body, rec.Body.Bytes(), w.keys...); got != first+uint64(tc.want) {
					t.Errorf("time %d, want %d", got, first+uint64(tc.want))
				}
			})
		}
	}
}

func TestClockAtZeroSignsNothing(t *testing.T) {
	c := &clock{t: time.Unix(0, 0)}
	w := open(t, testConfig(t, c))
	rec := add(w, grown(t, 5, 5, "").step(t, 0))
	if rec.Code != http.StatusServiceUnavailable || strings.Contains(rec.Body.String(), "— ") {
		t.Errorf("status %d, body %s", rec.Code, rec.Body)
	}
}

func TestSameSecondIsNotWrittenAgain(t *testing.T) {
	c := newClock()
	w := open(t, testConfig(t, c))
	body := grown(t, 5, 5, "").step(t, 0)
	again := grown(t, 5, 5, "").step(t, 5)
	first := mustAdd(t, w, body).Body.String()
	w.state.Hook = func(string) error { return errors.New("written") }
	if got := mustAdd(t, w, again).Body.String(); got != first {
		t.Errorf("got %s, want the first answer", got)
	}
	w.state.Hook = nil
	c.add(time.Second)
	if got := mustAdd(t, w, again).Body.String(); got == first {
		t.Error("a second later the time was not renewed")
	}
}

func TestExtensionLines(t *testing.T) {
	text := append(grown(t, 5, 5, "").checkpoint(t).Body(), "extension\n"...)
	body := addBody(0, nil, signedText(t, text, logKey(t)))
	w := open(t, testConfig(t, newClock()))
	cosignatures(t, body, mustAdd(t, w, body).Body.Bytes(), w.keys[0])

	cfg := testConfig(t, newClock())
	cfg.Keys = cfg.Keys[1:] // ML-DSA-44, which does not cover the extension
	w = open(t, cfg)
	if rec := add(w, body); rec.Code != 422 || !strings.Contains(rec.Body.String(), "problems/witness/unsignable") {
		t.Errorf("status %d, body %s", rec.Code, rec.Body)
	}
	if rec := add(w, grown(t, 4, 4, "").step(t, 0)); rec.Code != 200 {
		t.Errorf("the refused checkpoint was recorded: status %d, body %s", rec.Code, rec.Body)
	}
}

func TestRate(t *testing.T) {
	c := newClock()
	cfg := testConfig(t, c)
	cfg.Logs[0].Rate = &Rate{PerMinute: 6, Burst: 2}
	w := open(t, cfg)
	mustAdd(t, w, grown(t, 1, 1, "").step(t, 0))
	// What is refused takes nothing.
	for range 10 {
		if rec := add(w, grown(t, 2, 2, "").step(t, 0)); rec.Code != 409 {
			t.Fatalf("status %d", rec.Code)
		}
	}
	mustAdd(t, w, grown(t, 2, 2, "").step(t, 1))
	rec := add(w, grown(t, 3, 3, "").step(t, 2))
	if rec.Code != 429 || rec.Header().Get("Retry-After") != "10" || rec.Header().Get("Content-Type") != typeProblem {
		t.Errorf("status %d, Retry-After %q, body %s", rec.Code, rec.Header().Get("Retry-After"), rec.Body)
	}
	c.add(9 * time.Second)
	if rec := add(w, grown(t, 3, 3, "").step(t, 2)); rec.Code != 429 || rec.Header().Get("Retry-After") != "1" {
		t.Errorf("after 9 s: status %d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
	}
	// A repetition is no growth.
	mustAdd(t, w, grown(t, 2, 2, "").step(t, 2))
	c.add(time.Second)
	mustAdd(t, w, grown(t, 3, 3, "").step(t, 2))
	// The clock steps back and stands still: nothing is given, nothing breaks.
	c.add(-time.Minute)
	if rec := add(w, grown(t, 4, 4, "").step(t, 3)); rec.Code != 429 {
		t.Errorf("after a step back: status %d", rec.Code)
	}
	c.add(10 * time.Second)
	mustAdd(t, w, grown(t, 4, 4, "").step(t, 3))
}

func TestBucketRefusesSenselessRates(t *testing.T) {
	for _, r := range []Rate{{}, {PerMinute: -1}, {PerMinute: 1, Burst: -1}, {PerMinute: int(time.Minute) + 1}} {
		if _, err := newBucket(r, time.Unix(1, 0)); err == nil {
			t.Errorf("%+v accepted", r)
		}
	}
}

func TestEvidence(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	five, fork := grown(t, 5, 5, ""), grown(t, 5, 2, "x")
	mustAdd(t, w, five.step(t, 0))
	forkNote := signed(t, fork.checkpoint(t), logKey(t))
	steps := []struct {
		body   string
		status int
		want   int // entries afterwards
	}{
		{addBody(0, nil, forkNote), 409, 1}, // a fork is a fork, whatever the old size
		{addBody(5, nil, forkNote), 422, 1}, // the same again
		{addBody(5, nil, signed(t, fork.checkpoint(t), logKeyPQ(t))), 422, 1},
		{addBody(5, hashes(1), signed(t, five.checkpoint(t), logKey(t))), 422, 1}, // shows nothing
		{addBody(5, hashes(3), signed(t, grown(t, 8, 8, "").checkpoint(t), logKey(t))), 422, 2},
		{addBody(4, nil, signed(t, grown(t, 9, 9, "").checkpoint(t), logKey(t))), 409, 2}, // stale, no more
		{addBody(9, nil, signed(t, grown(t, 8, 1, "y").checkpoint(t), logKey(t))), 400, 2},
		{addBody(5, nil, signed(t, fork.checkpoint(t), testKey(t, testOrigin, checkpoint.AlgEd25519, 66))), 403, 2},
	}
	for i, s := range steps {
		if rec := add(w, s.body); rec.Code != s.status {
			t.Fatalf("step %d: status %d, want %d", i, rec.Code, s.status)
		}
		got, err := journalOf(w, testOrigin)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != s.want {
			t.Fatalf("step %d: %d entries, want %d", i, len(got), s.want)
		}
	}
	got, err := journalOf(w, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Kind != Fork || !bytes.Equal(got[0].Refused, forkNote) || got[1].Kind != Unproven || len(got[1].Proof) != 3 || got[1].Old != 5 {
		t.Errorf("got %+v", got)
	}
	// Both heads are signed by the log, so that the file convinces a stranger.
	for _, raw := range [][]byte{got[0].Refused, got[0].Recorded} {
		n, err := checkpoint.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.table.Load().byOrigin[testOrigin].trusted(n); err != nil || n.Checkpoint().Size != 5 {
			t.Errorf("not a signed head of size 5: %v", err)
		}
	}
	if none, err := journalOf(w, otherOrigin); err != nil || len(none) != 0 {
		t.Errorf("other log: %v, %v", none, err)
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	mustAdd(t, w, grown(t, 2, 2, "").step(t, 0))
	for i := range maxEvidence + 10 {
		tr := grown(t, 3, 2, fmt.Sprint("x", i))
		if rec := add(w, addBody(2, hashes(5), signed(t, tr.checkpoint(t), logKey(t)))); rec.Code != 422 {
			t.Fatalf("status %d", rec.Code)
		}
	}
	// There is room left for what is conclusive.
	if rec := add(w, addBody(2, nil, signed(t, grown(t, 2, 1, "x").checkpoint(t), logKey(t)))); rec.Code != 422 {
		t.Fatalf("status %d", rec.Code)
	}
	got, err := journalOf(w, testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	forks := 0
	for _, e := range got {
		if e.Kind == Fork {
			forks++
		}
	}
	if len(got) != maxEvidence+1 || forks != 1 {
		t.Errorf("%d entries, %d forks, want %d and 1", len(got), forks, maxEvidence+1)
	}
}

func TestUnknownOriginsCostNoState(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	logs := len(w.table.Load().byOrigin)
	w.state.Hook = func(string) error { return errors.New("written") }
	for i := range 500 {
		c := checkpoint.Checkpoint{Origin: fmt.Sprint("stranger.example/", i), Size: 5}
		if rec := add(w, addBody(0, nil, signed(t, c, logKey(t)))); rec.Code != 404 {
			t.Fatalf("status %d", rec.Code)
		}
	}
	if len(w.table.Load().byOrigin) != logs || len(w.table.Load().byHash) != logs {
		t.Errorf("%d and %d logs in memory, want %d", len(w.table.Load().byOrigin), len(w.table.Load().byHash), logs)
	}
	err := w.state.View(func(tx *bbolt.Tx) error {
		for _, name := range []string{logsBucket, evidenceBucket} {
			if k, _ := tx.Bucket([]byte(name)).Cursor().First(); k != nil {
				return fmt.Errorf("%s holds %q", name, k)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestConflictingRequestsInParallel: whatever is sent at once, one root is
// cosigned at a size.
func TestConflictingRequestsInParallel(t *testing.T) {
	w := open(t, testConfig(t, newClock()))
	base := grown(t, 4, 4, "")
	mustAdd(t, w, base.step(t, 0))
	old := int64(4)
	for round := range 4 {
		const n = 32
		trees := make([]*tree, n)
		bodies := make([]string, n)
		for i := range n {
			trees[i] = base.with(t, fmt.Sprint("round ", round, " variant ", i))
			bodies[i] = trees[i].step(t, old)
		}
		codes := make([]int, n)
		answers := make([][]byte, n)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				<-start
				rec := add(w, bodies[i])
				codes[i], answers[i] = rec.Code, rec.Body.Bytes()
			})
		}
		close(start)
		wg.Wait()
		won := -1
		for i, code := range codes {
			switch code {
			case 200:
				if won >= 0 {
					t.Fatalf("round %d: variants %d and %d were both cosigned", round, won, i)
				}
				won = i
				cosignatures(t, bodies[i], answers[i], w.keys...)
			case 409:
				if want := fmt.Sprintln(old + 1); string(answers[i]) != want {
					t.Errorf("round %d: 409 says %q, want %q", round, answers[i], want)
				}
			default:
				t.Errorf("round %d: variant %d: status %d, body %s", round, i, code, answers[i])
			}
		}
		if won < 0 {
			t.Fatalf("round %d: nothing was cosigned", round)
		}
		base, old = trees[won], old+1
	}
}

func TestRunAndClose(t *testing.T) {
	cfg := testConfig(t, newClock())
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil {
		t.Error("a second witness opened the same state file")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Run(ctx); err != nil {
		t.Errorf("Run when cancelled: %v", err)
	}
	if err := errors.Join(w.Close(), w.Close(), w.Run(context.Background())); err != nil {
		t.Errorf("closing twice, running closed: %v", err)
	}
	rec := add(w, grown(t, 5, 5, "").step(t, 0))
	if rec.Code != http.StatusServiceUnavailable || strings.Contains(rec.Body.String(), "— ") {
		t.Errorf("closed: status %d, body %s", rec.Code, rec.Body)
	}
	if rec := do(w, "GET", "/"+originHash(testOrigin)+"/checkpoint", nil, nil); rec.Code != 500 {
		t.Errorf("closed: read status %d", rec.Code)
	}
}

func TestNewRejects(t *testing.T) {
	base := func() Config { return testConfig(t, newClock()) }
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no key":        {func(c *Config) { c.Keys = nil }, "at least one key"},
		"log key":       {func(c *Config) { c.Keys = []*checkpoint.SigningKey{logKey(t)} }, "cosignature keys"},
		"two of a kind": {func(c *Config) { c.Keys[1] = c.Keys[0] }, "two"},
		"two names": {func(c *Config) {
			c.Keys[1] = testKey(t, "other.example", checkpoint.AlgMLDSA44, 4)
		}, "one name"},
		"no logs":        {func(c *Config) { c.Logs = nil }, "at least one log"},
		"no origin":      {func(c *Config) { c.Logs[0].Origin = "" }, "origin"},
		"long origin":    {func(c *Config) { c.Logs[0].Origin = strings.Repeat("x", 256) }, "255"},
		"origin twice":   {func(c *Config) { c.Logs[1] = c.Logs[0] }, "twice"},
		"no log key":     {func(c *Config) { c.Logs[0].Keys = nil }, "at least one key"},
		"key twice":      {func(c *Config) { c.Logs[0].Keys[1] = c.Logs[0].Keys[0] }, "twice"},
		"witness as log": {func(c *Config) { c.Logs[0].Keys[0] = c.Keys[0].Verifier() }, "log keys"},
		"key of another": {func(c *Config) { c.Logs[0].Keys[0] = c.Logs[1].Keys[0] }, "named like the origin"},
		"rate":           {func(c *Config) { c.Logs[0].Rate = &Rate{} }, "rate"},
		"no such folder": {func(c *Config) { c.StatePath += "/no/state" }, "state file"},
		"state is a dir": {func(c *Config) { c.StatePath = t.TempDir() }, "state file"},
	} {
		t.Run(name, func(t *testing.T) {
			c := base()
			tc.change(&c)
			w, err := New(c)
			if err == nil {
				t.Fatal("accepted", w.Close())
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

func FuzzParseAddRequest(f *testing.F) {
	five := grown(f, 5, 5, "")
	f.Add([]byte(five.step(f, 0)))
	f.Add([]byte(grown(f, 8, 8, "").step(f, 5)))
	f.Add([]byte("old 00\n\n"))
	f.Add([]byte("old 1\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n\nx\n1\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseAddRequest(body)
		if err != nil {
			if bad := (*requestError)(nil); !errors.As(err, &bad) || bad.field == "" {
				t.Errorf("error %v names no field", err)
			}
			return
		}
		if !bytes.Equal(req.bytes(), body) {
			t.Errorf("%q parses and formats to %q", body, req.bytes())
		}
		if len(req.proof) > maxProofLines {
			t.Errorf("%d proof lines", len(req.proof))
		}
	})
}
