package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/internal/blob"
	"github.com/trialog/trialog/services/internal/tile"
	"github.com/trialog/trialog/services/sequencer"
)

func (p *program) newProve() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "prove",
		Short: "Prove inclusion of random entries of a log from its tiles, one after the other",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.prove(cmd.Context(), data)
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data folder of the log")
	_ = cmd.MarkFlagRequired("data") // it was just defined
	return cmd
}

func (p *program) prove(ctx context.Context, data string) (*report, error) {
	shard, _, err := newestShard(data)
	if err != nil {
		return nil, err
	}
	store, err := blob.OpenDir(strings.TrimPrefix(shard.Tiles, "file:"))
	if err != nil {
		return nil, err
	}
	raw, err := store.Get(ctx, sequencer.CheckpointKey)
	if err != nil {
		return nil, err
	}
	note, err := checkpoint.Parse(raw)
	if err != nil {
		return nil, err
	}
	at := note.Checkpoint()
	tree, err := tile.NewReader(store).Tree(ctx, at.Size, at.Root)
	if err != nil {
		return nil, err
	}
	source, err := newNoise()
	if err != nil {
		return nil, err
	}
	r, err := p.closed(ctx, 1, func(ctx context.Context, _ int) error {
		_, err := tree.Inclusion(ctx, source.below(at.Size), at.Size)
		return err
	})
	if err != nil {
		return nil, err
	}
	r.Figures["size"] = float64(at.Size)
	r.Notes = []string{fmt.Sprintf("inclusion in a tree of %d entries, random places, one after the other, default cache", at.Size)}
	return r, nil
}
