// Package score turns what was measured, round by round, into rows: medians,
// ratios, and whether the goal was met. It measures nothing and reads no clock.
package score

import (
	"fmt"
	"slices"
)

// Figures are what one run of one probe has measured, by name.
type Figures map[string]float64

// Round holds the figures of one round, by probe. A probe that failed is not
// there.
type Round map[string]Figures

// Value is a figure of a round, or something computed from several.
type Value struct {
	probes []string
	get    func(Round) (float64, bool)
}

// Of is a figure of a probe.
func Of(probe, figure string) Value {
	return Value{probes: []string{probe}, get: func(r Round) (float64, bool) {
		v, ok := r[probe][figure]
		return v, ok
	}}
}

// From is computed from other values; it is there if all of them are.
func From(compute func(of []float64) float64, values ...Value) Value {
	v := Value{get: func(r Round) (float64, bool) {
		of := make([]float64, len(values))
		for i := range values {
			var ok bool
			if of[i], ok = values[i].In(r); !ok {
				return 0, false
			}
		}
		return compute(of), true
	}}
	for _, part := range values {
		v.probes = append(v.probes, part.probes...)
	}
	slices.Sort(v.probes)
	v.probes = slices.Compact(v.probes)
	return v
}

// Ratio is a divided by b, in the same round.
func Ratio(a, b Value) Value {
	return From(func(of []float64) float64 { return of[0] / of[1] }, a, b)
}

// In returns the value in a round; ok is false if it was not measured.
func (v Value) In(r Round) (value float64, ok bool) {
	if v.get == nil {
		return 0, false
	}
	value, ok = v.get(r)
	return value, ok && usable(value)
}

// over returns the value of each round that has it.
func (v Value) over(rounds []Round) []float64 {
	var all []float64
	for _, r := range rounds {
		if x, ok := v.In(r); ok {
			all = append(all, x)
		}
	}
	return all
}

// Median is over the rounds that have the value; nil if none has.
func (v Value) Median(rounds []Round) *float64 {
	if m, ok := Median(v.over(rounds)); ok {
		return &m
	}
	return nil
}

// Goal is a bound on a value.
type Goal struct {
	Text  string
	Value Value
	// AtMost says that the value is to stay below Bound; else it is to reach it.
	AtMost bool
	Bound  float64
}

// Detail is a figure that explains a row.
type Detail struct {
	Name  string
	Value Value
}

// Row is what is reported under one id. Peer, Limit and Ratio may be zero.
type Row struct {
	ID, What, Unit    string
	Ours, Peer, Limit Value
	PeerName, LimitIs string
	Ratio             Value
	Goals             []Goal
	Details           []Detail
	NotMeasured       string // why, if the row has no value of its own in this run
}

// Probes lists what must be run for the row, sorted.
func (r *Row) Probes() []string {
	all := slices.Concat(r.Ours.probes, r.Peer.probes, r.Limit.probes, r.Ratio.probes)
	for _, g := range r.Goals {
		all = append(all, g.Value.probes...)
	}
	for _, d := range r.Details {
		all = append(all, d.Value.probes...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Result is a row with its figures, as it is written to bench.json. A figure
// that was not measured is null, and Reason says why.
type Result struct {
	ID    string   `json:"id"`
	What  string   `json:"what"`
	Ours  *float64 `json:"ours"`
	Peer  *float64 `json:"peer"`
	Limit *float64 `json:"limit"`
	Unit  string   `json:"unit"`
	Ratio *float64 `json:"ratio"`
	Goal  string   `json:"goal"`
	// Pass is null if the row was not measured or is not judged.
	Pass *bool `json:"pass"`
	// Noisy says that the machine was not quiet while the row was measured.
	Noisy bool   `json:"noisy"`
	Noise string `json:"noise,omitempty"`

	PeerName string             `json:"peer_is,omitempty"`
	LimitIs  string             `json:"limit_is,omitempty"`
	Reason   string             `json:"reason,omitempty"`
	Goals    []GoalResult       `json:"goals,omitempty"`
	Spread   map[string]*Spread `json:"spread,omitempty"`
	Rounds   []RoundResult      `json:"rounds,omitempty"`
	Details  map[string]float64 `json:"details,omitempty"`
}

// GoalResult is a goal and what was reached.
type GoalResult struct {
	Goal    string   `json:"goal"`
	Reached *float64 `json:"reached"`
	Pass    *bool    `json:"pass"`
}

// RoundResult is a row in one round.
type RoundResult struct {
	Ours  *float64 `json:"ours"`
	Peer  *float64 `json:"peer"`
	Limit *float64 `json:"limit"`
	Ratio *float64 `json:"ratio"`
}

// Run is everything that the rows are computed from.
type Run struct {
	Rounds []Round
	// Failed says of a probe why it has no figures.
	Failed map[string]string
	// Noise says of a probe what disturbed it, and how often it was run.
	Noise map[string]Noise
	// Judge is false for a run that is too short to tell anything.
	Judge bool
}

// Noise counts the disturbed runs of a probe.
type Noise struct {
	Runs, Disturbed int
	Reasons         []string
}

// Compute computes a row.
func (run *Run) Compute(row *Row) Result {
	r := Result{
		ID: row.ID, What: row.What, Unit: row.Unit, PeerName: row.PeerName, LimitIs: row.LimitIs,
		Ours: row.Ours.Median(run.Rounds), Peer: row.Peer.Median(run.Rounds), Limit: row.Limit.Median(run.Rounds),
		Ratio: row.Ratio.Median(run.Rounds), Spread: map[string]*Spread{},
	}
	for name, v := range map[string]Value{"ours": row.Ours, "peer": row.Peer, "limit": row.Limit, "ratio": row.Ratio} {
		if s := spreadOf(v.over(run.Rounds)); s != nil {
			r.Spread[name] = s
		}
	}
	for _, round := range run.Rounds {
		one := []Round{round}
		r.Rounds = append(r.Rounds, RoundResult{
			Ours: row.Ours.Median(one), Peer: row.Peer.Median(one), Limit: row.Limit.Median(one), Ratio: row.Ratio.Median(one),
		})
	}
	for _, d := range row.Details {
		if m := d.Value.Median(run.Rounds); m != nil {
			if r.Details == nil {
				r.Details = map[string]float64{}
			}
			r.Details[d.Name] = *m
		}
	}
	run.judge(row, &r)
	run.explain(row, &r)
	return r
}

// judge holds the row to its goals. All must be met, and all be known.
func (run *Run) judge(row *Row, r *Result) {
	met, known := true, run.Judge && len(row.Goals) > 0
	for i, g := range row.Goals {
		if i > 0 {
			r.Goal += " and "
		}
		r.Goal += g.Text
		result := GoalResult{Goal: g.Text, Reached: g.Value.Median(run.Rounds)}
		switch {
		case result.Reached == nil:
			known = false
		case run.Judge:
			pass := *result.Reached >= g.Bound
			if g.AtMost {
				pass = *result.Reached <= g.Bound
			}
			result.Pass, met = &pass, met && pass
		}
		r.Goals = append(r.Goals, result)
	}
	if known || (run.Judge && !met) {
		r.Pass = &met
	}
}

// explain says why figures are missing and what disturbed the rest.
func (run *Run) explain(row *Row, r *Result) {
	var reasons []string
	var runs, disturbed int
	var noises []string
	for _, probe := range row.Probes() {
		if why, failed := run.Failed[probe]; failed {
			reasons = append(reasons, probe+": "+why)
		}
		n := run.Noise[probe]
		runs, disturbed = runs+n.Runs, disturbed+n.Disturbed
		noises = append(noises, n.Reasons...)
	}
	if len(reasons) == 0 && r.Ours == nil {
		reasons = append(reasons, row.NotMeasured)
	}
	for i, why := range reasons {
		if i > 0 {
			r.Reason += "; "
		}
		r.Reason += why
	}
	if r.Noisy = disturbed > 0; r.Noisy {
		slices.Sort(noises)
		r.Noise = fmt.Sprintf("%d of %d measurements disturbed", disturbed, runs)
		for _, why := range slices.Compact(noises) {
			r.Noise += "; " + why
		}
	}
}
