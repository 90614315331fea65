package scrub

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/trialog/trialog/api/fsck"
)

// The kinds of findings beyond those of package fsck.
const (
	// KindStore: a leaf of the store is not the one that the signed root supports,
	// or the store refuses to give it.
	KindStore fsck.Kind = "store"
	// KindIdentity: the store's identity index does not have a leaf, or at another
	// place.
	KindIdentity fsck.Kind = "identity"
	// kindOther stands for kinds that a later fsck may have.
	kindOther fsck.Kind = "other"
)

// kinds are the values of the label: few, and known beforehand.
func kinds() []fsck.Kind {
	return []fsck.Kind{
		fsck.KindCheckpoint, fsck.KindRoot, fsck.KindMissing, fsck.KindUnreadable, fsck.KindTruncated, fsck.KindSurplus,
		fsck.KindHash, fsck.KindEntry, fsck.KindDispute, KindStore, KindIdentity, kindOther,
	}
}

type metrics struct {
	findings  *prometheus.CounterVec
	lastCycle prometheus.Gauge
	position  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trialog_scrub_findings_total", Help: "Places that the scrub found to be wrong, by kind; the same place counts once a cycle.",
		}, []string{"kind"}),
		lastCycle: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "trialog_scrub_last_cycle_timestamp_seconds", Help: "When the scrub last came to the end of the log.",
		}),
		position: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "trialog_scrub_position", Help: "The entry up to which the current cycle has come.",
		}),
	}
	// An alert on a counter that is not there yet never fires.
	for _, k := range kinds() {
		m.findings.WithLabelValues(string(k))
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.findings, m.lastCycle, m.position} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) count(k fsck.Kind) {
	if !slices.Contains(kinds(), k) {
		k = kindOther
	}
	m.findings.WithLabelValues(string(k)).Inc()
}
