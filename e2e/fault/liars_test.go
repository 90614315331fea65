package fault

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/e2e/harness"
)

// liar tells lies in the name of a witness whose keys it has.
type liar struct {
	t    *testing.T
	keys []*checkpoint.SigningKey
}

// lie is how one add-checkpoint request is answered.
type lie func(w http.ResponseWriter, r *http.Request, a harness.Asked)

// lines are signature lines by the keys over a checkpoint.
func (l liar) lines(c checkpoint.Checkpoint, at time.Time, keys ...*checkpoint.SigningKey) []byte {
	var b bytes.Buffer
	for _, k := range keys {
		s, err := k.SignCheckpoint(c.Body(), uint64(at.Unix()))
		if err != nil {
			l.t.Error(err)
			continue
		}
		fmt.Fprintln(&b, s)
	}
	return b.Bytes()
}

// signs is a lie that signs another checkpoint than the one it was asked for, or
// at another time, with its own keys.
func (l liar) signs(change func(c *checkpoint.Checkpoint, at *time.Time)) lie {
	return func(w http.ResponseWriter, _ *http.Request, a harness.Asked) {
		c, at := a.Note.Checkpoint(), time.Now()
		change(&c, &at)
		_, _ = w.Write(l.lines(c, at, l.keys...)) // the log may be gone
	}
}

// signsWith is a lie that signs what it was asked for with keys of that name.
func (l liar) signsWith(name string) lie {
	var keys []*checkpoint.SigningKey
	for n, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519Cosignature, checkpoint.AlgMLDSA44} {
		seed := bytes.NewReader(bytes.Repeat([]byte{byte(100 + n)}, 32))
		k, err := checkpoint.GenerateKey(seed, name, alg)
		if err != nil {
			l.t.Fatal(err)
		}
		keys = append(keys, k)
	}
	return func(w http.ResponseWriter, _ *http.Request, a harness.Asked) {
		_, _ = w.Write(l.lines(a.Note.Checkpoint(), time.Now(), keys...))
	}
}

// says is a lie that is always the same.
func says(status int, contentType, body string) lie {
	return func(w http.ResponseWriter, _ *http.Request, _ harness.Asked) {
		w.Header()["Content-Type"] = nil // else one is guessed
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// untimed is a lie that signs with the time 0: with both keys what they can sign.
// Our own code does not make such a line with an Ed25519 key.
func (l liar) untimed() lie {
	return func(w http.ResponseWriter, _ *http.Request, a harness.Asked) {
		own, body := l.keys[0], a.Note.Checkpoint().Body()
		_, encoded, _ := strings.Cut(strings.TrimPrefix(own.Encode(), "PRIVATE+KEY+"), "+")
		_, encoded, _ = strings.Cut(encoded, "+")
		seed, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			l.t.Error(err)
			return
		}
		signature := ed25519.Sign(ed25519.NewKeyFromSeed(seed[1:]), append([]byte("cosignature/v1\ntime 0\n"), body...))
		line := checkpoint.Signature{
			Name: own.Verifier().Name(), KeyID: own.Verifier().ID(), Bytes: append(make([]byte, 8), signature...),
		}
		_, _ = fmt.Fprintf(w, "%s\n%s", line, l.lines(a.Note.Checkpoint(), time.Unix(0, 0), l.keys[1]))
	}
}

// late answers honestly when its round is long over: at the end of the lie, or,
// with TRIALOG_LONG, when the log's request has timed out, after 20 s.
func (l liar) late() lie {
	return func(w http.ResponseWriter, r *http.Request, a harness.Asked) {
		<-r.Context().Done()
		_, _ = w.Write(l.lines(a.Note.Checkpoint(), time.Now(), l.keys...))
	}
}

// lies are what a witness may do instead of its duty.
func (l liar) lies() []struct {
	name string
	tell lie
} {
	const conflict, sizeType = http.StatusConflict, "text/x.tlog.size"
	name := l.keys[0].Verifier().Name()
	return []struct {
		name string
		tell lie
	}{
		{"wrong key", l.signsWith("witness.example.org/other")},
		{"right name with other key", l.signsWith(name)},
		{"signature for another origin", l.signs(func(c *checkpoint.Checkpoint, _ *time.Time) { c.Origin += "/other" })},
		{"timestamp 0", l.untimed()},
		{"timestamp a day ahead", l.signs(func(_ *checkpoint.Checkpoint, at *time.Time) { *at = at.Add(24 * time.Hour) })},
		{"stale size", l.signs(func(c *checkpoint.Checkpoint, _ *time.Time) { c.Size-- })},
		{"other root", l.signs(func(c *checkpoint.Checkpoint, _ *time.Time) { c.Root[0] ^= 1 })},
		{"10,000 lines", says(http.StatusOK, "text/plain", strings.Repeat(
			"— "+name+" "+base64.StdEncoding.EncodeToString(make([]byte, 76))+"\n", 10_000))},
		{"200 with garbage", says(http.StatusOK, "text/plain", "\x00\xff garbage")},
		{"409 with size 2^63", says(conflict, sizeType, "9223372036854775808\n")},
		{"409 without type", says(conflict, "", "3\n")},
		{"answer after the time-out", l.late()},
	}
}

// TestLyingWitness has one of three witnesses lie in twelve ways while statements
// go through. Each becomes final by the two that are honest, nothing that the liar
// signed gets into a receipt, and when it has come to its senses it is heard
// again, by the same process of the log. 15 s.
func TestLyingWitness(t *testing.T) {
	l := harness.NewLog(t).With("--witnesses-elsewhere")
	l.Init()
	witnesses := l.RunWitnesses()
	third := witnesses[2]
	between := l.StandBetween(third.URL())
	l.Start()
	ld := startLoad(t, l, 2)
	liar := liar{t, third.Keys()}
	lies := liar.lies()
	const perLie = 10
	for _, c := range lies {
		t.Run(c.name, func(t *testing.T) {
			between.Lie(c.tell)
			from := between.AwaitLie().Note.Checkpoint().Size
			before := ld.count()
			ld.await(perLie)
			if c.name == "answer after the time-out" && long() {
				l.AwaitOutput("outcome=unreachable")
			}
			finals := 0
			for _, a := range ld.some(ld.count() - before) {
				if a.answer.State == "STATE_FINAL" && checkUnsignedBy(t, l, a, from, liar.keys) {
					finals++
				}
			}
			if finals == 0 {
				t.Error("no statement has become final")
			}
			if !l.Running() {
				t.Fatalf("the log has ended:\n%s", l.Output())
			}
			if s := l.Await(time.Minute, func(s harness.State) bool { return s.State == "ready" }); s.State != "ready" {
				t.Errorf("the log is not ready: %+v", s)
			}
			between.Lie(nil)
			n, err := l.Published(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			between.AwaitCosigned(n.Checkpoint().Size)
			t.Logf("%d statements have become final while it lied", finals)
		})
	}
	ld.end()
	ld.settle(l)
	ld.check(l)
}

// checkUnsignedBy verifies a receipt. One of a checkpoint of that size or a later
// one holds no line by any of the keys, and checkUnsignedBy returns true.
func checkUnsignedBy(t *testing.T, l *harness.Log, a ack, from uint64, keys []*checkpoint.SigningKey) bool {
	t.Helper()
	checkFinal(t, l.Policy(), a)
	r, err := receipt.Parse(a.answer.Receipt)
	if err != nil {
		t.Fatal(err)
	}
	if r.Proof.Note.Checkpoint().Size < from {
		return false // signed before the lie
	}
	for _, line := range r.Proof.Note.Signatures() {
		if line.Name == keys[0].Verifier().Name() {
			t.Errorf("the receipt of entry %d has a line of the liar: key %08x", a.answer.Index, line.KeyID)
		}
	}
	return true
}
