package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/gateway"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/proofs"
)

func (p *program) newAll() *cobra.Command {
	var o initOptions
	var dir, grpcListen string
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Run a whole log on this machine",
		Long: `Run a whole log on this machine: sequencer, gateway and proofs in this process,
three witnesses in processes of their own. A data folder that is empty becomes a
new log; one that holds a log goes on with it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runAll(cmd.Context(), layout{dir}, o, grpcListen)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8080", "address of the REST interface, the tiles and the proofs")
	cmd.Flags().StringVar(&grpcListen, "grpc-listen", "127.0.0.1:8081", "address of the gRPC interface")
	o.flags(cmd)
	return cmd
}

func (p *program) runAll(ctx context.Context, l layout, o initOptions, grpcListen string) error {
	logger := p.logger()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return err
	}
	grpcListener, err := lc.Listen(ctx, "tcp", grpcListen)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	o.listen = listener.Addr().String()
	s, err := l.readSettings()
	if errors.Is(err, fs.ErrNotExist) {
		if err := initialise(ctx, l, o); err != nil {
			return err
		}
		s, err = l.readSettings()
	}
	if err != nil {
		return err
	}
	sh, err := openShard(ctx, l, s, p.now, logger)
	if err != nil {
		return err
	}
	defer sh.close(logger)
	door, err := openDoor(l, sh, grpcListener, logger) //nolint:contextcheck // Run gets the context
	if err != nil {
		return err
	}
	defer func() { _ = door.Close() }()
	tiles, err := proofs.New(proofs.Config{
		Store: sh.tiles, Policy: sh.policy, Origin: s.Origin, Now: p.now, Logger: logger,
	})
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	parts := []run.Part{
		{Name: "sequencer", Run: sh.run},
		{Name: "gateway", Run: door.Run},
		{Name: "http", Run: func(ctx context.Context) error {
			return run.HTTP(ctx, listener, run.Server(newMux(door.Handler(), tiles.Handler(), newReadiness(sh.ready, logger)), logger))
		}},
	}
	for n := range s.Witnesses {
		parts = append(parts, run.Part{Name: fmt.Sprintf("witness-%d", n+1), Run: func(ctx context.Context) error {
			return superviseWitness(ctx, program, l.witness(n+1, "witness.json"), logger)
		}})
	}
	logger.Info("listening", "http", listener.Addr().String(), "grpc", grpcListener.Addr().String(), "origin", s.Origin)
	return run.All(ctx, parts...)
}

// openDoor makes the gateway.
func openDoor(l layout, sh *shard, grpcListener net.Listener, logger *slog.Logger) (*gateway.Gateway, error) {
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
		Settings: rules, Sequencer: sh.client, Policy: policy, Sidecar: sidecar, Key: sh.gatewayKey, Documents: documents,
		GRPC: grpcListener, Now: sh.now, Log: logger,
	})
}
