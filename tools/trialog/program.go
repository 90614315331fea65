package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/evidence"
	"github.com/trialog/trialog/api/verify"
	"github.com/trialog/trialog/tools/trialog/filing"
	"github.com/trialog/trialog/tools/trialog/folder"
	"github.com/trialog/trialog/tools/trialog/words"
)

// Exit codes, the same for every command.
const (
	exitVerified    = 0 // done, or verified
	exitNotVerified = 1 // a receipt, or what the log answered, does not hold
	exitUsage       = 2 // wrong flags, unreadable files, what the log refused
	exitUnreachable = 3 // no answer; the same command again is right
)

// program is the command line with what it touches.
type program struct {
	out, errs io.Writer
	in        io.Reader
	now       func() time.Time
	random    io.Reader
	dir       string // where it was started
	getenv    func(string) string

	// caveat is what every verdict must carry because of the trust bundle that was
	// read; empty if nothing.
	caveat string

	// Flags that every command has.
	config   string
	retryFor time.Duration
}

// silentError ends the program with a code; all was said already.
type silentError struct{ code int }

// Error implements error.
func (e silentError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// main runs one command and returns the exit code.
func (p *program) main(ctx context.Context, args []string) int {
	root := p.root() //nolint:contextcheck // a command has the context that ExecuteContext gives it
	root.SetArgs(args)
	root.SetOut(p.out)
	root.SetErr(p.errs)
	root.SetIn(p.in)
	return p.exit(root.ExecuteContext(ctx))
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "trialog",
		Short: "Submit trial documents to a log and verify their receipts",
		Long: `trialog submits trial documents to a transparency log, keeps the receipts
beside them, and verifies receipts without a network.

A receipt proves that exactly this document was logged, by whom, and between
which times. It does not prove that what the document says is true, and logging
replaces no registry.

Exit codes: 0 done or verified, 1 not verified, 2 wrong usage or refused,
3 the log cannot be reached (repeat the same command later).`,
		Example: `  trialog init --server https://log.example.org --organisation sponsor-a --token-file token.txt
  trialog submit --kind trial --trial NCT00000001
  trialog submit protocol.pdf --kind protocol --trial NCT00000001 --version 1
  trialog verify protocol.pdf protocol.pdf.receipt --policy log.policy`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&p.config, "config", "",
		"work `folder` (default: the .trialog found from here upwards, or TRIALOG_CONFIG)")
	root.PersistentFlags().DurationVar(&p.retryFor, "retry-for", 30*time.Second,
		"how long to try again while the log does not answer")
	root.AddCommand(p.initCommand(), p.keygenCommand(), p.keyCommand(), p.submitCommand(), p.sealCommand(),
		p.batchCommand(), p.revealCommand(), p.receiptCommand(), p.verifyCommand(), p.fsckCommand(), p.logCommand(), p.evidenceCommand(),
		p.kindsCommand(), p.policyCommand(), p.trustCommand(), p.keyringCommand())
	return root
}

// exit says what went wrong and returns the code for it.
func (p *program) exit(err error) int {
	if err == nil {
		return exitVerified
	}
	if silent, ok := errors.AsType[silentError](err); ok {
		return silent.code
	}
	p.complain("", err)
	return code(err)
}

// code is the exit code of an error.
func code(err error) int {
	var silent silentError
	var untrue *client.UntrueError
	var failure *verify.Failure
	switch {
	case errors.As(err, &silent):
		return silent.code
	case errors.As(err, &untrue), errors.As(err, &failure):
		return exitNotVerified
	case client.Unreachable(err):
		return exitUnreachable
	}
	return exitUsage
}

// complain says what went wrong and what to do.
func (p *program) complain(about string, err error) {
	if about != "" {
		about += ": "
	}
	fmt.Fprintf(p.errs, "trialog: %s%s\n", about, message(err))
	var untrue *client.UntrueError
	var kept *filing.EvidenceError
	switch {
	case errors.As(err, &kept) && kept.Kind == evidence.KindOverdue:
		fmt.Fprintf(p.errs, "%s shows that the log is late, not that it broke its promise: keep it, and ask the log's operator and a witness.\n",
			kept.Path)
	case errors.As(err, &kept):
		fmt.Fprintf(p.errs, "%s shows to anybody that the log contradicted itself or broke a promise: "+
			"keep it, and give it to a witness or a regulator.\n", kept.Path)
	case errors.As(err, &untrue):
		fmt.Fprintln(p.errs, "The log answered something that cannot be true by your policy. Nothing of it was kept.")
		fmt.Fprintln(p.errs, "Repeat the command later; if it stays so, tell the log's operator and a witness.")
	case client.Unreachable(err):
		fmt.Fprintln(p.errs, "Nothing is lost: repeat the same command later and it goes on from here.")
	}
}

// message is the text of an error, without the names of the interface that a
// person at the command line does not see.
func message(err error) string {
	text := err.Error()
	var rejected *filing.RejectedError
	var refused *client.Problem
	switch {
	case errors.As(err, &rejected):
		text = strings.Replace(text, rejected.Error(), "the log refused this and stored nothing: "+detail(rejected.Problem), 1)
	case errors.As(err, &refused) && refused.Temporary():
		text = strings.Replace(text, refused.Error(), "the log cannot answer now: "+detail(refused), 1)
	case errors.As(err, &refused):
		text = strings.Replace(text, refused.Error(), "the log refused this: "+detail(refused), 1)
	}
	return strings.ReplaceAll(text, "predicate.", "")
}

// detail is what the log says, its fields spelt as a statement does.
func detail(p *client.Problem) string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if p.Field != "" && !strings.Contains(text, p.Field) {
		text = p.Field + ": " + text
	}
	return strings.NewReplacer("envelope.payload.predicate.", "", "envelope.payload.", "").Replace(text)
}

// terminal tells whether w is a terminal, and not one that wants no tricks.
func (p *program) terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && p.getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// folder opens the work folder.
func (p *program) folder() (*folder.Folder, error) {
	named := p.config
	if named == "" {
		named = p.getenv("TRIALOG_CONFIG")
	}
	return folder.Find(named, p.dir)
}

// client makes a client of a work folder, with its policy.
func (p *program) client(f *folder.Folder) (*client.Client, *verify.Policy, error) {
	policy, err := f.PinnedPolicy()
	if err != nil {
		return nil, nil, err
	}
	token, err := f.Token()
	if err != nil {
		return nil, nil, err
	}
	c, err := p.dial(f.Server, token, policy)
	return c, policy, err
}

func (p *program) dial(server, token string, policy *verify.Policy) (*client.Client, error) {
	return client.New(client.Config{
		Server: server, Token: token, Policy: policy, Now: p.now, Retry: client.Retry{For: p.retryFor},
		UserAgent: "trialog-cli",
	})
}

// desk makes what files requests.
func (p *program) desk() (*filing.Desk, error) {
	f, err := p.folder()
	if err != nil {
		return nil, err
	}
	return p.deskOf(f)
}

func (p *program) deskOf(f *folder.Folder) (*filing.Desk, error) {
	key, err := f.SigningKey()
	if err != nil {
		return nil, err
	}
	c, policy, err := p.client(f)
	if err != nil {
		return nil, err
	}
	return &filing.Desk{Folder: f, Client: c, Policy: policy, Log: f.Log, Key: key, Now: p.now, Random: p.random}, nil
}

// json writes a value as indented JSON.
func (p *program) json(v any) error {
	e := json.NewEncoder(p.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printf writes a line of the normal output.
func (p *program) printf(format string, args ...any) { fmt.Fprintf(p.out, format, args...) }

// notes writes the caveats of a verdict.
func (p *program) notes(v *verify.Verdict, leave string) {
	for i, c := range words.Caveats(v) {
		if leave == "" || !strings.HasPrefix(v.Caveats[i], leave) {
			p.printf("  note: %s\n", c)
		}
	}
}

// outputFlag adds -o to a command that can write JSON.
func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "text", "`format` of the output: text or json")
}

func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return fmt.Errorf("--output: expected text or json, found %q", output)
	}
	return nil
}
