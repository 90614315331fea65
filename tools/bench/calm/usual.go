package calm

import "slices"

// Usual returns the median speed of all readings; zero without any.
func Usual(all []Watch) Reading {
	cpu, sync := make([]float64, 0, 2*len(all)), make([]float64, 0, 2*len(all))
	for _, w := range all {
		cpu = append(cpu, w.Before.CPU, w.After.CPU)
		sync = append(sync, w.Before.Sync, w.After.Sync)
	}
	return Reading{CPU: middle(cpu), Sync: middle(sync)}
}

// middle returns the upper one of the two in the middle of an even number.
func middle(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Foreign returns the share of a span of processor seconds that neither this
// process nor one that it has started has used.
func (u Usage) Foreign(before Usage, span float64) float64 {
	if span <= 0 {
		return 0
	}
	return max(0, (u.Machine-before.Machine-(u.Tree-before.Tree))/span)
}
