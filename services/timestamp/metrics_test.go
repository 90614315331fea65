package timestamp

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauges returns all metrics by name, those with a label by its value.
func gauges(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				name = append(name, l.GetValue())
			}
			values[strings.Join(name, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

// TestMetrics: what an operator sees, while all is well and while it is not.
func TestMetrics(t *testing.T) {
	l := newLogged(t)
	registry := prometheus.NewRegistry()
	open := func() {
		t.Helper()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		registry = prometheus.NewRegistry()
		l.config.Registerer = registry
		l.open()
	}
	expect := func(when string, want map[string]float64) {
		t.Helper()
		got := gauges(t, registry)
		for name, v := range want {
			if g, ok := got["trialog_timestamp_"+name]; !ok || g != v {
				t.Errorf("%s: %s is %v (there: %t), expected %v", when, name, g, ok, v)
			}
		}
	}
	open()
	expect("at the start", map[string]float64{
		"tokens_total": 0, "refusals_total badAlg": 0, "refusals_total timeNotAvailable": 0, "issuing": 1,
		"clock_bound_seconds": 0.0075, "records_waiting": 0,
	})
	l.issue(3)
	l.clock.set(func() { l.clock.err = errors.New("nobody knows") })
	if _, err := l.tryStamp("x"); err == nil {
		t.Error("a token without a clock")
	}
	if _, err := l.Issue([]byte("x")); err == nil {
		t.Error("a token for nothing")
	}
	expect("without a clock", map[string]float64{
		"tokens_total": 3, "refusals_total timeNotAvailable": 1, "refusals_total badDataFormat": 1, "issuing": 0,
		"clock_bound_seconds": math.Inf(1), "records_waiting": 3,
	})
	l.clock.set(func() { l.clock.err = nil })
	open()
	expect("after a restart", map[string]float64{"issuing": 1, "tokens_total": 0, "records_waiting": 3})
	l.clock.pass(time.Hour)
	l.due()
	expect("when all is logged", map[string]float64{"records_waiting": 0})
	if _, err := Open(l.config); err == nil {
		t.Error("opened twice")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(l.config); err == nil { // registered already
		t.Error("metrics that cannot be registered")
	}
	l.config.Registerer = nil
	l.open() // the one that failed has let the file go
}
