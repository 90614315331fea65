// Package command is the command line of a witness: of the program trialog-witness
// and of "trialogd witness", which are the same.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/run"
	"github.com/trialog/trialog/services/internal/signing"
	"github.com/trialog/trialog/services/internal/socket"
	"github.com/trialog/trialog/services/witness"
)

// Program is what the commands need of the process that they are in.
type Program struct {
	Now func() time.Time
	// Logger is asked for after the flags were read.
	Logger func() *slog.Logger
}

// New returns the command that runs a witness, with those that make one and look
// at one below it. name is how a person calls it, such as "trialogd witness".
func New(name string, p Program) *cobra.Command {
	var path string
	var lifeline bool
	cmd := &cobra.Command{
		Use:   name[strings.LastIndex(name, " ")+1:],
		Short: "Cosign the checkpoints of logs that keep to one history",
		Long: `Cosign the checkpoints of logs that keep to one history: each one is signed once
it is proved to grow out of the last one that this witness has signed. What it
has signed is in its state file, which must never be put back to an older copy.

"` + name + ` init" makes a witness.`,
		Example: "  " + name + " --config witness/witness.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tune(os.Getenv("GOGC"), os.Getenv("GOMEMLIMIT"), debug.SetGCPercent, debug.SetMemoryLimit)
			ctx := cmd.Context()
			if lifeline {
				var cancel context.CancelFunc
				ctx, cancel = context.WithCancel(ctx)
				defer cancel()
				go func() {
					_, _ = io.Copy(io.Discard, os.Stdin)
					cancel()
				}()
			}
			return Serve(ctx, path, p)
		},
	}
	// The subcommands look at the same witness.
	cmd.PersistentFlags().StringVar(&path, "config", "witness.json", "configuration file; paths in it are relative to it")
	cmd.Flags().BoolVar(&lifeline, "end-with-stdin", false, "end when standard input ends, so as not to outlive a parent process")
	cmd.AddCommand(newInit(name, &path), newKeys(name, &path), newStatus(name, &path), newEvidence(name, &path))
	return cmd
}

// tune keeps the heap of a witness small, which is the point of one,
// unless the user says otherwise. Its work is signing, not collecting.
func tune(gogc, limit string, percent func(int) int, memory func(int64) int64) {
	const growth, most = 25, 32 << 20
	if gogc == "" {
		percent(growth)
	}
	if limit == "" {
		memory(most)
	}
}

// readConfig reads a witness's configuration. Paths in the file are relative to
// it; they come back as this process can use them.
func readConfig(path string) (*config.Witness, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := config.ParseWitness(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	dir := filepath.Dir(path)
	c.StateFile = absolute(dir, c.StateFile)
	for i, ref := range c.KeyFiles {
		c.KeyFiles[i] = signing.Under(dir, ref)
	}
	for i := range c.LogLists {
		if l := &c.LogLists[i]; l.File != "" {
			// Whole, whatever folder this is started in: it names the list for good.
			if l.File, err = filepath.Abs(absolute(dir, l.File)); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// socketOf is where a running witness is asked how it stands.
func socketOf(c *config.Witness) string { return filepath.Join(c.StateFile+".admin", "socket") }

// Limits of what strangers can hold. Each connection costs memory, up to the
// longest request and its answer; a request is small and has no reason to be slow.
const (
	maxConnections = 512
	readTimeout    = 10 * time.Second
	idleTimeout    = 30 * time.Second
)

func server(handler http.Handler, logger *slog.Logger) *http.Server {
	s := run.Server(handler, logger)
	s.ReadTimeout, s.IdleTimeout = readTimeout, idleTimeout
	return s
}

// Serve runs the witness whose configuration is at path until ctx ends.
func Serve(ctx context.Context, path string, p Program) error {
	c, err := readConfig(path)
	if err != nil {
		return err
	}
	logger := p.Logger().With("witness", c.Name)
	w, err := witness.Open(ctx, c, p.Now, logger)
	if err != nil {
		return err
	}
	c.Logs = nil // megabytes of text, which are keys now
	debug.FreeOSMemory()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	// The state file is locked: no other process has this witness.
	admin, err := socket.Listen(ctx, socketOf(c))
	if err != nil {
		return errors.Join(err, listener.Close(), w.Close())
	}
	logger.Info("witness listens", "name", c.Name, "address", listener.Addr().String())
	err = run.All(ctx,
		run.Part{Name: "witness", Run: w.Run},
		run.Part{Name: "admin", Run: func(ctx context.Context) error {
			err := run.HTTP(ctx, admin, run.Server(w.Inspect(), logger))
			return errors.Join(err, os.Remove(socketOf(c)))
		}},
		run.Part{Name: "http", Run: func(ctx context.Context) error {
			return run.HTTP(ctx, netutil.LimitListener(listener, maxConnections), server(w.Handler(), logger))
		}})
	return errors.Join(err, w.Close())
}

// absolute returns a path that a file in dir names.
func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
