package sequencer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/sequencer/witnessing"
)

// wire is the test's witnesses behind HTTP, as C2SP tlog-witness has them, for a
// sequencer with a real pool.
type wire struct {
	*witnesses

	// lie takes the place of the answer of the first witness; may be nil. good is
	// what it would honestly say.
	lie func(note *checkpoint.Note, good said) (said, error)
}

// newWire gives a world a pool that speaks to its witnesses.
func newWire(t testing.TB, w *world) *wire {
	t.Helper()
	net := &wire{witnesses: w.witness}
	pool, err := witnessing.New(witnessing.Config{
		Policy: w.policy.Notes(), HTTP: &http.Client{Transport: net}, Timeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.wrap = func(c *Config) { c.Witness = pool }
	t.Cleanup(func() {
		_ = w.halt()
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return net
}

// RoundTrip implements http.RoundTripper.
func (n *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	i, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.URL.Host, "w"), ".test"))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	head, raw, _ := bytes.Cut(body, []byte("\n\n"))
	note, err := checkpoint.Parse(raw)
	if err != nil {
		n.t.Errorf("a request without a checkpoint: %v", err)
		return nil, err
	}
	if got := len(note.Signatures()); got != 2 {
		n.t.Errorf("a request with %d signatures, want the log's 2", got)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down[i] {
		return nil, errors.New("connection refused")
	}
	answer, err := n.answer(i, strings.Split(string(head), "\n"), note)
	if err == nil && i == 0 && n.lie != nil {
		answer, err = n.lie(note, answer)
	}
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {answer.kind}}
	if answer.retryAfter != "" {
		header.Set("Retry-After", answer.retryAfter)
	}
	return &http.Response{StatusCode: answer.status, Header: header, Body: io.NopCloser(strings.NewReader(answer.body))}, nil
}

// said is a witness's answer.
type said struct {
	status                 int
	kind, body, retryAfter string
}

func text(status int, kind, body string) said { return said{status: status, kind: kind, body: body} }

func (n *wire) answer(i int, lines []string, note *checkpoint.Note) (said, error) {
	c, last := note.Checkpoint(), n.last[i]
	n.see(c)
	if lines[0] != fmt.Sprint("old ", last.Size) {
		return text(http.StatusConflict, "text/x.tlog.size", fmt.Sprintln(last.Size)), nil
	}
	var path [][]byte
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return said{}, err
		}
		path = append(path, h)
	}
	if last.Size > 0 {
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, last.Size, c.Size, path, last.Root[:], c.Root[:]); err != nil {
			n.t.Errorf("from %d to %d: %v", last.Size, c.Size, err)
			return text(http.StatusUnprocessableEntity, "", ""), nil
		}
	}
	n.last[i] = c
	sig, err := n.keys[i].SignCheckpoint(note.Text(), uint64(time.Now().Unix()))
	if err != nil {
		return said{}, err
	}
	return text(http.StatusOK, "text/plain", sig.String()+"\n"), nil
}

// TestTwoOfThreeDown: with two of three operators down there is no FINAL, promises
// go on, and the log catches up by itself soon after the network has healed.
func TestTwoOfThreeDown(t *testing.T) {
	w := newWorld(t)
	newWire(t, w)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	before := w.seq.Checkpoint().Checkpoint().Size
	w.seq.c.Limits.FinalWait = 10 * time.Millisecond // from now on
	w.witness.setDown(true, true, false)
	// For so long that pauses have grown; each statement is another candidate.
	down := time.NewTimer(4 * time.Second)
	defer down.Stop()
	var last uint64
	for n := 0; ; n++ {
		a, err := w.seq.Add(t.Context(), w.newTrial(fmt.Sprint("D", n)))
		if err != nil || a.Receipt != nil || a.Promise == nil {
			t.Fatalf("answer %+v, %v; expected a promise", a, err)
		}
		last = a.Index
		select {
		case <-time.After(50 * time.Millisecond):
			continue
		case <-down.C:
		}
		break
	}
	if size := w.seq.Checkpoint().Checkpoint().Size; size != before {
		t.Errorf("size %d was published without a quorum", size)
	}
	w.witness.setDown(false, false, false)
	healed := time.NewTimer(15 * time.Second)
	defer healed.Stop()
	for {
		p, changed, refused := w.seq.watch()
		if refused != nil {
			t.Fatal(refused)
		}
		if p.covers(last) {
			return
		}
		select {
		case <-changed:
		case <-healed.C:
			t.Fatalf("15 s after healing size %d is published, and index %d promised", p.size(), last)
		}
	}
}

// TestLyingWitness: whatever one witness of three answers, the log goes on with the
// others, and nothing of the lie is published.
func TestLyingWitness(t *testing.T) {
	w := newWorld(t)
	net := newWire(t, w)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.enrol()
	liar := w.witness.keys[0]
	signs := func(k *checkpoint.SigningKey, change func(*checkpoint.Checkpoint), ahead time.Duration, times int) func(*checkpoint.Note, said) (said, error) {
		return func(note *checkpoint.Note, _ said) (said, error) {
			c := note.Checkpoint()
			if change != nil {
				change(&c)
			}
			sig, err := k.SignCheckpoint(c.Body(), uint64(time.Now().Add(ahead).Unix()))
			return text(http.StatusOK, "text/plain", strings.Repeat(sig.String()+"\n", times)), err
		}
	}
	says := func(status int, kind, body string) func(*checkpoint.Note, said) (said, error) {
		return func(*checkpoint.Note, said) (said, error) { return text(status, kind, body), nil }
	}
	for name, lie := range map[string]func(*checkpoint.Note, said) (said, error){
		"wrong key":                    signs(noteKey(t, 99, "x.test", checkpoint.AlgEd25519Cosignature), nil, 0, 1),
		"right name, other key":        signs(noteKey(t, 99, liar.Verifier().Name(), checkpoint.AlgEd25519Cosignature), nil, 0, 1),
		"signature for another origin": signs(liar, func(c *checkpoint.Checkpoint) { c.Origin = "log.test/trials/2" }, 0, 1),
		"time 0": func(note *checkpoint.Note, good said) (said, error) {
			sigs, err := checkpoint.ParseSignatureLines([]byte(good.body))
			if err != nil {
				return said{}, err
			}
			clear(sigs[0].Bytes[:8])
			return text(http.StatusOK, "text/plain", sigs[0].String()+"\n"), nil
		},
		"a day ahead":    signs(liar, nil, 24*time.Hour, 1),
		"stale size":     signs(liar, func(c *checkpoint.Checkpoint) { c.Size-- }, 0, 1),
		"other root":     signs(liar, func(c *checkpoint.Checkpoint) { c.Root[0] ^= 1 }, 0, 1),
		"10,000 lines":   signs(liar, nil, 0, 10000),
		"garbage":        says(http.StatusOK, "text/plain", "\x00garbage"),
		"409 with 2^63":  says(http.StatusConflict, "text/x.tlog.size", "9223372036854775808\n"),
		"409 of no type": says(http.StatusConflict, "", "1\n"),
		"too late": func(*checkpoint.Note, said) (said, error) {
			return said{}, errors.New("the answer came after the time-out")
		},
		"quarantine": func(*checkpoint.Note, said) (said, error) {
			return said{status: http.StatusServiceUnavailable, kind: "application/problem+json", body: "{}", retryAfter: "1"}, nil
		},
	} {
		net.mu.Lock()
		net.lie = lie
		net.mu.Unlock()
		a := w.openTrial("L-" + strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, name))
		v := w.check(a.Receipt, "")
		for _, by := range v.Inclusion.Witnesses {
			if strings.HasPrefix(by.Name, "w0") {
				t.Errorf("%s: the liar's line is in a receipt", name)
			}
		}
		if err := w.seq.Ready(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	net.mu.Lock()
	net.lie = nil
	net.mu.Unlock()
	w.witness.setDown(false, true, false) // now it is needed
	w.check(w.openTrial("L-honest").Receipt, "")
}
