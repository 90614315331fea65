//go:build faults

package fault_test

import (
	"errors"
	"testing"

	"github.com/trialog/trialog/services/internal/fault"
)

// TestArmed: the named place fails at the named hit, once, and no other does.
func TestArmed(t *testing.T) {
	t.Setenv(fault.Variable, "armed=error@2")
	for hit, want := range []bool{false, true, false, false} {
		if err := fault.Hit("other"); err != nil {
			t.Errorf("another place: %v", err)
		}
		if err := fault.Hit("armed"); errors.Is(err, fault.ErrInjected) != want {
			t.Errorf("hit %d: %v", hit+1, err)
		}
	}
}
