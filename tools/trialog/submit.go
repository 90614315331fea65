package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/words"
)

// maxNames is how many names are tried for the files of a statement that has no
// document.
const maxNames = 1000

type submitOptions struct {
	sayOptions

	wait, output string
}

func (p *program) submitCommand() *cobra.Command {
	var o submitOptions
	cmd := &cobra.Command{
		Use:   "submit [FILE…] --kind KIND --trial TRIAL",
		Short: "Submit documents and keep their receipts",
		Long: `Submit documents, or a statement that has none, and keep the receipts beside
them: FILE.receipt, and FILE.opening for what is sealed. Keep both with the
document; without its opening a sealed document can never be shown to be the one
that was logged.

The command is safe to repeat. If it was interrupted, or the log did not answer,
the same command again goes on where it stopped, and there is one entry. If the
receipt is there already it says so. A receipt that was lost is had again with
trialog receipt: submitting again would log the document a second time.

Kinds: ` + wrap(kindsText(), 78) + `;
see trialog kinds for what each is made of.
A public document is stored by the log for everybody to read; a sealed one never
leaves this machine.`,
		Example: `  trialog submit --kind trial --trial NCT00000001 --attribute registryIds=NCT00000001
  trialog submit protocol.pdf --kind protocol --trial NCT00000001 --version 1
  trialog submit protocol-v2.pdf --kind protocol --trial NCT00000001 --version 2 --amends protocol.pdf.receipt
  trialog submit sap.pdf --kind sap --trial NCT00000001 --sealed
  trialog submit form-de.pdf --kind consent-form --trial NCT00000001 --attribute form=main --attribute language=de`,
		RunE: func(cmd *cobra.Command, args []string) error { return p.submit(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	o.place(f)
	o.statementFlags(f)
	f.StringVar(&o.version, "version", "", "`version` of the document as you number it")
	f.StringVar(&o.amends, "amends", "", "the `receipt` (or identity) of the statement that this one amends")
	f.StringVar(&o.supersedes, "supersedes", "", "the `receipt` (or identity) of the statement that this one replaces")
	f.StringArrayVar(&o.dates, "date", nil, "date as you state it, `name=YYYY-MM-DD`; may be repeated")
	f.StringVar(&o.meaning, "meaning", string(statement.Authorship),
		"what your `signature` means: authorship, review, approval or responsibility")
	f.StringVar(&o.name, "name", "", "`name` of the receipt of a statement without a document")
	f.StringVar(&o.wait, "wait", "final", "`what` to wait for: final (a receipt) or pending (the log's promise of one)")
	o.content(f)
	o.public(f)
	outputFlag(cmd, &o.output)
	return cmd
}

// wrap breaks a text into lines.
func wrap(text string, width int) string {
	var b strings.Builder
	column := 7
	for i, word := range strings.Fields(text) {
		if i > 0 && column+len(word) >= width {
			b.WriteByte('\n')
			column = 0
		} else if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
		column += len(word) + 1
	}
	return b.String()
}

func (p *program) submit(ctx context.Context, files []string, o submitOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	wait, ok := map[string]client.Wait{"final": client.Final, "pending": client.Pending}[o.wait]
	if !ok {
		return fmt.Errorf("--wait: expected final or pending, found %q", o.wait)
	}
	if len(files) > 0 && o.name != "" {
		return errors.New("--name: is for statements without a document")
	}
	desk, err := p.desk()
	if err != nil {
		return err
	}
	if len(files) == 0 {
		files = []string{""}
	}
	// All flags and files are looked at before the first is sent.
	requests, err := requests(files, func(file string) (*filing.Request, error) {
		return o.request(desk.Folder.Organisation, file)
	})
	if err != nil {
		return err
	}
	return p.fileAll(ctx, desk, requests, wait, o.output)
}

// requests makes one request for each file.
func requests(files []string, build func(file string) (*filing.Request, error)) ([]*filing.Request, error) {
	taken := map[string]string{}
	var list []*filing.Request
	for _, file := range files {
		r, err := build(file)
		if err != nil {
			return nil, err
		}
		if other, ok := taken[r.Base]; ok {
			return nil, fmt.Errorf("%s and %s would have the same receipt %s", other, file, r.Base+filing.ReceiptEnding)
		}
		taken[r.Base] = file
		list = append(list, r)
	}
	return list, nil
}

// fileAll files requests one by one, as they continue one chain. One that is
// refused does not stop the others; a log that is not there does.
func (p *program) fileAll(
	ctx context.Context, desk *filing.Desk, list []*filing.Request, wait client.Wait, output string,
) error {
	bar := p.progress(len(list))
	var lines []func()
	worst := 0
	for i, r := range list {
		res, err := p.file(ctx, desk, r, wait)
		_ = bar.Add(1) // a terminal that cannot be written to is no reason to stop
		last := len(list) == i+1
		say := func() {
			if res != nil {
				p.filed(res, len(list) > 1, output)
			}
			if err != nil {
				p.complain(r.Base, err)
			}
		}
		if p.bars(len(list)) {
			lines = append(lines, say)
		} else {
			say()
		}
		if err == nil {
			continue
		}
		worst = max(worst, code(err))
		if client.Unreachable(err) && !last {
			lines = append(lines, func() { fmt.Fprintf(p.errs, "trialog: %d more were not tried\n", len(list)-i-1) })
			break
		}
	}
	_ = bar.Finish()
	for _, line := range lines {
		line()
	}
	if worst > 0 {
		return silentError{worst}
	}
	return nil
}

// file files one request. One without a document looks for a free name.
func (p *program) file(ctx context.Context, desk *filing.Desk, r *filing.Request, wait client.Wait) (*filing.Result, error) {
	base := r.Base
	for n := 2; ; n++ {
		res, err := desk.File(ctx, r, wait)
		var taken *filing.TakenError
		if r.Document != nil || len(r.Records) > 0 || !errors.As(err, &taken) || n == maxNames {
			return res, err
		}
		r.Base = fmt.Sprintf("%s-%d", base, n)
	}
}

// bars tells whether a progress bar is shown.
func (p *program) bars(n int) bool { return n > 1 && p.terminal(p.errs) }

// progress makes a progress bar, on a terminal only.
func (p *program) progress(n int) *progressbar.ProgressBar {
	return progressbar.NewOptions(n, progressbar.OptionSetWriter(p.errs), progressbar.OptionSetDescription("submitting"),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetVisibility(p.bars(n)))
}

// filedJSON is what became of a request, for programs.
type filedJSON struct {
	File     string             `json:"file"`
	State    string             `json:"state"` // final or pending
	Already  bool               `json:"already"`
	Index    uint64             `json:"index"`
	Identity statement.Identity `json:"identity"`
	Receipt  string             `json:"receipt,omitempty"`
	Opening  string             `json:"opening,omitempty"`
	// NotStored says why the log has not taken the document.
	NotStored string          `json:"notStored,omitempty"`
	Verdict   *verify.Verdict `json:"verdict,omitempty"`
	// Pending is the file of a promise, Deadline until when it holds.
	Pending  string     `json:"pending,omitempty"`
	Deadline *time.Time `json:"deadline,omitempty"`
}

// filed says what became of a request.
func (p *program) filed(res *filing.Result, short bool, output string) {
	base := res.Request.Base
	if output == "json" {
		j := filedJSON{
			File: base, State: "final", Already: res.Already, Index: res.Index, Identity: res.Identity,
			NotStored: res.NotStored, Verdict: res.Verdict, Receipt: base + filing.ReceiptEnding,
		}
		if res.Promise != nil {
			j.State, j.Receipt, j.Pending, j.Deadline = "pending", "", base+filing.PromiseEnding, &res.Promise.Deadline
		}
		if res.Request.Sealed || len(res.Request.SealedAttributes) > 0 {
			j.Opening = base + filing.OpeningEnding
		}
		if raw, err := json.Marshal(j); err == nil {
			p.printf("%s\n", raw)
		}
		return
	}
	switch {
	case res.Promise != nil:
		p.printf("%s: promised as entry %d; the receipt will be there by %s: repeat the command then\n",
			base, res.Index, words.Time(res.Promise.Deadline))
	case res.Already:
		p.printf("%s: logged already as entry %d (%s), %s; nothing to do\n",
			base, res.Index, words.What(res.Verdict), words.When(res.Verdict))
	case short:
		p.printf("%s: entry %d, %s, %s\n", base, res.Index, words.When(res.Verdict), words.Seen(res.Verdict))
	default:
		p.filedLong(res)
	}
	if res.NotStored != "" {
		p.printf("  note: the log did not take the document itself, keep it well: %s\n", res.NotStored)
	}
}

func (p *program) filedLong(res *filing.Result) {
	v, base := res.Verdict, res.Request.Base
	p.printf("%s: logged as entry %d, %s\n", base, res.Index, words.What(v))
	p.printf("  %s\n", words.Grade(v))
	p.printf("  %s\n", words.When(v))
	p.printf("  %s (%s)\n", words.Seen(v), words.Witnesses(v))
	p.printf("  receipt: %s\n", base+filing.ReceiptEnding)
	if res.Request.Sealed || len(res.Request.SealedAttributes) > 0 {
		p.printf("  opening: %s (keep it safe and secret)\n", base+filing.OpeningEnding)
	}
	for _, rec := range res.Request.Records {
		p.printf("  record: %s\n", rec.Base+filing.ReceiptEnding)
	}
	p.notes(v, "key status unknown")
}
