package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/words"
)

// maxDocument bounds a document that is read, in bytes.
const maxDocument = 2 << 30

// maxKeyring bounds a keyring, in bytes.
const maxKeyring = 64 << 20

type verifyOptions struct {
	policy, trust, opening, keyring, output string
	statementOnly, details                  bool
}

func (p *program) verifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [FILE] RECEIPT",
		Short: "Verify a receipt, without a network",
		Long: `Verify a receipt, without a network: that exactly this file was logged, by
whom, and between which times. FILE is left out for statements that have no
document.

The policy says which log and which witnesses you believe. It must reach you by
another way than the receipt. It has two halves, POLICY and POLICY.json; or it
is in a trust bundle, with the keyring (see trialog trust). In a work folder the
pinned one is the default.

Exit codes: 0 verified, 1 not verified, 2 wrong usage or an unreadable file.`,
		Example: `  trialog verify protocol.pdf protocol.pdf.receipt --policy log.policy
  trialog verify consent.pdf consent.pdf.receipt --policy log.policy --opening consent.pdf.opening
  trialog verify protocol.pdf protocol.pdf.receipt --policy log.policy -o json
  trialog verify protocol.pdf protocol.pdf.receipt --trust pinned.trust`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error { return p.verify(args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.policy, "policy", "", "policy `file` to judge by")
	f.StringVar(&o.trust, "trust", "", trustFlag)
	f.StringVar(&o.opening, "opening", "", "opening `file` of a sealed document (default: FILE.opening, if it is there)")
	f.StringVar(&o.keyring, "keyring", "", "keyring `file` of an auditor, to check the signer's key")
	f.BoolVar(&o.statementOnly, "statement-only", false, "judge the receipt without its document")
	f.BoolVar(&o.details, "details", false, "print hashes, places and technical reasons too")
	outputFlag(cmd, &o.output)
	return cmd
}

func (p *program) verify(args []string, o verifyOptions) error {
	in, err := p.evidence(args, o)
	if err != nil {
		return err
	}
	v, err := verify.Verify(in)
	if p.caveat != "" {
		v.Caveats = append(v.Caveats, p.caveat)
	}
	if err != nil && v.Failure.Link == verify.LinkDocument && in.Document == nil {
		return errors.New("this receipt is of a document: give the FILE before the RECEIPT, or --statement-only")
	}
	if o.output == "json" {
		if err := p.json(v); err != nil {
			return err
		}
	} else {
		p.report(v, o.details)
	}
	if !v.Verified {
		return silentError{exitNotVerified}
	}
	return nil
}

// evidence reads everything that the verdict depends on.
func (p *program) evidence(args []string, o verifyOptions) (verify.Input, error) {
	in := verify.Input{StatementOnly: o.statementOnly, Now: p.now()}
	if err := checkOutput(o.output); err != nil {
		return in, err
	}
	var err error
	if b, err := p.bundle(o); err != nil {
		return in, err
	} else if b != nil {
		in.Policy, in.Keyring = b.Policy(), b.Keyring()
	} else if in.Policy, err = p.judge(o); err != nil {
		return in, err
	}
	if in.Receipt, err = folder.Read(args[len(args)-1], receipt.MaxSize+1); err != nil {
		return in, fmt.Errorf("the receipt: %w", err)
	}
	document := ""
	if len(args) == 2 {
		document = args[0]
		if !o.statementOnly {
			if in.Document, err = folder.Read(document, maxDocument); err != nil {
				return in, fmt.Errorf("the document: %w", err)
			}
			if in.Document == nil {
				in.Document = []byte{}
			}
		}
	}
	if o.opening == "" && document != "" && folder.Exists(document+filing.OpeningEnding) {
		o.opening = document + filing.OpeningEnding
	}
	if o.opening != "" {
		if in.Opening, err = folder.Read(o.opening, statement.MaxOpening+1); err != nil {
			return in, fmt.Errorf("the opening: %w", err)
		}
	}
	if o.keyring != "" {
		if in.Keyring, err = folder.Read(o.keyring, maxKeyring); err != nil {
			return in, fmt.Errorf("the keyring: %w", err)
		}
	}
	return in, nil
}

// judge reads the policy to judge by.
func (p *program) judge(o verifyOptions) (*verify.Policy, error) {
	switch {
	case o.policy == "" && o.trust != "":
		b, err := p.bundle(o)
		if err != nil {
			return nil, err
		}
		return b.Policy(), nil
	case o.policy == "":
		f, err := p.folder()
		if err != nil {
			return nil, errors.New("--policy: missing, expected the policy file to judge by")
		}
		return f.PinnedPolicy()
	case o.trust == "":
		o.trust = o.policy + folder.Sidecar
	}
	return folder.ReadPolicy(o.policy, o.trust)
}

// report writes a verdict in plain words.
func (p *program) report(v *verify.Verdict, details bool) {
	if v.Verified {
		p.printf("%s\n", words.Verified(v))
		if v.Statement.Grade == statement.Received {
			p.printf("  note: %s\n", words.Grade(v))
		}
		for _, stamp := range words.TimeStamps(v) {
			p.printf("  %s\n", stamp)
		}
		p.notes(v, "")
	} else {
		f := words.Failed(v)
		p.printf("NOT VERIFIED  %s: %s\n", f.Link, f.Found)
		p.printf("  what it means: %s\n", f.Meaning)
		if !details {
			p.printf("  the technical reason: add --details\n")
		}
	}
	p.printf("  judged by the policy with fingerprint %s\n", v.PolicyFingerprint)
	if details {
		p.details(v)
	}
}

// details writes what experts want to see.
func (p *program) details(v *verify.Verdict) {
	if v.Failure != nil {
		p.printf("  failing link: %s\n  reason: %s\n", v.Failure.Link, v.Failure.Reason)
	}
	if i := v.Inclusion; i != nil {
		p.printf("  log: %s, entry %d of %d\n", i.Origin, i.Index, i.TreeSize)
		if i.LeafHash != "" {
			p.printf("  leaf hash: %s\n", i.LeafHash)
		}
		for _, w := range i.Witnesses {
			p.printf("  witness: %s (%s, %s) at %s\n", w.Name, w.RunBy, w.Algorithm, words.Time(w.Time))
		}
	}
	if s := v.Statement; s != nil {
		p.printf("  identity: %s\n  place in the signer's chain: %d\n", s.Identity, s.ChainNumber)
		p.printf("  received by the log's own clock: %s (a claim)\n", words.Time(s.ClaimedReceiveTime))
	}
	for _, s := range v.Signers {
		p.printf("  signer: %s (%s), %s, claimed at %s, enrolled by entry %d, key status %s\n",
			s.Key, s.Algorithm, s.Meaning, s.ClaimedTime, s.EnrolledAt, s.Status)
	}
	for _, b := range []struct {
		name  string
		bound *verify.Bound
	}{
		{"signed not before", v.NotBefore},
		{"logged not after", v.NotAfter},
		{"without the time-stamps: logged not after", v.CosignedNotAfter},
	} {
		if b.bound != nil {
			p.printf("  %s %s, by the %s\n", b.name, words.Time(b.bound.Time), b.bound.Source)
		}
	}
	for _, s := range v.TimeStamps {
		p.printf("  %s: %s", words.TimeStamp(s), s.Status)
		if s.Serial != "" {
			p.printf(", number %s", s.Serial)
		}
		if !s.NotAfter.IsZero() {
			p.printf(", alone: logged not after %s", words.Time(s.NotAfter))
		}
		if s.Reason != "" {
			p.printf(", because: %s", s.Reason)
		}
		p.printf("\n")
	}
}
