package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/register"
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

// shardOptions are what a person may choose about the next shard.
type shardOptions struct {
	places placeOptions
	listen string // empty for the address that the policy has
	opens  string // a day; empty for the usual notice
}

func (p *program) newShardAdd() *cobra.Command {
	var o shardOptions
	var dir string
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make keys, store and register of the next shard",
		Long: `Make keys, store and register of the next shard, and name it in the policy, in
the witnesses' configurations and in the log list. The log must be stopped. If it
is cut off, repeat it with the same name: it goes on where it was.

The shard opens with "trialogd rollover". Until then verifiers and witnesses
have time to get the new policy: announce it 30 days ahead, which is the default.`,
		Example: `  trialogd shard add 2027 --data data
  trialogd shard add 2027 --data data --opens 2027-01-01 --register file:/mnt/other-volume/2027.register`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			origin, err := p.announce(cmd.Context(), layout{dir}, args[0], o)
			if err != nil {
				return err
			}
			cmd.Printf("Announced the shard %s. Start the log again; when the time has come: trialogd rollover --data %s\n", origin, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	cmd.Flags().StringVar(&o.listen, "listen", "", "address of the log, host:port, for the policy (default: that of the shard before)")
	cmd.Flags().StringVar(&o.opens, "opens", "", "day on which it opens in UTC, such as 2027-01-01 (default: 30 days from now)")
	o.places.flags(cmd)
	return cmd
}

// opening reads the day on which a shard opens. Today is now.
func opening(day string, now time.Time) (time.Time, error) {
	if day == "" {
		return now.Add(loglist.Notice), nil
	}
	opens, err := time.Parse(time.DateOnly, day)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("opens: expected a day such as 2027-01-01, got %q", day)
	case !opens.After(now) && day == now.UTC().Format(time.DateOnly):
		return now, nil
	case opens.Before(now):
		return time.Time{}, fmt.Errorf("opens: %s is past", day)
	}
	return opens, nil
}

// announce adds a shard behind the others. Everything is checked before anything
// is made. The settings are written last; until then the call can be repeated.
func (p *program) announce(ctx context.Context, l layout, name string, o shardOptions) (origin string, err error) {
	now := p.now()
	opens, err := opening(o.opens, now)
	if err != nil {
		return "", err
	}
	c, err := l.readSettings()
	if err != nil {
		return "", noLog(l, err)
	}
	place := o.places.shard(c.Log, name)
	if err := statement.CheckLog("shard", place.Origin); err != nil {
		return "", err
	}
	if slices.ContainsFunc(c.Shards, func(s config.Shard) bool { return s.Origin == place.Origin }) {
		return "", fmt.Errorf("the log has a shard %q already", name)
	}
	changed := *c
	changed.Shards = append(slices.Clone(c.Shards), place)
	if err := changed.Validate(); err != nil {
		return "", err
	}
	if err := checkPlaces(place.Under(l.dir)); err != nil {
		return "", err
	}
	if err := l.checkStopped(ctx, c); err != nil {
		return "", err
	}
	if err := l.checkPolicyWhole(); err != nil {
		return "", err
	}
	url, err := l.nextURL(&changed, o.listen)
	if err != nil {
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
	if err := l.extendPolicy(place.Origin, logKeys, url); err != nil {
		return "", err
	}
	if err := l.listShards(&changed, url, now, opens); err != nil {
		return "", err
	}
	return place.Origin, l.writeSettings(&changed)
}

// noLog says in words that there is no log in a folder.
func noLog(l layout, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no log: %w", l.dir, err)
	}
	return err
}

// checkStopped refuses while a process has the log: it would go on with what it
// has read, and a store must not be touched under it.
func (l layout) checkStopped(ctx context.Context, c *config.Log) error {
	if err := checkNobody(ctx, l.admin()); err != nil {
		return err
	}
	for i := range c.Shards {
		place := c.Shards[i].Under(l.dir)
		if !strings.HasPrefix(place.Register, "file:") {
			continue // has no lock
		}
		r, err := openRegister(ctx, place)
		if errors.Is(err, register.ErrOwned) {
			return fmt.Errorf("stop the log first: %w", err)
		} else if err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// nextURL returns where the last shard of c is to be reached. It refuses while
// the policy names a shard that c does not: another one was not announced to the
// end, and has its place.
func (l layout) nextURL(c *config.Log, listen string) (string, error) {
	text, err := os.ReadFile(l.policy())
	if err != nil {
		return "", err
	}
	notes, err := checkpoint.ParsePolicy(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", l.policy(), err)
	}
	base := ""
	for _, known := range notes.Logs() {
		origin := known.Key.Name()
		if !slices.ContainsFunc(c.Shards, func(s config.Shard) bool { return s.Origin == origin }) {
			return "", fmt.Errorf(`the announcement of %s was cut off; repeat "trialogd shard add %s" first`,
				origin, origin[strings.LastIndexByte(origin, '/')+1:])
		}
		base, _, _ = strings.Cut(known.URL, "/shards/")
	}
	switch {
	case listen != "":
		if _, _, err := net.SplitHostPort(listen); err != nil {
			return "", fmt.Errorf("listen: expected host:port, got %q", listen)
		}
		base = "http://" + listen
	case base == "":
		return "", errors.New("listen: expected host:port; the policy has no address of the log")
	}
	return strings.TrimSuffix(base, "/") + "/shards/" + c.Shards[len(c.Shards)-1].Name(), nil
}

// extendPolicy names the keys of one more shard in the policy. The sidecar, which
// requires them, comes after the policy, which has them.
func (l layout) extendPolicy(origin string, logKeys []string, url string) error {
	text, err := os.ReadFile(l.policy())
	if err != nil {
		return err
	}
	sidecar, err := os.ReadFile(l.sidecar())
	if err != nil {
		return err
	}
	if text, sidecar, err = withShard(text, sidecar, origin, logKeys, url); err != nil {
		return err
	}
	if err := replace(l.policy(), text, 0o644); err != nil {
		return err
	}
	return replace(l.sidecar(), sidecar, 0o644)
}

// listShards names the shards of c in the log list that are not there; url and
// opens are those of the last one. A log that is older than the list has none.
func (l layout) listShards(c *config.Log, url string, now, opens time.Time) error {
	list, err := openListing(l, func() time.Time { return now })
	if err != nil {
		return err
	}
	return list.change(c.Log, func(known []loglist.Shard) ([]loglist.Shard, error) {
		for i := range c.Shards {
			at, when := "", now
			if i == len(c.Shards)-1 {
				at, when = url, opens
			}
			var err error
			if known, err = listed(known, i, c.Shards[i].Under(l.dir), at, now, when); err != nil {
				return nil, err
			}
		}
		return known, nil
	})
}
