package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/durable"
	"github.com/trialog/trialog/services/internal/signing"
	"github.com/trialog/trialog/services/witness"
)

// KeyKind is one of the keys that a new witness has. Suffix begins the name of its
// file and ends that of its line in a policy.
type KeyKind struct {
	Suffix    string
	Algorithm checkpoint.Algorithm
}

// KeyKinds are the keys of a new witness.
func KeyKinds() []KeyKind {
	return []KeyKind{{"ed25519", checkpoint.AlgEd25519Cosignature}, {"mldsa44", checkpoint.AlgMLDSA44}}
}

// options are what a person may choose about a witness.
type options struct {
	name, listen, url          string
	lists, listKeys, logs, key []string
	peers                      []string
}

func newInit(name string, path *string) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys and the configuration of a witness",
		Long: `Make the keys and the configuration of a witness beside each other, and print
what the operators of logs need: the verifier keys and the policy's lines.

Nothing is overwritten. A key that is lost is lost for good, and so is a state
file: then make another witness, under another name.`,
		Example: "  " + name + ` init --config witness/witness.json --name witness.example.org/ethics \
    --list https://log.example.org/v1/loglist --list-key MFkwEwYH…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := initialise(cmd.Context(), *path, o); err != nil {
				return err
			}
			cmd.Printf("Made a witness. Start it with: %s --config %s\n\n", name, *path)
			return printKeys(cmd, *path, o.url)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "cosigner name, a URL without a scheme, such as witness.example.org/ethics; it stays for good")
	f.StringVar(&o.listen, "listen", config.DefaultWitnessListen, "address to listen at, behind a TLS front end")
	f.StringVar(&o.url, "url", "", "URL at which logs will reach the witness, for the policy (default: https://NAME)")
	f.StringSliceVar(&o.lists, "list", nil, "URL or file of a signed log list")
	f.StringSliceVar(&o.listKeys, "list-key", nil, "base64 of a public key that may sign the lists")
	f.StringArrayVar(&o.logs, "log", nil, `"VERIFIER-KEY [URL]" of a log that is in no list, once for each of its keys`)
	f.StringSliceVar(&o.peers, "peer", nil, "URL of another witness, to be asked after a restart")
	f.StringSliceVar(&o.key, "key", nil, "a key that is there already: a file, pkcs11:…, or that of a key service (default: makes two)")
	return cmd
}

// initialise makes a witness. The configuration is written last: without it init
// has not come to its end, and goes on with the keys that it finds.
func initialise(ctx context.Context, path string, o options) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if o.name == "" {
		return errors.New("name: expected a cosigner name, such as witness.example.org/ethics")
	}
	c := &config.Witness{Listen: o.listen, Name: o.name, KeyFiles: o.key, StateFile: "witness.state", Peers: o.peers}
	dir := filepath.Dir(path)
	if _, err := os.Lstat(absolute(dir, c.StateFile)); err == nil {
		return fmt.Errorf("%s is there already: it belongs to another witness", absolute(dir, c.StateFile))
	}
	if err := addLists(c, o); err != nil {
		return err
	}
	for _, line := range o.logs {
		if err := addLog(c, line); err != nil {
			return err
		}
	}
	missing := len(o.key) == 0
	for _, k := range KeyKinds() {
		if missing {
			c.KeyFiles = append(c.KeyFiles, k.Suffix+".key")
		}
	}
	if err := c.Validate(); err != nil {
		return err
	}
	if err := keysReady(ctx, dir, c, missing); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteNew(path, append(raw, '\n'), 0o600)
}

// keysReady makes the keys of a witness that are not there, and sees whether
// all can be used.
func keysReady(ctx context.Context, dir string, c *config.Witness, missing bool) error {
	for _, k := range KeyKinds() {
		if !missing {
			break
		}
		if _, err := signing.MakeNoteKey(absolute(dir, k.Suffix+".key"), c.Name, k.Algorithm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	here := *c
	here.KeyFiles = slices.Clone(c.KeyFiles)
	for i, ref := range here.KeyFiles {
		here.KeyFiles[i] = signing.Under(dir, ref)
	}
	_, closers, err := witness.OpenKeys(ctx, &here)
	closeAll(closers)
	return err
}

// addLists adds the lists, each with all keys.
func addLists(c *config.Witness, o options) error {
	for i, text := range o.listKeys {
		if _, err := witness.ParseListKey(text); err != nil {
			return fmt.Errorf("list-key %d: %w", i+1, err)
		}
	}
	for _, at := range o.lists {
		l := config.WitnessLogList{URL: at, Keys: o.listKeys}
		if !strings.Contains(at, "://") {
			file, err := filepath.Abs(at)
			if err != nil {
				return err
			}
			l.URL, l.File = "", file
		}
		c.LogLists = append(c.LogLists, l)
	}
	return nil
}

// addLog adds a log key, as a policy's log line has it.
func addLog(c *config.Witness, line string) error {
	text, url, _ := strings.Cut(strings.TrimSpace(line), " ")
	key, err := checkpoint.ParseVerifierKey(text)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	url = strings.TrimSpace(url)
	for i := range c.Logs {
		l := &c.Logs[i]
		if l.Origin == key.Name() {
			if url != "" && l.URL != "" && url != l.URL {
				return fmt.Errorf("log: %s has the URLs %s and %s", l.Origin, l.URL, url)
			}
			l.Keys, l.URL = append(l.Keys, text), cmp.Or(l.URL, url)
			return nil
		}
	}
	c.Logs = append(c.Logs, config.WitnessLog{Origin: key.Name(), Keys: []string{text}, URL: url})
	return nil
}

func newKeys(name string, path *string) *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   "Print the verifier keys and the policy's lines for the operators of logs",
		Example: "  " + name + " keys --config witness/witness.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printKeys(cmd, *path, url)
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "URL at which logs reach the witness (default: https://NAME)")
	return cmd
}

// printKeys prints what belongs into the policies of those who rely on the
// witness: one operator, whichever of its keys signs.
func printKeys(cmd *cobra.Command, path, url string) error {
	c, err := readConfig(path)
	if err != nil {
		return err
	}
	keys, closers, err := witness.OpenKeys(cmd.Context(), c)
	if err != nil {
		return err
	}
	defer closeAll(closers)
	group := policyName(c.Name)
	var members []string
	cmd.Printf("# The witness %s. In a policy:\n", c.Name)
	for _, k := range keys {
		suffix := "-ed25519"
		if k.Verifier().Algorithm() == checkpoint.AlgMLDSA44 {
			suffix = "-mldsa44"
		}
		members = append(members, group+suffix)
		cmd.Printf("witness %s %s %s\n", group+suffix, k.Verifier(), cmp.Or(url, "https://"+c.Name))
	}
	cmd.Printf("group %s any %s\n", group, strings.Join(members, " "))
	return nil
}

func closeAll(closers []io.Closer) {
	for _, c := range closers {
		_ = c.Close() // nothing was written
	}
}

// policyName makes a name for a policy's line out of a cosigner name.
func policyName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r >= 'A' && r <= 'Z', r == '.', r == '-':
			return r
		}
		return '-'
	}, name)
}
