package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
)

func (p *program) newShard() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shard",
		Short: "Announce the next shard of a log",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(p.newShardAdd())
	return cmd
}

func (p *program) newShardAdd() *cobra.Command {
	var places placeOptions
	var dir, listen, opens string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make keys, store and register of the next shard",
		Long: `Make keys, store and register of the next shard, and name it in the policy, in
the witnesses' configurations and in the log list. The log must be stopped.

The shard opens with "trialogd rollover". Until then verifiers and witnesses
have time to get the new policy: announce it 30 days ahead, which is the default.`,
		Example: `  trialogd shard add 2027 --data data`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			origin, err := p.announce(cmd.Context(), layout{dir}, args[0], places, listen, opens)
			if err != nil {
				return err
			}
			cmd.Printf("Announced the shard %s. Start the log again; when the time has come: trialogd rollover --data %s\n", origin, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "address of the log, for the policy")
	cmd.Flags().StringVar(&opens, "opens", "", "day on which it opens, such as 2027-01-01 (default 30 days from now)")
	places.flags(cmd)
	return cmd
}

// announce adds a shard behind the others. The settings are written last; until
// then the call can be repeated.
func (p *program) announce(
	ctx context.Context, l layout, name string, places placeOptions, listen, opens string,
) (origin string, err error) {
	now := p.now()
	day := now.Add(loglist.Notice)
	if opens != "" {
		if day, err = time.Parse(time.DateOnly, opens); err != nil {
			return "", fmt.Errorf("opens: expected a day such as 2027-01-01, got %q", opens)
		}
	}
	c, err := l.readSettings()
	if err != nil {
		return "", err
	}
	place := places.shard(c.Log, name)
	if err := statement.CheckLog("shard", place.Origin); err != nil {
		return "", err
	}
	for i := range c.Shards {
		if c.Shards[i].Origin == place.Origin {
			return "", fmt.Errorf("the log has a shard %q already", name)
		}
	}
	// Two shards ahead nobody needs, and the order would not be certain.
	last := c.Shards[len(c.Shards)-1].Under(l.dir)
	if err := checkStopped(ctx, last); err != nil {
		return "", err
	}
	changed := *c
	changed.Shards = append(slices.Clone(c.Shards), place)
	if err := changed.Validate(); err != nil {
		return "", err
	}
	there := place.Under(l.dir)
	logKeys, err := makeLogKeys(there.Keys, place.Origin)
	if err != nil {
		return "", err
	}
	if err := makeShard(ctx, there); err != nil {
		return "", err
	}
	for n := range c.Witnesses {
		if err := followShard(l.witness(n+1, "witness.json"), place.Origin, logKeys); err != nil {
			return "", err
		}
	}
	url := "http://" + listen + "/shards/" + place.Name()
	if err := l.extendPolicy(logKeys, url); err != nil {
		return "", err
	}
	if err := l.listShard(c.Log, there, url, now, day); err != nil {
		return "", err
	}
	return place.Origin, l.writeSettings(&changed)
}

// checkStopped refuses while a process has the shard: it would go on with the
// old policy.
func checkStopped(ctx context.Context, place config.Shard) error {
	if !strings.HasPrefix(place.Register, "file:") {
		return nil // nothing on this machine tells
	}
	r, err := openRegister(ctx, place)
	if err != nil {
		return fmt.Errorf("stop the log first: %w", err)
	}
	return r.Close()
}

// extendPolicy names the keys of one more shard in the policy.
func (l layout) extendPolicy(logKeys []string, url string) error {
	text, err := os.ReadFile(l.policy())
	if err != nil {
		return err
	}
	sidecar, err := os.ReadFile(l.sidecar())
	if err != nil {
		return err
	}
	if text, sidecar, err = withShard(text, sidecar, logKeys, url); err != nil {
		return err
	}
	return errors.Join(replace(l.policy(), text, 0o644), replace(l.sidecar(), sidecar, 0o644))
}

// listShard names a shard in the log list, unless it is there.
func (l layout) listShard(log string, place config.Shard, url string, now, opens time.Time) error {
	list, err := openListing(l, func() time.Time { return now })
	if err != nil {
		return err
	}
	return list.change(log, func(known []loglist.Shard) ([]loglist.Shard, error) {
		if slices.ContainsFunc(known, func(s loglist.Shard) bool { return s.Origin == place.Origin }) {
			return known, nil
		}
		s, err := announced(place, url, now, opens)
		return append(known, s), err
	})
}
