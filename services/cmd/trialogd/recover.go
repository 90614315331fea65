package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob/bucket"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tilehttp"
	"github.com/trialog/trialog/services/internal/tlog"
	"github.com/trialog/trialog/services/internal/tlog/backend"
	"github.com/trialog/trialog/services/recovery"
)

// recoverOptions are what a person decides about a recovery.
type recoverOptions struct {
	shard            string // by name; empty for every shard
	from             string
	emptyStore       bool
	recreateRegister bool
	rewriteTiles     bool
	signedOnly       bool
}

func (p *program) newRecover() *cobra.Command {
	var o recoverOptions
	var dir string
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Bring a log's store back to what was signed",
		Long: `Bring the store of a stopped log back to what was signed, from the log's own
tiles or from a mirror, after store, tiles or register were lost or put back to
an older copy.

Every entry is verified before it is imported. The register is moved forward
where signed checkpoints are newer, never back. Nothing is signed; the next start
asks the witnesses as always. A recovery that was cut off can be repeated.`,
		Example: `  trialogd recover --data data
  trialogd recover --data data --from https://mirror.example.org --shard 2026
  trialogd recover --data data --empty-store      the store is damaged: begin with a new one`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runRecover(cmd, layout{dir}, o) },
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().StringVar(&o.shard, "shard", "", "name of the shard (default: all shards)")
	cmd.Flags().StringVar(&o.from, "from", "",
		"copy of the tiles: URL of a mirror, a folder, or s3://BUCKET?prefix=… (default: the log's own tiles)")
	cmd.Flags().BoolVar(&o.emptyStore, "empty-store", false, "put the old store aside and begin with an empty one")
	cmd.Flags().BoolVar(&o.rewriteTiles, "rewrite-tiles", false, "write all of the log's own tiles again")
	cmd.Flags().BoolVar(&o.recreateRegister, "recreate-register", false,
		"make a register that is missing; only if no newer checkpoint can exist anywhere, or the log forks")
	cmd.Flags().BoolVar(&o.signedOnly, "signed-only", false, "give up entries that were promised but are in no signed checkpoint")
	return cmd
}

func (p *program) runRecover(cmd *cobra.Command, l layout, o recoverOptions) error {
	places, err := l.stopped(cmd.Context(), o.shard)
	if err != nil {
		return err
	}
	// Before anything is put aside.
	for _, place := range places {
		if _, err := sourceOf(o.from, place.Name(), len(places) > 1); err != nil {
			return err
		}
	}
	for _, place := range places {
		if err := p.recoverShard(cmd, l, place, o, len(places) > 1); err != nil {
			return fmt.Errorf("shard %s: %w", place.Name(), err)
		}
	}
	return nil
}

func (p *program) recoverShard(cmd *cobra.Command, l layout, place config.Shard, o recoverOptions, several bool) (err error) {
	ctx, logger := cmd.Context(), p.logger()
	var closers []func() error
	defer func() {
		for _, c := range slices.Backward(closers) {
			err = errors.Join(err, c())
		}
	}()
	r := recovery.Config{
		Origin: place.Origin, RecreateRegister: o.recreateRegister, RewriteTiles: o.rewriteTiles, SignedOnly: o.signedOnly,
		Logger: logger,
	}
	if r.Policy, err = readPolicy(l); err != nil {
		return err
	}
	reg, err := openRegister(ctx, place)
	if errors.Is(err, register.ErrOwned) {
		return fmt.Errorf("stop the log first: %w", err)
	} else if err != nil {
		return err
	}
	r.Register = reg
	closers = append(closers, reg.Close)
	tiles, err := bucket.Open(ctx, place.Tiles)
	if err != nil {
		return err
	}
	r.Tiles = tiles
	closers = append(closers, tiles.Close)
	source, closeSource, err := openSource(ctx, o.from, place.Name(), several)
	if err != nil {
		return err
	}
	r.Source = source
	closers = append(closers, closeSource)
	if o.emptyStore {
		if err := setAside(place); err != nil {
			return err
		}
	}
	tree, err := p.openOrMakeTree(ctx, place)
	if err != nil {
		return err
	}
	r.Log = tree
	closers = append(closers, tree.Close)
	report, err := recovery.Run(ctx, r)
	if report != nil {
		printRecovery(cmd, place.Name(), report, err)
	}
	return err
}

// openOrMakeTree opens the store, or makes one where there is none.
func (p *program) openOrMakeTree(ctx context.Context, place config.Shard) (tlog.Log, error) {
	if path, ok := localFolder(place.Store); ok {
		if err := makeFolder(path); err != nil {
			return nil, err
		}
	}
	tree, err := openTree(ctx, place, p.now, p.logger())
	if errors.Is(err, tlog.ErrNotFound) {
		return backend.Create(ctx, place.Store, backend.Config{Origin: place.Origin, Now: p.now, Logger: p.logger()})
	}
	return tree, err
}

// sourceOf returns where the copy of a shard's tiles is, as a URL. A server has
// each shard at /shards/NAME, a mirror's folder in NAME; several tells that one
// place for all will not do.
func sourceOf(from, shard string, several bool) (string, error) {
	one := errors.New("from: holds the tiles of one shard; name it with --shard")
	switch {
	case from == "":
		return "", nil
	case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
		if !strings.Contains(from, "/shards/") {
			return strings.TrimSuffix(from, "/") + "/shards/" + shard, nil
		}
	case strings.HasPrefix(from, "s3:"):
	default:
		from = strings.TrimPrefix(from, "file:")
		if isFolder(filepath.Join(from, shard)) {
			return "file:" + filepath.Join(from, shard), nil
		}
		if !isFolder(from) {
			return "", fmt.Errorf("from: expected a URL of http, https or s3, or a folder that exists, got %q", from)
		}
		from = "file:" + from
	}
	if several {
		return "", one
	}
	return from, nil
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// openSource opens the copy of the tiles to recover from; nil if none was named.
func openSource(ctx context.Context, from, shard string, several bool) (tile.Source, func() error, error) {
	nothing := func() error { return nil }
	at, err := sourceOf(from, shard, several)
	if err != nil || at == "" {
		return nil, nothing, err
	}
	if strings.HasPrefix(at, "http") {
		source, err := tilehttp.New(tilehttp.Config{URL: at})
		return source, nothing, err
	}
	store, err := bucket.Open(ctx, at)
	if err != nil {
		return nil, nothing, err
	}
	return tile.FromStore(store), store.Close, nil
}

// setAside renames the folder of a store, so that nothing is deleted.
func setAside(place config.Shard) error {
	path, ok := localFolder(place.Store)
	if !ok {
		return errors.New("empty-store: only for a store in a folder; give a shard on PostgreSQL an empty database")
	}
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.aside-%d", path, n)
		if _, err := os.Lstat(aside); err == nil {
			continue
		}
		if err := os.Rename(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
}

func printRecovery(cmd *cobra.Command, shard string, r *recovery.Report, err error) {
	cmd.Printf("Shard %s: the store had %d entries, the tiles %d, the register %d.\n", shard, r.StoreSize, r.TilesSize, r.RegisterSize)
	for _, problem := range r.Problems {
		cmd.Printf("  note: %s\n", problem)
	}
	if err != nil {
		return
	}
	cmd.Printf("  imported %d entries; the store now has %d, root %s\n", r.Imported, r.Size, hex.EncodeToString(r.Root[:]))
	if r.TilesWritten > 0 {
		cmd.Printf("  wrote the tiles of %d entries\n", r.TilesWritten)
	}
	switch {
	case r.RegisterCreated:
		cmd.Printf("  made the register anew, at %d entries\n", r.Registered.Size)
	case r.RegisterMoved:
		cmd.Printf("  moved the register forward to %d entries\n", r.Registered.Size)
	default:
		cmd.Printf("  the register is at %d entries\n", r.Registered.Size)
	}
}
