package timestamp

import (
	"errors"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	api "github.com/trialog/trialog/api/timestamp"
)

// metrics are what an operator sees of the authority.
type metrics struct {
	tokens   prometheus.Counter
	refusals *prometheus.CounterVec
}

// reasons are the values of the label: few, and known beforehand.
func reasons() []api.Failure {
	return []api.Failure{
		api.BadAlgorithm, api.BadRequest, api.BadDataFormat, api.TimeNotAvailable,
		api.UnacceptedPolicy, api.UnacceptedExtension, api.SystemFailure,
	}
}

func newMetrics(r prometheus.Registerer, a *Authority) (*metrics, error) {
	m := &metrics{
		tokens: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "trialog_timestamp_tokens_total", Help: "Tokens that were issued.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trialog_timestamp_refusals_total", Help: "Requests that got no token, by the failure in the reply (RFC 3161, PKIFailureInfo).",
		}, []string{"reason"}),
	}
	// An alert on a counter that is not there yet never fires.
	for _, reason := range reasons() {
		m.refusals.WithLabelValues(reason.String())
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.tokens, m.refusals,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "trialog_timestamp_issuing", Help: "1 if a token would be issued now, 0 if not.",
		}, func() float64 {
			if a.Ready() != nil {
				return 0
			}
			return 1
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "trialog_timestamp_clock_bound_seconds",
			Help: "How far the clock may be off, as a majority of the sources of time shows; infinite if none does.",
		}, func() float64 {
			now, err := a.c.Clock.Read()
			if err != nil {
				return math.Inf(1)
			}
			return now.Bound.Seconds()
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "trialog_timestamp_records_waiting", Help: "Records of tokens that are not logged yet.",
		}, func() float64 { return float64(a.state.records.Load()) }),
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// answered counts what Issue returned.
func (m *metrics) answered(err error) {
	if err == nil {
		m.tokens.Inc()
		return
	}
	reason := api.SystemFailure
	if e, ok := errors.AsType[*RefusalError](err); ok {
		reason = e.Failure
	}
	m.refusals.WithLabelValues(reason.String()).Inc()
}
