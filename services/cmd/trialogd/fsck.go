package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/blob/bucket"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/storecheck"
	"github.com/trialog/trialog/services/internal/tile"
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
		Example: `  trialogd fsck --data data`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l := layout{dir}
			c, err := l.readSettings()
			if err != nil {
				return err
			}
			var all error
			for i := range c.Shards {
				if shard != "" && c.Shards[i].Name() != shard {
					continue
				}
				report, err := p.checkShard(cmd.Context(), l, c.Shards[i].Under(l.dir), shallow)
				if err != nil {
					return fmt.Errorf("shard %s: %w", c.Shards[i].Name(), err)
				}
				if err := printCheck(cmd, report, asJSON); err != nil {
					return err
				}
				if !report.Clean() {
					all = errDamaged
				}
			}
			return all
		},
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().StringVar(&shard, "shard", "", "name of the shard (default all shards)")
	cmd.Flags().BoolVar(&shallow, "shallow", false, "leave out the signatures of statements: faster")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a report for programs, one line for each shard")
	return cmd
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

func printCheck(cmd *cobra.Command, r *storecheck.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
	}
	for _, f := range r.Findings {
		cmd.Println(f)
	}
	state := "nothing is wrong"
	if !r.Clean() {
		state = fmt.Sprintf("%d places are wrong", len(r.Findings))
	}
	cmd.Printf("%s: %d entries in the tiles, %d in the store: %s\n", r.Origin, r.Size, r.StoreSize, state)
	return nil
}
