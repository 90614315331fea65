package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/gateway"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/proofs"
	"github.com/trialog/trialog/services/sequencer"
)

// allOptions are about one run, not about the log.
type allOptions struct {
	grpcListen, metricsListen string
	elsewhere                 bool // others run the witnesses
}

func (p *program) newAll() *cobra.Command {
	var o initOptions
	var dir string
	var a allOptions
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Run a whole log on this machine",
		Long: `Run a whole log on this machine: sequencer, gateway and proofs in this process,
three witnesses in processes of their own. A data folder that is empty becomes a
new log; one that holds a log goes on with it, and with the places, the
witnesses and the clock sources that it was made with.`,
		Example: `  trialogd all --data data
  trialogd all --data data --metrics-listen 127.0.0.1:9090`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runAll(cmd.Context(), layout{dir}, o, a)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the REST interface, the tiles and the proofs")
	cmd.Flags().StringVar(&a.grpcListen, "grpc-listen", "127.0.0.1:8081", "address of the gRPC interface")
	cmd.Flags().StringVar(&a.metricsListen, "metrics-listen", "", "address of /metrics, for Prometheus (default: none)")
	cmd.Flags().BoolVar(&a.elsewhere, "witnesses-elsewhere", false,
		`do not run the witnesses: "trialogd witness" does, with the same addresses`)
	o.flags(cmd)
	return cmd
}

func (p *program) runAll(ctx context.Context, l layout, o initOptions, a allOptions) error {
	logger := p.logger()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	grpcListener, err := lc.Listen(ctx, "tcp", a.grpcListen)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	// What serves them closes them too; a second time does nothing.
	defer func() { _, _ = listener.Close(), grpcListener.Close() }()
	o.listen = listener.Addr().String()
	s, err := p.settings(ctx, l, o)
	if err != nil {
		return err
	}
	e, err := openEngine(ctx, l, s, p.now, logger)
	if err != nil {
		return err
	}
	defer e.close()
	tiles, err := e.openProofs(ctx)
	if err != nil {
		return err
	}
	door, err := openDoor(l, e, grpcListener, tiles.Register, logger) //nolint:contextcheck // Run gets the context
	if err != nil {
		return err
	}
	defer func() { _ = door.Close() }()
	e.activate = tiles.Activate
	parts := []run.Part{
		{Name: "log", Run: e.run},
		{Name: "admin", Run: func(ctx context.Context) error { return e.serveAdmin(ctx, l.admin()) }},
		{Name: "gateway", Run: door.Run},
		{Name: "http", Run: func(ctx context.Context) error {
			return run.HTTP(ctx, listener, run.Server(newMux(door.Handler(), tiles.Handler(), newReadiness(e.ready, logger), e.list), logger))
		}},
	}
	if os.Getenv("GOGC") == "" {
		parts = append(parts, run.Part{Name: "collector", Run: func(ctx context.Context) error {
			return tendCollector(ctx, debug.SetGCPercent)
		}})
	}
	if !a.elsewhere {
		witnesses, err := witnessParts(l, len(s.Witnesses), logger)
		if err != nil {
			return err
		}
		parts = append(parts, witnesses...)
	}
	if a.metricsListen != "" {
		metrics, err := lc.Listen(ctx, "tcp", a.metricsListen)
		if err != nil {
			return err
		}
		serve := func(ctx context.Context) error { return serveMetrics(ctx, e.metrics, logger, metrics) }
		parts = append(parts, run.Part{Name: "metrics", Run: serve})
	}
	logger.Info("listening", "http", listener.Addr().String(), "grpc", grpcListener.Addr().String(), "origin", e.active().place.Origin)
	return run.All(ctx, parts...)
}

// settings reads what init decided; an empty folder is made a log first.
func (p *program) settings(ctx context.Context, l layout, o initOptions) (*config.Log, error) {
	s, err := l.readSettings()
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if err := initialise(ctx, l, o, p.now()); err != nil {
		return nil, err
	}
	return l.readSettings()
}

// witnessParts are the first n witnesses, each in a process of its own.
func witnessParts(l layout, n int, logger *slog.Logger) ([]run.Part, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	parts := make([]run.Part, n)
	for i := range parts {
		parts[i] = run.Part{Name: fmt.Sprintf("witness-%d", i+1), Run: func(ctx context.Context) error {
			return superviseWitness(ctx, program, l.witness(i+1, "witness.json"), logger)
		}}
	}
	return parts, nil
}

// publishedFor is for how long a checkpoint is taken to be the published one
// without looking: not longer than the least time between two.
const publishedFor = 100 * time.Millisecond

// openProofs makes the service that reads are answered by. Those that name no
// shard go to the newest one that has published anything; startShards moves them
// on.
func (e *engine) openProofs(ctx context.Context) (*proofs.Proofs, error) {
	c := proofs.Config{Policy: e.policy, Now: e.now, Logger: e.log, Refresh: publishedFor, Anchors: e.anchors.served()}
	newest := 0
	for i, sh := range e.shards {
		_, err := sh.tiles.Get(ctx, sequencer.CheckpointKey)
		switch {
		case err == nil:
			newest = i
		case !errors.Is(err, blob.ErrNotFound):
			return nil, fmt.Errorf("read the published checkpoint of %s: %w", sh.place.Origin, err)
		}
		c.Shards = append(c.Shards, proofs.Shard{Origin: sh.place.Origin, Store: sh.tiles})
	}
	c.Shards[newest].Active = true
	return proofs.New(c)
}

// openDoor makes the gateway.
func openDoor(
	l layout, e *engine, grpcListener net.Listener, beside func(grpc.ServiceRegistrar), logger *slog.Logger,
) (*gateway.Gateway, error) {
	policy, err := os.ReadFile(l.policy())
	if err != nil {
		return nil, err
	}
	sidecar, err := os.ReadFile(l.sidecar())
	if err != nil {
		return nil, err
	}
	documents, err := blob.OpenDir(l.documents())
	if err != nil {
		return nil, err
	}
	rules := config.Gateway{StateFile: l.gatewayState(), KeyFile: l.key(gatewayKey)}
	for _, name := range tokenFiles() {
		sum, err := tokenHash(l.token(name))
		if err != nil {
			return nil, err
		}
		t := config.GatewayToken{SHA256: sum, Principal: "demo-" + name, Permissions: []string{name}}
		if name == "enrol" {
			t.Permissions = append(t.Permissions, "upload")
			t.Roles = []string{"sponsor", "cro", "site", "ethics", "regulator", "auditor", "admin"}
		} else {
			t.Organisation = "demo-site"
		}
		rules.Tokens = append(rules.Tokens, t)
	}
	return gateway.New(gateway.Config{
		Settings: rules, Sequencer: router{e}, Policy: policy, Sidecar: sidecar, Key: e.gatewayKey, Documents: documents,
		GRPC: grpcListener, Beside: beside, Now: e.now, Log: logger,
	})
}
