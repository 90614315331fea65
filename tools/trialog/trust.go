package main

import (
	"cmp"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/loglist"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/policy"
	"github.com/trialog/trialog/tools/trialog/words"
)

func (p *program) trustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Make, look at and update trust bundles: all that a verifier believes in one file",
		Long: `A trust bundle is one signed file with everything that a verifier believes: the
policy, and perhaps an auditor's keyring and the list of the log's parts. All of
this works without a network: files in, files out.

Who publishes one makes it, and has as many people sign it as it asks for. Who
verifies takes the first one by its fingerprint, which must come by another way,
for instance on paper; later ones by the signatures of the people before.`,
		Example: `  trialog trust make --policy log.policy --signer anna.pub.pem,ben.pub.pem --threshold 2 --out log.trust
  trialog trust sign log.trust --key anna.pem
  trialog trust init log.trust --fingerprint 3f0c… --out pinned.trust
  trialog trust update pinned.trust newer.trust
  trialog verify protocol.pdf protocol.pdf.receipt --trust pinned.trust`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.trustMakeCommand(), p.trustSignCommand(), p.trustShowCommand(), p.trustInitCommand(), p.trustUpdateCommand())
	return cmd
}

type trustMakeOptions struct {
	policy, sidecar, keyring, logList, after, out string
	signers                                       []string
	threshold                                     int
	valid                                         time.Duration
}

// year is for how long a bundle is good unless somebody says otherwise.
const year = 365 * 24 * time.Hour

func (p *program) trustMakeCommand() *cobra.Command {
	var o trustMakeOptions
	cmd := &cobra.Command{
		Use:   "make",
		Short: "Make a trust bundle for people to sign",
		Long: `Make a trust bundle for people to sign with trialog trust sign. With --after it
is the one that follows another, and what takes back what that one says is
refused; signers and threshold, keyring and log list are those of the other
unless they are given.`,
		Example: `  trialog trust make --policy log.policy --signer anna.pub.pem,ben.pub.pem --threshold 2 --out log.trust
  trialog trust make --policy log.policy --keyring log.keyring --after log-1.trust --out log-2.trust`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.trustMake(o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.policy, "policy", "", "policy `file`")
	f.StringVar(&o.sidecar, "sidecar", "", "`file` with the second half of the policy (default: POLICY.json)")
	f.StringVar(&o.keyring, "keyring", "", "keyring `file` of an auditor that the policy names")
	f.StringVar(&o.logList, "log-list", "", "log list `file`, signed by a key that the policy names")
	f.StringSliceVar(&o.signers, "signer", nil, "public key `files` of those who may sign, PEM")
	f.IntVar(&o.threshold, "threshold", 0, "how many of them must sign (default: more than half)")
	f.DurationVar(&o.valid, "valid", year, "for how long it is good")
	f.StringVar(&o.after, "after", "", "the trust bundle `file` that this one follows")
	f.StringVarP(&o.out, "out", "o", "", "`file` of the new bundle")
	return cmd
}

func (p *program) trustMake(o trustMakeOptions) error {
	switch {
	case o.policy == "":
		return errors.New("--policy: missing, expected the policy that the bundle is to hold")
	case o.out == "":
		return errors.New("--out: missing, expected the file of the new bundle")
	case o.valid < time.Millisecond:
		return errors.New("--valid: expected for how long it is good, such as 8760h")
	}
	c, err := p.trustContent(o)
	if err != nil {
		return err
	}
	var before *trustbundle.Bundle
	if o.after != "" {
		if before, _, err = readBundle(o.after); err != nil {
			return err
		}
		c.Version, c.Previous = before.Content().Version+1, before.Digest()
		if len(c.Signers) == 0 {
			c.Signers = before.Content().Signers
			c.Threshold = cmp.Or(c.Threshold, before.Content().Threshold)
		}
		if c.KeyringRaw == nil {
			c.KeyringRaw = before.Keyring()
		}
		if c.LogListRaw == nil {
			c.LogListRaw = before.Content().LogListRaw
		}
	}
	if len(c.Signers) == 0 {
		return errors.New("--signer: missing, expected the public keys of those who may sign")
	}
	if c.Threshold == 0 {
		c.Threshold = len(c.Signers)/2 + 1
	}
	raw, err := c.Encode()
	if err != nil {
		return err
	}
	d, err := trustbundle.Decode(raw)
	if err != nil {
		return err
	}
	if before != nil {
		if err := trustbundle.FollowsContent(&before.Draft, d); err != nil {
			return err
		}
		p.warnReceipts(before, d)
	}
	if err := folder.WriteFile(o.out, raw, 0o644); err != nil {
		return err
	}
	p.printf("%s: version %d, for %d of %d to sign\n  fingerprint %s\n", o.out, c.Version, c.Threshold, len(c.Signers), d.Fingerprint())
	if before != nil {
		p.printf("  %d of the %d signers of version %d must sign it too\n",
			before.Content().Threshold, len(before.Content().Signers), before.Content().Version)
	}
	return nil
}

// warnReceipts warns if a bundle would not judge like the one before.
func (p *program) warnReceipts(before *trustbundle.Bundle, d *trustbundle.Draft) {
	if err := trustbundle.KeepsReceipts(before.Policy(), d.Policy()); err != nil {
		p.printf("warning: receipts that verify by version %d may not by this one: %s\n", before.Content().Version, err)
	}
}

// trustContent reads what a bundle is to hold.
func (p *program) trustContent(o trustMakeOptions) (*trustbundle.Content, error) {
	now := p.now().UTC().Truncate(time.Millisecond)
	c := &trustbundle.Content{Version: 1, Issued: now, Expires: now.Add(o.valid), Threshold: o.threshold}
	var err error
	if c.PolicyText, c.Sidecar, err = policyFiles(o.policy, o.sidecar); err != nil {
		return nil, err
	}
	judged, problems := policy.Check(c.PolicyText, c.Sidecar)
	if judged == nil {
		return nil, fmt.Errorf("--policy: %s (see: trialog policy check)", problems[0].Reason)
	}
	c.Log = judged.Trust().Log
	if o.keyring != "" {
		if c.KeyringRaw, err = folder.Read(o.keyring, maxKeyring); err != nil {
			return nil, fmt.Errorf("--keyring: %w", err)
		}
	}
	if o.logList != "" {
		if c.LogListRaw, err = folder.Read(o.logList, loglist.MaxSize); err != nil {
			return nil, fmt.Errorf("--log-list: %w", err)
		}
	}
	for _, path := range o.signers {
		key, err := readPublic(path)
		if err != nil {
			return nil, fmt.Errorf("--signer: %w", err)
		}
		c.Signers = append(c.Signers, key)
	}
	return c, nil
}

// readPublic reads the public key in a PEM file, as "openssl pkey -pubout" writes
// it.
func readPublic(path string) (*statement.PublicKey, error) {
	raw, err := folder.Read(path, folder.MaxFile)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, fmt.Errorf(`%s: expected a PEM "PUBLIC KEY"; make it with: openssl pkey -in KEY.pem -pubout`, path)
	}
	key, err := statement.ParsePublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func (p *program) trustSignCommand() *cobra.Command {
	var key, out string
	cmd := &cobra.Command{
		Use:   "sign FILE --key KEY",
		Short: "Sign a trust bundle",
		Long: `Sign a trust bundle. Look at it first: trialog trust show. The signature is added
to those of others; FILE is replaced unless --out says otherwise.`,
		Example: `  trialog trust sign log.trust --key anna.pem`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return p.trustSign(args[0], key, out) },
	}
	cmd.Flags().StringVar(&key, "key", "", "your private key `file`, PEM")
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` of the signed bundle (default: FILE)")
	return cmd
}

func (p *program) trustSign(path, keyFile, out string) error {
	if keyFile == "" {
		return errors.New("--key: missing, expected your private key")
	}
	key, err := folder.ReadKey(keyFile)
	if err != nil {
		return err
	}
	raw, err := folder.Read(path, trustbundle.MaxSize)
	if err != nil {
		return fmt.Errorf("the trust bundle: %w", err)
	}
	signed, err := trustbundle.Sign(raw, key)
	if err != nil {
		return err
	}
	if out == "" {
		out = path
	}
	if err := folder.WriteFile(out, signed, 0o644); err != nil {
		return err
	}
	d, sigs, err := trustbundle.Open(signed)
	if err != nil {
		return err
	}
	own, err := d.SignedBy(sigs, d.Content().Signers)
	if err != nil {
		return err
	}
	role := "one of its signers"
	if !slices.Contains(own, key.ID()) {
		role = "none of its own signers: the signature counts only if it is one of the bundle before"
	}
	p.printf("%s: signed by key %s, %s\n  %d of the %d signatures that it needs are there\n",
		out, key.ID(), role, len(own), d.Content().Threshold)
	return nil
}

// readBundle reads a bundle that enough of its signers have signed, and returns the
// bytes that were judged too: whoever wants to keep them must not read the file
// again, which may be another one by then.
func readBundle(path string) (*trustbundle.Bundle, []byte, error) {
	raw, err := folder.Read(path, trustbundle.MaxSize)
	if err != nil {
		return nil, nil, fmt.Errorf("the trust bundle: %w", err)
	}
	b, err := trustbundle.Parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, raw, nil
}

func (p *program) trustInitCommand() *cobra.Command {
	var fingerprint, out string
	cmd := &cobra.Command{
		Use:   "init FILE --fingerprint HEX --out PINNED",
		Short: "Take a first trust bundle, by its fingerprint",
		Long: `Take a first trust bundle. Its fingerprint must reach you by another way than
FILE: on paper, by telephone, from a page of somebody else's. PINNED is what you
verify by, and what trialog trust update replaces.

Exit codes: 0 taken, 1 it is another bundle, 2 wrong usage.`,
		Example: `  trialog trust init log.trust --fingerprint 3f0c… --out pinned.trust`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return p.trustInit(args[0], fingerprint, out) },
	}
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "the bundle's fingerprint, `64 hexadecimal digits`")
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` to keep it in; must not be there")
	return cmd
}

func (p *program) trustInit(path, fingerprint, out string) error {
	switch {
	case fingerprint == "":
		return errors.New("--fingerprint: missing, expected the one that reached you by another way than the file")
	case out == "":
		return errors.New("--out: missing, expected the file to keep the bundle in")
	}
	digest, err := statement.ParseDigest(strings.ToLower(strings.Join(strings.Fields(fingerprint), "")))
	if err != nil {
		return errors.New("--fingerprint: expected 64 hexadecimal digits")
	}
	b, raw, err := readBundle(path)
	if err != nil {
		return err
	}
	if err := b.Check(digest.String()); err != nil {
		p.complain("", err)
		return silentError{exitNotVerified}
	}
	if b.Expired(p.now()) {
		return fmt.Errorf("%s: version %d %w at %s: ask for a newer one",
			path, b.Content().Version, trustbundle.ErrExpired, words.Time(b.Content().Expires))
	}
	if err := folder.WriteNew(out, raw, 0o644); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("--out: %s is there already; what you verify by is replaced by trialog trust update", out)
	} else if err != nil {
		return err
	}
	p.printf("%s: version %d for the log %s, good until %s\n", out, b.Content().Version, b.Content().Log, words.Time(b.Content().Expires))
	return nil
}

func (p *program) trustUpdateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "update PINNED NEWER...",
		Short: "Replace a trust bundle by one that follows it",
		Long: `Replace the bundle PINNED by the last of NEWER. If there were several since, all
of them are needed, oldest first: each must be signed by the people of the one
before, name it, and take back nothing that it says.

An expired bundle is not updated: nobody would know which of its keys were lost
since. Take the new one by its fingerprint, with trialog trust init.

Exit codes: 0 replaced, 1 it does not follow, 2 wrong usage.`,
		Example: `  trialog trust update pinned.trust newer.trust
  trialog trust update pinned.trust log-2.trust log-3.trust`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error { return p.trustUpdate(args[0], args[1:]) },
	}
}

func (p *program) trustUpdate(pinned string, newer []string) error {
	held, _, err := readBundle(pinned)
	if err != nil {
		return err
	}
	chain := make([]*trustbundle.Bundle, len(newer))
	var raw []byte // of the last one
	for i, path := range newer {
		if chain[i], raw, err = readBundle(path); err != nil {
			return err
		}
	}
	last, err := trustbundle.Update(held, p.now(), chain...)
	if err != nil {
		p.complain("", err)
		return silentError{exitNotVerified}
	}
	p.warnReceipts(held, &last.Draft)
	if err := folder.WriteFile(pinned, raw, 0o644); err != nil {
		return err
	}
	p.printf("%s: version %d in place of %d, good until %s\n  fingerprint %s\n", pinned, last.Content().Version,
		held.Content().Version, words.Time(last.Content().Expires), last.Fingerprint())
	return nil
}
