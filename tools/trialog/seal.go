package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/folder"
)

func (p *program) sealCommand() *cobra.Command {
	var o sayOptions
	cmd := &cobra.Command{
		Use:   "seal FILE… --kind KIND --trial TRIAL",
		Short: "Seal documents without submitting them",
		Long: `Seal documents without submitting them: make FILE.opening, which only you may
read, and print what a statement would carry in place of the document. Nothing
is sent. trialog submit --sealed and trialog batch use the opening that is there.

An opening is bound to the organisation, the trial and the kind. It is never
written over.`,
		Example: `  trialog seal sap.pdf --kind sap --trial NCT00000001
  trialog seal consent-17.pdf --kind consent --trial NCT00000001 \
    --sealed-attribute subject=0017 --sealed-attribute site=site-b --sealed-attribute signedOn=2026-03-01`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.seal(args, o) },
	}
	f := cmd.Flags()
	o.place(f)
	f.StringVar(&o.kind, "kind", "", "`kind` of the statement or of the record of a batch")
	o.content(f)
	return cmd
}

func (p *program) seal(files []string, o sayOptions) error {
	home, err := p.folder()
	if err != nil {
		return err
	}
	list, err := requests(files, func(file string) (*filing.Request, error) {
		return o.sealing(home.Organisation, file)
	})
	if err != nil {
		return err
	}
	for _, r := range list {
		opening, err := filing.Seal(r, p.random)
		if err != nil {
			return err
		}
		p.printf("%s: sealed as %s\n  commitment %s\n", r.Base, r.Base+filing.OpeningEnding, opening.Commitment())
		if opening.Attributes != nil {
			p.printf("  commitment of the sealed details %s\n", opening.AttributesCommitment())
		}
	}
	return nil
}

// sealing makes a request of which only the opening is wanted.
func (o *sayOptions) sealing(organisation, file string) (*filing.Request, error) {
	rule, ok := statement.RuleOf(statement.Kind(o.kind))
	switch {
	case !ok:
		return nil, fmt.Errorf("--kind: expected the kind that the document will be submitted as, found %q", o.kind)
	case rule.Content == statement.PublicDocument || rule.Content == statement.NoDocument:
		return nil, fmt.Errorf("--kind: a %s has no document that could be sealed", o.kind)
	case rule.Scope == statement.InTrial && o.trial == "":
		return nil, errors.New("--trial: missing, the seal is bound to the trial")
	}
	r := &filing.Request{Sealed: true, Statement: statement.Statement{
		Organisation: organisation, Trial: o.trial, Kind: rule.Kind, MediaType: o.mediaType(file),
	}}
	var err error
	if r.Base, err = o.base(rule, file); err != nil {
		return nil, err
	}
	if r.SealedAttributes, err = members("--sealed-attribute", rule, o.sealedAttributes, true); err != nil {
		return nil, err
	}
	if r.Document, err = folder.Read(file, maxDocument); err != nil {
		return nil, fmt.Errorf("the document: %w", err)
	}
	return r, nil
}

func (p *program) revealCommand() *cobra.Command {
	var out, output string
	cmd := &cobra.Command{
		Use:   "reveal FILE.opening…",
		Short: "Publish the opening of a sealed document",
		Long: `Publish the opening of a sealed document, so that everybody who has the document
can see that it is the one that was sealed. FILE.receipt must be beside the
opening. What is revealed cannot be hidden again; the document itself is not
published, and sealed details stay sealed.`,
		Example: `  trialog reveal sap.pdf.opening`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.reveal(cmd.Context(), args, out, output)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`folder` for the receipts (default: beside the opening)")
	outputFlag(cmd, &output)
	return cmd
}

func (p *program) reveal(ctx context.Context, files []string, out, output string) error {
	if err := checkOutput(output); err != nil {
		return err
	}
	desk, err := p.desk()
	if err != nil {
		return err
	}
	list, err := requests(files, func(file string) (*filing.Request, error) { return revealing(file, out) })
	if err != nil {
		return err
	}
	return p.fileAll(ctx, desk, list, client.Final, output)
}

// revealing makes the request that publishes an opening.
func revealing(file, out string) (*filing.Request, error) {
	document, ok := strings.CutSuffix(file, filing.OpeningEnding)
	if !ok {
		return nil, fmt.Errorf("%s: expected a file that ends in %s", file, filing.OpeningEnding)
	}
	raw, err := folder.Read(file, statement.MaxOpening)
	if err != nil {
		return nil, fmt.Errorf("the opening: %w", err)
	}
	opening, err := statement.ParseOpening(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	proof, err := folder.Read(document+filing.ReceiptEnding, receipt.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("the receipt of what is revealed: %w", err)
	}
	id, s, err := filing.StatementOf(proof)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", document+filing.ReceiptEnding, err)
	case s.Kind == statement.KindBatch:
		return nil, fmt.Errorf("%s: records of a batch are not revealed to everybody; hand over the opening to whom it concerns", file)
	case opening.MediaType == "" || s.Subject != statement.SubjectCommit || s.Digest != opening.Commitment():
		return nil, fmt.Errorf("%s does not open the document of %s", file, document+filing.ReceiptEnding)
	}
	o := sayOptions{out: out}
	base, err := o.base(statement.Rule{}, document+".reveal")
	if err != nil {
		return nil, err
	}
	return &filing.Request{Base: base, Statement: statement.Statement{
		Organisation: s.Organisation, Trial: s.Trial, Kind: statement.KindReveal,
		Attributes: []statement.Member{
			statement.TextMember("opens", id.String()), statement.TextMember("part", "document"),
			statement.TextMember("nonce", statement.Digest(opening.Nonce).String()),
			statement.TextMember("sha256", opening.SHA256.String()), statement.TextMember("sha3256", opening.SHA3.String()),
		},
	}}, nil
}
