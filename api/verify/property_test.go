package verify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/trialog/trialog/api/internal/testlog"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
)

// TestFlippedBytes flips a bit of every byte of a receipt and of each other
// input, now the lowest, now the one that tells small letters from capitals. The verdict is then either a failure, or it
// establishes the same: the byte was in one of the places that prove nothing.
//
// These are, exactly: white space between JSON values; the proof's extra line;
// tokens; the keyring's keyid; the name, the key id and what follows in a cosignature line of a
// proof if the line then is that of an unknown key and the quorum holds without
// it. In the last case the verdict rests on fewer witnesses and its upper bound
// may be later, never earlier.
func TestFlippedBytes(t *testing.T) {
	s := tell(t)
	sealed := s.Consents.Items[2]
	r := s.Receipt(s.Consents.Logged, s.Final)
	r.Record = &receipt.Record{Data: s.Consents.Records[2], Index: 2}
	path, err := statement.BatchPath(s.Consents.Records, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range path {
		r.Record.Path = append(r.Record.Path, [32]byte(h))
	}
	r.Proof.Extra, r.Tokens = []byte("extra"), [][]byte{[]byte("token")}
	in := verify.Input{
		Receipt: encode(t, r), Policy: s.Policy(), Document: sealed.Document, Opening: sealed.Opening.Encode(),
		Keyring: storyKeyring(s), Now: testlog.Now(),
	}
	want, err := verify.Verify(in)
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	keyid := bytes.Index(in.Keyring, []byte(`"keyid"`))
	for _, part := range []struct {
		name string
		data *[]byte
		idle func(i int) bool
	}{
		{"receipt", &in.Receipt, idle(in.Receipt)},
		{"document", &in.Document, func(int) bool { return false }},
		{"opening", &in.Opening, func(i int) bool { return i == len(in.Opening)-1 }}, // its final newline
		{"keyring", &in.Keyring, func(i int) bool { return i >= keyid+len(`"keyid":"`) && i < keyid+len(`"keyid":"`)+64 }},
	} {
		t.Run(part.name, func(t *testing.T) {
			good := *part.data
			defer func() { *part.data = good }()
			same := 0
			for i := 0; i < len(good); i += step {
				bit := []byte{0x01, 0x20}[i%2]
				*part.data = flip(good, i, bit)
				got, err := verify.Verify(in)
				if err != nil {
					continue
				}
				same++
				if difference := establishes(got, want); difference != "" {
					t.Fatalf("byte %d ^ %#x of %q: %s", i, bit, around(good, i), difference)
				}
				if !part.idle(i) {
					t.Errorf("byte %d ^ %#x of %q makes no difference", i, bit, around(good, i))
				}
			}
			t.Logf("%d flips of %d bytes still verify", same, len(good))
		})
	}
}

func flip(data []byte, i int, bit byte) []byte {
	data = slices.Clone(data)
	data[i] ^= bit
	return data
}

func around(data []byte, i int) []byte { return data[max(0, i-20):min(len(data), i+20)] }

// establishes compares what two verdicts say, without what proves nothing: it
// is empty if got says the same as want, resting on perhaps fewer witnesses.
func establishes(got, want *verify.Verdict) string {
	if !got.Verified {
		return "not verified, and no error"
	}
	if got.NotAfter.Time.Before(want.NotAfter.Time) {
		return "the upper bound is earlier"
	}
	if got.Inclusion.OperatorsSeen > want.Inclusion.OperatorsSeen {
		return "more operators"
	}
	for _, w := range got.Inclusion.Witnesses {
		if !slices.Contains(want.Inclusion.Witnesses, w) {
			return "another witness: " + w.Name
		}
	}
	g, w := *got, *want
	gi, wi := *g.Inclusion, *w.Inclusion
	gi.Witnesses, gi.OperatorsSeen, wi.Witnesses, wi.OperatorsSeen = nil, 0, nil, 0
	g.Inclusion, w.Inclusion, g.NotAfter, w.NotAfter = &gi, &wi, nil, nil
	g.CosignedNotAfter, w.CosignedNotAfter = nil, nil
	// A token that cannot be read is listed with the reason.
	g.TimeStamps, w.TimeStamps = nil, nil
	a, errA := json.Marshal(g)
	b, errB := json.Marshal(w)
	if err := errors.Join(errA, errB); err != nil {
		return err.Error()
	}
	if !bytes.Equal(a, b) {
		return string(a) + "\nwant " + string(b)
	}
	return ""
}

// idle returns which bytes of a receipt prove nothing.
func idle(raw []byte) func(i int) bool {
	may := make([]bool, len(raw))
	mark := func(from, to int) {
		for i := from; i < to; i++ {
			may[i] = true
		}
	}
	inString := false
	for i, b := range raw {
		if b == '"' {
			inString = !inString
		}
		if !inString && (b == ' ' || b == '\n') {
			may[i] = true
		}
	}
	find := func(from int, mark string) int {
		at := bytes.Index(raw[from:], []byte(mark))
		if at < 0 {
			return len(raw)
		}
		return from + at
	}
	tokens := find(0, `"tokens"`)
	mark(tokens, find(tokens, "]"))
	extra := find(0, "extra ")
	mark(extra, find(extra, `\n`))
	// Cosignature lines, of the proofs only: the beacon is bound by its digest.
	const member = `"proof": "`
	for at := find(0, member); at < len(raw); at = find(at+1, member) {
		end := find(at+len(member), `"`)
		for line := find(at, "— witness."); line < end; line = find(line+1, "— witness.") {
			mark(line, find(line, `\n`))
		}
	}
	return func(i int) bool { return may[i] }
}

// storyKeyring is an auditor's snapshot of the keys that the consents rest on.
func storyKeyring(s *testlog.Story) []byte {
	return s.Keyring(&verify.Keyring{Log: testlog.Log, Origin: s.First.Origin, Size: s.First.Size(), Keys: []verify.KeyringKey{
		{Key: s.Site.Key.ID(), Organisation: "site-b", Origin: s.First.Origin, Enrolled: s.Site.EnrolledAt},
	}})
}

// TestFlippedPolicy flips every byte of a policy: it is refused, or it has
// another fingerprint, which every verdict shows.
func TestFlippedPolicy(t *testing.T) {
	s := tell(t)
	text, sidecar := s.PolicyText(), s.Sidecar().Encode()
	want := s.Policy().Fingerprint()
	parsed := 0
	for part := range 2 {
		for i := range [][]byte{text, sidecar}[part] {
			halves := [][]byte{text, sidecar}
			halves[part] = flip(halves[part], i, 1)
			p, err := verify.ParsePolicy(halves[0], halves[1])
			if err != nil {
				continue
			}
			parsed++
			if p.Fingerprint() == want {
				t.Fatalf("byte %d of half %d does not change the fingerprint", i, part)
			}
		}
	}
	if parsed == 0 {
		t.Error("no flipped policy parses: nothing was tested")
	}
	// The border between the halves is part of the fingerprint.
	moved, err := verify.ParsePolicy(append(slices.Clone(text), '\n'), sidecar)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := verify.ParsePolicy(text, append([]byte("\n"), sidecar...))
	if err != nil {
		t.Fatal(err)
	}
	if moved.Fingerprint() == behind.Fingerprint() {
		t.Error("a newline may move from one half to the other")
	}
}
