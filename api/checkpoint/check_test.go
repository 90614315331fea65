package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// threeOperators is a policy in the shape that the product uses: the log's two
// keys, three operators of two keys each, two of the three wanted.
func threeOperators(tb testing.TB) (*Policy, map[string]*SigningKey) {
	keys := make(map[string]*SigningKey)
	_, logKeys := testNote(tb)
	lines := []string{fmt.Sprintf("log %v", logKeys[0]), fmt.Sprintf("log %v", logKeys[1])}
	for _, o := range []string{"A", "B", "C"} {
		ed, pq := testKey(tb, "wit.example/"+o, AlgEd25519Cosignature, ""), testKey(tb, "wit.example/"+o, AlgMLDSA44, "")
		keys[o+"-ed"], keys[o+"-pq"] = ed, pq
		lines = append(lines, fmt.Sprintf("witness %s-ed %v", o, ed), fmt.Sprintf("witness %s-pq %v", o, pq), fmt.Sprintf("group %s any %s-ed %s-pq", o, o, o))
	}
	return mustPolicy(tb, append(lines, "group most 2 A B C", "quorum most")...), keys
}

func TestCheck(t *testing.T) {
	t.Parallel()
	p, keys := threeOperators(t)
	n, logKeys := testNote(t)
	n = cosign(t, n, keys["B-pq"], 200)
	n = cosign(t, n, testKey(t, "unknown", AlgMLDSA44, ""), 1)
	n = cosign(t, n, keys["A-ed"], 100)
	n = cosign(t, n, keys["A-pq"], 101)
	c, err := p.Check(n)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	if c.Checkpoint != testCheckpoint() {
		t.Errorf("checkpoint is %v", c.Checkpoint)
	}
	if len(c.LogKeys) != 2 || c.LogKeys[0].String() != logKeys[0].Verifier().String() || c.LogKeys[1].String() != logKeys[1].Verifier().String() {
		t.Errorf("log keys are %v", c.LogKeys)
	}
	var got []string
	for _, w := range c.Witnesses {
		got = append(got, fmt.Sprintf("%s %d %s %d", w.Witness, w.Time, w.Key.Name(), w.Key.Algorithm()))
	}
	want := []string{"B-pq 200 wit.example/B 6", "A-ed 100 wit.example/A 4", "A-pq 101 wit.example/A 6"}
	if !slices.Equal(got, want) {
		t.Errorf("witnesses are %q, want %q", got, want)
	}
	wantOperators := []Operator{{"A", []string{"A-ed", "A-pq"}}, {"B", []string{"B-pq"}}}
	if got := c.Operators(); !reflect.DeepEqual(got, wantOperators) {
		t.Errorf("operators are %v", got)
	}
}

// TestCheckCountsOperators: keys of one operator do not make up for another's.
func TestCheckCountsOperators(t *testing.T) {
	t.Parallel()
	p, keys := threeOperators(t)
	base, _ := testNote(t)
	for _, tt := range []struct {
		by []string
		ok bool
	}{
		{nil, false},
		{[]string{"A-ed"}, false},
		{[]string{"A-ed", "A-pq"}, false},
		{[]string{"C-pq", "C-ed"}, false},
		{[]string{"A-ed", "B-ed"}, true},
		{[]string{"A-pq", "C-ed"}, true},
		{[]string{"A-ed", "B-ed", "C-pq"}, true},
	} {
		n := base
		for _, w := range tt.by {
			n = cosign(t, n, keys[w], testTime)
		}
		_, err := p.Check(n)
		var q *QuorumError
		if tt.ok && err != nil || !tt.ok && !errors.As(err, &q) {
			t.Errorf("signed by %v: %v", tt.by, err)
		}
	}
}

func TestCheckQuorumError(t *testing.T) {
	t.Parallel()
	p, keys := threeOperators(t)
	n, _ := testNote(t)
	n = cosign(t, cosign(t, n, keys["B-ed"], 7), keys["B-pq"], 9)
	_, err := p.Check(n)
	var q *QuorumError
	if !errors.As(err, &q) {
		t.Fatalf("Check: %v", err)
	}
	if q.Note != n || len(q.Signed) != 2 || q.Signed[1].Witness != "B-pq" || q.Signed[1].Time != 9 {
		t.Errorf("evidence is %+v", q)
	}
	if want := []string{"A-ed", "A-pq", "C-ed", "C-pq"}; !slices.Equal(q.Missing, want) {
		t.Errorf("missing are %q, want %q", q.Missing, want)
	}
	want := "checking note: quorum not met: want 2 of (any of (A-ed, A-pq), any of (B-ed, B-pq), any of (C-ed, C-pq)), signed by B-ed at 7, B-pq at 9"
	if err.Error() != want {
		t.Errorf("error is\n%s, want\n%s", err, want)
	}
	// A witness that no quorum depends on is not missing. The quorum may be a
	// name inside a group.
	k := testPolicyKeys(t)
	p = mustPolicy(t, "log "+k.log, "witness a "+k.a, "witness b "+k.b, "witness c "+k.c, "group g all a b", "quorum g")
	n, _ = testNote(t)
	if _, err = p.Check(n); !errors.As(err, &q) || !slices.Equal(q.Missing, []string{"a", "b"}) {
		t.Errorf("error is %v", err)
	}
	if !strings.HasSuffix(err.Error(), "want all of (a, b), signed by nobody") {
		t.Errorf("error is %v", err)
	}
	p = mustPolicy(t, "log "+k.log, "witness a "+k.a, "witness b "+k.b, "group g all a b", "quorum b")
	if _, err = p.Check(n); !errors.As(err, &q) || !slices.Equal(q.Missing, []string{"b"}) {
		t.Errorf("error is %v", err)
	}
}

func TestCheckLog(t *testing.T) {
	t.Parallel()
	k := testPolicyKeys(t)
	ed, pq := testKey(t, testOrigin, AlgEd25519, ""), testKey(t, testOrigin, AlgMLDSA44, "")
	log2 := testKey(t, "log2.example", AlgEd25519, "")
	sign := func(keys ...*SigningKey) *Note {
		var s []Signature
		for _, k := range keys {
			one, err := k.SignCheckpoint(testCheckpoint().Body(), testTime)
			if err != nil {
				t.Fatalf("SignCheckpoint: %v", err)
			}
			s = append(s, one)
		}
		n, err := NewNote(testCheckpoint().Body(), s...)
		if err != nil {
			t.Fatalf("NewNote: %v", err)
		}
		return n
	}
	both := []string{"log " + k.log, "log " + k.logPQ, "log " + k.log2, "quorum none"}
	for name, tt := range map[string]struct {
		policy []string
		n      *Note
		keys   int // 0: an OriginError
		listed int
	}{
		"both keys":             {both, sign(ed, pq), 2, 0},
		"any one is enough":     {both, sign(pq), 1, 0},
		"the other":             {both, sign(ed), 1, 0},
		"same line twice":       {both, sign(pq, pq), 1, 0}, // ML-DSA is randomised: two lines
		"unlisted log":          {[]string{"log " + k.log2, "quorum none"}, sign(ed, pq), 0, 0},
		"no logs listed":        {[]string{"quorum none"}, sign(ed, pq), 0, 0},
		"another listed log":    {both, sign(log2), 0, 2},
		"a witness is no log":   {append([]string{"witness a " + k.a}, both...), sign(testKey(t, "wit.example/a", AlgEd25519Cosignature, "")), 0, 2},
		"unknown key same name": {both, sign(testKey(t, testOrigin, AlgEd25519, "other")), 0, 2},
		"another log beside":    {both, sign(log2, ed), 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := mustPolicy(t, tt.policy...).Check(tt.n)
			if tt.keys > 0 {
				if err != nil {
					t.Fatalf("Check: %v", err)
				}
				if len(c.LogKeys) != tt.keys {
					t.Errorf("%d log keys, want %d", len(c.LogKeys), tt.keys)
				}
				return
			}
			var o *OriginError
			if !errors.As(err, &o) {
				t.Fatalf("Check: %v, want an OriginError", err)
			}
			if o.Note != tt.n || len(o.Listed) != tt.listed || !strings.Contains(err.Error(), testOrigin) {
				t.Errorf("evidence is %+v: %v", o, err)
			}
		})
	}
}

// TestCheckRefusesWrongSignatures: one bad line by a known key spoils the note,
// whatever else is there; by an unknown key it does not matter.
func TestCheckRefusesWrongSignatures(t *testing.T) {
	t.Parallel()
	p, keys := threeOperators(t)
	good, _ := testNote(t)
	for _, w := range []string{"A-ed", "B-ed", "C-ed"} {
		good = cosign(t, good, keys[w], testTime)
	}
	if _, err := p.Check(good); err != nil {
		t.Fatalf("Check: %v", err)
	}
	// Every known key in turn, its good line kept and a bad one added.
	extra := good.Signatures()
	for _, w := range []string{"A-pq", "B-pq", "C-pq"} {
		s, err := keys[w].SignCheckpoint(good.Text(), testTime)
		if err != nil {
			t.Fatalf("SignCheckpoint: %v", err)
		}
		extra = append(extra, s)
	}
	for _, s := range extra {
		bad := Signature{Name: s.Name, KeyID: s.KeyID, Bytes: flip(s.Bytes, len(s.Bytes)-9)}
		n, err := good.With(bad)
		if err != nil {
			t.Fatalf("With: %v", err)
		}
		_, err = p.Check(n)
		var e *SignatureError
		if !errors.As(err, &e) || e.Key.Name() != s.Name || e.Key.ID() != s.KeyID || !errors.Is(err, ErrWrongSignature) {
			t.Errorf("bad line by %s: %v", s.Name, err)
		}
		for _, unknown := range []Signature{
			{Name: s.Name + "x", KeyID: s.KeyID, Bytes: bad.Bytes},
			{Name: s.Name, KeyID: s.KeyID + 1, Bytes: bad.Bytes},
		} {
			n, err := good.With(unknown)
			if err != nil {
				t.Fatalf("With: %v", err)
			}
			if _, err := p.Check(n); err != nil {
				t.Errorf("bad line by unknown key: %v", err)
			}
		}
	}
}

// TestCheckMovedSignatures puts good signatures under another checkpoint.
func TestCheckMovedSignatures(t *testing.T) {
	t.Parallel()
	p, keys := threeOperators(t)
	n, _ := testNote(t)
	n = cosign(t, cosign(t, n, keys["A-pq"], testTime), keys["B-pq"], testTime)
	c := testCheckpoint()
	c.Size++
	moved, err := NewNote(c.Body(), n.Signatures()...)
	if err != nil {
		t.Fatalf("NewNote: %v", err)
	}
	if _, err := p.Check(moved); !errors.Is(err, ErrWrongSignature) {
		t.Errorf("Check: %v", err)
	}
	// Extension lines under an ML-DSA signature.
	extended, err := NewNote(append(testCheckpoint().Body(), "more\n"...), n.Signatures()[1:]...)
	if err != nil {
		t.Fatalf("NewNote: %v", err)
	}
	if _, err := p.Check(extended); !errors.Is(err, ErrUnsignable) {
		t.Errorf("Check with extension lines: %v", err)
	}
}

func TestCheckEmptyTree(t *testing.T) {
	t.Parallel()
	k := testKey(t, testOrigin, AlgEd25519, "")
	p := mustPolicy(t, fmt.Sprintf("log %v", k), "quorum none")
	n, err := SignLog(Checkpoint{Origin: testOrigin, Root: sha256.Sum256(nil)}, 0, k)
	if err != nil {
		t.Fatalf("SignLog: %v", err)
	}
	if _, err := p.Check(n); err != nil {
		t.Errorf("Check of the empty tree: %v", err)
	}
	text := Checkpoint{Origin: testOrigin, Root: Hash{1}}.Body()
	b, err := k.sign(text)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	n, err = NewNote(text, Signature{Name: testOrigin, KeyID: k.Verifier().ID(), Bytes: b})
	if err != nil {
		t.Fatalf("NewNote: %v", err)
	}
	if _, err := p.Check(n); !errors.Is(err, ErrEmptyRoot) {
		t.Errorf("Check of size 0 with another root: %v", err)
	}
}

// TestCheckRepeatedKey: several lines by one key are all verified, each time is
// kept, the same time once.
func TestCheckRepeatedKey(t *testing.T) {
	t.Parallel()
	p, keys := threeOperators(t)
	n, _ := testNote(t)
	for _, at := range []uint64{50, 60, 50} {
		n = cosign(t, n, keys["A-pq"], at)
	}
	n = cosign(t, n, keys["B-ed"], 55)
	if len(n.Signatures()) != 6 {
		t.Fatalf("%d lines", len(n.Signatures()))
	}
	c, err := p.Check(n)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	var got []uint64
	for _, w := range c.Witnesses {
		got = append(got, w.Time)
	}
	if !slices.Equal(got, []uint64{50, 60, 55}) {
		t.Errorf("times are %v", got)
	}
	if at, ok := c.NotBefore(); at != 55 || !ok {
		t.Errorf("NotBefore is %d, %v", at, ok)
	}
	if at, ok := c.NotAfter(); at != 55 || !ok {
		t.Errorf("NotAfter is %d, %v", at, ok)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	p, keys := threeOperators(t)
	type signed map[string]uint64
	for name, tt := range map[string]struct {
		by                  signed
		notBefore, notAfter uint64
		ok                  bool
	}{
		"two":                        {signed{"A-ed": 100, "B-ed": 110}, 100, 110, true},
		"three":                      {signed{"A-ed": 100, "B-ed": 110, "C-ed": 120}, 110, 110, true},
		"one clock far ahead":        {signed{"A-ed": 100, "B-ed": 110, "C-ed": 1 << 62}, 110, 110, true},
		"one clock far behind":       {signed{"A-ed": 100, "B-ed": 110, "C-ed": 1}, 100, 100, true},
		"both keys of a liar ahead":  {signed{"A-ed": 100, "B-ed": 110, "C-ed": 999, "C-pq": 998}, 110, 110, true},
		"both keys of a liar behind": {signed{"A-ed": 100, "B-ed": 110, "C-ed": 1, "C-pq": 2}, 100, 100, true},
		"a liar both ways":           {signed{"A-ed": 100, "B-ed": 110, "C-ed": 1, "C-pq": 999}, 110, 100, true},
		"all at once":                {signed{"A-ed": 7, "B-ed": 7, "C-pq": 7}, 7, 7, true},
		"one undated":                {signed{"A-pq": 0, "B-ed": 5, "C-ed": 9}, 5, 9, true},
		"undated ones needed":        {signed{"A-pq": 0, "B-ed": 5}, 0, 0, false},
		"all undated":                {signed{"A-pq": 0, "B-pq": 0, "C-pq": 0}, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, _ := testNote(t)
			for w, at := range tt.by {
				n = cosign(t, n, keys[w], at)
			}
			c, err := p.Check(n)
			if err != nil {
				t.Fatalf("Check: %v", err)
			}
			if at, ok := c.NotBefore(); at != tt.notBefore || ok != tt.ok {
				t.Errorf("NotBefore is %d, %v; want %d, %v", at, ok, tt.notBefore, tt.ok)
			}
			if at, ok := c.NotAfter(); at != tt.notAfter || ok != tt.ok {
				t.Errorf("NotAfter is %d, %v; want %d, %v", at, ok, tt.notAfter, tt.ok)
			}
		})
	}
}

func TestBoundsWithoutQuorum(t *testing.T) {
	t.Parallel()
	k := testPolicyKeys(t)
	n, _ := testNote(t)
	n = cosign(t, n, testKey(t, "wit.example/a", AlgEd25519Cosignature, ""), 9)
	c, err := mustPolicy(t, "log "+k.log, "witness a "+k.a, "quorum none").Check(n)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	for _, c := range []*Cosigned{c, {}} {
		if at, ok := c.NotBefore(); at != 0 || ok {
			t.Errorf("NotBefore is %d, %v", at, ok)
		}
		if at, ok := c.NotAfter(); at != 0 || ok {
			t.Errorf("NotAfter is %d, %v", at, ok)
		}
	}
	if got := new(Cosigned).Operators(); got != nil {
		t.Errorf("operators of nothing are %v", got)
	}
}

// TestBoundsAgainstBruteForce compares the bounds with the definition, tried
// with every time there is, and holds what they promise while the liars alone
// do not make up a quorum.
func TestBoundsAgainstBruteForce(t *testing.T) {
	t.Parallel()
	const end = 16
	var keys []*SigningKey
	var vkeys []string
	for i := range 6 {
		k := testKey(t, fmt.Sprint("w", i), AlgEd25519Cosignature, "")
		keys, vkeys = append(keys, k), append(vkeys, k.Verifier().String())
	}
	log := testKey(t, testOrigin, AlgEd25519, "")
	r := rand.New(rand.NewPCG(3, 4))
	checked, lied := 0, 0
	for range 600 {
		text := randomPolicy(r, log.Verifier().String(), vkeys)
		p, err := ParsePolicy([]byte(text))
		if err != nil {
			t.Fatalf("ParsePolicy: %v", err)
		}
		n, err := SignLog(testCheckpoint(), 0, log)
		if err != nil {
			t.Fatalf("SignLog: %v", err)
		}
		// Honest witnesses sign from 8 to 10; liars at any time, sometimes
		// twice.
		times, liars := make(map[string][]uint64), make(map[string]bool)
		for i, w := range p.Witnesses() {
			if r.IntN(5) == 0 {
				continue
			}
			at := []uint64{8 + r.Uint64N(3)}
			if r.IntN(3) == 0 {
				liars[w.Name] = true
				at = []uint64{1 + r.Uint64N(end-1), 1 + r.Uint64N(end-1)}[:1+r.IntN(2)]
			}
			for _, at := range at {
				n = cosign(t, n, keys[i], at)
			}
			times[w.Name] = at
		}
		c, err := p.Check(n)
		if err != nil || p.QuorumName() == noQuorum {
			continue
		}
		var least, greatest uint64
		for at := uint64(end); at > 0; at-- {
			before, after := make(map[string]bool), make(map[string]bool)
			for w, ts := range times {
				after[w], before[w] = slices.Max(ts) >= at, slices.Min(ts) <= at
			}
			if bruteQuorum(text, p.QuorumName(), before) {
				least = at
			}
			if greatest == 0 && bruteQuorum(text, p.QuorumName(), after) {
				greatest = at
			}
		}
		notBefore, ok1 := c.NotBefore()
		notAfter, ok2 := c.NotAfter()
		if !ok1 || !ok2 || notBefore != greatest || notAfter != least {
			t.Fatalf("bounds are %d, %d; want %d, %d\n%s%v", notBefore, notAfter, greatest, least, text, times)
		}
		checked++
		if !bruteQuorum(text, p.QuorumName(), liars) {
			if notBefore > 10 || notAfter < 8 {
				t.Fatalf("bounds are %d, %d: liars %v without a quorum moved them\n%s%v", notBefore, notAfter, liars, text, times)
			}
			if len(liars) > 0 {
				lied++
			}
		}
	}
	if checked < 200 || lied < 50 {
		t.Errorf("only %d notes compared, %d with liars", checked, lied)
	}
}

// TestCheckIgnoresForeignTimes: what an unknown key says about time is nothing.
func TestCheckIgnoresForeignTimes(t *testing.T) {
	t.Parallel()
	p, keys := threeOperators(t)
	n, _ := testNote(t)
	n = cosign(t, cosign(t, n, keys["A-ed"], 100), keys["B-ed"], 110)
	forged := Signature{Name: "wit.example/C", KeyID: 1, Bytes: binary.BigEndian.AppendUint64(nil, 1)}
	n, err := n.With(forged)
	if err != nil {
		t.Fatalf("With: %v", err)
	}
	c, err := p.Check(n)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	if at, _ := c.NotAfter(); at != 110 {
		t.Errorf("NotAfter is %d", at)
	}
}
