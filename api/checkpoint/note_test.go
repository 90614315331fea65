package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A note in the shape of the specification's example.
const (
	sampleText = "log.example/2026\n5\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
	sampleLine = "— log.example/2026 AAECAwQFBgc=\n"
)

func TestParse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat(sampleLine, MaxSignatures)
	tests := map[string]struct {
		raw        string
		extensions []string
		signatures int
	}{
		"plain":                     {raw: sampleText + "\n" + sampleLine, signatures: 1},
		"extension lines":           {raw: sampleText + "ext 1\next 2\n\n" + sampleLine, extensions: []string{"ext 1", "ext 2"}, signatures: 1},
		"extension like signature":  {raw: sampleText + sampleLine + "\n" + sampleLine, extensions: []string{strings.TrimSpace(sampleLine)}, signatures: 1},
		"same line twice":           {raw: sampleText + "\n" + sampleLine + sampleLine, signatures: 2},
		"one hundred lines":         {raw: sampleText + "\n" + long, signatures: MaxSignatures},
		"one byte behind the id":    {raw: sampleText + "\n— k AAAAAAA=\n", signatures: 1},
		"name that is not ASCII":    {raw: sampleText + "\n— лог.example/☃ AAECAwQFBgc=\n", signatures: 1},
		"delete is not a control":   {raw: sampleText + "\n— a\x7fb AAECAwQFBgc=\n", signatures: 1},
		"origin with spaces, plus":  {raw: "a b+c" + sampleText[len(testOrigin):] + "\n" + sampleLine, signatures: 1},
		"size 0 with another root":  {raw: strings.Replace(sampleText, "\n5\n", "\n0\n", 1) + "\n" + sampleLine, signatures: 1},
		"greatest size":             {raw: strings.Replace(sampleText, "\n5\n", "\n18446744073709551615\n", 1) + "\n" + sampleLine, signatures: 1},
		"replacement character":     {raw: sampleText + "\ufffd\n\n" + sampleLine, extensions: []string{"\ufffd"}, signatures: 1},
		"name looks like a dash":    {raw: sampleText + "\n— — AAECAwQFBgc=\n", signatures: 1},
		"16 KiB of one signature":   {raw: sampleText + "\n— k " + strings.Repeat("AAAA", 4096) + "\n", signatures: 1},
		"C1 control is not refused": {raw: sampleText + "\u0080\n\n" + sampleLine, extensions: []string{"\u0080"}, signatures: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, err := Parse([]byte(tt.raw))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			if got := n.Extensions(); !slices.Equal(got, tt.extensions) {
				t.Errorf("extensions are %q, want %q", got, tt.extensions)
			}
			if got := len(n.Signatures()); got != tt.signatures {
				t.Errorf("%d signatures, want %d", got, tt.signatures)
			}
			if string(n.Bytes()) != tt.raw {
				t.Error("Bytes are not what was read")
			}
			if n.Digest() != sha256.Sum256([]byte(tt.raw)) {
				t.Error("Digest is not that of the bytes")
			}
			if text, _, _ := strings.Cut(tt.raw, "\n\n"); string(n.Text()) != text+"\n" {
				t.Errorf("text is %q", n.Text())
			}
		})
	}
}

func TestParseRejects(t *testing.T) {
	t.Parallel()
	note := func(text, signatures string) string { return text + "\n" + signatures }
	root := "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
	body := func(lines ...string) string { return note(strings.Join(lines, "\n")+"\n", sampleLine) }
	ok := note(sampleText, sampleLine)
	tests := map[string]struct{ raw, object, words string }{
		"nothing":                     {"", "note", "no empty line"},
		"text only":                   {sampleText, "note", "no empty line"},
		"no signature":                {sampleText + "\n", "note", "no signature line"},
		"no empty line":               {sampleText + sampleLine, "note", "no empty line"},
		"not UTF-8":                   {note("\xff"+sampleText, sampleLine), "note", "UTF-8"},
		"surrogate":                   {note("\xed\xa0\x80"+sampleText, sampleLine), "note", "UTF-8"},
		"overlong":                    {note("\xc0\xaf"+sampleText, sampleLine), "note", "UTF-8"},
		"not UTF-8 in signatures":     {ok + "— \xff AAECAwQFBgc=\n", "note", "UTF-8"},
		"CRLF":                        {strings.ReplaceAll(ok, "\n", "\r\n"), "note", "line 1: control character"},
		"CR in base64":                {note(sampleText, "— k AAEC\rAwQFBgc=\n"), "note", "line 5: control character"},
		"tab":                         {note(sampleText+"a\tb\n", sampleLine), "note", "line 4: control character"},
		"NUL":                         {ok + "\x00", "note", "line 6: control character"},
		"no final newline":            {strings.TrimSuffix(ok, "\n"), "note", "does not end"},
		"second final newline":        {ok + "\n", "note", "no signature line"},
		"trailing text":               {ok + "tail\n", "signature line", "line 6: does not start"},
		"trailing bytes":              {ok + "tail", "note", "does not end"},
		"space at end of line":        {note(sampleText, strings.TrimSuffix(sampleLine, "\n")+" \n"), "signature line", "line 5: signature is not canonical"},
		"hyphen for em dash":          {note(sampleText, "- k AAECAwQFBgc=\n"), "signature line", "em dash"},
		"en dash for em dash":         {note(sampleText, "– k AAECAwQFBgc=\n"), "signature line", "em dash"},
		"no-break space":              {note(sampleText, "—\u00a0k AAECAwQFBgc=\n"), "signature line", "em dash"},
		"two spaces behind the dash":  {note(sampleText, "—  k AAECAwQFBgc=\n"), "signature line", "key name"},
		"two spaces behind the name":  {note(sampleText, "— k  AAECAwQFBgc=\n"), "signature line", "canonical base64"},
		"indented":                    {note(sampleText, " — k AAECAwQFBgc=\n"), "signature line", "em dash"},
		"no name":                     {note(sampleText, "—  AAECAwQFBgc=\n"), "signature line", "key name"},
		"no signature bytes":          {note(sampleText, "— k\n"), "signature line", "no space"},
		"empty signature":             {note(sampleText, "— k \n"), "signature line", "no bytes"},
		"key id only":                 {note(sampleText, "— k AAECAw==\n"), "signature line", "no bytes"},
		"plus in name":                {note(sampleText, "— a+b AAECAwQFBgc=\n"), "signature line", "key name"},
		"ideographic space in name":   {note(sampleText, "— a\u3000b AAECAwQFBgc=\n"), "signature line", "key name"},
		"next line in name":           {note(sampleText, "— a\u0085b AAECAwQFBgc=\n"), "signature line", "key name"},
		"unpadded":                    {note(sampleText, "— k AAECAwQFBgc\n"), "signature line", "canonical base64"},
		"set unused bits":             {note(sampleText, "— k AAECAwQFBgd=\n"), "signature line", "canonical base64"},
		"URL alphabet":                {note(sampleText, "— k AAECAwQFBg__\n"), "signature line", "canonical base64"},
		"padding inside":              {note(sampleText, "— k AAECAw==BAUG\n"), "signature line", "canonical base64"},
		"second line bad":             {ok + "— k ?\n", "signature line", "line 6: signature"},
		"101 lines":                   {note(sampleText, strings.Repeat(sampleLine, MaxSignatures+1)), "note", "more than 100"},
		"two lines of text":           {body("log", "5"), "checkpoint", "fewer than three"},
		"no text":                     {"\n\n" + sampleLine, "checkpoint", "line 1: empty line"},
		"text starts with empty line": {body("", "log", "5", root), "checkpoint", "line 1: empty line"},
		"no origin":                   {body("", "5", root), "checkpoint", "line 1: empty line"},
		"empty line inside":           {body("log", "", "5", root), "checkpoint", "line 2: empty line"},
		"empty extension":             {body("log", "5", root, "", "x"), "checkpoint", "line 4: empty line"},
		"leading zero":                {body("log", "05", root), "checkpoint", "line 2: tree size"},
		"two zeros":                   {body("log", "00", root), "checkpoint", "line 2: tree size"},
		"plus sign":                   {body("log", "+5", root), "checkpoint", "line 2: tree size"},
		"minus sign":                  {body("log", "-5", root), "checkpoint", "line 2: tree size"},
		"hexadecimal":                 {body("log", "0x5", root), "checkpoint", "line 2: tree size"},
		"underscore":                  {body("log", "1_000", root), "checkpoint", "line 2: tree size"},
		"space behind size":           {body("log", "5 ", root), "checkpoint", "line 2: tree size"},
		"space before size":           {body("log", " 5", root), "checkpoint", "line 2: tree size"},
		"size is 2^64":                {body("log", "18446744073709551616", root), "checkpoint", "line 2: tree size"},
		"arabic digits":               {body("log", "٥", root), "checkpoint", "line 2: tree size"},
		"size and root swapped":       {body("log", root, "5"), "checkpoint", "line 2: tree size"},
		"root of 31 bytes":            {body("log", "5", base64.StdEncoding.EncodeToString(make([]byte, 31))), "checkpoint", "line 3: root hash is not 32"},
		"root of 33 bytes":            {body("log", "5", base64.StdEncoding.EncodeToString(make([]byte, 33))), "checkpoint", "line 3: root hash is not 32"},
		"root unpadded":               {body("log", "5", strings.TrimSuffix(root, "=")), "checkpoint", "line 3: root hash is not canonical"},
		"root with set unused bits":   {body("log", "5", strings.Replace(root, "q2I=", "q2J=", 1)), "checkpoint", "line 3: root hash is not canonical"},
		"root in hex":                 {body("log", "5", strings.Repeat("0a", 32)), "checkpoint", "line 3: root hash"},
		"root with space":             {body("log", "5", root+" "), "checkpoint", "line 3: root hash"},
	}
	if len(tests) < 55 {
		t.Fatalf("only %d rejects left", len(tests))
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tt.raw))
			wantFormatError(t, err, tt.object, tt.words)
		})
	}
	// The base that the rejects are changed from is itself good.
	if _, err := Parse([]byte(ok)); err != nil {
		t.Fatalf("Parse: %v", err)
	}
}

// TestNoteIsImmutable changes everything that goes in and comes out.
func TestNoteIsImmutable(t *testing.T) {
	t.Parallel()
	raw := []byte(sampleText + "ext\n\n" + sampleLine)
	want := bytes.Clone(raw)
	n, err := Parse(raw)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	clear(raw)
	clear(n.Bytes())
	clear(n.Text())
	clear(n.Extensions())
	clear(n.Signatures()[0].Bytes)
	n.Signatures()[0].Name = "other"
	_ = append(n.Text(), "xx"...)
	if !bytes.Equal(n.Bytes(), want) || n.Extensions()[0] != "ext" || n.Signatures()[0].String()+"\n" != sampleLine {
		t.Error("the note changed")
	}
}

func TestNewNoteAndWith(t *testing.T) {
	t.Parallel()
	a := Signature{Name: "a", KeyID: 1, Bytes: []byte{1}}
	b := Signature{Name: "b", KeyID: 0xfffefdfc, Bytes: []byte{2, 3}}
	a2 := Signature{Name: "a", KeyID: 1, Bytes: []byte{9}}
	n, err := NewNote([]byte(sampleText), a, a)
	if err != nil {
		t.Fatalf("NewNote: %v", err)
	}
	n2, err := n.With(b, a, a2)
	if err != nil {
		t.Fatalf("With: %v", err)
	}
	want := sampleText + "\n— a AAAAAQE=\n— b //79/AID\n— a AAAAAQk=\n"
	if string(n2.Bytes()) != want {
		t.Errorf("note is\n%s\nwant\n%s", n2.Bytes(), want)
	}
	if got := len(n.Signatures()); got != 1 {
		t.Errorf("With changed its receiver: %d signatures", got)
	}
	if got := n.Checkpoint(); string(got.Body()) != sampleText {
		t.Errorf("body is %q", got.Body())
	}
}

func TestNewNoteRejects(t *testing.T) {
	t.Parallel()
	good := Signature{Name: "a", KeyID: 1, Bytes: []byte{1}}
	many := make([]Signature, MaxSignatures+1)
	for i := range many {
		many[i] = Signature{Name: fmt.Sprint("k", i), Bytes: []byte{1}}
	}
	tests := map[string]struct {
		text       string
		signatures []Signature
	}{
		"no signature":            {sampleText, nil},
		"text without newline":    {strings.TrimSuffix(sampleText, "\n"), []Signature{good}},
		"text that is a note":     {sampleText + "\n" + sampleLine, []Signature{good}},
		"text with empty end":     {sampleText + "\n", []Signature{good}},
		"no text":                 {"", []Signature{good}},
		"text with a line of its": {sampleText + "\n" + strings.TrimSuffix(sampleLine, "\n"), []Signature{good}},
		"name with newline":       {sampleText, []Signature{{Name: "a AAAAAQE=\n— b", Bytes: []byte{1}}}},
		"name with space":         {sampleText, []Signature{{Name: "a b", Bytes: []byte{1}}}},
		"no name":                 {sampleText, []Signature{{Bytes: []byte{1}}}},
		"no bytes":                {sampleText, []Signature{{Name: "a"}}},
		"name not UTF-8":          {sampleText, []Signature{{Name: "\xff", Bytes: []byte{1}}}},
		"more than 100":           {sampleText, many},
		"good and bad signature":  {sampleText, []Signature{good, {Name: "a\x01", Bytes: []byte{1}}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, err := NewNote([]byte(tt.text), tt.signatures...)
			if _, ok := errors.AsType[*FormatError](err); !ok {
				t.Fatalf("NewNote: error %v, note %v; want a FormatError", err, n)
			}
		})
	}
}

func TestParseSignatureLines(t *testing.T) {
	t.Parallel()
	raw := sampleLine + "— b //79/AID\n"
	got, err := ParseSignatureLines([]byte(raw))
	if err != nil {
		t.Fatalf("ParseSignatureLines: %v", err)
	}
	if len(got) != 2 || got[1].Name != "b" || got[1].KeyID != 0xfffefdfc || !bytes.Equal(got[1].Bytes, []byte{2, 3}) {
		t.Errorf("signatures are %v", got)
	}
	for name, tt := range map[string]struct{ raw, object, words string }{
		"nothing":           {"", "note", "line 1: no signature"},
		"newline":           {"\n", "signature line", "line 1"},
		"no newline at end": {strings.TrimSuffix(raw, "\n"), "note", "newline"},
		"empty line":        {sampleLine + "\n" + sampleLine, "signature line", "line 2"},
		"whole note":        {sampleText + "\n" + sampleLine, "signature line", "line 1"},
		"CRLF":              {strings.ReplaceAll(raw, "\n", "\r\n"), "note", "control"},
		"not UTF-8":         {raw + "\xff\n", "note", "UTF-8"},
		"101 lines":         {strings.Repeat(sampleLine, 101), "note", "more than 100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseSignatureLines([]byte(tt.raw))
			wantFormatError(t, err, tt.object, tt.words)
		})
	}
}

func TestCheckRoot(t *testing.T) {
	t.Parallel()
	empty := Hash(sha256.Sum256(nil))
	for name, tt := range map[string]struct {
		c    Checkpoint
		want error
	}{
		"empty":                    {Checkpoint{Size: 0, Root: empty}, nil},
		"empty with another root":  {Checkpoint{Size: 0, Root: Hash{1}}, ErrEmptyRoot},
		"empty with zeros":         {Checkpoint{}, ErrEmptyRoot},
		"not empty":                {Checkpoint{Size: 1, Root: Hash{1}}, nil},
		"not empty, nothing's sum": {Checkpoint{Size: 1, Root: empty}, nil},
	} {
		if got := tt.c.CheckRoot(); !errors.Is(got, tt.want) || (tt.want == nil) != (got == nil) {
			t.Errorf("%s: CheckRoot is %v, want %v", name, got, tt.want)
		}
	}
}
