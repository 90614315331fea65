package receipt_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	foreign "github.com/transparency-dev/formats/proof"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/receipt"
)

func TestProofRoundTrip(t *testing.T) {
	for name, p := range map[string]*receipt.Proof{
		"full":          newProof(t),
		"one leaf":      {Note: signedNote(t, 1)},
		"deepest":       {Index: 1<<63 - 1, Path: hashes(63), Note: signedNote(t, 1<<64-1)},
		"without extra": {Index: 1, Path: hashes(1), Note: signedNote(t, 2)},
		"empty extra":   {Extra: []byte{}, Note: signedNote(t, 1)},
	} {
		raw := p.Encode()
		got, err := receipt.ParseProof(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got.Encode(), raw) {
			t.Errorf("%s: Encode of what was parsed differs", name)
		}
		if !bytes.Equal(got.Extra, p.Extra) || got.Index != p.Index || len(got.Path) != len(p.Path) || !bytes.Equal(got.Note.Bytes(), p.Note.Bytes()) {
			t.Errorf("%s: ParseProof = %+v", name, got)
		}
		// The same file, read and written by another implementation.
		var theirs foreign.TLogProof
		if err := theirs.Unmarshal(raw); err != nil {
			t.Errorf("%s: transparency-dev/formats: %v", name, err)
		} else if !bytes.Equal(theirs.Marshal(), raw) || theirs.Index != p.Index || !bytes.Equal(theirs.Checkpoint, p.Note.Bytes()) {
			t.Errorf("%s: transparency-dev/formats reads %+v", name, theirs)
		}
	}
	want := "c2sp.org/tlog-proof@v1\nextra ZXh0cmEA\nindex 73894\n"
	if got := string(newProof(t).Encode()); !strings.HasPrefix(got, want) || !strings.Contains(got, "=\n\n"+origin+"\n109482\n") {
		t.Errorf("Encode = %s", got)
	}
}

func TestProofRejects(t *testing.T) {
	p := newProof(t)
	text := string(p.Encode())
	first, last := b64(p.Path[0][:])+"\n", b64(p.Path[2][:])+"\n"
	loose := first[:42] + string(first[42]+1) + "=\n"
	if _, err := base64.StdEncoding.DecodeString(strings.TrimSpace(loose)); err != nil {
		t.Fatal("the base64 with trailing bits must decode, or the test is void")
	}
	const hash = "expected the base64 of 32 bytes"
	for name, tt := range map[string]struct{ old, replacement, words string }{
		"other version":           {"@v1\n", "@v2\n", "first line"},
		"header with CR":          {"@v1\n", "@v1\r\n", "first line"},
		"line before the header":  {"c2sp", "\nc2sp", "first line"},
		"byte order mark":         {"c2sp", "\ufeffc2sp", "first line"},
		"no index":                {"index 73894\n", "", "a line \"index\""},
		"index before extra":      {"extra ZXh0cmEA\nindex 73894\n", "index 73894\nextra ZXh0cmEA\n", "line 1 of the path"},
		"extra twice":             {"extra ZXh0cmEA\n", "extra ZXh0cmEA\nextra ZXh0cmEA\n", "a line \"index\""},
		"extra without a value":   {"extra ZXh0cmEA\n", "extra\n", "a line \"index\""},
		"empty extra":             {"extra ZXh0cmEA\n", "extra \n", "line extra"},
		"extra without padding":   {"ZXh0cmEA", "ZXh0cmE", "line extra"},
		"extra with a space":      {"ZXh0cmEA", "ZXh0cmEA ", "line extra"},
		"extra with CR":           {"ZXh0cmEA\n", "ZXh0cmEA\r\n", "line extra"},
		"extra in capitals":       {"extra ", "Extra ", "a line \"index\""},
		"only extra":              {"index 73894\n" + first, "\n" + first, "a line with the index"},
		"index with a zero":       {"index 73894", "index 073894", "a line \"index\""},
		"index with a plus":       {"index 73894", "index +73894", "a line \"index\""},
		"index below 0":           {"index 73894", "index -1", "a line \"index\""},
		"index with two spaces":   {"index 73894", "index  73894", "a line \"index\""},
		"index with a tab":        {"index 73894", "index\t73894", "a line \"index\""},
		"index with a tail":       {"index 73894", "index 73894 ", "a line \"index\""},
		"index in hexadecimal":    {"index 73894", "index 0x10", "a line \"index\""},
		"index with underscore":   {"index 73894", "index 73_894", "a line \"index\""},
		"no number":               {"index 73894", "index ", "a line \"index\""},
		"index of 2^63":           {"index 73894", "index 9223372036854775808", "below 2^63"},
		"index of 2^64":           {"index 73894", "index 18446744073709551616", "below 2^63"},
		"hash of 31 bytes":        {first, b64(p.Path[0][:31]) + "\n", hash},
		"hash of 33 bytes":        {first, b64(append(p.Path[0][:], 0)) + "\n", hash},
		"hash without padding":    {first, strings.TrimRight(first, "=\n") + "\n", hash},
		"hash with trailing bits": {first, loose, hash},
		"hash URL-safe":           {first, "_" + first[1:], hash},
		"hash with CR":            {first, strings.TrimSuffix(first, "\n") + "\r\n", hash},
		"hash in hexadecimal":     {first, strings.Repeat("0", 64) + "\n", hash},
		"64 hashes":               {first, strings.Repeat(first, 62), "64 hashes, expected at most 63"},
		"no empty line":           {last + "\n", last, hash},
		"two empty lines":         {last + "\n", last + "\n\n", "tlog-proof:"},
		"space on the empty line": {last + "\n", last + " \n", hash},
		"no signatures":           {"\n\n— ", "\n— ", "tlog-proof:"},
		"note with CR":            {"\n109482\n", "\r\n109482\n", "tlog-proof:"},
		"note with size 0x":       {"\n109482\n", "\n0109482\n", "tlog-proof:"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := receipt.ParseProof([]byte(with(t, text, tt.old, tt.replacement)))
			if err == nil || !strings.Contains(err.Error(), tt.words) || p != nil {
				t.Errorf("got %v, error %v; want an error with %q", p, err, tt.words)
			}
		})
	}
	for name, bad := range map[string]string{
		"empty": "", "header only": "c2sp.org/tlog-proof@v1\n", "no note": text[:strings.Index(text, "\n\n")+2],
		"trailing line": text + "x\n", "trailing newline": text + "\n", "cut off": text[:len(text)-1],
		"no lines": "c2sp.org/tlog-proof@v1\n\n\n" + string(p.Note.Bytes()),
	} {
		if _, err := receipt.ParseProof([]byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "tlog-proof: ") {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
}

// FuzzParseProof holds that a proof has one encoding.
func FuzzParseProof(f *testing.F) {
	note := noteBy(f, 9, checkpoint.AlgEd25519)
	f.Add((&receipt.Proof{Extra: []byte("x"), Index: 5, Path: hashes(2), Note: note}).Encode())
	f.Add((&receipt.Proof{Note: note}).Encode())
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra \nindex 0\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := receipt.ParseProof(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Encode(), raw) {
			t.Fatalf("ParseProof accepts %q, Encode writes %q", raw, p.Encode())
		}
	})
}
