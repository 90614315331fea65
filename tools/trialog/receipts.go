package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

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
	var anchored bool
	cmd := &cobra.Command{
		Use:   "receipt FILE.receipt|IDENTITY…",
		Short: "Fetch an up-to-date receipt",
		Long: `Fetch an up-to-date receipt of something that is in the log: more witnesses may
have seen it by now, and a lost receipt can be had again. The new one is verified
before it takes the place of the old one, which it never does for another entry.

A later receipt may prove a later time only. One that does never replaces a
receipt that proves an earlier time; --out keeps both.

With --anchored the new receipt is under a checkpoint that was anchored: public
witnesses have cosigned it, and time-stamp authorities have dated it, at their own
pace. It goes beside the old one, as NAME.anchored.receipt. If the log anchors its
checkpoints and this entry is too young, the command says when to ask again.

A statement is named by its receipt, by its document, or by its identity (see
trialog verify --details).`,
		Example: `  trialog receipt protocol.pdf.receipt
  trialog receipt protocol.pdf.receipt --anchored
  trialog receipt 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --out lost.receipt`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.receipts(cmd.Context(), args, out, anchored) },
	}
	cmd.Flags().StringVar(&out, "out", "", "`file` for the new receipt (default: the old one, or entry-N.receipt)")
	cmd.Flags().BoolVar(&anchored, "anchored", false, "ask for the receipt under an anchored checkpoint")
	return cmd
}

func (p *program) receipts(ctx context.Context, names []string, out string, anchored bool) error {
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
		renew := p.refresh
		if anchored {
			renew = p.anchor
		}
		if err := renew(ctx, c, policy, name, out); err != nil {
			err = filing.KeepEvidence(strings.TrimSuffix(name, filing.ReceiptEnding), err, p.now())
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
	name, old, err := readOld(name)
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

// readOld reads the receipt that a name stands for, and returns its file.
func readOld(name string) (file string, raw []byte, err error) {
	if folder.Exists(name + filing.ReceiptEnding) {
		name += filing.ReceiptEnding
	}
	raw, err = folder.Read(name, receipt.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("expected a receipt file or an identity of 64 digits: %w", err)
	}
	return name, raw, err
}

// anchoredEnding is that of a receipt under an anchored checkpoint, which lies
// beside the one that proves an earlier time.
const anchoredEnding = ".anchored" + filing.ReceiptEnding

// anchor fetches the receipt of an entry under an anchored checkpoint.
func (p *program) anchor(ctx context.Context, c *client.Client, policy *verify.Policy, name, out string) error {
	var old []byte
	if id, err := statement.ParseDigest(name); err == nil {
		ack, err := c.Receipt(ctx, id)
		if err != nil {
			return err
		}
		old, name = ack.Receipt, fmt.Sprintf("entry-%d%s", ack.Index, filing.ReceiptEnding)
	} else if name, old, err = readOld(name); err != nil {
		return err
	}
	ack, err := c.Anchored(ctx, old)
	if err != nil {
		return err
	}
	before, err := receipt.Parse(old)
	if err != nil {
		return err
	}
	after, err := receipt.Parse(ack.Receipt)
	if err != nil {
		return err
	}
	if !bytes.Equal(before.Entry, after.Entry) {
		return &client.UntrueError{
			What: "receipt", Answer: ack.Receipt, Err: errors.New("it is of another entry than the one in the file"),
		}
	}
	// The record was not sent.
	after.Record = before.Record
	raw, err := after.Encode()
	if err != nil {
		return err
	}
	v, err := verify.Verify(verify.Input{Receipt: raw, Policy: policy, StatementOnly: true, Now: p.now()})
	if err != nil {
		return &client.UntrueError{What: "receipt", Err: err, Answer: raw}
	}
	if out == "" {
		out = strings.TrimSuffix(strings.TrimSuffix(name, filing.ReceiptEnding), ".anchored") + anchoredEnding
	}
	if err := folder.WriteFile(out, raw, 0o644); err != nil {
		return err
	}
	p.printf("%s: entry %d, ANCHORED at size %d (%s), %s, %s, %s\n", out, v.Inclusion.Index,
		after.Proof.Note.Checkpoint().Size, plural(len(after.Tokens), "time-stamp token"), words.What(v), words.When(v), words.Seen(v))
	return nil
}

// plural counts things.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
