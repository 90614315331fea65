package anchor

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/services/internal/anchored"
)

// metrics are what an operator sees of the anchoring.
type metrics struct {
	size, time prometheus.Gauge
	requests   *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, parties []string) (*metrics, error) {
	m := &metrics{
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "trialog_anchor_size", Help: "Size of the newest anchored checkpoint.",
		}),
		time: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "trialog_anchor_timestamp_seconds", Help: "When the newest anchored checkpoint was anchored.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trialog_anchor_requests_total", Help: "Checkpoints that a witness or an authority was asked to vouch for, by result.",
		}, []string{"anchor", "result"}),
	}
	// An alert on a counter that is not there yet never fires.
	for _, name := range parties {
		for _, result := range []string{resultOK, resultFailed} {
			m.requests.WithLabelValues(name, result)
		}
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.size, m.time, m.requests} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Results of asking somebody.
const (
	resultOK     = "ok"
	resultFailed = "failed"
)

func (m *metrics) asked(party string, ok bool) {
	result := resultFailed
	if ok {
		result = resultOK
	}
	m.requests.WithLabelValues(party, result).Inc()
}

func (m *metrics) anchored(r *anchored.Record) {
	m.size.Set(float64(r.Note.Checkpoint().Size))
	m.time.Set(float64(r.At.Unix()))
}
