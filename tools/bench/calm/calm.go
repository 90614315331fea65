// Package calm tells whether a machine was quiet while something was measured:
// the same small work is timed before and after, and the processor time of
// others is counted. It cannot see everything; what it sees is enough to doubt.
package calm

import (
	"fmt"
	"math"
)

// Limits of what counts as quiet.
const (
	// CPUDrift is by how much the speed of the processors may differ from the
	// run's median.
	CPUDrift = 0.15
	// SyncDrift is the same for fdatasync, which varies more even on a quiet disk.
	SyncDrift = 0.5
	// Foreign is the share of the machine that others may use.
	Foreign = 0.10
)

// Reading is a speed of the machine, in units of the calibration work a second.
type Reading struct {
	CPU  float64 `json:"cpu"`
	Sync float64 `json:"sync"`
}

// Watch is what was seen around one measurement.
type Watch struct {
	Before  Reading `json:"before"`
	After   Reading `json:"after"`
	Foreign float64 `json:"foreign"` // share of the machine's time that others used
}

// Disturbed says what was not quiet, in a few words; nothing if all was. usual
// is the median reading of the whole run.
func (w Watch) Disturbed(usual Reading) []string {
	var reasons []string
	cpu := max(drift(w.Before.CPU, usual.CPU), drift(w.After.CPU, usual.CPU))
	sync := max(drift(w.Before.Sync, usual.Sync), drift(w.After.Sync, usual.Sync))
	if cpu > CPUDrift {
		reasons = append(reasons, fmt.Sprintf("processor speed off by more than %.0f %%", 100*CPUDrift))
	}
	if sync > SyncDrift {
		reasons = append(reasons, fmt.Sprintf("fdatasync speed off by more than %.0f %%", 100*SyncDrift))
	}
	if w.Foreign > Foreign {
		reasons = append(reasons, fmt.Sprintf("others used more than %.0f %% of the machine", 100*Foreign))
	}
	return reasons
}

// drift is how far v is from usual, as a share of usual.
func drift(v, usual float64) float64 {
	if usual <= 0 {
		return 0
	}
	return math.Abs(v-usual) / usual
}
