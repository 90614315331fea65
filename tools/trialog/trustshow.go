package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/trustbundle"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/policy"
	"github.com/trialog/trialog/tools/trialog/words"
)

func (p *program) trustShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Say what a trust bundle holds, and who has signed it",
		Long: `Say in plain words what a trust bundle holds, and who has signed it. That it is
shown does not mean that it is to be believed: see trialog trust init and update.`,
		Example: `  trialog trust show log.trust`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return p.trustShow(args[0]) },
	}
}

func (p *program) trustShow(path string) error {
	raw, err := folder.Read(path, trustbundle.MaxSize)
	if err != nil {
		return fmt.Errorf("the trust bundle: %w", err)
	}
	d, sigs, err := trustbundle.Open(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c := d.Content()
	p.printf("Trust bundle, version %d, for the log %s\n", c.Version, c.Log)
	p.printf("  fingerprint %s\n", d.Fingerprint())
	p.printf("  issued %s, good until %s", words.Time(c.Issued), words.Time(c.Expires))
	if d.Expired(p.now()) {
		p.printf(": EXPIRED")
	}
	p.printf("\n")
	if c.Version > 1 {
		p.printf("  follows the bundle with fingerprint %s\n", c.Previous)
	}
	if err := p.showSigners(d, sigs); err != nil {
		return err
	}
	p.showParts(d)
	p.printf("\n%s", policy.Show(d.Policy()))
	return nil
}

// showSigners says who may sign and who has.
func (p *program) showSigners(d *trustbundle.Draft, sigs []statement.Signature) error {
	c := d.Content()
	own, err := d.SignedBy(sigs, c.Signers)
	if err != nil {
		return err
	}
	signed := map[statement.KeyID]bool{}
	for _, id := range own {
		signed[id] = true
	}
	state := "enough"
	if len(own) < c.Threshold {
		state = "NOT ENOUGH"
	}
	p.printf("  %d of these %d must sign it, %d have: %s\n", c.Threshold, len(c.Signers), len(own), state)
	for _, k := range c.Signers {
		mark := "has not signed"
		if signed[k.ID()] {
			mark = "has signed"
		}
		p.printf("    %s (%s) %s\n", k.ID(), k.Algorithm(), mark)
	}
	if others := len(sigs) - len(own); others > 0 {
		p.printf("  and %s by others, for those who hold the bundle before\n", plural(others, "signature"))
	}
	return nil
}

// showParts says what the bundle holds beside the policy.
func (p *program) showParts(d *trustbundle.Draft) {
	if k := d.KeyringContent(); k == nil {
		p.printf("  keyring: none; whether a signer's key was lost or stolen is not known\n")
	} else {
		revoked := 0
		for _, key := range k.Keys {
			if key.Revoked {
				revoked++
			}
		}
		p.printf("  keyring: %s, %d of them revoked, as of entry %d of %s\n", plural(len(k.Keys), "key"), revoked, k.Size, k.Origin)
	}
	if l := d.LogList(); l == nil {
		p.printf("  log list: none\n")
	} else {
		p.printf("  log list: version %d of %s\n", l.Version, words.Time(l.Issued))
		for i := range l.Shards {
			s := &l.Shards[i]
			text := string(s.State)
			switch {
			case s.Final != nil:
				text += fmt.Sprintf(" with %d entries", s.Final.Size)
			case s.Opens.After(l.Issued):
				text += ", opens " + words.Time(s.Opens)
			}
			if s.URL != "" {
				text += ", at " + s.URL
			}
			p.printf("    %s: %s\n", s.Origin, text)
		}
	}
}

// trustFlag is what --trust means without --policy.
const trustFlag = "trust bundle `file` to judge by; with --policy: its second half (default: POLICY.json)"

// bundle reads the trust bundle to judge by, if the flags name one; nil if they do
// not. With --policy, --trust is that policy's second half. It notes what every
// verdict by the bundle must carry.
func (p *program) bundle(o verifyOptions) (*trustbundle.Bundle, error) {
	if o.trust == "" || o.policy != "" {
		return nil, nil //nolint:nilnil // nothing was named
	}
	b, _, err := readBundle(o.trust)
	var field *statement.FieldError
	switch {
	case errors.As(err, &field) && (field.Field == "payloadType" || field.Field == "format"):
		return nil, fmt.Errorf("--trust: %s is no trust bundle; the second half of a policy goes with --policy, which is missing", o.trust)
	case err != nil:
		return nil, err
	}
	p.caveat = b.Caveat(p.now())
	return b, nil
}
