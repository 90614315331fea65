package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	trialogv1 "github.com/trialog/trialog/api/gen/trialog/v1"
)

// floodOptions say how a log is loaded.
type floodOptions struct {
	data, address string
	server        int // process id
	organisations int
	streams       int
	pack          int     // statements of a message
	ahead         int     // statements of a stream that are not answered yet
	rate          float64 // statements a second, come what may; 0 for as many as go
	most          int     // statements signed beforehand for each second
	verify        int     // one of so many answers is verified
}

func (p *program) newFlood() *cobra.Command {
	var o floodOptions
	cmd := &cobra.Command{
		Use:   "flood",
		Short: "Submit signed statements over gRPC streams and wait for FINAL",
		Long: `Submit signed statements over the streams of a running log and wait for FINAL.
The statements are signed before the time that is counted. Each opens a trial.

With --rate, statements are sent when they are due, whether or not earlier ones
were answered, and times are counted from when each was due (an open loop).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := p.flood(cmd.Context(), o)
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "data folder of the log: its policy and tokens are read")
	f.StringVar(&o.address, "grpc", "127.0.0.1:8081", "address of the log's gRPC interface")
	f.IntVar(&o.server, "server", 0, "process id of the log, whose processor time is measured")
	f.IntVar(&o.organisations, "organisations", 4, "organisations that submit, with one key each")
	f.IntVar(&o.streams, "streams", 4, "streams")
	f.IntVar(&o.pack, "pack", 64, "statements of a message, 1 to 256")
	f.IntVar(&o.ahead, "ahead", 1024, "statements of a stream under way")
	f.Float64Var(&o.rate, "rate", 0, "statements a second, in an open loop; 0 for as many as go")
	f.IntVar(&o.most, "most", 30_000, "statements that are signed beforehand for each second")
	f.IntVar(&o.verify, "verify", 16, "verify one of so many answers; each is looked at")
	_ = cmd.MarkFlagRequired("data") // it was just defined
	return cmd
}

// flood is one load on a log.
type flood struct {
	o         floodOptions
	cast      *cast
	envelopes [][]byte
	due       []time.Time // in an open loop: when each is sent
	now       func() time.Time
	meter     meter
	next      atomic.Int64 // of the envelopes that are sent

	busy, pending, failed atomic.Uint64

	mu    sync.Mutex
	cause string // why the first one failed
}

func (p *program) flood(ctx context.Context, o floodOptions) (*report, error) {
	conn, err := grpc.NewClient(o.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	c, err := newCast(ctx, trialogv1.NewSubmissionServiceClient(conn), o.data, o.organisations, p.now)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	f := &flood{o: o, cast: c, now: p.now}
	seconds, each := (p.plan.warm + p.plan.window).Seconds(), float64(o.most)
	if o.rate > 0 {
		each = o.rate
		f.o.pack = 1
	}
	if f.envelopes, err = c.trials(ctx, int(seconds*each)+1); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if o.rate > 0 {
		begin := p.now()
		for i := range f.envelopes {
			f.due = append(f.due, begin.Add(time.Duration(float64(i)/o.rate*float64(time.Second))))
		}
	}
	f.meter.usage = func() (map[string]float64, error) { return usage(o.server) }
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	group, ctx := errgroup.WithContext(ctx)
	for range o.streams {
		group.Go(func() error {
			err := f.pump(c.authorised(ctx))
			if err != nil {
				cancel(err)
			}
			return err
		})
	}
	r, err := p.run(ctx, &f.meter, group.Wait)
	if err := errors.Join(err, conn.Close()); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	return f.report(r)
}

// report adds what the meter does not know.
func (f *flood) report(r *report) (*report, error) {
	final := f.meter.n.Load()
	if failed := f.failed.Load(); failed > 0 || final == 0 {
		return nil, fmt.Errorf("%d statements final, %d failed, the first one: %s", final, failed, f.cause)
	}
	r.Figures["final"], r.Figures["busy"], r.Figures["pending"] = float64(final), float64(f.busy.Load()), float64(f.pending.Load())
	var bytes int
	for _, e := range f.envelopes {
		bytes += len(e)
	}
	r.Figures["bytes_per_statement"] = float64(bytes) / float64(len(f.envelopes))
	rate := r.Figures["per_second"]
	r.Figures["client_cpu_us"] = r.Figures["cpu_cores"] / rate * 1e6
	if server, ok := r.Figures["server_cores"]; ok {
		r.Figures["server_cpu_us"] = server / rate * 1e6
	}
	if int(f.next.Load()) >= len(f.envelopes) && f.o.rate == 0 {
		r.Notes = append(r.Notes, "all signed statements were sent before the time was up: the figure is too low")
	}
	if f.o.rate > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("open loop, %g statements a second on %d streams", f.o.rate, f.o.streams))
	} else {
		r.Notes = append(r.Notes, fmt.Sprintf("%d organisations, %d streams, %d statements a message, %d under way, one of %d answers verified",
			f.o.organisations, f.o.streams, f.o.pack, f.o.streams*f.o.ahead, f.o.verify))
	}
	return r, nil
}

// fail keeps the first reason.
func (f *flood) fail(why string) {
	f.failed.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cause == "" {
		f.cause = why
	}
}

// take returns the range of the next envelopes; none if it is over.
func (f *flood) take() (first, end int) {
	if f.meter.ended.Load() {
		return 0, 0
	}
	at := int(f.next.Add(int64(f.o.pack))) - f.o.pack
	return min(at, len(f.envelopes)), min(at+f.o.pack, len(f.envelopes))
}

// message makes one message of the envelopes from first to end. Its tags are
// their places.
func (f *flood) message(first, end int) *trialogv1.SubmitStreamRequest {
	req := &trialogv1.SubmitStreamRequest{Submissions: make([]*trialogv1.StreamSubmission, 0, end-first)}
	for i, e := range slices.All(f.envelopes[first:end]) {
		req.Submissions = append(req.Submissions, &trialogv1.StreamSubmission{
			Tag: uint64(first + i), Envelope: e, Wait: trialogv1.Wait_WAIT_FINAL,
		})
	}
	return req
}
