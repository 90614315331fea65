package parts_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/receipt/parts"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// sender takes receipts apart, as a log does.
type sender struct {
	assembler *parts.Assembler
	last      uint64
	numbers   map[string]uint64
}

func newSender(policy *verify.Policy) *sender {
	return &sender{assembler: parts.NewAssembler(policy), numbers: map[string]uint64{}}
}

// number sends a part unless it was sent.
func (s *sender) number(name string, add func(number uint64) error) (uint64, error) {
	if n := s.numbers[name]; n > 0 {
		return n, nil
	}
	if err := add(s.last + 1); err != nil {
		return 0, err
	}
	s.last++
	s.numbers[name] = s.last
	return s.last, nil
}

func (s *sender) proof(p *receipt.Proof) (parts.Proof, error) {
	note := string(p.Note.Bytes())
	n, err := s.number("checkpoint "+note, func(n uint64) error { return s.assembler.AddCheckpoint(n, note) })
	return parts.Proof{Checkpoint: n, Index: p.Index, Path: flat(p.Path)}, err
}

func flat(path [][32]byte) []byte {
	var raw []byte
	for _, h := range path {
		raw = append(raw, h[:]...)
	}
	return raw
}

// send takes a receipt apart. It returns the envelope and the answer.
func (s *sender) send(r *receipt.Receipt) (envelope []byte, f parts.Final, err error) {
	e, err := entry.Parse(r.Entry)
	if err != nil {
		return nil, f, err
	}
	p, err := s.proof(r.Proof)
	f = parts.Final{Proof: p, ReceivedMillis: e.Received.UnixMilli()}
	if len(r.Beacon) > 0 && err == nil {
		f.Beacon, err = s.number("beacon "+string(r.Beacon), func(n uint64) error { return s.assembler.AddBeacon(n, string(r.Beacon)) })
	}
	for _, en := range r.Enrolments {
		if err != nil {
			break
		}
		var at parts.Proof
		if at, err = s.proof(en.Proof); err != nil {
			break
		}
		var n uint64
		n, err = s.number("enrolment "+string(en.Proof.Encode()), func(n uint64) error { return s.assembler.AddEnrolment(n, en.Entry, at) })
		f.Enrolments = append(f.Enrolments, n)
	}
	return e.Envelope, f, err
}

// told is the entries of a story whose receipts verify.
func told(s *testlog.Story) []*testlog.Logged {
	return []*testlog.Logged{s.Trial, s.Protocol, s.SAP, s.TwoSigned, s.Consents.Logged, s.Plain, s.Delegated}
}

// TestAssembledIsWhole: the receipts of a whole story, taken apart and put
// together, are the same bytes, and verify.
func TestAssembledIsWhole(t *testing.T) {
	story := testlog.Tell()
	s := newSender(story.Policy().Remembering())
	for round := range 2 {
		for i, l := range told(story) {
			whole := story.Receipt(l, story.Final)
			want, err := whole.Encode()
			if err != nil {
				t.Fatal(err)
			}
			envelope, f, err := s.send(whole)
			if err != nil {
				t.Fatalf("round %d, receipt %d: %v", round, i, err)
			}
			got, in, err := s.assembler.Receipt(envelope, f)
			if err != nil {
				t.Fatalf("round %d, receipt %d: %v", round, i, err)
			}
			raw, err := got.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(raw, want) {
				t.Errorf("receipt %d differs", i)
			}
			if in.Index != l.Index || in.Leaf != entry.LeafHash(whole.Entry) || in.Size != story.Final.Checkpoint().Size || in.Origin != story.First.Origin {
				t.Errorf("receipt %d is included as %+v", i, in)
			}
			if _, err := verify.Verify(verify.Input{Receipt: raw, Policy: story.Policy(), StatementOnly: true, Now: testlog.Now()}); err != nil {
				t.Errorf("receipt %d: %v", i, err)
			}
		}
	}
	if s.last > 40 {
		t.Errorf("%d parts: what receipts have in common was sent again", s.last)
	}
}

// TestOtherEnvelope: a duplicate with other signatures comes with the entry that
// is in the log.
func TestOtherEnvelope(t *testing.T) {
	story := testlog.Tell()
	s := newSender(story.Policy())
	whole := story.Receipt(story.Protocol, story.Final)
	logged, f, err := s.send(whole)
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.ParseEnvelope(logged)
	if err != nil {
		t.Fatal(err)
	}
	sigs := append([]statement.Signature{}, env.Signatures...)
	sigs[0].KeyHint = "another hint"
	sent := statement.EncodeDSSE(statement.PayloadType, env.Payload, sigs)
	f.Entry, f.Duplicate = whole.Entry, true
	r, _, err := s.assembler.Receipt(sent, f)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := r.Encode()
	if want, _ := whole.Encode(); !bytes.Equal(got, want) {
		t.Error("the receipt differs")
	}
	for name, change := range map[string]func(f *parts.Final, sent *[]byte){
		"no duplicate":       func(f *parts.Final, _ *[]byte) { f.Duplicate = false },
		"other time":         func(f *parts.Final, _ *[]byte) { f.ReceivedMillis++ },
		"no entry":           func(f *parts.Final, _ *[]byte) { f.Entry = []byte("x") },
		"the same envelope":  func(_ *parts.Final, sent *[]byte) { *sent = logged },
		"another statement":  func(_ *parts.Final, sent *[]byte) { *sent = story.SAP.Envelope.Bytes() },
		"no envelope":        func(_ *parts.Final, sent *[]byte) { *sent = []byte("{}") },
		"no logged envelope": func(f *parts.Final, _ *[]byte) { f.Entry = append(bytes.Clone(f.Entry[:9]), '{', '}') },
	} {
		g, from := f, sent
		change(&g, &from)
		if _, _, err := s.assembler.Receipt(from, g); err == nil {
			t.Errorf("%s: assembled", name)
		}
	}
}

// TestCheckRejects: every way in which an answer can be wrong.
func TestCheckRejects(t *testing.T) {
	story := testlog.Tell()
	s := newSender(story.Policy().Remembering())
	envelope, good, err := s.send(story.Receipt(story.Protocol, story.Final))
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := s.send(story.Receipt(story.SAP, story.Final))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.assembler.Check(envelope, good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(f *parts.Final, envelope *[]byte){
		"leads to another root":             func(f *parts.Final, _ *[]byte) { f.Proof.Path = bytes.Clone(f.Proof.Path); f.Proof.Path[40] ^= 1 },
		"no path of 0 bytes":                func(f *parts.Final, _ *[]byte) { f.Proof.Path = nil },
		"no path of 33 bytes":               func(f *parts.Final, _ *[]byte) { f.Proof.Path = f.Proof.Path[:33] },
		"belongs to index 99999":            func(f *parts.Final, _ *[]byte) { f.Proof.Index = 99999 },
		"below 2^63":                        func(f *parts.Final, _ *[]byte) { f.Proof.Index = 1 << 63 },
		"at most 63 hashes":                 func(f *parts.Final, _ *[]byte) { f.Proof.Path = make([]byte, 64*32) },
		"to another root":                   func(f *parts.Final, _ *[]byte) { f.Proof = other.Proof },
		"part 0 is not one":                 func(f *parts.Final, _ *[]byte) { f.Proof.Checkpoint = 0 },
		"part 77 is not one of the newest":  func(f *parts.Final, _ *[]byte) { f.Proof.Checkpoint = 77 },
		"or no checkpoint":                  func(f *parts.Final, _ *[]byte) { f.Proof.Checkpoint = f.Beacon },
		"or no beacon":                      func(f *parts.Final, _ *[]byte) { f.Beacon = f.Proof.Checkpoint },
		"or no enrolment":                   func(f *parts.Final, _ *[]byte) { f.Enrolments = []uint64{f.Beacon} },
		"named twice":                       func(f *parts.Final, _ *[]byte) { f.Enrolments = append(f.Enrolments[:1:1], f.Enrolments[0]) },
		"33 enrolments":                     func(f *parts.Final, _ *[]byte) { f.Enrolments = make([]uint64, 33) },
		"receive time -1 ms":                func(f *parts.Final, _ *[]byte) { f.ReceivedMillis = -1 },
		"receive time 9223372036854775807":  func(f *parts.Final, _ *[]byte) { f.ReceivedMillis = 1<<63 - 1 },
		"another root":                      func(f *parts.Final, _ *[]byte) { f.ReceivedMillis++ },
		"an envelope of 0 bytes":            func(_ *parts.Final, e *[]byte) { *e = nil },
		"an envelope of 65527 bytes":        func(_ *parts.Final, e *[]byte) { *e = make([]byte, statement.MaxEnvelope+1) },
		"is not at index":                   func(_ *parts.Final, e *[]byte) { *e = append(bytes.Clone(*e), ' ') },
		"part 18446744073709551615 is not":  func(f *parts.Final, _ *[]byte) { f.Beacon = 1<<64 - 1 },
		"part 18446744073709551614 is not ": func(f *parts.Final, _ *[]byte) { f.Proof.Checkpoint = 1<<64 - 2 },
	} {
		f, e := good, envelope
		change(&f, &e)
		_, err := s.assembler.Check(e, f)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected %q, got %v", want, err)
		}
		if _, _, again := s.assembler.Receipt(e, f); again == nil || err == nil || again.Error() != err.Error() {
			t.Errorf("Receipt says %v, Check %v", again, err)
		}
	}
}

// TestPartRejects: a part that is wrong is not taken in, and its number stays
// free.
func TestPartRejects(t *testing.T) {
	story := testlog.Tell()
	a := parts.NewAssembler(story.Policy())
	note := string(story.Final.Bytes())
	alone := story.First.Note(story.Final.Checkpoint().Size) // no cosignature
	at := parts.Proof{Checkpoint: 1, Index: story.Admin.EnrolledAt}
	good := story.Enrolment(story.Admin, story.First, story.Final)
	at.Path = flat(good.Proof.Path)
	for name, err := range map[string]error{
		"number 0":         a.AddCheckpoint(0, note),
		"number 2":         a.AddCheckpoint(2, note),
		"no quorum":        a.AddCheckpoint(1, string(alone.Bytes())),
		"no note":          a.AddCheckpoint(1, "x"),
		"beacon, no note":  a.AddBeacon(1, "x"),
		"beacon alone":     a.AddBeacon(1, string(alone.Bytes())),
		"beacon 7":         a.AddBeacon(7, note),
		"enrolment 7":      a.AddEnrolment(7, good.Entry, at),
		"under no note":    a.AddEnrolment(1, good.Entry, at),
		"enrolment, empty": a.AddEnrolment(1, nil, at),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := a.AddCheckpoint(1, note); err != nil {
		t.Fatal(err)
	}
	var q *checkpoint.QuorumError
	if err := a.AddCheckpoint(2, string(alone.Bytes())); !errors.As(err, &q) {
		t.Errorf("no quorum: %v", err)
	}
	elsewhere := at
	elsewhere.Index++
	if err := a.AddEnrolment(2, good.Entry, elsewhere); err == nil {
		t.Error("an enrolment that is elsewhere was taken")
	}
	if err := a.AddEnrolment(2, good.Entry, at); err != nil {
		t.Error(err)
	}
}

// TestWindow: only the newest parts may be referred to, and the oldest of these
// is what it was.
func TestWindow(t *testing.T) {
	story := testlog.Tell()
	s := newSender(story.Policy().Remembering())
	whole := story.Receipt(story.Protocol, story.Final)
	envelope, f, err := s.send(whole)
	if err != nil {
		t.Fatal(err)
	}
	note := string(story.Final.Bytes())
	for s.last < parts.Window {
		s.last++
		if err := s.assembler.AddBeacon(s.last, note); err != nil {
			t.Fatal(err)
		}
	}
	r, _, err := s.assembler.Receipt(envelope, f)
	if err != nil {
		t.Fatalf("within the window: %v", err)
	}
	got, _ := r.Encode()
	if want, _ := whole.Encode(); !bytes.Equal(got, want) {
		t.Error("the receipt differs")
	}
	// The same note, in the place of the part that is forgotten for it.
	if err := s.assembler.AddCheckpoint(s.last+1, note); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.assembler.Receipt(envelope, f); err == nil {
		t.Error("a part that may be forgotten was used")
	}
}

// TestAgainstReference: paths lead where transparency-dev/merkle says, and
// nowhere else.
func TestAgainstReference(t *testing.T) {
	shard := testlog.NewShard(testlog.Log+"/9", testlog.Start)
	var raws [][]byte
	for n := range 70 {
		raw := testlog.Must(entry.Encode(testlog.Now(), fmt.Appendf(nil, "envelope %d", n)))
		shard.AddEntry(raw)
		raws = append(raws, raw)
	}
	for size := uint64(1); size <= 70; size++ {
		root := shard.Checkpoint(size).Root
		for index := range size {
			path := testlog.Must(statement.BatchPath(raws[:size], int(index)))
			leaf := entry.LeafHash(raws[index])
			var flat []byte
			for _, h := range path {
				flat = append(flat, h...)
			}
			if got, ok := parts.RootOf(leaf, index, size, flat); !ok || got != [32]byte(root) {
				t.Fatalf("index %d of %d: another root", index, size)
			}
			for _, at := range []struct{ index, size uint64 }{{index + 1, size}, {index, size + 1}, {index ^ 1, size}, {index, 2 * size}} {
				_, ok := parts.RootOf(leaf, at.index, at.size, flat)
				got, _ := parts.RootOf(leaf, at.index, at.size, flat)
				err := proof.VerifyInclusion(rfc6962.DefaultHasher, at.index, at.size, leaf[:], path, got[:])
				if ok != (err == nil) {
					t.Fatalf("index %d of %d with a path of %d: %v, the reference says %v", at.index, at.size, len(path), ok, err)
				}
			}
		}
	}
}

// FuzzAssembler: whatever is put together from parts that a liar changes, what
// comes out reads back, and its entry is where the reference says.
func FuzzAssembler(f *testing.F) {
	story := testlog.Tell()
	policy := story.Policy().Remembering()
	whole := story.Receipt(story.Protocol, story.Final)
	framed, err := entry.Parse(whole.Entry)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint64(0), int64(0), uint64(0), uint64(0), false)
	f.Add([]byte{1, 2, 3}, uint64(1), int64(1), uint64(2), uint64(3), true)
	f.Fuzz(func(t *testing.T, flip []byte, index uint64, later int64, beacon, enrolment uint64, again bool) {
		s := newSender(policy)
		envelope, good, err := s.send(whole)
		if err != nil {
			t.Fatal(err)
		}
		final := good
		final.Proof.Path = bytes.Clone(final.Proof.Path)
		for i, b := range flip {
			if i < len(final.Proof.Path) {
				final.Proof.Path[i] ^= b
			} else {
				final.Proof.Path = append(final.Proof.Path, b)
			}
		}
		final.Proof.Index += index
		final.ReceivedMillis += later
		final.Beacon += beacon
		if enrolment != 0 {
			final.Enrolments = append(slices.Clip(final.Enrolments), enrolment)
		}
		if again {
			final.Entry, final.Duplicate = whole.Entry, true
		}
		r, in, err := s.assembler.Receipt(envelope, final)
		if err != nil {
			return
		}
		raw, err := r.Encode()
		if err != nil {
			t.Fatalf("assembled what cannot be written: %v", err)
		}
		back, err := receipt.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if twice, _ := back.Encode(); !bytes.Equal(twice, raw) {
			t.Error("what was read is not what was written")
		}
		c := back.Proof.Note.Checkpoint()
		path := make([][]byte, len(back.Proof.Path))
		for i := range path {
			path[i] = back.Proof.Path[i][:]
		}
		leaf := entry.LeafHash(back.Entry)
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, back.Proof.Index, c.Size, leaf[:], path, c.Root[:]); err != nil || leaf != in.Leaf {
			t.Errorf("assembled what is not included: %v", err)
		}
		if e, err := entry.Parse(back.Entry); err != nil || !bytes.Equal(e.Envelope, framed.Envelope) {
			t.Errorf("assembled another envelope: %v", err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	story := testlog.Tell()
	s := newSender(story.Policy().Remembering())
	envelope, f, err := s.send(story.Receipt(story.Protocol, story.Final))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.assembler.Check(envelope, f); err != nil {
			b.Fatal(err)
		}
	}
}
