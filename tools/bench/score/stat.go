package score

import (
	"math"
	"slices"
)

// Median returns the middle of the values, the mean of the two in the middle of
// an even number; ok is false without values.
func Median(values []float64) (m float64, ok bool) {
	if len(values) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half], true
	}
	return (sorted[half-1] + sorted[half]) / 2, true
}

// Spread is the least and the greatest of some values.
type Spread [2]float64

// spreadOf returns nil without values.
func spreadOf(values []float64) *Spread {
	if len(values) == 0 {
		return nil
	}
	return &Spread{slices.Min(values), slices.Max(values)}
}

// usable tells whether a figure can be shown: a division by nothing cannot.
func usable(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
