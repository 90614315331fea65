package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// report is what --json prints. Latencies count from the time for which a
// statement was scheduled.
type report struct {
	OK             bool             `json:"ok"`
	Reason         string           `json:"reason,omitempty"`
	Via            string           `json:"via"`
	Wait           string           `json:"wait"`
	RatePerSecond  float64          `json:"rate_per_second"`
	Seconds        float64          `json:"seconds"`
	Scheduled      int64            `json:"scheduled"`
	Outcomes       map[string]int64 `json:"outcomes"`
	GoodputPerSec  float64          `json:"goodput_per_second"`
	AcceptedMillis latency          `json:"latency_accepted_ms"`
	AnsweredMillis latency          `json:"latency_answered_ms"`
	Reads          map[string]int64 `json:"reads"`
	Journal        checked          `json:"journal"`
	latencyNote    string
}

// latency is a histogram's summary in milliseconds.
type latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
}

func summarise(h *hdrhistogram.Histogram) latency {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return latency{
		Count: h.TotalCount(), Mean: h.Mean() / 1000, P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)),
		P99: ms(h.ValueAtQuantile(99)), P999: ms(h.ValueAtQuantile(99.9)), Max: ms(h.Max()),
	}
}

// report sums up; took is how long statements were scheduled and answered.
func (t *tally) report(p *plan, took time.Duration, j checked) *report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &report{
		Via: p.via, Wait: p.wait, RatePerSecond: p.perSecond, Seconds: took.Seconds(), Scheduled: t.scheduled,
		Outcomes: map[string]int64{}, AcceptedMillis: summarise(t.accepted), AnsweredMillis: summarise(t.all),
		Reads: t.reads, Journal: j, latencyNote: "from the scheduled time, so that a log which holds answers back cannot hide it",
	}
	for _, o := range outcomes() {
		r.Outcomes[string(o)] = t.counts[o]
	}
	if took > 0 {
		r.GoodputPerSec = float64(t.counts[final]+t.counts[pending]) / took.Seconds()
	}
	switch {
	case t.counts[untrue] > 0 || t.reads["untrue"] > 0:
		r.Reason = fmt.Sprintf("an answer did not verify: %v", t.first)
	case j.Missing > 0:
		r.Reason = fmt.Sprintf("%d acknowledged entries are not in the tree, the first at index %d", j.Missing, j.FirstMissing)
	case t.counts[unexpected] > 0:
		r.Reason = fmt.Sprintf("an answer was not to be expected: %v", t.first)
	}
	r.OK = r.Reason == ""
	return r
}

// text writes the report for people.
func (r *report) text(w io.Writer) {
	fmt.Fprintf(w, "scheduled  %d in %.1f s (%.0f/s, %s, wait %s)\n", r.Scheduled, r.Seconds, r.RatePerSecond, r.Via, r.Wait)
	for _, o := range outcomes() {
		if n := r.Outcomes[string(o)]; n > 0 {
			fmt.Fprintf(w, "  %-11s %d\n", o, n)
		}
	}
	fmt.Fprintf(w, "goodput    %.1f/s of new statements, acknowledged and verified\n", r.GoodputPerSec)
	fmt.Fprintf(w, "latency    %s\n", r.latencyNote)
	for _, l := range []struct {
		name string
		latency
	}{{"accepted", r.AcceptedMillis}, {"answered", r.AnsweredMillis}} {
		fmt.Fprintf(w, "  %-8s  p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f  mean %.1f ms (%d)\n",
			l.name, l.P50, l.P90, l.P99, l.P999, l.Max, l.Mean, l.Count)
	}
	if len(r.Reads) > 0 {
		parts := make([]string, 0, len(r.Reads))
		for name, n := range r.Reads {
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
		slices.Sort(parts)
		fmt.Fprintf(w, "reads      %s\n", strings.Join(parts, ", "))
	}
	fmt.Fprintf(w, "journal    %d acknowledged, %d missing in the tree of %d entries\n",
		r.Journal.Acknowledged, r.Journal.Missing, r.Journal.TreeSize)
	if r.OK {
		fmt.Fprintln(w, "every answer verified, and every acknowledged entry is in the tree")
	} else {
		fmt.Fprintf(w, "FAILED: %s\n", r.Reason)
	}
}

// json writes the report as one object.
func (r *report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// line is one second's progress.
func (t *tally) line(second int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%4ds  due %d", second, t.scheduled)
	for _, o := range outcomes() {
		if n := t.counts[o]; n > 0 {
			fmt.Fprintf(&b, "  %s %d", o, n)
		}
	}
	fmt.Fprintf(&b, "  p50 %.0f ms  p99 %.0f ms", float64(t.accepted.ValueAtQuantile(50))/1000, float64(t.accepted.ValueAtQuantile(99))/1000)
	return b.String()
}
