package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/receipt"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/words"
)

func (p *program) receiptCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "receipt FILE.receipt|IDENTITY…",
		Short: "Fetch an up-to-date receipt",
		Long: `Fetch an up-to-date receipt of something that is in the log: more witnesses may
have seen it by now, and a lost receipt can be had again. The new one is verified
before it takes the place of the old one, which it never does for another entry.

A later receipt may prove a later time only. One that does never replaces a
receipt that proves an earlier time; --out keeps both.

A statement is named by its receipt, by its document, or by its identity (see
trialog verify --details).`,
		Example: `  trialog receipt protocol.pdf.receipt
  trialog receipt 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --out lost.receipt`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.receipts(cmd.Context(), args, out) },
	}
	cmd.Flags().StringVar(&out, "out", "", "`file` for the new receipt (default: the old one, or entry-N.receipt)")
	return cmd
}

func (p *program) receipts(ctx context.Context, names []string, out string) error {
	if out != "" && len(names) > 1 {
		return errors.New("--out: is for one receipt")
	}
	f, err := p.folder()
	if err != nil {
		return err
	}
	c, policy, err := p.client(f)
	if err != nil {
		return err
	}
	worst := 0
	for _, name := range names {
		if err := p.refresh(ctx, c, policy, name, out); err != nil {
			p.complain(name, err)
			worst = max(worst, code(err))
		}
	}
	if worst > 0 {
		return silentError{worst}
	}
	return nil
}

func (p *program) refresh(ctx context.Context, c *client.Client, policy *verify.Policy, name, out string) error {
	if id, err := statement.ParseDigest(name); err == nil {
		ack, err := c.Receipt(ctx, id)
		if err != nil {
			return err
		}
		if out == "" {
			out = fmt.Sprintf("entry-%d%s", ack.Index, filing.ReceiptEnding)
		}
		return p.putReceipt(out, ack.Receipt, ack.Verdict)
	}
	if folder.Exists(name + filing.ReceiptEnding) {
		name += filing.ReceiptEnding
	}
	old, err := folder.Read(name, receipt.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("expected a receipt file or an identity of 64 digits: %w", err)
	}
	if err != nil {
		return err
	}
	_, raw, err := filing.Refresh(ctx, c, old)
	if err != nil {
		return err
	}
	// Again, as it is now: with the record of the old one.
	v, err := verify.Verify(verify.Input{Receipt: raw, Policy: policy, StatementOnly: true, Now: p.now()})
	if err != nil {
		return &client.UntrueError{What: "receipt", Err: err, Answer: raw}
	}
	if out == "" {
		out = name
		// "Logged not after" is the earlier the better, and it cannot be had again.
		was, err := verify.Verify(verify.Input{Receipt: old, Policy: policy, StatementOnly: true, Now: p.now()})
		if err == nil && was.NotAfter.Time.Before(v.NotAfter.Time) {
			p.printf("%s: kept, it proves an earlier time (%s) than a new one (%s, %s); --out FILE saves the new one beside it\n",
				name, words.Time(was.NotAfter.Time), words.Time(v.NotAfter.Time), words.Seen(v))
			return nil
		}
	}
	return p.putReceipt(out, raw, v)
}

func (p *program) putReceipt(path string, raw []byte, v *verify.Verdict) error {
	if err := folder.WriteFile(path, raw, 0o644); err != nil {
		return err
	}
	p.printf("%s: entry %d, %s, %s, %s\n", path, v.Inclusion.Index, words.What(v), words.When(v), words.Seen(v))
	return nil
}
