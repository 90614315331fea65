package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/words"
)

// maxNote bounds a checkpoint file, in bytes.
const maxNote = 1 << 20

type evidenceOptions struct {
	policy, trust, output string
	from, out             string
	details               bool
}

func (p *program) evidenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Check a file that shows that a log or a witness contradicted itself",
		Long: `Check a file that shows that a log, a witness or the signer of a log list said
two things that cannot both be true, or that a log broke a promise. Witnesses,
mirrors, auditors and this program write such files.

No network is needed, and nobody has to be believed: what is shown follows from
the accused party's own signatures.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.evidenceVerify(), p.evidenceShow(), p.evidenceCompare())
	return cmd
}

func (p *program) evidenceVerify() *cobra.Command {
	var o evidenceOptions
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Say what a file shows, and against whom, without a network",
		Long: `Say what a file of evidence shows, and against whom, without a network.

The policy says which log and which witnesses the file may be about. It must reach
you by another way than the file. It has two halves, POLICY and POLICY.json; or it
is in a trust bundle (see trialog trust). In a work folder the pinned one is the
default.

Exit codes: 0 it is shown, 1 it is not shown by this file, 2 wrong usage or an
unreadable file.`,
		Example: `  trialog evidence verify protocol.pdf.evidence --policy log.policy`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return p.verifyEvidence(args[0], o) },
	}
	o.judgedBy(cmd)
	cmd.Flags().BoolVar(&o.details, "details", false, "print tree heads, hashes and signatures too")
	outputFlag(cmd, &o.output)
	return cmd
}

// judgedBy adds the flags that name a policy.
func (o *evidenceOptions) judgedBy(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.policy, "policy", "", "policy `file` to judge by")
	cmd.Flags().StringVar(&o.trust, "trust", "", trustFlag)
}

func (p *program) evidenceShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Print what is in a file of evidence, without judging it",
		Long: `Print what is in a file of evidence: the tree heads, promises and lists as they
were signed. No signature is checked.`,
		Example: `  trialog evidence show protocol.pdf.evidence`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return p.showEvidence(args[0]) },
	}
}

func (p *program) evidenceCompare() *cobra.Command {
	var o evidenceOptions
	cmd := &cobra.Command{
		Use:   "compare CHECKPOINT OTHER",
		Short: "Compare two checkpoints of a log, and write evidence if they contradict each other",
		Long: `Compare two checkpoints of one log, such as trialog log checkpoint prints, and
write a file of evidence if they contradict each other.

Two checkpoints of one size need no network. Else the tiles of the larger tree are
read, from the log or from a mirror of it.

Exit codes: 0 they contradict each other and the evidence was written, 1 they do
not, or what was read cannot be the tree, 2 wrong usage or an unreadable file,
3 the server cannot be reached.`,
		Example: `  trialog evidence compare monday.checkpoint tuesday.checkpoint --from https://mirror.example.org --policy log.policy`,
		Args:    cobra.ExactArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return p.compareNotes(cmd.Context(), args, o) },
	}
	o.judgedBy(cmd)
	cmd.Flags().StringVar(&o.from, "from", "", "`URL` of the log or a mirror (default: the server of the work folder)")
	cmd.Flags().StringVar(&o.out, "out", "", "`file` for the evidence (default: the first checkpoint's name with .evidence)")
	return cmd
}

func (p *program) verifyEvidence(name string, o evidenceOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	policy, err := p.judge(verifyOptions{policy: o.policy, trust: o.trust})
	if err != nil {
		return err
	}
	raw, err := folder.Read(name, evidence.MaxSize+1)
	if err != nil {
		return err
	}
	f, err := evidence.Verify(raw, policy)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if p.caveat != "" {
		f.Caveats = append(f.Caveats, p.caveat)
	}
	if o.output == "json" {
		if err := p.json(f); err != nil {
			return err
		}
	} else {
		p.found(f, o.details)
	}
	if !f.Conclusive {
		return silentError{exitNotVerified}
	}
	return nil
}

// found writes a finding in plain words.
func (p *program) found(f *evidence.Finding, details bool) {
	verdict := "NOT SHOWN"
	if f.Conclusive {
		verdict = "SHOWN"
	}
	p.printf("%s  %s\n", verdict, f.Sentences[0])
	for _, s := range f.Sentences[1:] {
		p.printf("  %s\n", s)
	}
	for _, c := range f.Caveats {
		p.printf("  note: %s\n", c)
	}
	if f.By != "" || !f.At.IsZero() {
		p.printf("  note: %s\n", writtenBy(f))
	}
	p.printf("  judged by the policy with fingerprint %s\n", f.PolicyFingerprint)
	if details {
		p.foundDetails(f)
	}
}

// writtenBy says what a file says of itself.
func writtenBy(f *evidence.Finding) string {
	text := "the file says that it was written"
	if f.By != "" {
		text += " by " + f.By
	}
	if !f.At.IsZero() {
		text += " at " + words.Time(f.At)
	}
	return text + ", which nothing proves"
}

// foundDetails writes what experts want to see.
func (p *program) foundDetails(f *evidence.Finding) {
	p.printf("  kind: %s\n", f.Kind)
	for _, a := range f.Against {
		p.printf("  against: %s\n", a)
	}
	for _, h := range f.Heads {
		signed := "not signed by the log"
		if h.SignedByLog {
			signed = "signed by the log"
		}
		p.printf("  tree head: %s, size %d, root %s, %s\n", f.Origin, h.Size, h.Root, signed)
		for _, w := range h.Witnesses {
			at := "at a time that it does not state"
			if !w.Time.IsZero() {
				at = "at " + words.Time(w.Time)
			}
			p.printf("    witness: %s, %s\n", w.Witness, at)
		}
	}
	if q := f.Promise; q != nil {
		p.printf("  promise: entry %d, leaf hash %s, received %s, deadline %s, statement %s\n",
			q.Index, q.LeafHash, words.Time(q.Received), words.Time(q.Deadline), q.Identity)
	}
	for _, l := range f.Lists {
		p.printf("  log list: version %d, issued %s, %d shards\n", l.Version, words.Time(l.Issued), l.Shards)
	}
}

func (p *program) showEvidence(name string) error {
	raw, err := folder.Read(name, evidence.MaxSize+1)
	if err != nil {
		return err
	}
	e, err := evidence.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	p.printf("kind: %s\n", e.Kind)
	if e.By != "" {
		p.printf("written by: %s (a claim)\n", e.By)
	}
	if !e.At.IsZero() {
		p.printf("written at: %s (a claim)\n", words.Time(e.At))
	}
	for i, n := range e.Notes {
		p.printf("\ntree head %d:\n%s", i+1, n.Bytes())
	}
	if len(e.Hashes) > 0 {
		p.printf("\nhashes: %d\n", len(e.Hashes))
	}
	if e.Promise != nil {
		p.printf("\npromise:\n%s\n", strings.TrimSpace(string(e.Promise)))
	}
	if e.Leaf != nil {
		p.printf("\nleaf hash in its place: %x\n", *e.Leaf)
	}
	for i, l := range e.Lists {
		p.printf("\nlog list %d:\n%s\n", i+1, strings.TrimSpace(string(l)))
	}
	return nil
}

func (p *program) compareNotes(ctx context.Context, names []string, o evidenceOptions) error {
	policy, err := p.judge(verifyOptions{policy: o.policy, trust: o.trust})
	if err != nil {
		return err
	}
	var notes [2]*checkpoint.Note
	for i, name := range names {
		raw, err := folder.Read(name, maxNote)
		if err == nil {
			notes[i], err = checkpoint.Parse(raw)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	a, b := notes[0].Checkpoint(), notes[1].Checkpoint()
	if a.Origin != b.Origin {
		return fmt.Errorf("the checkpoints are of two logs, %s and %s", a.Origin, b.Origin)
	}
	e, err := p.contradiction(ctx, notes, o.from)
	if err != nil {
		return err
	}
	if e == nil {
		p.printf("No contradiction: %s\n", agreement(a, b))
		return silentError{exitNotVerified}
	}
	f := e.Judge(policy)
	if !f.Conclusive {
		p.found(f, false)
		return silentError{exitNotVerified}
	}
	raw, err := e.Encode()
	if err != nil {
		return err
	}
	if o.out == "" {
		o.out = names[0] + evidence.Ending
	}
	if folder.Exists(o.out) {
		return fmt.Errorf("%s is there already; use --out", o.out)
	}
	if err := folder.WriteFile(o.out, raw, 0o644); err != nil {
		return err
	}
	p.found(f, false)
	p.printf("  evidence: %s (keep it, and give it to a witness or a regulator)\n", o.out)
	return nil
}

// contradiction compares two notes; nil if they do not contradict each other.
func (p *program) contradiction(ctx context.Context, notes [2]*checkpoint.Note, from string) (*evidence.Evidence, error) {
	if notes[0].Checkpoint().Size == notes[1].Checkpoint().Size {
		return evidence.Refused(notes[0], notes[1], nil), nil
	}
	if from == "" {
		f, err := p.folder()
		if err != nil {
			return nil, errors.New("--from: missing, expected the URL of the log or of a mirror, as the sizes differ")
		}
		from = f.Server
	}
	c, err := client.New(client.Config{
		Server: from, Now: p.now, Retry: client.Retry{For: p.retryFor}, UserAgent: "trialog-cli",
	})
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	return c.Compare(ctx, notes[0], notes[1])
}

// agreement says why two checkpoints do not contradict each other.
func agreement(a, b checkpoint.Checkpoint) string {
	if a.Size == b.Size {
		return fmt.Sprintf("both are of the same tree of %d entries", a.Size)
	}
	return fmt.Sprintf("the tree of %d entries begins with the one of %d", max(a.Size, b.Size), min(a.Size, b.Size))
}
