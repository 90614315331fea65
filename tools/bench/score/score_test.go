package score

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
		ok   bool
	}{
		{nil, 0, false},
		{[]float64{7}, 7, true},
		{[]float64{9, 1}, 5, true},
		{[]float64{100, 1, 2}, 2, true},
		{[]float64{4, 1, 3, 100}, 3.5, true},
	} {
		before := append([]float64(nil), c.in...)
		got, ok := Median(c.in)
		if got != c.want || ok != c.ok {
			t.Errorf("Median(%v) = %v, %v; want %v, %v", c.in, got, ok, c.want, c.ok)
		}
		for i := range before {
			if before[i] != c.in[i] {
				t.Errorf("Median has changed its argument to %v", c.in)
			}
		}
	}
}

func round(figures ...any) Round {
	r := Round{}
	for i := 0; i < len(figures); i += 3 {
		probe := figures[i].(string)
		if r[probe] == nil {
			r[probe] = Figures{}
		}
		r[probe][figures[i+1].(string)] = figures[i+2].(float64)
	}
	return r
}

func TestValue(t *testing.T) {
	r := round("a", "x", 6.0, "b", "x", 3.0, "zero", "x", 0.0)
	for _, c := range []struct {
		name string
		v    Value
		want float64
		ok   bool
	}{
		{"figure", Of("a", "x"), 6, true},
		{"unknown figure", Of("a", "y"), 0, false},
		{"unknown probe", Of("c", "x"), 0, false},
		{"ratio", Ratio(Of("a", "x"), Of("b", "x")), 2, true},
		{"half a ratio", Ratio(Of("a", "x"), Of("c", "x")), 0, false},
		{"by zero", Ratio(Of("a", "x"), Of("zero", "x")), 0, false},
		{"zero by zero", Ratio(Of("zero", "x"), Of("zero", "x")), 0, false},
		{"nothing", Value{}, 0, false},
	} {
		if got, ok := c.v.In(r); ok != c.ok || (ok && got != c.want) {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
	got := Ratio(Of("b", "x"), From(func(of []float64) float64 { return of[0] }, Of("a", "y"), Of("b", "z"))).probes
	if strings.Join(got, " ") != "a b" {
		t.Errorf("probes %q, want each once, sorted", got)
	}
}

// row has a goal of each direction.
func row() Row {
	ours, peer := Of("ours", "rate"), Of("peer", "rate")
	r := Row{ID: "add", What: "adding", Unit: "entries/s", Ours: ours, Peer: peer, Ratio: Ratio(ours, peer), PeerName: "the peer"}
	r.Goals = []Goal{
		{Text: "≥ 2 × peer", Value: r.Ratio, Bound: 2},
		{Text: "p99 ≤ 10 ms", Value: Of("ours", "p99"), AtMost: true, Bound: 10},
	}
	r.Details = []Detail{{"p99", Of("ours", "p99")}, {"lost", Of("ours", "lost")}}
	return r
}

func TestComputeTakesMediansOfRounds(t *testing.T) {
	run := Run{Judge: true, Rounds: []Round{
		round("ours", "rate", 300.0, "ours", "p99", 9.0, "peer", "rate", 100.0),  // 3.0
		round("ours", "rate", 1000.0, "ours", "p99", 1.0, "peer", "rate", 800.0), // 1.25
		round("ours", "rate", 500.0, "ours", "p99", 50.0, "peer", "rate", 200.0), // 2.5
	}}
	r := row()
	got := run.Compute(&r)
	// The ratio of the medians, 500/200, would be the same as the median of the
	// ratios here; of two rounds it is not.
	if *got.Ours != 500 || *got.Peer != 200 || *got.Ratio != 2.5 || got.Limit != nil {
		t.Errorf("ours %v, peer %v, ratio %v, limit %v", *got.Ours, *got.Peer, *got.Ratio, got.Limit)
	}
	if got.Pass == nil || !*got.Pass || got.Goal != "≥ 2 × peer and p99 ≤ 10 ms" {
		t.Errorf("goal %q: pass %v", got.Goal, got.Pass)
	}
	if *got.Spread["ratio"] != (Spread{1.25, 3}) || got.Spread["limit"] != nil {
		t.Errorf("spread %v", got.Spread)
	}
	if len(got.Rounds) != 3 || *got.Rounds[1].Ratio != 1.25 {
		t.Errorf("rounds %+v", got.Rounds)
	}
	if len(got.Details) != 1 || got.Details["p99"] != 9 {
		t.Errorf("details %v", got.Details)
	}
	run.Rounds = run.Rounds[:2]
	if got := run.Compute(&r); *got.Ratio != 2.125 {
		t.Errorf("ratio %v, want the median of the rounds' ratios", *got.Ratio)
	}
}

func TestJudge(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		name  string
		round Round
		short bool
		want  *bool
	}{
		{"met exactly", round("ours", "rate", 200.0, "ours", "p99", 10.0, "peer", "rate", 100.0), false, &yes},
		{"first missed", round("ours", "rate", 199.0, "ours", "p99", 10.0, "peer", "rate", 100.0), false, &no},
		{"second missed", round("ours", "rate", 200.0, "ours", "p99", 10.1, "peer", "rate", 100.0), false, &no},
		{"one unknown", round("ours", "rate", 200.0, "peer", "rate", 100.0), false, nil},
		{"one unknown, one missed", round("ours", "rate", 100.0, "peer", "rate", 100.0), false, &no},
		{"nothing measured", Round{}, false, nil},
		{"short", round("ours", "rate", 1.0, "ours", "p99", 10.0, "peer", "rate", 100.0), true, nil},
	} {
		r := row()
		run := Run{Judge: !c.short, Rounds: []Round{c.round}}
		got := run.Compute(&r).Pass
		if (got == nil) != (c.want == nil) || (got != nil && *got != *c.want) {
			t.Errorf("%s: pass %s, want %s", c.name, show(got), show(c.want))
		}
	}
}

func show(b *bool) string {
	if b == nil {
		return "null"
	}
	return strconv.FormatBool(*b)
}

func TestMissingIsNullWithReason(t *testing.T) {
	r := row()
	run := Run{Judge: true, Rounds: []Round{round("peer", "rate", 100.0)}, Failed: map[string]string{"ours": "it broke"}}
	raw, err := json.Marshal(run.Compute(&r))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"add","what":"adding","ours":null,"peer":100,"limit":null,"unit":"entries/s","ratio":null,` +
		`"goal":"≥ 2 × peer and p99 ≤ 10 ms","pass":null,"noisy":false,"peer_is":"the peer","reason":"ours: it broke",`
	if !strings.HasPrefix(string(raw), want) {
		t.Errorf("got  %s\nwant %s…", raw, want)
	}
	r.NotMeasured = "only on Sundays"
	run.Failed = nil
	if got := run.Compute(&r).Reason; got != "only on Sundays" {
		t.Errorf("reason %q", got)
	}
}

func TestNoiseIsCountedOverTheProbesOfARow(t *testing.T) {
	r := row()
	run := Run{
		Rounds: []Round{round("ours", "rate", 1.0)},
		Noise: map[string]Noise{
			"ours":  {Runs: 3, Disturbed: 1, Reasons: []string{"steal"}},
			"peer":  {Runs: 3, Disturbed: 1, Reasons: []string{"steal", "others"}},
			"other": {Runs: 3, Disturbed: 3, Reasons: []string{"earthquake"}},
		},
	}
	got := run.Compute(&r)
	if !got.Noisy || got.Noise != "2 of 6 measurements disturbed; others; steal" {
		t.Errorf("noisy %t: %q", got.Noisy, got.Noise)
	}
	run.Noise = map[string]Noise{"ours": {Runs: 3}, "other": {Runs: 1, Disturbed: 1}}
	if got := run.Compute(&r); got.Noisy || got.Noise != "" {
		t.Errorf("noisy %t: %q, with all of its probes quiet", got.Noisy, got.Noise)
	}
}

func TestNumber(t *testing.T) {
	for in, want := range map[float64]string{
		0: "0.00", 0.0768: "0.0768", 1: "1.00", 12.345: "12.35", 123.45: "123.5", 1234.5: "1,234", 1234567: "1,234,567",
		-1234: "-1,234", 999999: "999,999",
	} {
		if got := Number(&in); got != want {
			t.Errorf("Number(%v) = %q, want %q", in, got, want)
		}
	}
	if got := Number(nil); got != "–" {
		t.Errorf("Number(nil) = %q", got)
	}
}

func TestTables(t *testing.T) {
	ours, ratio, pass := 1234567.0, 2.5, true
	results := []Result{
		{ID: "add", Unit: "entries/s", Ours: &ours, Ratio: &ratio, Goal: "≥ 2", Pass: &pass, Noisy: true, Noise: "1 of 3 measurements disturbed"},
		{ID: "memory", Unit: "MiB", Goal: "≤ 1.3", Reason: "not grown"},
	}
	var plain, markdown strings.Builder
	if err := Aligned(&plain, Cells(results)); err != nil {
		t.Fatal(err)
	}
	if err := Markdown(&markdown, Cells(results)); err != nil {
		t.Fatal(err)
	}
	const wantPlain = `id      ours       peer  limit  unit       ratio  goal   met           machine
add     1,234,567     –      –  entries/s   2.50  ≥ 2    yes           NOISY
memory          –     –      –  MiB            –  ≤ 1.3  not measured        –
`
	if plain.String() != wantPlain {
		t.Errorf("got\n%s\nwant\n%s", plain.String(), wantPlain)
	}
	lines := strings.Split(strings.TrimSuffix(markdown.String(), "\n"), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], "|---") {
		t.Fatalf("got\n%s", markdown.String())
	}
	for _, line := range lines {
		if strings.Count(line, "|") != 10 || len([]rune(line)) != len([]rune(lines[0])) {
			t.Errorf("line %q is not as the first one", line)
		}
	}
	got := strings.Join(Remarks(results), "\n")
	const want = "add: the machine was not quiet: 1 of 3 measurements disturbed\nmemory: not measured, or not in full: not grown"
	if got != want {
		t.Errorf("remarks\n%s\nwant\n%s", got, want)
	}
}

func TestUsable(t *testing.T) {
	for v, want := range map[float64]bool{0: true, -1: true, math.Inf(1): false, math.Inf(-1): false} {
		if usable(v) != want {
			t.Errorf("usable(%v) = %t", v, !want)
		}
	}
	if usable(math.NaN()) {
		t.Error("NaN is usable")
	}
}
