package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/policy"
)

func (p *program) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check a policy, and say in plain words what it asks for",
		Example: `  trialog policy check log.policy
  trialog policy show log.policy`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var sidecar string
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Find what is wrong or unwise with a policy",
		Long: `Find what is wrong with a policy: every faulty line of FILE is named, then what
is wrong with its second half, FILE.json. What is allowed and unwise is a
warning.

Exit codes: 0 it can be used, 1 it cannot, 2 wrong usage or an unreadable file.`,
		Example: `  trialog policy check log.policy
  trialog policy check log.policy --sidecar draft.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.checkPolicy(args[0], sidecar) },
	}
	show := &cobra.Command{
		Use:   "show FILE",
		Short: "Say in plain words whom a policy believes",
		Long: `Say in plain words whom a policy believes: which keys of the log must have
signed, which witnesses of which organisations must have seen it, how many of
them, and who else is named. The fingerprint is what every verdict prints.`,
		Example: `  trialog policy show log.policy`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return p.showPolicy(args[0], sidecar) },
	}
	for _, c := range []*cobra.Command{check, show} {
		c.Flags().StringVar(&sidecar, "sidecar", "", "`file` with the second half of the policy (default: FILE.json)")
		cmd.AddCommand(c)
	}
	return cmd
}

// policyFiles reads both halves of a policy.
func policyFiles(path, sidecar string) (text, trust []byte, err error) {
	if sidecar == "" {
		sidecar = path + folder.Sidecar
	}
	if text, err = folder.Read(path, folder.MaxFile); err != nil {
		return nil, nil, fmt.Errorf("the policy: %w", err)
	}
	trust, err = folder.Read(sidecar, folder.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("--sidecar: the policy has a second half, which is not there: %w", err)
	}
	return text, trust, err
}

func (p *program) checkPolicy(path, sidecar string) error {
	text, trust, err := policyFiles(path, sidecar)
	if err != nil {
		return err
	}
	if sidecar == "" {
		sidecar = path + folder.Sidecar
	}
	judged, problems := policy.Check(text, trust)
	for _, q := range problems {
		file := path
		if q.Half == policy.Sidecar {
			file = sidecar
		}
		if q.Line > 0 {
			file = fmt.Sprintf("%s:%d", file, q.Line)
		}
		if q.Member != "" {
			file += ": " + q.Member
		}
		p.printf("%s: %s\n", file, q.Reason)
	}
	if len(problems) > 0 {
		p.printf("NOT USABLE  %s\n", path)
		return silentError{exitNotVerified}
	}
	warnings := policy.Warnings(judged)
	for _, w := range warnings {
		p.printf("warning: %s\n", w)
	}
	p.printf("USABLE  %s: nothing is wrong, %d warnings\n  fingerprint %s\n", path, len(warnings), judged.Fingerprint())
	return nil
}

func (p *program) showPolicy(path, sidecar string) error {
	text, trust, err := policyFiles(path, sidecar)
	if err != nil {
		return err
	}
	judged, problems := policy.Check(text, trust)
	if judged == nil {
		return fmt.Errorf("%s cannot be used (%s); see: trialog policy check", path, problems[0].Reason)
	}
	p.printf("%s", policy.Show(judged))
	return nil
}
