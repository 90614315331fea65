package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/trialog/trialog/api/entry"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/scrub"
)

// newRegistry returns the process's metrics.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// serveMetrics answers /metrics at an address of its own, which is not the
// public's, until ctx ends.
func serveMetrics(ctx context.Context, metrics prometheus.Gatherer, logger *slog.Logger, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return run.HTTP(ctx, listener, run.Server(mux, logger))
}

// scrubber returns the part that reads a shard again and again.
func (e *engine) scrubber(sh *shard) (run.Part, error) {
	// Beside the ledger, and under its name: two ledgers may lie in one folder.
	state, err := blob.OpenDir(filepath.Clean(sh.place.Ledger) + "-scrub")
	if err != nil {
		return run.Part{}, err
	}
	sh.closers = append(sh.closers, state.Close)
	s, err := scrub.New(scrub.Config{
		Origin: sh.place.Origin, Policy: e.policy, Tiles: tile.Whole{Store: sh.tiles}, Log: sh.tree, Identity: entry.Identity, State: state,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"shard": sh.place.Name()}, e.metrics),
		Logger:     sh.log, Now: e.now,
	})
	if err != nil {
		return run.Part{}, err
	}
	return s.Part(), nil
}
