package command

import "testing"

// TestTune: the user's own settings stay.
func TestTune(t *testing.T) {
	for _, tc := range []struct {
		gogc, limit string
		want        string
	}{{"", "", "pm"}, {"100", "", "m"}, {"", "1GiB", "p"}, {"off", "off", ""}} {
		got := ""
		tune(tc.gogc, tc.limit, func(int) int { got += "p"; return 0 }, func(int64) int64 { got += "m"; return 0 })
		if got != tc.want {
			t.Errorf("GOGC=%s GOMEMLIMIT=%s: %q, want %q", tc.gogc, tc.limit, got, tc.want)
		}
	}
}
