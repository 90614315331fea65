package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/trialog/trialog/api/client"
	"github.com/trialog/trialog/api/statement"
)

// Exit codes.
const (
	exitOK          = 0
	exitUntrue      = 1 // an answer did not verify, or an acknowledged entry is not there
	exitUsage       = 2
	exitUnreachable = 3 // the log did not let the run begin or end
)

// program is the command line with what it touches.
type program struct {
	out, errs io.Writer
	now       func() time.Time
	random    io.Reader
}

// failed ends the program with exitUntrue; all was said already.
type failed struct{ reason string }

// Error implements error.
func (f failed) Error() string { return f.reason }

// usageError is an error of the flags.
type usageError struct{ error }

func (p *program) main(ctx context.Context, args []string) int {
	root := p.root() //nolint:contextcheck // a command has the context that ExecuteContext gives it
	root.SetArgs(args)
	root.SetOut(p.out)
	root.SetErr(p.errs)
	err := root.ExecuteContext(ctx)
	var f failed
	var untrueAnswer *client.UntrueError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		fmt.Fprintf(p.errs, "hammer: %s\n", err)
		return exitUntrue
	case errors.As(err, &untrueAnswer):
		fmt.Fprintf(p.errs, "hammer: %s\n", err)
		return exitUntrue
	case errors.As(err, &usage):
		fmt.Fprintf(p.errs, "hammer: %s\n", err)
		return exitUsage
	case client.Unreachable(err):
		fmt.Fprintf(p.errs, "hammer: %s\n", err)
		return exitUnreachable
	}
	fmt.Fprintf(p.errs, "hammer: %s\n", err)
	return exitUsage
}

func (p *program) root() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "hammer",
		Short: "Load a log with statements at a fixed pace, and verify every answer",
		Long: `hammer sends statements at a pace that does not depend on the answers (an open
loop): each one has its time, and its latency counts from then, also if it could
only be sent later. So a log that stalls is seen to stall; what is known as
coordinated omission is avoided.

It enrols an organisation of its own, opens a trial for each chain of statements,
and checks all that it is answered against the policy: over a stream that each
entry is in a tree that a quorum cosigned (--full: the whole receipt, signatures
and enrolments included), else the whole receipt. At the end it reads the leaves
of the published tree, rebuilds its root, and looks for every entry that was
acknowledged.

Exit codes: 0 all verified, 1 an answer did not verify or an acknowledged entry is
missing, 2 wrong usage, 3 the log cannot be reached.`,
		Example: `  hammer --server http://127.0.0.1:8080 --grpc 127.0.0.1:8081 \
    --policy data/policy/trialog.policy --token-file data/tokens/enrol --rate 500/s --duration 60s

  hammer … --via batch --wait pending --mix valid=90,duplicate=5,invalid=5 --readers 4 --json
  hammer … --journal acks.txt --journal-sync     # what was acknowledged outlives a crash of this machine
  hammer check --server http://127.0.0.1:8080 --policy data/policy/trialog.policy --journal acks.txt`,
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.hammer(cmd.Context(), o) },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	f := root.Flags()
	f.StringVar(&o.rate, "rate", "100/s", "how many statements, in a second (s), minute (min) or hour (h)")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "for how long statements are scheduled")
	f.DurationVar(&o.drain, "drain", 30*time.Second, "how long to wait for answers, and for the tree, after that")
	f.StringVar(&o.mix, "mix", "valid=100", "shares of 100: valid, duplicate, invalid")
	f.StringVar(&o.via, "via", "stream", "how statements are sent: stream, batch or unary")
	f.StringVar(&o.wait, "wait", "final", "which acknowledgement to wait for: final or pending")
	f.IntVar(&o.workers, "workers", 4, "streams, or calls at once")
	f.IntVar(&o.window, "window", client.DefaultWindow, "unanswered statements of one stream")
	f.IntVar(&o.chains, "chains", 0, "chains of statements, each with at most one under way (default: twice the rate, 64 to 8192)")
	f.IntVar(&o.readers, "readers", 0, "readers that fetch receipts, entries and checkpoints meanwhile, and verify them")
	f.StringVar(&o.readRate, "read-rate", "50/s", "how much all readers together fetch")
	f.BoolVar(&o.full, "full", false, "verify whole receipts over streams, not inclusion only")
	f.BoolVar(&o.presign, "presign", false, "sign everything before the start")
	f.StringVar(&o.grpc, "grpc", "", "address of the gRPC interface, `host:port`")
	f.StringVar(&o.tokenFile, "token-file", "", "`file` with a token that may enrol an organisation")
	f.StringVar(&o.organisation, "organisation", "", "organisation to enrol (default: a new name)")
	f.BoolVar(&o.journalSync, "journal-sync", false, "put each line of the journal on the disk before the next answer counts")
	f.BoolVar(&o.asJSON, "json", false, "print one JSON object instead of text")
	p.shared(root, &o)
	root.AddCommand(p.checkCommand())
	return root
}

// shared are the flags of both commands.
func (p *program) shared(cmd *cobra.Command, o *options) {
	cmd.Flags().StringVar(&o.server, "server", "http://127.0.0.1:8080", "`URL` of the log")
	cmd.Flags().StringVar(&o.policy, "policy", "", "policy `file` to verify by, its sidecar beside it")
	cmd.Flags().StringVar(&o.journal, "journal", "", "`file` for what was acknowledged, one entry a line")
}

func (p *program) checkCommand() *cobra.Command {
	o := options{
		rate: "1/s", readRate: "1/s", mix: "valid=100", via: "unary", wait: "final", workers: 1, window: 1, duration: time.Second,
	}
	cmd := &cobra.Command{
		Use: "check", Short: "Look in the published tree for every entry of a journal", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.journal == "" {
				return usageError{errors.New("--journal: missing")}
			}
			o.tokenFile = o.policy // nothing is enrolled
			plan, err := o.plan(p.now())
			if err != nil {
				return usageError{err}
			}
			plan.token = ""
			rest, err := p.dial(plan)
			if err != nil {
				return usageError{err}
			}
			j, err := openJournal(o.journal, false)
			if err != nil {
				return usageError{err}
			}
			got, err := j.check(cmd.Context(), rest)
			if err := errors.Join(err, j.close()); err != nil {
				return err
			}
			fmt.Fprintf(p.out, "%d acknowledged, %d missing in the tree of %d entries\n", got.Acknowledged, got.Missing, got.TreeSize)
			if got.Missing > 0 {
				return failed{fmt.Sprintf("the first missing one is at index %d", got.FirstMissing)}
			}
			return nil
		},
	}
	p.shared(cmd, &o)
	return cmd
}

func (p *program) dial(plan *plan) (*client.Client, error) {
	return client.New(client.Config{
		Server: plan.server, Token: plan.token, Policy: plan.believed, Now: p.now, UserAgent: "trialog-hammer",
		HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: plan.workers + plan.readers + 1}},
	})
}

// hammer is a whole run.
func (p *program) hammer(ctx context.Context, o options) (err error) {
	plan, err := o.plan(p.now())
	if err != nil {
		return usageError{err}
	}
	rest, err := p.dial(plan)
	if err != nil {
		return usageError{err}
	}
	j, err := openJournal(plan.journal, plan.journalSync)
	if err != nil {
		return usageError{err}
	}
	defer func() { err = errors.Join(err, j.close()) }()
	key, err := statement.GenerateKey(p.random)
	if err != nil {
		return err
	}
	a := &author{plan: plan, rest: rest, key: key, random: p.random, now: p.now}
	if err := p.begin(ctx, a); err != nil {
		return err
	}
	e := &engine{plan: plan, author: a, tally: newTally(), journal: j, now: p.now}
	took, err := p.run(ctx, e)
	if err != nil {
		return err
	}
	found, err := p.settle(context.WithoutCancel(ctx), e)
	if err != nil {
		return err
	}
	r := e.tally.report(plan, took, found)
	if plan.asJSON {
		err = r.json(p.out)
	} else {
		r.text(p.out)
	}
	if err == nil && !r.OK {
		err = failed{r.Reason}
	}
	return err
}

// begin makes what statements rest on.
func (p *program) begin(ctx context.Context, a *author) error {
	fmt.Fprintf(p.errs, "hammer: organisation %s, %d chains\n", a.plan.organisation, a.plan.chains)
	if err := a.enrol(ctx); err != nil {
		return err
	}
	if err := a.open(ctx); err != nil {
		return err
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	if a.plan.presign {
		total := a.plan.duration.Seconds() * a.plan.perSecond
		return a.presign(int(total)/a.plan.chains + 1)
	}
	return nil
}

// run schedules, sends, reads, and says each second how it goes.
func (p *program) run(ctx context.Context, e *engine) (time.Duration, error) {
	e.due = make(chan op, min(int(e.plan.duration.Seconds()*e.plan.perSecond)+1, maxDue))
	limit := e.plan.duration + e.plan.drain
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	start := p.now()
	var sending, around sync.WaitGroup
	quiet, hush := context.WithCancel(ctx)
	around.Go(func() { p.progress(quiet, e.tally) })
	for range e.plan.readers {
		around.Go(func() { e.read(quiet) })
	}
	around.Go(func() { e.keepFresh(quiet) })
	errs := make(chan error, e.plan.workers)
	for range e.plan.workers {
		sending.Go(func() {
			switch e.plan.via {
			case "stream":
				errs <- e.stream(work)
			case "batch":
				e.batches(work)
			default:
				e.unary(work)
			}
		})
	}
	e.schedule(ctx, start)
	sending.Wait()
	took := p.now().Sub(start)
	hush()
	around.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return took, all
}

// progress writes a line each second.
func (p *program) progress(ctx context.Context, t *tally) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for second := 1; ; second++ {
		select {
		case <-ticker.C:
			fmt.Fprintln(p.errs, t.line(second))
		case <-ctx.Done():
			return
		}
	}
}

// settle waits until the published tree is long enough, and looks for what was
// acknowledged.
func (p *program) settle(ctx context.Context, e *engine) (checked, error) {
	ctx, cancel := context.WithTimeout(ctx, max(e.plan.drain, time.Second))
	defer cancel()
	for {
		c, _, err := e.author.rest.Checkpoint(ctx)
		if err != nil {
			return checked{}, fmt.Errorf("fetch the last checkpoint: %w", err)
		}
		if c.Size >= e.journal.end() {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done(): // what is missing is said below
			return e.journal.check(context.WithoutCancel(ctx), e.author.rest)
		}
	}
	return e.journal.check(context.WithoutCancel(ctx), e.author.rest)
}
