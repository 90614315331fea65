//go:build !faults

package fault_test

import (
	"testing"

	"github.com/trialog/trialog/services/internal/fault"
)

// TestCompiledAway: without the tag nothing can be armed.
func TestCompiledAway(t *testing.T) {
	t.Setenv(fault.Variable, "x=error@1")
	if err := fault.Hit("x"); err != nil {
		t.Errorf("hit: %v", err)
	}
}
