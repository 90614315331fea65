package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/folder"
)

// itemEnding is the ending of a file that describes a record in JSON.
const itemEnding = ".item.json"

type batchOptions struct {
	sayOptions

	label, recordType, output string
}

func (p *program) batchCommand() *cobra.Command {
	var o batchOptions
	cmd := &cobra.Command{
		Use:   "batch RECORD… --trial TRIAL --label LABEL --record-type TYPE",
		Short: "Submit many records as one entry",
		Long: `Submit many records as one entry, so that nothing of a single one can be seen
from outside: signed consents, withdrawals, rows of an audit trail. The records
stay here; each gets RECORD.receipt, which shows that it was in the batch, and
nothing of the others.

If TYPE is one of
  ` + strings.Join(batchKinds(), ", ") + `,
each RECORD is a document that is sealed, with its details, into RECORD.opening;
give the details with --sealed-attribute (the same for all records), or describe
each record in a file that ends in ` + itemEnding + `:

  {"document": "consent-17.pdf",
   "sealedAttributes": {"subject": "0017", "site": "site-b", "signedOn": "2026-03-01"}}

Any other TYPE is your own, and a record is the content of its file.

The command is safe to repeat, like trialog submit.`,
		Example: `  trialog batch consent-17.pdf --trial NCT00000001 --label week-10 --record-type consent \
    --sealed-attribute subject=0017 --sealed-attribute site=site-b --sealed-attribute signedOn=2026-03-01
  trialog batch *.item.json --trial NCT00000001 --label week-11 --record-type consent
  trialog batch audit-*.csv --trial NCT00000001 --label audit-2026-03 --record-type audit-export`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.batch(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	o.place(f)
	f.StringVar(&o.label, "label", "", "`label` of the batch, which everybody sees; nothing of a person")
	f.StringVar(&o.recordType, "record-type", "", "`type` of the records, which everybody sees")
	o.content(f)
	o.public(f)
	outputFlag(cmd, &o.output)
	return cmd
}

// batchKinds lists the kinds that stand in batches.
func batchKinds() []string {
	var names []string
	for _, r := range statement.Kinds() {
		if r.Placement != statement.Alone && r.Scope == statement.InTrial {
			names = append(names, string(r.Kind))
		}
	}
	return names
}

func (p *program) batch(ctx context.Context, files []string, o batchOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	desk, err := p.desk()
	if err != nil {
		return err
	}
	for _, m := range []struct{ flag, value string }{
		{"--trial", o.trial}, {"--label", o.label}, {"--record-type", o.recordType},
	} {
		if err := statement.CheckToken(m.flag, m.value); err != nil {
			return err
		}
	}
	r := &filing.Request{Statement: statement.Statement{
		Organisation: desk.Folder.Organisation, Trial: o.trial, Kind: statement.KindBatch,
		Attributes: []statement.Member{
			statement.TextMember("label", o.label), statement.TextMember("recordType", o.recordType),
		},
	}}
	name := strings.ReplaceAll(o.trial+"-batch-"+o.label, ":", "-")
	if r.Base, err = o.base(statement.Rule{}, name); err != nil {
		return err
	}
	taken := map[string]string{r.Base: "the batch"}
	for _, file := range files {
		rec, err := o.record(file)
		if err != nil {
			return err
		}
		if other, ok := taken[rec.Base]; ok {
			return fmt.Errorf("%s and %s would have the same receipt %s", other, file, rec.Base+filing.ReceiptEnding)
		}
		taken[rec.Base] = file
		r.Records = append(r.Records, *rec)
	}
	return p.fileAll(ctx, desk, []*filing.Request{r}, client.Final, o.output)
}

// record makes a record of a file.
func (o *batchOptions) record(file string) (*filing.Record, error) {
	rule, ok := statement.RuleOf(statement.Kind(o.recordType))
	if !ok || rule.Placement == statement.Alone {
		return o.ownRecord(file)
	}
	if rule.Scope != statement.InTrial {
		return nil, fmt.Errorf("--record-type: a %s belongs to no trial", o.recordType)
	}
	if strings.HasSuffix(file, itemEnding) {
		return o.describedRecord(rule, file)
	}
	if rule.Content == statement.NoDocument {
		return nil, fmt.Errorf("%s: a %s has no document; describe it in a file that ends in %s", file, o.recordType, itemEnding)
	}
	attributes, err := members("--attribute", rule, o.attributes, false)
	if err != nil {
		return nil, err
	}
	sealed, err := members("--sealed-attribute", rule, o.sealedAttributes, true)
	if err != nil {
		return nil, err
	}
	return o.itemRecord(file, file, &filing.Item{MediaType: o.mediaType(file), Attributes: attributes, SealedAttributes: sealed})
}

// ownRecord makes a record of a type of the submitter's own.
func (o *batchOptions) ownRecord(file string) (*filing.Record, error) {
	if len(o.attributes)+len(o.sealedAttributes) > 0 || o.media != "" {
		return nil, errors.New("--attribute, --sealed-attribute and --media-type: a record of your own type is its content alone")
	}
	body, err := folder.Read(file, statement.MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	if len(body) == 0 {
		return nil, fmt.Errorf("the record %s is empty", file)
	}
	base, err := o.base(statement.Rule{}, file)
	return &filing.Record{Base: base, Body: body}, err
}

// itemRecord makes a record of a document with its details.
func (o *batchOptions) itemRecord(name, document string, item *filing.Item) (*filing.Record, error) {
	base, err := o.base(statement.Rule{}, name)
	if err != nil {
		return nil, err
	}
	if document != "" {
		if item.Document, err = folder.Read(document, maxDocument); err != nil {
			return nil, fmt.Errorf("the document of a record: %w", err)
		}
	}
	return &filing.Record{Base: base, Item: item}, nil
}

// itemJSON is a file that describes a record.
type itemJSON struct {
	Document         string          `json:"document"`
	MediaType        string          `json:"mediaType"`
	Attributes       json.RawMessage `json:"attributes"`
	SealedAttributes json.RawMessage `json:"sealedAttributes"`
}

// describedRecord makes a record of its description.
func (o *batchOptions) describedRecord(rule statement.Rule, file string) (*filing.Record, error) {
	if len(o.attributes)+len(o.sealedAttributes) > 0 || o.media != "" {
		return nil, fmt.Errorf("%s: has its own details; --attribute, --sealed-attribute and --media-type are not for it", file)
	}
	raw, err := folder.Read(file, folder.MaxFile)
	if err != nil {
		return nil, fmt.Errorf("the record: %w", err)
	}
	var j itemJSON
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	err = dec.Decode(&j)
	if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("expected one object")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	item := &filing.Item{}
	for _, m := range []struct {
		name string
		raw  json.RawMessage
		into *[]statement.Member
	}{{"attributes", j.Attributes, &item.Attributes}, {"sealedAttributes", j.SealedAttributes, &item.SealedAttributes}} {
		if m.raw == nil {
			continue
		}
		if *m.into, err = statement.ParseMembers(m.raw); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, m.name, err)
		}
	}
	name, document := strings.TrimSuffix(file, itemEnding), j.Document
	if document == "" {
		if !slices.Contains([]statement.Content{statement.NoDocument, statement.OptionalDocument}, rule.Content) {
			return nil, fmt.Errorf("%s: document: missing, a %s has one", file, rule.Kind)
		}
		return o.itemRecord(name, "", item)
	}
	if !filepath.IsAbs(document) {
		document = filepath.Join(filepath.Dir(file), document)
	}
	if item.MediaType = j.MediaType; item.MediaType == "" {
		item.MediaType = mediaType(document)
	}
	return o.itemRecord(document, document, item)
}
