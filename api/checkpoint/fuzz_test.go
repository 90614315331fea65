package checkpoint

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// FuzzNote: what parses formats back to the same bytes, is put together again
// from its parts, and is a note to golang.org/x/mod as well.
func FuzzNote(f *testing.F) {
	n, keys := testNote(f)
	vkey := keys[0].Verifier().String()
	f.Add(n.Bytes())
	f.Add([]byte(sampleText + "\n" + sampleLine))
	f.Add([]byte(sampleText + "extension\n" + sampleLine + "\n" + sampleLine + sampleLine))
	f.Add([]byte("o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— é AAECAwQFBgc=\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		compareWithSumdb(t, raw, vkey)
		n, err := Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(n.Bytes(), raw) {
			t.Fatalf("%q formats as %q", raw, n.Bytes())
		}
		var out bytes.Buffer
		out.Write(n.Checkpoint().Body())
		for _, e := range n.Extensions() {
			fmt.Fprintln(&out, e)
		}
		if !bytes.Equal(out.Bytes(), n.Text()) {
			t.Fatalf("%q formats as %q", n.Text(), out.Bytes())
		}
		fmt.Fprintln(&out)
		for _, s := range n.Signatures() {
			fmt.Fprintln(&out, s)
		}
		if !bytes.Equal(out.Bytes(), raw) {
			t.Fatalf("%q formats as %q", raw, out.Bytes())
		}
		again, err := NewNote(n.Text(), n.Signatures()...)
		if err != nil {
			t.Fatalf("NewNote: %v", err)
		}
		// Lines that are there twice are put together once.
		if len(again.Bytes()) > len(raw) {
			t.Fatalf("%q grows to %q", raw, again.Bytes())
		}
		for _, k := range keys {
			for _, s := range n.Signatures() {
				if _, err := k.Verifier().VerifyCheckpoint(n, s); err == nil && n.Checkpoint() != testCheckpoint() {
					t.Fatalf("signature on what was never signed: %q", raw)
				}
			}
		}
	})
}

// FuzzSignatureLines: what parses formats back to the same bytes.
func FuzzSignatureLines(f *testing.F) {
	f.Add([]byte(sampleLine))
	f.Add([]byte(sampleLine + "— b //79/AID\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		signatures, err := ParseSignatureLines(raw)
		if err != nil {
			return
		}
		var out bytes.Buffer
		for _, s := range signatures {
			fmt.Fprintln(&out, s)
		}
		if !bytes.Equal(out.Bytes(), raw) {
			t.Fatalf("%q formats as %q", raw, out.Bytes())
		}
	})
}

// FuzzVerifierKey: what parses formats back to the same string.
func FuzzVerifierKey(f *testing.F) {
	for _, alg := range algorithms() {
		f.Add(testKey(f, "log.example/é", alg, "").Verifier().String())
	}
	f.Fuzz(func(t *testing.T, vkey string) {
		k, err := ParseVerifierKey(vkey)
		if err == nil && k.String() != vkey {
			t.Fatalf("%q formats as %q", vkey, k)
		}
	})
}

// FuzzSigningKey: what parses formats back to the same string.
func FuzzSigningKey(f *testing.F) {
	for _, alg := range algorithms() {
		f.Add(testKey(f, "log.example/é", alg, "").Encode())
	}
	f.Fuzz(func(t *testing.T, skey string) {
		k, err := ParseSigningKey(skey)
		if err == nil && k.Encode() != skey {
			t.Fatalf("%q formats as %q", skey, k.Encode())
		}
	})
}

// formatPolicy writes a policy from its parts, in one spelling.
func formatPolicy(p *Policy) string {
	var b strings.Builder
	line := func(words ...string) {
		b.WriteString(strings.TrimSuffix(strings.Join(words, " "), " ") + "\n")
	}
	for _, l := range p.Logs() {
		line("log", l.Key.String(), l.URL)
	}
	for _, w := range p.Witnesses() {
		line("witness", w.Name, w.Key.String(), w.URL)
	}
	for _, g := range p.Groups() {
		line("group", g.Name, strconv.Itoa(g.K), strings.Join(g.Members, " "))
	}
	line("quorum", p.QuorumName())
	return b.String()
}

// FuzzPolicy: what parses is kept byte for byte; written from its parts it
// reads as the same policy and is written the same again.
func FuzzPolicy(f *testing.F) {
	k := testPolicyKeys(f)
	f.Add([]byte("quorum none\n"))
	f.Add([]byte("# c\n log\t" + k.log + "\nlog " + k.logPQ + " https://x/\nwitness a " + k.a + "\nwitness b " + k.b + " x:y\ngroup g any a b\nquorum g\n"))
	f.Add([]byte("witness a " + k.a + "\nwitness b " + k.b + "\nwitness c " + k.c + "\ngroup g 2 a b\ngroup h all g c\nquorum h\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := ParsePolicy(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Bytes(), raw) {
			t.Fatalf("%q is kept as %q", raw, p.Bytes())
		}
		text := formatPolicy(p)
		again, err := ParsePolicy([]byte(text))
		if err != nil {
			t.Fatalf("%q, written as %q, does not read: %v", raw, text, err)
		}
		if formatPolicy(again) != text || !reflect.DeepEqual(p.Groups(), again.Groups()) || !reflect.DeepEqual(p.Operators(), again.Operators()) {
			t.Fatalf("%q, written as %q, reads as another policy", raw, text)
		}
		for _, verdict := range []bool{false, true} {
			all := func(string) bool { return verdict }
			if p.Quorum(all) != again.Quorum(all) || !verdict && p.QuorumName() != noQuorum && p.Quorum(all) || verdict && !p.Quorum(all) {
				t.Fatalf("%q: quorum is wrong for %v of all", raw, verdict)
			}
		}
	})
}
