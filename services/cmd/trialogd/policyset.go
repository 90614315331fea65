package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/services/config"
	"github.com/trialog/trialog/services/internal/durable"
	"github.com/trialog/trialog/services/internal/register"
)

func (p *program) newPolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Replace or look at the policy by which a log publishes",
		Example: `  trialogd policy show --data data
  trialogd policy set --policy new.policy --data data`,
		Args: cobra.NoArgs,
	}
	var dir, text, sidecar string
	set := &cobra.Command{
		Use:   "set",
		Short: "Replace the policy of a stopped log",
		Long: `Replace the policy of a stopped log. Both halves are checked first. Refused is
what would make receipts unverifiable that the log has given, or take back what
the old policy says of the past: log keys, ends of shards, retirements.

So a witness key is replaced by adding the new one, and by naming the old one as
retired, up to the log's size or more. The log's first statement when it runs
again says by which policy it goes on. If this is cut off, repeat it.`,
		Example: `  trialogd policy set --policy new.policy --sidecar new.policy.json --data data`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fingerprint, err := layout{dir}.setPolicy(cmd.Context(), text, sidecar)
			if err != nil {
				return err
			}
			cmd.Printf("The log publishes by the new policy when it is started. Fingerprint: %s\nThen issue it: trialogd trust issue --data %s\n",
				fingerprint, dir)
			return nil
		},
	}
	set.Flags().StringVar(&text, "policy", "", "the new policy")
	set.Flags().StringVar(&sidecar, "sidecar", "", "its second half (default: POLICY.json)")
	show := &cobra.Command{
		Use:     "show",
		Short:   "Say which policy is in force",
		Long:    `Say which policy is in force. What it asks for, in plain words, says "trialog policy show".`,
		Example: `  trialogd policy show --data data`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return layout{dir}.showPolicy(cmd) },
	}
	for _, c := range []*cobra.Command{set, show} {
		c.Flags().StringVar(&dir, "data", "data", "folder of the log's data")
		cmd.AddCommand(c)
	}
	return cmd
}

func (l layout) showPolicy(cmd *cobra.Command) error {
	p, err := readPolicy(l)
	if err != nil {
		return noLog(l, err)
	}
	trust := p.Trust()
	cmd.Printf("%s\n%s\nFingerprint: %s\nLog: %s, run by %s\nQuorum: %s\n", l.policy(), l.sidecar(), p.Fingerprint(), trust.Log,
		trust.LogOperator, p.Notes().QuorumName())
	for _, w := range p.Notes().Witnesses() {
		state := ""
		if slices.ContainsFunc(trust.Retired, func(r verify.Retired) bool { return r.Key.String() == w.Key.String() }) {
			state = ", retired"
		}
		cmd.Printf("Witness: %s, %s of %s%s\n", w.Name, w.Key.Algorithm(), w.Key.Name(), state)
	}
	return nil
}

// halves are both files of a policy.
type halves struct {
	Policy  []byte `json:"policy"`
	Sidecar []byte `json:"sidecar"`
}

// policyJournal holds a policy that is on its way into its two files: after a crash
// between them they are of two policies, and nobody can start with that.
func (l layout) policyJournal() string { return l.path("policy", "set.json") }

// setPolicy puts another policy into force and returns its fingerprint.
func (l layout) setPolicy(ctx context.Context, textFile, sidecarFile string) (string, error) {
	c, err := l.readSettings()
	if err != nil {
		return "", noLog(l, err)
	}
	if textFile == "" {
		return "", errors.New("policy: missing, expected the file of the new policy")
	}
	if sidecarFile == "" {
		sidecarFile = textFile + ".json"
	}
	var next halves
	if next.Policy, err = os.ReadFile(textFile); err != nil {
		return "", fmt.Errorf("policy: %w", err)
	}
	if next.Sidecar, err = os.ReadFile(sidecarFile); err != nil {
		return "", fmt.Errorf("sidecar: %w", err)
	}
	parsed, err := verify.ParsePolicy(next.Policy, next.Sidecar)
	if err != nil {
		return "", err
	}
	if err := l.checkStopped(ctx, c); err != nil {
		return "", err
	}
	if err := l.finishPolicy(); err != nil {
		return "", err
	}
	old, err := readPolicy(l)
	if err != nil {
		return "", err
	}
	if err := l.checkPolicy(ctx, c, old, parsed); err != nil {
		return "", fmt.Errorf("the policy is refused: %w", err)
	}
	journal, err := json.Marshal(next)
	if err != nil {
		return "", err
	}
	if err := replace(l.policyJournal(), journal, 0o600); err != nil {
		return "", err
	}
	return parsed.Fingerprint(), l.finishPolicy()
}

// checkPolicyWhole refuses to work by the halves of two policies, which may well fit
// together.
func (l layout) checkPolicyWhole() error {
	if _, err := os.Stat(l.policyJournal()); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.New(`a new policy was cut off on its way into its files; repeat "trialogd policy set"`)
}

// readPolicy reads the policy in force.
func readPolicy(l layout) (*verify.Policy, error) {
	if err := l.checkPolicyWhole(); err != nil {
		return nil, err
	}
	return readPolicyFiles(l.policy(), l.sidecar())
}

// finishPolicy brings a policy into its files that was cut off on its way; nothing
// if none was.
func (l layout) finishPolicy() error {
	raw, err := os.ReadFile(l.policyJournal())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var next halves
	if err := json.Unmarshal(raw, &next); err != nil {
		return fmt.Errorf("%s: %w", l.policyJournal(), err)
	}
	if err := replace(l.policy(), next.Policy, 0o644); err != nil {
		return err
	}
	if err := replace(l.sidecar(), next.Sidecar, 0o644); err != nil {
		return err
	}
	if err := os.Remove(l.policyJournal()); err != nil {
		return err
	}
	return durable.SyncFolder(l.path("policy"))
}

// checkPolicy refuses a policy that the log could not work by, or by which receipts
// that it has given would not verify.
func (l layout) checkPolicy(ctx context.Context, c *config.Log, old, next *verify.Policy) error {
	if err := trustbundle.FollowsPolicy(old, next); err != nil {
		return err
	}
	if err := trustbundle.KeepsReceipts(old, next); err != nil {
		return err
	}
	if err := l.checkOwnKeys(old.Trust(), next.Trust()); err != nil {
		return err
	}
	for _, known := range next.Notes().Logs() {
		origin := known.Key.Name()
		if !slices.ContainsFunc(c.Shards, func(s config.Shard) bool { return s.Origin == origin }) {
			return fmt.Errorf(`it names the shard %s, which the log does not have; announce it with "trialogd shard add"`, origin)
		}
	}
	for i := range c.Shards {
		if err := checkPast(ctx, c.Shards[i].Under(l.dir), old.Trust(), next.Trust()); err != nil {
			return err
		}
	}
	return nil
}

// checkOwnKeys refuses a policy that does not name the keys that the log signs
// with. A policy of the first version names none for log lists, nor need the one
// that follows it.
func (l layout) checkOwnKeys(old, trust verify.Trust) error {
	pending, err := readKey(l.key(pendingKey))
	if err != nil {
		return err
	}
	if !hasKey(trust.PendingKeys, pending) {
		return errors.New("pendingKeys: the log's own key is not among them: nobody could check its promises")
	}
	if len(old.LogListKeys)+len(trust.LogListKeys) > 0 {
		list, err := readKey(l.key(listKey))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && !hasKey(trust.LogListKeys, list) {
			return errors.New("logListKeys: the log's own key is not among them: nobody could check the list of its shards")
		}
	}
	gateway, err := readKey(l.key(gatewayKey))
	if err != nil {
		return err
	}
	if trust.AcceptReceived && !slices.Contains(trust.Gateways, gateway.ID()) {
		return errors.New("gateways: the log's own gateway is not among them: what it receives would not verify")
	}
	return nil
}

// hasKey tells whether a key is among those that a policy names.
func hasKey(keys []*statement.PublicKey, key *statement.PrivateKey) bool {
	return slices.ContainsFunc(keys, func(k *statement.PublicKey) bool { return k.ID() == key.ID() })
}

// checkPast holds what a policy says of the past of a shard against its register,
// which knows what was published.
func checkPast(ctx context.Context, place config.Shard, old, next verify.Trust) (err error) {
	reg, err := openRegister(ctx, place)
	if errors.Is(err, register.ErrOwned) {
		return fmt.Errorf("stop the log first: %w", err)
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	record, err := reg.Read(ctx)
	if err != nil {
		return err
	}
	for _, f := range next.Finals {
		if f.Origin == place.Origin && (!record.Sealed || f.Size != record.Size || f.Root != checkpoint.Hash(record.Root)) {
			return fmt.Errorf("finals: %s has not ended like that: its register holds %d entries, sealed: %t", f.Origin, record.Size, record.Sealed)
		}
	}
	if record.Size == 0 {
		return nil
	}
	for _, r := range next.Retired {
		if slices.ContainsFunc(old.Retired, func(o verify.Retired) bool { return o.Key.String() == r.Key.String() }) {
			continue // as far as it counted, FollowsPolicy has looked at it
		}
		i := slices.IndexFunc(r.Until, func(u verify.Limit) bool { return u.Origin == place.Origin })
		if i < 0 || r.Until[i].Size < record.Size {
			return fmt.Errorf("retired: receipts of %s up to size %d have cosignatures of %s: say that they count up to %d or more",
				place.Origin, record.Size, strings.TrimSpace(r.Key.Name()), record.Size)
		}
	}
	return nil
}
