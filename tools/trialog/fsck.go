package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/fsck"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/words"
)

type fsckOptions struct {
	judge           verifyOptions // policy and trust
	expect          string
	copies          []string
	shallow, asJSON bool
	details         bool
	workers         int
	output          string
}

func (p *program) fsckCommand() *cobra.Command {
	var o fsckOptions
	cmd := &cobra.Command{
		Use:   "fsck [URL|FOLDER]...",
		Short: "Check a whole log and say where it is damaged",
		Long: `Check a whole log: everything is read and worked out anew, from the entries to
the checkpoint that your policy accepts. Each place that does not fit is named
by its file and first wrong byte, with which side the signatures support.

The log is read from its address, or from a FOLDER with its files, as
"trialogd" or a mirror keeps them. Without either it is the log of the work
folder. Several are the parts (shards) of one log, the oldest first: then it is
also checked that each goes on where the one before ended.

Nothing that an entry says is printed.

Exit codes: 0 nothing is wrong, 1 something is, 2 it could not be checked.`,
		Example: `  trialog fsck https://log.example.org --policy log.policy
  trialog fsck /backup/log/tiles --policy log.policy --json
  trialog fsck /backup/log/tiles --policy log.policy --expect protocol.pdf.receipt
  trialog fsck ./log-2026 ./log-2027 --policy log.policy`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.fsck(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.judge.policy, "policy", "", "policy `file` to judge by")
	f.StringVar(&o.judge.trust, "trust", "", "`file` with the second half of the policy (default: POLICY.json)")
	f.StringVar(&o.expect, "expect", "", "receipt or checkpoint `file` from earlier that the log must still extend")
	f.StringArrayVar(&o.copies, "copy", nil, "`address` or folder of another copy, to find the exact byte of damage")
	f.BoolVar(&o.shallow, "shallow", false, "leave out the signatures of statements: faster")
	f.BoolVar(&o.details, "details", false, "print hashes and technical reasons too")
	f.BoolVar(&o.asJSON, "json", false, "the same as --output json")
	f.IntVar(&o.workers, "workers", 0, "how many files are read at a time (default: one for each processor)")
	outputFlag(cmd, &o.output)
	return cmd
}

func (p *program) fsck(ctx context.Context, args []string, o fsckOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	shards, err := p.shards(args, o)
	if err != nil {
		return err
	}
	reports, err := fsck.CheckShards(ctx, shards...)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w (is this the folder with the file \"checkpoint\"?)", err)
		}
		// Whatever was found until then is said all the same.
		p.complain("", err)
	}
	if o.asJSON || o.output == "json" {
		if err := p.json(reports); err != nil {
			return err
		}
	} else {
		for _, r := range reports {
			p.checked(r, o.details)
		}
		if len(reports) > 0 {
			p.printf("  judged by the policy with fingerprint %s\n", shards[0].Policy.Fingerprint())
		}
	}
	if err != nil {
		return silentError{exitUsage}
	}
	for _, r := range reports {
		if !r.Clean() {
			return silentError{exitNotVerified}
		}
	}
	return nil
}

// shards makes the configuration of each part of the log.
func (p *program) shards(args []string, o fsckOptions) ([]fsck.Config, error) {
	policy, err := p.judge(o.judge)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		f, err := p.folder()
		if err != nil {
			return nil, errors.New("URL or FOLDER: missing, expected the log to check")
		}
		args = []string{f.Server}
	}
	if len(args) > 1 && len(o.copies) > 0 {
		return nil, errors.New("--copy: is a copy of one part of a log, found several parts")
	}
	var expect []byte
	if o.expect != "" {
		if expect, err = folder.Read(o.expect, receipt.MaxSize+1); err != nil {
			return nil, fmt.Errorf("--expect: %w", err)
		}
	}
	shards := make([]fsck.Config, len(args))
	for i, from := range args {
		if shards[i], err = p.shard(from, policy, o); err != nil {
			return nil, err
		}
	}
	// What is expected is most likely of the newest part.
	shards[len(shards)-1].Expect = expect
	return shards, nil
}

func (p *program) shard(from string, policy *verify.Policy, o fsckOptions) (fsck.Config, error) {
	cfg := fsck.Config{Policy: policy, Shallow: o.shallow, Workers: o.workers, Progress: p.checking(from)}
	var err error
	if cfg.Source, err = p.source(from); err != nil {
		return cfg, err
	}
	for _, c := range o.copies {
		s, err := p.source(c)
		if err != nil {
			return cfg, fmt.Errorf("--copy: %w", err)
		}
		cfg.Copies = append(cfg.Copies, s)
	}
	return cfg, nil
}

// source opens an address or a folder.
func (p *program) source(from string) (fsck.Source, error) {
	if strings.Contains(from, "://") {
		return fsck.HTTP(from, nil)
	}
	root, err := os.OpenRoot(from)
	if err != nil {
		return nil, fmt.Errorf("the log's folder: %w", err)
	}
	return fsck.FS(root.FS()), nil
}

// checking makes a progress bar, on a terminal only.
func (p *program) checking(from string) func(done, total uint64) {
	if !p.terminal(p.errs) {
		return nil
	}
	var bar *progressbar.ProgressBar
	return func(done, total uint64) {
		if bar == nil {
			bar = progressbar.NewOptions64(int64(min(total, 1<<62)), progressbar.OptionSetWriter(p.errs),
				progressbar.OptionSetDescription("checking "+from), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
		}
		_ = bar.Set64(int64(min(done, 1<<62))) // a terminal that cannot be written to is no reason to stop
	}
}

// checked writes a report in plain words.
func (p *program) checked(r *fsck.Report, details bool) {
	switch {
	case r.Clean():
		p.printf("WHOLE  %s: all %d entries are as they were signed for\n", words.Shard(r.Origin), r.Size)
	case !r.Complete && len(r.Findings) == 0:
		p.printf("NOT CHECKED  %s\n", words.Shard(r.Origin))
	default:
		p.printf("DAMAGED  %s: %s\n", words.Shard(r.Origin), words.Findings(len(r.Findings)))
	}
	for _, f := range r.Findings {
		p.printf("  %s: %s\n", words.Place(f), words.Finding(f))
		if details {
			p.printf("    %s\n", f.Detail)
			if f.Want != "" {
				p.printf("    expected %s, found %s\n", f.Want, words.Or(f.Got, "nothing"))
			}
		}
	}
	for _, f := range r.Notes {
		p.printf("  note: %s\n", words.FindingNote(f))
	}
	if !r.Complete {
		p.printf("  the check could not be completed\n")
	} else if !r.Clean() {
		p.printf("  %d of %d entries are as they were signed for\n", r.Entries, r.Size)
	}
	if r.Signatures > 0 {
		p.printf("  signatures verified: %d\n", r.Signatures)
	}
}
