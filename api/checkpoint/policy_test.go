package checkpoint

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// policyKeys are vkeys to write policies with.
type policyKeys struct{ log, logPQ, log2, a, b, c, aPQ string }

func testPolicyKeys(tb testing.TB) policyKeys {
	v := func(name string, alg Algorithm) string { return testKey(tb, name, alg, "").Verifier().String() }
	return policyKeys{
		log: v(testOrigin, AlgEd25519), logPQ: v(testOrigin, AlgMLDSA44), log2: v("log2.example", AlgEd25519),
		a: v("wit.example/a", AlgEd25519Cosignature), b: v("wit.example/b", AlgEd25519Cosignature),
		c: v("wit.example/c", AlgEd25519Cosignature), aPQ: v("wit.example/a", AlgMLDSA44),
	}
}

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	k := testPolicyKeys(t)
	text := "# policy\n" +
		"\t # indented comment \x80\xff\n" +
		" \t \n\n" +
		"log " + k.log + "\n" +
		"  log\t" + k.logPQ + " \t https://log.example/ \n" +
		"witness a1 " + k.a + "\n" +
		"witness a2 " + k.aPQ + " https://wit.example/\xe4\n" +
		"witness \xe2\x84\xaa " + k.b + "\n" +
		"group A any a1 a2\n" +
		"witness K " + k.c + "\n" +
		"group both 2 A \xe2\x84\xaa K\n" +
		"quorum both\n" +
		"log " + k.log2 + "\n"
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatalf("ParsePolicy: %v", err)
	}
	if got := p.Logs(); len(got) != 3 || got[0].Key.String() != k.log || got[0].URL != "" || got[1].URL != "https://log.example/" || got[2].Key.String() != k.log2 {
		t.Errorf("logs are %v", got)
	}
	if got := p.Witnesses(); len(got) != 4 || got[1].Name != "a2" || got[1].Key.String() != k.aPQ || got[1].URL != "https://wit.example/\xe4" || got[2].Name != "\u212a" {
		t.Errorf("witnesses are %v", got)
	}
	wantGroups := []GroupEntry{{"A", 1, []string{"a1", "a2"}}, {"both", 2, []string{"A", "\u212a", "K"}}}
	if got := p.Groups(); !reflect.DeepEqual(got, wantGroups) {
		t.Errorf("groups are %v", got)
	}
	if p.Digest() != sha256.Sum256([]byte(text)) {
		t.Error("the fingerprint is not that of the file")
	}
	if p.QuorumName() != "both" || string(p.Bytes()) != text {
		t.Errorf("quorum is %q", p.QuorumName())
	}
	wantOperators := []Operator{{"A", []string{"a1", "a2"}}, {"\u212a", []string{"\u212a"}}, {"K", []string{"K"}}}
	if got := p.Operators(); !reflect.DeepEqual(got, wantOperators) {
		t.Errorf("operators are %v", got)
	}
	// Nothing that comes out is the policy's own.
	clear(p.Logs())
	clear(p.Witnesses())
	clear(p.Groups()[0].Members)
	clear(p.Operators()[0].Witnesses)
	clear(p.Bytes())
	if again := p.Groups(); !reflect.DeepEqual(again, wantGroups) || p.Logs()[0].Key == nil || string(p.Bytes()) != text {
		t.Error("the policy changed")
	}
}

func TestParsePolicyAccepts(t *testing.T) {
	t.Parallel()
	k := testPolicyKeys(t)
	for name, text := range map[string]string{
		"quorum none alone":        "quorum none\n",
		"single witness":           "witness a " + k.a + "\nquorum a\n",
		"lines behind the quorum":  "quorum none\nwitness a " + k.a + "\ngroup g any a\n",
		"keywords as names":        "witness all " + k.a + "\nwitness any " + k.b + "\nwitness quorum " + k.c + "\ngroup group any all any\ngroup log all group quorum\nquorum log\n",
		"numbers as names":         "witness 1 " + k.a + "\nwitness 2 " + k.b + "\ngroup 3 2 1 2\nquorum 3\n",
		"quorum inside a group":    "witness a " + k.a + "\nwitness b " + k.b + "\ngroup g all a b\nquorum a\n",
		"group in a group":         "witness a " + k.a + "\ngroup g any a\ngroup h any g\nquorum h\n",
		"unused witness":           "witness a " + k.a + "\nwitness b " + k.b + "\nquorum b\n",
		"hash inside a name":       "witness a#1 " + k.a + "\nquorum a#1\n",
		"same log name, two types": "log " + k.log + "\nlog " + k.logPQ + "\nquorum none\n",
	} {
		if _, err := ParsePolicy([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParsePolicyRejects(t *testing.T) {
	t.Parallel()
	k := testPolicyKeys(t)
	// The same public key under other names and types.
	ed := testKey(t, "wit.example/a", AlgEd25519Cosignature, "").Verifier()
	rewrap := func(name string, alg Algorithm) string {
		b := append([]byte{byte(alg)}, ed.PublicKey()...)
		return name + "+" + formatID(keyID(name, alg, ed.PublicKey())) + "+" + base64.StdEncoding.EncodeToString(b)
	}
	ecdsa := rewrap("wit.example/a", 2)
	wa, wb := "witness a "+k.a+"\n", "witness b "+k.b+"\n"
	q := "quorum none\n"
	tests := map[string]struct{ text, words string }{
		"nothing":                      {"", "no quorum line"},
		"no quorum":                    {"log " + k.log + "\n" + wa, "no quorum line"},
		"quorum in a comment":          {"# quorum none\n", "no quorum line"},
		"two quorums":                  {wa + "quorum a\nquorum none\n", "line 3: second quorum"},
		"the same quorum twice":        {q + q, "line 2: second quorum"},
		"quorum without name":          {"quorum\n", "expected quorum"},
		"quorum of two names":          {wa + wb + "quorum a b\n", "expected quorum"},
		"quorum unknown":               {wa + "quorum b\n", "line 2: quorum is a name"},
		"quorum before its witness":    {"quorum a\n" + wa, "line 1: quorum is a name"},
		"quorum all":                   {wa + "quorum all\n", "quorum is a name"},
		"quorum None":                  {"quorum None\n", "quorum is a name"},
		"quorum is the log's name":     {"log " + k.log + "\nquorum " + testOrigin + "\n", "quorum is a name"},
		"comment behind the quorum":    {"quorum none # why\n", "expected quorum"},
		"no final newline":             {"quorum none", "line 1: line does not end"},
		"last line cut":                {q + "log", "line 2: line does not end"},
		"CRLF":                         {"quorum none\r\n", "control character 0x0d"},
		"NUL":                          {"quorum none\n\x00\n", "line 2: control character 0x00"},
		"NUL in a comment":             {"# \x00\n" + q, "line 1: control character"},
		"vertical tab":                 {"quorum\vnone\n", "control character 0x0b"},
		"form feed":                    {"\f\n" + q, "control character 0x0c"},
		"delete":                       {"# \x7f\n" + q, "control character 0x7f"},
		"byte order mark":              {"\ufeff" + q, "unknown keyword"},
		"no-break space is no space":   {"quorum\u00a0none\n", "unknown keyword"},
		"unknown keyword":              {"logs " + k.log + "\n" + q, "line 1: unknown keyword"},
		"keyword in upper case":        {"Quorum none\n", "unknown keyword"},
		"continuation":                 {"quorum \\\nnone\n", "quorum is a name"},
		"log without key":              {"log\n" + q, "expected log"},
		"log with name":                {"log main " + k.log + " https://x/\n" + q, "expected log"},
		"log with comment":             {"log " + k.log + " https://x/ # main\n" + q, "expected log"},
		"log with comment for URL":     {"log " + k.log + " #main\n" + q, "scheme"},
		"log with witness key":         {"log " + k.a + "\n" + q, "not a log's"},
		"log with raw key":             {"log " + strings.Repeat("0a", 32) + "\n" + q, "verifier key: not name"},
		"log with ECDSA key":           {"log " + ecdsa + "\n" + q, "unsupported"},
		"log with wrong key id":        {"log x" + k.log + "\n" + q, "verifier key: key id"},
		"log twice":                    {"log " + k.log + "\nlog " + k.log + "\n" + q, "line 2: public key"},
		"log twice, other URL":         {"log " + k.log + "\nlog " + k.log + " https://x/\n" + q, "line 2: public key"},
		"log key under two names":      {"log " + rewrap("x", AlgEd25519) + "\nlog " + rewrap("y", AlgEd25519) + "\n" + q, "line 2: public key"},
		"log and witness of one key":   {"log " + rewrap("x", AlgEd25519) + "\n" + wa + q, "line 2: public key"},
		"witness and log of one key":   {wa + "log " + rewrap("x", AlgEd25519) + "\n" + q, "line 2: public key"},
		"one ML-DSA key, two roles":    {"log " + k.logPQ + "\nwitness w " + k.logPQ + "\n" + q, "line 2: public key"},
		"witness without key":          {"witness a\n" + q, "expected witness"},
		"witness without name":         {"witness " + k.a + "\n" + q, "expected witness"},
		"witness without name, URL":    {"witness " + k.a + " https://x/\n" + q, "verifier key: not name"},
		"witness with two URLs":        {"witness a " + k.a + " https://x/ https://y/\n" + q, "expected witness"},
		"witness with relative URL":    {"witness a " + k.a + " /x\n" + q, "scheme"},
		"witness with bare host":       {"witness a " + k.a + " wit.example\n" + q, "scheme"},
		"witness with empty scheme":    {"witness a " + k.a + " ://x\n" + q, "scheme"},
		"witness with scheme alone":    {"witness a " + k.a + " https:\n" + q, "scheme"},
		"witness with digit scheme":    {"witness a " + k.a + " 9p://x\n" + q, "scheme"},
		"witness with odd scheme":      {"witness a " + k.a + " a_b://x\n" + q, "scheme"},
		"witness with log key":         {"witness a " + k.log + "\n" + q, "not a witness's"},
		"witness named none":           {"witness none " + k.a + "\n" + q, "the name none"},
		"witness name twice":           {wa + "witness a " + k.b + "\n" + q, "line 2: name is defined"},
		"witness key twice":            {wa + "witness b " + k.a + "\n" + q, "line 2: public key"},
		"witness key under two names":  {wa + "witness b " + rewrap("y", AlgEd25519Cosignature) + "\n" + q, "line 2: public key"},
		"witness named like a group":   {wa + "group g any a\nwitness g " + k.b + "\n" + q, "line 3: name is defined"},
		"group named like a witness":   {wa + "group a any a\n" + q, "name is defined"},
		"group named none":             {wa + "group none any a\n" + q, "the name none"},
		"group twice":                  {wa + wb + "group g any a\ngroup g any b\n" + q, "line 4: name is defined"},
		"group without members":        {wa + "group g any\n" + q, "expected group"},
		"group without threshold":      {wa + "group g a\n" + q, "expected group"},
		"group of itself":              {wa + "group g any g\n" + q, "no line above"},
		"group with none":              {wa + "group g any a none\n" + q, "no line above"},
		"group forward":                {wa + "group g any a b\n" + wb + q, "line 2: group has a member that no line above"},
		"group of a log":               {"log " + k.log + "\ngroup g any " + testOrigin + "\n" + q, "no line above"},
		"cycle":                        {wa + "group g any h\ngroup h any g\n" + q, "line 2: group has a member that no line above"},
		"member twice":                 {wa + wb + "group g 2 a a b\n" + q, "listed already"},
		"member of two groups":         {wa + wb + "group g any a\ngroup h any a b\n" + q, "line 4: group has a member that is listed already"},
		"group in two groups":          {wa + "group g any a\ngroup h any g\ngroup i any g\n" + q, "line 4: group has a member that is listed already"},
		"witness inside and beside":    {wa + wb + "group g any a\ngroup h 2 g a b\n" + q, "line 4: group has a member that is listed already"},
		"threshold 0":                  {wa + "group g 0 a\n" + q, "between 1"},
		"threshold above n":            {wa + wb + "group g 3 a b\n" + q, "between 1"},
		"threshold with leading zero":  {wa + "group g 01 a\n" + q, "leading zeros"},
		"threshold with sign":          {wa + "group g +1 a\n" + q, "leading zeros"},
		"threshold negative":           {wa + "group g -1 a\n" + q, "leading zeros"},
		"threshold in hex":             {wa + "group g 0x1 a\n" + q, "leading zeros"},
		"threshold beyond 2^64":        {wa + "group g 18446744073709551617 a\n" + q, "leading zeros"},
		"threshold 2^63":               {wa + "group g 9223372036854775808 a\n" + q, "between 1"},
		"threshold in upper case":      {wa + "group g ALL a\n" + q, "leading zeros"},
		"threshold behind the members": {wa + wb + "group g a b 1\n" + q, "leading zeros"},
		"too long":                     {strings.Repeat("#\n", MaxPolicySize/2) + q, "longer than"},
	}
	if len(tests) < 60 {
		t.Fatalf("only %d rejects left", len(tests))
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParsePolicy([]byte(tt.text))
			wantFormatError(t, err, "policy", tt.words)
		})
	}
}

// TestPolicyKeyCollision: two keys that signature lines cannot tell apart. The
// collision is faked, as finding one takes 2^32 tries.
func TestPolicyKeyCollision(t *testing.T) {
	t.Parallel()
	b := policyBuilder{p: &Policy{keys: make(map[keyName]keyRole)}, publicKeys: make(map[string]bool)}
	a := testKey(t, "log", AlgEd25519, "a").Verifier()
	c := *testKey(t, "log", AlgEd25519, "c").Verifier()
	c.id = a.id
	if reason := b.addKey(a, -1); reason != "" {
		t.Fatal(reason)
	}
	if reason := b.addKey(&c, -1); !strings.Contains(reason, "key id") {
		t.Errorf("second key: %q", reason)
	}
}

// TestPolicySize holds more than the 32 of each that the specification asks
// for, all with ML-DSA-44 keys.
func TestPolicySize(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	var members []string
	for i := range 40 {
		name := fmt.Sprint("w", i)
		fmt.Fprintf(&text, "log %v\n", testKey(t, fmt.Sprint("log", i), AlgMLDSA44, ""))
		fmt.Fprintf(&text, "witness %s %v https://%s.example/\n", name, testKey(t, name, AlgMLDSA44, ""), name)
		fmt.Fprintf(&text, "group g%d any %s\n", i, name)
		members = append(members, fmt.Sprint("g", i))
	}
	fmt.Fprintf(&text, "group top 21 %s\nquorum top\n", strings.Join(members, " "))
	p, err := ParsePolicy([]byte(text.String()))
	if err != nil {
		t.Fatalf("ParsePolicy: %v", err)
	}
	if len(p.Logs()) != 40 || len(p.Witnesses()) != 40 || len(p.Groups()) != 41 || len(p.Operators()) != 40 {
		t.Error("something got lost")
	}
	upTo := func(n int) func(string) bool {
		return func(w string) bool {
			i, err := strconv.Atoi(w[1:])
			return err == nil && i < n
		}
	}
	if p.Quorum(upTo(20)) || !p.Quorum(upTo(21)) {
		t.Error("the threshold of 21 is not 21")
	}
}

func TestPolicyDeepNesting(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	fmt.Fprintf(&text, "witness g0 %v\n", testKey(t, "w", AlgEd25519Cosignature, ""))
	const depth = 30_000
	for i := range depth {
		fmt.Fprintf(&text, "group g%d any g%d\n", i+1, i)
	}
	fmt.Fprintf(&text, "quorum g%d\n", depth)
	p, err := ParsePolicy([]byte(text.String()))
	if err != nil {
		t.Fatalf("ParsePolicy: %v", err)
	}
	if !p.Quorum(func(string) bool { return true }) || p.Quorum(func(string) bool { return false }) {
		t.Error("deep quorum is wrong")
	}
}

// bruteQuorum evaluates a name straight from the text of a valid policy: an
// evaluator that shares nothing with the one under test.
func bruteQuorum(text, name string, signed map[string]bool) bool {
	if name == "none" {
		return true
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[1] != name {
			continue
		}
		switch f[0] {
		case "witness":
			return signed[name]
		case "group":
			yes := 0
			for _, m := range f[3:] {
				if bruteQuorum(text, m, signed) {
					yes++
				}
			}
			switch f[2] {
			case "all":
				return yes == len(f[3:])
			case "any":
				return yes > 0
			}
			k, _ := strconv.Atoi(f[2])
			return yes >= k
		}
	}
	return false
}

// randomPolicy writes a valid policy over the vkeys: a random forest with the
// quorum anywhere in it.
func randomPolicy(r *rand.Rand, log string, vkeys []string) string {
	var text strings.Builder
	var free, names []string
	fmt.Fprintf(&text, "log %s\n", log)
	for i, v := range vkeys[:1+r.IntN(len(vkeys))] {
		name := fmt.Sprint("w", i)
		fmt.Fprintf(&text, "witness %s %s https://w%d.example/\n", name, v, i)
		free, names = append(free, name), append(names, name)
	}
	for g := range r.IntN(6) {
		r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
		n := 1 + r.IntN(len(free))
		k := []string{"all", "any", strconv.Itoa(1 + r.IntN(n))}[r.IntN(3)]
		name := fmt.Sprint("g", g)
		fmt.Fprintf(&text, "group %s %s %s\n", name, k, strings.Join(free[:n], " "))
		free, names = append(slices.Clone(free[n:]), name), append(names, name)
	}
	// Mostly the last group, which is the interesting one.
	quorum := names[len(names)-1]
	switch r.IntN(8) {
	case 0:
		quorum = names[r.IntN(len(names))]
	case 1:
		quorum = "none"
	}
	fmt.Fprintf(&text, "quorum %s\n", quorum)
	return text.String()
}

func TestQuorumAgainstBruteForce(t *testing.T) {
	t.Parallel()
	var vkeys []string
	for i := range 8 {
		vkeys = append(vkeys, testKey(t, fmt.Sprint("w", i), AlgEd25519Cosignature, "").Verifier().String())
	}
	log := testKey(t, testOrigin, AlgEd25519, "").Verifier().String()
	r := rand.New(rand.NewPCG(1, 2))
	yes, no := 0, 0
	for range 400 {
		text := randomPolicy(r, log, vkeys)
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
				yes++
			} else {
				no++
			}
		}
	}
	if yes < 1000 || no < 1000 {
		t.Errorf("%d met and %d not met: the policies are too one-sided to test anything", yes, no)
	}
}

func TestQuorumAsksOnce(t *testing.T) {
	t.Parallel()
	k := testPolicyKeys(t)
	p := mustPolicy(t, "witness a "+k.a, "witness b "+k.b, "witness c "+k.c, "group g 2 a b", "group h any g c", "quorum h")
	asked := make(map[string]int)
	p.Quorum(func(w string) bool { asked[w]++; return false })
	if !reflect.DeepEqual(asked, map[string]int{"a": 1, "b": 1, "c": 1}) {
		t.Errorf("asked %v", asked)
	}
}

func TestOperators(t *testing.T) {
	t.Parallel()
	k := testPolicyKeys(t)
	witnesses := []string{"witness a " + k.a, "witness aq " + k.aPQ, "witness b " + k.b, "witness c " + k.c}
	for name, tt := range map[string]struct {
		lines []string
		want  []Operator
	}{
		"no groups":         {[]string{"quorum none"}, []Operator{{"a", []string{"a"}}, {"aq", []string{"aq"}}, {"b", []string{"b"}}, {"c", []string{"c"}}}},
		"flat":              {[]string{"group g 2 a aq b c", "quorum g"}, []Operator{{"g", []string{"a", "aq", "b", "c"}}}},
		"groups":            {[]string{"group A any aq a", "group B any b", "group C any c", "group q 2 A B C", "quorum q"}, []Operator{{"A", []string{"a", "aq"}}, {"B", []string{"b"}}, {"C", []string{"c"}}}},
		"beside a group":    {[]string{"group A any a aq", "group q 2 A b c", "quorum q"}, []Operator{{"A", []string{"a", "aq"}}, {"b", []string{"b"}}, {"c", []string{"c"}}}},
		"interleaved":       {[]string{"group X any a b", "group Y any aq c", "quorum none"}, []Operator{{"X", []string{"a", "b"}}, {"Y", []string{"aq", "c"}}}},
		"group over groups": {[]string{"group A any a aq", "group B all A", "group q all B b c", "quorum q"}, []Operator{{"A", []string{"a", "aq"}}, {"b", []string{"b"}}, {"c", []string{"c"}}}},
	} {
		p := mustPolicy(t, slices.Concat(witnesses, tt.lines)...)
		if got := p.Operators(); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: operators are %v, want %v", name, got, tt.want)
		}
	}
}
