package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/services/config"
)

const demoWitnesses = 3

// initOptions are what a person may choose.
type initOptions struct {
	log      string
	shard    string
	operator string
	listen   string
	places   placeOptions
	clock    []string // sources to compare the clock with
	// witnesses are the addresses of the witnesses' processes.
	witnesses []string
}

// placeOptions are where a shard is to keep what it has; empty for a folder of
// the log's.
type placeOptions struct{ store, tiles, register string }

func (o *placeOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.store, "store", "",
		"store: pebble:FOLDER, or postgres://… of a database of its own (default: in the data folder)")
	cmd.Flags().StringVar(&o.tiles, "tiles", "", "tiles: file:FOLDER or s3://BUCKET?prefix=… (default: in the data folder)")
	cmd.Flags().StringVar(&o.register, "register", "",
		"register: file:PATH on another volume, or s3://BUCKET/KEY (default: in the data folder)")
}

// shard returns where a new shard keeps what it has.
func (o *placeOptions) shard(log, name string) config.Shard {
	s := config.NewShard(log, name)
	s.Store, s.Tiles, s.Register = cmp.Or(o.store, s.Store), cmp.Or(o.tiles, s.Tiles), cmp.Or(o.register, s.Register)
	return s
}

func (o *initOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.log, "log", "trialog.localhost/demo", "name of the log, a schema-less URL")
	cmd.Flags().StringVar(&o.shard, "shard", "1", "name of the first shard; its origin is LOG/SHARD")
	cmd.Flags().StringVar(&o.operator, "operator", "Demo operator", "who runs the log and its witnesses")
	cmd.Flags().StringSliceVar(&o.witnesses, "witness-listen", []string{"127.0.0.1:8091", "127.0.0.1:8092", "127.0.0.1:8093"},
		"addresses of the three witnesses; port 0 chooses a free one for good")
	cmd.Flags().StringSliceVar(&o.clock, "clock-source", nil, "what to compare the clock with, such as ntp://HOST; three or more to count")
	o.places.flags(cmd)
}

func (p *program) newInit() *cobra.Command {
	var o initOptions
	var dir string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys, the policy and the register of a new log",
		Long: `Make the keys, the policy and the register of a new log in a data folder.

Only init makes a register. It refuses a folder that has one, and a log that has
run before cannot start without its own: that is how a log notices that it was
put back to an old copy.

A key that is in a token or with a key management service is used, and none made
in its place, if its reference file is there before: keys/NAME.ref, for the keys
of the first shard shards/SHARD/keys/NAME.ref. Step by step: docs/keys.md.`,
		Example: `  trialogd init --data data --log log.example.org/trials --shard 2026 --operator "Example University"`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := initialise(cmd.Context(), layout{dir}, o, p.now()); err != nil {
				return err
			}
			cmd.Printf("Made a new log in %s. Start it with: trialogd all --data %s\n", dir, dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8080", "address at which the log will be reached, for the policy")
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	o.flags(cmd)
	return cmd
}

// initialise makes a log. The settings file is written last: a folder without it
// is a folder in which init has not come to its end.
func initialise(ctx context.Context, l layout, o initOptions, now time.Time) error {
	if _, err := os.Stat(l.settings()); err == nil {
		return fmt.Errorf("%s holds a log already", l.dir)
	}
	s := &config.Log{
		Log: o.log, Operator: o.operator, Shards: []config.Shard{o.places.shard(o.log, o.shard)}, ClockSources: o.clock,
	}
	if err := checkUnused(l, s.Shards[0]); err != nil {
		return err
	}
	if err := statement.CheckLog("log", s.Log); err != nil {
		return err
	}
	if err := statement.CheckLog("shard", s.Shards[0].Origin); err != nil {
		return err
	}
	if len(o.witnesses) != demoWitnesses {
		return fmt.Errorf("witness-listen: expected %d addresses, found %d", demoWitnesses, len(o.witnesses))
	}
	for _, address := range o.witnesses {
		fixed, err := fixPort(address)
		if err != nil {
			return err
		}
		s.Witnesses = append(s.Witnesses, fixed)
	}
	if err := s.Validate(); err != nil {
		return err
	}
	if err := checkPlaces(s.Shards[0].Under(l.dir)); err != nil {
		return err
	}
	if err := checkReferences(l.path("keys"), s.Shards[0].Under(l.dir).Keys, s.Shards[0].Origin); err != nil {
		return err
	}
	if err := makeKeysAndPolicy(l, s, o.listen); err != nil {
		return err
	}
	if err := makeTokens(l); err != nil {
		return err
	}
	if err := makeFolder(l.documents()); err != nil {
		return err
	}
	if err := makeShard(ctx, s.Shards[0].Under(l.dir)); err != nil {
		return err
	}
	if err := l.listShards(s, "http://"+o.listen+"/shards/"+s.Shards[0].Name(), now, now); err != nil {
		return err
	}
	return l.writeSettings(s)
}

// checkUnused refuses to build on what an earlier log, or half of one, left. What
// may be there before a log are reference files for its keys.
func checkUnused(l layout, s config.Shard) error {
	shardKeys := s.Under(l.dir).Keys
	// A witness that knows an origin must not meet it as a new log.
	paths := []string{l.witness(1), l.witness(2), l.witness(3)}
	for folder, files := range map[string][]string{
		l.path("keys"): otherKeyFiles(), shardKeys: slices.Sorted(maps.Keys(logKeyFiles())),
	} {
		only, err := onlyReferences(folder, files)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !only:
			paths = append(paths, folder)
		}
	}
	// Beside the keys nothing of a shard may be there.
	beside, err := os.ReadDir(filepath.Dir(shardKeys))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range beside {
		if path := filepath.Join(filepath.Dir(shardKeys), entry.Name()); path != shardKeys {
			paths = append(paths, path)
		}
	}
	if path, ok := strings.CutPrefix(s.Under(l.dir).Register, "file:"); ok {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists, but %s does not: this folder holds part of a log; "+
				"put the missing file back, or begin in an empty folder", path, l.settings())
		}
	}
	return nil
}

// fixPort replaces port 0 by a free one: witnesses are named by the policy, so
// their addresses stay.
func fixPort(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("witness-listen: expected host:port, found %q", address)
	}
	if port != "0" {
		return address, nil
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0")) //nolint:noctx // nothing is waited for
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// tokenFiles are the bearer tokens that a new log begins with.
func tokenFiles() []string { return []string{"enrol", "receive"} }

func makeTokens(l layout) error {
	for _, name := range tokenFiles() {
		if err := writeNew(l.token(name), []byte(rand.Text()+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// tokenHash returns the SHA-256 of a token as configurations hold it.
func tokenHash(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(string(raw))))
	return hex.EncodeToString(sum[:]), nil
}
