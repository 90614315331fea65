package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob/bucket"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/storecheck"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/internal/tlog/backend"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
)

// errDamaged says that something is wrong; what, was printed.
var errDamaged = errors.New("the log is damaged")

func (p *program) newFsck() *cobra.Command {
	var dir, shard string
	var shallow, asJSON bool
	cmd := &cobra.Command{
		Use:   "fsck",
		Short: "Check a stopped log's store, tiles and register against each other",
		Long: `Check a stopped log's store, tiles and register against each other: everything is
read, and worked out anew. Each place that does not fit is named, with which side
the signed root supports. Nothing that an entry says is printed.

From outside, over the network, "trialog fsck" checks a log's tiles.`,
		Example: `  trialogd fsck --data data
  trialogd fsck --data data --shard 2026 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.runFsck(cmd, layout{dir}, shard, shallow, asJSON)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().StringVar(&shard, "shard", "", "name of the shard (default: all shards)")
	cmd.Flags().BoolVar(&shallow, "shallow", false, "leave out the signatures of statements: faster")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a report for programs, one line for each shard")
	return cmd
}

func (p *program) runFsck(cmd *cobra.Command, l layout, shard string, shallow, asJSON bool) error {
	places, err := l.stopped(cmd.Context(), shard)
	if err != nil {
		return err
	}
	// One that cannot be checked does not hide what is wrong with another.
	var failed []error
	damaged := false
	for _, place := range places {
		report, err := p.checkShard(cmd.Context(), l, place, shallow)
		if err != nil {
			failed = append(failed, fmt.Errorf("shard %s: %w", place.Name(), err))
			continue
		}
		if err := printCheck(cmd, report, asJSON, !backend.IsPostgres(place.Store)); err != nil {
			return err
		}
		damaged = damaged || !report.Clean()
	}
	if damaged {
		failed = append(failed, errDamaged)
	}
	return errors.Join(failed...)
}

// stopped returns the shards of a log that is not running: the one of that name,
// or all of them.
func (l layout) stopped(ctx context.Context, shard string) ([]config.Shard, error) {
	c, err := l.readSettings()
	if err != nil {
		return nil, noLog(l, err)
	}
	var places []config.Shard
	var names []string
	for i := range c.Shards {
		names = append(names, c.Shards[i].Name())
		if shard == "" || shard == c.Shards[i].Name() {
			places = append(places, c.Shards[i].Under(l.dir))
		}
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("shard: the log has no shard %q, expected one of %s", shard, strings.Join(names, ", "))
	}
	return places, checkNobody(ctx, l.admin())
}

func (p *program) checkShard(ctx context.Context, l layout, place config.Shard, shallow bool) (_ *storecheck.Report, err error) {
	c := storecheck.Config{Origin: place.Origin, Shallow: shallow}
	if c.Policy, err = readPolicy(l); err != nil {
		return nil, err
	}
	reg, err := openRegister(ctx, place)
	if errors.Is(err, register.ErrOwned) {
		return nil, fmt.Errorf("stop the log first: %w", err)
	} else if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	c.Register = reg
	tiles, err := bucket.Open(ctx, place.Tiles)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tiles.Close()) }()
	c.Tiles = tile.Whole{Store: tiles}
	if path, ok := localFolder(place.Store); ok {
		// Inspect, not Open: that mends what is to be found here.
		store, err := pebblestore.Inspect(path, pebblestore.Options{Logger: p.logger()})
		if err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
		defer func() { err = errors.Join(err, store.Close()) }()
		c.Store = store
	}
	return storecheck.Check(ctx, c)
}

func printCheck(cmd *cobra.Command, r *storecheck.Report, asJSON, withStore bool) error {
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
	}
	for _, f := range r.Findings {
		cmd.Println(f)
	}
	state := "nothing is wrong"
	switch n := len(r.Findings); {
	case r.Clean():
	case n == 1:
		state = "1 place is wrong"
	default:
		state = fmt.Sprintf("%d places are wrong", n)
	}
	store := "the store is a database, and is not read"
	if withStore {
		store = fmt.Sprintf("%d in the store", r.StoreSize)
	}
	cmd.Printf("%s: %d entries in the tiles, %s: %s\n", r.Origin, r.Size, store, state)
	return nil
}
