package witnessing

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trialog/trialog/api/checkpoint"
)

// liar is a witness that misbehaves in one way, and what the log makes of it.
type liar struct {
	name string
	lie  func(m *model, a asked) told
	want Outcome
	// honest keys: those whose line is good all the same, "c1" or "c2".
	good string
}

func now() uint64 { return uint64(time.Now().Unix()) }

// reply is a fixed answer.
func answer(ans told) func(*model, asked) told {
	return func(*model, asked) told { return ans }
}

func liars(t *testing.T) []liar {
	fork := newHistory(t, 20, 3, "x")
	text := func(a asked) []byte { return a.note.Text() }
	edit := func(f func(string) string) func(*model, asked) told {
		return func(m *model, a asked) told {
			ans := m.sign(text(a), now())
			ans.body = f(ans.body)
			return ans
		}
	}
	signsAt := func(d time.Duration) func(*model, asked) told {
		return func(m *model, a asked) told { return m.sign(text(a), uint64(time.Now().Add(d).Unix())) }
	}
	signs := func(f func(c checkpoint.Checkpoint) checkpoint.Checkpoint) func(*model, asked) told {
		return func(m *model, a asked) told { return m.sign(f(a.note.Checkpoint()).Body(), now()) }
	}
	return append(refusals(), []liar{
		{name: "wrong key", want: BadSignature, lie: func(m *model, a asked) told {
			return lines(t, text(a), now(), key(t, "x.example", checkpoint.AlgEd25519Cosignature, 70), key(t, "x.example", checkpoint.AlgMLDSA44, 71))
		}},
		{name: "right name, other key", want: BadSignature, lie: func(m *model, a asked) told {
			return lines(t, text(a), now(), key(t, m.name, checkpoint.AlgEd25519Cosignature, 70), key(t, m.name, checkpoint.AlgMLDSA44, 71))
		}},
		{name: "right name and id, other key's signature", want: BadSignature, lie: func(m *model, a asked) told {
			var b strings.Builder
			for i, alg := range []checkpoint.Algorithm{checkpoint.AlgEd25519Cosignature, checkpoint.AlgMLDSA44} {
				sig, err := key(t, m.name, alg, byte(70+i)).SignCheckpoint(text(a), now())
				if err != nil {
					t.Error(err)
				}
				sig.KeyID = m.keys[i].Verifier().ID()
				fmt.Fprintln(&b, sig)
			}
			return told{status: 200, body: b.String()}
		}},
		{name: "another witness's lines", want: BadSignature, lie: func(m *model, a asked) told { return newModel(t, "a").sign(text(a), now()) }},
		{name: "one key short", want: BadSignature, good: "c1", lie: edit(func(s string) string { return s[:strings.Index(s, "\n")+1] })},
		{name: "signature for another origin", want: BadSignature, lie: signs(func(c checkpoint.Checkpoint) checkpoint.Checkpoint {
			c.Origin = "log.example/other"
			return c
		})},
		{name: "stale size", want: BadSignature, lie: signs(func(checkpoint.Checkpoint) checkpoint.Checkpoint {
			return newHistory(t, 5, 5, "").note(5).Checkpoint()
		})},
		{name: "other root", want: BadSignature, lie: signs(func(c checkpoint.Checkpoint) checkpoint.Checkpoint {
			return fork.note(int64(c.Size)).Checkpoint()
		})},
		{name: "time 0", want: BadTime, lie: func(m *model, a asked) told {
			ans := lines(t, text(a), 0, m.keys[1])
			ans.body += lines(t, text(a), now()+9999, m.keys[0]).body
			return ans
		}},
		{name: "a day ahead", want: BadTime, lie: signsAt(24 * time.Hour)},
		{name: "a day behind", want: BadTime, lie: signsAt(-24 * time.Hour)},
		{name: "just too far ahead", want: BadTime, lie: signsAt(MaxSkew + time.Second)},
		{name: "just too far behind", want: BadTime, lie: signsAt(-MaxSkew - time.Second)},
		{name: "time of 2^63", want: BadSignature, lie: func(m *model, a asked) told {
			ans := m.sign(text(a), now())
			sigs, err := checkpoint.ParseSignatureLines([]byte(ans.body))
			if err != nil {
				t.Error(err)
			}
			ans.body = ""
			for _, s := range sigs {
				s.Bytes[0] |= 0x80
				ans.body += s.String() + "\n"
			}
			return ans
		}},
		{name: "10,000 lines", want: BadAnswer, lie: edit(func(s string) string { return strings.Repeat(s, 5000) })},
		{name: "10,000 short lines", want: BadAnswer, lie: edit(func(s string) string { return s + strings.Repeat("— x AAAAAAA=\n", 3000) })},
		{name: "good lines and one of garbage", want: BadAnswer, lie: edit(func(s string) string { return s + "garbage\n" })},
		{name: "last newline missing", want: BadAnswer, lie: edit(func(s string) string { return strings.TrimSuffix(s, "\n") })},
		{name: "the candidate itself", want: BadSignature, lie: func(_ *model, a asked) told {
			_, own, _ := strings.Cut(string(a.note.Bytes()), "\n\n")
			return told{status: 200, body: own}
		}},
	}...)
}

func refusals() []liar {
	sizes := func(f func(old uint64) uint64) func(*model, asked) told {
		return func(_ *model, a asked) told { return sizeIs(f(a.old)) }
	}
	conflict := func(kind, body string) func(*model, asked) told {
		return answer(told{status: 409, kind: kind, body: body})
	}
	return []liar{
		{name: "garbage", want: BadAnswer, lie: answer(told{status: 200, body: "\x00\xff garbage"})},
		{name: "empty 200", want: BadAnswer, lie: answer(told{status: 200})},
		{name: "endless garbage", want: BadAnswer, lie: answer(told{status: 200, body: strings.Repeat("x", 10<<20)})},
		{name: "409 with 2^63", want: Ahead, lie: sizes(func(uint64) uint64 { return 1 << 63 })},
		{name: "409 with one more", want: Ahead, lie: sizes(func(uint64) uint64 { return 11 })},
		{name: "409 with what was sent", want: Behind, lie: sizes(func(old uint64) uint64 { return old })},
		{name: "409 with ever another size", want: Behind, lie: sizes(func(old uint64) uint64 { return (old + 1) % 10 })},
		{name: "409 without type", want: OtherRoot, lie: conflict("", "3\n")},
		{name: "409 with another type", want: OtherRoot, lie: conflict("text/plain", "3\n")},
		{name: "409 with 2^64", want: BadAnswer, lie: conflict("text/x.tlog.size", "18446744073709551616\n")},
		{name: "409 with a leading zero", want: BadAnswer, lie: conflict("text/x.tlog.size", "03\n")},
		{name: "409 with a sign", want: BadAnswer, lie: conflict("text/x.tlog.size", "-3\n")},
		{name: "409 without newline", want: BadAnswer, lie: conflict("text/x.tlog.size", "3")},
		{name: "409 empty", want: BadAnswer, lie: conflict("text/x.tlog.size", "")},
		{name: "400", want: Refused, lie: answer(told{status: 400})},
		{name: "422", want: Refused, lie: answer(told{status: 422})},
		{name: "403", want: NotConfigured, lie: answer(told{status: 403})},
		{name: "404", want: NotConfigured, lie: answer(told{status: 404})},
		{name: "429", want: RateLimited, lie: answer(told{status: 429})},
		{name: "429 for ever", want: RateLimited, lie: answer(told{status: 429, header: http.Header{"Retry-After": {"18446744073709551615"}}})},
		{name: "500", want: Unavailable, lie: answer(told{status: 500})},
		{name: "503", want: Unavailable, lie: answer(told{status: 503})},
		{name: "503 in quarantine", want: Quarantined, lie: answer(told{status: 503, header: http.Header{"Retry-After": {"1"}}})},
		{name: "503 in quarantine for ever", want: Quarantined, lie: answer(told{
			status: 503, header: http.Header{"Retry-After": {"18446744073709551615"}},
		})},
		{name: "200 with another code", want: Unavailable, lie: answer(told{status: 204})},
		{name: "redirect", want: Unavailable, lie: answer(told{status: 307, header: http.Header{"Location": {"http://a.example/add-checkpoint"}}})},
		{name: "connection refused", want: Unreachable, lie: answer(told{err: errors.New("connection refused")})},
		{name: "answer after the time-out", want: NotAsked, lie: func(m *model, a asked) told {
			ans := m.sign(a.note.Text(), now())
			ans.after = 3 * time.Second
			return ans
		}},
		{name: "no answer at all", want: NotAsked, lie: answer(told{after: 1000 * time.Hour})},
	}
}

// TestLiars: with each kind of lying witness, two honest ones of three are
// enough and nothing of the lie gets into the checkpoint; if all three are
// needed there is no quorum, the reason is named, and the next round works when
// the witness has come to its senses.
func TestLiars(t *testing.T) {
	for _, l := range liars(t) {
		t.Run(l.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { l.outvoted(t) })
			synctest.Test(t, func(t *testing.T) { l.needed(t) })
		})
	}
}

func (l liar) outvoted(t *testing.T) {
	w := newWorld(t, 2)
	defer w.close()
	w.models["c"].setLie(l.lie)
	for _, size := range []int64{10, 12, 15} {
		n := w.mustCosign(size)
		for name := range strings.FieldsSeq(w.signers(n)) {
			if name[0] == 'c' && name != l.good {
				t.Errorf("size %d: the liar's line %s was taken", size, name)
			}
		}
	}
}

func (l liar) needed(t *testing.T) {
	w := newWorld(t, 3)
	defer w.close()
	w.models["c"].setLie(l.lie)
	_, err := w.cosign(10)
	none := (*NoQuorumError)(nil)
	if !errors.As(err, &none) {
		t.Fatalf("got %v, want a NoQuorumError", err)
	}
	for _, r := range none.Witnesses {
		want := Cosigned
		if r.Witness[0] == 'c' && r.Witness != l.good {
			want = l.want
		}
		if r.Outcome != want {
			t.Errorf("%s: %s (%v), want %s", r.Witness, r.Outcome, r.Err, want)
		}
		if want == Cosigned && (r.Size != 10 || r.Err != nil) {
			t.Errorf("%s: %+v", r.Witness, r)
		}
		if !strings.Contains(err.Error(), r.Witness+": "+string(r.Outcome)) {
			t.Errorf("the error does not say how %s stands: %v", r.Witness, err)
		}
	}
	// The liar heard of nothing but the text and the log's own signatures.
	for _, a := range w.models["c"].seen() {
		if got := len(a.note.Signatures()); got != 2 {
			t.Errorf("the request carries %d signatures, want the log's 2", got)
		}
	}
	w.models["c"].setLie(nil)
	var n *checkpoint.Note
	for end := time.Now().Add(maxRetryAfter + 30*time.Second); ; {
		if n, err = w.cosign(10); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the witness has come to its senses, but: ", err)
		}
	}
	if got := w.signers(n); got != "a1 a2 b1 b2 c1 c2" {
		t.Errorf("signed by %s", got)
	}
	if _, err := w.policy.Check(n); err != nil {
		t.Error(err)
	}
	// A pool that was told of the future is not moved by it.
	for _, s := range w.pool.held() {
		if s.size != 10 {
			t.Errorf("%v has size %d", s.witnesses, s.size)
		}
	}
}
