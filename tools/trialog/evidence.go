package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/checkpoint"
	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
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
		Example: `  trialog evidence verify protocol.pdf.evidence --policy log.policy
  trialog evidence compare monday.checkpoint tuesday.checkpoint --policy log.policy`,
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
		Use:   "compare FILE OTHER",
		Short: "Compare two checkpoints or promises of a log, and write evidence if they contradict each other",
		Long: `Compare two checkpoints of one log, such as trialog log checkpoint prints, or two
of its promises (FILE.promise), and write a file of evidence if they contradict
each other.

Two promises, and two checkpoints of one size, need no network. Else the tiles of
the larger tree are read, from the log or from a mirror of it.

Exit codes: 0 they contradict each other and the evidence was written, 1 they do
not, or what was read cannot be the tree, 2 wrong usage or an unreadable file,
3 the server cannot be reached.`,
		Example: `  trialog evidence compare monday.checkpoint tuesday.checkpoint --from https://mirror.example.org --policy log.policy`,
		Args:    cobra.ExactArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return p.compare(cmd.Context(), args, o) },
	}
	o.judgedBy(cmd)
	cmd.Flags().StringVar(&o.from, "from", "", "`URL` of the log or a mirror (default: the server of the work folder)")
	cmd.Flags().StringVar(&o.out, "out", "", "`file` for the evidence (default: FILE.evidence)")
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
	for _, q := range f.Promises {
		p.printf("  promise: entry %d of %s, leaf hash %s, received %s, deadline %s, statement %s\n",
			q.Index, q.Origin, q.LeafHash, words.Time(q.Received), words.Time(q.Deadline), q.Identity)
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
		p.printf("\ntree head %d:\n%s", i+1, visible(n.Bytes()))
	}
	if len(e.Hashes) > 0 {
		p.printf("\nhashes: %d\n", len(e.Hashes))
	}
	if e.Promise != nil {
		p.printf("\npromise:\n%s\n", visible(e.Promise))
	}
	for i, q := range e.Promises {
		p.printf("\npromise %d:\n%s\n", i+1, visible(q))
	}
	if e.Leaf != nil {
		p.printf("\nleaf hash in its place: %x\n", *e.Leaf)
	}
	for i, l := range e.Lists {
		p.printf("\nlog list %d:\n%s\n", i+1, visible(l))
	}
	return nil
}

// visible is a text of somebody's for a terminal, which would obey some characters.
func visible(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, string(text))
}

// compare compares two files of a log.
func (p *program) compare(ctx context.Context, names []string, o evidenceOptions) error {
	policy, err := p.judge(verifyOptions{policy: o.policy, trust: o.trust})
	if err != nil {
		return err
	}
	var raw [2][]byte
	for i, name := range names {
		if raw[i], err = folder.Read(name, maxNote); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var e *evidence.Evidence
	switch a, b := isPromise(raw[0]), isPromise(raw[1]); {
	case a && b:
		e = evidence.NewPromiseFork(raw[0], raw[1])
	case a:
		return fmt.Errorf("%s is a promise, %s is none", names[0], names[1])
	case b:
		return fmt.Errorf("%s is a promise, %s is none", names[1], names[0])
	default:
		if e, err = p.compareNotes(ctx, policy, names, raw, o.from); err != nil {
			return err
		}
	}
	f := e.Judge(policy)
	if !f.Conclusive {
		p.found(f, false)
		return silentError{exitNotVerified}
	}
	file, err := e.Encode()
	if err != nil {
		return err
	}
	if o.out == "" {
		o.out = names[0] + evidence.Ending
	}
	if err := folder.WriteNew(o.out, file, 0o644); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; use --out", o.out)
	} else if err != nil {
		return err
	}
	p.found(f, false)
	p.printf("  evidence: %s (keep it, and give it to a witness or a regulator)\n", o.out)
	return nil
}

// isPromise tells whether a file is a pending record, whoever signed it.
func isPromise(raw []byte) bool {
	_, _, err := statement.ParseDSSE(raw, receipt.PendingPayloadType, statement.MaxEnvelope)
	return err == nil
}

// compareNotes compares two checkpoints. That they do not contradict each other is
// said, and is an error.
func (p *program) compareNotes(
	ctx context.Context, policy *verify.Policy, names []string, raw [2][]byte, from string,
) (*evidence.Evidence, error) {
	var notes [2]*checkpoint.Note
	for i, name := range names {
		var err error
		if notes[i], err = checkpoint.Parse(raw[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	a, b := notes[0].Checkpoint(), notes[1].Checkpoint()
	if a.Origin != b.Origin {
		return nil, fmt.Errorf("the checkpoints are of two logs, %s and %s", a.Origin, b.Origin)
	}
	e, err := p.contradiction(ctx, notes, from)
	if err != nil || e != nil {
		return e, err
	}
	p.printf("No contradiction: %s\n", agreement(a, b))
	for i, head := range evidence.NewFork(notes[0], notes[1]).Judge(policy).Heads {
		if !head.SignedByLog {
			p.printf("  note: %s is not signed by a key that the policy has for %s\n", names[i], a.Origin)
		}
	}
	return nil, silentError{exitNotVerified}
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
