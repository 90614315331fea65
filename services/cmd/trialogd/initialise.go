package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/register"
	"github.com/trialog/trialog/services/internal/tlog/pebblestore"
	"github.com/trialog/trialog/services/internal/tlog/trillian"
)

// Names of the files in the folder keys.
const (
	logKeyEd25519 = "log-ed25519.key"
	logKeyMLDSA   = "log-mldsa44.key"
	pendingKey    = "pending.pem"
	gatewayKey    = "gateway.pem"
	recoveryKey   = "operator-recovery.pem"
)

const demoWitnesses = 3

// initOptions are what a person may choose.
type initOptions struct {
	log      string
	shard    string
	operator string
	listen   string
	// witnesses are the addresses of the witnesses' processes.
	witnesses []string
}

func (o *initOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.log, "log", "trialog.localhost/demo", "name of the log, a schema-less URL")
	cmd.Flags().StringVar(&o.shard, "shard", "1", "name of the first shard; its origin is LOG/SHARD")
	cmd.Flags().StringVar(&o.operator, "operator", "Demo operator", "who runs the log and its witnesses")
	cmd.Flags().StringSliceVar(&o.witnesses, "witness-listen", []string{"127.0.0.1:8091", "127.0.0.1:8092", "127.0.0.1:8093"},
		"addresses of the three witnesses; port 0 chooses a free one for good")
}

func newInit() *cobra.Command {
	var o initOptions
	var dir string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys, the policy and the register of a new log",
		Long: `Make the keys, the policy and the register of a new log in a data folder.

Only init makes a register. It refuses a folder that has one, and a log that has
run before cannot start without its own: that is how a log notices that it was
put back to an old copy.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := initialise(cmd.Context(), layout{dir}, o); err != nil {
				return err
			}
			cmd.Printf("Made a new log in %s. Start it with: trialogd all --data %s\n", dir, dir)
			return nil
		},
	}
	o.listen = "127.0.0.1:8080"
	cmd.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
	o.flags(cmd)
	return cmd
}

// initialise makes a log. The settings file is written last: a folder without it
// is a folder in which init has not come to its end.
func initialise(ctx context.Context, l layout, o initOptions) error {
	if _, err := os.Stat(l.settings()); err == nil {
		return fmt.Errorf("%s holds a log already", l.dir)
	}
	if err := checkUnused(l); err != nil {
		return err
	}
	s := settings{Log: o.log, Origin: o.log + "/" + o.shard, Operator: o.operator}
	if err := statement.CheckLog("log", s.Log); err != nil {
		return err
	}
	if err := statement.CheckLog("shard", s.Origin); err != nil {
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
	if err := makeKeysAndPolicy(l, s, o); err != nil {
		return err
	}
	if err := makeTokens(l); err != nil {
		return err
	}
	if err := makeStore(ctx, l, s); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeNew(l.settings(), append(raw, '\n'), 0o600)
}

// checkUnused refuses to build on what an earlier log, or half of one, left.
func checkUnused(l layout) error {
	// A witness that knows an origin must not meet it as a new log.
	for _, path := range []string{
		l.register(), l.store(), l.tiles(), l.path("keys"), l.witness(1), l.witness(2), l.witness(3),
	} {
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

// makeKeysAndPolicy makes every key, the witnesses' configurations, and the
// policy that names them all.
func makeKeysAndPolicy(l layout, s settings, o initOptions) error {
	var policy strings.Builder
	trust := map[string]any{
		"format": verify.TrustFormat, "log": s.Log, "logOperator": s.Operator, "acceptReceived": true,
	}
	var logKeys []string
	for _, k := range []struct {
		file string
		alg  checkpoint.Algorithm
	}{{logKeyEd25519, checkpoint.AlgEd25519}, {logKeyMLDSA, checkpoint.AlgMLDSA44}} {
		vkey, err := makeNoteKey(l.key(k.file), s.Origin, k.alg)
		if err != nil {
			return err
		}
		logKeys = append(logKeys, vkey)
		fmt.Fprintf(&policy, "log %s http://%s\n", vkey, o.listen)
	}
	trust["requiredLogKeys"] = logKeys
	operators := map[string]string{}
	var groups []string
	for n, address := range s.Witnesses {
		name, err := makeWitness(l, s, n+1, address, logKeys, &policy)
		if err != nil {
			return err
		}
		groups = append(groups, name)
		operators[name] = s.Operator
	}
	trust["operators"] = operators
	fmt.Fprintf(&policy, "group operators 2 %s\nquorum operators\n", strings.Join(groups, " "))
	for _, k := range []struct{ file, member string }{
		{pendingKey, "pendingKeys"}, {gatewayKey, "gateways"}, {recoveryKey, ""},
	} {
		public, err := makeKey(l.key(k.file))
		if err != nil {
			return err
		}
		switch k.member {
		case "pendingKeys":
			trust[k.member] = []string{base64.StdEncoding.EncodeToString(public.DER())}
		case "gateways":
			trust[k.member] = []string{public.ID().String()}
		}
	}
	sidecar, err := json.MarshalIndent(trust, "", "  ")
	if err != nil {
		return err
	}
	if _, err := verify.ParsePolicy([]byte(policy.String()), sidecar); err != nil {
		return fmt.Errorf("the new policy: %w", err)
	}
	return errors.Join(
		writeNew(l.policy(), []byte(policy.String()), 0o644),
		writeNew(l.sidecar(), append(sidecar, '\n'), 0o644),
	)
}

// makeWitness makes one witness's keys and configuration and adds its lines to
// the policy. It returns the name of its operator's group.
func makeWitness(l layout, s settings, n int, address string, logKeys []string, policy *strings.Builder) (string, error) {
	group := fmt.Sprintf("witness-%d", n)
	name := fmt.Sprintf("%s/%s", s.Log, group)
	c := config.Witness{
		Listen: address, Name: name, StateFile: "witness.state",
		Logs: []config.WitnessLog{{Origin: s.Origin, Keys: logKeys}},
	}
	var members []string
	for _, k := range []struct {
		suffix string
		alg    checkpoint.Algorithm
	}{{"ed25519", checkpoint.AlgEd25519Cosignature}, {"mldsa44", checkpoint.AlgMLDSA44}} {
		vkey, err := makeNoteKey(l.witness(n, k.suffix+".key"), name, k.alg)
		if err != nil {
			return "", err
		}
		c.KeyFiles = append(c.KeyFiles, k.suffix+".key")
		member := group + "-" + k.suffix
		members = append(members, member)
		fmt.Fprintf(policy, "witness %s %s http://%s\n", member, vkey, address)
	}
	fmt.Fprintf(policy, "group %s any %s\n", group, strings.Join(members, " "))
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", err
	}
	if _, err := config.ParseWitness(raw); err != nil {
		return "", err
	}
	return group, writeNew(l.witness(n, "witness.json"), append(raw, '\n'), 0o600)
}

// makeNoteKey makes a key that signs checkpoints and returns its verifier key.
func makeNoteKey(path, name string, alg checkpoint.Algorithm) (string, error) {
	k, err := checkpoint.GenerateKey(rand.Reader, name, alg)
	if err != nil {
		return "", err
	}
	return k.Verifier().String(), writeNew(path, []byte(k.Encode()+"\n"), 0o600)
}

// makeKey makes a key that signs statements.
func makeKey(path string) (*statement.PublicKey, error) {
	k, err := statement.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	pem, err := k.EncodePEM()
	if err != nil {
		return nil, err
	}
	return k.Public(), writeNew(path, pem, 0o600)
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

// makeStore makes the empty log and, last, its register.
func makeStore(ctx context.Context, l layout, s settings) error {
	for _, dir := range []string{l.store(), l.tiles(), l.documents(), filepath.Dir(l.register())} {
		if err := makeFolder(dir); err != nil {
			return err
		}
	}
	store, err := pebblestore.Open(l.store(), pebblestore.Options{})
	if err != nil {
		return err
	}
	log, err := trillian.Open(ctx, trillian.Config{
		Storage: store, Admin: store.Admin(), Origin: s.Origin, Create: true, CloseStorage: store.Close,
	})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	root, err := log.Root(ctx)
	if err := errors.Join(err, log.Close()); err != nil {
		return err
	}
	r, err := register.OpenFile(l.register())
	if err != nil {
		return err
	}
	return errors.Join(r.Create(ctx, register.Record{Origin: s.Origin, Root: root.Hash}), r.Close())
}
