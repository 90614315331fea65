package checkpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// choices draws numbers from a fuzzer's bytes; 0 when they are used up.
type choices struct{ left []byte }

func (c *choices) pick(n int) int {
	if len(c.left) == 0 {
		return 0
	}
	b := int(c.left[0])
	c.left = c.left[1:]
	return b % n
}

// nestedPolicy writes a valid policy in which groups are up to four deep: each
// level takes names of the levels below, and the quorum is any name at all.
func nestedPolicy(c *choices, log string, vkeys []string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "log %s\n", log)
	var free, names []string
	for i, v := range vkeys {
		name := fmt.Sprint("w", i)
		fmt.Fprintf(&text, "witness %s %s\n", name, v)
		free, names = append(free, name), append(names, name)
	}
	for level := range 4 {
		var made []string
		for g := range 1 + c.pick(3) {
			if len(free) == 0 {
				break
			}
			n := 1 + c.pick(len(free))
			from := c.pick(len(free) - n + 1)
			members := slices.Clone(free[from : from+n])
			free = slices.Delete(free, from, from+n)
			k := []string{"all", "any", strconv.Itoa(1 + c.pick(n))}[c.pick(3)]
			name := fmt.Sprintf("g%d-%d", level, g)
			fmt.Fprintf(&text, "group %s %s %s\n", name, k, strings.Join(members, " "))
			made, names = append(made, name), append(names, name)
		}
		free = append(free, made...)
	}
	// From the end, so that no bytes at all still give the outermost group.
	names = append(names, noQuorum)
	slices.Reverse(names)
	fmt.Fprintf(&text, "quorum %s\n", names[c.pick(len(names))])
	return text.String()
}

// depth is how deep groups stand inside the name, by the text alone.
func depth(text, name string) int {
	deepest := 0
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); f[0] == "group" && f[1] == name {
			for _, m := range f[3:] {
				deepest = max(deepest, 1+depth(text, m))
			}
		}
	}
	return deepest
}

// compareQuorums holds a policy against the brute-force evaluator for every set
// of witnesses, and its operators against a second reading of the definition.
func compareQuorums(t *testing.T, text string) (met, missed int) {
	t.Helper()
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatalf("ParsePolicy: %v\n%s", err, text)
	}
	for set := range 1 << len(p.Witnesses()) {
		signed := make(map[string]bool)
		for i, w := range p.Witnesses() {
			signed[w.Name] = set>>i&1 == 1
		}
		want := bruteQuorum(text, p.QuorumName(), signed)
		if got := p.Quorum(func(w string) bool { return signed[w] }); got != want {
			t.Fatalf("quorum for %v is %v, want %v\n%s", signed, got, want, text)
		}
		if want {
			met++
		} else {
			missed++
		}
	}
	if got, want := p.Operators(), bruteOperators(text); !reflect.DeepEqual(got, want) {
		t.Fatalf("operators are %v, want %v\n%s", got, want, text)
	}
	return met, missed
}

// bruteOperators reads the definition of an operator off the text: a group all
// of whose members are witnesses, or a witness in no such group.
func bruteOperators(text string) []Operator {
	witness := map[string]bool{}
	in := map[string]string{}
	var order []string
	for line := range strings.Lines(text) {
		switch f := strings.Fields(line); f[0] {
		case "witness":
			witness[f[1]] = true
			order = append(order, f[1])
		case "group":
			plain := true
			for _, m := range f[3:] {
				plain = plain && witness[m]
			}
			for _, m := range f[3:] {
				if plain {
					in[m] = f[1]
				}
			}
		}
	}
	var out []Operator
	for _, w := range order {
		name := w
		if g, ok := in[w]; ok {
			name = g
		}
		i := slices.IndexFunc(out, func(o Operator) bool { return o.Name == name && in[w] != "" })
		if i < 0 {
			i, out = len(out), append(out, Operator{Name: name})
		}
		out[i].Witnesses = append(out[i].Witnesses, w)
	}
	return out
}

func witnessKeys(tb testing.TB, n int) (log string, vkeys []string) {
	tb.Helper()
	for i := range n {
		vkeys = append(vkeys, testKey(tb, fmt.Sprint("w", i), AlgEd25519Cosignature, "").Verifier().String())
	}
	return testKey(tb, testOrigin, AlgEd25519, "").Verifier().String(), vkeys
}

func TestNestedQuorums(t *testing.T) {
	t.Parallel()
	log, vkeys := witnessKeys(t, 7)
	r := rand.New(rand.NewPCG(11, 12))
	met, missed, deep := 0, 0, 0
	for range 300 {
		draw := make([]byte, 60)
		for i := range draw {
			draw[i] = byte(r.Uint32())
		}
		text := nestedPolicy(&choices{draw}, log, vkeys)
		yes, no := compareQuorums(t, text)
		met, missed = met+yes, missed+no
		if q := strings.Fields(text[strings.LastIndex(text, "quorum"):]); depth(text, q[1]) == 4 {
			deep++
		}
	}
	if met < 3000 || missed < 3000 || deep < 10 {
		t.Errorf("%d met, %d not, %d policies four deep: too one-sided to test anything", met, missed, deep)
	}
}

// FuzzQuorum: whatever the nesting, a policy judges as the brute-force
// evaluator does.
func FuzzQuorum(f *testing.F) {
	log, vkeys := witnessKeys(f, 6)
	f.Add([]byte{})
	f.Add([]byte{3, 1, 0, 2, 0, 1, 0, 1, 2, 0, 0, 1, 2, 1, 0, 2, 1, 1, 1})
	f.Fuzz(func(t *testing.T, draw []byte) { compareQuorums(t, nestedPolicy(&choices{draw}, log, vkeys)) })
}

// TestAuthorityAndSome: an authority must be among those who saw it, and some
// of the others. What the policy says of operators depends on how it is
// written.
func TestAuthorityAndSome(t *testing.T) {
	t.Parallel()
	_, vkeys := witnessKeys(t, 5)
	var lines []string
	for i, name := range []string{"R1", "R2", "A", "H", "I"} {
		lines = append(lines, "witness "+name+" "+vkeys[i])
	}
	flat := mustPolicy(t, slices.Concat(lines, []string{
		"group regulators 1 R1 R2", "group independents 2 A H I", "group both all regulators independents", "quorum both",
	})...)
	nested := mustPolicy(t, slices.Concat(lines, []string{
		"group r1 any R1", "group r2 any R2", "group a any A", "group h any H", "group i any I",
		"group regulators 1 r1 r2", "group independents 2 a h i", "group both all regulators independents", "quorum both",
	})...)
	for _, c := range []struct {
		signed string
		want   bool
	}{
		{"R1 A H", true},
		{"R2 H I", true},
		{"R1 R2 A H I", true},
		{"R1 R2 A", false},
		{"R1 R2", false},
		{"A H I", false},
		{"R1", false},
		{"", false},
	} {
		by := func(w string) bool { return slices.Contains(strings.Fields(c.signed), w) }
		if flat.Quorum(by) != c.want || nested.Quorum(by) != c.want {
			t.Errorf("%q: %v and %v, want %v", c.signed, flat.Quorum(by), nested.Quorum(by), c.want)
		}
	}
	// Witnesses put directly into one group are one operator, which says less
	// than is true if they are not: never more.
	want := []Operator{{"regulators", []string{"R1", "R2"}}, {"independents", []string{"A", "H", "I"}}}
	if got := flat.Operators(); !reflect.DeepEqual(got, want) {
		t.Errorf("flat: %v", got)
	}
	want = []Operator{{"r1", []string{"R1"}}, {"r2", []string{"R2"}}, {"a", []string{"A"}}, {"h", []string{"H"}}, {"i", []string{"I"}}}
	if got := nested.Operators(); !reflect.DeepEqual(got, want) {
		t.Errorf("nested: %v", got)
	}
	n := testSigned(t)
	_, err := mustPolicy(t, append([]string{"log " + testKey(t, testOrigin, AlgEd25519, "").Verifier().String()},
		strings.Split(strings.TrimSuffix(string(nested.Bytes()), "\n"), "\n")...)...).Check(n)
	var quorum *QuorumError
	if !errors.As(err, &quorum) || quorum.Quorum != "all of (any of (all of (R1), all of (R2)), 2 of (all of (A), all of (H), all of (I)))" {
		t.Errorf("error %v", err)
	}
}

// testSigned is a note that the log alone signed.
func testSigned(tb testing.TB) *Note {
	tb.Helper()
	n, _ := testNote(tb)
	return n
}

// bruteValid judges a policy's text by a second reading of the specification,
// line by line. Only single keys are read by the code under test.
func bruteValid(text string) bool {
	if !strings.HasSuffix(text, "\n") {
		return false
	}
	defined, used, quorum := map[string]bool{}, map[string]bool{}, 0
	publicKeys := map[string]bool{}
	newKey := func(vkey, types string) bool {
		if _, err := ParseVerifierKey(vkey); err != nil {
			return false
		}
		// A name has no plus sign, base64 may have.
		raw, err := base64.StdEncoding.DecodeString(strings.SplitN(vkey, "+", 3)[2])
		if err != nil {
			return false
		}
		public := string(raw[1:])
		ok := strings.Contains(types, fmt.Sprintf("%02x", raw[0])) && !publicKeys[public]
		publicKeys[public] = true
		return ok
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }) {
			return false
		}
		f := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		ok := false
		switch {
		case f[0] == "log" && (len(f) == 2 || len(f) == 3):
			ok = newKey(f[1], "01 06") && (len(f) == 2 || bruteURL(f[2]))
		case f[0] == "witness" && (len(f) == 3 || len(f) == 4):
			ok = newKey(f[2], "04 06") && (len(f) == 3 || bruteURL(f[3])) && !defined[f[1]] && f[1] != "none"
			defined[f[1]] = true
		case f[0] == "group" && len(f) > 3:
			n := len(f) - 3
			k, err := strconv.Atoi(f[2])
			ok = f[2] == "all" || f[2] == "any" || err == nil && strconv.Itoa(k) == f[2] && k >= 1 && k <= n
			ok = ok && !defined[f[1]] && f[1] != "none"
			for _, m := range f[3:] {
				ok = ok && defined[m] && !used[m]
				used[m] = true
			}
			defined[f[1]] = true
		case f[0] == "quorum" && len(f) == 2:
			ok = f[1] == "none" || defined[f[1]]
			quorum++
		}
		if !ok {
			return false
		}
	}
	return quorum == 1
}

func bruteURL(s string) bool {
	at := strings.Index(s, ":")
	if at < 1 || at == len(s)-1 {
		return false
	}
	for i, c := range s[:at] {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", c)) {
			return false
		}
	}
	return true
}

// mutatePolicy changes a policy by lines and words, in ways that mostly keep
// its lines readable.
func mutatePolicy(r *rand.Rand, text string) string {
	lines := strings.SplitAfter(text, "\n")
	lines = lines[:len(lines)-1]
	for range 1 + r.IntN(2) {
		if len(lines) == 0 {
			break
		}
		i, j := r.IntN(len(lines)), r.IntN(len(lines))
		f, g := strings.Fields(lines[i]), strings.Fields(lines[j])
		switch r.IntN(9) {
		case 0: // swap two lines
			lines[i], lines[j] = lines[j], lines[i]
		case 1: // repeat one
			lines = slices.Insert(lines, j, lines[i])
		case 2: // leave one out
			lines = slices.Delete(lines, i, i+1)
		case 3: // a word of another line
			if len(f) > 0 && len(g) > 0 {
				f[r.IntN(len(f))] = g[r.IntN(len(g))]
				lines[i] = strings.Join(f, " ") + "\n"
			}
		case 4: // a word twice
			if len(f) > 0 {
				at := r.IntN(len(f))
				lines[i] = strings.Join(slices.Insert(f, at, f[at]), "\t") + "\n"
			}
		case 5: // a word less
			if len(f) > 0 {
				at := r.IntN(len(f))
				lines[i] = strings.Join(slices.Delete(f, at, at+1), "  ") + "\n"
			}
		case 6: // a threshold
			if len(f) > 2 && f[0] == "group" {
				f[2] = []string{"0", "1", "2", "3", "01", "all", "any", "+1", "none"}[r.IntN(9)]
				lines[i] = strings.Join(f, " ") + "\n"
			}
		case 7: // a URL, or what is none
			lines[i] = strings.TrimSuffix(lines[i], "\n") + []string{" https://x/", " #x", " x:", " :x", " a+b:c"}[r.IntN(5)] + "\n"
		case 8: // white space, a comment, a character
			lines[i] = []string{" ", "\t", "#", "\r", "\x7f", "\n", "# "}[r.IntN(7)] + lines[i]
		}
	}
	return strings.Join(lines, "")
}

// TestPoliciesAgainstBruteForce: the parser accepts what the second reading of
// the specification accepts, and nothing else.
func TestPoliciesAgainstBruteForce(t *testing.T) {
	t.Parallel()
	log, vkeys := witnessKeys(t, 4)
	twin := testKey(t, "w0", AlgEd25519Cosignature, "").Verifier()
	// The key of w0 under another name and as a log's.
	for name, alg := range map[string]Algorithm{"other": AlgEd25519Cosignature, testOrigin: AlgEd25519} {
		raw := append([]byte{byte(alg)}, twin.PublicKey()...)
		vkeys = append(vkeys, name+"+"+formatID(keyID(name, alg, twin.PublicKey()))+"+"+base64.StdEncoding.EncodeToString(raw))
	}
	r := rand.New(rand.NewPCG(13, 14))
	accepted, refused := 0, 0
	for range 6000 {
		draw := make([]byte, 40)
		for i := range draw {
			draw[i] = byte(r.Uint32())
		}
		text := nestedPolicy(&choices{draw}, log, vkeys[:4])
		if r.IntN(3) == 0 {
			text = strings.Replace(text, vkeys[r.IntN(4)], vkeys[r.IntN(len(vkeys))], 1)
		}
		text = mutatePolicy(r, text)
		_, err := ParsePolicy([]byte(text))
		if want := bruteValid(text); want != (err == nil) {
			t.Fatalf("ParsePolicy: %v, the second reading says %v\n%s", err, want, text)
		}
		if err == nil {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 500 || refused < 500 {
		t.Errorf("%d accepted, %d refused: the mutations are too one-sided", accepted, refused)
	}
}

// TestCheckAgainstSumdb: with several keys known, the same ones are found to
// have signed as golang.org/x/mod finds, and the same notes are refused. A key's
// further lines, which sumdb skips, are the one difference.
func TestCheckAgainstSumdb(t *testing.T) {
	t.Parallel()
	var keys []*SigningKey
	var lines []string
	var verifiers []note.Verifier
	for i := range 3 {
		k := testKey(t, testOrigin, AlgEd25519, strconv.Itoa(i))
		v, err := note.NewVerifier(k.Verifier().String())
		if err != nil {
			t.Fatal(err)
		}
		keys, verifiers, lines = append(keys, k), append(verifiers, v), append(lines, "log "+k.Verifier().String())
	}
	p := mustPolicy(t, append(lines, "quorum none")...)
	stranger := testKey(t, testOrigin, AlgEd25519, "stranger")
	n, err := SignLog(testCheckpoint(), 0, keys[0], keys[1], stranger)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(15, 16))
	var verified, unverified, wrong int
	for range 3000 {
		raw := mutate(r, n.Bytes())
		parsed, err := Parse(raw)
		if err != nil {
			continue // TestNotesAgainstSumdb compares these
		}
		cosigned, err := p.Check(parsed)
		opened, theirs := note.Open(raw, note.VerifierList(verifiers...))
		var signature *SignatureError
		var origin *OriginError
		var nobody *note.UnverifiedNoteError
		var invalid *note.InvalidSignatureError
		switch {
		case errors.As(theirs, &invalid):
			wrong++
			if !errors.As(err, &signature) {
				t.Fatalf("sumdb: %v, this package: %v\n%s", theirs, err, raw)
			}
		case errors.As(theirs, &nobody):
			unverified++
			if !errors.As(err, &origin) && !errors.Is(err, ErrEmptyRoot) {
				t.Fatalf("sumdb: %v, this package: %v\n%s", theirs, err, raw)
			}
		case errors.As(err, &signature) && repeats(parsed):
		case theirs != nil || err != nil:
			t.Fatalf("sumdb: %v, this package: %v\n%s", theirs, err, raw)
		default:
			verified++
			var got, want []uint32
			for _, k := range cosigned.LogKeys {
				got = append(got, k.ID())
			}
			for _, s := range opened.Sigs {
				want = append(want, s.Hash)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("sumdb finds the keys %08x, this package %08x\n%s", want, got, raw)
			}
		}
	}
	if verified < 50 || unverified < 5 || wrong < 50 {
		t.Errorf("%d verified, %d by nobody, %d wrong: the mutations are too one-sided", verified, unverified, wrong)
	}
}

// repeats tells whether a key has several lines in a note.
func repeats(n *Note) bool {
	seen := map[keyName]bool{}
	for _, s := range n.Signatures() {
		k := keyName{s.Name, s.KeyID}
		if seen[k] {
			return true
		}
		seen[k] = true
	}
	return false
}
