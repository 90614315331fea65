package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/keyring"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/policy"
)

func (p *program) keyringCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keyring",
		Short:   "For auditors: sign which keys a log has enrolled and revoked",
		Example: `  trialog keyring make --from https://log.example.org --policy log.policy --key auditor.pem --out log.keyring`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var o keyringOptions
	makes := &cobra.Command{
		Use:   "make --from URL|FOLDER --key KEY --out FILE",
		Short: "Read a whole log and sign its keys",
		Long: `Read a whole log, check all of it, and sign which keys it has enrolled and
revoked. Verifiers whose policy names the auditor's key learn from it whether a
signer's key was reported lost or stolen.

--from is the log's address, from which all of its parts (shards) are read; or
the folders or addresses of the parts, each with its own --from, oldest first.
Nothing is signed of a log that is damaged.

Exit codes: 0 signed, 1 the log is damaged, 2 it could not be read.`,
		Example: `  trialog keyring make --from https://log.example.org --policy log.policy --key auditor.pem --out log.keyring
  trialog keyring make --from ./log-2026 --from ./log-2027 --policy log.policy --key auditor.pem --out log.keyring`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.makeKeyring(cmd.Context(), o) },
	}
	f := makes.Flags()
	f.StringArrayVar(&o.from, "from", nil, "`address` or folder of the log, or of each of its parts")
	f.StringVar(&o.judge.policy, "policy", "", "policy `file` to judge by")
	f.StringVar(&o.judge.trust, "trust", "", trustFlag)
	f.StringVar(&o.key, "key", "", "the auditor's private key `file`, PEM")
	f.StringVarP(&o.out, "out", "o", "", "`file` of the keyring")
	cmd.AddCommand(makes)
	return cmd
}

type keyringOptions struct {
	judge    verifyOptions // policy and trust
	from     []string
	key, out string
}

func (p *program) makeKeyring(ctx context.Context, o keyringOptions) error {
	switch {
	case len(o.from) == 0:
		return errors.New("--from: missing, expected the log to read")
	case o.key == "":
		return errors.New("--key: missing, expected the auditor's private key")
	case o.out == "":
		return errors.New("--out: missing, expected the file of the keyring")
	}
	judged, err := p.judge(o.judge)
	if err != nil {
		return err
	}
	key, err := folder.ReadKey(o.key)
	if err != nil {
		return err
	}
	state := keyring.New(judged.Trust().Log)
	if err := p.readKeys(ctx, state, judged, o.from); err != nil {
		return err
	}
	ring := state.Keyring()
	raw, err := statement.SignDSSE(verify.KeyringPayloadType, ring.Encode(), key)
	if err != nil {
		return err
	}
	// What verifiers would refuse is not handed out.
	if _, err := verify.ParseKeyring(raw, []*statement.PublicKey{key.Public()}); err != nil {
		return fmt.Errorf("the new keyring: %w", err)
	}
	if err := folder.WriteFile(o.out, raw, 0o644); err != nil {
		return err
	}
	revoked := 0
	for _, k := range ring.Keys {
		if k.Revoked {
			revoked++
		}
	}
	p.printf("%s: %s, %d of them revoked, as of entry %d of %s\n", o.out, plural(len(ring.Keys), "key"), revoked, ring.Size, ring.Origin)
	left, all := state.Ignored()
	for _, i := range left {
		p.printf("warning: entry %d of %s was left out: %s\n", i.Index, i.Origin, i.Reason)
	}
	if all > len(left) {
		p.printf("warning: %d more entries were left out\n", all-len(left))
	}
	if !slices.ContainsFunc(judged.Trust().Auditors, func(k *statement.PublicKey) bool { return k.ID() == key.ID() }) {
		p.printf("warning: the policy does not name this key as an auditor's: nobody who judges by it believes the keyring\n")
	}
	return nil
}

// readKeys reads the parts of a log, checks them whole, and feeds their entries to
// state.
func (p *program) readKeys(ctx context.Context, state *keyring.State, judged *verify.Policy, from []string) error {
	sources, origins, err := p.parts(ctx, judged, from)
	if err != nil {
		return err
	}
	shards := make([]fsck.Config, len(sources))
	for i, source := range sources {
		begun := false
		shards[i] = fsck.Config{Source: source, Policy: judged, Origin: origins[i], OnBundle: func(b fsck.Bundle) error {
			if !begun {
				begun = true
				if err := state.Begin(origins[i]); err != nil {
					return err
				}
			}
			for n, e := range b.Entries {
				if e == nil {
					return fmt.Errorf("%w: entry %d of %s", errDamaged, b.First+uint64(n), origins[i])
				}
				if err := state.Add(e); err != nil {
					return err
				}
			}
			return nil
		}}
	}
	reports, err := fsck.CheckShards(ctx, shards...)
	if errors.Is(err, errDamaged) {
		p.complain("", fmt.Errorf("nothing was signed: %w; see: trialog fsck", err))
		return silentError{exitNotVerified}
	}
	if err != nil {
		return err
	}
	for _, r := range reports {
		if !r.Clean() {
			p.checked(r, false)
			p.complain("", fmt.Errorf("nothing was signed: %w", errDamaged))
			return silentError{exitNotVerified}
		}
	}
	return nil
}

// errDamaged says that a log is not as it was signed for.
var errDamaged = errors.New("the log is damaged")

// parts opens the parts of a log, oldest first, with the origins that the policy
// has for them. The parts of one address are those that it serves.
func (p *program) parts(ctx context.Context, judged *verify.Policy, from []string) (sources []fsck.Source, origins []string, err error) {
	known := policy.Shards(judged)
	if len(from) == 1 && strings.Contains(from[0], "://") {
		return p.served(ctx, known, strings.TrimSuffix(from[0], "/"))
	}
	if len(from) > len(known) {
		return nil, nil, fmt.Errorf("--from: %d parts were given, the policy knows %d", len(from), len(known))
	}
	for i, f := range from {
		s, err := p.source(f)
		if err != nil {
			return nil, nil, err
		}
		sources, origins = append(sources, s), append(origins, known[i])
	}
	return sources, origins, nil
}

// served opens the parts that one address serves: up to the first that has no
// checkpoint yet.
func (p *program) served(ctx context.Context, known []string, base string) (sources []fsck.Source, origins []string, err error) {
	for _, origin := range known {
		s, err := p.source(base + "/shards/" + origin[strings.LastIndexByte(origin, '/')+1:])
		if err != nil {
			return nil, nil, err
		}
		_, err = s.Get(ctx, "checkpoint")
		if errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		sources, origins = append(sources, s), append(origins, origin)
	}
	if len(sources) > 0 {
		return sources, origins, nil
	}
	s, err := p.source(base) // the address of the first part's tiles
	return []fsck.Source{s}, known, err
}
