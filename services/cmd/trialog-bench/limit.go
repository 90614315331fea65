package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (p *program) newLimit() *cobra.Command {
	var dir string
	var clients int
	cmd := &cobra.Command{
		Use:   "limit {fdatasync|sha256|ed25519|grpc}",
		Short: "Measure what the machine can do at most",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var r *report
			var err error
			switch args[0] {
			case "fdatasync":
				r, err = p.limitSync(cmd.Context(), dir)
			case "sha256":
				r, err = p.limitHash(cmd.Context())
			case "ed25519":
				r, err = p.limitVerify(cmd.Context())
			case "grpc":
				r, err = p.limitCall(cmd.Context(), clients)
			default:
				err = fmt.Errorf("no such limit: %q", args[0])
			}
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", os.TempDir(), "fdatasync: folder on the disk that is measured")
	cmd.Flags().IntVar(&clients, "clients", 64, "grpc: calls under way at a time")
	return cmd
}

// limitSync overwrites 4 KiB of a file that has its length already, and syncs
// the data, one after the other.
func (p *program) limitSync(ctx context.Context, dir string) (r *report, err error) {
	f, err := os.Create(filepath.Join(dir, "fdatasync"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	const block, blocks = 4096, 256
	if _, err := f.Write(make([]byte, block*blocks)); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	data, n := bytes.Repeat([]byte{1}, block), int64(0)
	r, err = p.closed(ctx, 1, func(context.Context, int) error {
		n++
		if _, err := f.WriteAt(data, n%blocks*block); err != nil {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	})
	if err != nil {
		return nil, err
	}
	r.Notes = []string{"4 KiB pwrite and fdatasync, one at a time"}
	return r, nil
}

// limitHash hashes 300 bytes on every core.
func (p *program) limitHash(ctx context.Context) (*report, error) {
	return p.burn(ctx, func(source *noise) (func() error, error) {
		value := source.bytes(301)
		return func() error {
			for range 64 {
				sum := sha256.Sum256(value)
				copy(value, sum[:])
			}
			return nil
		}, nil
	}, 64, "SHA-256 of 301 bytes on every core")
}

// limitVerify verifies Ed25519 signatures of 1 KiB on every core.
func (p *program) limitVerify(ctx context.Context) (*report, error) {
	return p.burn(ctx, func(source *noise) (func() error, error) {
		key := ed25519.NewKeyFromSeed(source.bytes(ed25519.SeedSize))
		public, ok := key.Public().(ed25519.PublicKey)
		if !ok {
			return nil, errors.New("not an Ed25519 key")
		}
		message := source.bytes(1024)
		signature := ed25519.Sign(key, message)
		return func() error {
			if !ed25519.Verify(public, message, signature) {
				return errors.New("a signature does not verify")
			}
			return nil
		}, nil
	}, 1, "Ed25519 verifications of 1 KiB on every core")
}

// burn measures work, each call of which counts for n, on every core at once.
func (p *program) burn(ctx context.Context, work func(*noise) (func() error, error), n float64, note string) (*report, error) {
	cores := runtime.GOMAXPROCS(0)
	sources, err := newNoises(cores)
	if err != nil {
		return nil, err
	}
	calls := make([]func() error, cores)
	for i := range calls {
		if calls[i], err = work(sources[i]); err != nil {
			return nil, err
		}
	}
	r, err := p.closed(ctx, cores, func(_ context.Context, client int) error { return calls[client]() })
	if err != nil {
		return nil, err
	}
	r.Figures["per_second"] *= n
	// What a core does in a second of its own time, whoever else had a share.
	r.Figures["per_core_second"] = r.Figures["per_second"] / r.Figures["cpu_cores"]
	r.Notes = []string{note}
	return r, nil
}
