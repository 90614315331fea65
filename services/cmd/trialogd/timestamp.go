package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/clock"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/signing"
	"github.com/trialog/trialog/services/timestamp"
)

// timestampConfig is the name of the configuration that init writes.
const timestampConfig = "timestamp.json"

func (p *program) newTimestamp() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "timestamp",
		Short: "Issue RFC 3161 time-stamp tokens while the clock can be shown to be right",
		Long: `Issue RFC 3161 time-stamp tokens while the clock can be shown to be right.

The clock is compared with three sources or more. While a majority of them does
not show that it is within the stated accuracy, no token is issued. The record of
each token is on the disk before the token leaves, and goes into the log with
those of the same hour.

"trialogd timestamp init" makes the keys, a certificate and the configuration.`,
		Example: `  trialogd timestamp init --dir tsa --beside data
  trialogd timestamp --config tsa/timestamp.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runTimestamp(cmd.Context(), path) },
	}
	cmd.Flags().StringVar(&path, "config", timestampConfig, "configuration file; paths in it are relative to it")
	cmd.AddCommand(p.newTimestampInit(), p.newTimestampEnrol(), newTimestampReceipt())
	return cmd
}

// readTimestamp reads a configuration. Its paths are relative to the file.
func readTimestamp(path string) (*config.Timestamp, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := config.ParseTimestamp(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	dir := filepath.Dir(path)
	c.Key = signing.Under(dir, c.Key)
	c.CertificateFile, c.StateFile = absolute(dir, c.CertificateFile), absolute(dir, c.StateFile)
	if l := c.Log; l != nil {
		l.Key = signing.Under(dir, l.Key)
		l.PolicyFile, l.SidecarFile, l.Folder = absolute(dir, l.PolicyFile), absolute(dir, l.SidecarFile), absolute(dir, l.Folder)
	}
	return c, nil
}

// runTimestamp serves an authority until ctx ends.
func (p *program) runTimestamp(ctx context.Context, path string) error {
	logger := p.logger()
	c, err := readTimestamp(path)
	if err != nil {
		return err
	}
	guard, err := p.timestampGuard(c, filepath.Dir(path), logger)
	if err != nil {
		return err
	}
	key, err := openKey(ctx, c.Key)
	if err != nil {
		return err
	}
	defer func() { _ = key.Close() }()
	setup, done, err := p.timestampSetup(ctx, c, logger)
	if err != nil {
		return err
	}
	defer done()
	metrics := newRegistry()
	setup.Key, setup.Clock, setup.Registerer = key, guard, metrics
	a, err := timestamp.Open(setup)
	if err != nil {
		return err
	}
	guard.Poll(ctx) // before anybody asks
	parts := []run.Part{{Name: "clock", Run: endsInOrder(guard.Run)}, {Name: "timestamp", Run: a.Run}}
	servers, err := timestampServers(ctx, c, a, metrics, logger)
	if err == nil {
		err = run.All(ctx, append(parts, servers...)...)
	}
	return errors.Join(err, a.Close())
}

// timestampServers listen at the addresses of a configuration.
func timestampServers(
	ctx context.Context, c *config.Timestamp, a *timestamp.Authority, metrics prometheus.Gatherer, logger *slog.Logger,
) ([]run.Part, error) {
	lc := new(net.ListenConfig)
	listener, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, err
	}
	public := run.Part{Name: "http", Run: func(ctx context.Context) error {
		return run.HTTP(ctx, listener, run.Server(a.Handler(), logger))
	}}
	if c.MetricsListen == "" {
		logger.Info("time-stamp authority listens", "address", listener.Addr().String())
		return []run.Part{public}, nil
	}
	inner, err := lc.Listen(ctx, "tcp", c.MetricsListen)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	logger.Info("time-stamp authority listens", "address", listener.Addr().String(), "metrics", inner.Addr().String())
	return []run.Part{public, {Name: "metrics", Run: func(ctx context.Context) error {
		return serveMetrics(ctx, metrics, logger, inner)
	}}}, nil
}

// openKey opens a key, which may be in a device that does not answer.
func openKey(ctx context.Context, ref string) (signing.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return signing.Open(ctx, ref)
}

// endsInOrder has a part that returns its context's error end without one.
func endsInOrder(work func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := work(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		return err
	}
}

func (p *program) timestampGuard(c *config.Timestamp, dir string, logger *slog.Logger) (*clock.Guard, error) {
	parser := clock.Parser{Now: p.now, Dir: dir}
	sources := make([]clock.Source, 0, len(c.ClockSources))
	for i, address := range c.ClockSources {
		s, err := parser.Parse(address)
		if err != nil {
			return nil, fmt.Errorf("clock_sources[%d]: %w", i, err)
		}
		sources = append(sources, s)
	}
	return clock.New(clock.Config{Sources: sources, Now: p.now, Interval: time.Duration(c.ClockInterval), Logger: logger})
}

// timestampSetup reads all that an authority needs but its key and its clock. done
// closes what was opened.
func (p *program) timestampSetup(
	ctx context.Context, c *config.Timestamp, logger *slog.Logger,
) (setup timestamp.Config, done func(), err error) {
	done = func() {}
	setup = timestamp.Config{Accuracy: time.Duration(c.Accuracy), StateFile: c.StateFile, Logger: logger}
	if setup.Policy, err = parseOID(c.Policy); err != nil {
		return setup, done, err
	}
	if setup.Chain, err = os.ReadFile(c.CertificateFile); err != nil {
		return setup, done, err
	}
	if c.Log == nil {
		logger.Warn("token records are logged nowhere: nobody can tell tokens of this authority from those of a stolen key")
		return setup, done, nil
	}
	logs, err := p.openLog(ctx, c.Log)
	if err != nil {
		return setup, done, err
	}
	if err := makeFolder(c.Log.Folder); err != nil {
		logs.close()
		return setup, done, err
	}
	setup.Journal = &timestamp.JournalConfig{
		Log: logs.client, Name: logs.name, Organisation: c.Log.Organisation, Key: logs.key,
		Interval: time.Duration(c.Log.Interval), Folder: c.Log.Folder, Now: p.now,
	}
	return setup, logs.close, nil
}

// logAccess is a log, and the key to speak to it with.
type logAccess struct {
	client *client.Client
	name   string
	key    *statement.PrivateKey
	close  func()
}

// logRetry is for how long a call to the log is repeated before the journal takes
// its own pause.
const logRetry = 30 * time.Second

func (p *program) openLog(ctx context.Context, l *config.TimestampLog) (*logAccess, error) {
	policy, err := readPolicyFiles(l.PolicyFile, l.SidecarFile)
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{
		Server: l.URL, Policy: policy, Now: p.now, Retry: client.Retry{For: logRetry}, UserAgent: "trialogd-timestamp",
	})
	if err != nil {
		return nil, err
	}
	signer, err := openKey(ctx, l.Key)
	if err != nil {
		return nil, err
	}
	key, err := statement.NewPrivateKey(signer)
	if err != nil {
		return nil, errors.Join(err, signer.Close())
	}
	return &logAccess{client: c, name: policy.Trust().Log, key: key, close: func() { _ = signer.Close() }}, nil
}

func newTimestampReceipt() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "receipt SERIAL",
		Short: "Write the receipt of the record of one token",
		Long: `Write the receipt of the record of one token to standard output: it shows that
this authority logged the token. SERIAL is the serial number as "openssl ts
-reply -text" shows it, in hexadecimal. A token from before the last batch whose
record is in none was not issued by this authority.`,
		Example: `  trialogd timestamp receipt 0x019AA0C4F1D25E1D0C3BA1E700000000002A --config tsa/timestamp.json > token.receipt
  trialog verify token.receipt --statement-only --policy log.policy`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			const hexadecimal = 16
			number, ok := new(big.Int).SetString(strings.TrimPrefix(strings.ToLower(args[0]), "0x"), hexadecimal)
			if !ok || number.Sign() <= 0 {
				return fmt.Errorf("serial: expected a number in hexadecimal, got %q", args[0])
			}
			c, err := readTimestamp(path)
			if err != nil {
				return err
			}
			if c.Log == nil {
				return errors.New("this authority logs its tokens nowhere")
			}
			raw, err := timestamp.Receipt(c.Log.Folder, number)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(raw)
			return err
		},
	}
	cmd.Flags().StringVar(&path, "config", timestampConfig, "configuration file of the authority")
	return cmd
}
